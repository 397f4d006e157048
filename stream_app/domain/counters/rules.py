"""What a site's owner settles about counters."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from stream_app.domain import money
from stream_app.domain.counters.figures import AMOUNTS, COUNTS
from stream_app.domain.rules import GoalKind

OPTIONAL_DIMENSIONS = ("term", "content", "landing", "owner", "refusal_reason")
SEGMENT = "segment."
"""Begins the dimensions of conversions' segments: `segment.geo`."""


_NOT_ADDITIVE = {
    "clients",
    "acquisition",
    "retention",
    "activation",
    "referral",
    "revenue_clients",
    "answers",
    "promoters",
    "detractors",
}
PLANNED = tuple(sorted({*COUNTS, *AMOUNTS} - _NOT_ADDITIVE))
"""Figures that a plan may name: those that may be added up over days."""


class CountedGoal(msgspec.Struct, frozen=True):
    """What a goal means to counters (semantics 39)."""

    name: str
    kind: GoalKind = "other"
    counted: bool = False
    """Counts as a conversion."""
    paid: bool = False
    """Its value is revenue, unless it belongs to a lead."""


class Plan(msgspec.Struct, frozen=True):
    """Planned figures of one month and campaign; without a campaign, of everything."""

    month: str
    """`YYYY-MM`."""
    campaign: str = ""
    source: str = ""
    medium: str = ""
    figures: dict[str, Decimal] = {}
    """By the names of counts and sums."""


class CounterRules(msgspec.Struct, frozen=True):
    """Everything that shapes counters."""

    goals: tuple[CountedGoal, ...] = ()
    base_currency: str = "EUR"
    rates: dict[str, Decimal] = {}
    """How much of the base currency one unit is worth."""
    timezone: str = "UTC"
    dimensions: tuple[str, ...] = ()
    """Optional ones: term, content, landing, owner, refusal_reason, `segment.*`."""
    values: Annotated[int, Meta(ge=1)] = 10_000
    """Values of one dimension in one window; what comes on top is counted under `(other)`."""
    plans: tuple[Plan, ...] = ()

    def goal(self, name: str) -> CountedGoal | None:
        """A goal of the settings; None for a plain one."""
        return next((goal for goal in self.goals if goal.name == name), None)

    def in_base(self, amount: Decimal, currency: str) -> tuple[str, Decimal]:
        """The amount in the base currency, exactly; as it is where no rate is known (semantics 37)."""
        if currency == self.base_currency:
            return currency, amount
        rate = self.rates.get(currency)
        if rate is None:
            return currency, amount
        return self.base_currency, money.multiply(amount, rate)
