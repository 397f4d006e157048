"""A person as a member: when they enrolled and left, and what codes are told of it."""

from __future__ import annotations

import msgspec

from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.referral import facts
from stream_app.domain.referral import member as members
from stream_app.domain.referral.member import Membership
from stream_app.processors.codes import CODE_KEY, claim_letter
from stream_app.processors.people import clients
from stream_app.processors.people.desk import Desk


def hear(desk: Desk, membership: Membership) -> None:
    """An enrolment or a departure."""
    person = desk.person
    kept = sorted([*person.memberships, membership], key=lambda m: m.moment)
    person.memberships = tuple(kept[-members.MAX_MEMBERSHIPS :])
    desk.members_changed = desk.buys = True
    if membership.joined:
        person.enrolling[membership.event_id] = desk.settles(membership.at)
        clients.link(desk, membership.client, membership.moment)


def hear_again(desk: Desk, membership: Membership) -> None:
    """An id heard before. Within grace the smaller (time, content) stands (semantics 23), later the first. Of two at
    one time that is the one which says more: the dead letter of a code that was taken is made of what codes know of an
    enrolment, and takes nothing from it when it is replayed."""
    person = desk.person
    if membership.at + desk.house.slack_ms <= desk.context.now:
        return
    same = next((m for m in person.memberships if m.event_id == membership.event_id), None)
    if same is None:
        return
    there = msgspec.structs.replace(membership, origin=same.origin)
    if _precedence(there) < _precedence(same):
        person.memberships = tuple(m for m in person.memberships if m is not same)
        hear(desk, membership)
        clients.unlink(desk, same.client, same.moment)


def _precedence(membership: Membership) -> tuple[int, bool, bool, int, str]:
    m = membership
    return m.at, m.contact == NO_CONTACT, not m.client, -len(m.codes), repr(m)


def tell_claims(desk: Desk) -> None:
    """Tells codes who enrolled with them."""
    if not desk.members_changed:
        return
    person = desk.person
    claims = members.claims_of(person.memberships, desk.name)
    now = {f"{code}\x1f{event_id}": claim for (code, event_id), claim in claims.items()}
    origins = {m.event_id: m.origin for m in person.memberships}
    for name, claim in now.items():
        if person.claimed.get(name) != claim:
            code = name.partition("\x1f")[0]
            letter = claim_letter(code, claim, origins[claim.event_id])
            desk.context.forward(facts.CLAIM, CODE_KEY + code.encode(), letter)
    for name, claim in person.claimed.items():
        if name not in now:
            code = name.partition("\x1f")[0]
            letter = claim_letter(code, claim, (), gone=True)
            desk.context.forward(facts.CLAIM, CODE_KEY + code.encode(), letter)
    person.claimed = now
