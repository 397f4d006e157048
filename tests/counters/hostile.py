"""A million campaign names from outside: state, topic and metrics stay bounded, sums stay right.

`python -m tests.counters.hostile [NAMES]` prints the figures; a smaller run is in the tests. Names come at 5,000 a
second of event time, each in a session of its own; the topology and its store (RocksDB) are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from stream_app.app.topology import build_topology
from stream_app.engine.partitioning import partition_of
from stream_app.engine.task import TaskSettings
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import RocksStores
from stream_app.metrics import WorkerStats
from stream_app.settings import Settings, load

RATE = 5_000
START_MS = 1_780_000_020_000
PARTITIONS = 2
_CHUNK = 20_000


def run(names: int, values: int, directory: Path) -> dict[str, Any]:
    """Feeds so many names with so many places; what came of it."""
    path = directory / "settings.toml"
    path.write_text(
        f"[kafka]\npartitions = {PARTITIONS}\n[counters]\nvalues = {values}\n"
        '[site]\nown_domains = ["shop.example.com"]\n'
    )
    return asyncio.run(_run(load(path, environ={}), names, directory))


async def _run(settings: Settings, names: int, directory: Path) -> dict[str, Any]:
    topology = build_topology(settings, partitions=PARTITIONS)
    clock = ManualClock(START_MS)
    log = LocalLog(PARTITIONS, clock)
    stats = WorkerStats()
    stores = RocksStores(directory / "state")
    host = LocalHost(
        topology, log, stores, clock, stats, task_settings=TaskSettings(commit_interval_ms=1, cache_entries=20_000)
    )
    await host.start()
    began = time.process_time()
    counters: dict[bytes, bytes] = {}
    clicks = log.topic(topology.topics["clicks"])
    for first in range(0, names, _CHUNK):
        for number in range(first, min(first + _CHUNK, names)):
            client, ts = f"c{number}".encode(), START_MS + number * 1_000 // RATE
            value = (
                b'{"event_id":"e","client_id":"%b","occurred_at":%d,"url":"https://shop.example.com/'
                b'?utm_source=x&utm_medium=cpc&utm_campaign=hostile-%d"}' % (client, ts, number)
            )
            clicks[partition_of(client, PARTITIONS)].append(ts, client, value)
        log.changed.set()
        await host.settled()
        _drain(host, log, topology.topics["lead-counters"], counters)
    seconds = time.process_time() - began
    await host.stop()
    return _report(counters, stats, seconds, stores_bytes=_size(directory / "state"))


def _drain(host: LocalHost, log: LocalLog, topic: str, counters: dict[bytes, bytes]) -> None:
    for partition in log.topic(topic):
        records, end = partition.read(partition.begin)
        for record in records:
            if record.value is None:
                counters.pop(record.key or b"", None)
            else:
                counters[record.key or b""] = record.value
        partition.delete_before(end)
    outputs = [host.topology.topics[name] for name in ("attributed-sessions", "attributed-conversions")]
    for name in (*host.topology.input_topics, host.topology.changelog, *outputs):
        for partition in log.topic(name):
            partition.delete_before(partition.end)


def _report(counters: dict[bytes, bytes], stats: WorkerStats, seconds: float, stores_bytes: int) -> dict[str, Any]:
    keys: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    for value in counters.values():
        record = msgspec.json.decode(value)
        name = f"{record['dimension']} {record['window']}"
        windows = f"{name} {record['window_start']}"
        keys[windows] += 1
        sessions[name] += record["counts"]["sessions"]
    largest: dict[str, int] = {}
    for windows, n in keys.items():
        name = " ".join(windows.split()[:2])
        largest[name] = max(largest.get(name, 0), n)
    return {
        "sessions": {name: sessions[name] for name in sorted(sessions)},
        "keys_in_the_largest_window": {name: largest[name] for name in sorted(largest)},
        "records_in_the_compacted_topic": len(counters),
        "bytes_in_the_compacted_topic": sum(len(key) + len(value) for key, value in counters.items()),
        "store_bytes": stores_bytes,
        "overflow": {label: n for (name, label), n in stats.business_counts.items() if name == "counter_overflow"},
        "metric_series": len(stats.business_counts),
        "cpu_seconds": round(seconds, 1),
    }


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hostile-") as made:
        chosen = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
        print(json.dumps(run(chosen, 10_000, Path(made)), indent=2))
