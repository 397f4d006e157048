"""docker-compose.yml and Dockerfile fit each other and the rest of the project. No engine is needed for that."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.devtools import compose
from stream_app.devtools.broker import Broker
from stream_app.devtools.kafka_release import kafka_version
from stream_app.devtools.node import BrokerError
from stream_app.settings import load
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def _runs(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _compose_config(file: Path) -> None:
    """Has the tool check a file; it needs no engine for that."""
    if shutil.which("docker-compose"):
        command = ["docker-compose"]
    elif shutil.which("docker") and _runs("docker", "compose", "version").returncode == 0:
        command = ["docker", "compose"]
    else:
        pytest.skip("docker-compose is not installed")
    result = _runs(*command, "-f", str(file), "config", "-q")
    assert result.returncode == 0, result.stderr


def test_compose_accepts_the_file() -> None:
    """`docker compose up` would get as far as pulling images."""
    _compose_config(ROOT / "docker-compose.yml")


@pytest.mark.parametrize("nodes", [1, 3])
def test_compose_accepts_the_file_of_the_launcher(tmp_path: Path, nodes: int) -> None:
    """The same for the file that the broker launcher writes."""
    file = tmp_path / "compose.json"
    file.write_text(
        json.dumps(compose.project(nodes, [20001, 20002, 20003][:nodes], {"log.cleaner.backoff.ms": "100"}))
    )
    _compose_config(file)
    services = json.loads(file.read_text())["services"]
    assert len(services) == nodes
    assert all(service["environment"]["KAFKA_LOG_CLEANER_BACKOFF_MS"] == "100" for service in services.values())


def test_all_ways_lead_to_the_same_kafka() -> None:
    """One release of Kafka: by Maven, in Compose, from the launcher."""
    image = f"apache/kafka:{kafka_version()}"
    assert COMPOSE["services"]["kafka"]["image"] == image
    assert compose.project(1, [1], {})["services"]["kafka-1"]["image"] == image  # type: ignore[index]


def test_containers_run_with_valid_settings() -> None:
    """The mounted file and the environment of the containers make valid settings."""
    environment = COMPOSE["services"]["worker"]["environment"]
    simulated, command = COMPOSE["services"]["simulator"]["environment"], COMPOSE["services"]["simulator"]["command"]
    settings = load(ROOT / "deploy" / "stream-app.toml", environment)
    assert settings.kafka.bootstrap == "kafka:19092"
    assert settings.web.host == "0.0.0.0"
    assert (
        load(ROOT / "deploy" / "stream-app.toml", simulated).programs[0].name == command[command.index("--program") + 1]
    )
    grace_s = int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.engine.shutdown_deadline_s, "the worker must have the time it takes for itself"


def test_the_dashboard_in_containers_has_figures() -> None:
    """Inside its container a worker listens on more than loopback, so without a token it would show none to anybody."""
    default = COMPOSE["services"]["worker"]["environment"]["STREAM_APP_WEB__TOKEN"]
    assert default == "${STREAM_APP_WEB__TOKEN:-demo}"
    assert "token `demo`" in (ROOT / "README.md").read_text()


def test_everything_published_is_on_loopback() -> None:
    """Trying it out opens nothing to the network."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert len(ports) >= 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_gets_what_it_copies() -> None:
    """.dockerignore leaves in all that the Dockerfile asks for, and that exists."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for path in line.split()[1:-1]:
                assert path in allowed
                assert (ROOT / path).exists()


def _fake_docker(directory: Path, up: str) -> None:
    """A docker whose engine answers; `up` is what `docker compose up` does."""
    script = directory / "docker"
    script.write_text(
        f'#!/bin/sh\necho "$*" >> {directory}/calls\ncase "$*" in *" up "*) {up};; *" ps "*) echo kafka-1;; esac\n'
    )
    script.chmod(0o755)


def test_compose_is_preferred_where_an_engine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher brings a project up, controls its nodes and takes it down with its volumes."""
    _fake_docker(tmp_path, "true")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(compose, "_wait", lambda addresses: None)  # there are no containers to wait for
    with Broker.start(own=True, directory=tmp_path / "broker") as started:
        assert started.origin == "compose"
        (node,) = started.nodes
        assert node.alive
        node.kill()
        node.start()
        node.pause()
        node.resume()
        node.stop()
    calls = [line.split(" -f ")[-1].split(" ", 1)[-1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls[2:] == [
        "up -d",
        "ps --status running --status paused --services",
        "kill kafka-1",
        "start kafka-1",
        "pause kafka-1",
        "unpause kafka-1",
        "stop kafka-1",
        "down --volumes --timeout 20",
    ]


def test_an_engine_that_cannot_run_the_image_is_left_for_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When `up` fails, for want of a network say, its reason is told and what was begun is taken down."""
    _fake_docker(tmp_path, "echo 'no such image' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{_without_java(tmp_path)}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    said: list[str] = []
    with pytest.raises(BrokerError, match=r"(?s)no such image.*Java 17"):
        Broker.start(own=True, directory=tmp_path / "broker", say=said.append)
    assert any("trying Java" in line for line in said)
    assert "down --volumes" in (tmp_path / "calls").read_text()


def _without_java(directory: Path) -> Path:
    """A PATH with a shell's needs only."""
    tools = directory / "tools"
    tools.mkdir()
    for name in ("sh", "echo"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    return tools
