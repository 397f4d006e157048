"""Clients and their users: each user tells a client since when it is theirs, and the client tells its users what was
done before they were known."""

from __future__ import annotations

import msgspec

from stream_app.domain.ids import content_digest
from stream_app.domain.referral import facts
from stream_app.domain.referral.cohorts import NO_SALES
from stream_app.domain.referral.facts import CLIENT, Alias, Inherited, Moment
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people import telling, visits
from stream_app.processors.people.desk import LATEST, Decision, Desk
from stream_app.processors.people.moving import led_by, sold_by
from stream_app.processors.people.state import MAX_CLIENTS, Heir, Linked

# --- a user's clients ------------------------------------------------------------------------------------


def link(desk: Desk, client: str, moment: Moment) -> None:
    """Something says that the client is this user's: it is told since when, and says what it did before being
    known."""
    clients = desk.person.clients
    linked = clients.get(client)
    if linked is None and (not client or len(clients) >= MAX_CLIENTS or desk.name.startswith(CLIENT)):
        return
    if linked is None or moment < linked.since:
        clients[client] = Linked(moment, linked.settled if linked is not None else None)
        _tell(desk, client, Alias(moment))


def unlink(desk: Desk, client: str, moment: Moment) -> None:
    """What said so does not stand. Unless something else does, the client is no more this user's."""
    person = desk.person
    linked = person.clients.get(client)
    if linked is None or linked.since != moment or linked.settled == moment:
        return
    moments = [held.purchase.moment for held in person.held.values() if held.purchase.client == client]
    moments += [m.moment for m in person.memberships if m.joined and m.client == client]
    moments += [led.clients[client] for led in led_by(desk.key, desk.context.rows) if client in led.clients]
    if linked.settled is not None:
        moments.append(linked.settled)
    if not moments:
        del person.clients[client]
        _tell(desk, client, None)
    elif (since := min(moments)) != moment:
        person.clients[client] = Linked(since, linked.settled)
        _tell(desk, client, Alias(since))


def settle(desk: Desk, client: str, moment: Moment) -> None:
    """What says that the client is this user's can be taken back no more."""
    clients = desk.person.clients
    linked = clients.get(client)
    if linked is not None and (linked.settled is None or moment < linked.settled):
        clients[client] = Linked(linked.since, moment)


def rename(desk: Desk, old: str, new: str) -> None:
    """A client was erased, with another of its users, say: nothing here names it any more. What was done on it is still
    told from what was done elsewhere, as referrers must be compared with buyers."""
    person = desk.person
    person.clients.pop(old, None)
    for held in person.held.values():
        if held.purchase.client == old:
            held.purchase = msgspec.structs.replace(held.purchase, client=new)
    for name in [sold.id for sold in sold_by(desk.key, desk.context.rows)]:
        sold = desk.sold.get(name)
        if sold is not None and sold.purchase.client == old:
            sold.purchase = msgspec.structs.replace(sold.purchase, client=new)
            telling.tell_sold(desk, sold)
    if any(membership.client == old for membership in person.memberships):
        person.memberships = tuple(
            msgspec.structs.replace(m, client=new) if m.client == old else m for m in person.memberships
        )
        desk.members_changed = True


def _tell(desk: Desk, client: str, alias: Alias | None) -> None:
    desk.send(facts.ALIAS, (CLIENT + client).encode(), desk.name, alias)


# --- a client's users ------------------------------------------------------------------------------------


def hear(desk: Desk, user: str, alias: Alias | None) -> None:
    """As a client: since when it is a user's, or that it is not after all."""
    users = desk.person.users
    heir = users.get(user)
    if alias is None:
        if heir is not None and heir.told:
            desk.send(facts.INHERITED, user.encode(), desk.name, None)
        users.pop(user, None)
        desk.may_be_nobody = True
    elif heir is not None or len(users) < MAX_CLIENTS:
        users[user] = Heir(alias.since, heir.told if heir is not None else 0)


def bequeath(desk: Desk, decision: Decision) -> None:
    """Tells the users of this client what was done before they were known."""
    person = desk.person
    if not person.users or person.erasing is not None or person.erased:
        return
    first = min(person.users)
    captured = tuple(visits.known(desk, LATEST))
    for user, heir in person.users.items():
        sales = decision.sales if user == first else NO_SALES
        body = Inherited(heir.since, decision.bindings.made, decision.first_paid, captured, sales)
        letter = encode_body(Letter(desk.name, body))
        digest = content_digest(letter)
        if heir.told != digest and (heir.told or body != Inherited(heir.since)):
            person.users[user] = Heir(heir.since, digest)
            desk.context.forward(facts.INHERITED, user.encode(), letter)
