"""`stream-app topics` on a real broker, and the catalogue behind it."""

from __future__ import annotations

import asyncio

import pytest

from stream_app.devtools.broker import Broker
from stream_app.settings import parse
from stream_app.topics import LOGICAL, Catalogue, admin, compare, topic_name
from tests.cli.helpers import json_lines, run


@pytest.fixture
def environ(broker: Broker, topic_prefix: str) -> dict[str, str]:
    return {
        "STREAM_APP_KAFKA__BOOTSTRAP": broker.bootstrap,
        "STREAM_APP_KAFKA__TOPIC_PREFIX": topic_prefix,
        "STREAM_APP_KAFKA__PARTITIONS": "2",
    }


def make_by_hand(bootstrap: str, name: str, partitions: int, config: dict[str, str]) -> None:
    """A topic as somebody else would make it."""
    from aiokafka.admin import NewTopic

    async def make() -> None:
        async with admin(parse({"kafka": {"bootstrap": bootstrap}}).kafka) as client:
            await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])

    asyncio.run(make())


def test_create_makes_all_topics_of_the_contract_and_check_agrees(environ: dict[str, str]) -> None:
    """Twice is the same as once; what is created needs no correction."""
    prefix = environ["STREAM_APP_KAFKA__TOPIC_PREFIX"]
    missing = run("topics", "check", **environ)
    assert missing.exit_code == 1
    assert f"{prefix}clicks: does not exist" in missing.stdout
    created = run("topics", "create", **environ)
    assert created.exit_code == 0
    assert set(created.stdout.splitlines()) >= {
        f"created {prefix}{name}"
        for name in ("clicks", "conversions", "attributed-sessions", "attributed-conversions", "dead-letters")
    }
    assert f"created {prefix}stream-app-changelog" in created.stdout
    again = run("topics", "create", **environ)
    assert (again.exit_code, again.stdout) == (0, "")
    assert run("topics", "check", "--timestamps", "append", **environ).exit_code == 0


def test_describe_shows_each_topic(environ: dict[str, str]) -> None:
    """As JSON, with what the broker says; before creation with what it would be."""
    before = json_lines(run("topics", "describe", "--json", **environ).stdout)
    assert [row["logical"] for row in before] == list(LOGICAL)
    assert not any(row["exists"] for row in before)
    run("topics", "create", **environ)
    rows = {row["logical"]: row for row in json_lines(run("topics", "describe", "--json", **environ).stdout)}
    assert rows["clicks"]["partitions"] == 2
    assert rows["clicks"]["config"]["message.timestamp.type"] == "LogAppendTime"
    assert rows["attributed-sessions"]["config"]["cleanup.policy"] == "delete"
    assert rows["attributed-sessions"]["config"]["retention.ms"] == "-1"
    assert rows["changelog"]["config"]["cleanup.policy"] == "compact"
    assert rows["changelog"]["config"]["delete.retention.ms"] == str(7 * 86_400_000)
    assert int(rows["dead-letters"]["config"]["max.message.bytes"]) == 65_536 + int(
        rows["clicks"]["config"]["max.message.bytes"]
    )
    assert "dead-letters" in run("topics", "describe", **environ).stdout


def test_check_names_each_difference(environ: dict[str, str]) -> None:
    """Wrong partition count, compaction of what must not be compacted, wrong limits: each by topic and setting."""
    bootstrap, prefix = environ["STREAM_APP_KAFKA__BOOTSTRAP"], environ["STREAM_APP_KAFKA__TOPIC_PREFIX"]
    make_by_hand(bootstrap, f"{prefix}clicks", 3, {"retention.ms": "1000"})
    make_by_hand(bootstrap, f"{prefix}attributed-sessions", 2, {"cleanup.policy": "compact"})
    created = run("topics", "create", **environ)
    assert created.exit_code == 1  # a worker could not start on these
    assert "has 3 partitions, must have 2" in created.stderr
    result = run("topics", "check", "--json", **environ)
    assert result.exit_code == 1
    found = {(row["topic"].removeprefix(prefix), row["what"]): row["message"] for row in json_lines(result.stdout)}
    assert ("clicks", "partitions") in found
    assert ("clicks", "retention.ms") in found
    assert "compaction would lose records" in found["attributed-sessions", "cleanup.policy"]
    assert ("attributed-sessions", "max.message.bytes") in found
    assert not [topic for topic, _ in found if topic == "conversions"]


def test_backfills_keep_the_producers_timestamps(environ: dict[str, str]) -> None:
    """--timestamps create; a check without the option accepts either."""
    run("topics", "create", "--timestamps", "create", **environ)
    assert run("topics", "check", **environ).exit_code == 0
    strict = run("topics", "check", "--timestamps", "append", **environ)
    assert strict.exit_code == 1
    assert "message.timestamp.type is CreateTime, must be LogAppendTime" in strict.stdout


def test_a_wish_that_the_broker_refuses_is_told(environ: dict[str, str]) -> None:
    """More copies than brokers: status 1 with the broker's words."""
    result = run("topics", "create", **environ, STREAM_APP_KAFKA__REPLICATION="3")
    assert result.exit_code == 1
    assert "replication factor" in result.stderr.lower()


def test_names_carry_the_prefix_and_internal_ones_the_app_id() -> None:
    """So that several deployments share a cluster."""
    kafka = parse({"kafka": {"topic_prefix": "eu.", "app_id": "blue"}}).kafka
    catalogue = Catalogue(kafka)
    assert catalogue.name("clicks") == "eu.clicks"
    assert catalogue.name("changelog") == "eu.blue-changelog"
    assert catalogue.logical("eu.blue-repartition") == "repartition"
    assert catalogue.logical("clicks") is None
    assert topic_name("dead-letters", kafka) == "eu.dead-letters"


def test_retention_follows_the_settings() -> None:
    """Days to milliseconds; 0 is for ever."""
    kafka = parse({"kafka": {"input_retention_days": 3, "dead_letter_retention_days": 0}}).kafka
    topics = Catalogue(kafka).topics
    assert topics["clicks"].config["retention.ms"] == str(3 * 86_400_000)
    assert topics["dead-letters"].config["retention.ms"] == "-1"
    assert topics["attributed-conversions"].config["retention.ms"] == "-1"
    assert compare(topics["clicks"], None)[0].what == "missing"
