"""Answers of this process's tasks to questions about referral programmes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from stream_app.domain.referral.tables import Question, Row, ask
from stream_app.engine.task import Phase, Task
from stream_app.processors.referral_counters import Head
from stream_app.processors.referral_tables import find, first_rows
from stream_app.settings import Settings

_AT_ONCE = 200
"""Keys read between two turns of the event loop: some milliseconds."""


class TaskReferrals:
    """Implements the web's `ReferralAnswers` over tasks."""

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        tasks: Callable[[], Mapping[int, Task]],
        others: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.partitions = partitions
        self.programs: Sequence[str] = tuple(program.name for program in settings.programs)
        self.others = others
        self.currency = settings.base_currency
        self._tasks = tasks

    def question(self, parameters: Iterable[tuple[str, str]]) -> Question:
        """What the parameters of an address ask for. Raises `CannotAsk`."""
        return ask(parameters, self.currency)

    async def own(self, question: Question) -> tuple[list[Row], list[int]]:
        """The first rows of each task that runs here, and which these are. One that goes away meanwhile is left out."""
        rows: list[Row] = []
        answered: list[int] = []
        for partition, task in sorted(self._tasks().items()):
            found = await self._of(question, task)
            if found is not None:
                rows += first_rows(found, question)
                answered.append(partition)
        return rows, answered

    async def _of(self, question: Question, task: Task) -> list[Head] | None:
        store = task.store
        if task.phase is not Phase.RUNNING or store is None:
            return None
        found = []
        for head in find(store, question.dimension, question.program):
            found.append(head)
            if not len(found) % _AT_ONCE:
                await asyncio.sleep(0)
                if task.store is not store or task.phase is not Phase.RUNNING:
                    return None
        return found
