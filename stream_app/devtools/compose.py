"""Apache Kafka in containers, where Docker Compose has an engine that answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from stream_app.devtools import kafka_properties, probe
from stream_app.devtools.kafka_release import kafka_version
from stream_app.devtools.node import BrokerError, NoBroker, Node
from stream_app.devtools.ports import free_ports

_ENGINE_TIMEOUT_S: Final = 10
_START_TIMEOUT_S: Final = 120.0
_CONTROLLER_PORT: Final = 9093
_INTERNAL_PORT: Final = 9094


def compose_command() -> list[str]:
    """`docker compose`, or the older `docker-compose`. Raises NoBroker when no engine answers."""
    docker = shutil.which("docker")
    if docker is None:
        raise NoBroker("no docker on PATH")
    if not _succeeds([docker, "info"]):
        raise NoBroker("docker is installed, but no engine answers")
    if _succeeds([docker, "compose", "version"]):
        return [docker, "compose"]
    older = shutil.which("docker-compose")
    if older is None:
        raise NoBroker("docker has no compose")
    return [older]


class ComposeNode(Node):
    """One container."""

    def __init__(self, number: int, address: str, command: Sequence[str]) -> None:
        self.id = number
        self.address = address
        self._command = command
        self._service = f"kafka-{number}"

    @property
    def alive(self) -> bool:
        shown = _run([*self._command, "ps", "--status", "running", "--status", "paused", "--services"])
        return self._service in shown.split()

    def stop(self) -> None:
        _run([*self._command, "stop", self._service])

    def kill(self) -> None:
        _run([*self._command, "kill", self._service])

    def start(self) -> None:
        _run([*self._command, "start", self._service])
        _wait([self.address])

    def pause(self) -> None:
        _run([*self._command, "pause", self._service])

    def resume(self) -> None:
        _run([*self._command, "unpause", self._service])


def start_cluster(
    nodes: int, directory: Path, properties: Mapping[str, str], say: Callable[[str], None]
) -> tuple[list[ComposeNode], list[str]]:
    """Running, ready nodes, and the compose command for their project (to end it with `stop_cluster`)."""
    base = compose_command()
    ports = free_ports(nodes)
    file = directory / "compose.json"  # JSON is YAML, too
    file.write_text(json.dumps(project(nodes, ports, properties), indent=2))
    command = [*base, "-p", f"stream-app-{uuid.uuid4().hex[:8]}", "-f", str(file)]
    say(f"starting Apache Kafka ({nodes} node{'s' if nodes > 1 else ''}) with {' '.join(base[-2:])}")
    cluster = [ComposeNode(number, f"127.0.0.1:{port}", command) for number, port in enumerate(ports, 1)]
    try:
        _run([*command, "up", "-d"])
        _wait([node.address for node in cluster])
    except BaseException:
        stop_cluster(command)
        raise
    return cluster, command


def stop_cluster(command: Sequence[str]) -> None:
    """Ends the project and removes its containers and volumes."""
    _run([*command, "down", "--volumes", "--timeout", "20"])


def project(nodes: int, ports: Sequence[int], properties: Mapping[str, str]) -> dict[str, object]:
    """The compose project. Clients on this machine use `ports`; the brokers talk to each other by service name."""
    cluster_id = "c3RyZWFtLWFwcC1kZXZ0bw"  # any 16 bytes; a project is never another's cluster
    voters = ",".join(f"{number}@kafka-{number}:{_CONTROLLER_PORT}" for number in range(1, nodes + 1))
    services: dict[str, object] = {}
    for number, port in enumerate(ports, 1):
        settings = {
            **kafka_properties.cluster_properties(nodes),
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": (
                f"HOST://0.0.0.0:{port},INTERNAL://0.0.0.0:{_INTERNAL_PORT},CONTROLLER://0.0.0.0:{_CONTROLLER_PORT}"
            ),
            "advertised.listeners": f"HOST://127.0.0.1:{port},INTERNAL://kafka-{number}:{_INTERNAL_PORT}",
            "listener.security.protocol.map": "HOST:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": "/var/lib/kafka/data",
            **properties,
        }
        services[f"kafka-{number}"] = {
            "image": f"apache/kafka:{kafka_version()}",
            "environment": {
                "CLUSTER_ID": cluster_id,
                "KAFKA_HEAP_OPTS": "-Xmx1g" if nodes == 1 else "-Xmx512m",
                **{f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()},
            },
            "ports": [f"127.0.0.1:{port}:{port}"],
            "volumes": [f"data-{number}:/var/lib/kafka/data"],
        }
    return {"services": services, "volumes": {f"data-{number}": {} for number in range(1, nodes + 1)}}


def _wait(addresses: Sequence[str]) -> None:
    try:
        probe.wait_ready(addresses, _START_TIMEOUT_S)
    except TimeoutError as error:
        raise BrokerError(f"Kafka in containers: {error}") from error


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return (
            subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_ENGINE_TIMEOUT_S, check=False
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0:
        raise BrokerError(f"{' '.join(command[:2])} … failed:\n{(result.stdout + result.stderr).strip()[-1500:]}")
    return result.stdout
