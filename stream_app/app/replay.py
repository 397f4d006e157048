"""The whole pipeline over files, with no broker: the same tasks as the worker, on the in-memory log."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import heapq
import json
import random
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from stream_app.app.topology import build_topology
from stream_app.domain.times import DAY_MS, to_ms
from stream_app.engine.task import TaskSettings
from stream_app.hosts.collector import calmed
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import MemoryStores, RocksStores
from stream_app.metrics import WorkerStats
from stream_app.settings import Settings
from stream_app.topics import COSTS, DEAD_LETTERS, INPUTS, KEYS, LIVE, OUTPUTS

_CHUNK = 20_000
LEAST_SPAN_MS = 20_000
"""A chunk may always take stream time so far."""
_COSTS = INPUTS.index(COSTS)
_MS_MAX = 253_402_300_799_999


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `stream-app replay` was asked for. Files are `.jsonl` or `.jsonl.gz`, a record's value a line."""

    out: Path
    clicks: Path | None = None
    conversions: Path | None = None
    lead_updates: Path | None = None
    costs: Path | None = None
    referral_events: Path | None = None
    all_revisions: bool = False
    shuffle: int | None = None
    """Seed of an arrival order disturbed within grace."""
    until_ms: int | None = None
    """Stream time goes on to this moment at the end."""
    state_directory: Path | None = None
    """Keeps states on disk instead of in memory, for histories that don't fit."""


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay did."""

    records: int
    outputs: dict[str, int]
    """Records written per output topic."""
    dead_letters: int
    seconds: float


class Line(msgspec.Struct, order=True, gc=False):
    """One input record with the place it has in the merged order (semantics 21)."""

    arrives: int
    ts: int
    topic: int
    number: int
    value: bytes
    occurred: int = 0


def run_replay(
    settings: Settings, request: ReplayRequest, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> ReplayReport:
    """Replays files; writes one `.jsonl` per output topic to `request.out`, last revisions only, sorted by id.

    Raises OSError for files that cannot be read or written. `progress` hears how many records are done, of how many.
    """
    with calmed():
        return asyncio.run(_replay(settings, request, progress))


async def _replay(settings: Settings, request: ReplayRequest, progress: Callable[[int, int], None]) -> ReplayReport:
    began = time.monotonic()
    request.out.mkdir(parents=True, exist_ok=True)  # what cannot be written shows before all the work
    topology = build_topology(settings, partitions=1)
    clock = ManualClock()
    log = LocalLog(1, clock)
    stores = RocksStores(request.state_directory) if request.state_directory else MemoryStores()
    stats = WorkerStats()
    host = LocalHost(
        topology,
        log,
        stores,
        clock,
        stats,
        task_settings=TaskSettings(commit_interval_ms=0, cache_entries=200_000),
        max_failures=1,
    )
    inputs = {name: topology.topics[name] for name in INPUTS if name in LIVE}
    sink = Sink(request.all_revisions)
    await host.start()
    done, last = 0, 0
    grace = settings.sessions.grace_minutes * 60_000
    lines = _lines_by_file(settings, request, list(inputs))
    total = sum(len(file) for file in lines)
    chunks = _Chunks(heapq.merge(*lines), grace, grace)
    names = list(INPUTS)
    while chunk := chunks.take():
        for line in chunk:
            name = names[line.topic]
            log.topic(inputs[name])[0].append(line.ts, _key(name, line.value), line.value)
            last = max(last, line.ts)
        log.changed.set()
        await host.settled()
        _drain(host, sink, topology.topics)
        done += len(chunk)
        progress(done, total)
    end = max(last + grace + settings.sessions.timeout_minutes * 60_000, request.until_ms or 0)
    while clock.now_ms < end - last:  # in one go; timers may bring more timers
        clock.advance(end - last - clock.now_ms)
        host.tick()
        await host.settled()
        _drain(host, sink, topology.topics)
    await host.stop()
    outputs = sink.write(request.out)
    return ReplayReport(done, outputs, outputs.get(DEAD_LETTERS, 0), time.monotonic() - began)


# -- inputs -----------------------------------------------------------------------------------------------


def _lines_by_file(settings: Settings, request: ReplayRequest, live: list[str]) -> list[list[Line]]:
    """All lines of each file, in the order in which they arrive."""
    files = {
        "clicks": request.clicks,
        "conversions": request.conversions,
        "lead-updates": request.lead_updates,
        "costs": request.costs,
        "referral-events": request.referral_events,
    }
    grace = settings.sessions.grace_minutes * 60_000
    disturb = random.Random(request.shuffle) if request.shuffle is not None else None
    return [
        sorted(_lines(path, number, disturb, grace))
        for number, name in enumerate(INPUTS)
        if (path := files[name]) is not None and name in live
    ]


def _lines(path: Path, topic: int, disturb: random.Random | None, grace: int) -> Iterator[Line]:
    with ExitStack() as stack:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115  # the stack closes it
        file = cast("IO[bytes]", stack.enter_context(opened))
        previous = 0
        for number, raw in enumerate(file):
            value = raw.rstrip(b"\r\n")
            if not number:
                value = value.removeprefix(BOM_UTF8)
            if not value.strip():
                continue
            occurred, received = _times(value)
            ts = received if received is not None else occurred if occurred is not None else previous
            if topic == _COSTS and received is None and occurred is None:
                ts = max(previous, _day(value))  # never before the lines above: of one cost_id the later line counts
            previous = ts
            arrives = ts
            if disturb is not None and occurred is not None and topic != _COSTS:
                # Within grace: nothing later than occurred + grace has arrived before it.
                arrives = max(ts, disturb.randint(min(ts, occurred + grace), max(ts, occurred + grace)))
            yield Line(arrives, ts, topic, number, value, occurred or 0)


def _times(value: bytes) -> tuple[int | None, int | None]:
    """(occurred_at, received_at) in ms, each None if absent or unusable: the record itself is judged by the decoder."""
    try:
        record = _json(value)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(record, dict):
        return None, None
    return _ms(record.get("occurred_at")), _ms(record.get("received_at"))


def _json(value: bytes) -> Any:
    """What msgspec reads three times as fast, and whatever else Python takes for JSON."""
    try:
        return _decode_json(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(value)


def _ms(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= _MS_MAX else None
    if isinstance(value, str):
        try:
            moment = msgspec.convert(value, dt.datetime)
        except msgspec.ValidationError:
            return None
        return to_ms(moment) if moment.tzinfo else None
    return None


def _day(value: bytes) -> int:
    """The first moment (UTC) of a cost's day; 0 if it has none that can be read."""
    try:
        day = _decode_day(value).day
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return max(0, (day.toordinal() - _EPOCH_DAY) * DAY_MS)


