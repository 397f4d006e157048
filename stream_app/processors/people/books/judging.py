"""An open entry is a function of what is known: who is owed what for a conversion, and who is next on the way up."""

from __future__ import annotations

from decimal import Decimal

from stream_app.domain.referral.buyer import Bindings
from stream_app.domain.referral.facts import Walk
from stream_app.domain.referral.fraud import Owed, owed_to_referred, owed_to_referrer
from stream_app.domain.referral.ledger import ON_HOLD, PENDING, REJECTED, Entry, Open
from stream_app.domain.referral.member import Membership
from stream_app.domain.referral.programs import Program
from stream_app.processors.people.house import House


class Judge:
    """Judges conversions by a person's enrolments and bindings."""

    def __init__(
        self, house: House, person: str, memberships: tuple[Membership, ...], bindings: Bindings, *, erased: bool
    ) -> None:
        self._programs = house.programs
        self._slack_ms = house.slack_ms
        self._person = person
        self._memberships = memberships
        self._bindings = bindings
        self._erased = erased

    def owed(self, walk: Walk) -> Owed | None:
        """What this person is owed for a conversion, before ranks."""
        program = self._programs.by_name.get(walk.program)
        if program is None:
            return None
        if not walk.level:
            return owed_to_referred(walk, program)
        return owed_to_referrer(walk, program, self._person, self._memberships, self._programs.exchange)

    def next_above(self, walk: Walk) -> str:
        """The next ancestor, by bindings as of the conversion; empty: the walk ends here."""
        program = self._programs.by_name.get(walk.program)
        if program is None or not walk.level or walk.level >= _levels(program) or walk.blocks:
            return ""
        bindings = self._bindings.by(walk.moment, self._programs)
        same = [b for b in bindings if b.program == walk.program]
        chosen = min(same or bindings, key=lambda b: b.moment, default=None)
        if chosen is None or chosen.referrer in (*walk.chain, self._person):
            return ""
        return chosen.referrer

    def state(self, entry: Entry, item: Open, owed: Owed | None) -> None:
        """Puts down its amount, status and reasons."""
        program = self._programs.by_name.get(item.program)
        if owed is None or program is None:
            entry.gross, entry.status, entry.reasons, entry.due = Decimal(0), REJECTED, (), 0
            entry.advocate_kind = ""
            return
        entry.kind, entry.rate, entry.currency = owed.kind, owed.rate, owed.currency
        entry.basis, entry.advocate_kind = owed.basis, owed.advocate_kind
        entry.of_profit = bool(entry.walk.level) and program.basis == "profit"
        entry.is_capped = bool(entry.walk.level) and bool(program.cap)
        notes = owed.notes
        entry.gross = owed.amount
        if item.capped is not None:
            entry.gross, notes = item.capped, (*notes, "capped")
        if owed.blocks or (item.capped is not None and not item.capped):
            entry.status, entry.reasons, entry.due = REJECTED, (*owed.blocks, *notes), 0
            return
        holds = tuple(dict.fromkeys((*owed.holds, *item.holds)))
        if self._erased:
            entry.status, entry.reasons, entry.due = ON_HOLD, (*holds, *notes, "erased"), 0
        elif holds:
            entry.status, entry.reasons = ON_HOLD, (*holds, *notes)
            entry.due = max(item.at + program.review_ms, item.at + self._slack_ms)
        else:
            entry.status, entry.reasons = PENDING, notes
            entry.due = max(item.at + program.holding_ms, item.at + self._slack_ms)


def _levels(program: Program) -> int:
    return max(len(program.levels), *(len(rule.levels) for rule in program.rates), 1)
