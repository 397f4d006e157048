"""What one event costs, stage by stage, without a broker: for comparing two checkouts on a noisy machine.

    python -m stream_app.bench.stages [--against CHECKOUT] [--events N] [--rounds N] [--commit N]

One task does what a worker does with one partition: fetched bytes are parsed, decoded, folded, timers wake, states and
outputs are encoded, record batches are built and handed to a producer that goes nowhere, RocksDB is written. What is
missing is sockets and the group. Time is the thread's CPU time; the checkouts take turns, each round in a process of
its own, and the best round counts: neighbours on the machine only ever make a round slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

RATE = 31.25
"""Events per second of event time: an eighth of the throughput measurement's, as this is one of its eight tasks."""
COMMIT = 30_000
"""Records of a commit by default: as many as a worker that lags takes."""
CACHE = 18_750
"""Decoded states at hand: a task's share of the default."""
WARM_UP = 0.15
"""Of the events: caches fill, sessions begin to close, the first states settle."""
_BATCH_BYTES = 64 << 10
_CHUNK = 2_500
_SETTINGS = {
    "site": {"own_domains": ["shop.example.com"]},
    "sources": {"excluded_referrers": ["paypal.com", "checkout.stripe.com", ".bank.example/3ds"]},
    "goals": [{"name": "lead_form", "kind": "lead"}],
}
_OFFSET = struct.Struct(">q")


# --- traffic ---------------------------------------------------------------------------------------------------------
def write_traffic(path: Path, events: int, seed: int, commit: int = COMMIT) -> None:
    """What all rounds read: fetched bytes of both inputs, by commit, then by chunk."""
    from stream_app.simulator.traffic import Traffic, TrafficConfig

    traffic = Traffic(seed, TrafficConfig(start_ms=1_760_000_000_000, rate=RATE, known=0))
    commits: list[list[tuple[str, int, bytes]]] = []
    builders = {"clicks": _Batches(), "conversions": _Batches()}
    chunk = min(_CHUNK, commit)
    for number, record in enumerate(islice(traffic, events)):
        if not number % commit:
            commits.append([])
        builders[record.topic].add(record.ts, record.key, record.value)
        if not (number + 1) % chunk or number + 1 == events:
            commits[-1] += [(topic, *batches.take()) for topic, batches in builders.items() if batches.count]
    with path.open("wb") as file:
        pickle.dump(commits, file)


class _Batches:
    """Record batches of one input partition, as a broker would send them."""

    def __init__(self) -> None:
        self.count = 0
        self._offset = 0
        self._done = bytearray()
        self._open: Any = None

    def add(self, ts: int, key: bytes | None, value: bytes) -> None:
        while self._open is None or self._open.append(timestamp=ts, key=key, value=value, headers=[]) is None:
            self._close()
            self._open = _builder(_BATCH_BYTES)
        self.count += 1

    def take(self) -> tuple[int, bytes]:
        """(records, their bytes) since last asked."""
        self._close()
        found = self.count, bytes(self._done)
        self.count, self._done = 0, bytearray()
        return found

    def _close(self) -> None:
        if self._open is not None:
            data = bytearray(self._open._build())  # noqa: SLF001  # as the client does when it sends
            _OFFSET.pack_into(data, 0, self._offset)
            self._offset += self._open.record_count()
            self._done += data
        self._open = None


def _builder(size: int) -> Any:
    from aiokafka.producer.message_accumulator import BatchBuilder

    return BatchBuilder(size, 0, is_transactional=1)


# --- one round -------------------------------------------------------------------------------------------------------
class _Producer:
    """Builds what it is given as the client's sender would, and drops it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._offsets: dict[str, int] = {}

    def create_batch(self) -> Any:
        return _builder(1 << 20)

    async def begin_transaction(self) -> None: ...

    async def commit_transaction(self) -> None: ...

    async def send_offsets_to_transaction(self, offsets: object, group: str) -> None: ...

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:  # noqa: ARG002
        batch._set_producer_state(1, 1, 0)  # noqa: SLF001
        self.bytes += len(batch._build())  # noqa: SLF001
        first = self._offsets.get(topic, 0)
        self._offsets[topic] = first + batch.record_count()
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        delivery.set_result(SimpleNamespace(offset=first))
        return delivery


class _Sent:
    """A forwarded record that comes back through the repartition topic."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, offset: int, timestamp: int, key: Any, value: Any, headers: Any) -> None:
        self.offset, self.timestamp, self.key, self.value, self.headers = offset, timestamp, key, value, headers


