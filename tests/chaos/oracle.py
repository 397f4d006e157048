"""Recomputes what must be there from the input log alone, in plain code that shares nothing with the engine."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import rocksdict
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka.admin import AdminClient

from tests.chaos.logs import QUIET, Read, ends, read, read_all
from tests.chaos.spec import WorkerSpec
from tests.chaos.tally import SLOTS

INPUTS = ("left", "right")


@dataclass
class Tallied:
    """What must be known of a key in the end."""

    n: int = 0
    total: int = 0
    last: int = 0
    nudges: int = 0
    nudged: int = 0
    slots: list[int] = field(default_factory=lambda: [0] * SLOTS)

    def as_output(self, key: str) -> dict[str, Any]:
        return {
            "id": key,
            "n": self.n,
            "total": self.total,
            "last": self.last,
            "nudges": self.nudges,
            "nudged": self.nudged,
        }


Place = tuple[str, int, int]


@dataclass
class Expected:
    keys: dict[str, Tallied]
    dead: dict[Place, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]
    records: int


@dataclass
class Verdict:
    """What was compared and what was wrong; green if nothing was."""

    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)

    def no(self, what: str, example: object, n: int = 1) -> None:
        self.wrong[what] += n
        self.examples.setdefault(what, str(example)[:500])

    @property
    def green(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        facts = " ".join(f"{name}={n}" for name, n in self.facts.items())
        if self.green:
            return f"GREEN {facts}"
        listed = "; ".join(f"{what}: {n} (e.g. {self.examples[what]})" for what, n in self.wrong.most_common())
        return f"RED {facts} | {listed}"


def expected(spec: WorkerSpec, logs: dict[str, list[Read]]) -> Expected:
    """Folds the input log, each record by itself: no order, no batches, no time."""
    keys: dict[str, Tallied] = defaultdict(Tallied)
    dead: dict[Place, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = {}
    count = 0
    for name in INPUTS:
        for record in logs[spec.prefix + name]:
            count += 1
            event = _event(record, spec.max_record_bytes)
            if event is None or event.get("reject"):
                dead[name, record.partition, record.offset] = record.key, record.value, record.headers
                continue
            crc = zlib.crc32(event["id"].encode())
            tally = keys[event["key"]]
            tally.n += 1
            tally.total += crc
            tally.last = max(tally.last, record.timestamp)
            tally.slots[crc % SLOTS] += 1
            if event.get("to"):
                other = keys[event["to"]]
                other.nudges += 1
                other.nudged += crc
    return Expected(keys, dead, count)


def _event(record: Read, limit: int) -> dict[str, Any] | None:
    if record.value is None or len(record.value) > limit:
        return None
    try:
        event = json.loads(record.value.decode())
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str) or not isinstance(event.get("key"), str):
        return None
    if record.key is not None and record.key != event["key"].encode():
        return None
    return event


def check(spec: WorkerSpec, directories: Iterable[Path] = ()) -> Verdict:
    """Everything that the log holds against everything that it must hold. Give `directories` only of ended workers."""
    verdict = Verdict()
    everywhere = dict.fromkeys(range(spec.partitions), -2)
    outputs = [spec.prefix + name for name in ("counts", "idles")]
    changelog = f"{spec.prefix}{spec.app_id}-changelog"
    others = [*(spec.prefix + name for name in INPUTS), f"{spec.prefix}dead-letters", changelog]
    logs = read_all(spec.bootstrap, dict.fromkeys((*outputs, *others), everywhere))
    if directories:
        dirty = read_all(spec.bootstrap, dict.fromkeys(outputs, everywhere), committed=False)
        verdict.facts["aborted"] = sum(len(dirty[topic]) - len(logs[topic]) for topic in outputs)
    want = expected(spec, logs)
    verdict.facts |= {"events": want.records, "keys": len(want.keys)}
    _check_outputs("counts", logs[outputs[0]], want, verdict)
    _check_outputs("idles", logs[outputs[1]], want, verdict)
    _check_dead_letters(spec, logs[f"{spec.prefix}dead-letters"], want, verdict)
    latest = latest_of(spec, logs[changelog])
    _check_state(latest, want, verdict)
    check_offsets(spec, latest, verdict, INPUTS)
    for directory in directories:
        check_stores(directory, latest, verdict)
    return verdict


def _check_outputs(topic: str, records: list[Read], want: Expected, verdict: Verdict) -> None:
    verdict.facts[topic] = len(records)
    last: dict[str, dict[str, Any]] = {}
    home: dict[str, int] = {}
    for record in records:
        assert record.value is not None
        value = json.loads(record.value)
        key = value["id"]
        before = last.get(key)
        if before is not None and before["revision"] >= value["revision"]:
            doubled = before["revision"] == value["revision"]
            verdict.no(f"{topic} {'doubled' if doubled else 'out of order'}", (before, value))
        if home.setdefault(key, record.partition) != record.partition:
            verdict.no(f"{topic} in two partitions", key)
        last[key] = value
    for key, tally in want.keys.items():
        if topic == "idles" and not tally.n:
            continue
        value = last.pop(key, None)
        if value is None:
            verdict.no(f"{topic} missing", key)
            continue
        value = {name: field for name, field in value.items() if name != "revision"}
        if topic == "idles":  # a nudge after it changes the state, but is no event
            compared = {name: tally.as_output(key)[name] for name in ("id", "n", "total", "last")}
            value = {name: value[name] for name in compared}
        else:
            compared = tally.as_output(key)
        if value != compared:
            verdict.no(f"{topic} wrong", (value, compared))
    for key in last:
        verdict.no(f"{topic} of nobody", key)


def _check_dead_letters(spec: WorkerSpec, records: list[Read], want: Expected, verdict: Verdict) -> None:
    seen: Counter[Place] = Counter()
    verdict.facts["dead"] = len(records)
    for record in records:
        ours = {name: value or b"" for name, value in record.headers if name.startswith("dlq.")}
        place = (
            ours["dlq.topic"].decode().removeprefix(spec.prefix),
            int(ours["dlq.partition"]),
            int(ours["dlq.offset"]),
        )
        seen[place] += 1
        if place not in want.dead:
            verdict.no("dead letter of a good record", (place, ours["dlq.reason"]))
            continue
        headers = [header for header in record.headers if not header[0].startswith("dlq.")]
        if (record.key, record.value, headers) != want.dead[place]:
            verdict.no("dead letter altered", (place, record.key, record.value, headers, want.dead[place]))
    for place, n in seen.items():
        if n > 1:
            verdict.no("dead letter doubled", place, n - 1)
    missing = want.dead.keys() - seen.keys()
    if missing:
        verdict.no("dead letter missing", sorted(missing)[:3], len(missing))


Rows = dict[int, dict[bytes, bytes | None]]


def last_rows(spec: WorkerSpec) -> Rows:
    """The changelog as compaction would leave it: the last value of each row, tombstones as None."""
    return latest_of(spec, read(spec.bootstrap, f"{spec.prefix}{spec.app_id}-changelog", spec.partitions))


def latest_of(spec: WorkerSpec, records: list[Read]) -> Rows:
    latest: Rows = {p: {} for p in range(spec.partitions)}
    for record in records:
        if record.key is not None:
            latest[record.partition][record.key] = record.value
    return latest


def _check_state(latest: Rows, want: Expected, verdict: Verdict) -> None:
    heads, slots = _states(latest, verdict)
    for key, tally in want.keys.items():
        head = heads.pop(key, None)
        parts = slots.pop(key, [0] * SLOTS)
        if key.startswith("x"):  # long silent: gone, with all its rows
            if head is not None or any(parts):
                verdict.no("state not forgotten", (key, head, parts))
            continue
        right = [tally.n, tally.total, tally.last, tally.n > 0, tally.nudges, tally.nudged, False]
        if head is None:
            verdict.no("state missing", (key, right))
        elif head != right:
            only_timer = head[:3] + head[4:] == right[:3] + right[4:]
            verdict.no("timer missed" if only_timer else "state wrong", (key, head, right))
        if parts != tally.slots:
            verdict.no("rows wrong", (key, parts, tally.slots))
    for key in (*heads, *slots):
        verdict.no("state of nobody", key)


def _states(latest: Rows, verdict: Verdict) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
    """Heads and numbered rows of every key."""
    heads: dict[str, list[Any]] = {}
    slots: dict[str, list[int]] = defaultdict(lambda: [0] * SLOTS)
    for rows in latest.values():
        for row, value in rows.items():
            if value is None:
                continue
            if row[:2] == b"sT":
                key = row[2:].decode()
                if key in heads:
                    verdict.no("state in two partitions", key)
                heads[key] = msgspec.msgpack.decode(value[9:])
            elif row[:2] == b"pT":
                slots[row[2:-4].decode()][int.from_bytes(row[-4:])] = int(value)
    return heads, slots


def check_offsets(spec: WorkerSpec, latest: Rows, verdict: Verdict, inputs: Iterable[str]) -> None:
    """Everything is committed up to its end, and the changelog says the same."""
    admin = AdminClient({**QUIET, "bootstrap.servers": spec.bootstrap})
    stored = committed(spec.bootstrap, spec.app_id)
    repartition = f"{spec.prefix}{spec.app_id}-repartition"
    topics = [*(spec.prefix + name for name in inputs), repartition]
    for topic in topics[:-1]:
        written = ends(admin, topic, spec.partitions)
        for p in range(spec.partitions):
            at, _ = stored.get((topic, p), (-1, ""))
            if at != written[p]:
                verdict.no("offset not at the end", (topic, p, at, written[p]))
    # The repartition topic ends in control records: nothing to read must be left.
    starts = {p: stored.get((repartition, p), (-1, ""))[0] for p in range(spec.partitions)}
    if min(starts.values()) < 0:
        verdict.no("offset missing", (repartition, starts))
    elif left := read(spec.bootstrap, repartition, spec.partitions, starts=starts):
        verdict.no("offset not at the end", (repartition, left[0]), len(left))
    for p, rows in latest.items():
        raw = rows.get(b"m")
        meta = msgspec.msgpack.decode(raw) if raw else {"offsets": {}, "seq": None}
        group = {topic: stored.get((topic, p)) for topic in meta["offsets"]}
        if not group or {t: (o, str(meta["seq"])) for t, o in meta["offsets"].items()} != group:
            verdict.no("changelog and offsets disagree", (p, meta, group))


def committed(bootstrap: str, group: str) -> dict[tuple[str, int], tuple[int, str]]:
    """(topic, partition) → (offset, metadata), as the group has it. (confluent-kafka reads metadata past its end.)"""

    async def ask() -> dict[tuple[str, int], tuple[int, str]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap.split(","))
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return {(tp.topic, tp.partition): (at.offset, at.metadata or "") for tp, at in found.items() if at.offset >= 0}

    return asyncio.run(ask())


def check_stores(directory: Path, latest: Rows, verdict: Verdict) -> None:
    """A store that says it is up to date must hold what the changelog holds, and a timer for every due time."""
    for partition, want in latest.items():
        path = directory / str(partition)
        if not path.is_dir():
            continue
        rows = dict(
            rocksdict.Rdict(
                str(path), rocksdict.Options(raw_mode=True), access_type=rocksdict.AccessType.read_only()
            ).items()
        )
        if rows.get(b"m") != want.get(b"m"):
            continue
        verdict.facts["stores"] = verdict.facts.get("stores", 0) + 1
        kept = {row: value for row, value in rows.items() if row[:1] in b"spm"}
        right = {row: value for row, value in want.items() if value is not None}
        for row in kept.keys() | right.keys():
            if kept.get(row) != right.get(row):
                verdict.no("store differs from changelog", (partition, row, kept.get(row), right.get(row)))
        timers: dict[bytes, int] = {}
        for row in rows:
            if row[:1] == b"t":
                due, key = int.from_bytes(row[1:9]), row[9:]
                timers[key] = min(due, timers.get(key, due))
        for row, value in kept.items():
            if row[:1] == b"s" and (due := int.from_bytes(value[1:9])) and timers.get(row[1:], due + 1) > due:
                verdict.no("timer row missing", (partition, row))
