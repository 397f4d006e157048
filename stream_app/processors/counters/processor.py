"""Adds deltas up to the windows of each counter key, and publishes what changed.

A key's state is a head with its total, and one row per window: a commit reads and writes the windows that it touches,
however many there are. Which windows live is told by rows of their own, one for each block of time, so that expiry
finds them without a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from stream_app.domain.counters.dimensions import BY_ID, GOALS, OTHER, key_of, other_of
from stream_app.domain.counters.figures import Figures
from stream_app.domain.counters.plans import Plans
from stream_app.domain.counters.records import COUNTERS, Renderer, counter_id, keys_json, with_all
from stream_app.domain.counters.rules import CounterRules
from stream_app.domain.counters.windows import (
    ALL_WINDOWS,
    DAY,
    HOUR,
    LIFE,
    MINUTES,
    NAMES,
    TOTAL,
    Windows,
    expires_at,
    is_expired,
)
from stream_app.engine.processor import Context, Decoder, Rejected, Rows
from stream_app.processors.counters.combining import OVERFLOW, Delta, Slot, add_to
from stream_app.processors.counters.contributing import DELTA

MAX_GOALS = 100
"""Goals of one window; further ones count under `(other)`. Their records are written whenever the sessions of `all`
change, so there must be few."""
MAX_AT_HAND = 12
"""Decoded windows that a cached key keeps."""
MAX_AT_HAND_OF_FEW = 96
"""As above, in dimensions that have few keys. These change in every commit, in all the minutes of open sessions."""
_FEW = frozenset(("all", "channel"))

CAMPAIGN = "campaign"

BLOCK = (60, 1_440, 8 * 1_440)
"""Minutes of a block by kind of window: an hour of minutes, a day of hours, eight days."""
_KIND = 30
_BLOCKS = 3 << _KIND
_BLOCK_KIND = 27
_ADMISSION = b"\x00"
"""Begins the keys of the rows that say how many keys of a dimension a window has taken; no counter's key does."""

ByCurrency = dict[str, Figures]
_Touched = dict[tuple[str, str], Slot]
"""By (currency, goal)."""


class Window(msgspec.Struct, gc=False, array_like=True):
    """One window of one key."""

    figures: ByCurrency = {}
    goals: dict[str, ByCurrency] = {}
    """Of `all` only."""


class Head(msgspec.Struct, gc=False, array_like=True):
    """What is saved of a key besides its windows."""

    dimension: str
    keys: tuple[str, ...]
    """As first seen."""
    total: Window | None = None
    spans: list[int] = []
    """Starts of the first and the last live window of minutes, hours, days; −1: none."""


class Counter(msgspec.Struct, gc=False):
    """A key in memory."""

    head: Head
    keys: str
    """Encoded for records."""
    at_hand: dict[int, Window]
    """Decoded windows by row number."""


def row_of(kind: int, start: int) -> int:
    """Number of a window's row."""
    return kind << _KIND | start


def block_row(kind: int, block: int) -> int:
    """Number of the row that lists a block's windows."""
    return _BLOCKS | kind << _BLOCK_KIND | block


_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode_delta = msgspec.msgpack.Decoder(Delta).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
decode_window = msgspec.msgpack.Decoder(Window).decode
decode_starts = msgspec.msgpack.Decoder(list[int]).decode


def decode_head(version: int, payload: bytes) -> Head:
    """A key as it was saved; raises ValueError for a version that is not known."""
    if version != CountersProcessor.state_version:
        raise ValueError(
            f"counters state version {version} is not known; this release reads {CountersProcessor.state_version}"
        )
    return _decode_head(payload)