def _key(topic: str, value: bytes) -> bytes | None:
    """The record's key is the id named in the contract."""
    try:
        key = _json(value).get(KEYS[topic])
    except (ValueError, AttributeError, RecursionError):
        return None
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else None


class _Chunks:
    """Lines by the chunk. What keys tell each other (persons, orders, referral programmes) must be
    through before the events it is about have settled. So a chunk takes stream time no further than half of what the
    most delayed event in it has left of its grace; `span_ms` at most, a few seconds at least."""

    def __init__(self, lines: Iterator[Line], span_ms: int, grace_ms: int) -> None:
        self._lines = lines
        self._span_ms = span_ms
        self._grace_ms = grace_ms
        self._newest = 0
        self._next: Line | None = next(lines, None)

    def take(self) -> list[Line]:
        """The next chunk; empty at the end."""
        taken: list[Line] = []
        if self._next is None:
            return taken
        newest = self._newest = max(self._newest, self._next.ts)
        limit = newest + self._span_ms
        while (line := self._next) is not None and len(taken) < _CHUNK and line.ts <= limit:
            taken.append(line)
            newest = self._newest = max(newest, line.ts)
            left = line.occurred + self._grace_ms - newest
            if left >= 0:
                limit = min(limit, newest + max(LEAST_SPAN_MS, left // 2))
            self._next = next(self._lines, None)
        return taken


# -- outputs ----------------------------------------------------------------------------------------------


class Sink:
    """Output records, the last of each id (or all), and dead letters."""

    def __init__(self, all_revisions: bool) -> None:
        self._all = all_revisions
        self._records: dict[str, dict[str, list[bytes]]] = {topic: {} for topic in OUTPUTS if topic in LIVE}
        self._dead: list[bytes] = []

    def put(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """An output record; a tombstone ends what has its key for an id. Among all revisions it is a line that takes
        the record back, as in topics that know no tombstones: files have no keys."""
        by_id = self._records.setdefault(topic, {})
        if value is None:
            ended = (key or b"").decode("utf-8", "surrogatepass")
            if not self._all:
                by_id.pop(ended, None)
            elif (lines := by_id.get(ended)) and not (last := _decode_end(lines[-1])).retracted:
                lines.append(msgspec.json.encode(_End(ended, last.revision + 1, True, False, last.rules_version)))
            return
        name = _decode_id(value).id
        if self._all:
            by_id.setdefault(name, []).append(value)
        else:
            by_id[name] = [value]

    def dead(self, headers: Mapping[str, bytes], value: bytes) -> None:
        """A dead letter."""
        self._dead.append(
            json.dumps(
                {
                    "reason": headers["dlq.reason"].decode(),
                    "detail": headers["dlq.detail"].decode(),
                    "topic": headers["dlq.topic"].decode(),
                    "value": value.decode("utf-8", "backslashreplace"),
                },
                ensure_ascii=False,
            ).encode("utf-8", "backslashreplace")
        )

    def write(self, directory: Path) -> dict[str, int]:
        """Writes the files; how many records each has."""
        written = {}
        for topic, by_id in self._records.items():
            lines = [value for name in sorted(by_id) for value in by_id[name]]
            (directory / f"{topic}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
            written[topic] = len(lines)
        (directory / f"{DEAD_LETTERS}.jsonl").write_bytes(b"".join(line + b"\n" for line in self._dead))
        written[DEAD_LETTERS] = len(self._dead)
        return written


class _Id(msgspec.Struct):
    id: str


class _End(msgspec.Struct):
    """What every output record has; all that is left of one that a tombstone has ended."""

    id: str
    revision: int
    retracted: bool
    truncated: bool
    rules_version: str


_decode_json = msgspec.json.Decoder().decode
_decode_id = msgspec.json.Decoder(_Id).decode
_decode_end = msgspec.json.Decoder(_End).decode


class _Day(msgspec.Struct):
    day: dt.date


_decode_day = msgspec.json.Decoder(_Day).decode
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


def _drain(host: LocalHost, sink: Sink, topics: Mapping[str, str]) -> None:
    """Moves outputs into the sink and lets go of what was read."""
    for logical in (*(topic for topic in OUTPUTS if topic in LIVE), DEAD_LETTERS):
        partition = host.log.topic(topics[logical])[0]
        records, end = partition.read(partition.begin)
        for record in records:
            if logical == DEAD_LETTERS:
                sink.dead(dict(record.headers), record.value or b"")
            else:
                sink.put(logical, record.key, record.value)
        partition.delete_before(end)
    for topic in host.topology.input_topics:
        partition = host.log.topic(topic)[0]
        partition.delete_before(partition.end)
    changelog = host.log.topic(host.topology.changelog)[0]
    changelog.delete_before(changelog.end)
