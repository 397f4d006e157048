"""Where a measurement takes place: a deployment of its own on a real broker, with real worker processes."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from stream_app import topics
from stream_app.devtools import scrape
from stream_app.devtools.child import Child, stream_app
from stream_app.devtools.ports import free_ports
from stream_app.settings import Kafka
from stream_app.simulator import pacing
from stream_app.simulator.feed import Feed
from stream_app.simulator.records import TOPICS, Record

READY_TIMEOUT_S = 180.0
POLL_S = 0.1
_STUCK_S = 120.0
Say = Callable[[str], None]
Offsets = dict[tuple[str, int], int]


class BenchFailed(Exception):
    """A measurement could not be made; says what happened."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    events: int = 2_000_000
    clients: int = 2_000_000
    """Of the memory part."""
    keys: int = 1_000_000
    """Of the recovery part."""
    seconds: float = 60.0
    """Of the latency part, warm-up left out."""
    rate: float = 0.0
    """Events per second of the latency part; 0: half of the measured throughput."""
    seed: int = 1
    partitions: int = 8
    profile: bool = False


class Lab:
    """A broker, and a directory of this run alone for everything that is made."""

    def __init__(self, bootstrap: str, directory: Path, options: Options, say: Say) -> None:
        self.bootstrap = bootstrap
        self.options = options
        self.say = say
        self._run = f"{time.time_ns() // 1_000_000:x}"
        self.directory = directory / self._run
        self.crowd: Deployment | None = None
        """A stopped deployment whose changelog holds many keys, left by the memory part for the recovery part."""

    async def deploy(self, name: str, timestamps: topics.Timestamps, **engine: object) -> Deployment:
        """Topics under a prefix of their own, and settings for workers on them. `engine` overrides settings."""
        kafka = Kafka(
            bootstrap=self.bootstrap,
            app_id=f"bench-{name}-{self._run}",
            topic_prefix=f"bench.{name}.{self._run}.",
            partitions=self.options.partitions,
        )
        async with topics.admin(kafka) as client:
            await topics.create(topics.Catalogue(kafka, timestamps), client)
        return Deployment(name, kafka, self.directory / name, engine, self.say)


