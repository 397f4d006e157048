"""The books of one person: what is owed for each conversion, what became of it, and the sums.

An entry is a (programme, conversion, level). Amounts are exact decimals; every amount is rounded once, half-up, where
it is owed (semantics 44–46).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from stream_app.domain.ids import SEPARATOR, short
from stream_app.domain.money import add
from stream_app.domain.referral.facts import Amended, Moment, RefundLine, Walk
from stream_app.domain.referral.programs import Program, Rate, RewardKind, half_up

PENDING: Final = 0
ON_HOLD: Final = 1
APPROVED: Final = 2
PAID: Final = 3
REJECTED: Final = 4
REFUNDED: Final = 5
STATUSES: Final = ("pending", "on_hold", "approved", "paid", "rejected", "refunded")

ZERO: Final = Decimal(0)
MONEY_KINDS: Final = frozenset({"percent", "fixed"})
"""Kinds of reward that are paid out; discounts and gifts are given otherwise."""


def reward_id(program: str, conversion_id: str, level: int, person: str) -> str:
    """One reward for each (programme, conversion, level); level 0 is the referred person's. The person is part of the
    id: when a late event moves a reward to somebody else, whose records another task writes, a retraction and a new
    record must not compete under one id."""
    return short(f"{program}{SEPARATOR}{conversion_id}{SEPARATOR}{level}{SEPARATOR}{person}")


class Clawback(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a refund takes back of a reward that was paid: a negative reward of its own, approved at once. Or what an
    amendment of a deal makes it less, or more."""

    event_id: str
    at: int
    amount: Decimal
    refund: RefundLine | None
    """None: the conversion itself was withdrawn."""
    paid_at: int = 0
    payout: str = ""
    digest: int = 0


class Entry(msgspec.Struct, gc=False, array_like=True):
    """One reward."""

    id: str
    walk: Walk
    kind: RewardKind
    rate: Rate
    currency: str
    gross: Decimal
    """Owed at first, after the cap."""
    status: int
    reasons: tuple[str, ...]
    due: int
    """pending: when it is approved; on_hold: when the time for review is over."""
    advocate_kind: str = ""
    basis: Decimal | None = None
    approved_at: int = 0
    paid_at: int = 0
    paid: Decimal = ZERO
    payout: str = ""
    covered: tuple[RefundLine, ...] = ()
    """Refunds that were taken into account when it was paid."""
    withdrawn: str = ""
    """Event that took the conversion back."""
    clawbacks: tuple[Clawback, ...] = ()
    next: str = ""
    """Who was told at the next level."""
    next_digest: int = 0
    digest: int = 0
    """Of the record last written; 0: none."""
    of_profit: bool = False
    """The basis is the profit."""
    is_capped: bool = False
    """Its programme has a cap: it is never worth more than at first."""
    others: tuple[Walk, ...] = ()
    """What others have said of it before, and not taken back yet."""
    is_gone: bool = False
    """Nobody says anything of it any more."""

    @property
    def refunds(self) -> tuple[RefundLine, ...]:
        """Refunds that count: those known now, and those that money has moved for."""
        if not (self.walk.purchase.refunds or self.covered or self.clawbacks):
            return ()
        lines = {line.event_id: line for line in self.walk.purchase.refunds}
        lines.update({line.event_id: line for line in self.covered})
        lines.update({c.refund.event_id: c.refund for c in self.clawbacks if c.refund is not None and c.paid_at})
        return tuple(sorted(lines.values(), key=_moment))

    @property
    def entitlement(self) -> Decimal:
        """What is owed now."""
        if self.withdrawn:
            return ZERO
        return entitled(self, self.refunds)

    @property
    def basis_now(self) -> Decimal | None:
        """What the rate applies to, with the amendments that the amount is of."""
        last = _last_amendment(self.covered if self.status == PAID else self.refunds)
        return self.basis if last is None else self.basis_of(last)

    def basis_of(self, amended: Amended) -> Decimal | None:
        """What the rate applies to after an amendment."""
        return amended.profit if self.of_profit else amended.value

    @property
    def earned(self) -> Decimal:
        """Owed at first, or now if an amendment has made that more."""
        return max(self.gross, add(self.amount, sum((c.amount for c in self.clawbacks), ZERO)))

    @property
    def amount(self) -> Decimal:
        """Of the record itself: what was paid, else what is owed."""
        return self.paid if self.status == PAID else self.entitlement

    @property
    def shown_status(self) -> int:
        """`refunded` once nothing is left of what was not yet paid."""
        if self.status in (PENDING, ON_HOLD, APPROVED) and self.gross and not self.entitlement:
            return REFUNDED
        return self.status


