"""The figures of a counter: counts, which are whole numbers, and amounts, which are exact decimals."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from stream_app.domain import money

COUNTS: Final = (
    "sessions",
    "page_views",
    "engaged_sessions",
    "new_clients",
    "clients",
    "acquisition",
    "retention",
    "conversions",
    "assisted_conversions",
    "revenue_clients",
    "activation",
    "referral",
    "refunds",
    "undetermined",
    "bots",
    "leads",
    "contacted",
    "mql",
    "sql",
    "proposals",
    "won",
    "won_cohort",
    "refused",
    "reopened",
    "joins",
    "leaves",
    "suspicious",
    "ad_clicks",
    "impressions",
    "time_to_contact_s",
    "time_to_close_s",
    "answers",
    "promoters",
    "detractors",
)
"""By number, the most frequent ones first: a stored list ends at its last one that is not 0. New ones go to the end."""

(
    SESSIONS,
    PAGE_VIEWS,
    ENGAGED_SESSIONS,
    NEW_CLIENTS,
    CLIENTS,
    ACQUISITION,
    RETENTION,
    CONVERSIONS,
    ASSISTED,
    REVENUE_CLIENTS,
    ACTIVATION,
    REFERRAL,
    REFUNDS,
    UNDETERMINED,
    BOTS,
    LEADS,
    CONTACTED,
    MQL,
    SQL,
    PROPOSALS,
    WON,
    WON_COHORT,
    REFUSED,
    REOPENED,
    JOINS,
    LEAVES,
    SUSPICIOUS,
    AD_CLICKS,
    IMPRESSIONS,
    TIME_TO_CONTACT_S,
    TIME_TO_CLOSE_S,
    ANSWERS,
    PROMOTERS,
    DETRACTORS,
) = range(len(COUNTS))

AMOUNTS: Final = ("value", "refunded", "revenue", "profit", "cost")
VALUE, REFUNDED, REVENUE, PROFIT, COST = range(len(AMOUNTS))

Counts = tuple[tuple[int, int], ...]
"""(number of a count, how many): none of them 0."""
Amounts = tuple[tuple[int, Decimal], ...]
"""(number of an amount, how much)."""


class Figures(msgspec.Struct, gc=False, array_like=True):
    """The figures of one currency in one window of one key."""

    counts: list[int] = []
    """By number; what is missing at the end is 0."""
    amounts: dict[int, Decimal] = {}

    def add(self, counts: Iterable[tuple[int, int]], amounts: Iterable[tuple[int, Decimal]]) -> None:
        """Adds in place, exactly."""
        mine = self.counts
        for index, n in counts:
            if index >= len(mine):
                mine.extend([0] * (index + 1 - len(mine)))
            mine[index] += n
        for index, amount in amounts:
            before = self.amounts.get(index)
            self.amounts[index] = amount if before is None else money.add(before, amount)

    def settle(self) -> bool:
        """Drops what came to nothing. False if nothing is left."""
        counts = self.counts
        while counts and not counts[-1]:
            counts.pop()
        if self.amounts:
            for index in [index for index, amount in self.amounts.items() if not amount]:
                del self.amounts[index]
        return bool(counts or self.amounts)

    def count(self, index: int) -> int:
        return self.counts[index] if index < len(self.counts) else 0

    def amount(self, index: int) -> Decimal:
        return self.amounts.get(index, _ZERO)


_ZERO = Decimal(0)
