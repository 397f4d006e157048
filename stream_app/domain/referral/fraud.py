"""Whom a walk concerns: what one ancestor is owed, what speaks against it, and why (domain rules, section 7).

Blocks pay nothing. Holds wait for somebody's review, or for the deadline. Contacts are compared as keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from stream_app.domain.contacts import Contact
from stream_app.domain.referral.facts import CLIENT, Walk
from stream_app.domain.referral.ledger import Open, Ranks, cap_key
from stream_app.domain.referral.member import Membership, enrolled_at
from stream_app.domain.referral.programs import (
    Exchange,
    Offer,
    Program,
    Rate,
    RewardKind,
    Terms,
    best_offer,
    half_up,
    offered,
)

Block = Literal["own_code", "existing_customer", "code_not_valid"]
Hold = Literal[
    "similar_name",
    "similar_email",
    "disposable_mail",
    "free_mail",
    "same_ip",
    "burst",
    "brand_bidding",
    "coupon_site",
    "no_rate",
    "erased",
]
Note = Literal["already_referred", "capped", "deadline", "withdrawn"]


class Owed(msgspec.Struct, frozen=True, gc=False):
    """What one person is owed for a conversion, before ranks and caps."""

    kind: RewardKind
    rate: Rate
    amount: Decimal
    currency: str
    basis: Decimal | None
    advocate_kind: str
    blocks: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def owed_to_referrer(
    walk: Walk, program: Program, user: str, memberships: Iterable[Membership], exchange: Exchange
) -> Owed | None:
    """The reward of the ancestor at `walk.level`; None if the level is not paid and nobody needs to know why. As of the
    conversion: who enrols later with the buyer's client or address was somebody else then, as far as anybody knew."""
    purchase = walk.purchase
    kept = tuple(m for m in memberships if m.at <= purchase.at)
    membership = enrolled_at(kept, program.name, purchase.at)
    latest = membership or next((m for m in reversed(kept) if m.joined and m.program == program.name), None)
    basis = purchase.profit if program.basis == "profit" else purchase.value
    terms = Terms(
        walk.level,
        purchase.at,
        purchase.goal,
        latest.advocate_kind if latest is not None else "other",
        walk.first,
        basis,
        purchase.currency or program.currency,
        purchase.is_deal,
    )
    offer = best_offer(program, terms, exchange)
    if offer is None:
        return None
    blocks = list(walk.blocks)
    if is_same_person(walk, user, kept):
        blocks.append("own_code")
    if walk.level > 1 and (blocks or membership is None):
        return None
    if membership is None and not blocks:
        return None
    holds = [*walk.holds, *(suspicions(walk, kept, program) if walk.level == 1 else ())]
    if offer.no_rate:
        holds.append("no_rate")
    kind: RewardKind = offer_kind(program, offer.rate)
    return Owed(
        kind,
        offer.rate,
        offer.amount,
        offer.currency,
        basis,
        terms.advocate_kind,
        _unique(blocks),
        _unique(holds),
        walk.notes,
    )


def owed_to_referred(walk: Walk, program: Program) -> Owed | None:
    """The reward of the referred person, once, with the conversion that bound them."""
    reward = program.referred
    if reward is None or walk.blocks:
        return None
    purchase = walk.purchase
    currency = purchase.currency or program.currency
    offer = offered(reward.rate, purchase.value, currency, program.currency, amendable=purchase.is_deal)
    if offer is None:
        if reward.rate.percent or reward.kind != "gift":
            return None
        offer = Offer(reward.rate, Decimal(0), program.currency)
    holds = _unique((*walk.holds, *_doubtful_mailbox(purchase.contact, program)))
    return Owed(reward.kind, reward.rate, offer.amount, offer.currency, purchase.value, "", (), holds)


def offer_kind(program: Program, rate: Rate) -> RewardKind:
    """What kind of reward a rate is."""
    if program.reward != "money":
        return program.reward
    return "percent" if rate.percent else "fixed"


def is_same_person(walk: Walk, user: str, memberships: Iterable[Membership]) -> bool:
    """Whether the buyer is this ancestor: the same user, client, e-mail or telephone (semantics 42)."""
    purchase = walk.purchase
    if user in {walk.buyer, purchase.user} or walk.buyer.removeprefix(CLIENT) == user:
        return True
    contact = purchase.contact
    return any(
        (m.client and m.client == purchase.client)
        or (contact.email and contact.email == m.contact.email)
        or (contact.phone and contact.phone == m.contact.phone)
        for m in memberships
    )


