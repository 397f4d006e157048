"""A person as a buyer: their purchases, and leads' statuses, as long as they are open and when they have settled; and
how the open ones are decided."""

from __future__ import annotations

import msgspec

from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.referral.buyer import Bindings, Buyer, Decided, Enrolment, contacts_of
from stream_app.domain.referral.buyer import Person as Deciding
from stream_app.domain.referral.codes import marks_of, normal_code
from stream_app.domain.referral.cohorts import corrected, merged, sale_of
from stream_app.domain.referral.facts import Mine, Moment, Purchase
from stream_app.domain.referral.member import Membership
from stream_app.processors.people import clients, telling, visits
from stream_app.processors.people.desk import Decision, Desk
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import LEAD_ROWS, MAX_CONTACTS, MAX_OPEN, Held, Led, Sold

# --- what is heard ---------------------------------------------------------------------------------------


def hear(desk: Desk, name: str, purchase: Purchase | None) -> None:
    """A purchase as it is now, or that there was none."""
    person = desk.person
    held = person.held.get(name)
    if held is None:
        sold = desk.sold.get(name)
        if sold is not None:
            _correct(desk, sold, purchase)
            return
        if purchase is None or _is_of_another(desk, purchase):
            return
        person.held[name] = Held(_compared(purchase), desk.settles(purchase.at))
    elif purchase is None:
        telling.take_back(desk, held)
        del person.held[name]
        clients.unlink(desk, held.purchase.client, held.purchase.moment)
        desk.may_be_nobody = True
    else:
        before, held.purchase = held.purchase, _compared(purchase)
        if (before.client, before.moment) != (purchase.client, purchase.moment):
            clients.unlink(desk, before.client, before.moment)
    if purchase is not None:
        clients.link(desk, purchase.client, purchase.moment)


def hear_lead(desk: Desk, lead: str, mine: Mine | None) -> None:
    """A lead names this person, and may tell them of its statuses, or does not any more; its clients are theirs since
    it was made on them. A name that was drawn at random never changes again, so nobody who has one remembers."""
    person = desk.person
    led = _leads(desk)
    before = led.get(lead)
    if person.erased or (mine is None and before is None):
        return
    if mine is not None:
        led.put(Led(lead, mine.clients))
    else:
        led.drop(lead)
        desk.may_be_nobody = True
    person.leads += (mine is not None) - (before is not None)
    led.write()
    for client, moment in mine.clients.items() if mine is not None else ():
        clients.link(desk, client, moment)
    for client, moment in before.clients.items() if before is not None else ():
        clients.unlink(desk, client, moment)


def _leads(desk: Desk) -> Shelf[Led]:
    return Shelf(Led, LEAD_ROWS, desk.key, desk.context.rows)


def _is_of_another(desk: Desk, purchase: Purchase) -> bool:
    """A status of a lead that has yet to hear the name by which its person goes now: it will tell that."""
    person = desk.person
    if not purchase.lead or person.erased:
        return False
    if person.erasing is not None and not person.erasing.due:
        return True
    return _leads(desk).get(purchase.lead) is None


def _correct(desk: Desk, sold: Sold, purchase: Purchase | None) -> None:
    """A settled purchase was refunded, or withdrawn. How it was decided stays."""
    desk.person.sales = corrected(desk.person.sales, sale_of(sold.purchase), sale_of(purchase))
    if purchase is None:
        telling.take_back(desk, sold)
        desk.sold.drop(sold.id)
        return
    sold.purchase = _kept(_compared(purchase), sold.decided)
    telling.tell_sold(desk, sold)


def _compared(purchase: Purchase) -> Purchase:
    """With codes as they are compared."""
    codes = tuple(code for text in purchase.codes if (code := normal_code(text)))
    found = tuple(
        msgspec.structs.replace(visit, code=code) for visit in purchase.visits if (code := normal_code(visit.code))
    )
    return msgspec.structs.replace(purchase, codes=codes, visits=found, lead="")


# --- how it is decided -----------------------------------------------------------------------------------


def decide(desk: Desk, now: int) -> Decision:
    """Decides open purchases and enrolments anew, tells what follows where it differs, and settles what can change no
    more."""
    person = desk.person
    if not (person.held or person.enrolling or person.inherited):
        return Decision(Bindings(person.settled.bindings), person.settled.first_paid, person.sales)
    steps: list[tuple[Moment, str, Held | Membership]] = [
        (held.purchase.moment, name, held) for name, held in person.held.items()
    ]
    joined = [m for m in person.memberships if m.event_id in person.enrolling]
    steps.extend((m.moment, m.event_id, m) for m in joined)
    steps.sort(key=lambda step: step[:2])
    answers = {code: answer.claims for code, answer in person.answers.items()}
    buyer = Buyer(desk.house.programs, answers, _judged(desk), person.settled)
    early = len(person.held) - MAX_OPEN
    settling = True
    for _, name, step in steps:
        if isinstance(step, Held):
            erasing = person.erasing
            if erasing is not None and step.purchase.status and step.purchase.at > erasing.at:
                # A lead goes on. Whether it is told before or behind the new name, their contacts have no say.
                step.purchase = msgspec.structs.replace(step.purchase, contact=NO_CONTACT)
            known = telling.with_contacts(desk, step.purchase)
            brought = msgspec.structs.replace(known, visits=visits.of(desk, step.purchase))
            decided = buyer.decide(brought, marks_of(known.contact, known.client))
            telling.tell(desk, step, name, step.purchase, decided)
            settling = settling and (step.settles <= now or early > 0)
            if settling:
                early -= 1
                _settle(desk, name, step, decided)
        else:
            buyer.enrol(Enrolment(step.at, step.event_id, step.contact), visits.known(desk, step.moment))
            settling = settling and person.enrolling[step.event_id] <= now
            if settling:
                del person.enrolling[step.event_id]
        if settling:
            person.settled = buyer.state.copied()
    sales = merged(person.sales, *(sale_of(held.purchase) for held in person.held.values()))
    return Decision(buyer.bindings, buyer.state.first_paid, sales)


def _judged(desk: Desk) -> Deciding:
    person = desk.person
    return Deciding(
        desk.name,
        {contact: (known.at, known.event_id) for contact, known in person.known.items()},
        tuple(person.inherited[client] for client in sorted(person.inherited)),
    )


def _settle(desk: Desk, name: str, held: Held, decided: tuple[Decided, ...]) -> None:
    person = desk.person
    del person.held[name]
    purchase = held.purchase
    clients.settle(desk, purchase.client, purchase.moment)
    if purchase.paid:
        for contact in contacts_of(telling.with_contacts(desk, purchase).contact):
            first = person.paid_by.get(contact)
            if (first is None and len(person.paid_by) < MAX_CONTACTS) or (
                first is not None and purchase.moment < first
            ):
                person.paid_by[contact] = purchase.moment
        person.sales = merged(person.sales, sale_of(purchase))
    if decided or purchase.paid:
        desk.sold.put(Sold(name, _kept(purchase, decided), decided, held.told))


def _kept(purchase: Purchase, decided: tuple[Decided, ...]) -> Purchase:
    """What of a settled purchase is kept: of one that concerned nobody, what it still brings, for a refund must move a
    customer's revenue by the difference, and what erasure must know to have its record taken back."""
    if decided:
        return msgspec.structs.replace(purchase, codes=(), visits=(), made=None)
    kept = Purchase(0, "", "", purchase.status, client=purchase.client)
    for currency, left in sale_of(purchase).revenue.items():
        kept = msgspec.structs.replace(kept, value=left, currency=currency, paid=True)
    return kept
