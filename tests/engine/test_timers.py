"""The index of due times: in order and complete, however much of it is still on its way (semantics 11, 12)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stream_app.engine.rows import split_timer, timer_key, timers_from
from stream_app.engine.state import Timers
from stream_app.hosts.stores import MemoryStore

TAG = b"T"


class AgainstASet(RuleBasedStateMachine):
    """Timers over a store with a commit being built and one on its way, against a plain set of rows."""

    @initialize()
    def begin(self) -> None:
        self.store = MemoryStore()
        self.timers = Timers(self.store)
        self.rows: set[bytes] = set()
        self.flying: list[tuple[bytes, bytes | None]] | None = None

    @rule(due=st.integers(1, 40), key=st.sampled_from([b"a", b"b", b"c", b"ab"]))
    def put(self, due: int, key: bytes) -> None:
        self.timers.put(due, TAG, key)
        self.rows.add(timer_key(due, TAG, key))

    @rule(pick=st.randoms(use_true_random=False))
    def remove(self, pick: object) -> None:
        if self.rows:
            row = pick.choice(sorted(self.rows))  # type: ignore[attr-defined]
            self.timers.remove(row)
            self.rows.discard(row)

    @rule()
    def take(self) -> None:
        if self.flying is None:
            self.flying = list(self.timers.take().items())

    @rule()
    def land(self) -> None:
        if self.flying is not None:
            self.store.write(self.flying)
            self.timers.landed()
            self.flying = None

    @rule(now=st.integers(0, 45), limit=st.integers(1, 6))
    def due(self, now: int, limit: int) -> None:
        due = sorted(row for row in self.rows if split_timer(row)[0] <= now)
        assert self.timers.due(now, limit) == due[:limit]

    @invariant()
    def everything_is_found_in_order(self) -> None:
        if hasattr(self, "rows"):
            assert self.timers.due(100, 1_000) == sorted(self.rows)


AgainstASet.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_timers_equal_a_plain_set = AgainstASet.TestCase


class Counted(MemoryStore):
    """A store that counts scans."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self.starts: list[bytes] = []

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        self.scans += 1
        self.starts.append(start)
        return super().scan(start, stop, limit)


def test_nobody_looks_before_the_earliest_timer() -> None:
    """A commit in which nothing is due costs no scan; one that comes in earlier is still found."""
    store = Counted()
    timers = Timers(store)
    timers.put(1_000, TAG, b"a")
    store.write(list(timers.take().items()))
    timers.landed()
    assert timers.due(10, 5) == []
    scans = store.scans
    for now in range(11, 1_000):
        assert timers.due(now, 5) == []
    assert store.scans == scans
    timers.put(500, TAG, b"b")
    assert timers.due(499, 5) == []
    assert timers.due(500, 5) == [timer_key(500, TAG, b"b")]


def test_many_removals_on_their_way_hide_no_timer_behind_them() -> None:
    """The scan looks further by as many rows as are about to go."""
    store = MemoryStore()
    store.write([(timer_key(due, TAG, b"k"), b"") for due in range(1, 101)])
    timers = Timers(store)
    for due in range(1, 99):
        timers.remove(timer_key(due, TAG, b"k"))
        if due == 50:
            timers.take()
    assert timers.due(200, 1) == [timer_key(99, TAG, b"k")]
    assert timers.due(200, 10) == [timer_key(99, TAG, b"k"), timer_key(100, TAG, b"k")]


def test_what_is_put_while_due_ones_are_handled_is_not_passed_over() -> None:
    """Though it is due before them."""
    store = MemoryStore()
    store.write([(timer_key(due, TAG, b"k"), b"") for due in (10, 20)])
    timers = Timers(store)
    first, second = timers.due(50, 5)
    timers.remove(first)
    timers.put(5, TAG, b"x")
    timers.remove(second)
    store.write(list(timers.take().items()))
    timers.landed()
    assert timers.due(50, 5) == [timer_key(5, TAG, b"x")]


def test_scans_begin_where_the_last_ones_ended() -> None:
    """A store is slow where much was deleted: nobody goes there again. But due ones that were not handled are found."""
    store = Counted()
    store.write([(timer_key(due, TAG, b"k"), b"") for due in (*range(1, 11), 50)])
    timers = Timers(store)
    for row in timers.due(5, 100):
        timers.remove(row)
    store.starts.clear()
    assert timers.due(7, 100) == [timer_key(due, TAG, b"k") for due in (6, 7)]
    assert store.starts == [timers_from(5)]
    timers.remove(timer_key(7, TAG, b"k"))
    assert timers.due(8, 100) == [timer_key(due, TAG, b"k") for due in (6, 8)]
    for due in (6, 8, 9, 10):
        timers.remove(timer_key(due, TAG, b"k"))
    assert timers.due(20, 100) == []
    store.starts.clear()
    assert timers.due(50, 100) == [timer_key(50, TAG, b"k")]
    assert store.starts == [timers_from(50)]
