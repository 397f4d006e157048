"""What reads the outputs: the example consumer, the commands, and /counters of two workers, on a real broker."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stream_app.app.outputs import CannotRead, read_topic
from stream_app.devtools.broker import Broker
from stream_app.devtools.child import Child, stream_app
from stream_app.devtools.ports import free_ports
from stream_app.engine.partitioning import partition_of
from stream_app.settings import parse
from tests.chaos.arena import wait_until
from tests.chaos.logs import QUIET
from tests.cli.helpers import json_lines, run

pytestmark = pytest.mark.slow

CONSUMER = Path(__file__).resolve().parents[2] / "deploy" / "consumers" / "last_revision.py"
PARTITIONS = 4


def record(name: str, revision: int, **fields: Any) -> tuple[bytes, bytes]:
    value = {"id": name, "revision": revision, "retracted": False, **fields}
    return name.encode(), json.dumps(value).encode()


class Log:
    """Writes records in transactions."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.topics = {name: f"{prefix}{name}" for name in ("attributed-conversions", "lead-counters")}
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, **QUIET})
        for made in admin.create_topics([NewTopic(name, 2, 1) for name in self.topics.values()]).values():
            made.result(30)
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"{prefix}tx", **QUIET})
        self._producer.init_transactions(30)

    def write(self, topic: str, *records: tuple[bytes, bytes | None], commit: bool = True) -> None:
        self._producer.begin_transaction()
        for key, value in records:
            self._producer.produce(self.topics[topic], value, key, partition=sum(key) % 2)
        self._producer.flush(30)
        if commit:
            self._producer.commit_transaction(30)
        else:
            self._producer.abort_transaction(30)


