from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from stream_app.devtools.broker import Broker

pytestmark = pytest.mark.slow


@contextmanager
def demo(broker: Broker, prefix: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a user starts it, in a session of its own as a terminal gives it."""
    errors = (directory / "stderr").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "stream_app.cli.main", "demo", "--directory", str(directory), *arguments],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP": broker.bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}demo",
            "STREAM_APP_WEB__PORT": "0",
        },
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        errors.close()


def processes(said: str) -> list[int]:
    """The processes that the demo says it has started."""
    return [int(pid) for pid in re.findall(r"process (\d+)", said)]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def read_committed(broker: Broker, topic: str) -> list[dict[str, object]]:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: list[dict[str, object]] = []
        while batches := await consumer.getmany(timeout_ms=2_000):
            found += [orjson.loads(record.value) for records in batches.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def test_a_newcomer_sees_events_become_sessions_and_conversions(
    broker: Broker, topic_prefix: str, tmp_path: Path, seed: int
) -> None:
    """One command; outputs that a read_committed reader can read; an end by itself that leaves nothing running."""
    with demo(broker, topic_prefix, tmp_path, "--seconds", "12", "--rate", "100", "--seed", str(seed)) as process:
        shown, _ = process.communicate(timeout=240)
    said = (tmp_path / "stderr").read_text()
    assert process.returncode == 0, said
    last = shown.strip().splitlines()[-1]
    assert re.search(r"[1-9][\d,]* events,", last), shown
    assert "open http://127.0.0.1:" in said
    assert "/metrics" in said
    assert "isolation.level=read_committed" in said
    sessions = await read_committed(broker, f"{topic_prefix}attributed-sessions")
    assert {"open", "closed"} <= {str(session.get("status")) for session in sessions}
    assert len({str(session.get("channel")) for session in sessions}) > 8
    conversions = await read_committed(broker, f"{topic_prefix}attributed-conversions")
    assert any(conversion.get("goal") == "purchase" for conversion in conversions)
    assert len(processes(said)) == 2
    assert all(gone(pid) for pid in processes(said))


def test_ctrl_c_ends_everything(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    with demo(broker, topic_prefix, tmp_path, "--rate", "50") as process:
        assert process.stdout is not None
        first = process.stdout.readline()  # the view has begun
        assert "events" in first, (tmp_path / "stderr").read_text()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(90) == 0, (tmp_path / "stderr").read_text()
    said = (tmp_path / "stderr").read_text()
    assert "everything has ended" in said
    assert all(gone(pid) for pid in processes(said))
    logs = [path.read_bytes() for path in tmp_path.rglob("*.log")]
    assert len(logs) >= 2
    assert not any(log.count(b"\x1b") for log in logs), "logs are plain text"


def test_the_end_of_a_part_ends_the_demo_and_says_why(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    with demo(broker, topic_prefix, tmp_path, "--rate", "50") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        worker, simulator = processes((tmp_path / "stderr").read_text())
        os.kill(worker, signal.SIGKILL)
        assert process.wait(90) == 1
    said = (tmp_path / "stderr").read_text()
    assert "worker ended with status" in said
    assert gone(simulator)


def test_without_any_broker_the_same_topology_runs_in_memory(tmp_path: Path) -> None:
    """Said in one line with what that lacks and how to get a broker; outputs are in files."""
    process = subprocess.run(
        [sys.executable, "-m", "stream_app.cli.main", "demo", "--directory", str(tmp_path), "--seconds", "15"],
        env={
            "PATH": "/nonexistent",  # neither docker nor java
            **{name: value for name, value in os.environ.items() if name in {"HOME", "PYTHONPATH", "LANG"}},
            "STREAM_APP_WEB__PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "KAFKA_BOOTSTRAP" in process.stderr, "how to get a broker"
    assert "without Kafka" in process.stderr
    assert re.search(r"[1-9][\d,]* events,", process.stdout.strip().splitlines()[-1])
    lines = (tmp_path / "demo" / "local" / "attributed-sessions.jsonl").read_bytes().splitlines()
    assert {"open", "closed"} <= {orjson.loads(line).get("status") for line in lines}
