"""What the engine does by itself, without this product's rules: a small job, exactly once, on one worker."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from stream_app.bench import small
from stream_app.bench.lab import Committed, Say
from stream_app.devtools.broker import Broker
from stream_app.devtools.child import Child, module
from stream_app.engine.partitioning import partition_of

WARM_UP = 0.15


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and where."""

    events: int = 3_000_000
    clients: int = 200_000
    partitions: int = 4
    seed: int = 1
    topic: str = ""
    """A topic that is full already, for a comparison on one log; empty: one of our own is made."""
    output: str = ""


def run(job: Job, say: Say, directory: Path | None = None) -> dict[str, Any]:
    """The figures. Raises NoBroker, BrokerError, ChildFailed, BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stream-app-bench-") as temporary:
        home = directory or Path(temporary)
        with Broker.start(directory=home / "broker", say=say) as broker:
            return asyncio.run(_measure(job, broker.bootstrap, home, say))


async def _measure(job: Job, bootstrap: str, home: Path, say: Say) -> dict[str, Any]:
    name = f"bench-small-{time.time_ns() // 1_000_000:x}"
    topic = job.topic or f"{name}-in"
    spec = small.Spec(
        bootstrap=bootstrap,
        app_id=name,
        input=topic,
        output=job.output or f"{name}-out",
        partitions=job.partitions,
        state_directory=str(home / "state"),
    )
    made = {spec.output, spec.repartition, spec.changelog, spec.dead_letters}
    await _create(spec, made if job.topic else made | {topic})
    if not job.topic:
        say(f"engine: producing {job.events:,} events")
        await _produce(job, spec)
    total = await _size(spec)
    say(f"engine: {total:,} events; starting the worker")
    path = home / "small.json"
    path.write_bytes(msgspec.json.encode(spec))
    with Child("small job", module(small.__name__, str(path)), home / "small.log") as worker:
        return await _follow(worker, spec, total, say)


async def _create(spec: small.Spec, names: set[str]) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    client = AIOKafkaAdminClient(bootstrap_servers=spec.bootstrap)
    await client.start()
    try:
        there = set(await client.list_topics())
        config = {"cleanup.policy": "compact"}
        await client.create_topics(
            [
                NewTopic(name, spec.partitions, 1, topic_configs=config if name == spec.changelog else {})
                for name in sorted(names - there)
            ]
        )
    finally:
        await client.close()


async def _produce(job: Job, spec: small.Spec) -> None:
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(
        bootstrap_servers=spec.bootstrap, linger_ms=20, max_batch_size=1 << 18, retry_backoff_ms=100
    ) as producer:
        for key, value, at in small.events(job.events, job.clients, job.seed):
            partition = partition_of(key, job.partitions)
            await producer.send(spec.input, value, key, partition=partition, timestamp_ms=at)
        await producer.flush()


async def _size(spec: small.Spec) -> int:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import TopicPartition

    async with AIOKafkaConsumer(bootstrap_servers=spec.bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(spec.input, p) for p in range(spec.partitions)])
    return sum(ends.values())


async def _follow(worker: Child, spec: small.Spec, total: int, say: Say) -> dict[str, Any]:
    """Follows the committed offsets to the end of the log; the beginning is not measured."""
    async with Committed(spec.servers, spec.app_id, [spec.input]) as committed:
        warm = await committed.reach(total * WARM_UP, total, "engine", worker, say)
        began, cpu_before = time.monotonic(), worker.usage().cpu_s
        done = await committed.reach(total, total, "engine", worker, say)
        ended, cpu = time.monotonic(), worker.usage().cpu_s
    events, seconds, cpu_s = done - warm, ended - began, cpu - cpu_before
    return {
        "events": total,
        "measured_events": events,
        "seconds": round(seconds, 2),
        "events_per_second": round(events / max(seconds, 1e-3)),
        "events_per_cpu_second": round(events / max(cpu_s, 1e-3)),
        "rss_peak_mib": round(worker.usage().peak_rss_bytes / 2**20),
        "output_topic": spec.output,
    }
