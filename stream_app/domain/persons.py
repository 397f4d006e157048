"""One person on several clients: whose a client's touchpoints are, and what a conversion sees of the others
(semantics 31).

A link is dated: a conversion sees what was linked at a time up to its own, so that a later link changes nothing about
it. Everything here is a function of dated facts, whatever the order in which they became known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stream_app.domain.journey import Journey, Owner, Touchpoint
from stream_app.domain.times import LATEST_MS

MAX_CLIENTS = 50
"""Clients of a person that are remembered: those last seen."""
MAX_TOLD = 20
"""So many of them, the latest, are told of the others."""
MAX_TOUCHES = 100
"""Touchpoints that a client is told of the person's other clients: the first and the latest."""


class Linked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A touchpoint of a person, and when it was theirs."""

    touchpoint: Touchpoint
    since: int
    """Linked from this time on, inclusive."""
    until: int = 0
    """At this time it turned out to be another's; 0: never."""

    def seen_at(self, at: int) -> bool:
        """Whether a conversion at that time sees it."""
        return self.since <= at and (not self.until or at < self.until)


class Others(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a client knows of a person's other clients."""

    touches: tuple[Linked, ...]
    """Sorted by time, then session, then client."""
    dropped_until: int = 0
    """Time of the newest touchpoint that had to go; 0: none had."""


class Link(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a client says of itself to a person."""

    client_id: str
    touches: tuple[Linked, ...]
    since: int
    """When the person was first known on it; of one who only converted there, their latest conversion."""
    dropped_until: int = 0

    @property
    def latest(self) -> int:
        """Time of its latest touchpoint or link."""
        return max((linked.since for linked in self.touches), default=self.since)


class Person(msgspec.Struct, gc=False, array_like=True):
    """A person's clients."""

    links: dict[str, Link] = {}
    """By client; of one that came back after it was forgotten there may be more."""
    dropped_until: int = 0
    """Time of the newest touchpoint of a client that had to go; 0: none had."""


def owner_of(owners: Sequence[Owner], touchpoint: Touchpoint, at: int) -> str:
    """Whose a touchpoint was, as far as was known at a time; empty: nobody's yet."""
    for owner in reversed(owners):
        if owner.since <= touchpoint.visit and owner.linked_at <= at:
            return owner.user
    return ""


def own(owners: Sequence[Owner], touchpoints: tuple[Touchpoint, ...], user: str, at: int) -> tuple[Touchpoint, ...]:
    """Those of a client's touchpoints that a conversion on it sees: the user's, and those that are nobody's. Without a
    user it sees them all."""
    if not user or not owners or (len(owners) == 1 and owners[0].user == user):
        return touchpoints
    seen = {"", user}
    return tuple(touchpoint for touchpoint in touchpoints if owner_of(owners, touchpoint, at) in seen)


def links(client_id: str, journey: Journey) -> dict[str, Link]:
    """What a client says to each of its users, those included who have no touchpoint on it: they must be told of
    others'."""
    owners = journey.owners
    since = {guest.user: guest.at for guest in journey.guests}
    for owner in reversed(owners):
        since[owner.user] = owner.linked_at
    found: dict[str, list[Linked]] = {user: [] for user in since}
    for touchpoint in journey.touchpoints if owners else ():
        at = touchpoint.at
        index = max((n for n, owner in enumerate(owners) if owner.since <= touchpoint.visit), default=0)
        owner = owners[index]
        found[owner.user].append(Linked(touchpoint, max(at, owner.linked_at)))
        if index and at < owner.linked_at:
            found[owners[index - 1].user].append(Linked(touchpoint, at, owner.linked_at))
    dropped = journey.dropped_until
    return {user: Link(client_id, tuple(touches), since[user], dropped) for user, touches in found.items()}


def hear(person: Person, link_id: str, link: Link | None) -> None:
    """Takes what a client says, or takes it back. Of very many clients those last seen are kept."""
    if link is None:
        person.links.pop(link_id, None)
        return
    person.links[link_id] = link
    if len(person.links) > MAX_CLIENTS:
        gone = person.links.pop(min(person.links.items(), key=_newness_of_item)[0])
        person.dropped_until = max([person.dropped_until, *(linked.touchpoint.at for linked in gone.touches)])


def others(person: Person) -> dict[str, Others]:
    """What each of a person's clients must know of the others; clients with nothing to know are left out."""
    told = sorted(person.links.values(), key=_newness)[-MAX_TOLD:]
    if len(person.links) == 1:
        return {}
    return {
        link.client_id: _joined(
            (other for other in person.links.values() if other.client_id != link.client_id), person.dropped_until
        )
        for link in told
    }


class Path(NamedTuple):
    """What a conversion looks back on."""

    touchpoints: tuple[Touchpoint, ...]
    """Oldest first."""
    foreign: tuple[int, ...] = ()
    """Places of those that were on other clients."""
    cut: bool = False
    """One of another client had to go."""


def path(mine: tuple[Touchpoint, ...], known: Mapping[str, Others], user: str, at: int, oldest: int) -> Path:
    """A client's own touchpoints and those of its user's other clients from `oldest` to `at`, both inclusive. At one
    time the others' come first."""
    theirs = known.get(user) if user else None
    if theirs is None:
        return Path(mine)
    seen = [
        linked.touchpoint for linked in theirs.touches if oldest <= linked.touchpoint.at <= at and linked.seen_at(at)
    ]
    cut = theirs.dropped_until > 0 and theirs.dropped_until >= oldest
    both = sorted([*((touch, True) for touch in seen), *((touch, False) for touch in mine)], key=_time)
    places = tuple(place for place, (_, is_foreign) in enumerate(both) if is_foreign)
    return Path(tuple(touch for touch, _ in both), places, cut)


def changed_since(before: Others | None, after: Others | None) -> int:
    """The earliest conversion that two states of knowledge may tell apart, by its time."""
    old = set(before.touches) if before is not None else set()
    new = set(after.touches) if after is not None else set()
    return min((linked.since for linked in old ^ new), default=LATEST_MS)


def _joined(joined: Iterable[Link], dropped_until: int) -> Others:
    parts = sorted(joined, key=_name)
    touches = sorted((linked for link in parts for linked in link.touches), key=_place)
    dropped = max((link.dropped_until for link in parts), default=0)
    dropped = max(dropped, dropped_until)
    if len(touches) > MAX_TOUCHES:
        dropped = max(dropped, touches[len(touches) - MAX_TOUCHES].touchpoint.at)
        touches = [touches[0], *touches[1 - MAX_TOUCHES :]]
    return Others(tuple(touches), dropped)


def _time(touch: tuple[Touchpoint, bool]) -> int:
    return touch[0].at


def _place(linked: Linked) -> tuple[int, str]:
    return (linked.touchpoint.at, linked.touchpoint.session_id)


def _name(link: Link) -> str:
    return link.client_id


def _newness_of_item(item: tuple[str, Link]) -> tuple[int, str]:
    return _newness(item[1])


def _newness(link: Link) -> tuple[int, str]:
    return (link.latest, link.client_id)
