"""The one consumer of a worker: fetches whole record batches and feeds the tasks through Faust agents.

Inside the Faust app, beside Faust's own (disabled) consumer: offsets are committed by the tasks' transactions only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from stream_app.engine.task import Phase
from stream_app.engine.tasks import Tasks
from stream_app.engine.work import Chunk
from stream_app.hosts.kafka.lean import as_parsed
from stream_app.hosts.kafka.log import wrong_partitions

log = logging.getLogger(__name__)

_TICK_S = 0.2
_LAG_EVERY_S = 1.0
_FETCH_BYTES = 2 << 20
"""Of one partition in one answer: about as many records as a commit takes, so that a worker that lags commits whole
ones. Each commit costs a millisecond and a half however small it is."""

_FETCH_MIN_BYTES = 256 << 10
_FETCH_WAIT_MS = 25
"""An answer has so many bytes, or comes after so long: an answer for every few records that arrive would cost more than
the records, and a task waits for its turn to commit anyway."""


class GroupLost(Exception):
    """aiokafka's task that keeps up the membership has failed: nothing would ever be assigned again."""


class KafkaIntake:
    """Implements the engine's `Intake` port. `deliver` hands chunks of one topic to its agent."""

    def __init__(
        self,
        *,
        topics: list[str],
        consumer_options: Mapping[str, Any],
        deliver: Callable[[str, list[Chunk]], Awaitable[None]],
        on_lag: Callable[[str, int, int], None],
    ) -> None:
        self.tasks: Tasks
        self._topics = topics
        self._options = consumer_options
        self._deliver = deliver
        self._on_lag = on_lag
        self._consumer: Any = None
        self._covered: dict[TopicPartition, tuple[int, int]] = {}
        """(epoch, next offset to come) of each input of an opened task."""
        self._under_way: dict[TopicPartition, int] = {}
        """Chunks handed to an agent and not yet fed."""
        self._ready: set[int] = set()
        self._rebalancing = True
        self._lag_due = 0.0
        self._stopping = False
        self.polled_at = time.monotonic()
        """When the poll loop last went round: a stalled one is a dead worker."""

    # -- life -----------------------------------------------------------------------------------------
    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_interval_ms=3_600_000,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_min_bytes=_FETCH_MIN_BYTES,
            key_deserializer=as_parsed,
        )
        await self._consumer.start()
        self._consumer.subscribe(self._topics, listener=_Listener(self))

    async def stop(self) -> None:
        """Tasks first, the consumer last: it leaves the group with nothing of its own open."""
        self._stopping = True
        await self.tasks.shutdown()
        if self._consumer is not None:
            try:
                async with asyncio.timeout(5):
                    await self._consumer.stop()
            except Exception as exc:  # noqa: BLE001  # leaving late costs the others a session timeout, nothing more
                log.info("leaving the group: %r", exc)

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member its partitions (none, perhaps)."""
        return not self._rebalancing

    def revoked(self) -> None:
        self._rebalancing = True
        self._ready.clear()

    def granted(self, tps: set[TopicPartition]) -> set[int]:
        """Pauses everything: nothing may be fetched before the task has said where to start. The tasks to open."""
        self._rebalancing = False
        if tps:
            self._consumer.pause(*tps)
        partitions = {tp.partition for tp in tps}
        fixed = self.tasks.topology.partitions
        if any(p >= fixed for p in partitions):
            self.tasks.give_up(
                wrong_partitions({tp.topic: tp.partition + 1 for tp in tps if tp.partition >= fixed}, fixed)
            )
            return set()
        whole = {p for p in partitions if all(TopicPartition(t, p) in tps for t in self._topics)}
        if whole != partitions:
            log.error("partitions %s were assigned without all their inputs: not processed", sorted(partitions - whole))
        return whole

    # -- the engine's port ----------------------------------------------------------------------------
    async def seek(self, partition: int, offsets: Mapping[str, int], epoch: int) -> None:
        for topic in self._topics:
            tp = TopicPartition(topic, partition)
            self._covered[tp] = epoch, offsets[topic]
            self._consumer.seek(tp, offsets[topic])

    def resume(self, partition: int) -> None:
        self._ready.add(partition)
        self._consumer.resume(*(TopicPartition(t, partition) for t in self._topics))

    def pause(self, partition: int) -> None:
        self._ready.discard(partition)
        mine = [TopicPartition(t, partition) for t in self._topics]
        assigned = self._consumer.assignment()
        self._consumer.pause(*(tp for tp in mine if tp in assigned))

    async def still_member(self) -> None:
        """Waits for a heartbeat that the group has accepted. If it isn't, a rebalance follows and cancels the waiting.

        aiokafka tells of heartbeats nowhere in public; this is the only private name of it that is used.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001
        while not await coordinator._do_heartbeat():  # noqa: SLF001, ASYNC110
            await asyncio.sleep(1)

    # -- the loop -------------------------------------------------------------------------------------
    async def poll_forever(self) -> None:
        tick_due = 0.0
        while not self._stopping:  # a poll loop
            self.polled_at = now = time.monotonic()
            if now >= tick_due:
                tick_due = now + _TICK_S
                await self._tick(now)
            wanted, spare = self._wanted()
            if not wanted:
                await asyncio.sleep(0.01)
                continue
            try:
                got = await self._consumer.getmany(*wanted, timeout_ms=10 if spare else 100)
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as exc:
                self._bad_position(exc)
                await asyncio.sleep(0.02)
                continue
            except KafkaError as exc:
                log.warning("fetching: %r", exc)
                await asyncio.sleep(0.2)
                continue
            # No await between a position that moved and the chunk that covers it. One delivery a topic: an answer has
            # something for each of its partitions, and going through a channel costs as much as some records do.
            for topic, chunks in self._chunks(got).items():
                await self._deliver(topic, chunks)

    def _check_group(self) -> None:
        # No public name tells of it, and `getmany` only when something is assigned
        membership = self._consumer._coordinator._coordination_task  # noqa: SLF001
        if membership.done() and not self._stopping:
            raise GroupLost(f"the membership in the group has ended: {membership.exception()!r}")

    def _wanted(self) -> tuple[list[TopicPartition], bool]:
        """What to fetch for now; and whether some task has had enough for the moment."""
        wanted, spare = [], False
        for partition in self._ready:
            task = self.tasks.tasks.get(partition)
            if task is None:
                continue
            for topic in self._topics:
                if task.wants(topic):
                    wanted.append(TopicPartition(topic, partition))
                else:
                    spare = True
        return wanted, spare

    def _chunks(self, got: Mapping[TopicPartition, list[Any]]) -> dict[str, list[Chunk]]:
        """What came, by topic."""
        chunks: dict[str, list[Chunk]] = {}
        for tp, records in got.items():
            covered = self._covered.get(tp)
            if covered is None or not records:
                continue
            epoch, first = covered
            last = records[-1].offset + 1
            end = self._consumer.last_stable_offset(tp)
            at_end = end is not None and last >= end
            chunk = Chunk(tp.topic, tp.partition, epoch, first, last, records, at_end)
            chunks.setdefault(tp.topic, []).append(chunk)
            self._covered[tp] = epoch, last
            self._under_way[tp] = self._under_way.get(tp, 0) + 1
        return chunks

    def feed(self, chunks: list[Chunk]) -> None:
        """The agent's side: chunks have come through its channel."""
        for chunk in chunks:
            tp = TopicPartition(chunk.topic, chunk.partition)
            self._under_way[tp] -= 1
            if not self.tasks.feed(chunk):
                log.debug("dropped a stale chunk of %s", tp)

    async def _tick(self, now: float) -> None:
        """Tells tasks whether their inputs are read to the end, so that time can go on without records.

        Raises GroupLost.
        """
        self._check_group()
        lag_too = now >= self._lag_due
        if lag_too:
            self._lag_due = now + _LAG_EVERY_S
        for partition in tuple(self._ready):
            task = self.tasks.tasks.get(partition)
            if task is None or task.phase is not Phase.RUNNING:
                continue
            for topic in self._topics:
                tp = TopicPartition(topic, partition)
                end = self._consumer.last_stable_offset(tp)
                if end is None or tp not in self._consumer.assignment():
                    continue
                try:
                    position = await self._consumer.position(tp)
                except KafkaError:
                    continue
                task.at_end(topic, position >= end and not self._under_way.get(tp))
                if lag_too:
                    self._on_lag(topic, partition, max(0, end - position) + task.backlog(topic))
            task.tick()

    def _bad_position(self, exc: KafkaError) -> None:
        """The client looks for a position once a partition is assigned, paused or not: only news for open tasks."""
        bad = exc.args[0] if exc.args else ()
        for tp in [bad] if isinstance(bad, TopicPartition) else list(bad):
            task = self.tasks.tasks.get(tp.partition) if tp.partition in self._ready else None
            if task is not None:
                task.fail(exc)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka swallows what listeners raise, so nothing here may fail quietly: the tasks log, and die if they must."""

    def __init__(self, intake: KafkaIntake) -> None:
        self._intake = intake

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002  # eager: always all
        self._intake.revoked()
        await self._intake.tasks.revoke()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._intake.tasks.assign(self._intake.granted(assigned))
