"""The states of one task: what is cached, what is being changed, what lies in the store.

Reads see, in this order: cache, the commit under construction, the commit in flight, the store. Decoded states
changed in a commit that isn't finished are never evicted, so the order costs nothing for them; the rows of large
states and the timers have overlays of their own (semantics 11).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import msgspec

from .ports import Outgoing, Store
from .processor import AnyProcessor, Context, Rows
from .rows import (
    HEADER_SIZE,
    TIMERS_UNTIL,
    head_key,
    pack_header,
    part_key,
    part_number,
    split_timer,
    timer_key,
    timers_from,
    timers_until,
    unpack_header,
)

_NONE: tuple[()] = ()
NEVER = 2**63
MAX_PART = 2**32 - 1


class UnknownStateVersion(Exception):
    """A stored state has a version this program doesn't read: it was written by a newer one. Nothing is wiped."""


class Entry(msgspec.Struct, gc=False):
    """A decoded state in the cache. The garbage collector looks at none of them: there are hundreds of thousands."""

    state: object | None
    due: int
    """Some timer row stands at or before this time (0: none needed)."""
    stored: bool
    """Whether a head row exists, in the store or in an unfinished commit."""


class Overlay:
    """Rows other than heads that unfinished commits have written."""

    __slots__ = ("_store", "current", "flying")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.current: dict[bytes, bytes | None] = {}
        self.flying: dict[bytes, bytes | None] = {}

    def get(self, row: bytes) -> bytes | None:
        for rows in (self.current, self.flying):
            if row in rows:
                return rows[row]
        return self._store.get(row)

    def put(self, row: bytes, value: bytes | None) -> None:
        self.current[row] = value

    def scan(self, start: bytes, stop: bytes) -> list[bytes]:
        """Rows that are there in [start, stop], sorted."""
        found = set(self._store.scan(start, stop + b"\0", NEVER))
        for rows in (self.flying, self.current):
            for row, value in rows.items():
                if start <= row <= stop:
                    (found.add if value is not None else found.discard)(row)
        return sorted(found)

    def take(self) -> dict[bytes, bytes | None]:
        """The current rows become those in flight: the commit under construction is complete."""
        self.flying, self.current = self.current, {}
        return self.flying

    def landed(self) -> None:
        """The commit in flight is in the store."""
        self.flying = {}


