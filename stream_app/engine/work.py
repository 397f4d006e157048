"""From gathered records to one commit: decode, group by key, fold, wake timers, encode.

Nothing here awaits the world. Whatever fails leaves the task broken: its states are thrown away.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .partitioning import partition_of
from .ports import Headers, Outgoing, Record
from .processor import DeadLetterReason, Decoder, Place, Rejected, Rows
from .rows import META, Meta, encode_meta, split_timer
from .state import KeyedStates, Overlay, Timers
from .streamtime import StreamTime
from .topology import Topology

_NONE: tuple[()] = ()
_RECORDS_AT_ONCE = 2_000
_KEYS_AT_ONCE = 256
"""Records decoded, keys folded or woken between two chances for the event loop: some milliseconds."""
_TURNS = 12
"""Turns of the loop at each chance, a microsecond each: what it takes from an answer of the broker to the next request,
for several commits at once. A commit on its way needs a hundred, and has a deadline."""
TIMERS_PER_COMMIT = 20_000

# Headers of forwarded, re-keyed and replayed records
KIND = "kind"
ORIGIN_TOPIC = "origin.topic"
ORIGIN_PARTITION = "origin.partition"
ORIGIN_OFFSET = "origin.offset"
ORIGIN_TIMESTAMP = "origin.timestamp"
ORIGIN_UNKEYED = "origin.unkeyed"
REPLAY_TIMESTAMP = "replay.timestamp"
MISPLACED = "misplaced:"
_MOST_DIGITS = 15
"""Of a time in ms: no state could hold a longer one, and Python refuses to read thousands."""
_OURS = 6
"""So many headers of ours stand before a forwarded record's own, which may bear any names, these too."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records covering the offsets [first, last) of one input of a task. Chunks chain, so a lost one is seen."""

    topic: str
    partition: int
    epoch: int
    first: int
    last: int
    records: Sequence[Record]
    at_end: bool


class Origin(NamedTuple):
    """Where a record under work came from."""

    source: str
    topic: str
    record: Record


