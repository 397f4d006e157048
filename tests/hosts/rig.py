"""One way to handle both hosts: start, stop, kill and spoil them, write what they read and read what they wrote.

Time is the test's: the clock stands still until told to move, and records carry the timestamps given to them.
"""

from __future__ import annotations

import asyncio
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stream_app.engine.partitioning import partition_of
from stream_app.engine.ports import Committed, Headers, Log, Probe, Stores
from stream_app.engine.processor import AnyProcessor
from stream_app.engine.rows import META, Meta, decode_meta
from stream_app.engine.task import Phase, TaskSettings
from stream_app.engine.tasks import Tasks
from stream_app.engine.topology import Topology
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import RocksStores
from tests.engine.summing import Summing
from tests.engine.watching import Watcher

START_MS = 1_700_000_000_000
PATIENCE_S = 30.0
INPUTS = ("left", "right")
OUTPUTS = ("counts", "idles")


@dataclass(frozen=True)
class Given:
    """A record to be written to an input."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int = START_MS
    headers: Headers = ()


@dataclass(frozen=True)
class Seen:
    """A record as a read_committed reader sees it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())

    @property
    def fields(self) -> dict[str, Any]:
        return msgspec.json.decode(self.value or b"{}")


def event(number: int, key: str, at: int = 0, *, keyed: bool = True, **more: object) -> Given:
    """An event of `Summing`, `at` ms after the start."""
    value = msgspec.json.encode({"id": f"e{number}", "key": key, **more})
    return Given(value, key.encode() if keyed else None, START_MS + at)


