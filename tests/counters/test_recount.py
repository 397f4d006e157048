"""Counters are what a plain recount of the final outputs gives: for every window and dimension, to the cent."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from pathlib import Path

import pytest

from tests.counters.histories import GRACE, history
from tests.counters.world import EPOCH, World, at, compare, recounted, settings, shuffled, steps

HISTORIES = int(os.environ.get("COUNTER_HISTORIES", "30"))
"""How many histories to try: COUNTER_HISTORIES=10000 for a thorough run."""
STARTS = {
    "Europe/Riga": ("2026-03-28T18:00:00Z", "2026-10-24T20:00:00Z", "2026-06-01T00:00:00Z"),
    "America/New_York": ("2026-03-08T02:00:00Z", "2026-11-01T03:00:00Z"),
    "Asia/Kolkata": ("2026-03-28T18:00:00Z",),
    "UTC": ("2026-02-28T22:00:00Z",),
}


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_counters_are_a_recount_of_the_outputs_whatever_order_and_wherever_workers_die(
    seed: int, tmp_path: Path
) -> None:
    """Late events, refunds, revisions and retractions cancel out; deaths at any step count nothing twice."""
    rng = random.Random(seed)
    zone = rng.choice(list(STARTS))
    start = at(rng.choice(STARTS[zone]))
    world = World(settings(tmp_path, zone=zone), start_ms=start)
    arrivals = [*world.first(start), *shuffled(history(rng, start, events=rng.randint(5, 40)), rng, GRACE)]
    rest = list(arrivals)
    while rest:
        portions = []
        for _ in range(rng.randint(1, 6)):
            size = rng.randint(1, 12)
            portions.append(rest[:size])
            rest = rest[size:]
        world.live(
            portions,
            step=rng.choice(["", *steps()]),
            nth=rng.randint(1, 6),
            commit_records=rng.randint(1, 30),
            cache=rng.choice((2, 1_000)),
        )
    idle = timedelta(hours=4)
    world.live([], idle_ms=idle // timedelta(milliseconds=1))
    now = EPOCH + timedelta(milliseconds=max(ts for _, _, ts in arrivals)) + idle
    compare(world.counters(), recounted(world, arrivals, zone=zone), now)
