"""The demo without Kafka: the same topology and engine over an in-memory log, in this process.

What is lacking: nothing survives the end, and other programs cannot read the topics. Outputs go to files instead.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO

from stream_app.app import build_topology
from stream_app.app.counters import TaskCounters
from stream_app.app.referrals import TaskReferrals
from stream_app.engine.task import Phase
from stream_app.hosts.clock import SystemClock
from stream_app.hosts.local.host import LocalHost
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import RocksStores
from stream_app.metrics import WorkerStats
from stream_app.settings import Settings
from stream_app.settings.model import Web
from stream_app.simulator.records import Record
from stream_app.topics import DEAD_LETTERS, LIVE, OUTPUTS, Catalogue
from stream_app.web import Readiness, WebServer, create_web

_OUTPUTS = (*(topic for topic in OUTPUTS if topic in LIVE), DEAD_LETTERS)


class LocalDemo:
    """Everything that a worker is, without a broker. Implements the web's `StatusSource`."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        """States and outputs of an earlier run in `directory` are removed: its log is gone, too."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        catalogue = Catalogue.of(settings)
        self._names = {topic: catalogue.name(topic) for topic in catalogue.topics}
        self._partitions = settings.kafka.partitions
        self.stats = WorkerStats({topic.name: topic.logical for topic in catalogue.topics.values()})
        self._log = LocalLog(self._partitions, SystemClock())
        engine = settings.engine
        stores = RocksStores(directory / "state", engine.block_cache_mb, engine.write_buffer_mb)
        self.counters = (
            TaskCounters(settings, self._partitions, lambda: self._host.tasks.tasks)
            if settings.counters.enabled
            else None
        )
        """Answers to `/counters`."""
        self.referrals = TaskReferrals(settings, self._partitions, lambda: self._host.tasks.tasks)
        """Answers to `/referrals`."""
        self._host = LocalHost(build_topology(settings), self._log, stores, SystemClock(), self.stats)
        self._directory = directory
        self._closing = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        self._feeding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._files = {
            topic: self._closing.enter_context((self._directory / f"{topic}.jsonl").open("wb")) for topic in _OUTPUTS
        }
        await self._host.start()

    def begin(self, records: AsyncIterator[Record]) -> None:
        """Feeds the records, each as it comes, until the end of them or `stop`."""
        self._feeding = asyncio.create_task(self._feed(records))

    async def _feed(self, records: AsyncIterator[Record]) -> None:
        async for record in records:
            self.feed(record)

    async def stop(self) -> None:
        """Commits what is taken and closes the stores and files."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait([self._feeding])
        await self._host.stop()
        self.drain()
        self._closing.close()

    def feed(self, record: Record) -> None:
        """Appends a record to its input topic, with the time of now, as a broker does (LogAppendTime)."""
        partition = self._log.topic(self._names[record.topic])[record.place % self._partitions]
        partition.append(SystemClock().wall_ms(), record.key, record.value)
        self._log.changed.set()

    def drain(self) -> None:
        """Writes new outputs to their files and lets go of what nobody will read again.

        Raises what has ended the host or the feeding.
        """
        if self._feeding is not None and self._feeding.done() and not self._feeding.cancelled():
            self._feeding.result()
        if self._host.failed is not None:
            raise self._host.failed
        for topic, file in self._files.items():
            for partition in self._log.topic(self._names[topic]):
                records, end = partition.read(partition.begin)
                file.writelines(record.value + b"\n" for record in records if record.value is not None)
                partition.delete_before(end)
            file.flush()
        for number, task in self._host.tasks.tasks.items():
            for topic in self._host.topology.input_topics:
                self._log.topic(topic)[number].delete_before(task.committed_offset(topic))
            # The store is on disk; a changelog is for those who lose theirs, and here both would be lost together.
            changelog = self._log.topic(self._host.topology.changelog)[number]
            changelog.delete_before(changelog.read(changelog.begin)[1])

    # -- health ---------------------------------------------------------------------------------------
    def trouble(self) -> str:
        """Why it should be restarted; empty: it lives."""
        return repr(self._host.failed) if self._host.failed is not None else ""

    def readiness(self) -> Readiness:
        """Whether all tasks run."""
        phases = [task.phase for task in self._host.tasks.tasks.values()]
        ready = len(phases) == self._partitions and all(phase is Phase.RUNNING for phase in phases)
        return Readiness(ready=ready, reason="ok" if ready else "starting")


@asynccontextmanager
async def running(settings: Settings, directory: Path, records: AsyncIterator[Record]) -> AsyncIterator[LocalDemo]:
    """A local demo that is being fed, and ends in order."""
    demo = LocalDemo(settings, directory)
    await demo.start()
    demo.begin(records)
    try:
        yield demo
    finally:
        await demo.stop()


@asynccontextmanager
async def served(demo: LocalDemo, web: Web, port: int) -> AsyncIterator[str]:
    """The worker's web for the local demo; gives its address."""
    application = create_web(
        demo,
        demo.stats,
        counters=demo.counters,
        referrals=demo.referrals,
        counters_need_token=not web.is_local,
        token=web.read_token(),
    )
    server = WebServer(application, web.host, port)
    try:
        yield await server.start()
    finally:
        await server.stop()
