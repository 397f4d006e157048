"""Settled conversions that may still change: by refunds and rulings if they have an order, and for a while by what
their user's other clients turn out to have seen. Each has a row."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec

from stream_app.domain import client as clients
from stream_app.domain.client import Client, Frozen, Order
from stream_app.domain.hits import Hit
from stream_app.domain.ids import conversion_id
from stream_app.domain.records import CONVERSIONS
from stream_app.engine.processor import Context, Rows
from stream_app.processors.facts import tell
from stream_app.processors.journeys import codec
from stream_app.processors.journeys.conversions import Conversions, digest_of
from stream_app.processors.journeys.orders import claims, is_lost
from stream_app.processors.journeys.writing import Writer, encode_record, with_revision


class Settled:
    """Keeps them, looks at them again, lets them go."""

    def __init__(self, conversions: Conversions, writer: Writer) -> None:
        self._conversions = conversions
        self._retract = writer.retract
        self._move = writer.move
        self._joins = writer.views.persons

    def keep(self, key: bytes, client_id: str, client: Client, frozen: Frozen, rows: Rows) -> None:
        """A settled conversion leaves what is compared. One with an order gets a row, so that refunds find it; one with
        a user as well, for a while, as what their other clients saw may still be on its way."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        stored = client.stored
        before = stored.published.pop(conversion_id(client_id, hit.id), None)
        joins = bool(frozen.user) and self._joins
        if not sale.order and not joins:
            return
        places = stored.orders if sale.order else stored.held
        first = codec.FIRST_ORDER_ROW if sale.order else codec.FIRST_HELD_ROW
        row = places[-1].row + 1 if places else first
        if before is not None and (before.told or before.counted):
            frozen = msgspec.structs.replace(frozen, told=before.told, counted=before.counted)
        codec.put_frozen(key, row, frozen, rows)
        digest = before.digest if before is not None else 0
        places = (*places, Order(sale.order, row, digest, hit.at if joins else 0))
        if len(places) > clients.MAX_ORDERS:
            rows.put(key, places[0].row, None)
            places = places[1:]
        if sale.order:
            stored.orders = places
            client.orders = frozenset(order.key for order in places)
        else:
            stored.held = places

    def release(self, key: bytes, client: Client, until: int, rows: Rows) -> None:
        """Conversions up to that time hear no more of other clients: those with an order keep their rows."""
        stored = client.stored
        for order in stored.orders:
            if order.at < until:
                order.at = 0
        if stored.held and any(order.at < until for order in stored.held):
            for order in stored.held:
                if order.at < until:
                    rows.put(key, order.row, None)
            stored.held = tuple(order for order in stored.held if order.at >= until)

    def displace(self, key: bytes, client_id: str, client: Client, order: int, context: Context[Hit]) -> None:
        """An earlier conversion of this client has come for an order: what held it is taken back."""
        stored = client.stored
        for held in stored.orders:
            if held.key == order:
                frozen = codec.frozen(key, held.row, context.rows)
                record_id = conversion_id(client_id, frozen.hit.id)
                if held.digest:
                    self._retract(key, client_id, CONVERSIONS, record_id, context)
                tell(frozen.told, (), record_id, context)
                self._move(client, frozen.counted, b"", context)
                context.rows.put(key, held.row, None)
        stored.orders = tuple(held for held in stored.orders if held.key != order)

    def look_again(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        ruled: AbstractSet[int],
        since: int,
        context: Context[Hit],
        *,
        every: bool,
    ) -> None:
        """Those that may have changed: by refunds, by rulings, by what other clients saw `since`; or `every` one, where
        a refund is gone and does not say any more whose it was."""
        stored = client.stored
        if not stored.orders and not stored.held:
            return
        concerned = {refund.sale.order for refund in client.head.refunds if refund.sale is not None}
        concerned.update(refund.order for refund in stored.refunds)
        concerned |= ruled
        for order in (*stored.orders, *stored.held):
            if every or order.key in concerned or since <= order.at:
                self._look_at(key, client_id, client, order, context)

    def _look_at(self, key: bytes, client_id: str, client: Client, order: Order, context: Context[Hit]) -> None:
        frozen = codec.frozen(key, order.row, context.rows)
        hit = frozen.hit
        now = self._conversions.rejoined(client, frozen) if order.at else frozen
        if is_lost(client.stored.rulings, order.key, hit.at, hit.id, client_id):
            if order.digest:
                context.count("duplicate_orders")
                order.digest = 0
                record_id = conversion_id(client_id, hit.id)
                self._retract(key, client_id, CONVERSIONS, record_id, context)
                told = tell(frozen.told, claims(client_id, frozen), record_id, context)
                counted = self._move(client, frozen.counted, b"", context)
                now = msgspec.structs.replace(now, told=told, counted=counted)
        else:
            record = self._conversions.view(client_id, client, now)
            body = encode_record(record)
            digest = digest_of(body, now)
            if digest != order.digest:
                order.digest = digest
                context.emit(CONVERSIONS, key, with_revision(body, context.revision))
                follow = self._conversions.follow
                told, counted = follow(client_id, client, now, record, now.told, now.counted, context)
                now = msgspec.structs.replace(now, told=told, counted=counted)
        if now != frozen:
            codec.put_frozen(key, order.row, now, context.rows)
