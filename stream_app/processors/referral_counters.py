"""Sums of referral programmes by window and key → the topic `referral-counters`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from stream_app.domain.counters.dimensions import OTHER
from stream_app.domain.counters.windows import DAY, TOTAL, Windows, expires_at, is_expired
from stream_app.domain.referral.counting import (
    BOUNDED,
    COHORT_COUNTS,
    COHORT_SUMS,
    COUNTERS,
    DELTA,
    Cell,
    Change,
    Delta,
    Figures,
    Place,
    Revenue,
    counter_id,
    figures_of,
    gather,
    key_of,
    other_of,
    places,
    record_of,
)
from stream_app.domain.referral.ledger import Entry
from stream_app.domain.times import MINUTE_MS
from stream_app.engine.processor import Context, Decoder, Rejected, Rows
from stream_app.processors.people.house import Counted

LONG_ONLY = frozenset({"users", "referring_customers", "invited_referred", *COHORT_COUNTS, *COHORT_SUMS})
"""Counted in `total` only; users stand in days as well, as they were at the day's end."""

_PLACES = b"\x1fplaces\x1f"
"""Begins the key of how many places a dimension has given: no key of a counter does."""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_encode_record = msgspec.json.Encoder().encode
_decode_delta = msgspec.msgpack.Decoder(Delta).decode
_decode_figures = msgspec.msgpack.Decoder(Figures).decode


class Head(msgspec.Struct, gc=False, array_like=True):
    """What is kept of a key besides its windows, which are in rows."""

    dimension: str
    keys: tuple[str, ...]
    total: Figures = msgspec.field(default_factory=Figures)
    live: dict[int, int] = {}
    """Row of a window → start of it."""
    joined: dict[int, int] = {}
    """Day → how many users came less those that left."""
    currencies: tuple[str, ...] = ()


decode_head = msgspec.msgpack.Decoder(Head).decode


