"""Advertising spend → counters: of each `cost_id` the last record in the log counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from stream_app.domain.costs import CostEvent, CostRules, Row, Spend, read_cost, replaced, seen_as, spend_of, was_seen
from stream_app.domain.errors import Refused
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.engine.processor import Context, Decoder, Rejected, Rows

_encode_state = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode_state = msgspec.msgpack.Decoder(Row).decode


class SpendCounter(Protocol):
    """The slot for counters: hears what a row counts whenever that changes."""

    def move(self, before: Spend | None, after: Spend | None, context: Context[CostEvent]) -> None:
        """Counts `after` in place of `before`; None: nothing."""
        ...


class CostsProcessor:
    """Keeps the last record of each row, and counts the difference when there is a newer one."""

    name = "costs"
    tag = b"$"
    inputs: Sequence[str] = ("costs",)
    kinds: Sequence[str] = ()
    state_version = 1

    def __init__(self, rules: CostRules, resolver: SourceResolver, counter: SpendCounter | None = None) -> None:
        self._rules = rules
        self._resolver = resolver
        self._counter = counter

    def decoder(self, _source: str) -> Decoder[CostEvent]:
        """The decoder of `costs`."""
        return self._decode

    def key_of(self, event: CostEvent) -> bytes:
        """The row of a record that had no key."""
        return event.cost_id.encode()

    def _decode(self, key: bytes | None, value: bytes | None, _ts: int) -> CostEvent:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            cost = read_cost(value)
            if key is not None and key != cost.cost_id.encode():
                raise Rejected("key_mismatch", "cost_id: the record's key is another")
            return CostEvent(seen_as(cost.event_id), spend_of(cost, self._rules, self._resolver), cost.cost_id)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None

    def fold(self, _key: bytes, state: Row | None, events: list[CostEvent], context: Context[CostEvent]) -> Row | None:
        """Takes one commit's records of a row, in the order of the log."""
        before = state.spend if state is not None else None
        row = state
        for event in events:
            if row is not None and was_seen(row, event.seen):
                context.count("duplicates")
            else:
                row = replaced(row, event)
        if row is not None and row.spend != before and self._counter is not None:
            self._counter.move(before, row.spend, context)
        return row

    def wake(self, _key: bytes, state: Row, _context: Context[CostEvent]) -> Row:
        """Rows wait for nothing."""
        return state

    def due(self, _state: Row) -> int:
        """Never: a correction may come at any time."""
        return 0

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Row:
        """A row as it was when saved."""
        if version != self.state_version:
            raise ValueError(f"costs state version {version} is not known; this release reads {self.state_version}")
        return _decode_state(payload)

    def save(self, _key: bytes, state: Row, _rows: Rows) -> bytes:
        """The row's bytes."""
        return _encode_state(state)