class Rig(ABC):
    """A host with a topology of its own, a state directory of its own, and a worker that comes and goes."""

    partitions = 2
    log: Log

    def __init__(self, directory: Path, prefix: str) -> None:
        self.state = directory / "state"
        self.clock = ManualClock(START_MS)
        self.seen = Watcher()
        self.prefix = prefix
        self.processors: Sequence[AnyProcessor] = [Summing()]
        self.max_failures = 5
        self._died: list[BaseException] = []

    @property
    def topology(self) -> Topology:
        return Topology(
            processors=self.processors,
            topics={name: self.prefix + name for name in (*INPUTS, *OUTPUTS)},
            repartition=f"{self.prefix}repartition",
            changelog=f"{self.prefix}changelog",
            dead_letters=f"{self.prefix}dead-letters",
            partitions=self.partitions,
        )

    @property
    def died(self) -> BaseException | None:
        """Why the worker cannot go on, if it cannot."""
        return self._died[0] if self._died else None

    # -- the worker -----------------------------------------------------------------------------------
    async def up(self, probe: Probe = lambda _: None, **settings: Any) -> None:
        """Starts the worker; returns at once."""
        self._died = []
        await self._start(probe, TaskSettings(**{"commit_interval_ms": 1, **settings}))

    async def settle(self) -> None:
        """Until everything is processed and committed, with the stream time where clock and inputs let it be."""
        quiet = 0
        async with asyncio.timeout(PATIENCE_S):
            while quiet < 3:
                if self.died is not None:
                    raise self.died
                before = self._progress()
                still = await self._look()
                await asyncio.sleep(0.003)
                quiet = quiet + 1 if still and before == self._progress() else 0

    async def _still(self) -> bool:
        """Whether no task works any more, once all have looked at the clock."""
        for _ in range(50):
            if all(t.idle for t in self.tasks.tasks.values()):
                return True
            await asyncio.sleep(0.0005)
        return False

    def _progress(self) -> object:
        return {p: (t.commits, dict(t.offsets), id(t)) for p, t in self.tasks.tasks.items()}

    async def until(self, what: Callable[[], object]) -> None:
        """Until it is so; for what is no settled state."""
        async with asyncio.timeout(PATIENCE_S):
            while not what():  # noqa: ASYNC110  # a state, not an event
                await asyncio.sleep(0.002)

    async def running(self) -> None:
        await self.until(
            lambda: (
                self.died is not None
                or (
                    len(self.tasks.tasks) == self.partitions
                    and all(t.phase is Phase.RUNNING for t in self.tasks.tasks.values())
                )
            )
        )
        if self.died is not None:
            raise self.died

    async def death(self) -> BaseException:
        """Waits for the worker to say that it cannot go on, and clears it away."""
        await self.until(lambda: self.died is not None)
        await self.crash()
        assert self.died is not None
        return self.died

    async def advance(self, ms: int) -> None:
        """Lets time pass and waits for what it brings. It goes on from when all inputs are at their end."""
        await self.settle()
        self.clock.advance(ms)
        await self.settle()

    async def run(self, **settings: Any) -> None:
        """Starts, processes everything, stops."""
        await self.up(**settings)
        await self.settle()
        await self.down()

    async def crash(self) -> None:
        """Ends the worker without a goodbye: nothing is committed, aborted or drained any more."""
        await self._cut()
        tasks = self.tasks
        tasks._closing = True
        works = [tasks._opener, *tasks._reopeners]
        owned, tasks.tasks = list(tasks.tasks.values()), {}
        for task in owned:
            task.phase = Phase.CLOSED
            works += [task._runner, task._flight]
        for work in works:
            if work is not None:
                work.cancel()
        closing = [task._closer for task in owned]  # of a failed task: drains nothing
        await asyncio.gather(*(w for w in (*works, *closing) if w is not None), return_exceptions=True)
        for task in owned:
            if task.writer is not None:
                await task.writer.close()
            if task.store is not None:
                task.store.close()
        await self._cleared()

    @property
    @abstractmethod
    def tasks(self) -> Tasks: ...

    @abstractmethod
    async def _start(self, probe: Probe, settings: TaskSettings) -> None: ...

    @abstractmethod
    async def down(self) -> None:
        """Stops the worker: drains and closes."""

    @abstractmethod
    async def _look(self) -> bool:
        """Tells tasks whether their inputs are at their end and lets them look at the clock; whether all is done."""

    @abstractmethod
    async def _cut(self) -> None: ...

    @abstractmethod
    async def _cleared(self) -> None: ...

    @asynccontextmanager
    async def port(self) -> AsyncIterator[Log]:
        """The engine's `Log` port on this host, without a worker."""
        yield self.log

    @abstractmethod
    async def fence(self, partition: int) -> None:
        """Somebody else opens a writer for this task, and closes it again."""

    # -- records --------------------------------------------------------------------------------------
    async def put(self, topic: str, records: Iterable[Given], partition: int | None = None) -> None:
        """Writes to an input: each record to the partition of its event's key, or all of them to `partition`."""
        targets: dict[int, list[Given]] = {}
        for record in records:
            target = partition
            if target is None:
                key = record.key or msgspec.json.decode(record.value or b"{}")["key"].encode()
                target = partition_of(key, self.partitions)
            targets.setdefault(target, []).append(record)
        for target, given in sorted(targets.items()):
            await self._append(self.prefix + topic, target, given)

    @abstractmethod
    async def _append(self, topic: str, partition: int, records: Sequence[Given]) -> None: ...

    @abstractmethod
    async def read(self, topic: str) -> list[Seen]:
        """All committed records of a topic (without prefix), partition by partition, in order."""

    async def last(self, topic: str) -> dict[str, dict[str, Any]]:
        """The last record of each id, without its revision."""
        found = {}
        for record in await self.read(topic):
            fields = record.fields
            fields.pop("revision", None)
            found[fields.pop("id")] = fields
        return found

    async def counts(self) -> dict[str, int]:
        return {name: fields["n"] for name, fields in (await self.last("counts")).items()}

    async def metas(self, partition: int) -> list[Meta]:
        """The meta records in the changelog of a task."""
        records = [r for r in await self.read("changelog") if r.partition == partition and r.key == META]
        return [decode_meta(r.value or b"") for r in records]

    def home(self, key: str) -> int:
        return partition_of(key.encode(), self.partitions)

    # -- what can be spoilt ---------------------------------------------------------------------------
    @abstractmethod
    async def offsets(self) -> dict[tuple[str, int], Committed | None]:
        """(input or repartition topic without prefix, partition) → what the group has committed."""

    @abstractmethod
    async def forget_offsets(self) -> None:
        """As when a group's offsets expire. No worker may run."""

    @abstractmethod
    async def set_offset(self, topic: str, partition: int, offset: int) -> None: ...

    @abstractmethod
    async def recreate(self, topic: str) -> None:
        """Deletes a topic and makes it anew, empty."""

    @abstractmethod
    async def delete_before(self, topic: str, partition: int, offset: int) -> None: ...

    @abstractmethod
    async def grow(self, partitions: int) -> None:
        """More partitions for all topics."""

    def lose_state(self) -> None:
        shutil.rmtree(self.state)

    def save_state(self) -> Path:
        """A copy of the state directory as it is now. No worker may run."""
        copy = self.state.with_name("saved")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.state, copy)
        return copy

    def put_state(self, copy: Path) -> None:
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(copy, self.state)

    def stores(self) -> Stores:
        return RocksStores(self.state, 8, 8)

    def rows(self) -> Mapping[int, dict[bytes, bytes]]:
        """All rows of all stores, timers and positions aside. No worker may run."""
        found: dict[int, dict[bytes, bytes]] = {}
        stores = self.stores()
        for partition in range(self.partitions):
            store = stores.open(partition)
            keys = store.scan(b"n", b"t", 1 << 30)
            found[partition] = {key: store.get(key) or b"" for key in keys}
            store.close()
        return found


