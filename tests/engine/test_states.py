"""Cached states: what is read, what is evicted, what is written, what moves timers (semantics 11–14)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stream_app.engine.ports import Outgoing
from stream_app.engine.processor import AnyProcessor
from stream_app.engine.rows import head_key, part_key, timer_key, unpack_header
from stream_app.engine.state import MAX_PART, KeyedStates, Overlay, Timers, UnknownStateVersion
from stream_app.hosts.stores import MemoryStore


class Note(msgspec.Struct, array_like=True):
    text: str = ""
    due: int = 0


class Notes:
    """States that say themselves when they are due."""

    name = "notes"
    tag = b"N"
    inputs = ("notes",)
    kinds = ()
    state_version = 3

    def __init__(self) -> None:
        self.loads: list[bytes] = []
        self.woken: list[bytes] = []

    def due(self, state: Note) -> int:
        return state.due

    def wake(self, key: bytes, state: Note, context: object) -> Note | None:
        self.woken.append(key)
        return None if state.text == "last" else Note("woken", 0)

    def load(self, key: bytes, version: int, payload: bytes, rows: Any) -> Note:
        self.loads.append(key)
        return msgspec.msgpack.decode(payload, type=Note)

    def save(self, key: bytes, state: Note, rows: Any) -> bytes:
        return msgspec.msgpack.encode(state)


class Context:
    """As much of one as waking needs."""

    def __init__(self, now: int) -> None:
        self.now = now


class Shelf:
    """States over a store, committed by hand."""

    def __init__(self, capacity: int = 100) -> None:
        self.store = MemoryStore()
        self.processor = Notes()
        self.overlay, self.timers = Overlay(self.store), Timers(self.store)
        processor: AnyProcessor = self.processor  # type: ignore[assignment]
        self.states = KeyedStates(processor, self.store, self.overlay, self.timers, capacity)
        self._flying: list[tuple[bytes, bytes | None]] = []

    def set(self, key: bytes, note: Note | None) -> None:
        entry = self.states.find(key) or self.states.add(key)
        entry.state = note
        self.states.changed[key] = entry

    def get(self, key: bytes) -> str | None:
        entry = self.states.find(key)
        return None if entry is None or entry.state is None else entry.state.text  # type: ignore[attr-defined]

    def take(self) -> list[Outgoing]:
        """The commit under construction goes on its way."""
        rows: list[Outgoing] = []
        self.states.save(rows.append)
        parts, timers = self.overlay.take(), self.timers.take()
        self.states.take()
        self._flying = [*((k, v) for k, v, _ in rows if k), *parts.items(), *timers.items()]
        return rows

    def land(self) -> None:
        self.store.write(self._flying)
        self.overlay.landed()
        self.timers.landed()
        self.states.landed()

    def commit(self) -> list[Outgoing]:
        rows = self.take()
        self.land()
        return rows

    def wake(self, now: int) -> list[bytes]:
        """Everything due by then; who was woken."""
        self.processor.woken = []
        for row in self.timers.due(now, 1_000):
            self.states.wake(row, row[10:], Context(now))  # type: ignore[arg-type]
        return self.processor.woken

    def timer_rows(self) -> set[bytes]:
        return set(self.store.scan(b"t", b"u", 1_000))


def test_what_is_not_in_the_store_yet_is_never_evicted() -> None:
    """A state changed in the commit on its way, or in the one being built, is found as it was left."""
    shelf = Shelf(capacity=2)
    shelf.set(b"flying", Note("1"))
    shelf.take()
    shelf.set(b"building", Note("2"))
    for n in range(50):
        shelf.set(b"k%d" % n, Note(str(n)))
    shelf.land()
    assert not shelf.store.get(head_key(b"N", b"building"))
    assert [shelf.get(b"flying"), shelf.get(b"building"), shelf.get(b"k49")] == ["1", "2", "49"]
    shelf.commit()
    for _ in range(3):
        shelf.get(b"other")
        shelf.commit()
    assert [shelf.get(b"k%d" % n) for n in range(50)] == [str(n) for n in range(50)]


def test_the_cache_is_bounded() -> None:
    """After each commit no more than the capacity stays."""
    shelf = Shelf(capacity=10)
    for round_ in range(30):
        for n in range(20):
            shelf.set(b"%d-%d" % (round_, n), Note("x"))
        shelf.commit()
        shelf.commit()
        assert len(shelf.states) == 10


def test_a_large_commit_leaves_no_more_than_the_capacity() -> None:
    """However many keys it used: the latest of them."""
    shelf = Shelf(capacity=10)
    shelf.set(b"before", Note("x"))
    shelf.commit()
    for n in range(100):
        shelf.set(b"%d" % n, Note("x"))
    shelf.commit()
    assert len(shelf.states) == 10
    shelf.processor.loads.clear()
    assert [shelf.get(b"%d" % n) for n in range(90, 100)] == ["x"] * 10
    assert not shelf.processor.loads
    assert shelf.get(b"89") == "x"
    assert shelf.processor.loads == [b"89"]


def test_what_was_used_longest_ago_goes_first() -> None:
    """By commits, whether it was read or written; no earlier than there is no room for it."""
    shelf = Shelf(capacity=4)
    for name in (b"a", b"b", b"c", b"d"):
        shelf.set(name, Note("x"))
        shelf.commit()
    assert shelf.get(b"a") == "x"
    shelf.commit()
    shelf.set(b"e", Note("x"))
    shelf.commit()
    shelf.processor.loads.clear()
    for name in (b"a", b"c", b"d", b"e"):
        assert shelf.get(name) == "x"
    assert not shelf.processor.loads
    assert shelf.get(b"b") == "x"
    assert shelf.processor.loads == [b"b"]


def test_what_is_used_stays_cached() -> None:
    """A key used in every commit is loaded once."""
    shelf = Shelf(capacity=8)
    shelf.set(b"hot", Note("x"))
    shelf.commit()
    for n in range(40):
        shelf.get(b"hot")
        shelf.set(b"k%d" % n, Note("x"))
        shelf.commit()
    assert shelf.processor.loads.count(b"hot") <= 1


def test_what_was_woken_goes_before_what_still_waits() -> None:
    """A key that was woken has had what it waited for; others, used longer ago, are still to be woken: they stay."""
    shelf = Shelf(capacity=8)
    for n in range(4):
        shelf.set(b"waits%d" % n, Note("x", due=900))
        shelf.set(b"done%d" % n, Note("x", due=100))
    shelf.commit()
    assert len(shelf.wake(now=100)) == 4
    shelf.commit()
    assert shelf.get(b"done0") == "woken"
    assert not shelf.processor.loads, "there is room"
    for n in range(3):
        shelf.set(b"new%d" % n, Note("x"))
    shelf.commit()
    assert len(shelf.states) == 8
    shelf.processor.loads.clear()
    assert len(shelf.wake(now=900)) == 4
    assert not shelf.processor.loads
    assert [shelf.get(b"done%d" % n) for n in range(4)] == ["woken"] * 4, "they come back from the store"


def test_what_was_woken_and_took_an_event_stays_as_others_do() -> None:
    """In the same commit, in the next one before the first has landed, or later."""
    shelf = Shelf(capacity=6)
    for key in (b"same", b"next", b"later"):
        shelf.set(key, Note("x", due=100))
    shelf.commit()
    shelf.set(b"same", Note("event", due=100))
    shelf.wake(now=100)
    shelf.take()
    shelf.set(b"next", Note("event", due=0))
    shelf.land()
    shelf.commit()
    shelf.set(b"later", Note("event", due=0))
    shelf.commit()
    for n in range(3):
        shelf.set(b"idle%d" % n, Note("x", due=200))
        shelf.commit()
    shelf.wake(now=200)
    shelf.commit()
    assert len(shelf.states) == 6
    for n in range(3):
        shelf.set(b"new%d" % n, Note("x"))
    shelf.commit()
    assert len(shelf.states) == 6
    shelf.processor.loads.clear()
    assert [shelf.get(key) for key in (b"same", b"next", b"later")] == ["woken", "event", "event"]
    assert not shelf.processor.loads


def test_rows_of_unfinished_commits_are_read_before_the_store() -> None:
    """First the commit being built, then the one on its way, then the store; a removal hides what is beneath it."""
    shelf = Shelf()
    states = shelf.states
    states.put(b"k", 1, b"stored")
    states.put(b"k", 2, b"stored")
    shelf.commit()
    states.put(b"k", 1, b"flying")
    states.put(b"k", 2, None)
    shelf.take()
    assert (states.get(b"k", 1), states.get(b"k", 2)) == (b"flying", None)
    states.put(b"k", 1, b"building")
    assert states.get(b"k", 1) == b"building"
    states.put(b"k", 1, None)
    assert states.get(b"k", 1) is None
    shelf.land()
    assert (states.get(b"k", 1), shelf.store.get(part_key(b"N", b"k", 1))) == (None, b"flying")


def test_queries_see_what_is_committed_and_nothing_else() -> None:
    """Neither what is being changed nor what is on its way; and what they get is nobody else's."""
    shelf = Shelf()
    shelf.set(b"k", Note("old"))
    shelf.commit()
    shelf.set(b"k", Note("new"))
    shelf.take()
    committed = shelf.states.committed(b"k")
    assert committed == Note("old")
    assert committed is not shelf.states.committed(b"k")
    assert shelf.states.committed(b"never") is None
    shelf.land()
    assert shelf.states.committed(b"k") == Note("new")