class Timers:
    """The index of due times, in the store and in unfinished commits.

    Invariant: every key with a due time has a row at or before it. Rows are moved when they come up too early and
    dropped when nothing is due, so an event that puts its client's timer off costs nothing.
    """

    __slots__ = ("_current", "_flying", "_gone", "_handed", "_handed_until", "_next", "_soonest", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._current: dict[bytes, bytes | None] = {}
        self._flying: dict[bytes, bytes | None] = {}
        self._soonest = NEVER, NEVER
        """No row in `_current`, in `_flying`, is due before this time."""
        self._gone = 0, 0
        """At most so many rows of the store are deleted by `_current`, by `_flying`."""
        self._next = 0
        """No row at all is due before this time. Scans begin here: what lies before it was deleted, and a store takes
        long to pass over what was deleted lately."""
        self._handed: set[bytes] = set()
        """Rows that were given out as due and not removed since."""
        self._handed_until = 0

    def put(self, due: int, tag: bytes, key: bytes) -> None:
        self._current[timer_key(due, tag, key)] = b""
        if due < self._soonest[0]:
            self._soonest = due, self._soonest[1]
            self._next = min(self._next, due)

    def remove(self, row: bytes) -> None:
        self._current[row] = None
        self._gone = self._gone[0] + 1, self._gone[1]
        if self._handed:
            self._handed.discard(row)
            if not self._handed:  # all earlier ones are gone, but for what was put meanwhile
                self._next = min(self._handed_until, *self._soonest)

    def due(self, now: int, limit: int) -> list[bytes]:
        """Up to `limit` rows due at or before `now`, earliest first."""
        if now < self._next:
            return []
        stop = timers_until(now)
        rows = self._store.scan(timers_from(self._next), stop, limit + sum(self._gone))
        found = {row for row in rows if not self._is_gone(row)}
        if min(self._soonest) <= now:
            found.update(row for row in (*self._flying, *self._current) if row < stop and not self._is_gone(row))
        if not found:
            self._next = self._after(now)
            return []
        first = sorted(found)[:limit]
        self._next = split_timer(first[0])[0]
        self._handed, self._handed_until = set(first), split_timer(first[-1])[0]
        return first

    def _is_gone(self, row: bytes) -> bool:
        if row in self._current:
            return self._current[row] is None
        return row in self._flying and self._flying[row] is None

    def _after(self, now: int) -> int:
        """When the next row is due, at the earliest: none is until `now`."""
        rows = self._store.scan(timers_until(now), TIMERS_UNTIL, 1)
        return min(*self._soonest, split_timer(rows[0])[0] if rows else NEVER)

    def take(self) -> dict[bytes, bytes | None]:
        self._flying, self._current = self._current, {}
        self._soonest = NEVER, self._soonest[0]
        self._gone = 0, self._gone[0]
        return self._flying

    def landed(self) -> None:
        self._flying = {}
        self._soonest = self._soonest[0], NEVER
        self._gone = self._gone[0], 0


class KeyedStates:
    """The states of one processor in one task: a bounded cache of decoded ones over the store.

    The cache has three parts: what was used by the commits that are not finished; what took an event last, in order of
    last use; and what was woken since. A key that was woken has had what it waited for, while the others' timers are
    still to come: it is the first to go.
    """

    __slots__ = (
        "_capacity",
        "_idle",
        "_landing",
        "_old",
        "_overlay",
        "_store",
        "_timers",
        "_written",
        "changed",
        "hits",
        "misses",
        "processor",
        "tag",
        "woken",
        "young",
    )

    def __init__(
        self,
        processor: AnyProcessor,
        store: Store,
        overlay: Overlay,
        timers: Timers,
        capacity: int,
        state_version: int = 0,
    ) -> None:
        self.processor = processor
        self.tag = processor.tag
        self.young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self._idle: dict[bytes, Entry] = {}
        self.changed: dict[bytes, Entry] = {}
        self.woken: list[bytes] = []
        """Keys that were woken in the commit under construction, and took no event."""
        self._landing: list[bytes] = []
        """As `woken`, of the commit in flight."""
        self._store = store
        self._overlay = overlay
        self._timers = timers
        self._capacity = capacity
        newest = processor.state_version
        self._written = max(newest - 1, min(newest, state_version)) if state_version else newest
        """Version that states are written in (semantics 14)."""
        self.hits = self.misses = 0

    # Rows of one key, as processors see them
    def get(self, key: bytes, number: int) -> bytes | None:
        return self._overlay.get(part_key(self.tag, key, number))

    def put(self, key: bytes, number: int, value: bytes | None) -> None:
        self._overlay.put(part_key(self.tag, key, number), value)

    def numbers(self, key: bytes) -> list[int]:
        tag = self.tag
        rows = self._overlay.scan(part_key(tag, key, 0), part_key(tag, key, MAX_PART))
        return [number for row in rows if (number := part_number(row, tag, key)) is not None]

    def find(self, key: bytes) -> Entry | None:
        """The entry of a key, from cache or store; None for a key never seen (or forgotten)."""
        entry = self.young.get(key)
        if entry is not None:
            return entry
        entry = self._old.pop(key, None) or self._idle.pop(key, None)
        if entry is None:
            self.misses += 1
            entry = self._load(key)
            if entry is None:
                return None
        self.young[key] = entry
        return entry

    def add(self, key: bytes) -> Entry:
        """A place for a key never seen."""
        entry = self.young[key] = Entry(None, 0, False)
        return entry

    def _load(self, key: bytes) -> Entry | None:
        raw = self._store.get(head_key(self.tag, key))
        if raw is None:
            return None
        return Entry(self._decode(key, raw, self), unpack_header(raw)[1], True)

    def _decode(self, key: bytes, raw: bytes, rows: Rows) -> object:
        version = raw[0]
        written = self.processor.state_version
        if not written - 1 <= version <= written:
            raise UnknownStateVersion(
                f"a state of {self.processor.name} has version {version}; this program reads {written - 1} and "
                f"{written}. Run the program that wrote it, or a newer one; nothing was changed."
            )
        return self.processor.load(key, version, raw[HEADER_SIZE:], rows)

    def committed(self, key: bytes) -> object | None:
        """The state as committed, decoded afresh: for queries. Shares nothing with what is being changed."""
        raw = self._store.get(head_key(self.tag, key))
        return None if raw is None else self._decode(key, raw, self.committed_rows)

    @property
    def committed_rows(self) -> Rows:
        """Rows of committed states, for queries."""
        return _Committed(self._store, self.tag)

    def wake(self, row: bytes, key: bytes, context: Context[object]) -> bool:
        """Handles a timer row that has come up. True if the processor was woken."""
        entry = self.find(key)
        self._timers.remove(row)
        if entry is None or entry.state is None:
            return False
        wanted = self.processor.due(entry.state)
        if not wanted or wanted > context.now:
            if wanted:
                self._timers.put(wanted, self.tag, key)
            entry.due = wanted
            return False
        entry.due = 0  # the row is gone: saving puts a new one
        entry.state = self.processor.wake(key, entry.state, context)
        if key not in self.changed:
            self.woken.append(key)
        self.changed[key] = entry
        return True

    def save(self, append: Callable[[Outgoing], None]) -> None:
        """Encodes what changed; each key once."""
        tag, due_of, save, timers = self.tag, self.processor.due, self.processor.save, self._timers
        version = self._written
        for key, entry in self.changed.items():
            state = entry.state
            if state is None:
                if entry.stored:
                    append((head_key(tag, key), None, _NONE))
                    entry.stored = False
                if entry.due:
                    timers.remove(timer_key(entry.due, tag, key))
                entry.due = 0
                continue
            due = due_of(state)
            if due and (due < entry.due or not entry.due):
                if entry.due:
                    timers.remove(timer_key(entry.due, tag, key))
                timers.put(due, tag, key)
                entry.due = due
            entry.stored = True
            append((b"s" + tag + key, pack_header(version, due) + save(key, state, self), _NONE))

    def take(self) -> None:
        """The commit under construction is complete. What it changed stays cached: only `landed` evicts."""
        self.changed = {}
        self._landing, self.woken = self.woken, []

    def landed(self) -> None:
        """The commit in flight is in the store: now, and only now, something may be evicted, but nothing that the next
        one has changed already. What was woken goes first, then what was used longest ago, by commits."""
        changed, used, old, idle = self.changed, self.young, self._old, self._idle
        for key in changed:
            del used[key]
        for key in self._landing:
            if key in used:
                idle[key] = used.pop(key)
        old.update(used)
        self.young = changed.copy()
        surplus = len(old) + len(idle) - self._capacity
        for entries in (idle, old):
            if surplus > 0:
                gone = list(islice(entries, surplus))
                for key in gone:
                    del entries[key]
                surplus -= len(gone)

    def __len__(self) -> int:
        return len(self.young) + len(self._old) + len(self._idle)


class _Committed:
    """Rows of committed states only."""

    __slots__ = ("_store", "_tag")

    def __init__(self, store: Store, tag: bytes) -> None:
        self._store = store
        self._tag = tag

    def get(self, key: bytes, number: int) -> bytes | None:
        return self._store.get(part_key(self._tag, key, number))

    def put(self, key: bytes, number: int, value: bytes | None) -> None:  # noqa: ARG002
        raise TypeError("committed states are read-only")

    def numbers(self, key: bytes) -> list[int]:
        rows = self._store.scan(part_key(self._tag, key, 0), part_key(self._tag, key, MAX_PART) + b"\0", NEVER)
        return [number for row in rows if (number := part_number(row, self._tag, key)) is not None]
