"""The Kafka host in this process, with its own parts but without a Faust worker around them.

The intake feeds the tasks itself instead of through Faust's channels; chaos tests run the whole worker as a process.
Records are written, and read back, by a client of another make.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka.structs import TopicPartition as Place
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from stream_app.engine.ports import Committed, Log, Probe
from stream_app.engine.recovery import RecoverySettings, World
from stream_app.engine.task import Phase, TaskSettings
from stream_app.engine.tasks import Tasks, TasksSettings
from stream_app.engine.work import Chunk
from stream_app.hosts.kafka import lean
from stream_app.hosts.kafka.intake import KafkaIntake
from stream_app.hosts.kafka.log import KafkaLog
from tests.chaos.logs import ends
from tests.hosts.rig import INPUTS, OUTPUTS, Given, Rig, Seen

LARGEST = 8 << 20
"""Bytes that a record may have, as far as the broker is concerned."""


class KafkaRig(Rig):
    """Topics, a group and transactional ids of its own on a real broker."""

    def __init__(self, directory: Path, prefix: str, bootstrap: str) -> None:
        super().__init__(directory, prefix)
        lean.install()
        self.bootstrap = bootstrap
        self.app_id = f"{prefix}app"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "message.max.bytes": LARGEST, "linger.ms": 1, "acks": "all"}
        )
        self._reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "fetch.message.max.bytes": LARGEST,
            }
        )
        self._create([*INPUTS, *OUTPUTS, "repartition", "changelog", "dead-letters"])
        self._tasks: Tasks
        self._intake: KafkaIntake
        self._poll: asyncio.Task[None]
        self.log: KafkaLog

    @property
    def tasks(self) -> Tasks:
        return self._tasks

    # -- the worker -----------------------------------------------------------------------------------
    def _log(self) -> KafkaLog:
        return KafkaLog(
            options={"bootstrap_servers": [self.bootstrap], "request_timeout_ms": 20_000},
            app_id=self.app_id,
            changelog=self.prefix + "changelog",
            transaction_timeout_ms=30_000,
        )

    @asynccontextmanager
    async def port(self) -> AsyncIterator[Log]:
        log = self._log()
        yield log
        await log.close()

    async def _start(self, probe: Probe, settings: TaskSettings) -> None:
        self.log = self._log()
        intake = self._intake = KafkaIntake(
            topics=self.topology.input_topics,
            consumer_options={
                "bootstrap_servers": [self.bootstrap],
                "group_id": self.app_id,
                "session_timeout_ms": 10_000,
                "heartbeat_interval_ms": 1_000,
            },
            deliver=self._deliver,
            on_lag=lambda *_: None,
        )
        self._tasks = intake.tasks = Tasks(
            self.topology,
            World(self.log, self.stores(), self.clock, self.seen, probe, RecoverySettings()),
            intake,
            TasksSettings(max_failures=self.max_failures),
            settings,
            self._died.append,
        )
        await intake.start()
        self._poll = asyncio.create_task(intake.poll_forever(), name="poll")

    async def _deliver(self, _topic: str, chunks: list[Chunk]) -> None:
        self._intake.feed(chunks)

    async def down(self) -> None:
        await self._intake.stop()
        await self._poll
        await self.log.close()

    async def _look(self) -> bool:
        tasks = self._tasks.tasks
        if len(tasks) < self.partitions or any(t.phase is not Phase.RUNNING for t in tasks.values()):
            return False
        topics = self.topology.input_topics
        ends = await self._stable_ends()
        consumer = self._intake._consumer
        for partition, task in list(tasks.items()):
            if task.phase is not Phase.RUNNING:
                return False
            for topic in topics:
                place = Place(topic, partition)
                there = await consumer.position(place) >= ends[topic, partition] and not self._intake._under_way.get(
                    place
                )
                if not there:
                    return False
                task.at_end(topic, True)
            task.tick()
        return await self._still()

    async def _stable_ends(self) -> dict[tuple[str, int], int]:
        def ask() -> dict[tuple[str, int], int]:
            return {
                (topic, p): end
                for topic in self.topology.input_topics
                for p, end in ends(self._admin, topic, self.partitions, stable=True).items()
            }

        return await asyncio.to_thread(ask)

    async def _cut(self) -> None:
        self._poll.cancel()
        await asyncio.wait([self._poll])

    async def _cleared(self) -> None:
        await self._intake._consumer.stop()
        await self.log.close()

    async def fence(self, partition: int) -> None:
        other = self._log()
        await (await other.open_writer(partition)).close()
        await other.close()

    # -- records --------------------------------------------------------------------------------------
    async def _append(self, topic: str, partition: int, records: Sequence[Given]) -> None:
        failed: list[Any] = []

        def told(error: object, _: object) -> None:
            if error is not None:
                failed.append(error)

        def send() -> None:
            for r in records:
                self._producer.produce(
                    topic,
                    r.value,
                    r.key,
                    partition,
                    timestamp=r.timestamp,
                    headers=list(r.headers),
                    on_delivery=told,
                )
                self._producer.poll(0)
            assert self._producer.flush(30) == 0

        await asyncio.to_thread(send)
        assert not failed

    async def read(self, topic: str) -> list[Seen]:
        return await asyncio.to_thread(self._read, self.prefix + topic)

    def _read(self, topic: str) -> list[Seen]:
        """Up to the last stable offset, as a client of another make sees it."""
        consumer = self._reader
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(self.partitions)])
        found: dict[int, list[Seen]] = {p: [] for p in range(self.partitions)}
        ended: set[int] = set()
        while len(ended) < self.partitions:
            for message in consumer.consume(500, 0.02):
                partition = message.partition()
                if message.error() is not None:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    ended.add(partition)
                    continue
                headers = tuple(message.headers() or ())
                told = message.offset(), message.timestamp()[1], message.key(), message.value(), headers
                found[partition].append(Seen(partition, *told))
        consumer.unassign()
        return [record for p in sorted(found) for record in found[p]]

    # -- what can be spoilt ---------------------------------------------------------------------------
    async def offsets(self) -> dict[tuple[str, int], Committed | None]:
        log = self._log()  # confluent-kafka reads metadata past its end
        found = await log.committed(self.topology.input_topics, range(self.partitions))
        await log.close()
        return {(t.removeprefix(self.prefix), p): c for p, topics in found.items() for t, c in topics.items()}

    async def forget_offsets(self) -> None:
        await self._done(lambda: self._admin.delete_consumer_groups([self.app_id]))

    async def set_offset(self, topic: str, partition: int, offset: int) -> None:
        wanted = ConsumerGroupTopicPartitions(self.app_id, [TopicPartition(self.prefix + topic, partition, offset)])
        await self._done(lambda: self._admin.alter_consumer_group_offsets([wanted]))

    async def recreate(self, topic: str) -> None:
        await self._done(lambda: self._admin.delete_topics([self.prefix + topic]))
        await self._known(lambda topics: self.prefix + topic not in topics)
        await asyncio.to_thread(self._create, [topic])

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        await self._done(lambda: self._admin.delete_records([TopicPartition(self.prefix + topic, partition, offset)]))

    async def grow(self, partitions: int) -> None:
        topics = self._admin.list_topics(timeout=20).topics
        mine = [NewPartitions(name, partitions) for name in topics if name.startswith(self.prefix)]
        await self._done(lambda: self._admin.create_partitions(mine))
        self.partitions = partitions
        await self._known(lambda topics: all(len(topics[t.topic].partitions) == partitions for t in mine))

    def _create(self, names: Sequence[str]) -> None:
        wanted = [
            NewTopic(
                self.prefix + name,
                self.partitions,
                1,
                config={"max.message.bytes": str(LARGEST), "retention.ms": "-1"}
                | ({"cleanup.policy": "compact"} if name == "changelog" else {}),
            )
            for name in names
        ]
        for future in self._admin.create_topics(wanted).values():
            future.result(30)
        deadline = time.monotonic() + 30
        while not all(self._leads(self.prefix + name) for name in names):  # created is not yet known to clients
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self._reader.list_topics(timeout=20)  # or it would look for them half a second each

    def _leads(self, topic: str) -> bool:
        found = self._admin.list_topics(topic, timeout=20).topics[topic]
        return len(found.partitions) == self.partitions and all(p.leader >= 0 for p in found.partitions.values())

    async def _done(self, ask: Callable[[], dict[Any, Any]]) -> None:
        def wait() -> None:
            for future in ask().values():
                future.result(30)

        await asyncio.to_thread(wait)

    async def _known(self, condition: Callable[[Any], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(await asyncio.to_thread(lambda: self._admin.list_topics(timeout=20).topics)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Leaves nothing behind."""
        self._reader.close()
        names = [self.prefix + n for n in (*INPUTS, *OUTPUTS, "repartition", "changelog", "dead-letters")]
        await self._done(lambda: self._admin.delete_topics(names))
