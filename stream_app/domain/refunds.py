"""Refunds of an order: listed beside the gross credits, which they never change (semantics 24, 33)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from stream_app.domain import money
from stream_app.domain.hits import Hit, Sale
from stream_app.domain.ids import order_address

MAX_REFUNDS = 200
"""Refunds kept per client, with and without their order."""


class Refund(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One refund as it was asked for."""

    at: int
    id: str
    order: int
    value: Decimal | None
    """None: all that is left."""
    currency: str = ""
    address: bytes = b""
    """Of its order, as its client keeps it: so that the order can be told to forget the client."""

    @staticmethod
    def of(hit: Hit) -> Refund:
        """The refund that an event asks for."""
        sale = hit.sale
        assert sale is not None
        return Refund(hit.at, hit.id, sale.order, sale.value, sale.currency)

    @staticmethod
    def kept(hit: Hit) -> Refund:
        """As its client keeps it."""
        sale = hit.sale
        assert sale is not None
        return msgspec.structs.replace(Refund.of(hit), address=order_address(sale.goal, sale.order_id))


class Refunded(msgspec.Struct, frozen=True, gc=False):
    """One refund as it was granted."""

    at: int
    id: str
    value: Decimal


def refund_order(refund: Refund) -> tuple[int, str, str]:
    """Refunds take from their order in this order: time, then event id; of two clients with one id the same way too."""
    return (refund.at, refund.id, str(refund.value))


def granted(sale: Sale, asked: Iterable[Refund]) -> list[Refunded]:
    """What each refund takes from an order, in order of time: never more than is left, all of it when none is named.
    One in another currency takes nothing. A function of the set: arrival order does not matter."""
    left = sale.value if sale.value is not None else Decimal(0)
    result = []
    for refund in sorted(asked, key=refund_order):
        if refund.value is not None and refund.currency != sale.currency:
            continue
        value = left if refund.value is None else min(refund.value, left)
        left = money.add(left, -value)
        result.append(Refunded(refund.at, refund.id, value))
    return result


def total(refunds: Iterable[Refunded]) -> Decimal:
    """The sum of what was granted."""
    whole = Decimal(0)
    for refund in refunds:
        whole = money.add(whole, refund.value)
    return whole
