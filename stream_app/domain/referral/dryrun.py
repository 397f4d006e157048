"""What a programme would pay on example purchases, by the same rules that pay."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from stream_app.domain.money import MINOR_UNITS, shown
from stream_app.domain.referral.buyer import Buyer, Person, Settled, walk_of
from stream_app.domain.referral.codes import Claim
from stream_app.domain.referral.facts import Purchase, RefundLine, Visit, Walk
from stream_app.domain.referral.fraud import Owed, Ranking, owed_to_referred, owed_to_referrer, settled
from stream_app.domain.referral.ledger import PENDING, Entry, Open, Ranks, entitled
from stream_app.domain.referral.member import Membership
from stream_app.domain.referral.programs import (
    ADVOCATE_KINDS,
    LEAD_STATUSES,
    MAX_LEVELS,
    Exchange,
    Program,
    Programs,
)
from stream_app.domain.times import DAY_MS

CODE = "example"
_REFERRERS = ("referrer at level 1", "referrer at level 2", "referrer at level 3")


class Example(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A purchase to try. All of one run are by one referred person, in the order given."""

    value: Decimal | None = None
    currency: str = ""
    """Empty: the programme's."""
    goal: str = ""
    """Empty: the programme's first."""
    status: str = ""
    """mql, sql or won, for a lead."""
    profit: Decimal | None = None
    advocate_kind: str = "customer"
    day: int = 0
    """Days after the visit through the link; never before the purchase above it."""
    refund: Decimal = Decimal(0)
    """What is refunded of it."""

    @property
    def problem(self) -> str:
        """What of it no purchase can have; empty: nothing."""
        for name in ("value", "profit", "refund"):
            amount: Decimal | None = getattr(self, name)
            if amount is not None and not (amount.is_finite() and (amount >= 0 or name == "profit")):
                return f"{name}: {amount} is no amount; allowed: 0 or more"
        if self.currency and self.currency not in MINOR_UNITS:
            return f'currency: "{self.currency}" is no ISO 4217 currency'
        if self.status and self.status not in LEAD_STATUSES:
            return f'status: "{self.status}" earns nowhere; allowed: {", ".join(LEAD_STATUSES)}'
        if self.advocate_kind not in ADVOCATE_KINDS:
            return f'advocate_kind: "{self.advocate_kind}" is not known; allowed: {", ".join(ADVOCATE_KINDS)}'
        return "day: is before the visit; allowed: 0 or more" if self.day < 0 else ""


class Payment(msgspec.Struct, frozen=True, gc=False):
    """What somebody gets for one purchase."""

    who: str
    level: int
    """0: the referred person."""
    rate: str
    kind: str
    amount: str
    after_refund: str
    currency: str
    notes: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one example comes to."""

    number: int
    payments: tuple[Payment, ...]
    why: str
    """Why nobody is paid; empty if somebody is."""


def try_out(program: Program, examples: Iterable[Example], exchange: Exchange, starts: int) -> list[Outcome]:
    """Plays the examples: a visit through the link at `starts` (epoch ms), then the purchases."""
    programs = Programs([program], exchange)
    outcomes = []
    state, ranks = Settled(), [Ranks() for _ in range(MAX_LEVELS)]  # of each referrer: caps are theirs
    at = starts
    for number, example in enumerate(examples, 1):
        at = max(at, starts + example.day * DAY_MS)
        purchase = _purchase(program, example, number, starts, at)
        claim = Claim(_REFERRERS[0], program.name, 0, "", "code", example.advocate_kind)
        buyer = Buyer(programs, {CODE: (claim,)}, Person("buyer"), state)
        bound = bool(state.bindings)
        decided = buyer.decide(purchase)
        state = buyer.state.copied()
        if not decided or decided[0].blocks:
            outcomes.append(
                Outcome(number, (), _why(program, purchase, starts, bound, decided[0].blocks if decided else ()))
            )
            continue
        walk = walk_of(f"example-{number}", purchase, decided[0], "buyer")
        payments = []
        if decided[0].first and program.referred is not None:
            owed = owed_to_referred(msgspec.structs.replace(walk, level=0), program)
            if owed is not None:
                payments.append(_payment("referred person", 0, purchase, walk, owed, owed.amount))
        for level, person in enumerate(_REFERRERS, 1):
            joined = (Membership(0, "", program.name, True, advocate_kind=example.advocate_kind),)
            above = msgspec.structs.replace(walk, level=level)
            owed = owed_to_referrer(above, program, person, joined, exchange)
            if owed is None:
                continue
            item = Open("", purchase.at, "", 0, program.name, level, b"", owed.currency, owed.amount)
            capped, holds = Ranking(program, exchange, ranks[level - 1], ()).rank(item, 0)
            settled(ranks[level - 1], item, program)
            owed = msgspec.structs.replace(owed, holds=tuple(dict.fromkeys((*owed.holds, *holds))))
            payments.append(_payment(person, level, purchase, above, owed, owed.amount if capped is None else capped))
        outcomes.append(
            Outcome(number, tuple(payments), "" if payments else "no rate matches, or they come to nothing")
        )
    return outcomes


def _purchase(program: Program, example: Example, number: int, starts: int, at: int) -> Purchase:
    status = example.status or ("" if program.goals or not program.statuses else program.statuses[0])
    refunds = (RefundLine("refund", at, example.refund),) if example.refund else ()
    return Purchase(
        at,
        f"{number:09}",
        example.goal or (program.goals[0] if program.goals else ""),
        status,
        example.value,
        example.currency or program.currency,
        example.profit,
        visits=(Visit(CODE, starts),),
        refunds=refunds,
    )


def _payment(who: str, level: int, purchase: Purchase, walk: Walk, owed: Owed, amount: Decimal) -> Payment:
    entry = Entry("", walk, owed.kind, owed.rate, owed.currency, amount, PENDING, (), 1, owed.advocate_kind, owed.basis)
    notes = (*owed.holds, *(("capped",) if amount != owed.amount else ()))
    return Payment(
        who,
        level,
        str(owed.rate),
        owed.kind,
        shown(amount, owed.currency),
        shown(entitled(entry, purchase.refunds), owed.currency),
        owed.currency,
        notes,
    )


def _why(program: Program, purchase: Purchase, starts: int, bound: bool, blocks: tuple[str, ...]) -> str:
    """In words, why a purchase pays nobody: the first rule that is against it."""
    if not program.qualifies(purchase.goal, purchase.status):
        pays_for = ", ".join((*program.goals, *program.statuses))
        return f"goal {purchase.goal!r} does not qualify: the programme pays for {pays_for}"
    if not program.runs_at(starts) or not program.runs_at(purchase.at):
        return "the programme is not valid at the visit and at the purchase"
    if not bound and purchase.at - starts > program.lookback_ms:
        return f"the visit is more than {program.lookback_ms // DAY_MS} days ago"
    if program.minimum_order and (purchase.value is None or purchase.value < program.minimum_order):
        return f"below the minimum order of {shown(program.minimum_order, program.currency)} {program.currency}"
    if blocks:
        return ", ".join(blocks)
    if program.first_purchases:
        many = program.first_purchases
        earning = "purchase earns" if many == 1 else f"{many} purchases earn"
        return f"only the first {earning}, and only for as long as the programme says"
    return "too late after binding: see first_months and convert_within_days"