def entitled(entry: Entry, refunds: Iterable[RefundLine]) -> Decimal:
    """What is owed after these refunds: half-up(rate × (basis − refunds)), at most what the cap left at first
    (semantics 45). A fixed amount, and a profit, shrink in proportion. After an amendment of a deal it is half-up(rate
    × what the deal is worth now): more than at first, too, unless there is a cap."""
    refunds = tuple(refunds)
    amended = _last_amendment(refunds)
    if amended is not None:
        return _entitled_by(entry, amended)
    if not refunds:
        return entry.gross
    value = entry.walk.purchase.value
    if not value:
        return ZERO  # a refund of what had no value is one of all
    refunded = sum((line.value for line in refunds), ZERO)
    left = max(Fraction(0), 1 - Fraction(refunded) / Fraction(value))
    whole = (
        Fraction(entry.basis or ZERO) * Fraction(entry.rate.value) / 100
        if entry.rate.percent
        else Fraction(entry.rate.value)
    )
    return min(entry.gross, half_up(whole * left, entry.currency))


def _last_amendment(lines: Iterable[RefundLine]) -> Amended | None:
    """What a deal is worth after these."""
    last = max((line for line in lines if line.amended is not None), key=_moment, default=None)
    return last.amended if last is not None else None


def _moment(line: RefundLine) -> Moment:
    return (line.at, line.event_id)


def _entitled_by(entry: Entry, amended: Amended) -> Decimal:
    if not entry.rate.percent:
        return entry.gross
    basis = max(entry.basis_of(amended) or ZERO, ZERO)
    whole = half_up(Fraction(basis) * Fraction(entry.rate.value) / 100, entry.currency)
    return min(whole, entry.gross) if entry.is_capped else whole


def clawed_back(entry: Entry) -> tuple[Clawback, ...]:
    """The negative rewards of a paid entry, one for each refund or amendment since: each books the difference it
    makes."""
    if entry.status != PAID:
        return ()
    moved = [c for c in entry.clawbacks if c.paid_at]
    known = {c.event_id: c for c in entry.clawbacks}
    counted = [*entry.covered, *(c.refund for c in moved if c.refund is not None)]
    done = {line.event_id for line in counted}
    gone = any(c.refund is None for c in moved)
    owed = add(entry.paid, sum((c.amount for c in moved), ZERO))
    result = list(moved)
    for line in entry.refunds:
        if line.event_id in done or gone:
            continue
        counted.append(line)
        left = entitled(entry, counted)
        if left < owed or (left > owed and line.amended is not None):
            before = known.get(line.event_id)
            result.append(Clawback(line.event_id, line.at, left - owed, line, digest=before.digest if before else 0))
            owed = left
    if entry.withdrawn and not gone and owed > 0:
        before = known.get(entry.withdrawn)
        at = entry.walk.purchase.withdrawn_at or entry.walk.purchase.at
        result.append(Clawback(entry.withdrawn, at, -owed, None, digest=before.digest if before else 0))
    return tuple(result)


class Sums(msgspec.Struct, gc=False, array_like=True):
    """Money of one currency by what became of it. earned = pending + on_hold + approved + paid + rejected + refunded
    (semantics 45)."""

    earned: Decimal = ZERO
    pending: Decimal = ZERO
    on_hold: Decimal = ZERO
    approved: Decimal = ZERO
    paid: Decimal = ZERO
    rejected: Decimal = ZERO
    refunded: Decimal = ZERO

    def moved(self, before: Sums, after: Sums) -> Sums:
        """With `after` in place of `before`."""
        return Sums(
            *[
                own if old == new else add(own, add(new, -old))
                for own, old, new in zip(self._all, before._all, after._all, strict=True)
            ]
        )

    @property
    def _all(self) -> tuple[Decimal, ...]:
        return (self.earned, self.pending, self.on_hold, self.approved, self.paid, self.rejected, self.refunded)

    @property
    def balanced(self) -> bool:
        """Whether the identity holds."""
        return self.earned == sum(self._all[1:], ZERO)

    @property
    def due(self) -> Decimal:
        """Approved and not yet paid; negative when more was taken back than is approved."""
        return self.approved


