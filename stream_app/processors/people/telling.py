"""What a buyer tells whoever referred them: that they did, and each conversion that may earn something."""

from __future__ import annotations

import msgspec

from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.ids import SEPARATOR, content_digest
from stream_app.domain.referral import facts
from stream_app.domain.referral.buyer import Decided, walk_of
from stream_app.domain.referral.facts import Binding, Purchase, Walk, taken_back
from stream_app.domain.referral.ledger import reward_id
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.state import Held, Sold, WalkTold


def tell(desk: Desk, record: Held | Sold, name: str, purchase: Purchase, decided: tuple[Decided, ...]) -> None:
    """Tells what follows from a purchase as it was decided: walks for referrers, and this person's own rewards."""
    walks, own = {}, {}
    known = with_contacts(desk, purchase) if decided else purchase
    for one in decided:
        walk = walk_of(name, known, one, desk.name, erased=bool(desk.person.erased))
        walks[reward_id(one.program, name, 1, one.referrer)] = one.referrer, walk
        program = desk.house.programs.by_name.get(one.program)
        if one.first and not one.blocks and not one.own and program is not None and program.referred is not None:
            own[reward_id(one.program, name, 0, desk.name)] = msgspec.structs.replace(walk, level=0)
    _tell(desk, record, walks, own)


def with_contacts(desk: Desk, purchase: Purchase) -> Purchase:
    """With the contacts that the buyer had enrolled with by then, where the conversion names none: whoever refers
    themselves under another name need not say so at the checkout."""
    person, contact = desk.person, purchase.contact
    if person.erasing is not None and person.erasing.at < purchase.at:
        return purchase
    for membership in reversed(person.memberships):
        theirs = membership.contact
        if membership.at > purchase.at or theirs == NO_CONTACT:
            continue
        if theirs.email and not contact.email:
            contact = msgspec.structs.replace(
                contact, email=theirs.email, similar=theirs.similar, disposable=theirs.disposable, free=theirs.free
            )
        contact = msgspec.structs.replace(
            contact, phone=contact.phone or theirs.phone, name=contact.name or theirs.name
        )
    return msgspec.structs.replace(purchase, contact=contact) if contact != purchase.contact else purchase


def tell_sold(desk: Desk, sold: Sold) -> None:
    """Tells of a settled purchase what differs."""
    tell(desk, sold, sold.id, sold.purchase, sold.decided)


def take_back(desk: Desk, record: Held | Sold) -> None:
    """Nothing follows from it any more."""
    _tell(desk, record, {}, {})


def _tell(desk: Desk, record: Held | Sold, walks: dict[str, tuple[str, Walk]], own: dict[str, Walk]) -> None:
    """Sends walks, by reward id, that differ from what was told, and takes back those that are gone."""
    before = {told.id: told for told in record.told}
    now = []
    for name, (referrer, walk) in walks.items():
        letter = encode_body(Letter(name, walk))
        told = before.pop(name, None)
        digest = content_digest(letter)
        if told is None or told.digest != digest:
            desk.context.forward(facts.WALK, referrer.encode(), letter)
        now.append(WalkTold(name, referrer, digest))
    for name, walk in own.items():
        told = before.pop(name, None)
        digest = content_digest(encode_body(walk))
        if told is None or told.digest != digest:
            desk.walks[name].tell(walk)
        now.append(WalkTold(name, "", digest))
    for gone in before.values():
        if gone.key:
            name = taken_back(gone.id, desk.name, erased=bool(desk.person.erased))
            desk.send(facts.WALK, gone.key.encode(), name, None)
        else:
            desk.walks[gone.id].take_back(desk.name)
    record.told = tuple(now)


def tell_bound(desk: Desk, standing: tuple[Binding, ...]) -> None:
    """Tells referrers whom they referred: not what was inherited, which the client has told already."""
    person = desk.person
    inherited = {b for i in person.inherited.values() for b in i.bindings}
    now = {b.program: b for b in standing if b not in inherited}
    for program, told in list(person.bound_told.items()):
        binding = now.get(program)
        if binding is None or binding.referrer != told.key:
            desk.send(facts.BOUND, told.key.encode(), told.id, None)
            del person.bound_told[program]
    for program, binding in now.items():
        name = f"{desk.name}{SEPARATOR}{program}"
        letter = encode_body(Letter(name, binding))
        digest = content_digest(letter)
        before = person.bound_told.get(program)
        if before is None or before.digest != digest:
            person.bound_told[program] = WalkTold(name, binding.referrer, digest)
            desk.context.forward(facts.BOUND, binding.referrer.encode(), letter)
