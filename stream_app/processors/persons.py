"""The touchpoints of a person's clients, told to each of the others (semantics 31).

Keyed by user id. Journeys tells which touchpoints are whose, and since when; what a client should know of the others is
a function of all that was told, so that the order in which it comes does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream_app.domain import persons
from stream_app.domain.client import HOLD_MS, Told
from stream_app.domain.referral.facts import FORGOTTEN, Forgotten
from stream_app.engine.processor import Context, Decoder, Rows
from stream_app.processors.facts import Fact, Letter, encode_body, tell
from stream_app.processors.links import (
    CLIENT_ERASED,
    PERSON_ERASED,
    PERSON_LINK,
    PERSON_TOUCHPOINTS,
    ClientErased,
    Linking,
    PersonErased,
    decoder,
)

Event = Linking | PersonErased


class Known(msgspec.Struct, gc=False, array_like=True):
    """A person as stored."""

    person: persons.Person
    told: tuple[Told, ...] = ()
    kept_until: int = 0
    """Time may jump when a backlog is read: what belongs together still meets."""


_decode = msgspec.msgpack.Decoder(Known).decode


class PersonsProcessor:
    """Joins the clients of each user."""

    name = "persons"
    tag = b"p"
    inputs: Sequence[str] = ()
    kinds: Sequence[str] = (PERSON_LINK, PERSON_ERASED)
    state_version = 1

    def __init__(self, life_ms: int) -> None:
        self._life_ms = life_ms

    def decoder(self, source: str) -> Decoder[Event]:
        """The decoder of `person-link` or `person-erased`."""
        return decoder(source)

    def key_of(self, event: Event) -> bytes:
        """Never asked: whoever tells a person names it."""
        raise NotImplementedError(event)

    def fold(self, key: bytes, state: Known | None, events: list[Event], context: Context[Event]) -> Known | None:
        """Takes what clients say, and tells the others."""
        known = state if state is not None else Known(persons.Person({}))
        for event in events:
            if isinstance(event, Linking):
                persons.hear(known.person, event.id, event.link)
            else:
                self._erase(key, known, event, context)
                known = Known(persons.Person({}))
        facts = [
            Fact(PERSON_TOUCHPOINTS, client_id.encode(), encode_body(others))
            for client_id, others in persons.others(known.person).items()
        ]
        left: tuple[Told, ...] = ()
        if len(known.person.links) > persons.MAX_TOLD:
            # Those seen longest ago are told nothing new; what they know stands.
            clients = {link.client_id.encode() for link in known.person.links.values()} - {fact.key for fact in facts}
            left = tuple(told for told in known.told if told.key in clients)
        told = tuple(told for told in known.told if told not in left)
        known.told = (*left, *tell(told, facts, key.decode(), context))
        known.kept_until = context.now + HOLD_MS
        return known if known.person.links else None

    @staticmethod
    def _erase(key: bytes, known: Known, told: PersonErased, context: Context[Event]) -> None:
        """Has all clients of somebody who is erased forgotten, and says which."""
        clients = dict.fromkeys(sorted(link.client_id for link in known.person.links.values()), ()) | told.clients
        user = key.decode()
        for client, conversions in clients.items():
            body = encode_body(Letter(user, ClientErased(user, conversions)))
            context.forward(CLIENT_ERASED, client.encode(), body)
        context.forward(FORGOTTEN, key, encode_body(Letter(user, Forgotten(tuple(clients)))))

    def wake(self, _key: bytes, state: Known, context: Context[Event]) -> Known | None:
        """Forgets a person when all their touchpoints are too old to count."""
        return None if context.now >= self.due(state) else state

    def due(self, state: Known) -> int:
        """A client's life after the latest touchpoint."""
        latest = max(link.latest for link in state.person.links.values())
        return max(latest + self._life_ms, state.kept_until)

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Known:
        """A person as it was when saved."""
        if version != self.state_version:
            raise ValueError(f"persons state version {version} is not known; this release reads {self.state_version}")
        return _decode(payload)

    def save(self, _key: bytes, state: Known, _rows: Rows) -> bytes:
        """The person's bytes."""
        return encode_body(state)
