"""Whatever becomes of a worker's state, its changelog or its offsets, it recovers by itself, and is right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, Member, wait_until
from tests.chaos.oracle import check
from tests.chaos.spec import Failpoint
from tests.kafka import disasters

pytestmark = pytest.mark.slow

MakeArena = Callable[..., Arena]
_TIMERS = {"idles missing", "idles wrong", "state not forgotten", "timer missed"}


def history(field: Arena, events: int = 3_000) -> Member:
    """A worker that has a past, and is down."""
    worker = field.member("a", static=True)
    worker.start()
    field.wait_running()
    more(field, events)
    worker.kill()
    return worker


def more(field: Arena, events: int = 600) -> None:
    """Further traffic, processed; everything is right so far.

    Timers may still have to fire, and those that do so while the log is read make it differ from itself for a moment.
    """
    field.feed(events, 2_500, pause_s=0, keys=700).join()
    wait_until("all input is processed", field.settled, every_s=0.2)
    deadline = time.monotonic() + 15
    while set((verdict := check(field.spec)).wrong) - _TIMERS and time.monotonic() < deadline:
        time.sleep(0.3)
    assert not set(verdict.wrong) - _TIMERS, f"{verdict}\n{field.tails()}"


def again(field: Arena, worker: Member, what: str, *, end: bool = True) -> None:
    """The worker comes back after a disaster, by itself, and goes on being right."""
    worker.start()
    try:
        field.wait_running()
        more(field)
    except AssertionError as error:
        raise AssertionError(f"after: {what}\n{error}") from None
    if end:
        worker.kill()


def test_a_lost_or_damaged_store_is_rebuilt(arena: MakeArena) -> None:
    """Deleted, bytes flipped, files missing, replaced: the changelog has everything."""
    field = arena()
    worker = history(field)
    disasters.each(
        worker,
        disasters.lost,
        disasters.bytes_flipped,
        disasters.without_current,
        disasters.without_manifest,
        disasters.without_tables,
        disasters.something_else,
        disasters.intact,
    )
    again(field, worker, "damage to every store")
    disasters.delete_state(worker)
    again(field, worker, "the state directory deleted", end=False)
    field.expect_green()


def test_a_store_that_turns_out_damaged_at_work_is_rebuilt(arena: MakeArena) -> None:
    """RocksDB may find a bad block long after it was opened: the task is opened again with a new store."""
    field = arena()
    worker = history(field)
    worker.start(Failpoint("commit.built", "damage", nth=20))
    field.wait_running()
    more(field, 2_000)
    assert worker.alive
    assert worker.said("the store is damaged; rebuilding it")
    field.expect_green()


def test_a_changelog_compacted_or_made_anew_is_taken_as_it_is(arena: MakeArena) -> None:
    """Compacted past where stores stood, copied to other offsets, emptied; with stores intact, stale and lost."""
    field = arena()
    worker = history(field)
    early = worker.state.with_name("early")
    shutil.copytree(worker.state, early)

    def stale(store: Path) -> None:
        shutil.rmtree(store)
        shutil.copytree(early / store.name, store)

    again(field, worker, "nothing", end=False)
    more(field, 3_000)
    disasters.wait_compacted(field)
    worker.kill()
    disasters.each(worker, disasters.intact, stale, disasters.lost)
    again(field, worker, "compaction")

    for every in (1, 5):  # with a control record behind each record, or behind each few
        disasters.recreate_with(field, disasters.content(field), every=every)
        disasters.each(worker, stale, disasters.intact, disasters.lost)
        again(field, worker, f"a copy of the changelog, {every} records a transaction")

    disasters.recreate_empty(field)
    again(field, worker, "an empty changelog, state intact")
    assert worker.said("writing it back")
    disasters.delete_state(worker)
    again(field, worker, "the changelog written back, state lost", end=False)
    field.expect_green()


def test_expired_offsets_come_from_the_changelog(arena: MakeArena) -> None:
    """The group forgot its offsets: the changelog remembers, with and without the stores."""
    field = arena()
    worker = history(field)
    disasters.forget_offsets(field)
    disasters.each(worker, disasters.intact, disasters.lost)
    again(field, worker, "expired offsets", end=False)
    assert worker.said("offsets are gone")
    field.expect_green()
