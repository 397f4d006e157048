"""Step one of a commit: each event is noted by the part of the work that it concerns."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from stream_app.domain.referral import facts
from stream_app.domain.referral.member import Erasure, Invited, Membership
from stream_app.processors.people import (
    abreast,
    asking,
    buying,
    clients,
    enrolling,
    erasing,
    moving,
    referring,
    renaming,
    turns,
    visits,
)
from stream_app.processors.people.desk import Desk, note
from stream_app.processors.people.events import Event, Happened, Heard
from stream_app.processors.people.seen import is_new, may_come_again
from stream_app.processors.people.state import Turn

_BUYS = frozenset({facts.CONVERSION, facts.ANSWER, facts.KNOWN, facts.INHERITED, facts.ALIAS})
"""Kinds that a person hears as a buyer."""
Placed = TypeVar("Placed", Membership, Turn)


def hear(desk: Desk, event: Event) -> None:
    """Notes one event."""
    if isinstance(event, Heard):
        _hear(desk, event)
    elif is_new(desk.person, event.event_id):
        _happened(desk, event)
    else:
        _again(desk, event)


def _hear(desk: Desk, event: Heard) -> None:
    """What another key tells."""
    name, body = event.id, event.body
    desk.buys = desk.buys or event.kind in _BUYS
    match event.kind:
        case facts.CONVERSION:
            buying.hear(desk, name, body)
        case facts.WALK:
            referring.hear_walk(desk, name, body)
        case facts.ANSWER:
            asking.hear_answer(desk, name, body)
        case facts.KNOWN:
            asking.hear_known(desk, name, body)
        case facts.INHERITED:
            note(desk.person.inherited, name, body)
        case facts.ALIAS:
            clients.hear(desk, name, body)
        case facts.BOUND:
            desk.counts = True
            referring.hear_bound(desk, name, body)
        case facts.CAPTURED:
            desk.buys = desk.buys or bool(desk.person.users or desk.person.held or desk.person.enrolling)
            visits.hear(desk, name, body.visits if body is not None else ())
        case facts.LEAD:
            buying.hear_lead(desk, name, body)
        case facts.ABREAST:
            abreast.hear(desk, body)
        case facts.ERASED | facts.FORGOTTEN | facts.MOVED | facts.RENAMED:
            desk.buys = desk.counts = True
            _hear_of_erasure(desk, event)
        case _:  # a lap
            desk.person.waits = False
            desk.lapped = desk.may_be_nobody = True


def _hear_of_erasure(desk: Desk, event: Heard) -> None:
    match event.kind:
        case facts.ERASED:
            erasing.hear_of_user(desk, event.body)
        case facts.FORGOTTEN:
            erasing.hear_forgotten(desk, event.body)
        case facts.MOVED:
            moving.hear(desk, event.id, event.body)
        case _:
            renaming.hear(desk, event.body)


def _happened(desk: Desk, event: Happened) -> None:
    """A referral event, for the first time."""
    match event.what:
        case Membership() as membership:
            ends = desk.person.erasing
            if ends is not None and membership.at > ends.at:
                may_come_again(desk.person, membership.event_id)
                detail = "user_id: is being erased, and new only when that is done"
                desk.context.reject(event, "bad_field", detail)
            else:
                enrolling.hear(desk, _placed(desk, event, membership))
        case Erasure() as erasure:
            erasing.hear(desk, erasure)
        case Invited() as invited:
            desk.counts = True
            referring.hear_invited(desk, invited)
        case Turn() as turn:
            turns.hear(desk, _placed(desk, event, turn))


def _again(desk: Desk, event: Happened) -> None:
    """A referral event whose id was seen before."""
    desk.context.count("duplicates")
    match event.what:
        case Membership() as membership:
            enrolling.hear_again(desk, _placed(desk, event, membership))
        case Erasure() as erasure if desk.person.erasing is not None:
            erasing.hear(desk, erasure)  # which takes an earlier one only
        case _:
            pass


def _placed(desk: Desk, event: Happened, what: Placed) -> Placed:
    """With where its record lies."""
    return msgspec.structs.replace(what, origin=tuple(desk.context.origin(event)))
