"""A person as somebody who refers: whom they invited, whom they referred, and conversions they are told of."""

from __future__ import annotations

from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral.counting import places
from stream_app.domain.referral.facts import Binding, Walk
from stream_app.domain.referral.member import Invited
from stream_app.processors.people import renaming
from stream_app.processors.people.desk import Desk, note
from stream_app.processors.people.state import Referred


def hear_invited(desk: Desk, invited: Invited) -> None:
    """The person sent invitations."""
    invites, counter = desk.person.invites, desk.house.counter
    invites[invited.program] = invites.get(invited.program, 0) + invited.count
    if counter is not None:
        counter.add("invites", places(invited.program), invited.at, invited.count, desk.context)


def hear_bound(desk: Desk, name: str, binding: Binding | None) -> None:
    """Somebody was referred by this person, or was not after all."""
    person, counter = desk.person, desk.house.counter
    before = desk.referred.get(name)
    if binding is not None and renaming.was_another(person):
        teller, _, program = name.rpartition(SEPARATOR)
        renaming.point(desk, teller, program)
        return
    for known, sign in ((before.binding if before is not None else None, -1), (binding, 1)):
        if known is not None:
            number = person.bound.get(known.program, 0) + sign
            note(person.bound, known.program, number or None)
            if counter is not None:
                where = places(known.program, known.code, known.advocate_kind)
                counter.add("referred", where, known.at, sign, desk.context)
    if binding is not None:
        desk.referred.put(Referred(name, binding))
    else:
        desk.referred.drop(name)


def hear_walk(desk: Desk, name: str, walk: Walk | None) -> None:
    """A conversion of somebody below, or that there was none."""
    if walk is not None and renaming.was_another(desk.person):
        renaming.point(desk, walk.teller, walk.program, walk.conversion_id, walk.level)
    elif walk is not None:
        desk.walks[name].tell(walk)
    else:
        reward, _, teller = name.partition(SEPARATOR)
        desk.walks[reward].take_back(teller)
