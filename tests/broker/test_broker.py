"""The launcher gives a real, controllable Kafka and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from stream_app.devtools import probe
from stream_app.devtools.broker import Broker, BrokerError, NoBroker
from tests.conftest import ROOT, StartBroker


def _create(broker: Broker, topic: str, replicas: int) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 2, replicas)]).values():
        future.result(30)
    return admin


def _produce(broker: Broker, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "message.timeout.ms": 60_000})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(60) == 0


def _consume(broker: Broker, topic: str, count: int) -> set[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: set[bytes] = set()
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            found.add(message.value() or b"")
    consumer.close()
    return found


def _setting(admin: AdminClient, kind: ResourceType, name: str, setting: str) -> str:
    (future,) = admin.describe_configs([ConfigResource(kind, name)]).values()
    value: str = future.result(30)[setting].value
    return value


def test_the_broker_of_the_run_takes_and_gives_records(broker: Broker, topic_prefix: str) -> None:
    """A client of another make writes to it and reads back what it wrote."""
    _create(broker, f"{topic_prefix}x", 1)
    values = [b"%d" % n for n in range(100)]
    _produce(broker, f"{topic_prefix}x", values)
    assert _consume(broker, f"{topic_prefix}x", 100) == set(values)


def test_a_node_can_be_killed_stopped_and_paused(own_broker: StartBroker) -> None:
    """However it went away, it comes back at the same address with everything acknowledged."""
    broker = own_broker({"offsets.retention.minutes": "7"})
    (node,) = broker.nodes
    admin = _create(broker, "kept", 1)
    assert _setting(admin, ResourceType.BROKER, "1", "offsets.retention.minutes") == "7", "settings of a test win"
    _produce(broker, "kept", [b"before"])
    node.kill()
    assert not node.alive
    node.start()
    _produce(broker, "kept", [b"after kill"])
    node.stop()
    assert not probe.answers(node.address)
    node.start()
    assert _consume(broker, "kept", 2) == {b"before", b"after kill"}
    node.pause()
    assert node.alive
    with pytest.raises(TimeoutError):
        probe.cluster_nodes(node.address, timeout_s=1)
    node.resume()
    assert probe.cluster_nodes(node.address, timeout_s=10)


def test_three_brokers_survive_the_loss_of_one(cluster: StartBroker) -> None:
    """Internal topics have three copies of which two must agree, and acknowledged records outlive a killed node."""
    broker = cluster()
    assert len(broker.nodes) == 3
    admin = _create(broker, "copied", 3)
    topics = admin.list_topics(timeout=30).topics
    for name in ("__consumer_offsets", "__transaction_state"):
        assert {len(partition.replicas) for partition in topics[name].partitions.values()} == {3}
    assert _setting(admin, ResourceType.TOPIC, "__transaction_state", "min.insync.replicas") == "2"
    assert _setting(admin, ResourceType.TOPIC, "__consumer_offsets", "min.insync.replicas") == "2"
    _produce(broker, "copied", [b"all there"])
    broker.nodes[0].kill()
    _produce(broker, "copied", [b"one missing"])
    broker.nodes[0].start()
    assert _consume(broker, "copied", 2) == {b"all there", b"one missing"}


def test_a_directory_keeps_the_data_for_the_next_start(tmp_path: Path) -> None:
    """Started again with the same directory, the broker has its topics."""
    with Broker.start(directory=tmp_path, own=True) as first:
        if first.origin != "java":
            pytest.skip("containers start empty")
        _create(first, "remembered", 1)
    with Broker.start(directory=tmp_path, own=True) as second:
        assert second.bootstrap == first.bootstrap
        assert "remembered" in AdminClient({"bootstrap.servers": second.bootstrap}).list_topics(timeout=30).topics


def test_the_broker_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    """No orphan: SIGKILL of the parent ends Kafka within seconds."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from stream_app.devtools.broker import Broker\n"
        "broker = Broker.start(directory=Path(sys.argv[1]), own=True)\n"
        "print(broker.origin, broker.nodes[0].address, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "broker")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        origin, address = output.readline().split()
    parent.kill()
    parent.wait()
    if origin != "java":
        pytest.skip("containers outlive whoever started them")
    deadline = time.monotonic() + 30
    while probe.answers(address) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not probe.answers(address)


def test_the_command_starts_reports_and_stops(tmp_path: Path) -> None:
    """`start` prints the address and is idempotent, `status` says whether it answers, `stop` ends it."""

    def command(action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream_app.devtools.broker", action, "--dir", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP"},
        )

    started = command("start")
    if started.returncode != 0:
        pytest.skip(started.stderr)
    try:
        assert command("start").stdout == started.stdout
        assert command("status").returncode == 0
        assert json.loads((tmp_path / "running.json").read_text())["bootstrap"] == started.stdout.strip()
    finally:
        assert command("stop").returncode == 0
    assert not probe.answers(started.stdout.strip())
    assert command("status").returncode == 1


def test_run_ends_the_broker_on_a_signal(tmp_path: Path) -> None:
    """In the foreground, SIGTERM ends Kafka before the command returns 0."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stream_app.devtools.broker",
            "run",
            "--dir",
            str(tmp_path),
            "--set",
            "num.io.threads=2",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        address = output.readline().strip()
    assert probe.answers(address)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not probe.answers(address)


def test_an_address_given_by_hand_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """KAFKA_BOOTSTRAP wins, and its broker is left alone at the end."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        monkeypatch.setenv("KAFKA_BOOTSTRAP", address)
        with Broker.start() as broker:
            assert (broker.bootstrap, broker.origin, broker.nodes) == (address, "given", ())
        assert probe.answers(address)


def test_an_address_where_nobody_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong KAFKA_BOOTSTRAP is never silently replaced by another broker."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    with pytest.raises(NoBroker, match=r"127\.0\.0\.1:1"):
        Broker.start()


def test_without_any_way_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Docker, no Java: the message names all three ways."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(NoBroker) as caught:
        Broker.start()
    for word in ("Docker Compose: no docker", "Java 17 or newer", "KAFKA_BOOTSTRAP", "apt-get install"):
        assert word in str(caught.value)


def test_a_java_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says which java was found and its version."""
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if not Path("/usr/bin/java").exists() else str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if not Path("/bin/sh").exists():
        pytest.skip("needs a shell")
    with pytest.raises(NoBroker, match="is version 11"):
        Broker.start()


def test_a_setting_that_stops_kafka_shows_its_log(tmp_path: Path) -> None:
    """When Kafka doesn't start, the error holds the end of its log, and nothing is left running."""
    with pytest.raises(BrokerError) as caught:
        Broker.start(directory=tmp_path, properties={"num.io.threads": "none"}, own=True)
    if isinstance(caught.value, NoBroker):
        pytest.skip(str(caught.value))
    assert "num.io.threads" in str(caught.value)
