"""Records taken as the client's parser makes them are the records that the client would have handed out."""

from __future__ import annotations

import gc
import random
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream_app.devtools.broker import Broker
from stream_app.hosts.kafka import lean

PLAIN = lean.LeanPartitionRecords.__base__, lean.LeanFetchResult.__base__


@pytest.fixture(autouse=True)
def _installed() -> None:
    lean.install()


async def _fill(bootstrap: str, topic: str, rng: random.Random) -> int:
    """Batches of all kinds: plain, compressed, committed, aborted, left open for a while; the end offset."""
    number = 0
    for compression in (None, "gzip"):
        plain = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=compression)
        steady = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-{compression}")
        for producer in (plain, steady):
            await producer.start()
        for _ in range(25):
            transactional = rng.random() < 0.7
            producer = steady if transactional else plain
            if transactional:
                await producer.begin_transaction()
            batch = producer.create_batch()
            for _ in range(rng.randint(1, 9)):
                key = rng.choice([None, b"", b"k%d" % number])
                value = rng.choice([None, b"", b"v%d" % number * rng.randint(1, 50)])
                headers = rng.choice([[], [("h", b"1"), ("h", b"\xff")], [("empty", b"")]])
                batch.append(timestamp=1_700_000_000_000 + number, key=key, value=value, headers=headers)
                number += 1
            batch.close()
            await (await producer.send_batch(batch, topic, partition=0))
            if transactional:
                await (producer.commit_transaction if rng.random() < 0.6 else producer.abort_transaction)()
        for producer in (plain, steady):
            await producer.stop()
    return number


async def _read(
    bootstrap: str, topic: str, deserializer: Any, isolation: str, start: int, end: int, most: int | None
) -> list[tuple[Any, ...]]:
    """Every record from `start` on, with the position after each answer."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        key_deserializer=deserializer,
    )
    await consumer.start()
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, start)
    found: list[tuple[Any, ...]] = []
    while await consumer.position(place) < end:
        got = await consumer.getmany(place, timeout_ms=50, max_records=most)
        for records in got.values():
            assert records
            assert all(isinstance(r, ConsumerRecord) for r in records) == (deserializer is None)
            found += [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]
            assert await consumer.position(place) > records[-1].offset
    await consumer.stop()
    return found


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
async def test_lean_records_equal_those_of_the_client(
    broker: Broker, topic_prefix: str, seed: int, isolation: str
) -> None:
    """Offset, timestamp, key, value and headers, from wherever reading starts, aborted and control records left out.
    Consumers that did not ask for them get what the client always gave."""
    topic = f"{topic_prefix}lean"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(30)
    rng = random.Random(seed)
    await _fill(broker.bootstrap, topic, rng)
    watcher = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
    await watcher.start()
    place = TopicPartition(topic, 0)
    end = (await watcher.end_offsets([place]))[place]
    await watcher.stop()
    whole = await _read(broker.bootstrap, topic, None, isolation, 0, end, None)
    assert len(whole) > 50
    for start in (0, *rng.sample(range(end), 5)):
        wanted = [r for r in whole if r[0] >= start]
        assert await _read(broker.bootstrap, topic, lean.as_parsed, isolation, start, end, None) == wanted
    assert await _read(broker.bootstrap, topic, lean.as_parsed, isolation, 0, end, 3) == whole


@pytest.mark.parametrize("taken", [True, False])
def test_what_was_fetched_is_free_as_soon_as_it_is_taken_or_dropped(taken: bool) -> None:
    """Without the garbage collector, which comes rarely: responses are megabytes each."""
    batch = lean.LeanBatch(1 << 20, 0, is_transactional=False)
    batch.fill([(b"k", b"v", ())], 0, 1_700_000_000_000)
    place = TopicPartition("t", 0)
    state = SimpleNamespace(paused=not taken, position=0, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    gc.disable()
    try:
        records = lean.LeanPartitionRecords(
            place, MemoryRecords(bytes(batch._build())), [], 0, None, None, True, fetcher.READ_COMMITTED
        )
        found = lean.LeanFetchResult(place, assignment=assignment, partition_records=records, backoff=0)
        held = weakref.ref(records)
        del records
        assert len(found.getall()) == (1 if taken else 0)
        assert held() is None
    finally:
        gc.enable()


def test_the_client_still_has_what_is_replaced() -> None:
    """Its version is pinned; should that change, this tells what to look at again."""
    assert fetcher.FetchResult is lean.LeanFetchResult
    assert PLAIN[0].__module__ == PLAIN[1].__module__ == fetcher.__name__
    assert {"_unpack_records", "_consume_aborted_up_to", "_contains_abort_marker"} <= set(dir(PLAIN[0]))
    assert {"getall", "check_assignment", "_update_position"} <= set(dir(PLAIN[1]))


def test_a_batch_filled_at_once_is_the_batch_that_the_client_builds(seed: int) -> None:
    """Byte for byte, and as many records of a batch that gets full; the next one begins with the one left over."""
    rng = random.Random(seed)
    records = [
        (
            rng.choice([None, b"", rng.randbytes(rng.randint(1, 40))]),
            rng.choice([None, b"", rng.randbytes(rng.randint(1, 3_000))]),
            rng.choice([(), (("kind", b"x"),), (("a", b""), ("b", rng.randbytes(9)))]),
        )
        for _ in range(300)
    ]
    taken = batches = 0
    while taken < len(records):
        theirs = BatchBuilder(1 << 15, 0, is_transactional=True)
        count = 0
        for key, value, headers in records[taken:]:
            if theirs.append(timestamp=1_700_000_000_000, key=key, value=value, headers=list(headers)) is None:
                break
            count += 1
        ours = lean.LeanBatch(1 << 15, 0, is_transactional=True)
        assert ours.fill(records, taken, 1_700_000_000_000) == count == ours.record_count()
        assert ours.closed()
        for batch in (ours, theirs):
            batch._set_producer_state(7, 1, 5)
        assert bytes(ours._build()) == bytes(theirs._build())
        taken += count
        batches += 1
    assert batches > 3


def test_a_record_larger_than_a_batch_has_one_of_its_own() -> None:
    """Whether it is too large is for the broker to say."""
    records = [(b"k", b"v" * 5_000, ()), (b"k", b"v", ())]
    batch = lean.LeanBatch(1_000, 0, is_transactional=True)
    assert batch.fill(records, 0, 1) == 1
    rest = lean.LeanBatch(1_000, 0, is_transactional=True)
    assert rest.fill(records, 1, 1) == 1
