"""Broker settings for development and tests: small, quick to start, patient with old timestamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_ALWAYS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    # A wrong topic name is an error, not a new topic.
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # Groups form at once; tests choose short session timeouts.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A killed broker may not come back before its last session has expired.
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
    # Internal topics: few partitions, or creating them takes longer than the rest of the start.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    # Events of any age are welcome and stay.
    "log.retention.hours": "-1",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.after.max.ms": "9223372036854775807",
    # A laptop, not a data centre.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.index.size.max.bytes": "2097152",
}


def cluster_properties(nodes: int) -> dict[str, str]:
    """What all nodes share. With three, the internal topics survive the loss of any one of them."""
    copies, in_sync = (1, 1) if nodes == 1 else (3, 2)
    return {
        **_ALWAYS,
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }


def node_properties(
    node: int, client_ports: Sequence[int], controller_ports: Sequence[int], log_directory: str
) -> dict[str, str]:
    """What tells one node on this machine from the others. Nodes count from 1."""
    client, controller = client_ports[node - 1], controller_ports[node - 1]
    voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(controller_ports, 1))
    return {
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": log_directory,
    }


def render(properties: Mapping[str, str]) -> str:
    """As a Java properties file."""
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in properties.items())
