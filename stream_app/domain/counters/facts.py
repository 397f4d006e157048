"""What records contribute: sessions, conversions with their refunds, leads, costs, bots (semantics 35, 36, 39).

A contribution is a function of the record that is published and of the rules, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from stream_app.domain import money
from stream_app.domain.client import Frozen
from stream_app.domain.costs import Spend
from stream_app.domain.counters.clients import ACQUIRED, ACTIVATED, PAID, REFERRED, RETURNED, VISITED
from stream_app.domain.counters.figures import (
    AD_CLICKS,
    AMOUNTS,
    ASSISTED,
    BOTS,
    CONVERSIONS,
    COST,
    COUNTS,
    ENGAGED_SESSIONS,
    IMPRESSIONS,
    JOINS,
    LEAVES,
    NEW_CLIENTS,
    PAGE_VIEWS,
    PROFIT,
    REFUNDED,
    REFUNDS,
    REVENUE,
    SESSIONS,
    SUSPICIOUS,
    UNDETERMINED,
    VALUE,
    Counts,
)
from stream_app.domain.counters.lines import (
    ALL,
    CHANNEL,
    DEAL,
    GOAL,
    NOTHING,
    VISIT,
    Contribution,
    Line,
    Lines,
    Where,
    where_of,
)
from stream_app.domain.counters.rules import SEGMENT, CountedGoal, CounterRules
from stream_app.domain.counters.windows import LONG_WINDOWS
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.hits import Sale
from stream_app.domain.journey import Session, Touchpoint
from stream_app.domain.lead_counts import Counted
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.domain.sources.model import Source
from stream_app.domain.times import MINUTE_MS, to_ms

REFERRAL_PROGRAMME = "Referral Programme"
"""The channel of arrivals by a referral programme's link or code."""


