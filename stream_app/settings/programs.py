"""Programmes of the settings → the domain's rules."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from stream_app.domain.referral import programs as domain
from stream_app.domain.times import DAY_MS, MINUTE_MS, to_ms

if TYPE_CHECKING:
    from stream_app.settings.model import Boost, Program, ProgramRate, Settings

Problem = tuple[str, str]
PAID_BY_DEFAULT = frozenset({"purchase"})
"""Kinds of goals that are paid unless their settings say otherwise (semantics 39)."""


def programs_of(settings: Settings) -> domain.Programs:
    """All programmes, with the exchange rates of `[costs]`."""
    currency, paid = settings.site.currency, paid_goals(settings)
    exchange = domain.Exchange(settings.base_currency, settings.costs.rates)
    return domain.Programs([program_of(program, currency, paid) for program in settings.programs], exchange)


def paid_goals(settings: Settings) -> frozenset[str]:
    """Goals whose value is revenue; a goal `purchase` that is not listed is one."""
    listed = {goal.name: goal for goal in settings.goals}
    paid = {g.name for g in settings.goals if (g.paid if g.paid is not None else g.kind in PAID_BY_DEFAULT)}
    return frozenset(paid | ({"purchase"} - listed.keys()))


def problems_of(program: Program) -> Iterator[Problem]:
    """What is wrong with one programme, by key."""
    unusable = False
    for key in ("valid_from", "valid_to"):
        if (text := getattr(program, key)) and _ms(text) is None:
            unusable = True
            yield key, f'= "{text}" is no time; allowed: RFC 3339 with an offset, as 2026-12-01T00:00:00Z'
    for number, boost in enumerate(program.boosts):
        for name, text in (("from", boost.start), ("to", boost.end)):
            if _ms(text) is None:
                unusable = True
                yield f"boosts[{number}].{name}", f'= "{text}" is no time; allowed: RFC 3339 with an offset'
    if not unusable:
        yield from domain.problems(program_of(program, "EUR", frozenset({"purchase"})))


def doubts_of(settings: Settings, program: Program) -> Iterator[str]:
    """What is allowed and looks like a slip: a goal needs no settings, but is seldom named nearly like one that has."""
    known = {*(goal.name for goal in settings.goals), *domain.LEAD_STATUSES, "purchase"}
    named = [*program.goals, *program.qualifies_on, *(goal for rate in program.rates for goal in rate.goals)]
    for name in dict.fromkeys(named):
        if name not in known and (close := difflib.get_close_matches(name, sorted(known), n=1)):
            yield f'goal "{name}" is in no [[goals]]; did you mean "{close[0]}"?'


def program_of(program: Program, currency: str, paid: frozenset[str]) -> domain.Program:
    """One programme as the domain knows it."""
    statuses = tuple(name for name in program.qualifies_on if name in domain.LEAD_STATUSES)
    goals = (*program.goals, *(name for name in program.qualifies_on if name not in domain.LEAD_STATUSES))
    referred = program.referred_reward
    fraud = program.fraud
    return domain.Program(
        name=program.name,
        levels=_levels(program.levels),
        currency=program.currency or currency,
        kind=program.kind,
        goals=goals if goals or statuses else tuple(sorted(paid)),
        statuses=statuses,
        attribution=program.attribution,
        basis=program.basis,
        reward=program.reward,
        rates=(*map(_rule, program.rates), *map(_boost, program.boosts)),
        lookback_ms=program.lookback_days * DAY_MS,
        convert_within_ms=program.convert_within_days * DAY_MS,
        holding_ms=program.holding_days * DAY_MS,
        minimum_payout=program.minimum_payout,
        minimum_order=program.minimum_order,
        first_purchases=program.first_purchases,
        first_months=program.first_months,
        cap=program.cap,
        cap_period=program.cap_period,
        exclusive=program.exclusive,
        starts=_ms(program.valid_from) or 0,
        ends=_ms(program.valid_to) or 0,
        referred=domain.ReferredReward(referred.kind, domain.Rate.parse(referred.amount)) if referred else None,
        review_ms=program.review_days * DAY_MS,
        on_deadline=program.on_deadline,
        fraud=domain.FraudRules(
            fraud.same_ip,
            fraud.burst,
            fraud.burst_minutes * MINUTE_MS,
            fraud.similar,
            fraud.disposable_mail,
            fraud.free_mail,
            fraud.brand_bidding,
            tuple(host.lower() for host in fraud.coupon_sites),
        ),
    )


def _rule(rate: ProgramRate) -> domain.RateRule:
    return domain.RateRule(_levels(rate.levels), rate.advocate_kinds, rate.goals, Decimal(rate.minimum), rate.occasion)


def _boost(boost: Boost) -> domain.RateRule:
    return domain.RateRule(_levels(boost.levels), starts=_ms(boost.start) or 0, ends=_ms(boost.end) or 0)


def _levels(levels: tuple[str, ...]) -> tuple[domain.Rate, ...]:
    return tuple(domain.Rate.parse(level) for level in levels)


def _ms(text: str) -> int | None:
    """Epoch ms of a time with an offset; None if it is none."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    return to_ms(moment) if moment.tzinfo is not None else None
