"""When time alone changes something for a person."""

from __future__ import annotations

from stream_app.processors.people.books import next_due
from stream_app.processors.people.house import House
from stream_app.processors.people.state import Person


def next_time(person: Person, house: House) -> int:
    """When time changes something next; 0: never."""
    times = [held.settles for held in person.held.values()]
    times.extend(person.enrolling.values())
    erasing = person.erasing
    waits = erasing is not None and erasing.due != erased_at(erasing.at, house)
    if not waits and (books := next_due(person.books, house.slack_ms)):
        times.append(books)
    if erasing is not None and erasing.due:
        times.append(erasing.due)
    if person.moved:
        times.append(person.moved_until)
    return min(times, default=0)


def erased_at(at: int, house: House) -> int:
    """When an erasure is carried out: what counts up to its time has arrived, and has settled with everybody whom it
    concerns."""
    return at + 2 * house.slack_ms