class _Round:
    def __init__(self, directory: str) -> None:
        from stream_app.app.topology import build_topology
        from stream_app.engine.rows import Meta
        from stream_app.engine.state import KeyedStates, Overlay, Timers
        from stream_app.engine.work import Workbench
        from stream_app.hosts.kafka.log import KafkaWriter
        from stream_app.hosts.stores import RocksStores
        from stream_app.settings import parse

        self.topology = build_topology(parse(_SETTINGS, {}), partitions=1)
        self.store = RocksStores(Path(directory)).open(0)
        self.producer = _Producer()
        self.writer = KafkaWriter(self.producer, "group").for_partition(0)
        overlay, timers = Overlay(self.store), Timers(self.store)
        self.states = {p.name: KeyedStates(p, self.store, overlay, timers, CACHE) for p in self.topology.processors}
        meta = Meta(0, dict.fromkeys(self.topology.input_topics, 0), 0, {}, 1, "bench")
        self.bench = Workbench(self.topology, 0, self.states, overlay, timers, meta, 1 << 20)
        for source in self.topology.inputs:  # nobody waits for inputs that have nothing
            self.bench.time.at_end(source, True)
        self.offsets = dict(meta.offsets)
        self.back: list[_Sent] = []
        self.stages: dict[str, float] = {}
        self.figures: dict[str, float] = {}

    def _add(self, stage: str, seconds: float) -> None:
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def _note(self, figure: str, n: float) -> None:
        self.figures[figure] = self.figures.get(figure, 0) + n

    def clear(self) -> None:
        self.stages.clear()
        self.figures.clear()

    def _fetch(self, pieces: list[tuple[str, int, bytes]]) -> list[Any]:
        from aiokafka.record.memory_records import MemoryRecords
        from aiokafka.structs import TopicPartition

        from stream_app.engine.work import Chunk
        from stream_app.hosts.kafka.lean import LeanPartitionRecords

        chunks = []
        for source, _, data in pieces:
            topic = self.topology.topics[source]
            tp = TopicPartition(topic, 0)
            first = self.offsets[topic]
            parsed = LeanPartitionRecords(tp, MemoryRecords(data), [], first, None, None, True, 1)
            records: list[Any] = []
            for batch in parsed.batches():
                records += batch
            last = parsed.next_fetch_offset
            chunks.append(Chunk(topic, 0, 0, first, last, records, False))
            self.offsets[topic] = last
        if self.back:
            topic = self.topology.repartition
            first, last = self.back[0].offset, self.back[-1].offset + 1
            chunks.append(Chunk(topic, 0, 0, first, last, self.back, False))
            self.offsets[topic] = last
            self._note("forwards", len(self.back))
            self.back = []
        return chunks

    async def commit(self, pieces: list[tuple[str, int, bytes]]) -> None:
        from stream_app.engine.commit import commit
        from stream_app.hosts.clock import SystemClock

        cpu = time.thread_time
        began = cpu()
        chunks = self._fetch(pieces)
        fetched = cpu()
        self._add("fetch", fetched - began)
        made = await self.bench.work(chunks, dict(self.offsets), 0)
        worked = cpu()
        if made is None:
            return
        for name, seconds in made.seconds.items():
            self._add(name, seconds)
        self._add("group", worked - fetched - sum(made.seconds.values()))
        self.bench.take(made)
        before = cpu()
        store = _Timed(self.store)
        await commit(
            made, topology=self.topology, partition=0, writer=self.writer, store=store,
            clock=SystemClock(), probe=lambda _: None, deadline_s=60,
        )  # fmt: skip
        self.bench.landed()
        self._add("produce", cpu() - before - store.seconds)
        self._add("store", store.seconds)
        self._note("events", sum(n for _, n, _ in pieces))
        self._note("changelog_bytes", sum(len(k or b"") + len(v or b"") for k, v, _ in made.changelog))
        self._note("changelog_records", len(made.changelog))
        self._note("outputs", sum(len(records) for records in made.outputs.values()))
        topic = self.topology.repartition
        at = self.offsets[topic]
        self.back = [_Sent(at + i, self.bench.time.value, *sent) for i, sent in enumerate(made.forwards.get(0, ()))]


