"""Figures of referral programmes: what is counted under which keys, and the record of `referral-counters`
(semantics 49)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from stream_app.domain.counters.dimensions import OTHER
from stream_app.domain.counters.records import price, ratio
from stream_app.domain.counters.windows import DAY, NAMES, TOTAL
from stream_app.domain.money import add, shown
from stream_app.domain.records import Money, RecordId, Revision, Timestamp
from stream_app.domain.referral.cohorts import REPEATS, repeats_of
from stream_app.domain.referral.facts import Sales
from stream_app.domain.referral.ledger import REJECTED, Entry, Sums
from stream_app.domain.referral.member import Membership
from stream_app.domain.times import MINUTE_MS, rfc3339

COUNTERS: Final = "referral-counters"
DELTA: Final = "referral-delta"
"""Name of what is gathered, and kind of the record that it becomes."""

SUMS: Final = Sums.__struct_fields__
Place = tuple[str, tuple[str, ...]]
"""(dimension, keys)"""
FIELDS: Final = {
    "program": ("program",),
    "code": ("program", "code"),
    "advocate_kind": ("program", "advocate_kind"),
    "level": ("program", "level"),
}
"""Dimension → names of its keys."""
REFERRED: Final = "referred_"
"""Begins the name of what is counted of referred customers; without it: of all."""
COHORT_COUNTS: Final = tuple(REFERRED * i + name for i in (0, 1) for name in ("customers", *REPEATS))
COHORT_SUMS: Final = ("revenue", f"{REFERRED}revenue")
BOUNDED: Final = frozenset({"code", "advocate_kind"})
"""Dimensions of which anybody can make up values: those that find no place count under `(other)` of their programme."""
BLOCKS: Final = frozenset({"own_code", "existing_customer", "code_not_valid"})


class Figures(msgspec.Struct, gc=False, array_like=True):
    """Counts by name, and sums by currency and name."""

    counts: dict[str, int] = {}
    sums: dict[str, dict[str, Decimal]] = {}

    def add(self, other: Figures, sign: int = 1) -> None:
        """Adds another's, or takes them away."""
        for name, n in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + sign * n
        for currency, amounts in other.sums.items():
            mine = self.sums.setdefault(currency, {})
            for name, amount in amounts.items():
                mine[name] = add(mine.get(name, Decimal(0)), sign * amount)

    def tidy(self) -> None:
        """Without zeros."""
        self.counts = {name: n for name, n in self.counts.items() if n}
        self.sums = {
            currency: kept
            for currency, amounts in self.sums.items()
            if (kept := {name: amount for name, amount in amounts.items() if amount})
        }

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return not self.counts and not self.sums