def consume(broker: Broker, log: Log, database: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """One run of the consumer to the end; the truth it has kept."""
    topics = [argument for name in log.topics.values() for argument in ("--topic", name)]
    command = [sys.executable, str(CONSUMER), "--bootstrap", broker.bootstrap, "--database", str(database), "--to-end"]
    ended = subprocess.run([*command, *topics], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    with sqlite3.connect(database) as opened:
        found = opened.execute("SELECT topic, id, record FROM truth").fetchall()
    opened.close()
    return {(topic, name): json.loads(text) for topic, name, text in found}


def test_the_example_consumer_keeps_the_last_revision(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    """Revisions, retractions, tombstones, transactions that were aborted; and it goes on where it ended."""
    log = Log(broker, topic_prefix)
    conversions, counters = log.topics["attributed-conversions"], log.topics["lead-counters"]
    log.write("attributed-conversions", record("a", 1, value="1.00"), record("b", 1), record("c", 1))
    log.write("attributed-conversions", record("a", 2, value="2.00"))
    log.write("attributed-conversions", record("a", 3, value="never"), record("ghost", 3), commit=False)
    log.write("attributed-conversions", (b"b", json.dumps({"id": "b", "revision": 4, "retracted": True}).encode()))
    log.write("lead-counters", record("x", 1, n=1), record("y", 1, n=1))
    log.write("lead-counters", (b"x", None), record("y", 2, n=2))
    database = tmp_path / "outputs.sqlite"
    first = consume(broker, log, database)
    assert {(name, value.get("value") or value.get("n")) for (_, name), value in first.items()} == {
        ("a", "2.00"), ("c", None), ("y", 2),
    }  # fmt: skip
    assert {topic for topic, _ in first} == {conversions, counters}

    log.write("attributed-conversions", record("b", 7, value="back"), record("c", 8, value="9.00"))
    log.write("lead-counters", record("x", 9, n=3))
    second = consume(broker, log, database)
    assert {(name, value.get("value") or value.get("n")) for (_, name), value in second.items()} == {
        ("a", "2.00"), ("b", "back"), ("c", "9.00"), ("x", 3), ("y", 2),
    }  # fmt: skip
    assert consume(broker, log, database) == second

    given = parse({"kafka": {"bootstrap": broker.bootstrap, "topic_prefix": topic_prefix}})
    same = {json.loads(value)["id"]: json.loads(value) for value in read_topic(given, "attributed-conversions")}
    assert same == {name: value for (topic, name), value in second.items() if topic == conversions}
    with pytest.raises(CannotRead, match="there is no topic"):
        read_topic(given, "leads")


def test_a_revision_that_comes_twice_or_late_changes_nothing(tmp_path: Path) -> None:
    """The database decides by the number, whatever is read again."""
    sys.path.insert(0, str(CONSUMER.parent))
    try:
        import last_revision
    finally:
        sys.path.pop(0)
    database = last_revision.open_database(tmp_path / "outputs.sqlite")

    class Read:
        def __init__(self, name: str, revision: int, value: str) -> None:
            self.key, self.value = record(name, revision, value=value)

    last_revision.apply(database, "t", [Read("a", 5, "new"), Read("a", 4, "old"), Read("a", 5, "again")], 0, 3)
    assert database.execute("SELECT revision, record ->> '$.value' FROM truth").fetchall() == [(5, "new")]
    assert database.execute("SELECT position FROM positions").fetchall() == [(3,)]
    with pytest.raises(KeyError):
        last_revision.apply(database, "t", [Read("b", 1, "x"), type("Bad", (), {"key": b"", "value": b"{}"})], 0, 9)
    assert database.execute("SELECT count(*) FROM records").fetchone() == (1,)
    assert database.execute("SELECT position FROM positions").fetchall() == [(3,)]
    database.close()


class Worker:
    """One of two."""

    def __init__(self, broker: Broker, prefix: str, directory: Path, number: int, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {
            "STREAM_APP_KAFKA__BOOTSTRAP": broker.bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}app",
            "STREAM_APP_KAFKA__PARTITIONS": str(PARTITIONS),
            "STREAM_APP_ENGINE__STATE_DIRECTORY": str(directory / f"state{number}"),
            "STREAM_APP_ENGINE__SESSION_TIMEOUT_MS": "6000",
            "STREAM_APP_ENGINE__HEARTBEAT_INTERVAL_MS": "500",
            "STREAM_APP_WEB__PORT": str(port),
        }
        self._log = directory / f"worker{number}.log"

    def start(self) -> None:
        self.child = Child(self._log.stem, stream_app("worker"), self._log, self.environ)

    def counters(self, query: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/counters?{query}", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return {"complete": False, "rows": []}


def test_two_workers_answer_as_one(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    """/counters of each tells the counters of both; one alone says what is missing; the topic says the same."""
    ports = free_ports(2)
    workers = [Worker(broker, topic_prefix, tmp_path, number, port) for number, port in enumerate(ports)]
    environ = workers[0].environ
    assert run("topics", "create", **environ).exit_code == 0
    for worker in workers:
        worker.start()
    try:
        _both_share(workers)
        clients = 200
        _visits(broker, topic_prefix, clients)
        query = "window=total&dimension=campaign"
        wait_until("all visits are counted", lambda: _sessions(workers[0].counters(query)) == clients, every_s=0.3)
        answers = [worker.counters(query) for worker in workers]
        assert answers[0] == answers[1]
        assert answers[0]["complete"]
        assert len(answers[0]["rows"]) == 20
        result = run("counters", "--topic", "-w", "total", "-d", "campaign", "--format", "json", **environ)
        assert json_lines(result.stdout) == answers[0]["rows"]
        asked = run("counters", "-w", "total", "-d", "campaign", "--format", "json", **environ)
        assert json_lines(asked.stdout) == answers[0]["rows"]

        today, later = (f"{datetime.now(UTC) + timedelta(days=n):%Y-%m-%d}" for n in (-1, 2))
        result = run("report", "--from", today, "--to", later, "--out", str(tmp_path / "report"), **environ)
        assert result.exit_code == 0, result.stderr
        with (tmp_path / "report" / "all.csv").open(encoding="utf-8-sig") as file:
            assert [row["sessions"] for row in csv.DictReader(file)] == [str(clients)]

        workers[1].child.kill()
        gone = workers[0].counters(query)
        assert not gone["complete"]
        assert gone["missing_partitions"]
        assert 0 < _sessions(gone) < clients
        wait_until("one worker has all", lambda: workers[0].counters(query)["complete"], every_s=0.3)
        assert workers[0].counters(query)["rows"] == answers[0]["rows"]
    finally:
        for worker in workers:
            worker.child.kill()


def _both_share(workers: list[Worker]) -> None:
    def ready(worker: Worker) -> bool:
        try:
            with urllib.request.urlopen(f"{worker.url}/health/ready", timeout=5) as answer:
                return bool(json.load(answer)["tasks"].get("running") == PARTITIONS // 2)
        except OSError:
            return False

    wait_until("both workers have their share", lambda: all(map(ready, workers)), every_s=0.3)


def _visits(broker: Broker, prefix: str, clients: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, **QUIET})
    now = int(time.time() * 1000)
    for n in range(clients):
        client = f"c{n}"
        click = {"event_id": f"e{n}", "client_id": client, "occurred_at": now,
                 "url": f"https://shop.example.com/?utm_source=s&utm_medium=cpc&utm_campaign=c{n % 20}"}  # fmt: skip
        place = partition_of(client.encode(), PARTITIONS)
        producer.produce(f"{prefix}clicks", json.dumps(click), client, partition=place)
    producer.flush(30)


def _sessions(answer: dict[str, Any]) -> int:
    return sum(row["counts"]["sessions"] for row in answer["rows"])
