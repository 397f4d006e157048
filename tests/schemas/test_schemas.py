"""The published schemas are what the types say, and what the code accepts, refuses and writes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from stream_app import schemas, topics
from stream_app.domain.costs import CostRules, read_cost, spend_of
from stream_app.domain.errors import Refused
from stream_app.domain.events import money_of, read_click, read_conversion
from stream_app.domain.lead_events import compact, read_lead_update
from stream_app.domain.referral.member import read_referral_event
from stream_app.domain.sources import SourceResolver, SourceRules
from stream_app.engine.processor import DeadLetterReason
from stream_app.reference import load
from stream_app.topics import INPUTS
from tests.cli.helpers import run

EXAMPLES = schemas.DIRECTORY / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*.json"))
RESOLVER = SourceResolver(SourceRules(), load())
INVALID = sorted((EXAMPLES / "invalid").glob("*.json"))


def published(topic: str) -> dict[str, Any]:
    """The schema as it stands in the repository."""
    document: dict[str, Any] = json.loads((schemas.DIRECTORY / f"{topic}.json").read_text(encoding="utf-8"))
    return document


def validator(topic: str) -> Draft202012Validator:
    return Draft202012Validator(published(topic), format_checker=Draft202012Validator.FORMAT_CHECKER)


def taken(topic: str, value: bytes) -> None:
    """What the decoders do with an input. Raises Refused."""
    if topic == "clicks":
        read_click(value)
    elif topic == "conversions":
        conversion = read_conversion(value)
        for field in ("value", "profit"):
            money_of(getattr(conversion, field), conversion.currency, "EUR", field)
    elif topic == "lead-updates":
        compact(read_lead_update(value), "EUR", RESOLVER)
    elif topic == "referral-events":
        read_referral_event(value)
    elif topic == "costs":
        spend_of(read_cost(value), CostRules("EUR"), RESOLVER)


def test_the_schemas_are_not_out_of_date(capsys: pytest.CaptureFixture[str]) -> None:
    """schemas/ equals what is made from the types."""
    assert schemas.main(["check"]) == 0, capsys.readouterr().err


def test_a_difference_is_named(tmp_path: Path) -> None:
    """Missing, changed and left over files."""
    schemas.write(tmp_path)
    assert schemas.differences(tmp_path) == []
    (tmp_path / "clicks.json").unlink()
    (tmp_path / "conversions.json").write_text("{}")
    (tmp_path / "zebras.json").write_text("{}")
    assert schemas.differences(tmp_path) == ["clicks.json", "conversions.json", "zebras.json"]
    assert schemas.main([]) == 2


@pytest.mark.parametrize("topic", schemas.RECORDS)
def test_each_schema_is_valid_2020_12_and_described(topic: str) -> None:
    """Under the meta-schema; every type and every topic has a description."""
    schema = published(topic)
    assert validator_for(schema) is Draft202012Validator
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:stream-app:topic:{topic}"
    assert schema["description"]
    for name, definition in schema["$defs"].items():
        assert definition["title"] == name
        assert definition["description"]


def test_every_topic_has_examples_of_both_kinds() -> None:
    """So that integrators see some."""
    for paths in (VALID, INVALID):
        assert {path.name.split(".")[0] for path in paths} == set(schemas.RECORDS)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_examples_are_valid_and_accepted(path: Path) -> None:
    """By the schema and by the decoders."""
    topic = path.name.split(".")[0]
    value = path.read_bytes()
    validator(topic).validate(json.loads(value))
    taken(topic, value)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_examples_are_refused_for_their_reason(path: Path) -> None:
    """By the schema; inputs also by the decoders, with the reason that is in the file's name."""
    topic, reason, *_ = path.stem.split(".")
    value = path.read_bytes()
    assert not validator(topic).is_valid(json.loads(value))
    if topic in INPUTS:
        with pytest.raises(Refused) as caught:
            taken(topic, value)
        assert caught.value.reason == reason


def test_everything_that_is_written_follows_the_schemas(tmp_path: Path) -> None:
    """Every revision of every record of a few days of traffic, with late and duplicate events."""
    traffic, out = tmp_path / "in", tmp_path / "out"
    made = run(
        "simulate", "--out", str(traffic), "--events", "4000", "--days", "2", "--from", "2026-03-01", "--seed", "7",
        "--faults", "late=0.05,duplicates=0.02,bad=0.01",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    done = run(
        "replay", "--clicks", str(traffic / "clicks.jsonl"), "--conversions", str(traffic / "conversions.jsonl"),
        "--lead-updates", str(traffic / "lead-updates.jsonl"), "--costs", str(traffic / "costs.jsonl"),
        "--out", str(out), "--all-revisions", "--shuffle", "3",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    seen: Counter[str] = Counter()
    for topic in ("lead-updates", "costs"):
        check = validator(topic)
        for line in (traffic / f"{topic}.jsonl").read_text(encoding="utf-8").splitlines():
            check.validate(json.loads(line))
    for topic in ("attributed-sessions", "attributed-conversions", "leads"):
        check = validator(topic)
        for line in (out / f"{topic}.jsonl").read_text(encoding="utf-8").splitlines():
            check.validate(json.loads(line))
            seen[topic] += 1
    assert seen["attributed-sessions"] > 300
    assert seen["attributed-conversions"] > 20
    assert seen["leads"] > 50


def test_the_asyncapi_document_names_every_topic_with_its_schema_and_direction() -> None:
    """Every reference leads somewhere; the reasons of dead letters are those of the engine."""
    document = json.loads((schemas.DIRECTORY / "asyncapi.json").read_text(encoding="utf-8"))
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {*schemas.RECORDS, "dead-letters"}
    for operation in document["operations"].values():
        channel = document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        assert operation["action"] == ("receive" if channel["address"] in topics.INPUTS else "send")
        for message in channel["messages"].values():
            if channel["address"] != "dead-letters":
                assert (schemas.DIRECTORY / message["payload"]["schema"]["$ref"]).is_file()
    letter = document["channels"]["dead-letters"]["messages"]["DeadLetters"]
    assert letter["headers"]["properties"]["dlq.reason"]["enum"] == list(get_args(DeadLetterReason))
