"""How far the plans of a month are met (domain rules, section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from stream_app.domain import money
from stream_app.domain.counters.figures import AMOUNTS, COUNTS, Figures
from stream_app.domain.counters.records import PlanFigure, ratio
from stream_app.domain.counters.rules import Plan
from stream_app.domain.counters.windows import Windows

_encode = msgspec.json.Encoder().encode


class Plans:
    """The plans of a site, by the counters that they are about."""

    def __init__(self, plans: Iterable[Plan], windows: Windows, currency: str) -> None:
        self._plans = tuple(plans)
        self._currency = currency
        self._days = {plan.month: _days(plan.month, windows) for plan in self._plans}

    def of(self, dimension: str, keys: tuple[str, ...]) -> list[Plan]:
        """The plans of one counter key: those without a campaign are of `all`."""
        if not self._plans:
            return []
        if dimension == "all":
            return [plan for plan in self._plans if not plan.campaign]
        if dimension != "campaign":
            return []
        source, medium, campaign = (key.casefold() for key in keys)
        return [
            plan
            for plan in self._plans
            if plan.campaign
            and plan.campaign.casefold() == campaign
            and plan.source.casefold() in {"", source}
            and plan.medium.casefold() in {"", medium}
        ]

    def completion(self, plans: Sequence[Plan], day: Callable[[int], Figures | None]) -> bytes:
        """The field `plan`, encoded: by month and figure, what is planned, what there is, and the share. `day` gives
        the figures of the day that begins at a minute."""
        found: dict[str, dict[str, PlanFigure]] = {}
        for plan in plans:
            days = [figures for start in self._days[plan.month] if (figures := day(start)) is not None]
            month = found.setdefault(plan.month, {})
            for name, planned in plan.figures.items():
                actual = _sum(name, days)
                shown = money.shown if name in AMOUNTS else _whole
                month[name] = PlanFigure(
                    shown(planned, self._currency), shown(actual, self._currency), ratio(actual, planned)
                )
        return _encode(found)


def _sum(name: str, days: Iterable[Figures]) -> Decimal:
    total = Decimal(0)
    for figures in days:
        amount = figures.amount(AMOUNTS.index(name)) if name in AMOUNTS else Decimal(figures.count(COUNTS.index(name)))
        total = money.add(total, amount)
    return total


def _whole(amount: Decimal, _currency: str) -> str:
    return f"{amount:f}"


def _days(month: str, windows: Windows) -> tuple[int, ...]:
    """Starts of a month's days."""
    year, number = map(int, month.split("-"))
    day, found = date(year, number, 1), []
    while day.month == number:
        found.append(windows.of_day(day.year, day.month, day.day))
        day += timedelta(1)
    return tuple(found)
