"""One person on several clients: whose a client's touchpoints are, and what a conversion sees of the others
(semantics 31).

A link is dated: a conversion sees what was linked at a time up to its own, so that a later link changes nothing about
it. Everything here is a function of dated facts, whatever the order in which they became known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from stream_app.domain.journey import Journey, Owner, Touchpoint

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
    """Sorted by time, then session."""
    dropped_until: int = 0
    """Time of the newest touchpoint that had to go; 0: none had."""


class Link(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a client says of itself to a person."""

    client_id: str
    touches: tuple[Linked, ...]
    dropped_until: int = 0

    @property
    def latest(self) -> int:
        """Time of its latest touchpoint or link."""
        return max((max(linked.since, linked.touchpoint.at) for linked in self.touches), default=0)


class Person(msgspec.Struct, gc=False, array_like=True):
    """A person's clients."""

    links: dict[str, Link] = {}


def owner_of(owners: Sequence[Owner], touched_at: int, at: int) -> str:
    """Whose a touchpoint was, as far as was known at a time; empty: nobody's yet."""
    for owner in reversed(owners):
        if owner.since <= touched_at and owner.linked_at <= at:
            return owner.user
    return ""


def own(owners: Sequence[Owner], touchpoints: tuple[Touchpoint, ...], user: str, at: int) -> tuple[Touchpoint, ...]:
    """Those of a client's touchpoints that a conversion on it sees: the user's, and those that are nobody's. Without a
    user it sees them all."""
    if not user or not owners or (len(owners) == 1 and owners[0].user == user):
        return touchpoints
    seen = {"", user}
    return tuple(touchpoint for touchpoint in touchpoints if owner_of(owners, touchpoint.at, at) in seen)


def links(client_id: str, journey: Journey) -> dict[str, Link]:
    """What a client says to each of its users."""
    owners = journey.owners
    found: dict[str, list[Linked]] = {owner.user: [] for owner in owners}
    for touchpoint in journey.touchpoints:
        at = touchpoint.at
        index = max((n for n, owner in enumerate(owners) if owner.since <= at), default=0)
        owner = owners[index]
        found[owner.user].append(Linked(touchpoint, max(at, owner.linked_at)))
        if index and at < owner.linked_at:
            found[owners[index - 1].user].append(Linked(touchpoint, at, owner.linked_at))
    dropped = journey.dropped_until
    return {user: Link(client_id, tuple(touches), dropped) for user, touches in found.items() if touches}


def hear(person: Person, client_id: str, link: Link | None) -> None:
    """Takes what a client says, or takes it back. Of very many clients those last seen are kept."""
    if link is None:
        person.links.pop(client_id, None)
        return
    person.links[client_id] = link
    if len(person.links) > MAX_CLIENTS:
        del person.links[min(person.links.values(), key=_newness).client_id]


def others(person: Person) -> dict[str, Others]:
    """What each of a person's clients must know of the others; clients with nothing to know are left out."""
    told = sorted(person.links.values(), key=_newness)[-MAX_TOLD:]
    if len(person.links) < 2:  # noqa: PLR2004  # there are others
        return {}
    return {
        link.client_id: _joined(other for other in person.links.values() if other.client_id != link.client_id)
        for link in told
    }


def path(
    mine: tuple[Touchpoint, ...], known: Mapping[str, Others], user: str, at: int, oldest: int
) -> tuple[Touchpoint, ...]:
    """A client's own touchpoints and those of its user's other clients, in order of time, from `oldest` to `at`, both
    inclusive."""
    theirs = known.get(user) if user else None
    if theirs is None:
        return mine
    seen = tuple(
        linked.touchpoint for linked in theirs.touches if oldest <= linked.touchpoint.at <= at and linked.seen_at(at)
    )
    return tuple(sorted((*seen, *mine), key=_time)) if seen else mine


def _joined(joined: Iterable[Link]) -> Others:
    parts = list(joined)
    touches = sorted((linked for link in parts for linked in link.touches), key=_place)
    dropped = max((link.dropped_until for link in parts), default=0)
    if len(touches) > MAX_TOUCHES:
        dropped = max(dropped, touches[len(touches) - MAX_TOUCHES].touchpoint.at)
        touches = [touches[0], *touches[1 - MAX_TOUCHES :]]
    return Others(tuple(touches), dropped)


def _time(touchpoint: Touchpoint) -> int:
    return touchpoint.at


def _place(linked: Linked) -> tuple[int, str, int]:
    return (linked.touchpoint.at, linked.touchpoint.session_id, linked.since)


def _newness(link: Link) -> tuple[int, str]:
    return (link.latest, link.client_id)
