"""Programmes: what they pay for, to whom, how much and how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Literal, get_args

import msgspec

from stream_app.domain.money import MINOR_UNITS, minor_unit
from stream_app.domain.times import DAY_MS, MINUTE_MS

ProgramKind = Literal[
    "customers", "champions", "ecosystem", "employees", "partner_network", "expert_club", "mastermind"
]
"""Who refers in it: satisfied customers, ambassadors, neighbouring businesses, the staff, resellers and agents, experts
with an audience, circles of business owners."""
AdvocateKind = Literal[
    "customer",
    "past_customer",
    "partner",
    "employee",
    "family",
    "friend",
    "influencer",
    "expert",
    "centre_of_influence",
    "stranger",
    "other",
]
ADVOCATE_KINDS: tuple[str, ...] = get_args(AdvocateKind)
LeadStatus = Literal["mql", "sql", "won"]
LEAD_STATUSES: tuple[str, ...] = get_args(LeadStatus)
Occasion = Literal["any", "first", "repeat"]
RewardKind = Literal["percent", "fixed", "discount", "gift"]
CapPeriod = Literal["day", "month", "year", "total"]
MAX_LEVELS = 3

_WIDE = Context(prec=80)


class Rate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`10%` of the basis, or a fixed `15.00` in the programme's currency."""

    value: Decimal
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Rate:
        """From `"10%"` or `"15.00"`; ValueError for anything else."""
        number = text.strip()
        percent = number.endswith("%")
        try:
            value = Decimal(number[:-1] if percent else number)
        except ArithmeticError:
            raise ValueError(f'"{text}" is no rate; allowed: a percentage as "10%" or an amount as "15.00"') from None
        if not value.is_finite() or value < 0:
            raise ValueError(f'"{text}" is no rate; allowed: 0 or more')
        return cls(value, percent)

    def __str__(self) -> str:
        return f"{self.value:f}%" if self.percent else f"{self.value:f}"


class RateRule(msgspec.Struct, frozen=True, gc=False):
    """Rates by level that hold under conditions; all that are given must be met. Of those that match the one that
    pays most counts (semantics 44)."""

    levels: tuple[Rate, ...]
    advocate_kinds: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    minimum: Decimal = Decimal(0)
    """Least basis, in the programme's currency."""
    occasion: Occasion = "any"
    starts: int = 0
    ends: int = 0
    """From and to, epoch ms; the end is outside; 0: open."""

    def matches(self, terms: Terms) -> bool:
        """Whether these rates hold for a conversion."""
        return (
            (not self.advocate_kinds or terms.advocate_kind in self.advocate_kinds)
            and (not self.goals or terms.goal in self.goals)
            and (self.occasion == "any" or (self.occasion == "first") == terms.first)
            and self.starts <= terms.at
            and (not self.ends or terms.at < self.ends)
        )


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What rates depend on."""

    level: int
    at: int
    goal: str
    advocate_kind: str
    first: bool
    """The referred person's first qualifying conversion."""
    basis: Decimal | None
    currency: str
    amendable: bool = False
    """The basis may be another later."""


class ReferredReward(msgspec.Struct, frozen=True, gc=False):
    """What the referred person gets, once, with the conversion that bound them."""

    kind: RewardKind
    rate: Rate


class FraudRules(msgspec.Struct, frozen=True, gc=False):
    """Which suspicions put a reward on hold. Blocks always apply."""

    same_ip: int = 3
    """More conversions than this from one ip are held; 0: the rule is off."""
    burst: int = 0
    """More conversions than this within `burst_ms` are held; 0: off."""
    burst_ms: int = 60 * MINUTE_MS
    similar: bool = True
    """Similar name or e-mail of referrer and referred."""
    disposable_mail: bool = True
    free_mail: bool = False
    """A mailbox at a free mail service, for programmes among companies."""
    brand_bidding: bool = True
    """A paid advertisement's click id on a referral link."""
    coupon_sites: tuple[str, ...] = ()
    """Hosts whose links to a referral link are held; subdomains included."""


