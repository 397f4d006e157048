"""Answers of this process's tasks to questions about counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from stream_app.app.topology import counter_rules, rules_version
from stream_app.domain.counters.dimensions import GOALS
from stream_app.domain.counters.questions import Question, ask
from stream_app.domain.counters.records import Renderer
from stream_app.domain.counters.tables import Row, Table
from stream_app.domain.counters.windows import NAMES, Windows
from stream_app.engine.task import Phase, Task
from stream_app.processors.counters.queries import find
from stream_app.settings import Settings

_AT_ONCE = 200
"""Counters read between two turns of the event loop: some milliseconds."""


class TaskCounters:
    """Implements the web's `CounterAnswers` over tasks."""

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        tasks: Callable[[], Mapping[int, Task]],
        others: Callable[[], Collection[str]] = tuple,
    ) -> None:
        rules = counter_rules(settings)
        self._windows = Windows(rules.timezone)
        self._renderer = Renderer(rules.base_currency, rules_version(rules))
        self.currency = rules.base_currency
        self.timezone = rules.timezone
        self._tasks = tasks
        self._partitions = partitions
        self.others = others

    @property
    def partitions(self) -> int:
        """How many tasks there are in all."""
        return self._partitions

    def question(self, parameters: Iterable[tuple[str, str]]) -> Question:
        """What the parameters of an address ask for. Raises `CannotAsk`."""
        return ask(parameters, self._windows, int(time.time()) // 60)

    async def own(self, question: Question) -> tuple[list[Row], list[int]]:
        """The rows of the tasks that run here, and which these are. A task that goes away meanwhile is left out."""
        rows: list[Row] = []
        answered: list[int] = []
        for partition, task in sorted(self._tasks().items()):
            table = await self._table(question, task)
            if table is not None:
                rows += await asyncio.to_thread(table.rows)  # ten thousand campaigns take a second
                answered.append(partition)
        return rows, answered

    async def _table(self, question: Question, task: Task) -> Table | None:
        store = task.store
        if task.phase is not Phase.RUNNING or store is None:
            return None
        table = Table(question, self._renderer)
        window = NAMES[question.kind]
        dimensions = (question.dimension, "all") if question.dimension == GOALS else (question.dimension,)
        for dimension in dimensions:
            counters = find(store, dimension, window, question.since, question.until)
            for number, counter in enumerate(counters, 1):
                if dimension == question.dimension:
                    table.add(counter.keys, counter.currency, counter.start, counter.figures)
                else:
                    table.add_everything(counter.currency, counter.start, counter.figures)
                if not number % _AT_ONCE:
                    await asyncio.sleep(0)
                    if task.store is not store or task.phase is not Phase.RUNNING:
                        return None
        return table
