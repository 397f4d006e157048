"""Which touchpoints a conversion owes itself to, by each model (domain rules, section 4).

A model gives weights, one per touchpoint, oldest first; credit and money are divided by those weights to the last
digit. To add a model is to add a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from stream_app.domain import money
from stream_app.domain.journey import Touchpoint
from stream_app.domain.records import Credit
from stream_app.domain.sources.model import NOT_SET, Source

Weights = list[Decimal]
Model = Callable[[Sequence[Touchpoint], int], Weights]
"""(touchpoints oldest first, at least one; time of the conversion) → weights, not all zero."""

CREDIT_UNIT = Decimal("1e-12")
NOT_DETERMINED = Source(source="(not determined)", medium=NOT_SET, campaign=NOT_SET, channel="Not determined")
"""Gets the whole credit when there is no touchpoint (semantics 32)."""

_ZERO = Decimal(0)
_ONE = Decimal(1)


def last_click(touchpoints: Sequence[Touchpoint], _at: int) -> Weights:
    """All to the last one, direct included."""
    return _all_to(len(touchpoints) - 1, len(touchpoints))


def first_click(touchpoints: Sequence[Touchpoint], _at: int) -> Weights:
    """All to the first one, direct included."""
    return _all_to(0, len(touchpoints))


def last_non_direct(touchpoints: Sequence[Touchpoint], _at: int) -> Weights:
    """All to the last one that is not direct; to the last direct one if all are."""
    return _all_to(last_non_direct_index(touchpoints), len(touchpoints))


MODELS: dict[str, Model] = {
    "last_non_direct": last_non_direct,
    "last_click": last_click,
    "first_click": first_click,
}


def last_non_direct_index(touchpoints: Sequence[Touchpoint]) -> int:
    """Position of the last touchpoint that is not direct, else of the last."""
    for index in range(len(touchpoints) - 1, -1, -1):
        if touchpoints[index].source.source != "(direct)":
            return index
    return len(touchpoints) - 1


def credits_of(
    touchpoints: Sequence[Touchpoint], at: int, value: Decimal | None, currency: str
) -> dict[str, tuple[Credit, ...]]:
    """Credits of a conversion by every model. `value` is divided as shown, in whole minor units."""
    total = None if value is None else money.rounded(value, currency)
    if not touchpoints:
        sole = (_credit(NOT_DETERMINED, _ONE, total),)
        return dict.fromkeys(MODELS, sole)
    return {name: _shares(touchpoints, model(touchpoints, at), total, currency) for name, model in MODELS.items()}


def _shares(
    touchpoints: Sequence[Touchpoint], weights: Weights, total: Decimal | None, currency: str
) -> tuple[Credit, ...]:
    credited = [(touchpoint, weight) for touchpoint, weight in zip(touchpoints, weights, strict=True) if weight]
    if len(credited) == 1:
        return (_credit(credited[0][0].source, _ONE, total),)
    given = [weight for _, weight in credited]
    shares = money.split(_ONE, given, CREDIT_UNIT)
    values = [None] * len(given) if total is None else money.split(total, given, money.minor_unit(currency))
    return tuple(
        _credit(touchpoint.source, share, value)
        for (touchpoint, _), share, value in zip(credited, shares, values, strict=True)
    )


def _credit(source: Source, share: Decimal, value: Decimal | None) -> Credit:
    return Credit(
        source=source.source,
        medium=source.medium,
        campaign=source.campaign,
        channel=source.channel,
        credit="1" if share == _ONE else f"{share.normalize():f}",
        value=None if value is None else f"{value:f}",
    )


def _all_to(index: int, count: int) -> Weights:
    weights = [_ZERO] * count
    weights[index] = _ONE
    return weights
