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


def last_of(records: Iterable[tuple[bytes | None, bytes | None]]) -> list[bytes]:
    """The last value of each id of (key, value) pairs in their order; not of those that are retracted. A tombstone ends
    the id that is its key."""
    last: dict[str, bytes | None] = {}
    for key, value in records:
        if value is None:
            last.pop((key or b"").decode("utf-8", "surrogatepass"), None)
            continue
        head = _head(value)
        last[head.id] = None if head.retracted else value
    return [value for value in last.values() if value is not None]


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
        with path.open("rb") as file:
            return last_of((None, line) for line in file if line.strip())
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
        return last_of(await _until(consumer, ends))
    finally:
        try:
            await asyncio.wait_for(consumer.stop(), _STOP_LIMIT_S)
        except TimeoutError:
            log.debug("the consumer did not stop in time")


async def _until(consumer: Any, ends: dict[Any, int]) -> list[tuple[bytes | None, bytes | None]]:
    """Everything before the ends. By position: control records mean that the last offset may never come as a record."""
    found: list[tuple[bytes | None, bytes | None]] = []
    left = dict(ends)
    while left:
        for partition, end in list(left.items()):
            if await consumer.position(partition) >= end:
                del left[partition]
                consumer.pause(partition)
        if left:
            batches = await consumer.getmany(timeout_ms=500)
            for records in batches.values():
                found += [(record.key, record.value) for record in records]
    return found
