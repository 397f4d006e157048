from __future__ import annotations

import asyncio
import struct
from itertools import islice
from pathlib import Path

import orjson
import pytest

from stream_app import topics
from stream_app.devtools.broker import Broker
from stream_app.engine.partitioning import partition_of
from stream_app.settings import Kafka
from stream_app.simulator import files, pacing
from stream_app.simulator.faults import Faults
from stream_app.simulator.feed import Feed
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig

START = 1_767_000_000_000


def traffic(seed: int, rate: float = 200.0, faults: str = "none") -> Traffic:
    return Traffic(seed, TrafficConfig(start_ms=START, rate=rate, faults=Faults.parse(faults)))


def test_files_hold_every_record_with_its_broker_time(seed: int, tmp_path: Path) -> None:
    records = list(islice(traffic(seed), 2_000))
    counts = files.write(records, tmp_path)
    assert sum(counts.values()) == 2_000
    for topic, count in counts.items():
        lines = (tmp_path / f"{topic}.jsonl").read_bytes().splitlines()
        expected = [record for record in records if record.topic == topic]
        assert len(lines) == count == len(expected)
        for line, record in zip(lines, expected, strict=True):
            value = orjson.loads(line)
            assert value.pop("received_at") == record.ts
            assert value == orjson.loads(record.value)


def test_a_bad_value_stays_one_line(tmp_path: Path) -> None:
    records = [Record("clicks", b"k", value, 0, 0, 0) for value in (b"", b'{"a":\n', b"[1]")]
    files.write(records, tmp_path)
    assert (tmp_path / "clicks.jsonl").read_bytes() == b'\n{"a": \n[1]\n'


async def received(kafka: Kafka, count: int) -> list[tuple[str, int, bytes | None, bytes | None, int]]:
    """(topic, partition, key, value, timestamp) of the first records of both inputs, read by a plain consumer."""
    from aiokafka import AIOKafkaConsumer

    names = [topics.topic_name(name, kafka) for name in ("clicks", "conversions")]
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=kafka.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        found: list[tuple[str, int, bytes | None, bytes | None, int]] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(r.topic, r.partition, r.key, r.value, r.timestamp) for r in batch]
        return found
    finally:
        await consumer.stop()


async def created(broker: Broker, prefix: str, timestamps: topics.Timestamps) -> Kafka:
    kafka = Kafka(bootstrap=broker.bootstrap, topic_prefix=prefix, app_id="simulator")
    async with topics.admin(kafka) as client:
        await topics.create(topics.Catalogue(kafka, timestamps), client)
    return kafka


async def test_a_backfill_arrives_whole_in_order_on_the_partitions_of_its_keys(
    broker: Broker, topic_prefix: str, seed: int
) -> None:
    kafka = await created(broker, topic_prefix, "create")
    records = list(islice(traffic(seed, faults="none,misplaced=0.01"), 20_000))
    delivered: list[Record] = []
    async with Feed(kafka, on_delivery=lambda batch, _: delivered.extend(batch)) as feed:
        await pacing.fast(records, feed, asyncio.Event(), pacing.Progress(lambda _: None))
    assert feed.sent == 20_000
    assert len(delivered) == 20_000
    found = await received(kafka, 20_000)
    for topic in ("clicks", "conversions"):
        for partition in range(kafka.partitions):
            expected = [(r.key, r.value, r.ts) for r in records if (r.topic, r.place % 8) == (topic, partition)]
            name = topics.topic_name(topic, kafka)
            assert [entry[2:] for entry in found if entry[:2] == (name, partition)] == expected


async def test_live_traffic_is_sent_when_its_time_has_come(broker: Broker, topic_prefix: str, seed: int) -> None:
    """By a clock of the test's own: what is due is sent, what is not yet stays."""
    kafka = await created(broker, topic_prefix, "append")
    records = list(islice(traffic(seed, rate=1_000.0), 3_000))
    middle, end = records[1_500].ts, records[-1].ts
    now, stop = [middle], asyncio.Event()
    sent_at_middle = sum(record.ts <= middle for record in records)
    reached = asyncio.Event()

    def on_delivery(batch: list[Record], appended_ms: int) -> None:
        assert appended_ms > START
        assert all(record.ts <= now[0] for record in batch)
        counted.extend(batch)
        if len(counted) == sent_at_middle:
            reached.set()

    counted: list[Record] = []
    async with asyncio.timeout(60), Feed(kafka, on_delivery) as feed:
        running = asyncio.create_task(
            pacing.live(iter(records), feed, stop, pacing.Progress(lambda _: None), clock=lambda: now[0])
        )
        async with asyncio.timeout(30):
            while not reached.is_set():
                await asyncio.sleep(0)
                await feed.flush()
        now[0] = end
        await running
    assert feed.sent == 3_000
    found = await received(kafka, 3_000)
    assert all(partition == partition_of(key, 8) for _, partition, key, _, _ in found if key is not None)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 64])
def test_places_agree_with_another_implementation_of_murmur2(seed: int, count: int) -> None:
    """Written again from the Java client's source, word by word, so that the two do not share a mistake."""
    key = struct.pack(">Q", seed)[:count] * count
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    for i in range(0, len(key) & ~3, 4):
        k = key[i] | key[i + 1] << 8 | key[i + 2] << 16 | key[i + 3] << 24
        k = (k * m) & mask
        k ^= k >> 24
        h = ((h * m) & mask) ^ ((k * m) & mask)
    rest = key[len(key) & ~3 :]
    for i in reversed(range(len(rest))):
        h ^= rest[i] << 8 * i
    if rest:
        h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    h ^= h >> 15
    assert partition_of(key, 7) == (h & 0x7FFFFFFF) % 7