class Change(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is added around one minute."""

    minute: int
    figures: Figures


class Delta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-delta`: what is added under one key."""

    dimension: str
    keys: tuple[str, ...]
    changes: tuple[Change, ...]


def places(program: str, code: str = "", advocate_kind: str = "", level: int = 0) -> tuple[Place, ...]:
    """Where something counts: under its programme, and under whatever else is known of it."""
    found: list[Place] = [("program", (program,))]
    if code:
        found.append(("code", (program, code)))
    if advocate_kind:
        found.append(("advocate_kind", (program, advocate_kind)))
    if level:
        found.append(("level", (program, str(level))))
    return tuple(found)


def gather(gathered: dict[Any, Any], where: Iterable[Place], minute: int, figures: Figures, sign: int = 1) -> None:
    """Adds figures to what a commit gathers."""
    for place in where:
        found = gathered.get((place, minute))
        if found is None:
            found = gathered[place, minute] = Figures({}, {})
        found.add(figures, sign)


class Cell(NamedTuple):
    """Something a person counts for: what, where, in which minute."""

    name: str
    program: str
    advocate_kind: str
    minute: int


class Revenue(NamedTuple):
    """What a person has brought: in which sum, programme and currency."""

    name: str
    program: str
    currency: str


class Standing(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What figures show of a person besides rewards: as a user of programmes, as one who refers, as a customer."""

    users: tuple[tuple[str, str, int, int], ...] = ()
    """(programme, kind of advocate, minute, 1 or -1): who came, or left."""
    referred: tuple[tuple[str, int], ...] = ()
    """Programme → people whom this person referred."""
    inviting: tuple[str, ...] = ()
    """Those of them in which the person has sent invitations."""
    repeats: int = -1
    """A customer: in how many of the periods of `REPEATS` they came back; -1: none."""
    revenue: dict[str, Decimal] = {}  # msgspec copies it for each struct
    programs: tuple[str, ...] = ()
    """Those that a customer counts in: all there were."""
    referred_in: tuple[str, ...] = ()
    """Those of them in which somebody referred the person."""

    def cells(self) -> dict[Cell, int]:
        """What it counts."""
        cells: dict[Cell, int] = {}
        for program, kind, minute, n in self.users:
            cell = Cell("users", program, kind, minute)
            cells[cell] = cells.get(cell, 0) + n
        for program, referred in self.referred:
            if program in self.inviting:
                cells[Cell("invited_referred", program, "", 0)] = referred
            if self.repeats >= 0:
                cells[Cell("referring_customers", program, "", 0)] = 1
        if self.repeats >= 0:
            names = ("customers", *_PERIODS[len(_PERIODS) - self.repeats :])
            for program in self.programs:
                for name in (*names, *(REFERRED + name for name in names)) if program in self.referred_in else names:
                    cells[Cell(name, program, "", 0)] = 1
        return {cell: n for cell, n in cells.items() if n}

    def brought(self) -> dict[Revenue, Decimal]:
        """A customer's revenue, as each programme counts it."""
        return {
            Revenue(name, program, currency): amount
            for program in self.programs
            for name in (COHORT_SUMS if program in self.referred_in else COHORT_SUMS[:1])
            for currency, amount in self.revenue.items()
        }


_PERIODS = tuple(REPEATS)
"""Who came back within one of them did so within all that follow."""


def standing_of(
    memberships: Sequence[Membership],
    programs: Iterable[str],
    bound: Mapping[str, int],
    invites: Mapping[str, int],
    sales: Sales,
    referred_in: Collection[str],
) -> Standing:
    """Where a person stands who is referred in the programmes `referred_in`."""
    referred = tuple((program, n) for program, n in bound.items() if n)
    inviting = tuple(program for program, _ in referred if invites.get(program))
    if sales.first is None:
        return Standing(_users(memberships), referred, inviting)
    counted = tuple(programs)
    return Standing(
        _users(memberships),
        referred,
        inviting,
        len(repeats_of(sales)),
        sales.revenue,
        counted,
        tuple(program for program in counted if program in referred_in),
    )


def _users(memberships: Sequence[Membership]) -> tuple[tuple[str, str, int, int], ...]:
    found = []
    active: dict[str, str] = {}
    for membership in memberships:
        program = membership.program
        was = active.get(program)
        if membership.joined == (was is not None):
            continue
        kind = membership.advocate_kind if membership.joined else was or ""
        found.append((program, kind, membership.at // MINUTE_MS, 1 if membership.joined else -1))
        if membership.joined:
            active[program] = kind
        else:
            del active[program]
    return tuple(found)


def counts_of(entry: Entry) -> dict[str, int]:
    """What a reward counts besides its money: conversions stand at level 1, once."""
    if entry.walk.level != 1 or not entry.currency:
        return {}
    if entry.status == REJECTED and BLOCKS.intersection(entry.reasons):
        return {"refused_fraud": 1}
    if not entry.due and entry.status != REJECTED:
        return {}
    return {"conversions": 1, "qualified": 1} if entry.walk.first else {"conversions": 1}


def figures_of(counts: Mapping[str, int], currency: str, sums: Sums) -> Figures:
    """A reward's figures."""
    amounts = {name: amount for name in SUMS if (amount := getattr(sums, name))}
    return Figures(dict(counts), {currency: amounts} if amounts else {})


def other_of(place: Place) -> Place:
    """Where what finds no place counts."""
    dimension, keys = place
    return dimension, (*keys[:-1], OTHER)


def key_of(dimension: str, keys: tuple[str, ...]) -> bytes:
    """The key of a counter."""
    return "\x1f".join((dimension, *keys)).encode()


# --- records -------------------------------------------------------------------------------------------------


class ReferralCounts(msgspec.Struct, frozen=True, gc=False):
    """Counts, in the record of the base currency."""

    visits: Annotated[int, Meta(description="Visits with an active code; counted once they are settled.")]
    invites: Annotated[int, Meta(description="Invitations sent; by programme only.")]
    referred: Annotated[int, Meta(description="People newly bound to a referrer.")]
    qualified: Annotated[int, Meta(description="Of them: first conversions that qualified.")]
    conversions: Annotated[int, Meta(description="Qualifying conversions, first and later ones.")]
    refused_fraud: Annotated[int, Meta(description="Conversions that a rule blocked.")]
    users: Annotated[int, Meta(description="Enrolled and not left at the window's end; `1d` and `total`.")]


class ReferralSums(msgspec.Struct, frozen=True, gc=False):
    """Rewards by what became of them: earned is the sum of all others."""

    earned: Money
    pending: Money
    on_hold: Money
    approved: Money
    paid: Money
    rejected: Money
    refunded: Money


Ratio = Annotated[str | None, Meta(description="Decimal string with at most 6 decimals; null: no denominator.")]


class ReferralRates(msgspec.Struct, frozen=True, gc=False):
    """What follows from the counts."""

    k_factor: Annotated[Ratio, Meta(description="referred / users; `1d` and `total`.")]
    invite_conversion: Annotated[Ratio, Meta(description="Referred by somebody who invites / invites; `total`.")]
    share_of_customers: Annotated[Ratio, Meta(description="Customers who referred somebody / customers; `total`.")]


class Cohort(msgspec.Struct, frozen=True, gc=False):
    """Customers of one kind, since the programme was set up."""

    customers: Annotated[int, Meta(description="People with at least one paid conversion.")]
    repeat_30d: Annotated[int, Meta(description="Of them: paid again within 30 days of the first.")]
    repeat_90d: Annotated[int, Meta(description="Of them: paid again within 90 days of the first.")]
    repeat_365d: Annotated[int, Meta(description="Of them: paid again within 365 days of the first.")]
    revenue: Annotated[Money, Meta(description="Paid conversions less refunds, in the record's currency.")]
    revenue_per_customer: Annotated[Money | None, Meta(description="revenue / customers; null: no customers.")]


class Cohorts(msgspec.Struct, frozen=True, gc=False):
    """Customers that somebody referred in this programme, against all others."""

    referred: Cohort
    other: Cohort


class ReferralCounter(msgspec.Struct, frozen=True, gc=False):
    """Live figures of one window and key. Topic `referral-counters`, compacted, key `id`; a tombstone ends it."""

    id: RecordId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="Counters are ended by tombstones.")]
    truncated: Literal[False]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    window: Literal["1m", "1h", "1d", "total"]
    window_start: Annotated[Timestamp | None, Meta(description="Hours and days of the property's zone; null: total.")]
    dimension: Literal["program", "code", "advocate_kind", "level"]
    keys: dict[str, str]
    currency: str
    counts: Annotated[ReferralCounts | None, Meta(description="Null in records of other currencies.")]
    sums: ReferralSums
    rates: ReferralRates
    cohorts: Annotated[Cohorts | None, Meta(description="Of programmes, in `total`; otherwise null.")] = None


def cohorts_of(figures: Figures, currency: str) -> Cohorts:
    """Both kinds of customers, their revenue in one currency."""
    counts, sums = figures.counts, figures.sums.get(currency, {})
    of_all = [counts.get(name, 0) for name in ("customers", *REPEATS)]
    referred = [counts.get(REFERRED + name, 0) for name in ("customers", *REPEATS)]
    revenue, theirs = (sums.get(name, Decimal(0)) for name in COHORT_SUMS)
    return Cohorts(
        _cohort(referred, theirs, currency),
        _cohort([n - m for n, m in zip(of_all, referred, strict=True)], add(revenue, -theirs), currency),
    )


def _cohort(counts: Sequence[int], revenue: Decimal, currency: str) -> Cohort:
    customers, in_30d, in_90d, in_365d = counts
    average = price(revenue, customers, currency)
    return Cohort(customers, in_30d, in_90d, in_365d, shown(revenue, currency), average)


def counter_id(key: bytes, kind: int, start: int, currency: str) -> str:
    """Derived from the key, the window and the currency."""
    return blake2b(b"%b\x1f%d:%d:%b" % (key, kind, start, currency.encode()), digest_size=8).hexdigest()


def record_of(
    place: Place,
    kind: int,
    start: int,
    currency: str,
    figures: Figures,
    users: int,
    *,
    base: bool,
    revision: int,
    rules_version: str,
) -> ReferralCounter:
    """The record of one window and currency."""
    dimension, keys = place
    counts, sums = figures.counts, figures.sums.get(currency, {})
    referred = counts.get("referred", 0)
    total = base and kind == TOTAL
    invites, customers = counts.get("invites", 0), counts.get("customers", 0)
    return ReferralCounter(
        counter_id(key_of(dimension, keys), kind, start, currency),
        revision,
        False,
        False,
        rules_version,
        NAMES[kind],
        None if kind == TOTAL else rfc3339(start * MINUTE_MS),
        dimension,  # type: ignore[arg-type]  # only these are made
        dict(zip(FIELDS[dimension], keys, strict=True)),
        currency,
        ReferralCounts(
            counts.get("visits", 0),
            invites,
            referred,
            counts.get("qualified", 0),
            counts.get("conversions", 0),
            counts.get("refused_fraud", 0),
            users if kind >= DAY else 0,
        )
        if base
        else None,
        ReferralSums(*(shown(sums.get(name, Decimal(0)), currency) for name in SUMS)),
        ReferralRates(
            ratio(referred, users) if base and kind >= DAY else None,
            ratio(counts.get("invited_referred", 0), invites) if total else None,
            ratio(counts.get("referring_customers", 0), customers) if total else None,
        ),
        cohorts_of(figures, currency) if kind == TOTAL and dimension == "program" else None,
    )
