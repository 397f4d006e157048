"""Which events a person has seen: marks of a fixed length, one behind the other."""

from __future__ import annotations

from stream_app.domain.ids import remembered
from stream_app.processors.people.state import MAX_SEEN, Person


def is_new(person: Person, event_id: str) -> bool:
    """Whether an event is seen for the first time, which is remembered."""
    mark = remembered(event_id)
    if _is_in(person.seen, mark):
        return False
    person.seen = (person.seen + mark)[-MAX_SEEN:]
    return True


def may_come_again(person: Person, event_id: str) -> None:
    """It came to nothing: sent once more, it is no duplicate."""
    mark = remembered(event_id)
    marks = (person.seen[start : start + len(mark)] for start in range(0, len(person.seen), len(mark)))
    person.seen = b"".join(other for other in marks if other != mark)


def _is_in(marks: bytes, mark: bytes) -> bool:
    index = marks.find(mark)
    while index >= 0 and index % len(mark):
        index = marks.find(mark, index + 1)
    return index >= 0