@pytest.mark.parametrize("version", [1, 4, 255])
def test_an_unknown_version_is_an_error_that_names_it(version: int) -> None:
    """Whoever reads it: the fold, or a query."""
    shelf = Shelf()
    shelf.set(b"k", Note("x"))
    (row,) = shelf.commit()
    shelf.store.write([(head_key(b"N", b"k"), bytes([version]) + (row[1] or b"")[1:])])
    fresh = KeyedStates(shelf.processor, shelf.store, shelf.overlay, shelf.timers, 10)  # type: ignore[arg-type]
    for read in (fresh.find, fresh.committed):
        with pytest.raises(UnknownStateVersion, match=f"notes has version {version}; this program reads 2 and 3"):
            read(b"k")


def test_the_version_before_is_read_and_written_anew() -> None:
    """A state is brought to the present version when it changes."""
    shelf = Shelf()
    shelf.set(b"k", Note("x"))
    (row,) = shelf.commit()
    shelf.store.write([(head_key(b"N", b"k"), b"\x02" + (row[1] or b"")[1:])])
    fresh = Shelf()
    fresh.store.write([(head_key(b"N", b"k"), b"\x02" + (row[1] or b"")[1:])])
    fresh.set(b"k", fresh.states.find(b"k").state)  # type: ignore[union-attr,arg-type]
    ((_, value, _),) = fresh.commit()
    assert unpack_header(value or b"")[0] == 3


