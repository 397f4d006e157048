"""A period beside the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from stream_app.domain.counters.questions import CannotAsk, Question
from stream_app.domain.counters.records import ratio
from stream_app.domain.counters.tables import Row, value_of
from stream_app.domain.counters.windows import Windows

COMPARED = (
    "sessions", "client_days", "new_clients", "conversions", "leads", "mql", "sql", "won", "refused", "value",
    "refunded", "revenue", "profit", "cost", "ad_clicks", "cpc", "cpl", "cpa", "cr", "lead_cr", "click_cr",
    "lead_to_won", "roas", "romi", "roi", "drr",
)  # fmt: skip
"""Figures of a report: those that are right over several days."""


class Period(NamedTuple):
    """Whole days of the property's zone: from the first, up to and without `until`."""

    since: date
    until: date

    def before(self) -> Period:
        """The whole months before whole months, else as many days before."""
        if self.since.day == self.until.day == 1:
            months = 12 * (self.until.year - self.since.year) + self.until.month - self.since.month
            return Period(_months_back(self.since, months), self.since)
        return Period(self.since - (self.until - self.since), self.since)

    def minutes(self, windows: Windows) -> tuple[int, int]:
        """Starts of the first day and of the day after the last, in minutes since 1970."""
        return (
            windows.of_day(self.since.year, self.since.month, self.since.day),
            windows.of_day(self.until.year, self.until.month, self.until.day),
        )


def period(since: str, until: str) -> Period:
    """A period of two dates as 2026-01-31. Raises CannotAsk."""
    try:
        found = Period(date.fromisoformat(since), date.fromisoformat(until))
    except ValueError:
        raise CannotAsk("a period's first day and the day after its last are dates as 2026-01-31") from None
    if found.since >= found.until:
        raise CannotAsk("a period ends after it begins: --to is the day after its last")
    return found


def month(text: str) -> Period:
    """A month as 2026-01. Raises CannotAsk."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise CannotAsk("a month is written as 2026-01") from None
    return Period(first, (first + timedelta(days=31)).replace(day=1))


class Pair(NamedTuple):
    """One key in both periods."""

    keys: dict[str, str]
    currency: str
    now: Row | None
    before: Row | None

    def values(self, name: str) -> tuple[str | int | None, str | int | None, str | None]:
        """A figure now, before, and by how much of it it has changed; None where that cannot be said."""
        now, before = _value(self.now, name), _value(self.before, name)
        if now is None or before is None or not Decimal(before):
            return now, before, None
        return now, before, ratio(Decimal(now) - Decimal(before), abs(Decimal(before)))


def pairs(now: Sequence[Row], before: Iterable[Row]) -> list[Pair]:
    """Rows of two answers to one question, side by side: first those of the later period in their order, then those
    that are no more."""
    earlier = {_key(row): row for row in before}
    found = [Pair(row.keys, row.currency, row, earlier.pop(_key(row), None)) for row in now]
    return found + [Pair(row.keys, row.currency, None, row) for row in earlier.values()]


def question(dimension: str, of: Period, windows: Windows) -> Question:
    """What a report asks."""
    since, until = of.minutes(windows)
    return Question("1d", dimension, since, until)


def _key(row: Row) -> tuple[str, ...]:
    """Campaigns are one whatever their letter case."""
    names = {**row.keys, "campaign": row.keys["campaign"].casefold()} if "campaign" in row.keys else row.keys
    return (*names.values(), row.currency)


def _value(row: Row | None, name: str) -> str | int | None:
    return None if row is None else value_of(row, name)


def _months_back(first: date, months: int) -> date:
    number = 12 * first.year + first.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)