class Deployment:
    """One app id: its topics, and the workers that are started on them."""

    def __init__(self, name: str, kafka: Kafka, directory: Path, engine: dict[str, object], say: Say) -> None:
        self.name = name
        self.kafka = kafka
        self.say = say
        self.directory = directory
        self._engine = engine
        self._ports: dict[int, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def config(self, number: int = 0, port: int = 0, **engine: object) -> Path:
        """Writes the settings of a worker and gives the file."""
        kafka = self.kafka
        sections: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap": kafka.bootstrap,
                "app_id": kafka.app_id,
                "topic_prefix": kafka.topic_prefix,
                "partitions": kafka.partitions,
            },
            "engine": {"state_directory": str(self.state(number)), **self._engine, **engine},
            "web": {"port": port},
            "site": {"own_domains": ["shop.example.com"]},
            "sources": {"excluded_referrers": ["paypal.com", "checkout.stripe.com", ".bank.example/3ds"]},
        }
        # A JSON string or number is a TOML one; and so are lists of them.
        text = "\n".join(
            "\n".join([f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
            for section, values in sections.items()
        )
        path = self.directory / f"worker-{number}.toml"
        path.write_text(text + "\n" + '[[goals]]\nname = "lead_form"\nkind = "lead"\n', encoding="utf-8")
        return path

    def state(self, number: int = 0) -> Path:
        return self.directory / f"state-{number}"

    def worker(self, number: int = 0, **engine: object) -> Child:
        """Starts worker `number`; its state stays from start to start."""
        # The same port at every start: a static member keeps its assignment, and with it the address told to others.
        port = self._ports.setdefault(number, free_ports(1)[0])
        config = self.config(number, port, **engine)
        log = self.directory / f"worker-{number}.log"
        return Child(f"worker {number} of {self.name}", stream_app("worker", "--config", str(config)), log)

    def url(self, number: int = 0) -> str:
        """Where the web of a worker listens."""
        return f"http://127.0.0.1:{self._ports[number]}"

    @asynccontextmanager
    async def ready_worker(self) -> AsyncIterator[tuple[Child, Any]]:
        """A worker that processes, and a session to read its metrics with."""
        with self.worker() as worker:
            async with scrape.client() as session:
                await scrape.await_ready(session, self.url(), READY_TIMEOUT_S, worker.check)
                yield worker, session

    async def preload(self, records: Iterable[Record], count: int) -> Offsets:
        """Sends `count` records as fast as it goes, and gives the end offsets of the inputs."""
        progress = pacing.Progress(lambda text: self.say(f"{self.name}: preloading, {text}"), every_s=10)
        async with Feed(self.kafka) as feed:
            await pacing.fast(islice(records, count), feed, asyncio.Event(), progress)
            await feed.flush()
            progress.end(feed.sent)
        return await self.ends()

    async def ends(self) -> Offsets:
        """End offsets of the inputs that the simulator writes."""
        from aiokafka import AIOKafkaConsumer
        from aiokafka.structs import TopicPartition

        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.servers)
        await consumer.start()
        try:
            names = [topics.topic_name(topic, self.kafka) for topic in TOPICS]
            wanted = [TopicPartition(name, p) for name in names for p in range(self.kafka.partitions)]
            return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(wanted)).items()}
        finally:
            await consumer.stop()

    def wipe_state(self, number: int = 0) -> None:
        """Deletes what a stopped worker keeps on disk."""
        shutil.rmtree(self.state(number), ignore_errors=True)


class Committed:
    """The committed offsets of a group's inputs, looked up again and again over one connection."""

    def __init__(self, servers: list[str], group: str, inputs: Iterable[str]) -> None:
        self._servers = servers
        self._group = group
        self._names = frozenset(inputs)
        self._client: Any = None

    @classmethod
    def of(cls, deployment: Deployment) -> Committed:
        """Those of a deployment."""
        kafka = deployment.kafka
        return cls(kafka.servers, kafka.app_id, (topics.topic_name(topic, kafka) for topic in TOPICS))

    async def __aenter__(self) -> Committed:
        from aiokafka.admin import AIOKafkaAdminClient

        self._client = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def offsets(self) -> Offsets:
        """By topic and partition; what was never committed is missing."""
        from aiokafka.errors import KafkaError

        try:
            found = await self._client.list_consumer_group_offsets(self._group)
        except KafkaError:
            return {}  # the coordinator is moving; the next look will tell
        return {
            (tp.topic, tp.partition): o.offset for tp, o in found.items() if tp.topic in self._names and o.offset >= 0
        }

    async def total(self) -> int:
        """Sum of all of them: input records whose commit is through (inputs begin at offset 0)."""
        return sum((await self.offsets()).values())

    async def reach(self, wanted: float, total: int, name: str, worker: Child, say: Say) -> int:
        """Waits until a worker has committed so many of all records; gives how many it has. Raises ChildFailed,
        BenchFailed."""
        last, since, told = -1, time.monotonic(), time.monotonic()
        while True:
            worker.check()
            now = await self.total()
            if now >= wanted:
                return now
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > _STUCK_S:
                raise BenchFailed(
                    f"{name}: {now:,} of {total:,} committed, and no more for {_STUCK_S:g} s; "
                    f"the worker's log ends:\n{worker.log_tail()}"
                )
            if time.monotonic() - told > 5:
                told = time.monotonic()
                say(f"{name}: {now:,} of {total:,} committed")
            await asyncio.sleep(POLL_S)


def percentiles(values: list[float], *shares: float) -> list[float]:
    """What a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares] if ordered else []
