"""The engine's `Log` port on Kafka, through aiokafka's public interfaces."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_app.engine.ports import ChangelogReader, Committed, Fenced, Outgoing, Record, Writer
from stream_app.engine.recovery import CannotOpen
from stream_app.engine.topology import Topology
from stream_app.hosts.kafka.lean import LeanBatch, as_parsed

log = logging.getLogger(__name__)

_BATCH_BYTES = 1 << 20
_RETRY_MS = 20
"""A consumer that learns of a topic asks again after this long, once a topic: at 100 ms it would be most of opening."""
_RENEW_AFTER = 1 << 30
"""Records per partition after which a producer is renewed: aiokafka's sequence number wraps wrongly at 2³¹."""


class OffsetsUnknown(KafkaError):  # type: ignore[misc]  # aiokafka ships no types
    """The group's coordinator gave no complete answer: perhaps it is still loading."""


class RenewProducer(Exception):
    """The producer has sent so many records that its sequence numbers would soon wrap: the task is opened again."""


class KafkaWriter:
    """The transactional producer of one task."""

    def __init__(self, producer: Any, group: str) -> None:
        self._producer = producer
        self._group = group
        self._sent: list[tuple[str, int, int, Any]] = []
        self._total = 0
        self._partition_of_offsets = -1

    async def begin(self) -> None:
        if self._total > _RENEW_AFTER:
            raise RenewProducer
        with _fencing():
            await self._producer.begin_transaction()

    async def send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        self._total += len(records)
        now_ms = time.time_ns() // 1_000_000
        taken = 0
        with _fencing():
            while taken < len(records):
                batch = LeanBatch(_BATCH_BYTES, 0, is_transactional=True)
                count = batch.fill(records, taken, now_ms)
                delivery = await self._producer.send_batch(batch, topic, partition=partition)
                self._sent.append((topic, partition, count, delivery))
                taken += count

    async def flush(self) -> Mapping[tuple[str, int], int]:
        sent, self._sent = self._sent, []
        last: dict[tuple[str, int], int] = {}
        with _fencing():
            for topic, partition, count, delivery in sent:
                metadata = await delivery
                last[topic, partition] = metadata.offset + count - 1
        return last

    async def send_offsets(self, offsets: Mapping[str, int], metadata: str) -> None:
        with _fencing():
            await self._producer.send_offsets_to_transaction(
                {
                    TopicPartition(topic, self._partition_of_offsets): OffsetAndMetadata(offset, metadata)
                    for topic, offset in offsets.items()
                },
                self._group,
            )

    async def commit(self) -> None:
        with _fencing():
            await self._producer.commit_transaction()

    async def close(self) -> None:
        for _, _, _, delivery in self._sent:
            delivery.cancel()
        self._sent = []
        await _stop(self._producer)

    def for_partition(self, partition: int) -> KafkaWriter:
        """Which partition of the inputs its offsets are of."""
        self._partition_of_offsets = partition
        return self