def suspicions(walk: Walk, memberships: Iterable[Membership], program: Program) -> Sequence[str]:
    """What speaks against a referral, by the contacts of both sides."""
    rules = program.fraud
    contact = walk.purchase.contact
    found = []
    if rules.similar:
        others = [m.contact for m in memberships]
        if any(_similar_mail(contact, other) for other in others):
            found.append("similar_email")
        if any(contact.name and contact.name == other.name for other in others):
            found.append("similar_name")
    found.extend(_doubtful_mailbox(contact, program))
    return found


def _doubtful_mailbox(contact: Contact, program: Program) -> Iterator[str]:
    if program.fraud.disposable_mail and contact.disposable:
        yield "disposable_mail"
    if program.fraud.free_mail and contact.free:
        yield "free_mail"


def _similar_mail(left: Contact, right: Contact) -> bool:
    return bool(left.similar) and left.similar == right.similar and left.email != right.email


class Ranking:
    """Ranks open entries of one programme in order of time: caps, same ip, bursts (semantics 44). It begins with any of
    them: `before` are the open ones before that, backwards, and `ranks` is what settled ones have left."""

    def __init__(self, program: Program, exchange: Exchange, ranks: Ranks, before: Iterable[Open]) -> None:
        self._program = program
        self._exchange = exchange
        self._settled = ranks.capped
        self._capped: dict[str, Decimal] = {}
        burst = program.fraud.burst
        times: list[int] = []
        is_capped = bool(program.cap)
        for item in before if burst or is_capped else ():
            if item.program != program.name or not item.wish:
                continue
            if is_capped and item.used is not None:
                self._capped[cap_key(program, item.at)] = item.used
                is_capped = False
            if item.level == 1 and len(times) < burst:
                times.append(item.at)
            if len(times) >= burst and not is_capped:
                break
        if burst:
            times = [*ranks.bursts.get(program.name, ()), *reversed(times)]
        self._times = times[-burst - 1 :]

    def rank(self, item: Open, ips_before: int) -> tuple[Decimal | None, tuple[str, ...]]:
        """(what the cap leaves, None if all; holds) of the next entry. `ips_before`: earlier ones from its ip."""
        holds = []
        rules = self._program.fraud
        if item.level == 1:
            if item.ip and rules.same_ip and ips_before >= rules.same_ip:
                holds.append("same_ip")
            if rules.burst:
                times = self._times
                times.append(item.at)
                del times[: -rules.burst - 1]
                if len(times) > rules.burst and item.at - times[0] <= rules.burst_ms:
                    holds.append("burst")
        capped = None
        item.used = None
        if self._program.cap and item.level:
            capped = self._cap(item, holds)
        return capped, tuple(holds)

    def _cap(self, item: Open, holds: list[str]) -> Decimal | None:
        program = self._program
        key = cap_key(program, item.at)
        used = self._capped.get(key)
        if used is None:
            used = self._settled.get(key, Decimal(0))
        wish = self._exchange.convert(item.wish, item.currency, program.currency)
        if wish is None:
            holds.append("no_rate")
            return None
        wanted = half_up(wish, program.currency)
        left = max(Decimal(0), program.cap - used)
        granted = min(wanted, left)
        item.used = self._capped[key] = used + granted
        if wanted <= left:
            return None
        back = self._exchange.convert(left, program.currency, item.currency)
        assert back is not None  # it was converted the other way
        return min(item.wish, half_up(back, item.currency))


def settled(ranks: Ranks, item: Open, program: Program) -> None:
    """An entry was booked: what later ones build on, of the latest periods only."""
    if not item.wish:
        return
    if item.used is not None:
        ranks.capped[cap_key(program, item.at)] = item.used
        if len(ranks.capped) > _MAX_PERIODS:
            del ranks.capped[min(ranks.capped)]
    burst = program.fraud.burst
    if burst and item.level == 1:
        ranks.bursts[program.name] = (*ranks.bursts.get(program.name, ()), item.at)[-burst - 1 :]


_MAX_PERIODS = 200


def _unique(reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