class CountersProcessor:
    """Sums what is counted under each key, in windows."""

    name = "counters"
    tag = b"c"
    inputs: Sequence[str] = ()
    kinds: Sequence[str] = (DELTA, OVERFLOW)
    state_version = 1

    def __init__(self, rules: CounterRules, windows: Windows, *, rules_version: str, partitions: int) -> None:
        self._base = rules.base_currency
        self._windows = windows
        self._renderer = Renderer(rules.base_currency, rules_version)
        self._plans = Plans(rules.plans, windows, rules.base_currency)
        self._share = -(-rules.values // partitions)
        """Keys per dimension and window that one task takes."""
        self._decoders: dict[str, Decoder[Delta]] = {DELTA: _decode, OVERFLOW: _decode}

    def decoder(self, source: str) -> Decoder[Delta]:
        """The decoder of deltas and of what overflowed."""
        return self._decoders[source]

    def key_of(self, event: Delta) -> bytes:
        """The key of a delta whose record had none."""
        return key_of(event.dimension, event.keys)

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Counter | None, events: list[Delta], context: Context[Delta]) -> Counter | None:
        """Adds one commit's deltas of a key."""
        first = events[0]
        if first.dimension == BY_ID:
            return self._send_on(state, events, context)
        counter = state if state is not None else _new(first.dimension, first.keys)
        head = counter.head
        unbounded = head.dimension == "all" or (bool(head.keys) and head.keys[-1] == OTHER)
        refused: dict[tuple[int, int], _Touched] = {}
        for (kind, start), touched in sorted(self._touched(events, context).items()):  # total last: plans read the days
            window = self._find(key, counter, kind, start, context)
            if window is None:
                if not unbounded and not self._admit(head.dimension, kind, start, context.rows):
                    refused[kind, start] = touched
                    continue
                window = self._open(key, counter, kind, start, context)
            changed = self._add(window, touched)
            if kind == TOTAL:
                head.total = window
            else:
                context.rows.put(key, row_of(kind, start), _encode(window))
            self._publish(key, counter, kind, start, window, changed, context)
        if refused:
            self._overflow(head.dimension, refused, context)
        return counter if _lives(head) else None

    def _send_on(self, state: Counter | None, events: list[Delta], context: Context[Delta]) -> Counter | None:
        """What counts under a campaign's id goes to the campaign of the name that came first with it. Ids have places
        as other values have, kept for ever; one without a place counts by the name it comes with."""
        if state is None and self._admit(BY_ID, TOTAL, 0, context.rows):
            state = _new(BY_ID, events[0].keys)
        gathered = context.gather(OVERFLOW)
        for delta in events:
            keys = state.head.keys if state is not None else delta.keys
            changes = gathered.setdefault(key_of(CAMPAIGN, keys), (CAMPAIGN, keys, {}))[2]
            for change in delta.changes:
                when = change.minute, change.windows, change.currency, change.goal
                add_to(changes, when, change.counts, change.amounts)
        return state

    def _touched(self, events: list[Delta], context: Context[Delta]) -> dict[tuple[int, int], _Touched]:
        """The changes by window; those of expired windows are dropped."""
        now, hour_and_day = context.now, self._windows.hour_and_day
        found: dict[tuple[int, int], _Touched] = {}
        hours: dict[tuple[int, int], _Touched] = {}
        dropped = 0
        for delta in events:
            for change in delta.changes:
                minute, windows = change.minute, change.windows
                hour, day = hour_and_day(minute)
                slot = change.currency or self._base, change.goal
                if windows == ALL_WINDOWS and not is_expired(HOUR, hour, now):
                    add_to(hours.setdefault((hour, day), {}), slot, change.counts, change.amounts)
                    windows = MINUTES  # hours go on to their days all at once
                for kind, start in enumerate((minute, hour, day, 0)):
                    if not windows >> kind & 1:
                        continue
                    if is_expired(kind, start, now):
                        dropped += 1
                    else:
                        add_to(found.setdefault((kind, start), {}), slot, change.counts, change.amounts)
        for (hour, day), touched in hours.items():
            for window in ((HOUR, hour), (DAY, day), (TOTAL, 0)):
                for slot, (counts, amounts) in touched.items():
                    add_to(found.setdefault(window, {}), slot, counts, amounts)
        if dropped:
            context.count("counter_deltas_expired", n=dropped)
        return found

    @staticmethod
    def _add(window: Window, touched: _Touched) -> set[tuple[str, str]]:
        """Adds to a window's figures; the (currency, goal) whose figures are others now."""
        changed = set()
        for (currency, goal), (counts, amounts) in touched.items():
            if not any(counts.values()) and not any(amounts.values()):
                continue
            by_currency = window.figures
            if goal:
                if goal not in window.goals and len(window.goals) >= MAX_GOALS:
                    goal = OTHER
                by_currency = window.goals.setdefault(goal, {})
            figures = by_currency.get(currency)
            if figures is None:
                figures = by_currency[currency] = Figures([], {})
            figures.add(counts.items(), amounts.items())
            changed.add((currency, goal))
        return changed

    def _overflow(self, dimension: str, refused: dict[tuple[int, int], _Touched], context: Context[Delta]) -> None:
        """Sends what found no place to the owner of the dimension's `(other)`."""
        keys = other_of(dimension)
        changes = context.gather(OVERFLOW).setdefault(key_of(dimension, keys), (dimension, keys, {}))[2]
        for (kind, start), touched in refused.items():
            for (currency, goal), (counts, amounts) in touched.items():
                add_to(changes, (start, 1 << kind, currency, goal), counts, amounts)
            context.count("counter_overflow", NAMES[kind])

    # --- windows -------------------------------------------------------------------------------------

    @staticmethod
    def _find(key: bytes, counter: Counter, kind: int, start: int, context: Context[Delta]) -> Window | None:
        """A window that is there already."""
        if kind == TOTAL:
            return counter.head.total
        number = row_of(kind, start)
        window = counter.at_hand.get(number)
        if window is None:
            spans = counter.head.spans
            if not spans[2 * kind] <= start <= spans[2 * kind + 1]:
                return None  # mostly a new minute: the store need not be asked
            payload = context.rows.get(key, number)
            if payload is None:
                return None
            window = decode_window(payload)
            _keep(counter, number, window)
        return window

    @staticmethod
    def _open(key: bytes, counter: Counter, kind: int, start: int, context: Context[Delta]) -> Window:
        """A new window, entered in its block."""
        window = Window({}, {})
        if kind != TOTAL:
            _keep(counter, row_of(kind, start), window)
            block = start // BLOCK[kind]
            row = block_row(kind, block)
            spans = counter.head.spans
            first, last = spans[2 * kind], spans[2 * kind + 1]
            is_known = first >= 0 and first // BLOCK[kind] <= block <= last // BLOCK[kind]
            payload = context.rows.get(key, row) if is_known else None
            starts = decode_starts(payload) if payload is not None else []
            context.rows.put(key, row, _encode([*starts, start]))
            spans[2 * kind] = start if first < 0 else min(first, start)
            spans[2 * kind + 1] = max(last, start)
        context.count("counters_live", NAMES[kind])
        return window

    def _admit(self, dimension: str, kind: int, start: int, rows: Rows) -> bool:
        """Takes a place among the keys of a dimension and window, if there is one; it is kept until the window expires
        (semantics 20)."""
        key, number = _ADMISSION + dimension.encode(), row_of(kind, start)
        payload = rows.get(key, number)
        taken = int.from_bytes(payload, "big") if payload is not None else 0
        if taken >= self._share:
            return False
        rows.put(key, number, (taken + 1).to_bytes(4, "big"))
        return True

    # --- expiry --------------------------------------------------------------------------------------

    def due(self, state: Counter) -> int:
        """When the first window expires: what is visible is a function of the stream time."""
        firsts = state.head.spans[::2]
        return min((expires_at(kind, first) for kind, first in enumerate(firsts) if first >= 0), default=0)

    def wake(self, key: bytes, state: Counter, context: Context[Delta]) -> Counter | None:
        """Ends expired windows."""
        spans = state.head.spans
        for kind in range(len(LIFE)):
            first, last = spans[2 * kind], spans[2 * kind + 1]
            while first >= 0 and is_expired(kind, first, context.now):
                first = self._expire(key, state, kind, first, last, context)
            spans[2 * kind] = first
            if first < 0:
                spans[2 * kind + 1] = -1
        return state if _lives(state.head) else None

    def _expire(self, key: bytes, counter: Counter, kind: int, first: int, last: int, context: Context[Delta]) -> int:
        """Ends the expired windows of the first block; gives the start of the first that is left, −1 if none is."""
        rows = context.rows
        for block in range(first // BLOCK[kind], last // BLOCK[kind] + 1):
            payload = rows.get(key, block_row(kind, block))
            starts = decode_starts(payload) if payload is not None else []
            left = [start for start in starts if not is_expired(kind, start, context.now)]
            for start in starts:
                if start not in left:
                    self._end(key, counter, kind, start, context)
            if left:
                if left != starts:
                    rows.put(key, block_row(kind, block), _encode(left))
                return min(left)
            if payload is not None:
                rows.put(key, block_row(kind, block), None)
        return -1

    def _end(self, key: bytes, counter: Counter, kind: int, start: int, context: Context[Delta]) -> None:
        window = self._find(key, counter, kind, start, context)
        if window is not None:
            for currency, goal, _ in _figures(window):
                context.emit(COUNTERS, *_ended(key, kind, start, currency, goal))
        counter.at_hand.pop(row_of(kind, start), None)
        context.rows.put(key, row_of(kind, start), None)
        context.rows.put(_ADMISSION + counter.head.dimension.encode(), row_of(kind, start), None)
        context.count("counters_live", NAMES[kind], -1)

    # --- publish -------------------------------------------------------------------------------------

    def _publish(
        self,
        key: bytes,
        counter: Counter,
        kind: int,
        start: int,
        window: Window,
        changed: set[tuple[str, str]],
        context: Context[Delta],
    ) -> None:
        """Writes the records of a window whose figures changed. Counters by goal show the sessions and cost of `all`:
        they are written with it."""
        shown: Iterable[tuple[str, str]] = changed
        if window.goals:
            goals = {
                (currency, other)
                for currency, goal in changed
                if not goal
                for other, figures in window.goals.items()
                if currency in figures
            }
            shown = sorted(changed | goals)
        elif len(changed) > 1:
            shown = sorted(changed)
        for currency, goal in shown:
            by_currency = window.goals[goal] if goal else window.figures
            figures = by_currency[currency]
            if not figures.settle():
                if (currency, goal) in changed:
                    context.emit(COUNTERS, *_ended(key, kind, start, currency, goal))
                continue
            record_id = counter_id(key, kind, start, currency, goal)
            if goal:
                body = self._renderer.record(
                    record_id,
                    context.revision,
                    kind,
                    start,
                    GOALS,
                    keys_json(GOALS, (goal,)),
                    currency,
                    with_all(figures, window.figures.get(currency)),
                )
            else:
                plan = b"null"
                if kind == TOTAL and currency == self._base:
                    plan = self._plan(key, counter, context.rows)
                body = self._renderer.record(
                    record_id,
                    context.revision,
                    kind,
                    start,
                    counter.head.dimension,
                    counter.keys,
                    currency,
                    figures,
                    plan,
                )
            context.emit(COUNTERS, record_id.encode(), body)

    def _plan(self, key: bytes, counter: Counter, rows: Rows) -> bytes:
        """How far the plans of a key are met: its days added up by month."""
        head = counter.head
        plans = self._plans.of(head.dimension, head.keys)
        if not plans:
            return b"null"

        def day(start: int) -> Figures | None:
            number = row_of(DAY, start)
            window = counter.at_hand.get(number)
            if window is None:
                payload = rows.get(key, number)
                if payload is None:
                    return None
                window = decode_window(payload)
            return window.figures.get(self._base)

        return self._plans.completion(plans, day)

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> Counter:  # noqa: ARG002  # windows are read when touched
        """A key as it was when saved."""
        head = decode_head(version, payload)
        return Counter(head, keys_json(head.dimension, head.keys), {})

    def save(self, key: bytes, state: Counter, rows: Rows) -> bytes:  # noqa: ARG002
        """The key's bytes; windows were written as they changed."""
        return _encode(state.head)


def _new(dimension: str, keys: tuple[str, ...]) -> Counter:
    return Counter(Head(dimension, keys, None, [-1] * 6), keys_json(dimension, keys), {})


def _lives(head: Head) -> bool:
    """False for a key of which nothing is left."""
    return head.total is not None or any(first >= 0 for first in head.spans)


def _keep(counter: Counter, number: int, window: Window) -> None:
    at_hand = counter.at_hand
    if len(at_hand) >= (MAX_AT_HAND_OF_FEW if counter.head.dimension in _FEW else MAX_AT_HAND):
        del at_hand[next(iter(at_hand))]
    at_hand[number] = window


def _figures(window: Window) -> Iterator[tuple[str, str, Figures]]:
    """(currency, goal, figures) of all that a window shows."""
    for currency, figures in window.figures.items():
        if figures.settle():
            yield currency, "", figures
    for goal, by_currency in window.goals.items():
        for currency, figures in by_currency.items():
            if figures.settle():
                yield currency, goal, figures


def _ended(key: bytes, kind: int, start: int, currency: str, goal: str) -> tuple[bytes, None]:
    """A tombstone."""
    return counter_id(key, kind, start, currency, goal).encode(), None


def _decode(key: bytes | None, value: bytes | None, ts: int) -> Delta:  # noqa: ARG001
    try:
        return _decode_delta(value or b"")
    except msgspec.DecodeError as error:
        raise Rejected("bad_json", "a counter delta that this version cannot read") from error


__all__ = [
    "Counter",
    "CountersProcessor",
    "Head",
    "Window",
    "block_row",
    "decode_head",
    "decode_starts",
    "decode_window",
    "row_of",
]
