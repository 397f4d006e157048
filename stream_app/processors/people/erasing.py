"""Erasure: when it comes about (semantics 50, decision 0021).

Somebody is to be forgotten. As of now they have left all programmes; the rest waits until nothing from before can come
any more, to any task. Then others forget the person's clients; then all that is kept goes to a pseudonym, which
`moving.py` does.
"""

from __future__ import annotations

from stream_app.domain.referral import facts
from stream_app.domain.referral.facts import CLIENT, Erased, Forgotten
from stream_app.domain.referral.member import Erasure, Membership
from stream_app.domain.times import DAY_MS
from stream_app.processors.links import PERSON_ERASED, PersonErased
from stream_app.processors.people import abreast, clients, enrolling
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.due import erased_at
from stream_app.processors.people.moving import led_by, move, sold_by
from stream_app.processors.people.opened import oldest
from stream_app.processors.people.seen import may_come_again
from stream_app.processors.people.state import Erasing


def hear(desk: Desk, erasure: Erasure) -> None:
    """Somebody is to be forgotten; of several times the earliest."""
    person, at = desk.person, erasure.at
    if person.erasing is not None and (person.erasing.at, person.erasing.event_id) <= (at, erasure.event_id):
        return
    later = person.erasing.event_id if person.erasing is not None else ""
    person.erasing = Erasing(at, erasure.event_id, erased_at(at, desk.house))
    undone = [m for m in person.memberships if m.at > at]
    person.memberships = tuple(m for m in person.memberships if m.at <= at)
    person.enrolling = {m.event_id: s for m in person.memberships if (s := person.enrolling.get(m.event_id))}
    for membership in undone:
        if membership.event_id != later:
            may_come_again(person, membership.event_id)
        clients.unlink(desk, membership.client, membership.moment)
    for program in desk.house.programs.by_name:
        enrolling.hear(desk, Membership(at, erasure.event_id, program, joined=False))


def hear_of_user(desk: Desk, told: Erased) -> None:
    """The user of this client goes by another name, and the client follows."""
    person = desk.person
    if told.old in person.users:
        person.users[told.new] = person.users.pop(told.old)
    desk.send(facts.INHERITED, told.old.encode(), desk.name, None)
    if person.erasing is None:
        # By the time of its own task, which may be behind: what it bought before has to settle.
        person.erasing = Erasing(told.at, "", erased_at(told.at, desk.house), listed=True)


def hear_forgotten(desk: Desk, told: Forgotten | None) -> None:
    """Which clients others know of, or which of them are forgotten; nothing: it is time to go."""
    erasing = desk.person.erasing
    if erasing is None or erasing.due:
        return
    if told is None:
        move(desk, erasing.at)
        return
    if told.done:
        erasing.waiting = tuple(client for client in erasing.waiting if client not in told.clients)
    else:
        erasing.listed = True
        erasing.clients = erasing.waiting = told.clients
    if erasing.listed and not erasing.waiting:
        _go(desk)


def proceed(desk: Desk, now: int) -> None:
    """Once all from before has been read and has settled: others forget the person's clients first, so that nothing
    more is told of what they did. Whoever buys without end is not waited for."""
    person = desk.person
    erasing, books = person.erasing, person.books
    if erasing is None or not erasing.due:
        return
    first = erased_at(erasing.at, desk.house)
    if now < first:
        return
    if erasing.due == first and not erasing.listed and not abreast.are_all_at(desk, first, now):
        return  # a client is told when its user's time has come
    # What was booked is told as it stands, what is open would be judged without what is forgotten.
    opens = 0 < oldest(books) <= erasing.at
    waits = opens or any(turn.at <= erasing.at for turn in books.turns) or bool(person.held or person.enrolling)
    if waits and erasing.due == first:  # a day from now on: time may have leapt
        erasing.due = now + DAY_MS
    if waits and now < erasing.due:
        return
    erasing.due = 0
    if erasing.listed:
        _go(desk)
    else:
        _have_clients_forgotten(desk)


def _have_clients_forgotten(desk: Desk) -> None:
    person = desk.person
    names: dict[str, list[str]] = {client: [] for client in person.clients}
    names.update({name.removeprefix(CLIENT): [] for name in person.inherited})
    names.update({client: [] for led in led_by(desk.key, desk.context.rows) for client in led.clients})
    desk.sold.write()
    for sold in sold_by(desk.key, desk.context.rows):
        if sold.purchase.client and not sold.purchase.status:
            names.setdefault(sold.purchase.client, []).append(sold.id)
    body = PersonErased({client: tuple(ids) for client, ids in sorted(names.items())})
    desk.send(PERSON_ERASED, desk.key, desk.name, body)


def _go(desk: Desk) -> None:
    """By a letter to itself, which is heard before anything else in its commit: so a record that is taken back is not
    written there as well."""
    desk.send(facts.FORGOTTEN, desk.key, "", None)
