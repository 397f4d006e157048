"""Whether all tasks have come to a time (decision 0021).

A task may lie days behind the others: it died, or has a backlog. What it has yet to read may name somebody who is to
be erased. So each is asked for itself, by a letter to a key of its partition; it answers once it is there, and whoever
asks does so again, of those that have not answered, ten seconds later.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from stream_app.domain.referral.facts import ABREAST, BEHIND, Abreast
from stream_app.engine.partitioning import partition_of
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.state import Behind

AGAIN_MS = 10_000
"""After a restart all are found to be there as soon as they have looked how far their inputs go."""
TASK = "\x1d"
"""Begins the key of a task: no id holds a control character."""


def task_keys(partitions: int) -> tuple[bytes, ...]:
    """A key for each task, in order."""
    keys: dict[int, bytes] = {}
    for number in count():
        key = f"{TASK}{number}".encode()
        keys.setdefault(partition_of(key, partitions), key)
        if len(keys) == partitions:
            break
    return tuple(keys[partition] for partition in range(partitions))


def are_all_at(desk: Desk, at: int, now: int) -> bool:
    """Whether all tasks have come to this time, as far as they have said. Asks those that have not."""
    tasks, behind = desk.house.tasks, desk.person.behind
    asked = behind.setdefault(at, Behind(tuple(range(len(tasks))), now))
    if not asked.tasks:
        del behind[at]
        return True
    if asked.due <= now:
        asked.due = now + AGAIN_MS
        for task in asked.tasks:
            desk.send(BEHIND, tasks[task], desk.name, Abreast(at, task))
    return False


def answer(name: str, asked: Abreast, context: Context[Any]) -> None:
    """As a task: says if it has come to that time, or has nothing left to read that came before it."""
    if context.now >= asked.at or context.caught_up:
        context.forward(ABREAST, name.encode(), encode_body(Letter("", asked)))


def hear(desk: Desk, said: Abreast) -> None:
    """A task has come to a time."""
    asked = desk.person.behind.get(said.at)
    if asked is not None:
        asked.tasks = tuple(task for task in asked.tasks if task != said.task)
