"""Leaps of time: people wait until what is on its way to them must be here (decision 0018).

A letter to each comes back behind whatever was sent before it. It goes round several times, and does so for all who
began to wait in one commit together: they are people of one task, so the first of them may carry it.
"""

from __future__ import annotations

from typing import Any, Final

from stream_app.domain.referral.facts import LAP, ROUND, Round
from stream_app.domain.times import MINUTE_MS
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.due import next_time
from stream_app.processors.people.state import LAPS

WAITING: Final = "referral-waiting"
"""Name of what is gathered."""
PEOPLE_A_LETTER = 256


def begins_to_wait(desk: Desk) -> bool:
    """Whether the person's time has come by a leap: they wait, once, for what is on its way."""
    due = next_time(desk.person, desk.house)
    if not due or desk.context.now - due <= MINUTE_MS or desk.person.waits or desk.lapped:
        return False
    desk.person.waits = True
    desk.context.gather(WAITING)[desk.key] = None
    return True


def time_of(desk: Desk) -> int:
    """The person's time: it stands still while they wait."""
    now = desk.context.now
    if desk.person.waits and (due := next_time(desk.person, desk.house)):
        return min(now, due - 1)
    return now


def combine(gathered: dict[Any, Any], context: Context[Any]) -> None:
    """The combiner of those who wait: one letter for many."""
    people = sorted(gathered)
    for start in range(0, len(people), PEOPLE_A_LETTER):
        together = tuple(people[start : start + PEOPLE_A_LETTER])
        # The first way is this one, the last that of the letter to each.
        _send(together[0], Round(LAPS - 2, together), context)


def go_round(key: bytes, letter: Round, context: Context[Any]) -> None:
    """A letter has come to the one who carries it: once more round, or to each."""
    if letter.left:
        _send(key, Round(letter.left - 1, letter.people), context)
        return
    for person in letter.people:
        context.forward(LAP, person, b"")


def _send(key: bytes, letter: Round, context: Context[Any]) -> None:
    context.forward(ROUND, key, encode_body(Letter("", letter)))
