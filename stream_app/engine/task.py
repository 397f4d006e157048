"""One task: partition p of every input, its states, its producer, its commits.

Life: opened (see `recovery`), `run`, fed with chunks, closed. Whatever fails, fails the whole task: nothing later
of it may be committed, everything in memory is thrown away, and it is opened again as if newly assigned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from .commit import commit as commit_protocol
from .ports import Clock, Observer, Probe, Store, StoreDamaged, Writer
from .rows import Meta
from .state import KeyedStates, Overlay, Timers
from .topology import Topology
from .work import Chunk, Commit, Workbench

log = logging.getLogger(__name__)


class Phase(Enum):
    """Where a task is in its life."""

    OPENING = "opening"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"
    CLOSED = "closed"


class ChainBroken(Exception):
    """A chunk doesn't begin where the one before it ended: something was lost between the log and the task."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How tasks commit."""

    commit_interval_ms: int = 100
    commit_records: int = 30_000
    commit_deadline_s: float = 10.0
    cache_entries: int = 100_000
    """Decoded states kept per task."""
    max_record_bytes: int = 1 << 20


class Task:
    """Created by `Tasks`; opened by `recovery.open_tasks`."""

    def __init__(
        self,
        partition: int,
        *,
        topology: Topology,
        settings: TaskSettings,
        clock: Clock,
        observer: Observer,
        probe: Probe,
        on_failure: Callable[[Task, BaseException], None],
        turn: asyncio.Lock,
    ) -> None:
        self.partition = partition
        self.topology = topology
        self.phase = Phase.OPENING
        self.failures = 0
        """Failures in a row, carried over when the task is opened again."""
        self.commits = 0
        self.epoch = -1
        self.writer: Writer | None = None
        self.store: Store | None = None
        self.store_damaged = False
        """It failed because of its store: that must be rebuilt, or it would fail again."""
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._probe = probe
        self._on_failure = on_failure
        self._turn = turn
        self._bench: Workbench | None = None
        self._gathered: list[Chunk] = []
        self._gathered_records = 0
        self._gathered_since = 0.0
        self._taken: dict[str, int] = {}
        self._landed_offsets: dict[str, int] = {}
        self._busy = False
        self._wake = asyncio.Event()
        self._flight: asyncio.Task[None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self.committing_since: float | None = None
        """time.monotonic() at which the commit in flight began: a hung one holds up whoever reads committed."""

    # -- opening --------------------------------------------------------------------------------------
    def recovered(self, meta: Meta) -> None:
        """The store holds what the changelog says, and `meta` is the last thing it says."""
        store = self.store
        assert store is not None
        overlay, timers = Overlay(store), Timers(store)
        capacity = self._settings.cache_entries
        version = self.topology.state_version
        states = {p.name: KeyedStates(p, store, overlay, timers, capacity, version) for p in self.topology.processors}
        self._bench = Workbench(
            self.topology, self.partition, states, overlay, timers, meta, self._settings.max_record_bytes
        )
        self._taken = dict(meta.offsets)

    def run(self, epoch: int) -> None:
        """Begins to commit what it is fed. Chunks of other epochs are dropped."""
        assert self._bench is not None
        self.epoch = epoch
        self.phase = Phase.RUNNING
        self._runner = asyncio.create_task(self._run(), name=f"task-{self.partition}")

    @property
    def offsets(self) -> Mapping[str, int]:
        """Next offset of every input topic, everything taken so far counted."""
        return self._taken

    def committed_offset(self, topic: str) -> int:
        """Next offset of an input, as far as commits are through."""
        return self._landed_offsets.get(topic, 0)

    @property
    def bench(self) -> Workbench:
        assert self._bench is not None
        return self._bench

    # -- intake ---------------------------------------------------------------------------------------
    def wants(self, topic: str) -> bool:
        """Whether more of this input should be fetched for it now."""
        if self.phase is not Phase.RUNNING or self._gathered_records >= self._settings.commit_records:
            return False
        source = self.bench.source_of(topic)
        return source is None or self.bench.time.lead(source) <= MAX_LEAD_MS

    def feed(self, chunk: Chunk) -> bool:
        """Takes a chunk; False if it isn't for this task as it stands (fetched before the last seek), so dropped."""
        if self.phase is not Phase.RUNNING or chunk.epoch != self.epoch:
            return False
        if chunk.first != self._taken[chunk.topic]:
            self.fail(ChainBroken(f"{chunk.topic}[{chunk.partition}] at {self._taken[chunk.topic]}, got {chunk.first}"))
            return False
        self._taken[chunk.topic] = chunk.last
        if not self._gathered:
            self._gathered_since = time.monotonic()
        self._gathered.append(chunk)
        self._gathered_records += len(chunk.records)
        self._wake.set()
        return True

    def at_end(self, topic: str, ended: bool) -> None:
        """Whether an input was read to its end, nothing of it being under way."""
        if self.phase is not Phase.RUNNING or any(c.topic == topic for c in self._gathered):
            return
        source = self.bench.source_of(topic)
        if source is not None:
            self.bench.time.at_end(source, ended)

    @property
    def idle(self) -> bool:
        """Nothing gathered, nothing being worked on, nothing on its way."""
        return not self._gathered and not self._busy and self._flight is None and not self._wake.is_set()

    def backlog(self, topic: str) -> int:
        """Records of an input taken and not yet committed."""
        return sum(len(c.records) for c in self._gathered if c.topic == topic)

    def tick(self) -> None:
        """Called now and then while nothing is fed: the stream time may have gone on."""
        if self.phase is Phase.RUNNING:
            self._wake.set()

    # -- commits --------------------------------------------------------------------------------------
    async def _run(self) -> None:
        """Gathers until the interval has passed or enough is there; works; commits. One commit is in flight while
        the next is built."""
        try:
            while True:
                await self._wake.wait()
                self._busy = True
                self._wake.clear()
                if self._gathered:
                    await self._gather()
                if await self._work():
                    self._wake.set()
                self._busy = False
                if self.phase is not Phase.RUNNING and not self._gathered:
                    await self._landed()
                    return
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever it is, the task is broken
            self.fail(exc)

    async def _gather(self) -> None:
        settings = self._settings
        share = self.partition / self.topology.partitions
        due = next_turn(self._gathered_since, settings.commit_interval_ms / 1000, share)
        while self.phase is Phase.RUNNING and self._gathered_records < settings.commit_records:
            left = due - time.monotonic()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):  # wait_for of Python 3.11 may swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                return
            self._wake.clear()

    async def _work(self) -> bool:
        # One task of a worker works at a time. There is one core: side by side, all would be done when the last is, and
        # all of their commits would be in memory at once. Whoever waits gathers meanwhile.
        due = bool(self._gathered)
        async with self._turn:
            if self._gathered and not due:
                return False  # they came while others worked: they have a place in the interval, as any
            chunks, self._gathered, self._gathered_records = self._gathered, [], 0
            self._wake.clear()  # what came until now is taken: no need to stand in line for it again
            batch = await self.bench.work(chunks, self._taken_of(chunks), self._clock.monotonic_ms())
        if batch is None:
            return False
        await self._landed()
        self.bench.take(batch)
        self._flight = asyncio.create_task(self._commit(batch), name=f"commit-{self.partition}")
        self._flight.add_done_callback(self._flown)
        return batch.more

    def _taken_of(self, chunks: list[Chunk]) -> dict[str, int]:
        """Offsets as of the end of these chunks: more may have been gathered while they are being worked on."""
        offsets = dict(self.bench.meta.offsets)
        for chunk in chunks:
            offsets[chunk.topic] = chunk.last
        return offsets

    async def _landed(self) -> None:
        """Waits for the commit in flight; raises what it failed with."""
        flight, self._flight = self._flight, None
        if flight is not None:
            await flight

    def _flown(self, flight: asyncio.Task[None]) -> None:
        if not flight.cancelled() and (exc := flight.exception()) is not None:
            self.fail(exc)
        elif self._flight is flight:
            self._flight = None

    async def _commit(self, batch: Commit) -> None:
        assert self.writer is not None
        assert self.store is not None
        began = self.committing_since = time.monotonic()
        changelog_bytes = await commit_protocol(
            batch,
            topology=self.topology,
            partition=self.partition,
            writer=self.writer,
            store=self.store,
            clock=self._clock,
            probe=self._probe,
            deadline_s=self._settings.commit_deadline_s,
        )
        self.bench.landed()
        self._landed_offsets = batch.offsets
        self.committing_since = None
        self.commits += 1
        self.failures = 0
        self._report(batch, time.monotonic() - began, changelog_bytes)

    def _report(self, batch: Commit, seconds: float, changelog_bytes: int) -> None:
        see, now = self._observer, self._clock.wall_ms()
        see.commit(seconds, batch.records, changelog_bytes)
        for (topic, outcome), n in batch.outcomes.items():
            see.record_in(topic, outcome, n)
        for topic, records in batch.outputs.items():
            see.outputs(topic, len(records))
        for reason, n in batch.reasons.items():
            see.dead_letter(reason, n)
        for newest, n in batch.arrivals:
            see.latency((now - newest) / 1000, n)
        for name, spent in batch.seconds.items():
            see.processing(name, spent)
        for (name, label), n in batch.tally.items():
            see.business(name, label, n)
        if batch.misplaced:
            see.misplaced(batch.misplaced)
        for keyed in self.bench.states.values():
            see.cache(keyed.hits, keyed.misses)
            keyed.hits = keyed.misses = 0

    # -- ends -----------------------------------------------------------------------------------------
    def fail(self, exc: BaseException) -> None:
        """From here on nothing of this task may be committed."""
        if self.phase is not Phase.RUNNING:
            if self.phase is Phase.DRAINING:  # whoever closes deals with it; reopening here would leave a task unowned
                log.warning("task %d failed while draining: %r", self.partition, exc)
                self.phase = Phase.FAILED
            return
        self.phase = Phase.FAILED
        self.failures += 1
        self.store_damaged = isinstance(exc, StoreDamaged)
        self._on_failure(self, exc)

    async def close(self, *, drain: bool, deadline_s: float) -> None:
        """Commits what was taken if asked to, within the deadline, and lets go of everything. One close at a time;
        cancelling the caller doesn't reach it."""
        if self._closer is None:
            self._closer = asyncio.create_task(self._close(drain, deadline_s), name=f"close-{self.partition}")
        await asyncio.shield(self._closer)

    async def _close(self, drain: bool, deadline_s: float) -> None:
        drained = drain and self.phase is Phase.RUNNING
        self.phase = Phase.DRAINING if drained else Phase.CLOSED
        self._wake.set()
        if drained and self._runner is not None:
            await asyncio.wait([self._runner], timeout=deadline_s)
        for work in (self._runner, self._flight):
            if work is not None and not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=1)
        self.phase = Phase.CLOSED
        if self.writer is not None:
            await self.writer.close()
            self.writer = None
        if self.store is not None:
            self.store.close()
            self.store = None


def next_turn(since: float, interval_s: float, share: float) -> float:
    """When a task that has had something since then commits: at its turn, once an interval.

    One answer from the broker brings something for every task. If each waited for an interval from there on, all would
    commit at once, and the last would wait for the others; so their turns are spread over the interval, each at its
    `share` of it.
    """
    return since + (share * interval_s - since) % interval_s if interval_s else since


MAX_LEAD_MS = 60_000
"""An input further than this ahead of the slowest is fetched no more until the others have caught up."""
