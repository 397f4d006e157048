"""Writes records into Kafka, whole batches at a time, each record on the partition it names itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stream_app.simulator.records import TOPICS, Record, Topic
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from stream_app.settings import Kafka

_BATCH_BYTES = 256 * 1024
_IN_FLIGHT = 64
"""Batches on their way before `send` waits for the oldest."""

OnDelivery = Callable[[list[Record], int], None]


class Feed:
    """An idempotent producer. Use as `async with`; leaving it waits until everything is delivered.

    `on_delivery` gets the records of every batch once the broker has them, with the broker's append time in ms
    (-1 on topics with CreateTime).
    """

    def __init__(self, kafka: Kafka, on_delivery: OnDelivery | None = None) -> None:
        self._kafka = kafka
        self._on_delivery = on_delivery
        self._names = {topic: topic_name(topic, kafka) for topic in TOPICS}
        self._producer: Any = None
        self._waiting: dict[asyncio.Future[Any], list[Record]] = {}
        self.sent = 0

    async def __aenter__(self) -> Self:
        from aiokafka import AIOKafkaProducer

        from stream_app.settings.security import client_options

        self._producer = AIOKafkaProducer(
            **client_options(self._kafka), enable_idempotence=True, max_batch_size=_BATCH_BYTES, linger_ms=0
        )
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def send(self, records: Iterable[Record]) -> None:
        """Hands over the records in their order. Returns before they are delivered, but never far ahead."""
        partitions = self._kafka.partitions
        create = self._producer.create_batch
        batches: dict[tuple[Topic, int], tuple[Any, list[Record]]] = {}
        keep = self._on_delivery is not None
        for record in records:
            place = (record.topic, record.place % partitions)
            entry = batches.get(place)
            if entry is None:
                entry = batches[place] = create(), []
            if entry[0].append(timestamp=record.ts, key=record.key, value=record.value) is None:
                await self._ship(place, *entry)
                entry = batches[place] = create(), []
                entry[0].append(timestamp=record.ts, key=record.key, value=record.value)
            if keep:
                entry[1].append(record)
        for place, entry in batches.items():
            await self._ship(place, *entry)

    async def _ship(self, place: tuple[Topic, int], batch: Any, records: list[Record]) -> None:
        topic, partition = place
        self.sent += batch.record_count()
        batch.close()
        future = await self._producer.send_batch(batch, self._names[topic], partition=partition)
        self._waiting[future] = records
        while len(self._waiting) >= _IN_FLIGHT:
            await self._settle(asyncio.FIRST_COMPLETED)

    async def flush(self) -> None:
        """Waits until everything sent is delivered. Raises what the broker answered otherwise."""
        while self._waiting:
            await self._settle(asyncio.ALL_COMPLETED)

    async def _settle(self, when: str) -> None:
        done, _ = await asyncio.wait(self._waiting, return_when=when)
        for future in done:
            records = self._waiting.pop(future)
            delivered = future.result()
            if self._on_delivery is not None:
                self._on_delivery(records, delivered.timestamp)