class RewardsCounter:
    """The slot for counters in people's books."""

    def move(self, entry: Entry, before: Counted, after: Counted, context: Context[Any]) -> None:
        """Counts `after` in place of `before`, in the window of the conversion."""
        minute = entry.walk.purchase.at // MINUTE_MS
        gathered = context.gather(DELTA)
        was, now = (figures_of(counted.counts, counted.currency, counted.sums) for counted in (before, after))
        if before.places and before.places != after.places:
            gather(gathered, before.places, minute, was, -1)
        elif before.places:
            now.add(was, -1)
            now.tidy()
        gather(gathered, after.places, minute, now)

    def person(self, before: Mapping[Cell, int], after: Mapping[Cell, int], context: Context[Any]) -> None:
        """Counts what a person counts for besides rewards."""
        gathered = context.gather(DELTA)
        for cells, sign in ((before, -1), (after, 1)):
            for cell, n in cells.items():
                where = places(cell.program, "", cell.advocate_kind)
                gather(gathered, where, cell.minute, Figures({cell.name: n}), sign)

    def revenue(
        self, before: Mapping[Revenue, Decimal], after: Mapping[Revenue, Decimal], context: Context[Any]
    ) -> None:
        """Counts what a customer has brought."""
        gathered = context.gather(DELTA)
        for amounts, sign in ((before, -1), (after, 1)):
            for (name, program, currency), amount in amounts.items():
                gather(gathered, places(program), 0, Figures({}, {currency: {name: amount}}), sign)

    def add(self, name: str, where: tuple[Place, ...], at: int, n: int, context: Context[Any]) -> None:
        """Counts something that happened: invitations, people newly bound."""
        gather(context.gather(DELTA), where, at // MINUTE_MS, Figures({name: n}))


def combine(gathered: dict[Any, Any], context: Context[Any]) -> None:
    """The combiner of `referral-delta`: one record per key."""
    by_place: dict[Any, list[Change]] = {}
    for (place, minute), figures in gathered.items():
        figures.tidy()
        if not figures.empty:
            by_place.setdefault(place, []).append(Change(minute, figures))
    for (dimension, keys), changes in by_place.items():
        context.forward(DELTA, key_of(dimension, keys), _encode(Delta(dimension, keys, tuple(changes))))


class ReferralCountersProcessor:
    """Adds deltas up."""

    name = "referral-counters"
    tag = b"f"
    inputs: Sequence[str] = ()
    kinds: Sequence[str] = (DELTA,)
    state_version = 1

    def __init__(
        self, windows: Windows, *, base_currency: str, rules_version: str, values: int, partitions: int
    ) -> None:
        self._windows = windows
        self._share = -(-values // partitions)
        """Keys of a bounded dimension that one task takes."""
        self._base = base_currency
        self._rules_version = rules_version

    def decoder(self, source: str) -> Decoder[Delta]:  # noqa: ARG002
        """The decoder of deltas."""
        return _read

    def key_of(self, event: Delta) -> bytes:
        """The key of a delta."""
        return key_of(event.dimension, event.keys)

    def fold(self, key: bytes, state: Head | None, events: list[Delta], context: Context[Delta]) -> Head | None:
        """Adds one commit's deltas of a key. One that found no place when it came first finds none later, as places are
        kept for ever: all of it counts under `(other)`."""
        if state is None and not self._admit(events[0], context):
            self._send_on(events, context)
            return None
        head = state if state is not None else Head(events[0].dimension, events[0].keys)
        touched: dict[tuple[int, int], Figures] = {}
        since = -1
        for delta in events:
            for change in delta.changes:
                hour, day = self._windows.hour_and_day(change.minute)
                short = _short(change.figures)
                for kind, start in enumerate((change.minute, hour, day)):
                    if not short.empty and not is_expired(kind, start, context.now):
                        touched.setdefault((kind, start), Figures({}, {})).add(short)
                touched.setdefault((TOTAL, 0), Figures({}, {})).add(change.figures)
                if users := change.figures.counts.get("users"):
                    head.joined[day] = head.joined.get(day, 0) + users
                    since = day if since < 0 else min(since, day)
        if since >= 0:
            for row, start in head.live.items():
                if row >> 30 == DAY and start >= since:
                    touched.setdefault((DAY, start), Figures({}, {}))
        for (kind, start), figures in sorted(touched.items()):
            self._add(key, head, kind, start, figures, context)
        return head

    def _admit(self, delta: Delta, context: Context[Delta]) -> bool:
        """Takes a place among the keys of a dimension, if there is one."""
        if delta.dimension not in BOUNDED or delta.keys[-1] == OTHER:
            return True
        key = _PLACES + delta.dimension.encode()
        payload = context.rows.get(key, 0)
        taken = int.from_bytes(payload, "big") if payload is not None else 0
        if taken >= self._share:
            return False
        context.rows.put(key, 0, (taken + 1).to_bytes(4, "big"))
        return True

    @staticmethod
    def _send_on(events: list[Delta], context: Context[Delta]) -> None:
        gathered = context.gather(DELTA)
        for delta in events:
            where = (other_of((delta.dimension, delta.keys)),)
            for change in delta.changes:
                gather(gathered, where, change.minute, change.figures)
            context.count("referral_overflow", delta.dimension)

    def _add(self, key: bytes, head: Head, kind: int, start: int, more: Figures, context: Context[Delta]) -> None:
        row = kind << 30 | start
        figures = head.total
        if kind != TOTAL:
            payload = context.rows.get(key, row) if row in head.live else None
            figures = _decode_figures(payload) if payload is not None else Figures({}, {})
            head.live[row] = start
        before = set(figures.sums)
        shown = before | set(more.sums) | {self._base}
        figures.add(more)
        figures.tidy()
        if kind != TOTAL:
            context.rows.put(key, row, _encode(figures))
        users = sum(n for day, n in head.joined.items() if kind == TOTAL or day <= start)
        for currency in sorted(shown):
            base = currency == self._base
            if currency in figures.sums or (base and figures.counts):
                record = record_of(
                    (head.dimension, head.keys),
                    kind,
                    start,
                    currency,
                    figures,
                    users,
                    base=base,
                    revision=context.revision,
                    rules_version=self._rules_version,
                )
                context.emit(COUNTERS, record.id.encode(), _encode_record(record))
            elif currency in before or base:
                context.emit(COUNTERS, counter_id(key, kind, start, currency).encode(), None)

    def due(self, state: Head) -> int:
        """When the first window is over."""
        return min((expires_at(row >> 30, start) for row, start in state.live.items()), default=0)

    def wake(self, key: bytes, state: Head, context: Context[Delta]) -> Head:
        """Ends expired windows."""
        for row, start in list(state.live.items()):
            kind = row >> 30
            if is_expired(kind, start, context.now):
                payload = context.rows.get(key, row)
                figures = _decode_figures(payload) if payload is not None else Figures({}, {})
                for currency in sorted({*figures.sums, self._base}):
                    context.emit(COUNTERS, counter_id(key, kind, start, currency).encode(), None)
                context.rows.put(key, row, None)
                del state.live[row]
        return state

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Head:
        """A key as it was when saved."""
        if version != self.state_version:
            raise ValueError(
                f"referral counters state version {version} is not known; this release reads {self.state_version}"
            )
        return decode_head(payload)

    def save(self, _key: bytes, state: Head, _rows: Rows) -> bytes:
        """The key's bytes; windows are in rows already."""
        return _encode(state)


def _short(figures: Figures) -> Figures:
    """What of it stands in windows besides `total`."""
    if LONG_ONLY.isdisjoint(figures.counts) and all(map(LONG_ONLY.isdisjoint, figures.sums.values())):
        return figures
    counts = {name: n for name, n in figures.counts.items() if name not in LONG_ONLY}
    sums = {
        currency: kept
        for currency, amounts in figures.sums.items()
        if (kept := {name: amount for name, amount in amounts.items() if name not in LONG_ONLY})
    }
    return Figures(counts, sums)


def _read(_key: bytes | None, value: bytes | None, _ts: int) -> Delta:
    try:
        return _decode_delta(value or b"")
    except msgspec.DecodeError as error:
        raise Rejected("bad_json", f"a {DELTA} that this version cannot read") from error


__all__ = ["ReferralCountersProcessor", "RewardsCounter", "combine"]
