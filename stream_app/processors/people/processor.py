"""Referral events and conversions of each person → who referred them, and the topic `referral-rewards`.

A commit, for one person:

1. What is heard is noted: purchases, answers, enrolments, walks.
2. As a buyer, the person's open purchases are decided anew; what follows for referrers is told where it differs.
3. As somebody who refers, open entries are assessed and ranked; what can change no more is booked; what is due happens.
4. Records that changed are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_app.domain.contacts import ContactHasher
from stream_app.domain.referral import facts
from stream_app.domain.referral.programs import Programs
from stream_app.engine.processor import Context, Decoder, Rows
from stream_app.processors.people import (
    abreast,
    asking,
    buying,
    clients,
    enrolling,
    erasing,
    figures,
    hearing,
    leaps,
    renaming,
    telling,
    turns,
)
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.due import next_time
from stream_app.processors.people.events import BODIES, Event, EventDecoder, Happened, Heard, fact_decoder
from stream_app.processors.people.house import House, RewardCounter
from stream_app.processors.people.state import Person, decode_person, encode_person, is_nobody
from stream_app.processors.pseudonyms import Pseudonyms, random_names


class PeopleProcessor:
    """Folds what concerns each person in referral programmes."""

    name = "people"
    tag = b"r"
    inputs: Sequence[str] = (turns.INPUT,)
    kinds: Sequence[str] = (*BODIES, facts.LAP)
    state_version = 1

    def __init__(
        self,
        programs: Programs,
        hasher: ContactHasher,
        *,
        grace_ms: int,
        currency: str,
        rules_version: str,
        counter: RewardCounter | None = None,
        pseudonyms: Pseudonyms = random_names(1),  # noqa: B008
        partitions: int = 1,
    ) -> None:
        tasks = abreast.task_keys(partitions)
        self._house = House(programs, grace_ms, currency, rules_version, counter, pseudonyms, tasks)
        self._events = EventDecoder(programs, hasher, grace_ms=grace_ms, currency=currency)

    def decoder(self, source: str) -> Decoder[Event]:
        """The decoder of `referral-events`, of a fact, or of a turn that has come."""
        if source in BODIES:
            return fact_decoder(source)
        if source == facts.LAP:
            return lambda _key, _value, _ts: Heard(source, "", None)
        return self._events

    def key_of(self, event: Event) -> bytes:
        """The user of an event whose record had no key."""
        assert isinstance(event, Happened)
        return event.user.encode()

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Person | None, events: list[Event], context: Context[Event]) -> Person | None:
        """Takes one commit's events of a person."""
        events = [event for event in events if not _is_for_task(key, event, context)]
        if not events:
            return state
        person = state if state is not None else Person()
        desk = Desk(self._house, key, person, context)
        if any(map(_is_go, events)):
            # What else has come is for whoever has the name then: nothing that has not been written is moved.
            events.sort(key=_is_go, reverse=True)
        for event in events:
            hearing.hear(desk, event)
        _follow(desk)
        # Whoever only hears that there is nothing to hear any more is not kept.
        return None if (desk.may_be_nobody or state is None) and is_nobody(person) else person

    def wake(self, key: bytes, state: Person, context: Context[Event]) -> Person | None:
        """Time has come for something: purchases settle, rewards are due, a payout has its turn."""
        desk = Desk(self._house, key, state, context)
        if not leaps.begins_to_wait(desk):
            _follow(desk)
        return None if desk.may_be_nobody and is_nobody(state) else state

    def due(self, state: Person) -> int:
        """When time alone changes something; never while a letter goes round."""
        return 0 if state.waits else next_time(state, self._house)

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Person:
        """A person as they were when saved."""
        if version != self.state_version:
            raise ValueError(f"people state version {version} is not known; this release reads {self.state_version}")
        return decode_person(payload)

    def save(self, _key: bytes, state: Person, _rows: Rows) -> bytes:
        """The person's bytes; entries and settled purchases are in rows already."""
        return encode_person(state)


def _follow(desk: Desk) -> None:
    """Everything that follows from what was heard, and from the time."""
    leaps.begins_to_wait(desk)
    now = leaps.time_of(desk)
    # As a buyer, and as a member.
    decision = buying.decide(desk, now)
    asking.ask(desk)
    if desk.buys or desk.counts:  # time alone changes nothing of this
        standing = decision.standing(desk.house.programs)
        if desk.buys:
            asking.tell_contacts(desk)
            enrolling.tell_claims(desk)
            clients.bequeath(desk, decision)
            telling.tell_bound(desk, standing)
        figures.count(desk, standing, decision.sales)
    # As somebody who refers.
    turns.keep_books(desk, decision.bindings, now)
    erasing.proceed(desk, now)
    renaming.forget(desk, now)
    desk.write_shelves()


def _is_for_task(key: bytes, event: Event, context: Context[Any]) -> bool:
    """Whether a letter is for no person: it goes round among those of this task, or asks how far it has come."""
    if not isinstance(event, Heard):
        return False
    if event.kind == facts.ROUND:
        leaps.go_round(key, event.body, context)
    elif event.kind == facts.BEHIND:
        abreast.answer(event.id, event.body, context)
    return event.kind in {facts.ROUND, facts.BEHIND}


def _is_go(event: Event) -> bool:
    """Whether a person tells themselves to go."""
    return isinstance(event, Heard) and event.kind == facts.FORGOTTEN and event.body is None


__all__ = ["Event", "PeopleProcessor"]