def sums_of(entry: Entry) -> Sums:
    """What one entry, with its clawbacks, adds to the sums of its currency."""
    sums = Sums(earned=entry.earned)
    _put(sums, entry.status, entry.amount)
    for clawback in entry.clawbacks:
        _put(sums, PAID if clawback.paid_at else APPROVED, clawback.amount)
    sums.refunded = entry.earned - entry.amount - sum((c.amount for c in entry.clawbacks), ZERO)
    return sums


def _put(sums: Sums, status: int, amount: Decimal) -> None:
    match status:
        case 0:
            sums.pending += amount
        case 1:
            sums.on_hold += amount
        case 2:
            sums.approved += amount
        case 3:
            sums.paid += amount
        case _:
            sums.rejected += amount


# --- ranks ---------------------------------------------------------------------------------------------------


OpenMoment = tuple[int, str, str]
"""(time, event, entry): the order in which a person's open entries are ranked."""


class Open(msgspec.Struct, gc=False, array_like=True):
    """An entry that may still change in every respect: what ranks need of it."""

    id: str
    at: int
    event_id: str
    settles: int
    program: str
    level: int
    ip: bytes = b""
    currency: str = ""
    wish: Decimal = ZERO
    """Owed before the cap, in its own currency; 0: it has no part in ranks."""
    capped: Decimal | None = None
    """What the cap leaves of it, as last ranked; None: all."""
    holds: tuple[str, ...] = ()
    """What ranks say against it, as last ranked."""
    used: Decimal | None = None
    """What its programme's cap had given in the period, this one included, as last ranked; None: it has no part."""
    buyer: str = ""
    """The name by which its buyer goes from when it is booked: they were erased meanwhile."""

    @property
    def moment(self) -> OpenMoment:
        """Ranked by time, event, then id."""
        return (self.at, self.event_id, self.id)


class Ranks(msgspec.Struct, gc=False, array_like=True):
    """What settled entries leave for ranking later ones."""

    capped: dict[str, Decimal] = {}  # msgspec copies it for each struct
    """programme and period → granted so far, in the programme's currency."""
    bursts: dict[str, tuple[int, ...]] = {}
    """programme → times of the latest entries."""


def payable(
    entries: Sequence[Entry], at: int, currency: str, program: str
) -> list[tuple[tuple[bool, int, str], Entry, Clawback | None, Decimal]]:
    """What could be paid at a time: approved rewards and clawbacks of a programme in a currency, negatives first, then
    the oldest by (due_at, id) (semantics 46)."""
    found: list[tuple[tuple[bool, int, str], Entry, Clawback | None, Decimal]] = []
    for entry in entries:
        if entry.currency != currency or entry.walk.program != program or entry.kind not in MONEY_KINDS:
            continue
        if entry.status == APPROVED and entry.approved_at <= at:
            amount = amount_at(entry, at)
            if amount:
                found.append(((amount > 0, entry.due, entry.id), entry, None, amount))
        found.extend(
            ((clawback.amount > 0, clawback.at, f"{entry.id}-r{clawback.event_id}"), entry, clawback, clawback.amount)
            for clawback in entry.clawbacks
            if not clawback.paid_at and clawback.at <= at and entry.paid_at <= at
        )
    return sorted(found, key=lambda item: item[0])


def amount_at(entry: Entry, at: int) -> Decimal:
    """What an approved reward was worth at a time: what was refunded or withdrawn since is clawed back later."""
    if entry.withdrawn and entry.walk.purchase.withdrawn_at <= at:
        return ZERO
    return entitled(entry, [line for line in entry.refunds if line.at <= at])


def pay(entry: Entry, at: int, payout: str) -> None:
    """Pays an approved reward."""
    entry.paid = amount_at(entry, at)
    entry.covered = tuple(line for line in entry.refunds if line.at <= at)
    entry.status, entry.paid_at, entry.payout = PAID, at, payout


def cap_key(program: Program, at: int) -> str:
    """Under which a programme's cap is counted."""
    return f"{program.name}{SEPARATOR}{program.period(at)}"


__all__ = [
    "APPROVED",
    "ON_HOLD",
    "PAID",
    "PENDING",
    "REFUNDED",
    "REJECTED",
    "STATUSES",
    "Clawback",
    "Entry",
    "Moment",
    "Open",
    "Ranks",
    "Sums",
    "amount_at",
    "cap_key",
    "clawed_back",
    "entitled",
    "pay",
    "payable",
    "reward_id",
    "sums_of",
]
