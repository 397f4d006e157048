"""The buyer's side: which code wins, who is bound to whom, and which of a person's purchases count.

One fold over a person's conversions and enrolments in order of (time, event id): the answer depends on what happened,
never on the order in which it was heard of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from stream_app.domain.contacts import NO_CONTACT, Contact
from stream_app.domain.referral.codes import Claim, active
from stream_app.domain.referral.facts import (
    CLIENT,
    COUPON_SITE,
    PAID_AD,
    Binding,
    Inherited,
    Moment,
    Purchase,
    Visit,
    Walk,
)
from stream_app.domain.referral.programs import Program, Programs

Answers = Mapping[str, tuple[Claim, ...]]
"""Code → its owner's claims; codes that nobody claimed are missing."""


class Enrolment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A person joined a programme; with a live captured code that binds, too (semantics 42)."""

    at: int
    event_id: str
    contact: Contact = NO_CONTACT


class Settled(msgspec.Struct, gc=False, array_like=True):
    """What is known of a buyer up to the settled horizon."""

    bindings: tuple[Binding, ...] = ()
    """Those that the person made; which of them stand, `Bindings` says."""
    counts: dict[str, int] = {}  # msgspec copies it for each struct
    """Programme → qualifying purchases so far."""
    first_paid: Moment | None = None

    def copied(self) -> Settled:
        """One that may be folded on."""
        return Settled(self.bindings, dict(self.counts), self.first_paid)


class Bindings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A person's bindings over time: their own, and those of clients that they were known to have later."""

    made: tuple[Binding, ...] = ()
    inherited: tuple[tuple[Moment, tuple[Binding, ...]], ...] = ()
    """Since when they are this person's, and which."""

    def by(self, moment: Moment, programs: Programs) -> tuple[Binding, ...]:
        """Those that stand at a moment: the earliest win, among all that were made, and were this person's, by then.

        What a client did counts from the event on that says whose it is, however late that is heard of (semantics 42).
        """
        made = tuple(b for b in self.made if b.moment <= moment)
        theirs = [b for since, bindings in self.inherited if since <= moment for b in bindings if b.moment <= moment]
        if not theirs:
            return made
        stand: tuple[Binding, ...] = ()
        for binding in sorted({*made, *theirs}, key=lambda b: (b.moment, b.program, b.referrer, b.code)):
            program = programs.by_name.get(binding.program)
            if program is None or _may_bind(stand, program, programs):
                stand = (*stand, binding)
        return stand