class Program(msgspec.Struct, frozen=True, gc=False):
    """One programme, checked. Times and spans in milliseconds, money in `currency`."""

    name: str
    levels: tuple[Rate, ...]
    currency: str = "EUR"
    kind: ProgramKind = "customers"
    goals: tuple[str, ...] = ()
    """Goals that qualify: they bind and earn."""
    statuses: tuple[str, ...] = ()
    """Lead statuses that qualify; their basis is the lead's revenue."""
    attribution: Literal["first", "last"] = "first"
    basis: Literal["value", "profit"] = "value"
    reward: Literal["money", "discount", "gift"] = "money"
    rates: tuple[RateRule, ...] = ()
    lookback_ms: int = 365 * DAY_MS
    convert_within_ms: int = 0
    holding_ms: int = 14 * DAY_MS
    minimum_payout: Decimal = Decimal(0)
    minimum_order: Decimal = Decimal(0)
    first_purchases: int = 0
    first_months: int = 0
    cap: Decimal = Decimal(0)
    """Most that one referrer earns in a period; 0: no cap."""
    cap_period: CapPeriod = "month"
    exclusive: bool = True
    starts: int = 0
    ends: int = 0
    referred: ReferredReward | None = None
    review_ms: int = 30 * DAY_MS
    on_deadline: Literal["approve", "reject"] = "approve"
    fraud: FraudRules = FraudRules()

    def qualifies(self, goal: str, status: str) -> bool:
        """Whether a goal, or a lead's status, is one that this programme pays for."""
        return status in self.statuses if status else goal in self.goals

    def runs_at(self, at: int) -> bool:
        """Whether the programme is valid at a time."""
        return self.starts <= at and (not self.ends or at < self.ends)

    def earns_at(self, at: int, bound_at: int) -> bool:
        """Whether a conversion comes soon enough after binding (`first_months`, `convert_within_days`)."""
        if self.convert_within_ms and at - bound_at > self.convert_within_ms:
            return False
        return not self.first_months or at < months_later(bound_at, self.first_months)

    def period(self, at: int) -> str:
        """The period of the cap in which a time falls, in UTC."""
        moment = datetime.fromtimestamp(at / 1000, UTC)
        match self.cap_period:
            case "day":
                return f"{moment:%Y-%m-%d}"
            case "month":
                return f"{moment:%Y-%m}"
            case "year":
                return f"{moment:%Y}"
            case "total":
                return ""


class Programs:
    """All programmes of a deployment, with the rates between currencies."""

    def __init__(self, programs: Sequence[Program], exchange: Exchange | None = None) -> None:
        self.by_name = {program.name: program for program in programs}
        self.exchange = exchange or Exchange("EUR", {})
        self.goals = frozenset(goal for program in programs for goal in program.goals)
        self.statuses = frozenset(status for program in programs for status in program.statuses)
        self.statuses = frozenset(status for program in programs for status in program.statuses)

    def __bool__(self) -> bool:
        return bool(self.by_name)


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """Static rates: one unit of a currency is worth so much of the base."""

    base: str
    rates: Mapping[str, Decimal]

    def convert(self, amount: Decimal, source: str, target: str) -> Fraction | None:
        """Exact; None if a rate is missing (`no_rate`)."""
        if source == target:
            return Fraction(amount)
        there, back = self._rate(source), self._rate(target)
        return Fraction(amount) * there / back if there and back else None

    def _rate(self, currency: str) -> Fraction | None:
        if currency == self.base:
            return Fraction(1)
        rate = self.rates.get(currency)
        return Fraction(rate) if rate is not None else None


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What a conversion is worth to one level, before refunds and caps."""

    rate: Rate
    amount: Decimal
    currency: str
    no_rate: bool = False
    """An amount between currencies could not be compared."""


def best_offer(program: Program, terms: Terms, exchange: Exchange) -> Offer | None:
    """The best matching rate for a level, half-up at the currency's minor unit; None if the level is not paid."""
    if not program.rates:
        if len(program.levels) < terms.level:
            return None
        return _offered(program.levels[terms.level - 1], terms, program)
    offers: list[Offer] = []
    for rule in (RateRule(levels=program.levels), *program.rates):
        if len(rule.levels) < terms.level or not rule.matches(terms):
            continue
        unsure = False
        if rule.minimum:
            basis = (
                exchange.convert(terms.basis, terms.currency, program.currency)
                if terms.basis is not None
                else Fraction(0)
            )
            if basis is None:
                unsure = True
            elif basis < rule.minimum:
                continue
        offer = _offered(rule.levels[terms.level - 1], terms, program)
        if offer is None:
            continue
        if unsure:
            offer = msgspec.structs.replace(offer, no_rate=True)
        offers.append(offer)
    if len({offer.currency for offer in offers}) < 2:
        return max(offers, key=lambda offer: offer.amount, default=None)
    rated = [exchange.convert(offer.amount, offer.currency, program.currency) for offer in offers]
    values = [Fraction(offer.amount) if rate is None else rate for offer, rate in zip(offers, rated, strict=True)]
    best = offers[values.index(max(values))]
    return msgspec.structs.replace(best, no_rate=True) if None in rated else best


def _offered(rate: Rate, terms: Terms, program: Program) -> Offer | None:
    return offered(rate, terms.basis, terms.currency, program.currency, amendable=terms.amendable)