class Facts:
    """Contributions by one site's rules."""

    def __init__(self, rules: CounterRules) -> None:
        self.rules = rules
        self._goals = {goal.name: goal for goal in rules.goals}
        self._landing = "landing" in rules.dimensions
        self._segments = frozenset(name.removeprefix(SEGMENT) for name in rules.dimensions if name.startswith(SEGMENT))

    def session(self, session: Session, shown: AttributedSession) -> Contribution:
        """A session as published: under its attributed source, at its start."""
        counts = [(SESSIONS, 1)]
        if shown.page_views:
            counts.append((PAGE_VIEWS, shown.page_views))
        if shown.engaged:
            counts.append((ENGAGED_SESSIONS, 1))
        stages = VISITED | RETURNED
        if session.number == 1:
            counts.append((NEW_CLIENTS, 1))
            stages = VISITED | ACQUIRED
        where = where_of(session.attributed.source)
        if where.channel == REFERRAL_PROGRAMME:
            stages |= REFERRED
        extras = (("landing", shown.landing_url),) if self._landing and shown.landing_url else ()
        return Contribution(
            (Line(session.started_at // MINUTE_MS, tuple(counts), where=where, extras=extras),),
            stages,
        )

    def conversion(self, frozen: Frozen, record: AttributedConversion) -> Contribution:
        """A conversion as published: whole under its last non-direct touchpoint, refunds at their own times. A
        program's conversion counts nowhere (semantics 26)."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        if sale.bot:
            return NOTHING
        goal = self._goals.get(sale.goal, _PLAIN)
        touchpoints = frozen.touchpoints
        where = where_of(_credited(touchpoints, record))
        extras = tuple((f"{SEGMENT}{name}", value) for name, value in sale.segment if name in self._segments)
        revenue = goal.paid and not sale.lead_id
        amounts: list[tuple[int, Decimal]] = []
        if record.value is not None:
            value = Decimal(record.value)
            amounts.append((VALUE, value))
            if revenue:
                amounts.append((REVENUE, value))
        if sale.profit is not None and revenue:
            amounts.append((PROFIT, money.rounded(sale.profit, sale.currency)))
        at = hit.at // MINUTE_MS
        lines = self._lines(at, _counts(goal, sale, touchpoints), amounts, where, sale.currency, sale.goal, extras)
        if goal.counted and record.assisting_channels:
            assisted = ((ASSISTED, 1),)
            lines.append(Line(at, assisted, (), where, ALL | GOAL, goal=sale.goal))
            lines += [
                Line(at, assisted, (), Where("", "", "", channel, ""), CHANNEL) for channel in record.assisting_channels
            ]
        for refund in record.refunds:
            taken = Decimal(refund.value)
            back = [(REFUNDED, taken), (REVENUE, -taken)] if revenue else [(REFUNDED, taken)]
            minute = to_ms(datetime.fromisoformat(refund.occurred_at)) // MINUTE_MS
            lines += self._lines(minute, ((REFUNDS, 1),), back, where, sale.currency, sale.goal, extras)
        stages = (ACTIVATED if goal.kind == "activation" else 0) | (PAID if goal.paid else 0)
        if sale.invite_code or _is_referred(touchpoints, hit.at):
            stages |= REFERRED
        answer = (hit.at, hit.id, sale.score) if goal.kind == "nps" and sale.score is not None else None
        if len(lines) == 1 and not lines[0].counts and not lines[0].amounts and not stages and answer is None:
            return NOTHING
        return Contribution(tuple(lines), stages, answer)

    def lead(self, counted: Counted) -> Lines:
        """A lead under its own attribution: itself at its creation, each status at its entry, revenue and profit at the
        entry into `won` (semantics 35, 36, 40)."""
        where = where_of(counted.source)
        segments = tuple((f"{SEGMENT}{name}", value) for name, value in counted.segment if name in self._segments)
        lines = []
        for part in counted.contributions:
            extras = segments
            if part.owner and "owner" in self.rules.dimensions:
                extras += (("owner", part.owner),)
            if part.refusal_reason and "refusal_reason" in self.rules.dimensions:
                extras += (("refusal_reason", part.refusal_reason),)
            counts = [(_COUNT[name], n) for name, n in part.counts]
            amounts: list[tuple[int, Decimal]] = []
            currency = part.currency or self.rules.base_currency
            for name, amount in part.sums:
                if name in _COUNT:
                    counts.append((_COUNT[name], int(amount)))
                else:
                    amounts.append((_AMOUNT[name], money.rounded(amount, currency)))
            lines += self._lines(
                part.minute, tuple((i, n) for i, n in counts if n), amounts, where, currency, counted.goal, extras
            )
        return tuple(lines)

    def spend(self, spend: Spend, minute: int) -> Lines:
        """A row of costs on its day, which begins at `minute`, and in total (semantics 36). Its clicks and impressions
        stand with its money."""
        counts = ((AD_CLICKS, spend.ad_clicks), (IMPRESSIONS, spend.impressions))
        return (
            Line(
                minute,
                tuple((index, n) for index, n in counts if n),
                ((COST, spend.cost),) if spend.cost else (),
                where_of(spend.source),
                VISIT,
                LONG_WINDOWS,
                "" if spend.currency == self.rules.base_currency else spend.currency,
            ),
        )

    def bot(self, at: int) -> Line:
        """A click of a program or with a spam referrer: in `all` alone."""
        return Line(at // MINUTE_MS, ((BOTS, 1),), dimensions=ALL)

    def _lines(
        self,
        minute: int,
        counts: Counts,
        amounts: Sequence[tuple[int, Decimal]],
        where: Where,
        currency: str,
        goal: str,
        extras: tuple[tuple[str, str], ...],
    ) -> list[Line]:
        """Counts with amounts of the base currency; amounts of another one on a line of their own."""
        kept = tuple((index, amount) for index, amount in amounts if amount)
        if not kept:
            return [Line(minute, counts, (), where, DEAL, goal=goal, extras=extras)]
        brought_to = self.rules.in_base(_ZERO, currency)[0]
        converted = tuple((index, self.rules.in_base(amount, currency)[1]) for index, amount in kept)
        if brought_to == self.rules.base_currency:
            return [Line(minute, counts, converted, where, DEAL, goal=goal, extras=extras)]
        return [
            Line(minute, counts, (), where, DEAL, goal=goal, extras=extras),
            Line(minute, (), converted, where, DEAL, currency=brought_to, goal=goal, extras=extras),
        ]


def _credited(touchpoints: Sequence[Touchpoint], record: AttributedConversion) -> Source:
    """The source that the record credits as the last non-direct one, with what the record does not show of it."""
    credit = record.credits["last_non_direct"][0]
    for touchpoint in reversed(touchpoints):
        source = touchpoint.source
        if (source.source, source.medium, source.campaign) == (credit.source, credit.medium, credit.campaign):
            return source
    return NOT_DETERMINED


def _is_referred(touchpoints: Sequence[Touchpoint], at: int) -> bool:
    """Whether a conversion is itself an arrival of a referral programme: by its code."""
    if not touchpoints:
        return False
    last = touchpoints[-1]
    return last.at == at and last.source.channel == REFERRAL_PROGRAMME


def _counts(goal: CountedGoal, sale: Sale, touchpoints: Sequence[Touchpoint]) -> Counts:
    """What a conversion counts at its own time."""
    counts = []
    if goal.counted:
        counts.append((CONVERSIONS, 1))
        if not touchpoints:
            counts.append((UNDETERMINED, 1))
    if goal.kind == "join":
        counts.append((JOINS, 1))
        if sale.suspicious:
            counts.append((SUSPICIOUS, 1))
    elif goal.kind == "leave":
        counts.append((LEAVES, 1))
    return tuple(counts)


_ZERO = Decimal(0)
_COUNT = {name: index for index, name in enumerate(COUNTS)}
_AMOUNT = {name: index for index, name in enumerate(AMOUNTS)}
_PLAIN = CountedGoal("")
