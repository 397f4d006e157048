"""All tasks of one worker: who is assigned, who is being opened, who failed.

One path for every failure: close the task, open it again as if newly assigned. After too many failures in a row, or
when an operator must decide, the worker ends: its supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from .ports import Fenced, Intake
from .recovery import CannotOpen, World, open_tasks
from .state import UnknownStateVersion
from .task import Phase, Task, TaskSettings
from .topology import Topology
from .work import Chunk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TasksSettings:
    """Patience with failures and endings."""

    max_failures: int = 8
    drain_deadline_s: float = 10.0


class Tasks:
    """`die` is called, once, when the worker cannot go on; it must end the process (or the test)."""

    def __init__(
        self,
        topology: Topology,
        world: World,
        intake: Intake,
        settings: TasksSettings,
        task_settings: TaskSettings,
        die: Callable[[BaseException], None],
    ) -> None:
        self.topology = topology
        self.tasks: dict[int, Task] = {}
        self._world = world
        self._intake = intake
        self._settings = settings
        self._task_settings = task_settings
        self._die = die
        self._opener: asyncio.Task[None] | None = None
        self._reopeners: set[asyncio.Task[None]] = set()
        self._closing = False
        self._epoch = 0
        self._turn = asyncio.Lock()
        """Held by the task that works."""

    # -- assignment -----------------------------------------------------------------------------------
    async def assign(self, partitions: Collection[int]) -> None:
        """Begins to open these tasks and returns at once: the group protocol sends no heartbeats meanwhile."""
        if self._closing:
            return
        await self.revoke()
        self._world.observer.rebalance()
        log.info("assigned tasks %s", sorted(partitions))
        if partitions:
            self.tasks = {p: self._make(p) for p in sorted(partitions)}
            self._opener = asyncio.create_task(self._open(list(self.tasks.values())), name="open")
            self._opener.add_done_callback(self._opened)

    async def revoke(self) -> None:
        """Commits or drops what is in flight, within the deadline, and closes everything."""
        pending = [t for t in (self._opener, *self._reopeners) if t is not None and not t.done()]
        for opening in pending:
            opening.cancel()
        if pending:
            await asyncio.wait(pending)
        self._opener = None
        tasks, self.tasks = self.tasks, {}
        if tasks:
            await asyncio.gather(*(self._close(t, drain=True) for t in tasks.values()))
            log.info("closed tasks %s", sorted(tasks))

    def give_up(self, exc: BaseException) -> None:
        """The host has found something that only an operator can set right."""
        self._die(exc)

    async def shutdown(self) -> None:
        self._closing = True
        await self.revoke()

    # -- intake ---------------------------------------------------------------------------------------
    def feed(self, chunk: Chunk) -> bool:
        task = self.tasks.get(chunk.partition)
        return task is not None and task.feed(chunk)

    def states(self) -> Mapping[int, Phase]:
        return {p: t.phase for p, t in self.tasks.items()}

    # -- opening and failing --------------------------------------------------------------------------
    def _make(self, partition: int) -> Task:
        world = self._world
        return Task(
            partition,
            topology=self.topology,
            settings=self._task_settings,
            clock=world.clock,
            observer=world.observer,
            probe=world.probe,
            on_failure=self._failed,
            turn=self._turn,
        )

    async def _open(self, tasks: list[Task]) -> None:
        await open_tasks(tasks, self.topology, self._world)
        self._epoch += 1
        epoch = self._epoch
        for task in tasks:
            await self._intake.seek(task.partition, task.offsets, epoch)
        for task in tasks:
            task.run(epoch)
            self._intake.resume(task.partition)
        log.info("running tasks %s", [t.partition for t in tasks])

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or (exc := opening.exception()) is None or opening is not self._opener:
            return
        tasks = list(self.tasks.values())
        if self._hopeless(exc) or any(t.failures >= self._settings.max_failures for t in tasks):
            self._die(exc)
            return
        log.warning("opening failed: %r; trying again", exc)
        for task in tasks:
            task.failures += 1
        self._reopen(tasks)

    def _failed(self, task: Task, exc: BaseException) -> None:
        self._world.observer.abort(cause_of(exc))
        log.warning("task %d failed (%d in a row): %r", task.partition, task.failures, exc, exc_info=exc)
        if self.tasks.get(task.partition) is not task:  # revoked a moment ago: whoever closes it deals with it
            return
        if self._hopeless(exc) or task.failures >= self._settings.max_failures:
            self._die(exc)
            return
        self._intake.pause(task.partition)
        self._reopen([task])

    def _reopen(self, tasks: list[Task]) -> None:
        reopener = asyncio.create_task(self._open_again(tasks), name="reopen")
        self._reopeners.add(reopener)
        reopener.add_done_callback(self._reopened)

    def _reopened(self, reopener: asyncio.Task[None]) -> None:
        self._reopeners.discard(reopener)
        if not reopener.cancelled() and (exc := reopener.exception()) is not None:
            self._die(exc)

    async def _open_again(self, tasks: list[Task]) -> None:
        """As if newly assigned. A revocation cancels this at any time.

        First the group must confirm this member: whoever was fenced has perhaps another owner, or only a transaction
        timeout behind it; and a process that stood still for long fails with whatever it finds first.
        """
        await asyncio.gather(*(self._close(t, drain=False) for t in tasks))
        for task in tasks:
            if task.store_damaged:  # the changelog has all of it: it ran
                log.warning("task %d: the store is damaged; rebuilding it from the changelog", task.partition)
                self._world.stores.wipe(task.partition)
        while True:
            log.info("tasks %s: waiting for the group to confirm this member", [t.partition for t in tasks])
            await self._intake.still_member()
            failures = max(t.failures for t in tasks)
            await asyncio.sleep(min(0.05 * 2**failures, 5))
            fresh = []
            for old in tasks:
                task = self.tasks[old.partition] = self._make(old.partition)
                task.failures = old.failures
                fresh.append(task)
            tasks = fresh
            try:
                await self._open(tasks)
            except Exception as exc:
                await asyncio.gather(*(self._close(t, drain=False) for t in tasks))
                for task in tasks:
                    task.failures += 1
                if self._hopeless(exc) or any(t.failures >= self._settings.max_failures for t in tasks):
                    raise
                log.warning("opening again failed: %r", exc)
            else:
                return

    async def _close(self, task: Task, *, drain: bool) -> None:
        await task.close(drain=drain, deadline_s=self._settings.drain_deadline_s)

    @staticmethod
    def _hopeless(exc: BaseException) -> bool:
        """Opening again would only fail again."""
        return isinstance(exc, CannotOpen | UnknownStateVersion)


def cause_of(exc: BaseException) -> str:
    """The cause of a failure as a metric label: from a closed set."""
    match exc:
        case Fenced():
            return "fenced"
        case TimeoutError():
            return "timeout"
        case _:
            name = type(exc).__name__
            return {"CommitTimedOut": "timeout", "ChainBroken": "chain", "StoreDamaged": "store"}.get(name, "error")