def test_a_state_forgotten_before_it_was_ever_stored_leaves_no_tombstone() -> None:
    """A tombstone is for what stands in the changelog."""
    shelf = Shelf()
    shelf.set(b"k", None)
    assert shelf.commit() == []
    shelf.set(b"k", Note("x"))
    shelf.commit()
    shelf.set(b"k", None)
    assert shelf.commit() == [(head_key(b"N", b"k"), None, ())]
    shelf.set(b"k", None)
    assert shelf.commit() == []
    shelf.set(b"k", Note("again"))
    shelf.commit()
    assert shelf.get(b"k") == "again"


# -- timers ---------------------------------------------------------------------------------------------


def test_putting_a_timer_off_costs_nothing_until_it_comes_up() -> None:
    """The old row stays; when it comes up too early it is moved, and nobody is woken."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    for due in range(200, 1_000, 100):
        shelf.set(b"k", Note("x", due))
        shelf.commit()
        assert shelf.timer_rows() == {timer_key(100, b"N", b"k")}
    assert shelf.wake(150) == []
    shelf.commit()
    assert shelf.timer_rows() == {timer_key(900, b"N", b"k")}
    assert shelf.wake(899) == []
    assert shelf.wake(900) == [b"k"]
    shelf.commit()
    assert shelf.timer_rows() == set()


def test_a_due_time_that_comes_nearer_is_not_lost() -> None:
    """An earlier row is added; the later one finds nothing to do."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 900))
    shelf.commit()
    shelf.set(b"k", Note("x", 300))
    shelf.commit()
    assert shelf.wake(300) == [b"k"]
    shelf.commit()
    assert shelf.wake(900) == []
    shelf.commit()
    assert shelf.timer_rows() == set()


def test_a_due_time_that_comes_nearer_after_the_row_was_moved_is_not_lost() -> None:
    """Also when the moved row is still on its way, and after the state has been loaded afresh."""
    shelf = Shelf(capacity=2)
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    shelf.set(b"k", Note("x", 800))
    shelf.commit()
    assert shelf.wake(100) == []  # moved to 800
    shelf.take()
    shelf.set(b"k", Note("x", 500))
    shelf.land()
    shelf.commit()
    assert shelf.wake(500) == [b"k"]


