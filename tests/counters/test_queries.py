"""Committed counters are what the topic says, dimension by dimension and window by window."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from stream_app.domain.counters.dimensions import FIELDS
from stream_app.domain.counters.records import Renderer
from stream_app.domain.counters.windows import NAMES
from stream_app.processors.counters.queries import find, to_record
from tests.counters.histories import GRACE, history
from tests.counters.world import World, at, settings, shuffled


def test_what_is_found_in_the_stores_of_all_tasks_is_what_was_published(tmp_path: Path) -> None:
    """Every record of the topic, its figures and rates, and nothing else."""
    rng, start = random.Random(5), at("2026-03-28T18:00:00Z")
    world = World(settings(tmp_path, more='[counters]\ndimensions = ["term", "segment.geo"]\n'), start_ms=start)
    world.live([[*world.first(start), *shuffled(history(rng, start, events=40), rng, GRACE)]], idle_ms=10_800_000)
    published = {record["id"]: record for record in world.counters()}
    renderer = Renderer("EUR", next(iter(published.values()))["rules_version"])
    found = {}
    for partition in range(world.partitions):
        store = world.stores.open(partition)
        for dimension in (*FIELDS, "segment.geo", "none"):
            for window in NAMES:
                for counter in find(store, dimension, window):
                    record = msgspec.to_builtins(to_record(counter, renderer))
                    assert record["id"] not in found
                    found[record["id"]] = record
    for record in published.values():
        record["revision"] = 0
    assert found == published
    dimensions = {record["dimension"] for record in published.values()}
    assert {"all", "goal", "campaign", "term"} <= dimensions


def test_a_span_of_time_gives_the_windows_that_start_in_it(tmp_path: Path) -> None:
    """The first moment belongs to it, the last does not."""
    rng, start = random.Random(6), at("2026-06-01T00:00:00Z")
    world = World(settings(tmp_path, zone="UTC"), partitions=1, start_ms=start)
    world.live([[*world.first(start), *history(rng, start, events=60)]])
    store = world.stores.open(0)
    starts = sorted({counter.start for counter in find(store, "all", "1h")})
    assert len(starts) > 4
    since, until = starts[1], starts[3]
    assert {counter.start for counter in find(store, "all", "1h", since, until)} == {starts[1], starts[2]}
    assert {counter.start for counter in find(store, "all", "total", since, until)} == {0}
