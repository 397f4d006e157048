"""Whose a client's sessions are: users who told their id in them, and guests who only converted (semantics 31)."""

from __future__ import annotations

from stream_app.domain.hits import Hit
from stream_app.domain.journey import Guest, Journey, Owner, Session

MAX_OWNERS = 16
"""Changes of user that are remembered of a client: the first and the latest."""


def identify(journey: Journey, session: Session, hit: Hit) -> bool:
    """An event with an id in an open session. True if it is the first one in it."""
    journey.user = hit.user
    if session.user:
        return False
    session.user = hit.user
    own(journey, session, hit)
    return True


def welcome(journey: Journey, hit: Hit) -> None:
    """A conversion that is in no session: if it names a user who has none here, they are remembered."""
    user = hit.user
    if not user or any(owner.user == user for owner in journey.owners):
        return
    at = max([hit.at, *(guest.at for guest in journey.guests if guest.user == user)])
    others = tuple(guest for guest in journey.guests if guest.user != user)
    journey.guests = (*others, Guest(user, at))[-MAX_OWNERS:]


def own(journey: Journey, session: Session, hit: Hit) -> None:
    """The first id of a session says whose it is, and whose the sessions after it are."""
    owners = journey.owners
    if owners and owners[-1].user == hit.user:
        return
    owner = Owner(session.number if owners else 0, hit.user, hit.at)
    journey.owners = (*owners, owner) if len(owners) < MAX_OWNERS else (owners[0], *owners[2:], owner)
