"""Millions of clients: how much memory they take, and how quickly their state is back from the changelog."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from stream_app import metrics
from stream_app.bench.lab import READY_TIMEOUT_S, BenchFailed, Deployment, Lab
from stream_app.bench.throughput import drain
from stream_app.devtools import scrape
from stream_app.devtools.child import Child
from stream_app.simulator.faults import Faults
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig
from stream_app.simulator.visit import Behaviour

EVENT_RATE = 500.0
_ONE_PAGE = Behaviour(pages=1, purchase=0, lead=0, signup=0, bots=0, spam=0)
_SAMPLE_S = 0.5


async def memory(lab: Lab) -> dict[str, Any]:
    """One event for each of so many clients; the worker's memory meanwhile."""
    clients = lab.options.clients
    deployment, result = await _fill(lab, "memory", clients)
    lab.crowd = deployment
    return result


async def recovery(lab: Lab) -> dict[str, Any]:
    """The state directory is deleted; a worker rebuilds it from the changelog of so many keys."""
    keys, deployment = lab.options.clients, lab.crowd
    if deployment is None:
        keys = lab.options.keys
        deployment, _ = await _fill(lab, "recovery", keys)
    deployment.wipe_state()
    lab.say(f"recovery: state wiped, {keys:,} keys to restore")
    began = time.monotonic()
    with deployment.worker() as worker:
        async with scrape.client() as session:
            await scrape.await_ready(session, deployment.url(), READY_TIMEOUT_S, worker.check)
            seconds = time.monotonic() - began
            found = await scrape.read(session, deployment.url())
        if found is None:
            raise BenchFailed(f"{deployment.url()}/metrics does not answer")
        usage = worker.usage()
    records, spent = found.total(metrics.RECOVERY_RECORDS), found.total(metrics.RECOVERY_SECONDS)
    return {
        "keys": keys,
        "records": round(records),
        "seconds": round(spent, 2),
        "records_per_second": round(records / spent) if spent else None,
        "start_to_ready_s": round(seconds, 2),
        "cpu_s": round(usage.cpu_s, 2),
        "rss_peak_mib": round(usage.peak_rss_bytes / 2**20),
    }


async def _fill(lab: Lab, name: str, clients: int) -> tuple[Deployment, dict[str, Any]]:
    """A stopped deployment whose state holds that many clients, and what filling it took."""
    deployment = await lab.deploy(name, "create")
    start_ms = time.time_ns() // 1_000_000 - int((clients / EVENT_RATE + 7200) * 1000)
    config = TrafficConfig(
        start_ms=start_ms, rate=EVENT_RATE, newcomers=1.0, known=0, behaviour=_ONE_PAGE, faults=Faults.parse("none")
    )
    total = sum((await deployment.preload(_clicks(Traffic(lab.options.seed, config)), clients)).values())
    lab.say(f"{name}: {clients:,} clients; starting the worker")
    samples: list[int] = []
    began = time.monotonic()
    with deployment.worker() as worker:
        sampling = asyncio.create_task(_sample(worker, samples))
        try:
            await drain(deployment, worker, total)
        finally:
            sampling.cancel()
        seconds, usage = time.monotonic() - began, worker.usage()
    step = max(1, len(samples) // 20)
    return deployment, {
        "clients": clients,
        "seconds": round(seconds, 1),
        "cpu_s": round(usage.cpu_s, 1),
        "rss_peak_mib": round(usage.peak_rss_bytes / 2**20),
        "rss_end_mib": round(usage.rss_bytes / 2**20),
        "rss_over_time_mib": [round(rss / 2**20) for rss in samples[::step]],
    }


def _clicks(traffic: Traffic) -> Any:
    """Only the page view of a client each."""
    record: Record
    for record in traffic:
        if b'"kind":"link_click"' not in record.value:
            yield record


async def _sample(worker: Child, samples: list[int]) -> None:
    while worker.alive:
        samples.append(worker.usage().rss_bytes)
        await asyncio.sleep(_SAMPLE_S)
