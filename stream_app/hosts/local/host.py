"""Tasks over a local log: the same engine, fed by a loop instead of a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from stream_app.engine.ports import Clock, Observer, Probe, Stores
from stream_app.engine.recovery import RecoverySettings, World
from stream_app.engine.task import Phase, TaskSettings
from stream_app.engine.tasks import Tasks, TasksSettings
from stream_app.engine.topology import Topology
from stream_app.engine.work import Chunk
from stream_app.hosts.local.log import LocalLog, LocalPartition

_CHUNK = 5_000
_EAGER_LOOKS = 1_000


class ManualClock:
    """Time that moves when told to: replay and tests are the same each time."""

    def __init__(self, start_ms: int = 0) -> None:
        self.now_ms = start_ms

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms


class LocalHost:
    """Runs every task of a topology over `log`. `start`, `stop`, and `settled` to wait until all is processed.

    `failed` is set, and `settled` raises it, when the tasks cannot go on.
    """

    def __init__(
        self,
        topology: Topology,
        log: LocalLog,
        stores: Stores,
        clock: Clock,
        observer: Observer,
        *,
        task_settings: TaskSettings | None = None,
        probe: Probe = lambda _: None,
        max_failures: int = 8,
    ) -> None:
        log.changelog = topology.changelog
        self.topology = topology
        self.log = log
        self.failed: BaseException | None = None
        self._ready: set[int] = set()
        self._covered: dict[tuple[str, int], tuple[int, int]] = {}
        self._loop: asyncio.Task[None] | None = None
        self.tasks = Tasks(
            topology,
            World(log, stores, clock, observer, probe, RecoverySettings()),
            self,
            TasksSettings(max_failures=max_failures),
            task_settings or TaskSettings(commit_interval_ms=1),
            self._die,
        )

    async def start(self) -> None:
        await self.tasks.assign(range(self.topology.partitions))
        self._loop = asyncio.create_task(self._run(), name="local-intake")

    async def stop(self) -> None:
        """Drains and closes."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        await self.tasks.shutdown()

    async def settled(self) -> None:
        """Returns once everything in the log is processed and committed and no timer is due."""
        looks = 0
        while True:
            if self.failed is not None:
                raise self.failed
            if self._is_settled():
                return
            # Work under way needs no time but ours; what takes longer waits for something else.
            await asyncio.sleep(0 if looks < _EAGER_LOOKS else 0.001)
            looks += 1

    def _is_settled(self) -> bool:
        if len(self._ready) < self.topology.partitions:
            return False
        for partition, task in self.tasks.tasks.items():
            if task.phase is not Phase.RUNNING or not task.idle:
                return False
            for topic in self.topology.input_topics:
                if not self._at_end(topic, partition):
                    return False
        return True

    def tick(self) -> None:
        """Makes tasks look at the clock: timers may be due."""
        self._tell_ends()
        for task in self.tasks.tasks.values():
            task.tick()

    def _tell_ends(self) -> None:
        """An input that waits for another may go on once that is at its end."""
        for partition, task in self.tasks.tasks.items():
            for topic in self.topology.input_topics:
                task.at_end(topic, self._at_end(topic, partition))

    # -- the engine's port ----------------------------------------------------------------------------
    async def seek(self, partition: int, offsets: Mapping[str, int], epoch: int) -> None:
        for topic in self.topology.input_topics:
            self._covered[topic, partition] = epoch, offsets[topic]

    def resume(self, partition: int) -> None:
        self._ready.add(partition)
        self.log.changed.set()

    def pause(self, partition: int) -> None:
        self._ready.discard(partition)

    async def still_member(self) -> None:
        """There is no group: whoever is newest owns the task, and this host is told to stop otherwise."""

    # -- the loop -------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(0.2):  # wait_for of Python 3.11 may swallow a cancellation
                    await self.log.changed.wait()
            except TimeoutError:
                self.tick()
            self.log.changed.clear()
            if self._feed():  # somebody has had enough for the moment
                self.log.changed.set()
                self._tell_ends()
                await asyncio.sleep(0)

    def _feed(self) -> bool:
        left = False
        for partition in sorted(self._ready):
            task = self.tasks.tasks.get(partition)
            if task is None:
                continue
            for topic in self.topology.input_topics:
                if not task.wants(topic):
                    left = left or not self._at_end(topic, partition)
                    continue
                epoch, first = self._covered[topic, partition]
                source = self._partition(topic, partition)
                records, last = source.read(first, _CHUNK)
                if last == first:
                    task.at_end(topic, True)
                    continue
                at_end = last >= source.end
                self._covered[topic, partition] = epoch, last
                self.tasks.feed(Chunk(topic, partition, epoch, first, last, records, at_end))
                left = left or not at_end
        return left

    def _partition(self, topic: str, partition: int) -> LocalPartition:
        return self.log.topic(topic)[partition]

    def _at_end(self, topic: str, partition: int) -> bool:
        _, first = self._covered.get((topic, partition), (0, 0))
        source = self._partition(topic, partition)
        return source.read(first, 1)[1] == first

    def _die(self, exc: BaseException) -> None:
        self.failed = exc
