"""The golden table through real Kafka: two workers one after the other, the second after a kill."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_app.devtools.broker import Broker
from stream_app.devtools.child import Child, stream_app
from stream_app.devtools.ports import free_ports
from stream_app.engine.partitioning import partition_of
from stream_app.topics import KEYS
from tests.chaos.arena import wait_until
from tests.chaos.logs import QUIET, read
from tests.cli.helpers import json_lines, run
from tests.golden import check, inputs

pytestmark = pytest.mark.slow

PARTITIONS = 2
CONFIG = """
[site]
own_domains = ["shop.example.com"]
[[goals]]
name = "form"
kind = "lead"
"""


class Site:
    """Topics of its own, and a worker on them."""

    def __init__(self, broker: Broker, prefix: str, directory: Path) -> None:
        self.bootstrap, self.prefix = broker.bootstrap, prefix
        self.port = free_ports(1)[0]
        config = directory / "settings.toml"
        config.write_text(CONFIG)
        self.environ = {
            "STREAM_APP_CONFIG": str(config),
            "STREAM_APP_KAFKA__BOOTSTRAP": broker.bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}app",
            "STREAM_APP_KAFKA__PARTITIONS": str(PARTITIONS),
            "STREAM_APP_ENGINE__STATE_DIRECTORY": str(directory / "state"),
            "STREAM_APP_WEB__PORT": str(self.port),
            "STREAM_APP_WEB__TOKEN": "secret",
        }
        self._directory = directory
        assert run("topics", "create", **self.environ).exit_code == 0

    def worker(self) -> Child:
        return Child("worker", stream_app("worker"), self._directory / "worker.log", self.environ)

    def last(self, topic: str) -> dict[str, dict[str, Any]]:
        """The last record per id; a tombstone leaves none."""
        found: dict[str, dict[str, Any]] = {}
        for record in read(self.bootstrap, self.prefix + topic, PARTITIONS):
            if record.value is None:
                found.pop((record.key or b"").decode(), None)
            else:
                value = json.loads(record.value)
                before = found.get(value["id"])
                assert before is None or before["revision"] < value["revision"]
                found[value["id"]] = value
        return found

    def send(self, records: list[tuple[str, dict[str, Any]]]) -> None:
        producer = Producer({**QUIET, "bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for topic, value in records:
            key = value[KEYS[topic]].encode()
            place = partition_of(key, PARTITIONS)
            producer.produce(self.prefix + topic, json.dumps(value).encode(), key, partition=place)
        assert producer.flush(60) == 0

    def stands(self) -> bool:
        """Whether the counters are the table."""
        try:
            check(self.last("lead-counters").values())
        except (AssertionError, KeyError):
            return False
        return True


def mixed(seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Everything in any order within grace, but that records of one row of costs keep theirs."""
    rng = random.Random(seed)
    by_topic = inputs(time.time_ns() // 1_000_000 - 45 * 60_000)
    costs = [("costs", value) for value in by_topic.pop("costs")]
    records = [(topic, value) for topic, values in by_topic.items() for value in values]
    rng.shuffle(records)
    for index, place in enumerate(sorted(rng.sample(range(len(records)), len(costs)))):
        records.insert(place + index, costs[index])
    return records


def test_the_golden_table_comes_out_of_kafka_though_a_worker_is_killed(
    broker: Broker, tmp_path: Path, topic_prefix: str, seed: int
) -> None:
    """Nothing is lost and nothing counted twice; the leads can be looked up."""
    site = Site(broker, topic_prefix, tmp_path)
    records = mixed(seed)
    half = len(records) // 2
    worker = site.worker()
    try:
        site.send(records[:half])
        wait_until("leads come out", lambda: worker.check() or len(site.last("leads")) >= 10, 60, every_s=0.3)
        worker.kill()
    finally:
        worker.stop(10)
    worker = site.worker()
    try:
        site.send(records[half:])
        wait_until("the table stands", lambda: worker.check() or site.stands(), 90, every_s=0.5)
        check(site.last("lead-counters").values())
        leads = site.last("leads")
        assert len(leads) == 36
        assert {lead["status"] for lead in leads.values()} == {"contacted"}
        (found,) = json_lines(run("state", "get", "lead", "lead-Lenses-3", **site.environ).stdout)
        assert (found["status"], found["goal"], len(found["conversions"])) == ("contacted", "form", 2)
        assert found["attributed"]["campaign"] == "Lenses"
        assert site.last("dead-letters") == {}
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()
