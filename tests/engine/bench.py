"""Tasks over a local log, fed by hand: what hosts do, step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stream_app.engine.partitioning import partition_of
from stream_app.engine.ports import Probe, Store
from stream_app.engine.recovery import RecoverySettings, World
from stream_app.engine.task import Phase, Task, TaskSettings
from stream_app.engine.tasks import Tasks, TasksSettings
from stream_app.engine.topology import Topology
from stream_app.engine.work import Chunk
from stream_app.hosts.local.host import ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import MemoryStore, MemoryStores
from tests.engine.summing import Summing
from tests.engine.watching import Watcher

START_MS = 1_700_000_000_000
NEVER_MS = 10**13
"""As a commit interval: no task has its turn while this machine is up."""


class Stores(MemoryStores):
    """Stores that know whether they are open, as a lock file does, and that fail when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open_now: Counter[int] = Counter()
        self.wiped: list[int] = []
        self.failing: Exception | None = None

    def open(self, partition: int) -> Store:
        assert not self.open_now[partition], "in use"
        self.open_now[partition] += 1
        store: Any = super().open(partition)
        stores = self

        class Open(MemoryStore):
            def __init__(self) -> None:
                self._rows, self._timers = store._rows, store._timers

            def get(self, key: bytes) -> bytes | None:  # type: ignore[override]
                if stores.failing is not None and key[:1] == b"s":
                    raise stores.failing
                return self._rows.get(key)

            def close(self) -> None:
                stores.open_now[partition] -= 1

        return Open()

    def wipe(self, partition: int) -> None:
        self.wiped.append(partition)
        super().wipe(partition)


class Group:
    """The engine's intake, by hand: what is sought is remembered, membership is confirmed when the test says so."""

    def __init__(self) -> None:
        self.sought: list[tuple[int, dict[str, int], int]] = []
        self.fed: set[int] = set()
        self.member = asyncio.Event()
        self.member.set()
        self.asked = 0

    async def seek(self, partition: int, offsets: Mapping[str, int], epoch: int) -> None:
        self.sought.append((partition, dict(offsets), epoch))

    def resume(self, partition: int) -> None:
        self.fed.add(partition)

    def pause(self, partition: int) -> None:
        self.fed.discard(partition)

    async def still_member(self) -> None:
        self.asked += 1
        await self.member.wait()


class Bench:
    """Tasks over a local log, fed by hand."""

    def __init__(self, partitions: int = 2) -> None:
        self.clock = ManualClock(START_MS)
        self.log = LocalLog(partitions, self.clock)
        self.log.changelog = "changelog"
        self.stores = Stores()
        self.seen = Watcher()
        self.group = Group()
        self.died: list[BaseException] = []
        self.processor = Summing()
        self.partitions = partitions
        self.tasks: Tasks

    def make(self, probe: Probe = lambda _: None, *, max_failures: int = 4, drain_s: float = 5, **given: Any) -> Tasks:
        topology = Topology(
            [self.processor],
            {name: name for name in ("left", "right", "counts", "idles")},
            "repartition",
            "changelog",
            "dead-letters",
            self.partitions,
        )
        self.tasks = Tasks(
            topology,
            World(self.log, self.stores, self.clock, self.seen, probe, RecoverySettings()),
            self.group,
            TasksSettings(max_failures=max_failures, drain_deadline_s=drain_s),
            TaskSettings(**{"commit_interval_ms": 0, **given}),
            self.died.append,
        )
        return self.tasks

    async def running(self, *partitions: int) -> Task:
        await until(lambda: all(self.phase(p) is Phase.RUNNING for p in partitions) or self.died)
        assert not self.died, self.died
        return self.tasks.tasks[partitions[0]]

    def phase(self, partition: int) -> Phase | None:
        return self.tasks.states().get(partition)

    def chunk(self, task: Task, events: list[tuple[str, str, int]], topic: str = "left", *, ends: bool = True) -> Chunk:
        """(id, key, ms after the start), appended to the log and made into the next chunk of an input."""
        log = self.log.topic(topic)[task.partition]
        first = task.offsets[topic]
        for name, key, at in events:
            log.append(START_MS + at, key.encode(), msgspec.json.encode({"id": name, "key": key}))
        records, last = log.read(first)
        return Chunk(topic, task.partition, task.epoch, first, last, records, ends)

    def home(self, key: str) -> int:
        return partition_of(key.encode(), self.partitions)

    def rows(self, partition: int) -> dict[bytes, bytes]:
        """What a store holds and its changelog should."""
        return {k: v for k, v in self.stores._stores[partition]._rows.items() if k[:1] in {b"p", b"s", b"m"}}

    def counts(self) -> dict[str, int]:
        found = [r for p in self.log.topic("counts") for r in p.read(0)[0]]
        return {f["id"]: f["n"] for f in (msgspec.json.decode(r.value or b"") for r in found)}

    def idles(self) -> list[str]:
        found = [r for p in self.log.topic("idles") for r in p.read(0)[0]]
        return [msgspec.json.decode(r.value or b"")["id"] for r in found]


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110  # a state, not an event
            await asyncio.sleep(0.001)
