"""Whom a walk concerns: what one ancestor is owed, what speaks against it, and why (domain rules, section 7).

Blocks pay nothing. Holds wait for somebody's review, or for the deadline. Contacts are compared as keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from stream_app.domain.contacts import Contact
from stream_app.domain.referral.facts import CLIENT, Walk
from stream_app.domain.referral.ledger import Open, Ranks, cap_key
from stream_app.domain.referral.member import Membership, enrolled_at
from stream_app.domain.referral.programs import Exchange, Program, Rate, RewardKind, Terms, best_offer, half_up, offered

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
    """The reward of the ancestor at `walk.level`; None if the level is not paid and nobody needs to know why."""
    kept = tuple(memberships)
    purchase = walk.purchase
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
    offer = offered(reward.rate, purchase.value, currency, program.currency)
    if offer is None:
        if reward.rate.percent or reward.kind != "gift":
            return None
        return Owed(reward.kind, reward.rate, Decimal(0), program.currency, purchase.value, "", (), walk.holds)
    return Owed(reward.kind, reward.rate, offer.amount, offer.currency, purchase.value, "", (), walk.holds)


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
    if rules.disposable_mail and contact.disposable:
        found.append("disposable_mail")
    if rules.free_mail and contact.free:
        found.append("free_mail")
    return found


def _similar_mail(left: Contact, right: Contact) -> bool:
    return bool(left.similar) and left.similar == right.similar and left.email != right.email


class Ranking:
    """Ranks open entries in order of time on top of what is settled: caps, same ip, bursts (semantics 44)."""

    def __init__(self, ranks: Ranks, exchange: Exchange) -> None:
        self._capped = dict(ranks.capped)
        self._bursts = {name: list(times) for name, times in ranks.bursts.items()}
        self._ips: dict[tuple[str, bytes], int] = {}
        self._exchange = exchange

    def rank(
        self, item: Open, program: Program, currency: str, ips_before: int
    ) -> tuple[Decimal | None, tuple[str, ...]]:
        """(what the cap leaves, None if all; holds) of the next entry. `ips_before`: settled ones from its ip."""
        holds = []
        rules = program.fraud
        if item.level == 1:
            if item.ip and rules.same_ip:
                place = program.name, item.ip
                count = self._ips.get(place, ips_before) + 1
                self._ips[place] = count
                if count > rules.same_ip:
                    holds.append("same_ip")
            if rules.burst:
                times = self._bursts.setdefault(program.name, [])
                times.append(item.at)
                del times[: -rules.burst - 1]
                if len(times) > rules.burst and item.at - times[0] <= rules.burst_ms:
                    holds.append("burst")
        capped = None
        if program.cap and item.level:
            capped = self._cap(item, program, currency, holds)
        return capped, tuple(holds)

    def _cap(self, item: Open, program: Program, currency: str, holds: list[str]) -> Decimal | None:
        key = cap_key(program, item.at)
        used = self._capped.get(key, Decimal(0))
        wish = self._exchange.convert(item.wish, currency, program.currency)
        if wish is None:
            holds.append("no_rate")
            return None
        wanted = half_up(wish, program.currency)
        left = max(Decimal(0), program.cap - used)
        granted = min(wanted, left)
        self._capped[key] = used + granted
        if wanted <= left:
            return None
        back = self._exchange.convert(left, program.currency, currency)
        assert back is not None  # it was converted the other way
        return min(item.wish, half_up(back, currency))

    def settled(self) -> Ranks:
        """What later entries build on: the latest periods only."""
        capped = dict(sorted(self._capped.items())[-_MAX_PERIODS:])
        return Ranks(capped, {name: tuple(times) for name, times in self._bursts.items()})


_MAX_PERIODS = 200


def _unique(reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
