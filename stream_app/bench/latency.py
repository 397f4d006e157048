"""How soon an event's result can be read: from its append to the input topic until a read_committed reader has it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stream_app import metrics, topics
from stream_app.bench.lab import BenchFailed, Deployment, Lab, percentiles
from stream_app.bench.pacer import SAMPLED_PARTITIONS, TEMPO
from stream_app.bench.throughput import commits
from stream_app.devtools import scrape
from stream_app.devtools.child import Child, module
from stream_app.domain.counters.dimensions import key_of
from stream_app.engine.partitioning import partition_of

WARM_UP_S = 40.0
"""Until the number of visits under way is steady."""
_SETTLE_S = 3.0


class _Conversion(msgspec.Struct, gc=False):
    event_id: str


class _Session(msgspec.Struct, gc=False):
    client_id: str = ""
    started_at: str = ""
    status: str = ""
    """Empty, as the rest, in a retraction."""


class _Counter(msgspec.Struct, gc=False):
    dimension: str
    window: str
    keys: dict[str, str]
    counts: dict[str, int]


class _Reader:
    """When each result was first seen, epoch ms."""

    def __init__(self, deployment: Deployment) -> None:
        kafka = deployment.kafka
        self._kafka = kafka
        self._conversions = topics.topic_name(topics.ATTRIBUTED_CONVERSIONS, kafka)
        self._sessions = topics.topic_name(topics.ATTRIBUTED_SESSIONS, kafka)
        self.seen: dict[str, int] = {}
        self._counters = topics.topic_name(topics.LEAD_COUNTERS, kafka)
        self.counted: list[tuple[int, int]] = []
        """(conversions that the total of their goal showed, when it was seen)."""
        self.records = 0

    async def read(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        from aiokafka import AIOKafkaConsumer
        from aiokafka.structs import TopicPartition

        conversion = msgspec.json.Decoder(_Conversion).decode
        session = msgspec.json.Decoder(_Session).decode
        counter = msgspec.json.Decoder(_Counter).decode
        of_all = partition_of(key_of("all", ()), self._kafka.partitions)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka.servers, isolation_level="read_committed", fetch_max_wait_ms=100
        )
        await consumer.start()
        try:
            consumer.assign(
                [TopicPartition(self._conversions, p) for p in range(self._kafka.partitions)]
                + [TopicPartition(self._sessions, p) for p in range(SAMPLED_PARTITIONS)]
                + [TopicPartition(self._counters, of_all)]
            )
            await consumer.seek_to_beginning()
            ready.set()
            while not stop.is_set():
                batches = await consumer.getmany(timeout_ms=100)
                now = time.time_ns() // 1_000_000
                for tp, records in batches.items():
                    self.records += len(records)
                    for record in records:
                        if tp.topic == self._counters:
                            if record.value is not None:
                                shown = counter(record.value)
                                if shown.window == "total" and shown.keys.get("goal") == "lead_form":
                                    self.counted.append((shown.counts.get("conversions", 0), now))
                            continue
                        if tp.topic == self._conversions:
                            key = conversion(record.value).event_id
                        else:
                            found = session(record.value)
                            if found.status != "open":
                                continue
                            key = f"{found.client_id} {_ms(found.started_at)}"
                        self.seen.setdefault(key, now)
        finally:
            await consumer.stop()


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


async def measure(lab: Lab, rate: float) -> dict[str, Any]:
    """Latencies at `rate` events per second, after the warm-up."""
    seconds = WARM_UP_S + lab.options.seconds
    deployment = await lab.deploy("latency", "append")
    stamps = lab.directory / "latency" / "stamps"
    reader, ready, stop = _Reader(deployment), asyncio.Event(), asyncio.Event()
    async with deployment.ready_worker() as (worker, session):
        reading = asyncio.create_task(reader.read(ready, stop))
        await ready.wait()
        lab.say(f"latency: {rate:,.0f} events/s for {seconds:.0f} s, the first {WARM_UP_S:.0f} s left out")
        began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
        arguments = [str(deployment.config()), f"{rate}", f"{seconds}", str(lab.options.seed), str(stamps)]
        with Child(
            "pacer", module("stream_app.bench.pacer", *arguments), lab.directory / "latency" / "pacer.log"
        ) as pacer:
            warm = await _warm(session, deployment, worker, began)
            cpu = worker.usage().cpu_s
            status = await asyncio.to_thread(pacer.wait, lab.options.seconds + 60)
            if status != 0:
                raise BenchFailed(f"the pacer failed:\n{pacer.log_tail()}")
            wall, usage = time.monotonic() - began - WARM_UP_S, worker.usage()
            end = await scrape.read(session, deployment.url()) or warm
            lab.say(f"latency: {pacer.log_tail(1)}")
        await asyncio.sleep(_SETTLE_S)  # the last results become visible; those that do not are counted as missing
        stop.set()
        await reading
    found = _match(stamps, reader.seen, began_ms + int(WARM_UP_S * 1000))
    return {
        "rate": round(rate),
        "taken_per_second": round((end.events() - warm.events()) / (end.at - warm.at)),
        "seconds": round(wall, 1),
        "tempo": TEMPO,
        "worker_cores": round((usage.cpu_s - cpu) / wall, 2),
        "rss_peak_mib": round(usage.peak_rss_bytes / 2**20),
        "conversions": _summary(found["c"]),
        "sessions_opened": _summary(found["s"]),
        "counters": _summary(_counted(stamps, reader.counted, began_ms + int(WARM_UP_S * 1000))),
        "as_the_worker_measures": {
            f"p{share}_ms": round((scrape.quantile(metrics.LATENCY, share / 100, end, warm) or 0) * 1000)
            for share in (50, 95, 99)
        },
        "commit": commits(end, warm),
    }


async def _warm(session: Any, deployment: Deployment, worker: Child, began: float) -> scrape.Reading:
    """The metrics at the end of the warm-up."""
    await asyncio.sleep(max(0.0, began + WARM_UP_S - time.monotonic()))
    worker.check()
    found = await scrape.read(session, deployment.url())
    if found is None:
        raise BenchFailed(f"{deployment.url()}/metrics does not answer")
    return found


def _match(stamps: Path, seen: dict[str, int], since_ms: int) -> dict[str, list[float | None]]:
    """By kind of line: milliseconds from append to sight; None: an appended conversion was not seen.

    A click is no more than a candidate for the beginning of a session: most clicks begin none.
    """
    found: dict[str, list[float | None]] = {"c": [], "s": []}
    taken: set[str] = set()
    with stamps.open(encoding="ascii") as lines:
        for line in lines:
            kind, _, rest = line.rstrip().partition(" ")
            key, _, at = rest.rpartition(" ")
            appended = int(at)
            if appended < since_ms or key in taken:
                continue
            if kind == "l":
                continue
            when = seen.get(key)
            if when is None and kind == "s":
                continue
            taken.add(key)
            found[kind].append(None if when is None else float(when - appended))
    return found


def _counted(stamps: Path, counted: list[tuple[int, int]], since_ms: int) -> list[float | None]:
    """Milliseconds from the append of each counted conversion until the total of its goal has so many of them: the
    first appended is taken for the first counted."""
    with stamps.open(encoding="ascii") as lines:
        appended = sorted(int(line.rpartition(" ")[2]) for line in lines if line.startswith("l "))
    found: list[float | None] = []
    at = 0
    for number, moment in enumerate(appended, start=1):
        while at < len(counted) and counted[at][0] < number:
            at += 1
        if moment >= since_ms:
            found.append(float(counted[at][1] - moment) if at < len(counted) else None)
    return found


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    shares = dict(zip(("p50_ms", "p95_ms", "p99_ms"), percentiles(known, 0.5, 0.95, 0.99), strict=False))
    return {"measured": len(known), "missing": len(values) - len(known), **shares, "max_ms": max(known, default=None)}
