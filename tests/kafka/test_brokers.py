"""Brokers come and go under load; what was promised holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.arena import Arena, Member
from tests.chaos.scenarios import two
from tests.conftest import StartBroker

pytestmark = pytest.mark.slow


def test_the_only_broker_restarts(own_broker: StartBroker, tmp_path: Path, topic_prefix: str, seed: int) -> None:
    """Stopped in order, then killed, each time with transactions open; workers wait for it or are started again."""
    broker = own_broker()
    (node,) = broker.nodes
    with Arena(broker.bootstrap, tmp_path, topic_prefix, seed) as field:
        members = two(field, static=True)
        field.wait_running()
        feeder = field.feed(1_000_000, 600)
        for end in (node.stop, node.kill):
            feeder.join(3)
            end()
            node.start()
            feeder.join(3)
            _supervise(members)
            field.wait_running()
        feeder.stop()
        field.expect_green()


def test_one_of_three_brokers_is_lost(cluster: StartBroker, tmp_path: Path, topic_prefix: str, seed: int) -> None:
    """SIGKILL of a broker with three copies of everything, two of which must agree; it comes back, another one goes."""
    broker = cluster()
    with Arena(broker.bootstrap, tmp_path, topic_prefix, seed, replication=3) as field:
        members = two(field, static=True)
        field.wait_running()
        feeder = field.feed(1_000_000, 400)
        for node in broker.nodes[:2]:
            feeder.join(3)
            node.kill()
            feeder.join(6)
            _supervise(members)
            field.wait_running()
            node.start()
        feeder.join(2)
        _supervise(members)
        feeder.stop()
        field.expect_green(150)


def _supervise(members: list[Member]) -> None:
    """What a supervisor does: whoever has ended is started again."""
    for member in members:
        if not member.alive:
            print(f"{member.name} had ended with {member.wait()}")
            member.start()
