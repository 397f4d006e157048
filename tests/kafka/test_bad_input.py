"""Ten thousand bad records among good ones: none is lost, none does harm, each is told why; some get another chance."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_app.devtools.broker import Broker
from stream_app.devtools.child import Child, stream_app
from stream_app.devtools.ports import free_ports
from stream_app.engine.partitioning import partition_of
from tests.chaos.arena import wait_until
from tests.chaos.logs import QUIET, Read, read
from tests.cli.helpers import json_lines, run
from tests.kafka.bad_records import Bad, Value, bad, good

pytestmark = pytest.mark.slow

BAD, GOOD, PARTITIONS = 10_000, 6_000, 4
LIMIT = 60_000


class Site:
    """A worker on topics of its own."""

    def __init__(self, broker: Broker, prefix: str, directory: Path) -> None:
        self.bootstrap, self.prefix = broker.bootstrap, prefix
        self.port = free_ports(1)[0]
        self.environ = {
            "STREAM_APP_KAFKA__BOOTSTRAP": broker.bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}app",
            "STREAM_APP_KAFKA__PARTITIONS": str(PARTITIONS),
            "STREAM_APP_ENGINE__STATE_DIRECTORY": str(directory / "state"),
            "STREAM_APP_ENGINE__MAX_RECORD_BYTES": str(LIMIT),
            "STREAM_APP_WEB__PORT": str(self.port),
        }
        self._directory = directory
        assert run("topics", "create", **self.environ).exit_code == 0

    def worker(self) -> Child:
        return Child("worker", stream_app("worker"), self._directory / "worker.log", self.environ)

    def health(self, what: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/{what}", timeout=5) as answer:
                return int(answer.status)
        except OSError as error:
            return int(getattr(error, "code", 0))

    def read(self, topic: str) -> list[Read]:
        return read(self.bootstrap, self.prefix + topic, PARTITIONS)

    def send(self, records: list[tuple[str, bytes | None, bytes | None]]) -> None:
        producer = Producer({**QUIET, "bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for topic, key, value in records:
            place = partition_of(key or b"", PARTITIONS)
            while True:
                try:
                    producer.produce(self.prefix + topic, value, key, partition=place)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0

    def converted(self) -> set[str]:
        """Event ids of the conversions that came out."""
        return {json.loads(r.value)["event_id"] for r in self.read("attributed-conversions") if r.value}


def mixed(seed: int) -> tuple[list[Bad], list[tuple[str, Value]], list[tuple[str, bytes | None, bytes | None]]]:
    """Bad and good records, and all of them in one order."""
    rng = random.Random(seed)
    now_ms = time.time_ns() // 1_000_000
    wrong = [bad(rng, n, now_ms) for n in range(BAD)]
    right = [good(rng, BAD + n, now_ms) for n in range(GOOD)]
    records = [(b.topic, b.key, b.value) for b in wrong]
    records += [(topic, value["client_id"].encode(), json.dumps(value).encode()) for topic, value in right]
    rng.shuffle(records)
    return wrong, right, records


def test_ten_thousand_bad_records_among_good_ones(broker: Broker, tmp_path: Path, topic_prefix: str, seed: int) -> None:
    """Each in dead-letters byte for byte with its reason; every good one processed; the worker lives; those that were
    only too large for a setting are taken after the fix."""
    site = Site(broker, topic_prefix, tmp_path)
    wrong, right, records = mixed(seed)
    large = {"event_id": "large", "client_id": "c1", "occurred_at": time.time_ns() // 1_000_000, "goal": "purchase"}
    large_value = json.dumps({**large, "ignored": "x" * LIMIT}).encode()
    records.append(("conversions", b"c1", large_value))
    wrong.append(Bad("conversions", b"c1", large_value, frozenset({"too_large"})))
    worker = site.worker()
    try:
        wait_until("the worker is ready", lambda: worker.check() or site.health("ready") == 200, 60)
        site.send(records)
        wanted = {value["event_id"] for topic, value in right if topic == "conversions"}
        wait_until("all letters are there", lambda: len(site.read("dead-letters")) >= len(wrong), 90, every_s=0.5)
        wait_until("all conversions are there", lambda: site.converted() >= wanted, 60, every_s=0.5)
        assert site.health("live") == 200
        _check_letters(site, wrong)
        sessions = {r.key for r in site.read("attributed-sessions")}
        assert {value["client_id"].encode() for topic, value in right if topic == "clicks"} <= sessions
        assert site.converted() == wanted
        listed = json_lines(run("dlq", "list", "--format", "jsonl", "--limit", str(2 * BAD), **site.environ).stdout)
        assert len(listed) == len(wrong)
        assert all(row["reason"] and row["meaning"] and row["action"] for row in listed)
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()

    site.environ["STREAM_APP_ENGINE__MAX_RECORD_BYTES"] = str(10 * LIMIT)
    worker = site.worker()
    try:
        wait_until("the worker is ready again", lambda: worker.check() or site.health("ready") == 200, 60)
        before = len(site.read("dead-letters"))
        replayed = run("dlq", "replay", "--reason", "too_large", **site.environ)
        assert replayed.exit_code == 0, replayed.stderr
        wait_until("the large one is taken", lambda: "large" in site.converted(), 60, every_s=0.5)
        still_wrong = sum("too_large" in b.reasons for b in wrong) - 1
        wait_until(
            "the others are refused again",
            lambda: len(site.read("dead-letters")) >= before + still_wrong,
            60,
            every_s=0.5,
        )
        assert len(site.read("dead-letters")) == before + still_wrong
        assert site.converted() == wanted | {"large"}
    finally:
        worker.stop(30)


def _check_letters(site: Site, wrong: list[Bad]) -> None:
    letters = site.read("dead-letters")
    assert len(letters) == len(wrong)
    found: Counter[tuple[str, bytes | None, bytes | None]] = Counter()
    reasons: dict[tuple[str, bytes | None, bytes | None], set[str]] = {}
    for letter in letters:
        headers = {name: (value or b"").decode() for name, value in letter.headers}
        identity = headers["dlq.topic"].removeprefix(site.prefix), letter.key, letter.value
        found[identity] += 1
        reasons.setdefault(identity, set()).add(headers["dlq.reason"])
        assert headers["dlq.detail"]
    assert found == Counter((b.topic, b.key, b.value) for b in wrong)
    odd = [(b, reasons[b.topic, b.key, b.value]) for b in wrong if not reasons[b.topic, b.key, b.value] <= b.reasons]
    assert not odd, f"{len(odd)} reasons: {[(b.value and b.value[:300], sorted(b.reasons), got) for b, got in odd[:5]]}"
