"""How many events a second one worker takes, exactly once, from a log that is there already."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from stream_app import metrics
from stream_app.bench import profiling
from stream_app.bench.lab import POLL_S, BenchFailed, Committed, Deployment, Lab
from stream_app.devtools import scrape
from stream_app.devtools.child import Child
from stream_app.devtools.scrape import Reading
from stream_app.simulator.traffic import Traffic, TrafficConfig

EVENT_RATE = 250.0
"""Events per second of event time. At it, two events of one visit lie some thousand records apart in the log, so that
a commit finds few clients twice, as it is with live traffic of many visitors; and two million events last more than
two hours: sessions close, grace passes and states settle from the second half hour on."""
WARM_UP = 0.15


async def measure(lab: Lab) -> dict[str, Any]:
    """The figures of this part."""
    options = lab.options
    deployment = await lab.deploy("throughput", "create")
    start_ms = time.time_ns() // 1_000_000 - int((options.events / EVENT_RATE + 7200) * 1000)
    traffic = Traffic(options.seed, TrafficConfig(start_ms=start_ms, rate=EVENT_RATE, known=0))
    shape = _Shape()
    ends = await deployment.preload(shape.watch(traffic), options.events)
    shape.people, shape.visits = traffic.people, traffic.visits
    total = sum(ends.values())
    lab.say(f"throughput: {total:,} events by {len(shape.clients):,} clients; starting the worker")
    with deployment.worker() as worker:
        run = await _Run(deployment, worker, total, profile=options.profile).follow()
    return {
        "events": total,
        "load": shape.report(total),
        **run,
    }


class _Shape:
    """What the load is like."""

    def __init__(self) -> None:
        self.clients: set[bytes] = set()
        self.bytes = 0
        self.conversions = 0
        self.people = self.visits = 0

    def watch(self, traffic: Traffic) -> Any:
        for record in traffic:
            if record.key is not None:
                self.clients.add(record.key)
            self.bytes += len(record.value)
            if record.topic == "conversions":
                self.conversions += 1
            yield record

    def report(self, total: int) -> dict[str, Any]:
        return {
            "clients": len(self.clients),
            "visits": self.visits,
            "events_per_visit": round(total / self.visits, 2),
            "conversions_share": round(self.conversions / total, 4),
            "bytes_per_event": round(self.bytes / total),
            "event_time_rate": EVENT_RATE,
            "event_time_span_s": round(total / EVENT_RATE),
        }


class _Run:
    """Follows one worker from its start to the end of the log."""

    def __init__(self, deployment: Deployment, worker: Child, total: int, *, profile: bool) -> None:
        self._deployment = deployment
        self._worker = worker
        self._total = total
        self._profile = profile

    async def follow(self) -> dict[str, Any]:
        began = time.monotonic()
        async with Committed.of(self._deployment) as committed, scrape.client() as session:
            warm_done = await self._until(committed, self._total * WARM_UP)
            warm = await self._look(session)
            warm_at, warm_cpu = time.monotonic(), self._worker.usage().cpu_s
            profile = asyncio.create_task(profiling.top(self._worker.pid)) if self._profile else None
            done = await self._until(committed, self._total)
            end_at, usage = time.monotonic(), self._worker.usage()
            end = await self._look(session)
        events, wall, cpu = done - warm_done, end_at - warm_at, usage.cpu_s - warm_cpu
        outputs = {topic: round(n) for topic, n in end.by(metrics.OUTPUT_RECORDS, "topic").items()}
        changelog = end.total(metrics.CHANGELOG_BYTES) - warm.total(metrics.CHANGELOG_BYTES)
        return {
            "measured_events": events,
            "seconds_to_warm": round(warm_at - began, 2),
            "seconds": round(wall, 2),
            "events_per_second": round(events / max(wall, 1e-3)),
            "events_per_cpu_second": round(events / max(cpu, 1e-3)),
            "worker_cores": round(cpu / max(wall, 1e-3), 2),
            "outputs": outputs,
            "outputs_per_event": round(sum(outputs.values()) / done, 3),
            "changelog_bytes_per_event": round(changelog / max(events, 1), 1),
            "commit": commits(end, warm),
            "cache_hit_ratio": _ratio(end, warm),
            "dead_letters": round(end.total(metrics.DEAD_LETTER_RECORDS)),
            "rss_peak_mib": round(usage.peak_rss_bytes / 2**20),
            "seconds_by_part": {
                name: round(seconds - warm.by(metrics.PROCESSING_SECONDS, "processor").get(name, 0), 2)
                for name, seconds in end.by(metrics.PROCESSING_SECONDS, "processor").items()
            },
            **({"profile": await profile} if profile else {}),
        }

    async def _until(self, committed: Committed, wanted: float) -> int:
        deployment = self._deployment
        return await committed.reach(wanted, self._total, deployment.name, self._worker, deployment.say)

    async def _look(self, session: Any) -> Reading:
        for _ in range(50):
            if (found := await scrape.read(session, self._deployment.url())) is not None:
                return found
            await asyncio.sleep(POLL_S)
        raise BenchFailed(f"{self._deployment.url()}/metrics does not answer")


async def drain(deployment: Deployment, worker: Child, total: int) -> None:
    """Waits until a worker has committed all of a preloaded log."""
    async with Committed.of(deployment) as committed:
        await committed.reach(total, total, deployment.name, worker, deployment.say)


def commits(end: Reading, begin: Reading) -> dict[str, Any]:
    """Durations and sizes of the commits between two readings."""
    seconds = {
        f"p{share:g}_ms": _ms(scrape.quantile(metrics.COMMIT_SECONDS, share / 100, end, begin))
        for share in (50, 95, 99)
    }
    records = scrape.mean(metrics.COMMIT_RECORDS, end, begin)
    return {**seconds, "mean_records": round(records) if records else None}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _ratio(end: Reading, begin: Reading) -> float | None:
    hits, misses = (end.total(m) - begin.total(m) for m in (metrics.CACHE_HITS, metrics.CACHE_MISSES))
    return round(hits / (hits + misses), 3) if hits + misses else None
