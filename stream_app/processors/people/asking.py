"""What a person must hear from other keys to be judged as a buyer: whose codes are, and whether an e-mail or telephone
was paid with before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stream_app.domain.referral import facts
from stream_app.domain.referral.buyer import contacts_of
from stream_app.domain.referral.facts import Answer, FirstPaid, Known, Moment, Question
from stream_app.processors.codes import CODE_KEY, CONTACT_KEY
from stream_app.processors.people import telling, visits
from stream_app.processors.people.desk import Desk, note
from stream_app.processors.people.state import MAX_CONTACTS


def hear_answer(desk: Desk, code: str, answer: Answer | None) -> None:
    """Whose a code is."""
    _note(desk.person.answers, code, answer, desk.person.asked)


def hear_known(desk: Desk, contact: str, known: Known | None) -> None:
    """Since when somebody else is known by a contact."""
    _note(desk.person.known, contact, known, desk.person.contacts)


def _note(notes: dict[str, Any], name: str, body: Any, asked: Mapping[str, object]) -> None:
    """Answers that nobody waits for any more would never be forgotten."""
    note(notes, name, body if name in asked else None)


def ask(desk: Desk) -> None:
    """Asks whose the codes are that open purchases and enrolments depend on."""
    person = desk.person
    if not (person.held or person.enrolling or person.asked):
        return
    wanted: dict[str, int] = {}
    for held in person.held.values():
        purchase = held.purchase
        for code in (*purchase.codes, *(visit.code for visit in visits.of(desk, purchase))):
            wanted[code] = max(wanted.get(code, 0), purchase.at)
    if person.enrolling:
        latest = max(m.moment for m in person.memberships if m.event_id in person.enrolling)
        for visit in visits.known(desk, latest):
            wanted[visit.code] = max(wanted.get(visit.code, 0), latest[0])
    for code, until in wanted.items():
        if person.asked.get(code, -1) < until:
            person.asked[code] = until
            answer = person.answers.get(code)
            question = Question(until, answer.digest if answer is not None else 0)
            desk.send(facts.QUESTION, CODE_KEY + code.encode(), desk.name, question)
    for code in [code for code in person.asked if code not in wanted]:
        del person.asked[code]
        person.answers.pop(code, None)


def tell_contacts(desk: Desk) -> None:
    """Tells each e-mail and telephone when this person first paid with it."""
    person = desk.person
    first: dict[str, Moment] = dict(person.paid_by)
    asking: set[str] = set()
    concerned: set[str] = set()
    joined = [m for m in person.memberships if m.event_id in person.enrolling]
    for membership in joined:
        if visits.known(desk, membership.moment):
            asking.update(contacts_of(membership.contact))
    concerned.update(asking)
    for held in person.held.values():
        purchase = held.purchase
        for contact in contacts_of(telling.with_contacts(desk, purchase).contact):
            concerned.add(contact)
            if purchase.paid and (contact not in first or purchase.moment < first[contact]):
                first[contact] = purchase.moment
            if purchase.codes or visits.of(desk, purchase):
                asking.add(contact)
    for contact in sorted(concerned | set(person.contacts)):
        told = person.contacts.get(contact)
        at, event_id = first.get(contact, (0, ""))
        now = FirstPaid(at, event_id, contact in asking or (told is not None and told.asks))
        if now == told or (not now.asks and not now.at and told is None):
            continue
        if told is None and len(person.contacts) >= MAX_CONTACTS:
            continue
        person.contacts[contact] = now
        desk.send(facts.CONTACT, CONTACT_KEY + contact.encode(), desk.name, now)
