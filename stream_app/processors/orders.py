"""Who holds an order in the whole system, and which refunds it has (semantics 24).

Keyed by goal and order id. Journeys tells of every claim and every refund; clients that share an order are told of each
other. Refunds whose order does not come, or that are in another currency, become dead letters, made from what is kept
of them: no contact fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from stream_app.domain import ids, money, orders
from stream_app.domain.client import HOLD_MS, Told
from stream_app.domain.times import rfc3339
from stream_app.engine.processor import Context, DeadLetterReason, Decoder, Place, Rows
from stream_app.processors.facts import Fact, encode_body, tell
from stream_app.processors.links import ORDER_CLAIM, ORDER_REFUND, ORDER_RULING, Claiming, Refunding, decoder

Event = Claiming | Refunding
T = TypeVar("T")


class Known(msgspec.Struct, gc=False, array_like=True):
    """An order as stored."""

    order: orders.Order
    told: tuple[Told, ...] = ()
    kept_until: int = 0
    """Time may jump when a backlog is read: a refund still meets its order."""


class RefundRecord(msgspec.Struct, omit_defaults=True):
    """A refund as its tracker might have sent it, in a dead letter."""

    event_id: str
    client_id: str
    occurred_at: str
    goal: str
    order_id: str
    kind: str
    value: str | None = None
    currency: str | None = None


_decode = msgspec.msgpack.Decoder(Known).decode
_encode_record = msgspec.json.Encoder().encode


class OrdersProcessor:
    """Rules on each order."""

    name = "orders"
    tag = b"o"
    inputs: Sequence[str] = ()
    kinds: Sequence[str] = (ORDER_CLAIM, ORDER_REFUND)
    state_version = 1

    def __init__(self, life_ms: int) -> None:
        self._life_ms = life_ms

    def decoder(self, source: str) -> Decoder[Event]:
        """The decoder of `order-claim` or `order-refund`."""
        return decoder(source)

    def key_of(self, event: Event) -> bytes:
        """Never asked: whoever tells an order names it."""
        raise NotImplementedError(event)

    def fold(self, key: bytes, state: Known | None, events: list[Event], context: Context[Event]) -> Known | None:
        """Takes claims and refunds, and tells the clients concerned."""
        known = state if state is not None else Known(orders.Order({}, {}))
        order = known.order
        for event in events:
            if isinstance(event, Claiming):
                _put(order.claims, event.id, event.claim)
            else:
                _put(order.asked, event.id, event.asked)
        self._judge(key, order, context)
        facts = [
            Fact(ORDER_RULING, client_id.encode(), encode_body(ruling))
            for client_id, ruling in orders.rulings(order).items()
        ]
        known.told = tell(known.told, facts, key.decode(), context)
        if gone := {client_id.encode() for client_id in orders.shorten(order)}:
            # They have lost for good: what they were told stands.
            known.told = tuple(told for told in known.told if told.key not in gone)
        known.kept_until = context.now + HOLD_MS
        return known if order.claims or order.asked else None

    def wake(self, key: bytes, state: Known, context: Context[Event]) -> Known | None:
        """Gives up refunds whose order never came, and forgets orders that nothing can concern any more."""
        order = state.order
        for name in orders.waited_too_long(order, context.now):
            self._bury(key, order.asked.pop(name), "unknown_order", "order_id: no such order in 13 months", context)
        if order.claims and context.now >= self.due(state):
            return None
        return state if order.claims or order.asked else None

    def due(self, state: Known) -> int:
        """When a refund has waited for thirteen months, or the order is forgotten."""
        return max(orders.until(state.order, self._life_ms), state.kept_until)

    def _judge(self, key: bytes, order: orders.Order, context: Context[Event]) -> None:
        for name in orders.in_other_money(order):
            asked = order.asked[name]
            if asked.origin:
                order.asked[name] = msgspec.structs.replace(asked, origin=())
                self._bury(key, asked, "bad_money", "currency: another than the order's", context)
        exceeding = orders.exceeding(order)
        if exceeding > order.cut:
            context.count("refunds_cut", n=exceeding - order.cut)
            order.cut = exceeding

    @staticmethod
    def _bury(key: bytes, asked: orders.Asked, reason: DeadLetterReason, detail: str, context: Context[Event]) -> None:
        if not asked.origin:
            return
        refund = asked.refund
        goal, _, order_id = key.decode().rpartition(ids.SEPARATOR)
        record = RefundRecord(refund.id, asked.client_id, rfc3339(refund.at), goal, order_id, "refund")
        if refund.value is not None:
            record.value, record.currency = money.shown(refund.value, refund.currency), refund.currency
        partition, offset, timestamp = asked.origin
        place = Place(partition, offset, timestamp)
        context.bury("conversions", asked.client_id.encode(), _encode_record(record), place, reason, detail)

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Known:
        """An order as it was when saved."""
        if version != self.state_version:
            raise ValueError(f"orders state version {version} is not known; this release reads {self.state_version}")
        return _decode(payload)

    def save(self, _key: bytes, state: Known, _rows: Rows) -> bytes:
        """The order's bytes."""
        return encode_body(state)


def _put(kept: dict[str, T], name: str, told: T | None) -> None:
    if told is None:
        kept.pop(name, None)
    else:
        kept[name] = told