@dataclass(slots=True)
class Commit:
    """What one transaction carries, and what is written to the store once it is through."""

    seq: int
    meta: Meta
    offsets: dict[str, int]
    outputs: dict[str, list[Outgoing]] = field(default_factory=dict)
    forwards: dict[int, list[Outgoing]] = field(default_factory=dict)
    dead_letters: list[Outgoing] = field(default_factory=list)
    changelog: list[Outgoing] = field(default_factory=list)
    timers: dict[bytes, bytes | None] = field(default_factory=dict)
    records: int = 0
    more: bool = False
    """Timers were left over: commit again at once."""
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    """(newest timestamp, records) of each chunk, for the latency seen by operators."""
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    tally: dict[tuple[str, str], int] = field(default_factory=dict)
    misplaced: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Batch:
    """The commit under construction: what processors see as their `Context`."""

    __slots__ = (
        "_index",
        "_outputs",
        "_partition",
        "_partitions",
        "buried",
        "caught_up",
        "dead",
        "events",
        "forwards",
        "gathered",
        "now",
        "records",
        "revision",
        "rows",
        "runs",
        "tally",
    )

    def __init__(self, partition: int, partitions: int, revision: int) -> None:
        self.now = 0
        self.caught_up = False
        self.revision = revision
        self.rows: Rows
        self._partition = partition
        self._partitions = partitions
        self._outputs: dict[str, list[Outgoing]] = {}
        self._index: dict[int, int] = {}
        self.forwards: dict[int, list[Outgoing]] = {}
        self.gathered: dict[str, dict[Any, Any]] = {}
        self.tally: dict[tuple[str, str], int] = {}
        self.dead: list[tuple[str, Record, str, str]] = []
        self.buried: list[tuple[str, bytes, bytes, Place, str, str]] = []
        self.events: list[object] = []
        self.records: list[Record] = []
        """The record of each event, by index."""
        self.runs: list[tuple[int, str, str]] = []
        """(index of the first event, source, topic): where events from there on came from; source "" if re-keyed."""

    # -- what processors call -------------------------------------------------------------------------
    def emit(self, topic: str, key: bytes, value: bytes | None) -> None:
        found = self._outputs.get(topic)
        if found is None:
            found = self._outputs[topic] = []
        found.append((key, value, _NONE))

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        self._forward(key, value, ((KIND, kind.encode()), (ORIGIN_TIMESTAMP, b"%d" % self.now)))

    def reject(self, event: object, reason: DeadLetterReason, detail: str) -> None:
        origin = self.origin_of(event)
        self.dead.append((origin.topic, origin.record, reason, detail))

    def origin(self, event: object) -> Place:
        source, _, record = self.origin_of(event)
        if source:
            return Place(self._partition, record.offset, record.timestamp)
        ours = dict(record.headers[:_OURS])
        return Place(int(ours[ORIGIN_PARTITION]), int(ours[ORIGIN_OFFSET]), int(ours[ORIGIN_TIMESTAMP]))

    def bury(self, topic: str, key: bytes, value: bytes, place: Place, reason: DeadLetterReason, detail: str) -> None:
        self.buried.append((topic, key, value, place, reason, detail))

    def gather(self, kind: str) -> dict[Any, Any]:
        found = self.gathered.get(kind)
        if found is None:
            found = self.gathered[kind] = {}
        return found

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        key = name, label
        self.tally[key] = self.tally.get(key, 0) + n

    # -- what the engine calls ------------------------------------------------------------------------
    def origin_of(self, event: object) -> Origin:
        """Where an event came from. Few are ever asked for, so the index is made when the first one is."""
        if len(self._index) != len(self.events):
            self._index = {id(e): i for i, e in enumerate(self.events)}
        index = self._index[id(event)]
        _, source, topic = self.runs[bisect_right(self.runs, index, key=_first_of) - 1]
        return Origin(source, topic, self.records[index])

    def send_home(self, key: bytes, origin: Origin) -> None:
        """Forwards a record that reached the wrong partition to the right one, with where it came from."""
        record = origin.record
        headers = (
            (KIND, (MISPLACED + origin.source).encode()),
            (ORIGIN_TOPIC, origin.topic.encode()),
            (ORIGIN_PARTITION, b"%d" % self._partition),
            (ORIGIN_OFFSET, b"%d" % record.offset),
            (ORIGIN_TIMESTAMP, b"%d" % first_timestamp(record)),
            (ORIGIN_UNKEYED, b"1" if record.key is None else b""),
            *record.headers,
        )
        self._forward(key, record.value, headers)

    def _forward(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        self.forwards.setdefault(partition_of(key, self._partitions), []).append((key, value, headers))

    @property
    def outputs(self) -> dict[str, list[Outgoing]]:
        return self._outputs


def _first_of(run: tuple[int, str, str]) -> int:
    return run[0]


def header(headers: Headers, name: str) -> bytes | None:
    """The first header of that name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def first_timestamp(record: Record) -> int:
    """When a record came, or first came if it is a dead letter sent back. Anyone can write that header: whatever it
    says, it never brings a record forward in time."""
    return min(record.timestamp, _milliseconds(header(record.headers, REPLAY_TIMESTAMP), record.timestamp))


def _milliseconds(told: bytes | None, otherwise: int) -> int:
    """A time in a header, unless that is missing or nonsense."""
    return int(told) if told is not None and len(told) <= _MOST_DIGITS and told.isdigit() else otherwise


class Stopwatch:
    """How long a step works, without the time in which it lets others work."""

    __slots__ = ("_began", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._began = time.perf_counter()

    async def give_way(self) -> None:
        """Lets the event loop do what waits."""
        self._seconds += time.perf_counter() - self._began
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._began = time.perf_counter()

    def stop(self) -> float:
        """Seconds worked so far."""
        return self._seconds + time.perf_counter() - self._began


class Workbench:
    """Turns chunks into commits, for one task. Holds everything that a failure must throw away."""

    def __init__(
        self,
        topology: Topology,
        partition: int,
        states: dict[str, KeyedStates],
        overlay: Overlay,
        timers: Timers,
        meta: Meta,
        max_record_bytes: int,
    ) -> None:
        self.topology = topology
        self.partition = partition
        self.states = states
        self.overlay = overlay
        self.timers = timers
        self.meta = meta
        self.time = StreamTime(topology.inputs, meta.stream_time, meta.newest)
        self._max_record_bytes = max_record_bytes
        self._by_tag = {s.tag: s for s in states.values()}
        self._names = {topology.topics[name]: name for name in topology.inputs}
        self._decoders: dict[str, tuple[KeyedStates, Decoder[object]]] = {}
        for processor in topology.processors:
            for source in (*processor.inputs, *processor.kinds):
                self._decoders[source] = states[processor.name], processor.decoder(source)

    def source_of(self, topic: str) -> str | None:
        """Logical name of a source input; None for the repartition topic, which has no say in the stream time."""
        return self._names.get(topic)

    async def work(self, chunks: Sequence[Chunk], offsets: dict[str, int], monotonic_ms: int) -> Commit | None:
        """One commit from these chunks and from whatever timers are due; None if there is nothing to say.

        `offsets`: next offset of every input (by topic) once the chunks are taken.
        """
        batch = Batch(self.partition, self.topology.partitions, self.meta.seq + 1)
        commit = Commit(batch.revision, self.meta, offsets, batch.outputs)
        groups = await self._decode(chunks, batch, commit)
        batch.now = self.time.advance(monotonic_ms)
        batch.caught_up = self.time.caught_up
        await self._fold(groups, batch, commit)
        woken = await self._wake(batch, commit)
        if not chunks and not woken:
            return None
        for kind, gathered in batch.gathered.items():
            self.topology.combiners[kind](gathered, batch)
        await self._finish(batch, commit)
        return commit

    # -- 1: decode and group --------------------------------------------------------------------------
    async def _decode(
        self, chunks: Sequence[Chunk], batch: Batch, commit: Commit
    ) -> dict[str, dict[bytes, list[object]]]:
        groups: dict[str, dict[bytes, list[object]]] = {name: {} for name in self.states}
        watch = Stopwatch()
        for chunk in chunks:
            source = self._names.get(chunk.topic)
            commit.records += len(chunk.records)
            dead_before = len(batch.dead)
            if source is None:
                self._decode_rekeyed(chunk, batch, groups)
            else:
                keyed, decode = self._decoders[source]
                self.time.at_end(source, chunk.at_end)
                batch.runs.append((len(batch.events), source, chunk.topic))
                for start in range(0, len(chunk.records), _RECORDS_AT_ONCE):
                    part = (
                        chunk.records
                        if len(chunk.records) <= _RECORDS_AT_ONCE
                        else chunk.records[start : start + _RECORDS_AT_ONCE]
                    )
                    newest = self._decode_some(chunk.topic, part, keyed, decode, batch, groups[keyed.processor.name])
                    self.time.took(source, newest)
                    await watch.give_way()
            if chunk.records:
                commit.arrivals.append((chunk.records[-1].timestamp, len(chunk.records)))
            bad = len(batch.dead) - dead_before
            outcome = commit.outcomes
            outcome[chunk.topic, "accepted"] = outcome.get((chunk.topic, "accepted"), 0) + len(chunk.records) - bad
            if bad:
                outcome[chunk.topic, "dead"] = outcome.get((chunk.topic, "dead"), 0) + bad
        commit.seconds["decode"] = watch.stop()
        return groups

    def _decode_some(
        self,
        topic: str,
        records: Sequence[Record],
        keyed: KeyedStates,
        decode: Decoder[object],
        batch: Batch,
        group: dict[bytes, list[object]],
    ) -> int:
        """Decodes records of one input into their groups; the newest timestamp of the accepted ones."""
        newest = 0
        limit = self._max_record_bytes
        events, origins, dead = batch.events, batch.records, batch.dead
        for record in records:
            timestamp, key, value = record.timestamp, record.key, record.value
            if record.headers:
                timestamp = first_timestamp(record)
            try:
                if value is None:
                    raise Rejected("bad_json", "the record has no value")  # noqa: TRY301  # one place makes dead letters
                if len(value) > limit:
                    raise Rejected("too_large", f"{len(value)} bytes; at most {limit} are taken")  # noqa: TRY301
                event = decode(key, value, timestamp)
            except Rejected as why:
                dead.append((topic, record, why.reason, why.detail))
                continue
            if key is None:
                key = keyed.processor.key_of(event)
            events.append(event)
            origins.append(record)
            if timestamp > newest:  # noqa: PLR1730  # max() costs three times as much here
                newest = timestamp
            found = group.get(key)
            if found is None:
                group[key] = [event]
            else:
                found.append(event)
        return newest

    def _decode_rekeyed(self, chunk: Chunk, batch: Batch, groups: dict[str, dict[bytes, list[object]]]) -> None:
        """Records of the repartition topic: misplaced inputs, and what processors sent each other.

        They have no say in the stream time.
        """
        batch.runs.append((len(batch.events), "", chunk.topic))
        for record in chunk.records:
            kind = (header(record.headers, KIND) or b"").decode("utf-8", "replace")
            source = kind.removeprefix(MISPLACED)
            origin = header(record.headers, ORIGIN_TIMESTAMP)
            found = self._decoders.get(source)
            try:
                if found is None:
                    raise Rejected("bad_field", f"kind: {kind!r} is no repartition record that this version knows")  # noqa: TRY301
                if record.value is None:
                    raise Rejected("bad_json", "the record has no value")  # noqa: TRY301  # one place makes dead letters
                timestamp = _milliseconds(origin, record.timestamp)
                keyed, decode = found
                event = decode(record.key, record.value, timestamp)
            except Rejected as why:
                batch.dead.append((chunk.topic, record, why.reason, why.detail))
                continue
            key = record.key if record.key is not None else keyed.processor.key_of(event)
            batch.events.append(event)
            batch.records.append(record)
            groups[keyed.processor.name].setdefault(key, []).append(event)

    # -- 2: fold --------------------------------------------------------------------------------------
    async def _fold(self, groups: dict[str, dict[bytes, list[object]]], batch: Batch, commit: Commit) -> None:
        partition, partitions = self.partition, self.topology.partitions
        for name, group in groups.items():
            keyed = self.states[name]
            fold, changed, young = keyed.processor.fold, keyed.changed, keyed.young
            batch.rows = keyed
            watch, done = Stopwatch(), 0
            misses = keyed.misses
            for key, events in group.items():
                entry = young.get(key)
                if entry is None:
                    entry = keyed.find(key)
                    if entry is None:
                        if partition_of(key, partitions) != partition:
                            events = self._forward(key, events, batch, commit)
                            if not events:
                                continue
                        entry = keyed.add(key)
                entry.state = fold(key, entry.state, events, batch)
                changed[key] = entry
                done += 1
                if not done % _KEYS_AT_ONCE:
                    await watch.give_way()
                    young = keyed.young
            keyed.hits += len(group) - (keyed.misses - misses)
            commit.seconds[name] = watch.stop()

    def _forward(self, key: bytes, events: list[object], batch: Batch, commit: Commit) -> list[object]:
        """Forwards misplaced records; what is returned was forwarded once already, and is taken as it is."""
        kept = []
        for event in events:
            origin = batch.origin_of(event)
            if origin.source:
                batch.send_home(key, origin)
                commit.misplaced += 1
            else:
                kept.append(event)
        return kept

    # -- 3: timers ------------------------------------------------------------------------------------
    async def _wake(self, batch: Batch, commit: Commit) -> bool:
        """Wakes what is due. True if anything was: a commit that only moves timer rows is none."""
        watch, woken = Stopwatch(), 0
        while batch.now and woken < TIMERS_PER_COMMIT:
            rows = self.timers.due(batch.now, TIMERS_PER_COMMIT)
            if not rows:
                break
            for number, row in enumerate(rows, 1):
                _, tag, key = split_timer(row)
                keyed = self._by_tag[tag]
                batch.rows = keyed
                woken += keyed.wake(row, key, batch)
                if not number % _KEYS_AT_ONCE:
                    await watch.give_way()
            await watch.give_way()
        else:
            commit.more = woken > 0
        commit.seconds["wake"] = watch.stop()
        return woken > 0

    # -- 4: encode ------------------------------------------------------------------------------------
    async def _finish(self, batch: Batch, commit: Commit) -> None:
        watch = Stopwatch()
        append = commit.changelog.append
        for keyed in self.states.values():
            keyed.save(append)
            await watch.give_way()
        parts = self.overlay.current
        commit.changelog.extend((row, value, _NONE) for row, value in parts.items())
        meta = Meta(
            seq=commit.seq,
            offsets=commit.offsets,
            stream_time=self.time.value,
            newest=dict(self.time.newest),
            partitions=self.topology.partitions,
            incarnation=self.meta.incarnation,
        )
        append((META, encode_meta(meta), _NONE))
        self.meta = commit.meta = meta
        commit.forwards = batch.forwards
        commit.tally = batch.tally
        for topic, record, reason, detail in batch.dead:
            rekeyed = topic == self.topology.repartition
            commit.dead_letters.append(_dead_letter(topic, self.partition, record, reason, detail, rekeyed=rekeyed))
            commit.reasons[reason] = commit.reasons.get(reason, 0) + 1
        for logical, key, value, place, reason, detail in batch.buried:
            origin = self.topology.topics[logical].encode(), *(b"%d" % number for number in place)
            commit.dead_letters.append((key, value, _reasons(reason, detail, *origin)))
            commit.reasons[reason] = commit.reasons.get(reason, 0) + 1
        commit.seconds["encode"] = watch.stop()

    def take(self, commit: Commit) -> None:
        """The commit goes on its way: the next one is built on top of it."""
        self.overlay.take()
        commit.timers = self.timers.take()
        for keyed in self.states.values():
            keyed.take()

    def landed(self) -> None:
        """The commit that was on its way is in the store."""
        self.overlay.landed()
        self.timers.landed()
        for keyed in self.states.values():
            keyed.landed()


def _dead_letter(topic: str, partition: int, record: Record, reason: str, detail: str, *, rekeyed: bool) -> Outgoing:
    """The record as it came, byte for byte, with headers that say why and from where."""
    key, headers = record.key, record.headers
    origin = topic.encode(), b"%d" % partition, b"%d" % record.offset, b"%d" % record.timestamp
    if rekeyed and header(headers, ORIGIN_TOPIC) is not None:  # it was forwarded: tell of the record it was
        ours, headers = dict(headers[:_OURS]), headers[_OURS:]
        origin = ours[ORIGIN_TOPIC], ours[ORIGIN_PARTITION], ours[ORIGIN_OFFSET], ours[ORIGIN_TIMESTAMP]
        key = None if ours[ORIGIN_UNKEYED] else key
    return (
        key,
        record.value,
        (*headers, *_reasons(reason, detail, *origin)),
    )


def _reasons(reason: str, detail: str, topic: bytes, partition: bytes, offset: bytes, timestamp: bytes) -> Headers:
    return (
        ("dlq.reason", reason.encode()),
        ("dlq.detail", detail.encode("utf-8", "replace")),
        ("dlq.topic", topic),
        ("dlq.partition", partition),
        ("dlq.offset", offset),
        ("dlq.timestamp", timestamp),
    )


__all__ = ["Batch", "Chunk", "Commit", "Workbench"]
