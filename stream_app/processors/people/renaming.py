"""Other people's new names: whoever was erased goes by another one, and who names them learns it.

Somebody new may have the old name by then. Letters that are meant for whoever had it before are answered with the new
one, as long as any may be on their way.
"""

from __future__ import annotations

import msgspec

from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral import facts
from stream_app.domain.referral.facts import CLIENT, Answer, Renamed, renamed, taken_back
from stream_app.domain.referral.ledger import reward_id
from stream_app.processors.people import abreast, clients, telling
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.state import Person, WalkTold


def hear(desk: Desk, told: Renamed) -> None:
    """Somebody whom this person names goes by another name."""
    person, old, new = desk.person, told.old, told.new
    person.settled.bindings = renamed(person.settled.bindings, old, new)
    if old in person.inherited:
        person.inherited[new] = person.inherited.pop(old)
    if old.startswith(CLIENT):
        clients.rename(desk, old.removeprefix(CLIENT), new.removeprefix(CLIENT))
    for name, inherited in person.inherited.items():
        bindings = renamed(inherited.bindings, old, new)
        person.inherited[name] = msgspec.structs.replace(inherited, bindings=bindings)
    for code, answer in person.answers.items():
        claims = tuple(c.renamed(new) if c.user == old else c for c in answer.claims)
        person.answers[code] = Answer(claims)
    for program, bound in person.bound_told.items():
        if bound.key == old:
            person.bound_told[program] = WalkTold(bound.id, new, 0)
            desk.send(facts.BOUND, old.encode(), bound.id, None)
    for user in person.users:
        desk.send(facts.RENAMED, user.encode(), old, Renamed(old, new))
    if told.level > 1:
        desk.renames.append(told)
    elif not _tells_new(desk, told):
        not_here(desk, told)


def _tells_new(desk: Desk, told: Renamed) -> bool:
    """Tells the new name of a conversion; False if that has to do with somebody else."""
    if not told.conversion_id or told.conversion_id in desk.person.held:
        return bool(told.conversion_id)
    sold = desk.sold.get(told.conversion_id)
    if sold is None or not any(walk.key in (told.old, told.new) for walk in sold.told):
        return False
    sold.decided = tuple(
        msgspec.structs.replace(d, referrer=told.new) if d.referrer == told.old else d for d in sold.decided
    )
    telling.tell_sold(desk, sold)
    return True


def not_here(desk: Desk, told: Renamed) -> None:
    """Whoever had this name before may have told of it. If nobody did, it was taken back meanwhile."""
    before = desk.person.moved
    if before:
        desk.send(facts.RENAMED, before.encode(), told.old, told)
        if told.program and not told.conversion_id:
            desk.send(facts.BOUND, told.new.encode(), f"{desk.name}{SEPARATOR}{told.program}", None)
    elif told.conversion_id:
        reward = reward_id(told.program, told.conversion_id, told.level, told.new)
        name = taken_back(reward, desk.name, erased=bool(desk.person.erased))
        desk.send(facts.WALK, told.new.encode(), name, None)


# --- whoever had this name before ------------------------------------------------------------------------


def was_another(person: Person) -> bool:
    """Whether what referrers are told is meant for whoever had this name before."""
    return bool(person.moved) and not any(m.joined for m in person.memberships)


def point(desk: Desk, teller: str, program: str, conversion_id: str = "", level: int = 0) -> None:
    """Somebody does not know the new name of whoever had this one; they tell that, once they do."""
    body = Renamed(desk.name, desk.person.moved, program, conversion_id, level)
    desk.send(facts.RENAMED, teller.encode(), desk.name, body)


def forget(desk: Desk, now: int) -> None:
    """Nothing for them can be on its way any more."""
    person = desk.person
    if person.moved and person.moved_until <= now and abreast.are_all_at(desk, person.moved_until, now):
        person.moved, person.moved_until = "", 0
        desk.may_be_nobody = True