class _Timed:
    """A store that knows how long it was written to."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, rows: Any) -> None:
        began = time.thread_time()
        self._store.write(rows)
        self.seconds += time.thread_time() - began


async def _play(path: Path) -> dict[str, Any]:
    from stream_app.engine import work
    from stream_app.hosts.kafka import worker

    # Stages in CPU time, too: what others do on the machine meanwhile is not this program's cost.
    work.time = SimpleNamespace(perf_counter=time.thread_time)  # type: ignore[attr-defined, assignment]
    with path.open("rb") as file:
        commits = pickle.load(file)  # noqa: S301  # this program wrote it
    warm = round(len(commits) * WARM_UP)
    with tempfile.TemporaryDirectory(prefix="stream-app-stages-") as directory:
        played = _Round(directory)
        worker._calm_collector()  # noqa: SLF001  # as every worker does
        for pieces in commits[:warm]:
            await played.commit(pieces)
        played.clear()
        process, thread = time.process_time(), time.thread_time()
        for pieces in commits[warm:]:
            await played.commit(pieces)
        thread, process = time.thread_time() - thread, time.process_time() - process
        played.store.close()
    events = played.figures["events"]
    return {
        "us": {name: 1e6 * seconds / events for name, seconds in played.stages.items()},
        "thread_us": 1e6 * thread / events,
        "process_us": 1e6 * process / events,
        "per_event": {name: n / events for name, n in played.figures.items() if name != "events"},
    }


# --- rounds ----------------------------------------------------------------------------------------------------------
def compare(
    checkouts: dict[str, Path], events: int, rounds: int, seed: int, commit: int = COMMIT
) -> dict[str, dict[str, Any]]:
    """The best round of each checkout, by the thread's CPU time, stage by stage."""
    with tempfile.TemporaryDirectory(prefix="stream-app-stages-") as directory:
        traffic = Path(directory) / "traffic"
        write_traffic(traffic, events, seed, commit)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
        for _ in range(rounds):
            for name, checkout in checkouts.items():
                found[name].append(_one(checkout, traffic))
                print(f"{name}: {found[name][-1]['thread_us']:.2f} µs", file=sys.stderr, flush=True)
    best = {}
    for name, results in found.items():
        best[name] = min(results, key=lambda result: float(result["thread_us"]))
        best[name]["us"] = {
            stage: min(result["us"].get(stage, 0.0) for result in results) for stage in best[name]["us"]
        }
    return best


def _one(checkout: Path, traffic: Path) -> dict[str, Any]:
    # -P: the checkout's package, not this file's neighbours
    done = subprocess.run(
        [sys.executable, "-P", __file__, "--play", str(traffic)],
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _table(best: dict[str, dict[str, Any]]) -> str:
    names = list(best)
    stages = list(dict.fromkeys(stage for result in best.values() for stage in result["us"]))
    lines = ["µs per event".ljust(22) + "".join(name.rjust(12) for name in names)]
    rows = [(stage, [best[name]["us"].get(stage, 0.0) for name in names]) for stage in stages]
    rows += [(total, [best[name][total] for name in names]) for total in ("thread_us", "process_us")]
    rows += [
        (f"{what} per event", [best[name]["per_event"].get(what, 0.0) for name in names])
        for what in best[names[0]]["per_event"]
    ]
    lines += [row.ljust(22) + "".join(f"{value:12.3f}" for value in values) for row, values in rows]
    return "\n".join(lines)


def main() -> None:
    """As the command line gives it."""
    parser = argparse.ArgumentParser(description="CPU time of one event, stage by stage, without a broker.")
    parser.add_argument("--against", type=Path, help="another checkout of this project, measured in turn with this one")
    parser.add_argument("--events", type=int, default=250_000, help="default 250,000: a task's share of two million")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; the best one counts")
    parser.add_argument(
        "--commit",
        type=int,
        default=COMMIT,
        help="records of a commit; default 30,000, any up to 2,500 or a multiple of it",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the traffic")
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        import uvloop

        print(json.dumps(uvloop.run(_play(options.play))))
        return
    checkouts = {"this": Path(__file__).parents[2]}
    if options.against:
        checkouts["other"] = options.against.resolve()
    print(_table(compare(checkouts, options.events, options.rounds, options.seed, options.commit)))


if __name__ == "__main__":
    main()
