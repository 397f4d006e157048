"""Reading whole topics with a client of another make than the product's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

QUIET: Final[Mapping[str, int]] = {"log_level": 0}
"""librdkafka tells standard error of every broken connection, and here they are broken on purpose."""


class Read(NamedTuple):
    """One record as it lies in the log."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def read(
    bootstrap: str,
    topic: str,
    partitions: int,
    *,
    committed: bool = True,
    starts: dict[int, int] | None = None,
) -> list[Read]:
    """Every record of a topic up to its end (the last stable offset), partition by partition in log order."""
    wanted = dict.fromkeys(range(partitions), -2) if starts is None else starts
    return read_all(bootstrap, {topic: wanted}, committed=committed)[topic]


def read_all(bootstrap: str, topics: dict[str, dict[int, int]], *, committed: bool = True) -> dict[str, list[Read]]:
    """As `read`, for several topics with one consumer: topic → partition → where to begin (-2: at the beginning)."""
    consumer = Consumer(
        {
            **QUIET,
            "bootstrap.servers": bootstrap,
            "group.id": "oracle",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.assign([TopicPartition(topic, p, at) for topic, starts in topics.items() for p, at in starts.items()])
    found: dict[tuple[str, int], list[Read]] = {
        (topic, p): [] for topic in sorted(topics) for p in sorted(topics[topic])
    }
    ended: set[tuple[str, int]] = set()
    try:
        while len(ended) < len(found):
            for message in consumer.consume(10_000, 0.05):  # waits for all that many, or so long
                topic, partition = message.topic(), message.partition()
                assert topic is not None
                assert partition is not None
                if message.error() is not None:
                    ended.add((topic, partition))
                else:
                    found[topic, partition].append(_read(message))
    finally:
        consumer.close()
    result: dict[str, list[Read]] = {topic: [] for topic in topics}
    for (topic, _), records in found.items():
        result[topic] += records
    return result


def _read(message: Message) -> Read:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    key, value = message.key(), message.value()
    assert not isinstance(key, str)
    assert not isinstance(value, str)
    return Read(partition, offset, message.timestamp()[1], key, value, message.headers() or [])  # type: ignore[arg-type]


def ends(admin: AdminClient, topic: str, partitions: int, *, stable: bool = False) -> dict[int, int]:
    """End offsets: of what is stable, or of everything written."""
    level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(partitions)}
    for attempt in range(60):
        answers = admin.list_offsets(asked, isolation_level=level, request_timeout=20)
        try:
            return {tp.partition: future.result(30).offset for tp, future in answers.items()}
        except KafkaException:  # a leader has moved, or the topic is new: what the client knows is renewed
            if attempt == 59:
                raise
            admin.list_topics(timeout=20)
            time.sleep(0.2)
    raise AssertionError("unreachable")


def hanging(admin: AdminClient, topic: str, partitions: int) -> dict[int, int]:
    """Records at the end of each partition that no read_committed reader can see yet: a transaction is open."""
    written, stable = ends(admin, topic, partitions), ends(admin, topic, partitions, stable=True)
    return {p: written[p] - stable[p] for p in written if written[p] > stable[p]}