class Decided(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one conversion comes to in one programme."""

    program: str
    referrer: str
    code: str
    bound_at: int
    first: bool
    blocks: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    own: bool = False
    """The buyer is whoever referred them, by what these enrolled with: nobody is welcomed for that."""


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    program: Program
    claim: Claim
    code: str
    since: Moment
    """The captured visit, or the conversion itself for a code given with it."""
    flags: int = 0
    valid: bool = True


class Person(msgspec.Struct, gc=False):
    """Who is deciding: the key, the clients known to be theirs, what others with their contacts did."""

    key: str
    known: Mapping[str, Moment] = {}
    """Contact → first paid conversion of anybody else with it."""
    inherited: tuple[Inherited, ...] = ()


class Buyer:
    """The fold. `answers` and `person` are read as they are when a step is taken."""

    def __init__(self, programs: Programs, answers: Answers, person: Person, settled: Settled) -> None:
        self._programs = programs
        self._answers = answers
        self._person = person
        self._inherited = tuple(
            (i.since, tuple(b for b in i.bindings if b.referrer != person.key)) for i in person.inherited
        )
        """Whoever turns out to have brought themselves was brought by nobody."""
        self._standing: tuple[Binding, ...] = ()
        """Bindings as of the step that is taken."""
        self._marks: Collection[bytes] = ()
        self.state = settled.copied()

    def decide(self, purchase: Purchase, marks: Collection[bytes] = ()) -> tuple[Decided, ...]:
        """Takes the next conversion; what it comes to. More than one only where all concerned are not exclusive.
        `marks`: those of the buyer."""
        self._marks = marks
        self._standing = self.bindings.by(purchase.moment, self._programs)
        decided = self._decide(purchase)
        if purchase.paid and (self.state.first_paid is None or purchase.moment < self.state.first_paid):
            self.state.first_paid = purchase.moment
        return decided

    def enrol(self, enrolment: Enrolment, visits: Sequence[Visit]) -> None:
        """Binds somebody who joins a programme while a captured code is live."""
        moment = (enrolment.at, enrolment.event_id)
        self._standing = self.bindings.by(moment, self._programs)
        found = [c for c in self._links(enrolment.at, visits) if c.valid and not self._is_own(c)]
        for candidate in self._winners(found):
            if self._may_bind(candidate.program) and not self._is_customer(
                candidate, moment, contacts_of(enrolment.contact)
            ):
                self._bind(candidate, moment)

    @property
    def bindings(self) -> Bindings:
        """As far as has been decided."""
        return Bindings(self.state.bindings, self._inherited)

    # --- steps -----------------------------------------------------------------------------------------------

    def _decide(self, purchase: Purchase) -> tuple[Decided, ...]:
        offered = self._candidates(purchase)
        candidates = [c for c in offered if c.program.qualifies(purchase.goal, purchase.status)]
        bound = [b for b in self._standing if self._pays(b, purchase)]
        decided: list[Decided | None] = []
        if not self._standing:
            fresh = [c for c in candidates if c.valid and not self._is_own(c)]
            winners = self._winners(fresh)
            if not winners:
                return self._blocked(candidates, purchase)
            for winner in winners:
                if not self._order_counts(winner.program, purchase):
                    continue
                if self._is_customer(winner, purchase.moment, contacts_of(purchase.contact)):
                    decided.append(_block(winner, "existing_customer"))
                    continue
                binding = self._bind(winner, purchase.moment)
                decided.append(self._count(binding, winner.program, purchase, winner.flags, ()))
            return tuple(d for d in decided if d is not None)
        refused = any(
            c.claim.user not in {b.referrer for b in self._standing} and not self._is_own(c) and c.valid
            for c in candidates
            if not self._may_bind(c.program)
        )
        for binding in bound:
            program = self._programs.by_name[binding.program]
            if self._order_counts(program, purchase):
                flags = next((c.flags for c in candidates if c.claim.user == binding.referrer), 0)
                notes = ("already_referred",) if refused else ()
                decided.append(self._count(binding, program, purchase, flags, notes))
        others = [c for c in candidates if c.valid and not self._is_own(c) and self._may_bind(c.program)]
        for winner in self._winners(others):
            if self._order_counts(winner.program, purchase) and not self._is_customer(
                winner, purchase.moment, contacts_of(purchase.contact)
            ):
                binding = self._bind(winner, purchase.moment)
                decided.append(self._count(binding, winner.program, purchase, winner.flags, ()))
        return tuple(d for d in decided if d is not None)

    def _candidates(self, purchase: Purchase) -> list[_Candidate]:
        """Codes given with the conversion first; only if none of them is anybody's, captured ones."""
        given = []
        for code in purchase.codes:
            found = self._candidate(code, purchase.moment, purchase.at, 0)
            if found is not None:
                given.append(found)
        if any(c.valid for c in given):
            return given
        return [*given, *self._links(purchase.at, purchase.visits)]

    def _links(self, at: int, visits: Iterable[Visit]) -> list[_Candidate]:
        found = []
        for visit in sorted(visits, key=lambda visit: (visit.at, visit.place, visit.code)):
            candidate = self._candidate(visit.code, (visit.at, ""), at, visit.flags)
            if candidate is not None and 0 <= at - visit.at <= candidate.program.lookback_ms:
                found.append(candidate)
        return found

    def _candidate(self, code: str, since: Moment, at: int, flags: int) -> _Candidate | None:
        """A code that was somebody's by then. Valid if active when seen and now, in a programme that runs."""
        claims = self._answers.get(code)
        if not claims or claims[0].at > at:
            return None
        claim = active(claims, since[0])
        now = active(claims, at)
        valid = claim is not None and now is not None and claim.program == now.program
        claim = now or claim or claims[0]
        program = self._programs.by_name.get(claim.program)
        if program is None:
            return None
        valid = valid and program.runs_at(since[0]) and program.runs_at(at)
        return _Candidate(program, claim, code, since, flags, valid)

    def _winners(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """The earliest, unless a later one belongs to a programme that says `last`. All programmes' own winners where
        none of them is exclusive."""
        if not candidates:
            return []
        by_program: dict[str, _Candidate] = {}
        for candidate in candidates:
            by_program[candidate.program.name] = _later(by_program.get(candidate.program.name), candidate)
        if len(by_program) > 1 and all(not c.program.exclusive for c in by_program.values()):
            return list(by_program.values())
        winner: _Candidate | None = None
        for candidate in candidates:
            winner = _later(winner, candidate)
        return [winner] if winner is not None else []

    def _may_bind(self, program: Program) -> bool:
        return _may_bind(self._standing, program, self._programs)

    def _bind(self, candidate: _Candidate, moment: Moment) -> Binding:
        claim = candidate.claim
        binding = Binding(candidate.program.name, claim.user, candidate.code, *moment, claim.advocate_kind)
        self.state.bindings = (*self.state.bindings, binding)
        self._standing = (*self._standing, binding)
        return binding

    def _is_own(self, candidate: _Candidate) -> bool:
        return candidate.claim.user == self._person.key

    def _is_customer(self, candidate: _Candidate, moment: Moment, contacts: Iterable[str]) -> bool:
        """A paid conversion of the same person, or of anybody with this conversion's contacts, before the captured
        visit, or before this conversion for a code given with it (semantics 47)."""
        before = min(candidate.since, moment)
        paid = [self._person.known.get(contact) for contact in contacts]
        paid += [i.first_paid for i in self._person.inherited if i.since <= moment]
        paid.append(self.state.first_paid)
        return any(first is not None and first < before for first in paid)

    def _pays(self, binding: Binding, purchase: Purchase) -> bool:
        program = self._programs.by_name.get(binding.program)
        return (
            program is not None
            and binding.moment <= purchase.moment
            and program.runs_at(purchase.at)
            and program.qualifies(purchase.goal, purchase.status)
        )

    def _order_counts(self, program: Program, purchase: Purchase) -> bool:
        """Whether the original value reaches the minimum order. One that cannot be compared counts: it is held."""
        if not program.minimum_order:
            return True
        if purchase.value is None:
            return False
        value = self._programs.exchange.convert(purchase.value, purchase.currency, program.currency)
        return value is None or value >= program.minimum_order

    def _count(
        self, binding: Binding, program: Program, purchase: Purchase, flags: int, notes: tuple[str, ...]
    ) -> Decided | None:
        """Ranks the purchase among the person's own; None once the first N, or the time to earn, are over."""
        if not program.earns_at(purchase.at, binding.at):
            return None
        rank = self.state.counts.get(program.name, 0) + 1
        self.state.counts[program.name] = rank
        if program.first_purchases and rank > program.first_purchases:
            return None
        holds = []
        if flags & PAID_AD and program.fraud.brand_bidding:
            holds.append("brand_bidding")
        if flags & COUPON_SITE:
            holds.append("coupon_site")
        if self._cannot_compare(program, purchase):
            holds.append("no_rate")
        return Decided(
            program.name,
            binding.referrer,
            binding.code,
            binding.at,
            rank == 1,
            (),
            tuple(holds),
            notes,
            rank == 1 and self._is_owners(binding, purchase),
        )

    def _is_owners(self, binding: Binding, purchase: Purchase) -> bool:
        """Whether the buyer is known to be the referrer by what these enrolled with up to then; only of a code that
        this conversion, or its client, brought, as other answers may be there or not."""
        if binding.code not in (*purchase.codes, *(visit.code for visit in purchase.visits)):
            return False
        return any(
            claim.at <= purchase.at and not set(claim.marks).isdisjoint(self._marks)
            for claim in self._answers.get(binding.code, ())
        )

    def _cannot_compare(self, program: Program, purchase: Purchase) -> bool:
        if not program.minimum_order or purchase.value is None:
            return False
        return self._programs.exchange.convert(purchase.value, purchase.currency, program.currency) is None

    def _blocked(self, candidates: Sequence[_Candidate], purchase: Purchase) -> tuple[Decided, ...]:
        """Why a code that is somebody's brings nothing. The record stands with its owner."""
        for candidate in candidates:
            if not self._order_counts(candidate.program, purchase):
                continue
            if not candidate.valid:
                return (_block(candidate, "code_not_valid"),)
            if self._is_own(candidate):
                return (_block(candidate, "own_code"),)
        return ()


def _may_bind(bindings: tuple[Binding, ...], program: Program, programs: Programs) -> bool:
    """Whether somebody with these bindings may be bound in a programme, too."""
    if not bindings:
        return True
    return not program.exclusive and all(
        b.program != program.name and not programs.by_name[b.program].exclusive
        for b in bindings
        if b.program in programs.by_name
    )


def _later(winner: _Candidate | None, candidate: _Candidate) -> _Candidate:
    """Between a winner so far and a later candidate."""
    if winner is None:
        return candidate
    if candidate.since == winner.since:
        return winner
    return candidate if candidate.program.attribution == "last" else winner


def _block(candidate: _Candidate, reason: str) -> Decided:
    return Decided(candidate.program.name, candidate.claim.user, candidate.code, candidate.since[0], True, (reason,))


def walk_of(conversion_id: str, purchase: Purchase, decided: Decided, buyer: str, *, erased: bool = False) -> Walk:
    """What the referrer at level 1 is told."""
    return Walk(
        decided.program,
        1,
        conversion_id,
        msgspec.structs.replace(purchase, codes=(), visits=(), made=None),
        buyer,
        decided.code,
        decided.referrer,
        decided.bound_at,
        decided.first,
        (),
        decided.blocks,
        decided.holds,
        decided.notes,
        erased,
        erased,
    )


def contacts_of(contact: Contact) -> list[str]:
    """The contacts by which a customer is known again, as keys."""
    return [f"{what}{digest.hex()}" for what, digest in (("e", contact.email), ("p", contact.phone)) if digest]


def shown_person(key: str) -> str:
    """A person as records name them: the user, or the client's id."""
    return key.removeprefix(CLIENT)
