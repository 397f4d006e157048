"""Visits with a code: those a person is known to have made, and, of a client, what its codes are told of them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral import facts
from stream_app.domain.referral.facts import CLIENT, Moment, Purchase, Visit
from stream_app.processors.codes import CODE_KEY
from stream_app.processors.people.desk import Desk, note
from stream_app.processors.people.state import MAX_CAPTURED


def hear(desk: Desk, session: str, visits: tuple[Visit, ...]) -> None:
    """Visits of a session; the client tells their codes, to be counted: whose client it is may change later."""
    captured = desk.person.captured
    if desk.name.startswith(CLIENT):
        _tell_codes(desk, session, captured.get(session, ()), visits)
    note(captured, session, visits or None)
    while len(captured) > MAX_CAPTURED:
        del captured[next(iter(captured))]


def _tell_codes(desk: Desk, session: str, told: tuple[Visit, ...], visits: tuple[Visit, ...]) -> None:
    before = {f"{session}{SEPARATOR}{v.at}{SEPARATOR}{v.place}": v for v in told}
    now = {f"{session}{SEPARATOR}{v.at}{SEPARATOR}{v.place}": v for v in visits}
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old is not None and (new is None or new.code != old.code):
            desk.send(facts.VISIT, CODE_KEY + old.code.encode(), name, None)
        if new is not None and new != old:
            desk.send(facts.VISIT, CODE_KEY + new.code.encode(), name, new)


def known(desk: Desk, moment: Moment) -> list[Visit]:
    """Captured codes, as far as they are this person's by then."""
    person = desk.person
    visits = [v for group in person.captured.values() for v in group if v.since <= moment[0]]
    visits.extend(v for i in person.inherited.values() if i.since <= moment for v in i.visits)
    return _in_order(msgspec.structs.replace(v, since=0) if v.since else v for v in visits)


def of(desk: Desk, purchase: Purchase) -> tuple[Visit, ...]:
    """What may have brought a purchase: visits of its client and, if its user is known, of that user's other clients,
    whose touchpoints it sees as well (semantics 31)."""
    if desk.name.startswith(CLIENT):
        return purchase.visits
    moment = purchase.made or purchase.moment
    return tuple(_in_order((*purchase.visits, *(v for v in known(desk, moment) if v.at <= moment[0]))))


def _in_order(visits: Iterable[Visit]) -> list[Visit]:
    return sorted(set(visits), key=lambda v: (v.at, v.place, v.code, v.flags))