class LocalRig(Rig):
    """The local host over its in-memory log, with RocksDB."""

    def __init__(self, directory: Path, prefix: str) -> None:
        super().__init__(directory, prefix)
        self.log: LocalLog = LocalLog(self.partitions, self.clock)
        self.log.changelog = f"{prefix}changelog"
        self.host: LocalHost

    @property
    def tasks(self) -> Tasks:
        return self.host.tasks

    @property
    def died(self) -> BaseException | None:
        return self.host.failed

    async def _start(self, probe: Probe, settings: TaskSettings) -> None:
        self.host = LocalHost(
            self.topology,
            self.log,
            self.stores(),
            self.clock,
            self.seen,
            task_settings=settings,
            probe=probe,
            max_failures=self.max_failures,
        )
        await self.host.start()

    async def down(self) -> None:
        await self.host.stop()

    async def _look(self) -> bool:
        self.host.tick()
        return await self._still() and self.host._is_settled()

    async def _cut(self) -> None:
        assert self.host._loop is not None
        self.host._loop.cancel()
        await asyncio.wait([self.host._loop])

    async def _cleared(self) -> None: ...

    async def fence(self, partition: int) -> None:
        await (await self.log.open_writer(partition)).close()

    async def _append(self, topic: str, partition: int, records: Sequence[Given]) -> None:
        target = self.log.topic(topic)[partition]
        for record in records:
            target.append(record.timestamp, record.key, record.value, record.headers)
        self.log.changed.set()

    async def read(self, topic: str) -> list[Seen]:
        return [
            Seen(p, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for p, log in enumerate(self.log.topic(self.prefix + topic))
            for r in log.read(0)[0]
        ]

    async def offsets(self) -> dict[tuple[str, int], Committed | None]:
        found = await self.log.committed(self.topology.input_topics, range(self.partitions))
        return {(t.removeprefix(self.prefix), p): c for p, topics in found.items() for t, c in topics.items()}

    async def forget_offsets(self) -> None:
        self.log.forget_offsets()

    async def set_offset(self, topic: str, partition: int, offset: int) -> None:
        place = self.prefix + topic, partition
        self.log._committed[place] = Committed(offset, "")

    async def recreate(self, topic: str) -> None:
        self.log.delete_topic(self.prefix + topic)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.log.topic(self.prefix + topic)[partition].delete_before(offset)

    async def grow(self, partitions: int) -> None:
        self.partitions = self.log._partitions = partitions
        for topic in list(self.log._topics):
            fresh = LocalLog(partitions, self.clock).topic(topic)
            self.log._topics[topic] += fresh[len(self.log._topics[topic]) :]
