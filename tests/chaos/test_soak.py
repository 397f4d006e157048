"""Chaos for as long as one likes: `make soak`, SOAK_MINUTES=60 make soak."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.chaos.arena import Member, wait_until
from tests.chaos.journeys import Journeys
from tests.chaos.scenarios import two
from tests.chaos.spec import Failpoint

pytestmark = pytest.mark.soak

RATE = 2_000.0


def test_soak(broker: Broker, tmp_path: Path, topic_prefix: str, seed: int) -> None:
    """Kills, orderly ends, zombies and failing commits under load; then everything equals a replay."""
    minutes = float(os.environ.get("SOAK_MINUTES", "10"))
    failing = tuple(
        Failpoint(f"commit.{step}", "raise", probability=0.0005) for step in ("sent", "offsets", "committed")
    )
    done: dict[str, int] = {}
    with Journeys(broker.bootstrap, tmp_path, topic_prefix, seed) as field:
        members = two(field, static=False, failpoints=failing)
        field.wait_running()
        shop = field.shop(int(minutes * 60 * RATE), RATE)
        while not shop.done:
            shop.join(field.random.uniform(0.2, 6))
            victim = field.random.choice(members)
            if not victim.alive:
                victim.start(*failing)
                continue
            action = field.random.choices(("kill", "end", "stop"), (6, 2, 1))[0]
            if action == "end" and not victim.running:  # a process that still loads Python ends by the signal itself
                action = "kill"
            done[action] = done.get(action, 0) + 1
            if action == "kill":
                victim.kill()
                field.kills += 1
                victim.start(*failing)
            elif action == "end":
                assert victim.terminate() == 0, victim.tail()
                victim.start(*failing)
            else:
                _stand_still(field, victim)
        for member in members:  # without failing commits, so that it comes to an end
            if member.alive:
                member.kill()
            member.start()
        shop.join()
        verdict = field.expect_green(300)
    print(f"{minutes:g} minutes, seed {seed}, {done}: {verdict}")


def _stand_still(field: Journeys, victim: Member) -> None:
    """Until the others have taken over, or a while longer than they should need."""
    others = [m for m in field.members.values() if m is not victim and m.alive]
    victim.signal(signal.SIGSTOP)
    limit = time.monotonic() + 3 * field.spec.session_ms / 1000
    everything = field.spec.partitions
    wait_until(
        "the zombie is given up",
        lambda: sum(len(m.running) for m in others) == everything or time.monotonic() > limit,
    )
    victim.signal(signal.SIGCONT)
