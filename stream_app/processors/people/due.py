"""When time alone changes something for a person."""

from __future__ import annotations

from stream_app.processors.people.books import next_due
from stream_app.processors.people.house import House
from stream_app.processors.people.opened import next_settling
from stream_app.processors.people.state import Person


def next_time(person: Person, house: House) -> int:
    """When time changes something next; 0: never."""
    times = [held.settles for held in person.held.values()]
    times.extend(person.enrolling.values())
    erasing = person.erasing
    first = erased_at(erasing.at, house) if erasing is not None else 0
    waits = erasing is not None and (erasing.due != first or first in person.behind)
    if books := next_settling(person.books) if waits else next_due(person.books, house.slack_ms):
        times.append(books)
    if erasing is not None and erasing.due:
        times.append(_when_all_are_at(first, person) or erasing.due)
    if person.moved:
        times.append(_when_all_are_at(person.moved_until, person) or person.moved_until)
    return min(times, default=0)


def _when_all_are_at(at: int, person: Person) -> int:
    """When tasks are asked again if they have come to that time; 0: they need not be."""
    asked = person.behind.get(at)
    return asked.due if asked is not None and asked.tasks else 0


def erased_at(at: int, house: House) -> int:
    """When an erasure is carried out: what counts up to its time has arrived, and has settled with everybody whom it
    concerns."""
    return at + 2 * house.slack_ms