def test_a_due_time_set_again_while_its_row_is_gone_gets_a_new_row() -> None:
    """A timer that fires takes its row with it; what the state wants next is put anew."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    assert shelf.wake(100) == [b"k"]
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    assert shelf.wake(100) == [b"k"]


def test_a_due_time_withdrawn_and_set_again_is_not_lost() -> None:
    """0 is never: the row that stands is dropped when it comes up, but not before it could be needed again."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    shelf.set(b"k", Note("x", 0))
    shelf.commit()
    assert shelf.wake(150) == []
    shelf.commit()
    assert shelf.timer_rows() == set()
    shelf.set(b"k", Note("x", 200))
    shelf.commit()
    assert shelf.wake(200) == [b"k"]


def test_a_withdrawn_due_time_is_forgotten_by_a_fresh_load_but_a_new_one_still_gets_its_row() -> None:
    """The head says 0 while an old row stands: the next due time must have a row at or before it all the same."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    shelf.set(b"k", Note("x", 0))
    shelf.commit()
    again = KeyedStates(shelf.processor, shelf.store, shelf.overlay, shelf.timers, 10)  # type: ignore[arg-type]
    shelf.states = again
    shelf.set(b"k", Note("x", 50))
    shelf.commit()
    assert shelf.wake(60) == [b"k"]


def test_a_forgotten_key_is_not_woken_by_what_is_left_of_its_timer() -> None:
    """Its row finds nothing; a key that comes back has a timer of its own."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.commit()
    shelf.set(b"k", None)
    shelf.commit()
    shelf.set(b"k", Note("back", 300))
    shelf.commit()
    assert shelf.wake(100) == []
    assert shelf.wake(300) == [b"k"]


def test_a_due_time_that_came_nearer_or_a_forgotten_key_leaves_no_row_behind() -> None:
    """A key names somebody: it should not stand in the index for a year to come."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 900))
    shelf.commit()
    shelf.set(b"k", Note("x", 300))
    shelf.commit()
    assert shelf.timer_rows() == {timer_key(300, b"N", b"k")}
    shelf.set(b"k", None)
    shelf.commit()
    assert shelf.timer_rows() == set()
    shelf.set(b"k", Note("back", 300))
    shelf.commit()
    assert shelf.wake(300) == [b"k"]


def test_the_rows_of_a_key_are_listed_wherever_they_are() -> None:
    """In the store, in the commit in flight, in the one under construction; never another key's, nor what is gone."""
    shelf = Shelf()
    for number in (0, 7, MAX_PART):
        shelf.states.put(b"k", number, b"stored")
    shelf.states.put(b"kk", 7, b"another's")
    shelf.states.put(b"k" + bytes(4), 7, b"another's")
    shelf.set(b"k", Note("x"))
    shelf.commit()
    shelf.states.put(b"k", 7, None)
    shelf.states.put(b"k", 8, b"flying")
    shelf.take()
    shelf.states.put(b"k", 9, b"new")
    shelf.states.put(b"k", 8, None)
    assert shelf.states.numbers(b"k") == [0, 9, MAX_PART]
    assert shelf.states.committed_rows.numbers(b"k") == [0, 7, MAX_PART]
    assert shelf.states.numbers(b"kk") == [7]


def test_two_rows_of_one_key_wake_it_once() -> None:
    """Recovery may leave a row for each due time it has passed: only one of them is right."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 100))
    shelf.set(b"gone", Note("last", 100))
    shelf.commit()
    shelf.store.write([(timer_key(due, b"N", k), b"") for due in (40, 60) for k in (b"k", b"gone")])
    assert shelf.wake(100) == [b"gone", b"k"]
    shelf.commit()
    assert shelf.timer_rows() == set()
    assert shelf.get(b"gone") is None


def test_a_state_is_encoded_with_the_due_time_it_has_now() -> None:
    """That is what recovery rebuilds the index from."""
    shelf = Shelf()
    shelf.set(b"k", Note("x", 700))
    ((_, value, _),) = shelf.commit()
    assert unpack_header(value or b"") == (3, 700)


@pytest.mark.parametrize(("allowed", "written"), [(0, 3), (1, 2), (2, 2), (3, 3), (9, 3)])
def test_states_are_written_in_the_version_before_until_the_newest_is_allowed(allowed: int, written: int) -> None:
    """So that a release can be taken back as long as `engine.state_version` has not been raised (semantics 14)."""
    shelf = Shelf()
    processor: AnyProcessor = shelf.processor  # type: ignore[assignment]
    shelf.states = KeyedStates(processor, shelf.store, shelf.overlay, shelf.timers, 10, allowed)
    shelf.set(b"k", Note("a", 0))
    rows: list[Any] = []
    shelf.states.save(rows.append)
    assert [value[0] for _, value, _ in rows] == [written]
