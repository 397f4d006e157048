"""Referred customers against all others: who came back, and what they brought (semantics 49)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from stream_app.domain.money import add
from stream_app.domain.referral.facts import Purchase, Sales
from stream_app.domain.times import DAY_MS

REPEATS: Final = {"repeat_30d": 30 * DAY_MS, "repeat_90d": 90 * DAY_MS, "repeat_365d": 365 * DAY_MS}
"""Name of a count → how long after the first paid conversion the second may be, inclusive."""
NO_SALES: Final = Sales()


def sale_of(purchase: Purchase | None) -> Sales:
    """What one conversion adds: nothing unless its goal is paid and it stands."""
    if purchase is None or not purchase.paid or purchase.withdrawn:
        return NO_SALES
    left = purchase.value or Decimal(0)
    for refund in purchase.refunds:
        left = add(left, -refund.value)
    return Sales(purchase.moment, None, {purchase.currency: left} if left else {})


def merged(*parts: Sales) -> Sales:
    """Several people's, or several conversions', as one person's."""
    moments = sorted(m for part in parts for m in (part.first, part.second) if m is not None)
    revenue: dict[str, Decimal] = {}
    for part in parts:
        _move(revenue, part, 1)
    return Sales(moments[0] if moments else None, moments[1] if len(moments) > 1 else None, _tidy(revenue))


def corrected(sales: Sales, before: Sales, after: Sales) -> Sales:
    """A settled conversion brings another amount. That and when it was stays."""
    revenue = dict(sales.revenue)
    _move(revenue, before, -1)
    _move(revenue, after, 1)
    return Sales(sales.first, sales.second, _tidy(revenue))


def repeats_of(sales: Sales) -> tuple[str, ...]:
    """The periods within which the second conversion followed the first."""
    if sales.first is None or sales.second is None:
        return ()
    gap = sales.second[0] - sales.first[0]
    return tuple(name for name, within in REPEATS.items() if gap <= within)


def _move(revenue: dict[str, Decimal], part: Sales, sign: int) -> None:
    for currency, amount in part.revenue.items():
        revenue[currency] = add(revenue.get(currency, Decimal(0)), sign * amount)


def _tidy(revenue: dict[str, Decimal]) -> dict[str, Decimal]:
    return {currency: amount for currency, amount in revenue.items() if amount}
