"""Reads a worker's metrics as a Prometheus server would, for the demo and the benchmark."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stream_app.metrics import PREFIX, RECORDS_IN, Metric
from stream_app.topics import INPUTS

_Labels = tuple[tuple[str, str], ...]


class Reading(msgspec.Struct, frozen=True):
    """All samples of one moment."""

    at: float
    """Monotonic seconds."""
    samples: dict[str, dict[_Labels, float]]
    """By sample name (without prefix), then by labels."""

    def total(self, metric: Metric, **labels: str) -> float:
        """Sum over all samples with these labels."""
        wanted = set(labels.items())
        return sum(value for key, value in self.samples.get(metric.name, {}).items() if wanted <= set(key))

    def by(self, metric: Metric, label: str) -> dict[str, float]:
        """Sums by the value of one label."""
        sums: dict[str, float] = defaultdict(float)
        for key, value in self.samples.get(metric.name, {}).items():
            sums[dict(key).get(label, "")] += value
        return dict(sums)

    def events(self) -> float:
        """Events that were taken: records of the inputs, without what keys tell each other."""
        return sum(n for topic, n in self.by(RECORDS_IN, "topic").items() if topic in INPUTS)

    def buckets(self, metric: Metric) -> list[tuple[float, float]]:
        """(upper limit, cumulated count) of a histogram, smallest limit first."""
        found = self.samples.get(f"{metric.name}_bucket", {})
        return sorted((float(dict(key)["le"]), value) for key, value in found.items())


EMPTY = Reading(0.0, {})


def parse(text: str) -> Reading:
    """A reading from Prometheus' text format."""
    samples: dict[str, dict[_Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name.removeprefix(PREFIX)][tuple(sorted(sample.labels.items()))] = sample.value
    return Reading(time.monotonic(), dict(samples))


def quantile(metric: Metric, q: float, now: Reading, before: Reading = EMPTY) -> float | None:
    """What a share q of the observations between two readings did not exceed, interpolated within its bucket.

    None without observations. In the last, open bucket it is that bucket's lower limit.
    """
    earlier = dict(before.buckets(metric))
    counts = [(bound, count - earlier.get(bound, 0.0)) for bound, count in now.buckets(metric)]
    total = counts[-1][1] if counts else 0.0
    if total <= 0:
        return None
    wanted = q * total
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *counts]):
        if upto >= wanted and upto > below:
            return low if high == float("inf") else low + (high - low) * (wanted - below) / (upto - below)
    return counts[-1][0]


def mean(metric: Metric, now: Reading, before: Reading = EMPTY) -> float | None:
    """Mean of the observations between two readings; None without any."""
    count, total = (
        now.samples.get(f"{metric.name}_{part}", {}).get((), 0.0)
        - before.samples.get(f"{metric.name}_{part}", {}).get((), 0.0)
        for part in ("count", "sum")
    )
    return total / count if count else None


async def read(session: aiohttp.ClientSession, url: str) -> Reading | None:
    """What the worker at `url` measures now; None when it does not answer."""
    try:
        async with session.get(f"{url}/metrics") as answer:
            return parse(await answer.text()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


async def readiness(session: aiohttp.ClientSession, url: str) -> tuple[bool, str]:
    """(ready, why not) as the worker says; not answering is not ready."""
    try:
        async with session.get(f"{url}/health/ready") as answer:
            body: dict[str, Any] = json.loads(await answer.text())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False, "starting"
    return bool(body.get("ready")), str(body.get("detail") or body.get("reason") or "")


def client() -> aiohttp.ClientSession:
    """A session with the patience that suits a worker on the same machine."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))


async def await_ready(session: aiohttp.ClientSession, url: str, timeout_s: float, check: Any) -> None:
    """Waits until the worker is ready; calls `check` meanwhile, which raises if there is no point in waiting on.

    Raises TimeoutError with what the worker said last.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        check()
        ready, why = await readiness(session, url)
        if ready:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the worker at {url} is not ready after {timeout_s:g} s: {why}")
        await asyncio.sleep(0.1)