def offered(
    rate: Rate, basis: Decimal | None, currency: str, program_currency: str, *, amendable: bool = False
) -> Offer | None:
    """A rate's amount: of the basis in its currency, or fixed in the programme's. None: a percentage of nothing, or of
    a loss, which nothing amends."""
    if not rate.percent:
        amount = half_up(Fraction(rate.value), program_currency)
        return Offer(rate, amount, program_currency) if amount else None
    basis = max(basis or Decimal(0), Decimal(0))
    amount = _WIDE.multiply(basis, rate.value).scaleb(-2, _WIDE).quantize(minor_unit(currency), ROUND_HALF_UP, _WIDE)
    return Offer(rate, amount, currency) if amount or amendable else None


def half_up(amount: Fraction, currency: str) -> Decimal:
    """Half-up, away from zero, at the currency's minor unit. Exact: no division is ever rounded twice."""
    unit = minor_unit(currency)
    units = amount / Fraction(unit)
    sign = -1 if units < 0 else 1
    whole, rest = divmod(abs(units.numerator), units.denominator)
    if 2 * rest >= units.denominator:
        whole += 1
    return _WIDE.multiply(Decimal(sign * whole), unit).quantize(unit, ROUND_HALF_UP, _WIDE)


def months_later(at: int, months: int) -> int:
    """The same moment so many calendar months later (UTC), or the month's last day."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    month = moment.month - 1 + months
    year, month = moment.year + month // 12, month % 12 + 1
    for day in (moment.day, 30, 29, 28):
        try:
            later = moment.replace(year=year, month=month, day=day)
        except ValueError:
            continue
        return int(later.timestamp()) * 1000 + at % 1000
    raise AssertionError("every month has 28 days")


def problems(program: Program) -> Iterator[tuple[str, str]]:
    """What is wrong with a programme: (key, what and what would be right)."""
    if not 1 <= len(program.levels) <= MAX_LEVELS:
        yield "levels", f"has {len(program.levels)} levels; allowed: 1 to {MAX_LEVELS}"
    if program.currency not in MINOR_UNITS:
        yield "currency", f'= "{program.currency}" is no ISO 4217 currency'
    yield from _level_problems("levels", program.levels)
    yield from _rate_problems(program)
    if program.ends and program.ends <= program.starts:
        yield "valid_to", "is not after valid_from: the programme would never run"
    if not program.goals and not program.statuses:
        yield "goals", "name no goal and no lead status: nothing would ever qualify"
    if program.cap_period == "total" and program.cap and program.minimum_payout > program.cap:
        yield (
            "minimum_payout",
            f"= {program.minimum_payout:f} is above the cap of {program.cap:f}: nothing could be paid",
        )
    yield from _referred_problems(program.referred)


def _rate_problems(program: Program) -> Iterator[tuple[str, str]]:
    rates = boosts = 0
    for rule in program.rates:
        if rule.starts or rule.ends:
            where, boosts = f"boosts[{boosts}]", boosts + 1
        else:
            where, rates = f"rates[{rates}]", rates + 1
        yield from _level_problems(where, rule.levels)
        if len(rule.levels) > len(program.levels):
            yield where, f"has {len(rule.levels)} levels; the programme has {len(program.levels)}"
        for kind in rule.advocate_kinds:
            if kind not in ADVOCATE_KINDS:
                yield where, f'advocate kind "{kind}" is not known; allowed: {", ".join(ADVOCATE_KINDS)}'
        if rule.ends and rule.ends <= rule.starts:
            yield where, "ends before it begins"


def _referred_problems(referred: ReferredReward | None) -> Iterator[tuple[str, str]]:
    if referred is None:
        return
    if referred.kind == "percent" and not referred.rate.percent:
        yield "referred_reward.amount", f'= "{referred.rate}" is an amount; kind "percent" needs one as "5%"'
    if referred.kind == "fixed" and referred.rate.percent:
        yield (
            "referred_reward.amount",
            f'= "{referred.rate}" is a percentage; kind "fixed" needs an amount as "5.00"',
        )


def _level_problems(where: str, levels: Sequence[Rate]) -> Iterator[tuple[str, str]]:
    percents = [rate.value for rate in levels if rate.percent]
    total = sum(percents, Decimal(0))
    if total > 100:
        shown = " + ".join(f"{value:f}" for value in percents)
        yield (
            where,
            f"sum to {shown} = {total:f} %; allowed: at most 100 %, or a sale would pay out more than it brings",
        )
    for above, below in pairwise(levels):
        if above.percent == below.percent and below.value > above.value:
            yield where, f"rise from {above} to {below}; allowed: falling or equal rates, nearest level first"
