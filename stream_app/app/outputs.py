"""The last records of an output topic: from Kafka, or from the files that `stream-app replay` has written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stream_app.settings import Settings
from stream_app.topics import Catalogue

log = logging.getLogger(__name__)
R = TypeVar("R")
_STOP_LIMIT_S = 5.0
_FETCH_BYTES = 4 << 20


class CannotRead(Exception):
    """The records cannot be had; the text tells why."""


class _Head(msgspec.Struct):
    id: str
    retracted: bool = False


_head = msgspec.json.Decoder(_Head).decode


class Last:
    """Keeps the last value of each id."""

    def __init__(self) -> None:
        self._by_id: dict[str, bytes | None] = {}

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """The next record. A tombstone ends the id that is its key."""
        if value is None:
            self._by_id.pop((key or b"").decode("utf-8", "surrogatepass"), None)
            return
        head = _head(value)
        self._by_id[head.id] = None if head.retracted else value

    def values(self) -> list[bytes]:
        """The last value of each id that is not retracted."""
        return [value for value in self._by_id.values() if value is not None]


def decoded(values: Iterable[bytes], kind: type[R]) -> Iterator[R]:
    """The records typed. Raises CannotRead for one of another make."""
    decode = msgspec.json.Decoder(kind).decode
    for value in values:
        try:
            yield decode(value)
        except msgspec.DecodeError as exc:
            raise CannotRead(f"a record is no {kind.__name__}: {exc}") from None


def read_directory(directory: Path, topic: str) -> list[bytes]:
    """The last records in a directory of `stream-app replay`. Raises CannotRead."""
    path = directory / f"{topic}.jsonl"
    try:
        last = Last()
        with path.open("rb") as file:
            for line in file:
                if value := line.strip():
                    last.take(None, value)
        return last.values()
    except OSError as exc:
        raise CannotRead(f"{path}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise CannotRead(f"{path}: {exc}") from exc


def read_topic(settings: Settings, topic: str) -> list[bytes]:
    """The last committed records of an output topic, as of now. Raises CannotRead."""
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(_read(settings, Catalogue.of(settings).name(topic)))
    except (KafkaError, OSError) as exc:
        raise CannotRead(f"{settings.kafka.bootstrap}: {exc!r}") from exc


async def _read(settings: Settings, name: str) -> list[bytes]:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

    from stream_app.settings.security import client_options

    admin = AIOKafkaAdminClient(**client_options(settings.kafka))
    await admin.start()
    try:
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    if name not in counts:
        raise CannotRead(f"{settings.kafka.bootstrap}: there is no topic {name}")
    partitions = [TopicPartition(name, partition) for partition in range(counts[name])]
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        last = Last()
        await _until(consumer, ends, last)
        return last.values()
    finally:
        try:
            await asyncio.wait_for(consumer.stop(), _STOP_LIMIT_S)
        except TimeoutError:
            log.debug("the consumer did not stop in time")


async def _until(consumer: Any, ends: dict[Any, int], last: Last) -> None:
    """Takes everything before the ends. By position: control records mean that the last offset may never come as a
    record."""
    left = dict(ends)
    while left:
        for partition, end in list(left.items()):
            if await consumer.position(partition) >= end:
                del left[partition]
                consumer.pause(partition)
        if left:
            batches = await consumer.getmany(timeout_ms=500)
            for records in batches.values():
                for record in records:
                    last.take(record.key, record.value)