class _fencing:  # noqa: N801  # a context manager used like a function, in the hot path
    """Turns aiokafka's two ways of saying "fenced" into the engine's."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, ProducerFenced | InvalidProducerEpoch):
            raise Fenced(str(exc) or type(exc).__name__) from exc


async def _stop(client: Any) -> None:
    """Ends an aiokafka client within a deadline. Cancellation passes through."""
    try:
        async with asyncio.timeout(3):
            await client.stop()
    except Exception as exc:  # noqa: BLE001  # whatever it is, nobody waits for this client any more
        log.info("stopping %s: %r", type(client).__name__, exc)


class KafkaLog:
    """`options`: keyword arguments common to all aiokafka clients (addresses, TLS, log-in)."""

    def __init__(
        self,
        *,
        options: Mapping[str, Any],
        app_id: str,
        changelog: str,
        transaction_timeout_ms: int = 30_000,
    ) -> None:
        self._options = dict(options)
        self._app_id = app_id
        self._changelog = changelog
        self._transaction_timeout_ms = transaction_timeout_ms
        self._admin: Any = None
        self._bounds: Any = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        if self._admin is not None:
            async with asyncio.timeout(3):
                await self._admin.close()
        if self._bounds is not None:
            await _stop(self._bounds)

    async def check_partitions(self, topology: Topology) -> None:
        """Raises CannotOpen unless every topic of these tasks exists with their number of partitions (semantics 17)."""
        admin = await self._administrator()
        # Asked without names: asking for a topic by name can create it.
        found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        needed = {*topology.input_topics, topology.changelog, topology.dead_letters}
        missing = sorted(needed - found.keys())
        if missing:
            raise CannotOpen(f"topics {', '.join(missing)} don't exist; `stream-app topics create` makes them")
        used = needed | set(topology.topics.values())
        wrong = {topic: found[topic] for topic in used if found.get(topic, topology.partitions) != topology.partitions}
        if wrong:
            raise wrong_partitions(wrong, topology.partitions)

    async def open_writer(self, partition: int) -> Writer:
        producer = AIOKafkaProducer(
            **self._options,
            transactional_id=f"{self._app_id}-{partition}",
            transaction_timeout_ms=self._transaction_timeout_ms,
            max_batch_size=_BATCH_BYTES,
            max_request_size=64 << 20,
            linger_ms=0,
        )
        try:
            await producer.start()
        except BaseException:
            await asyncio.shield(_stop(producer))
            raise
        return KafkaWriter(producer, self._app_id).for_partition(partition)

    async def committed(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, Committed | None]]:
        """Retries until the answer is complete: a coordinator that is loading answers with nothing at all."""
        admin = await self._administrator()
        wanted = [TopicPartition(topic, p) for topic in topics for p in partitions]
        for attempt in range(60):
            try:
                got = await admin.list_consumer_group_offsets(self._app_id, partitions=wanted)
            except KafkaError as exc:
                log.info("committed offsets: %r", exc)
            else:
                if all(tp in got for tp in wanted):
                    return {p: {t: _committed(got[TopicPartition(t, p)]) for t in topics} for p in partitions}
            await asyncio.sleep(min(0.05 * (attempt + 1), 0.5))
        raise OffsetsUnknown(f"the coordinator of group {self._app_id} gave no complete answer")

    async def input_bounds(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, tuple[int, int]]]:
        async with self._lock:
            if self._bounds is None:
                consumer = AIOKafkaConsumer(**self._options, group_id=None, retry_backoff_ms=_RETRY_MS)
                await consumer.start()
                self._bounds = consumer
        wanted = [TopicPartition(topic, p) for topic in topics for p in partitions]
        begins = await self._bounds.beginning_offsets(wanted)
        ends = await self._bounds.end_offsets(wanted)
        return {p: {t: (begins[TopicPartition(t, p)], ends[TopicPartition(t, p)]) for t in topics} for p in partitions}

    @asynccontextmanager
    async def changelog_reader(self, partitions: Sequence[int]) -> AsyncIterator[ChangelogReader]:
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_bytes=64 << 20,
            key_deserializer=as_parsed,
            retry_backoff_ms=_RETRY_MS,
        )
        await consumer.start()
        try:
            yield KafkaChangelogReader(consumer, self._changelog, partitions)
        finally:
            await asyncio.shield(_stop(consumer))

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Deletes records of a topic that have been processed: partition → first offset to keep."""
        from aiokafka.admin import RecordsToDelete

        admin = await self._administrator()
        await admin.delete_records(
            {TopicPartition(topic, p): RecordsToDelete(before_offset=o) for p, o in offsets.items()}
        )

    async def _administrator(self) -> Any:
        async with self._lock:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._options)
                await admin.start()
                self._admin = admin
        return self._admin


def _committed(found: OffsetAndMetadata) -> Committed | None:
    return Committed(found.offset, found.metadata or "") if found.offset >= 0 else None


def wrong_partitions(found: Mapping[str, int], fixed: int) -> CannotOpen:
    """What to tell an operator whose topics have another number of partitions than the tasks."""
    listed = ", ".join(f"{topic} has {n}" for topic, n in sorted(found.items()))
    return CannotOpen(
        f"kafka.partitions is {fixed}, but {listed}. The partition count of an app id is fixed for its life: "
        "use topics with that many, or a new app id, and reprocess."
    )


class KafkaChangelogReader:
    """Reads changelog partitions with read_committed up to their ends."""

    def __init__(self, consumer: Any, topic: str, partitions: Sequence[int]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._known: dict[int, tuple[int, int]] = {}
        self._partitions = partitions

    async def bounds(self, partition: int) -> tuple[int, int]:
        if not self._known:
            tps = [TopicPartition(self._topic, p) for p in self._partitions]
            begins = await self._consumer.beginning_offsets(tps)
            ends = await self._consumer.end_offsets(tps)
            self._known = {tp.partition: (begins[tp], ends[tp]) for tp in tps}
        return self._known[partition]

    async def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Record], int]]:
        consumer = self._consumer
        left = {TopicPartition(self._topic, p): ends[p] for p in starts if starts[p] < ends[p]}
        if not left:
            return
        consumer.assign(list(left))
        for tp in left:
            consumer.seek(tp, starts[tp.partition])
        while left:
            got = await consumer.getmany(*left, timeout_ms=200)
            for tp, records in got.items():
                yield tp.partition, records, await consumer.position(tp)
            for tp in [tp for tp in left if tp not in got]:
                if await consumer.position(tp) >= left[tp]:
                    del left[tp]
            for tp in got:
                if await consumer.position(tp) >= left[tp]:
                    del left[tp]
