"""Random histories of a worker on the local host: what arrives when, where it dies, what is spoilt in between.

And what must have come of them in the end, by arithmetic: `expected`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from hypothesis import strategies as st

from stream_app.engine.commit import STEPS
from stream_app.engine.partitioning import partition_of
from stream_app.engine.ports import Outgoing, Probe
from stream_app.engine.rows import META, decode_meta, head_key, part_key, split_timer, unpack_header
from stream_app.engine.task import TaskSettings
from stream_app.engine.topology import Topology
from stream_app.hosts.local import host as host_module
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog, LocalRecord
from stream_app.hosts.stores import MemoryStore, MemoryStores
from tests.engine.summing import PASSING, SLOTS, Summing, checksum
from tests.engine.watching import OPENING_STEPS, Fail, Kill, Watcher

START_MS = 1_700_000_000_000
PARTITIONS = 2
IDLE_MS, FORGET_MS = 1_000, 5_000
LIMIT = 300
KEYS = ("a", "b", "c", "d")

Kind = Literal["good", "bad_json", "empty", "key_mismatch", "too_large", "too_late"]
Spoil = Literal["", "store lost", "store stale", "offsets expired", "changelog lost", "compacted", "zombie"]


@dataclass(frozen=True)
class Arrival:
    """One record of an input."""

    number: int
    topic: str
    key: str
    to: str
    kind: Kind
    misplaced: bool
    keyed: bool
    later_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def value(self) -> bytes | None:
        match self.kind:
            case "empty":
                return None
            case "bad_json":
                return b"\xff{%d" % self.number
            case kind:
                fields = {"id": f"e{self.number}", "key": self.key, "to": self.to, "reject": kind == "too_late"}
                return msgspec.json.encode(fields) + b" " * (LIMIT if kind == "too_large" else 0)

    @property
    def record_key(self) -> bytes | None:
        if not self.keyed:
            return None
        return b"other" if self.kind == "key_mismatch" else self.key.encode()

    @property
    def partition(self) -> int:
        home = partition_of(self.key.encode(), PARTITIONS)
        return (home + self.misplaced) % PARTITIONS


FIRST = [
    Arrival(
        -1 - p, "left", next(k for k in KEYS if partition_of(k.encode(), PARTITIONS) == p), "", "good", False, True, 0
    )
    for p in range(PARTITIONS)
]
"""What every history begins with. A task that never had a record of an input has no stream time: re-keyed records have
no say in it, so it would wait with its timers."""


@dataclass(frozen=True)
class Life:
    """One process: what arrives while it lives (in portions, waiting or not in between), and how it ends."""

    portions: Sequence[tuple[Sequence[Arrival], Literal["at once", "soon", "settled"]]]
    step: str
    """It dies at this step, the `nth` time; "" means that it doesn't."""
    nth: int
    action: Literal["kill", "fail", "fence"]
    chunk: int
    commit_records: int
    cache: int
    idle_ms: int
    """So much time passes once all is settled."""
    drains: bool
    spoil: Spoil
    """What happens before it."""
    spoilt: int


@st.composite
def arrivals(draw: st.DrawFn, number: int) -> Arrival:
    passing = draw(st.integers(0, 4)) == 0
    kind = draw(st.sampled_from(["good"] * 8 + ["bad_json", "empty", "key_mismatch", "too_large", "too_late"]))
    return Arrival(
        number=number,
        topic=draw(st.sampled_from(["left", "right"])),
        key=f"{PASSING.decode()}{number}" if passing else draw(st.sampled_from(KEYS)),
        to=draw(st.sampled_from(["", "", "", *KEYS])),
        kind=kind,
        misplaced=draw(st.integers(0, 5)) == 0,
        keyed=kind == "key_mismatch" or draw(st.integers(0, 4)) > 0,
        later_ms=draw(st.sampled_from([0, 0, 1, 30, 400, 1_500])),
        headers=draw(st.sampled_from([(), (), (("kind", b"mine"), ("origin.offset", b"9"))])),
    )


@st.composite
def histories(draw: st.DrawFn, *, crashes: bool = True) -> list[Life]:
    lives, number = [], 0
    for _ in range(draw(st.integers(1, 5))):
        portions = []
        for _ in range(draw(st.integers(0, 4))):
            size = draw(st.integers(1, 6))
            portion = [draw(arrivals(number + i)) for i in range(size)]
            number += size
            portions.append((portion, draw(st.sampled_from(["at once", "soon", "settled"]))))
        lives.append(
            Life(
                portions=portions,
                step=draw(st.sampled_from(["", *STEPS, *STEPS, *OPENING_STEPS])) if crashes else "",
                nth=draw(st.integers(1, 5)),
                action=draw(st.sampled_from(["kill"] * 6 + ["fail", "fence"])),
                chunk=draw(st.integers(1, 5)),
                commit_records=draw(st.integers(1, 8)),
                cache=draw(st.sampled_from([2, 2, 1_000])),
                idle_ms=draw(st.sampled_from([0, 0, 600, 3_000])),
                drains=draw(st.booleans()),
                spoil=draw(
                    st.sampled_from(
                        ["", "store lost", "store stale", "offsets expired", "changelog lost", "compacted", "zombie"]
                    )
                )
                if crashes
                else "",
                spoilt=draw(st.integers(0, PARTITIONS - 1)),
            )
        )
    return lives


# -- what must come of it -------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What others see in the end, and what the stores hold."""

    counts: dict[str, tuple[int, int, int, int, int]] = field(default_factory=dict)
    """key → (n, sum of checksums, last, nudges, their sum): of the last record."""
    idles: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    """How many `idles` records the keys have that have one event only."""
    dead: Counter[tuple[object, ...]] = field(default_factory=Counter)
    forwards: Counter[tuple[object, ...]] = field(default_factory=Counter)
    parts: dict[bytes, bytes] = field(default_factory=dict)


def expected(lives: Sequence[Life]) -> Outcome:
    """By arithmetic, in one go over everything that arrived."""
    wanted = Outcome()
    now = 0
    sums: dict[str, list[int]] = {}
    offsets: Counter[tuple[str, int]] = Counter()
    slots: Counter[bytes] = Counter()
    for arrival in (*FIRST, *(a for life in lives for portion, _ in life.portions for a in portion)):
        now += arrival.later_ms
        at = START_MS + now
        place = arrival.topic, arrival.partition
        offset = offsets[place]
        offsets[place] += 1
        key, value = arrival.record_key, arrival.value
        moved = arrival.misplaced and arrival.kind in {"good", "too_late"}
        if moved:
            wanted.forwards[
                f"misplaced:{arrival.topic}", arrival.key.encode(), value, arrival.topic, arrival.partition, offset, at
            ] += 1
        if arrival.kind != "good":
            reason = "bad_json" if arrival.kind == "empty" else arrival.kind
            told = (reason, arrival.topic, arrival.partition, offset, at)
            wanted.dead[*told, key, value, arrival.headers] += 1
            continue
        event = f"e{arrival.number}"
        total = sums.setdefault(arrival.key, [0] * 5)
        total[0] += 1
        total[1] += checksum(event)
        total[2] = max(total[2], at)
        slots[part_key(Summing.tag, arrival.key.encode(), checksum(event) % SLOTS)] += 1
        if arrival.to:
            nudged = sums.setdefault(arrival.to, [0] * 5)
            nudged[3] += 1
            nudged[4] += checksum(event)
            nudge = msgspec.json.encode({"id": event, "key": arrival.to})
            wanted.forwards["nudge", arrival.to.encode(), nudge] += 1
    for name, total in sums.items():
        wanted.counts[name] = (total[0], total[1], total[2], total[3], total[4])
        if total[0]:
            wanted.idles[name] = (total[0], total[1], total[2])
        if name.startswith(PASSING.decode()):
            wanted.passed[name] = 1
    wanted.parts = {row: b"%d" % n for row, n in slots.items() if row[2:3] != PASSING}
    return wanted


# -- living it ------------------------------------------------------------------------------------------


class World:
    """What outlasts processes: the log and the stores."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.log = LocalLog(PARTITIONS, self.clock)
        self.stores = MemoryStores()
        self.now = 0
        self.orderly = True
        """The last process ended orderly: its stores are up to date."""
        self._older: dict[int, tuple[dict[bytes, bytes], list[bytes]]] = {}
        self._arrive(FIRST)

    @property
    def topology(self) -> Topology:
        return Topology(
            processors=[Summing(IDLE_MS, FORGET_MS)],
            topics={name: name for name in ("left", "right", "counts", "idles")},
            repartition="repartition",
            changelog="changelog",
            dead_letters="dead-letters",
            partitions=PARTITIONS,
        )

    def live(self, life: Life) -> None:
        """One process, from its start to its end."""
        self._spoil(life.spoil, life.spoilt)
        host_module._CHUNK = life.chunk
        try:
            asyncio.run(self._live(life))
        finally:
            host_module._CHUNK = 5_000

    def finish(self) -> None:
        """A last process settles everything and waits until nothing can come any more."""
        portions: list[tuple[list[Arrival], Literal["at once"]]] = [([], "at once")]
        self.live(Life(portions, "", 1, "kill", 5_000, 10_000, 1_000, 4 * FORGET_MS, True, "", 0))

    async def _live(self, life: Life) -> None:
        self.log.changed = asyncio.Event()  # the one of the last process belongs to its loop
        kill = Kill(life.step if life.action == "kill" else "", life.nth)
        probe: Probe = kill
        if life.action != "kill" and life.step:
            act = self._fence_all if life.action == "fence" else None
            probe = Fail(life.step, act=act)
        settings = TaskSettings(
            commit_interval_ms=0,
            commit_records=life.commit_records,
            cache_entries=life.cache,
            max_record_bytes=LIMIT,
        )
        host = LocalHost(
            self.topology,
            self.log,
            self.stores,
            self.clock,
            Watcher(),
            task_settings=settings,
            probe=probe,
            max_failures=50,
        )
        self.orderly = False
        await host.start()
        for portion, wait in life.portions:
            self._arrive(portion)
            if wait == "settled":
                await self._settle(host, kill)
            elif wait == "soon":
                for _ in range(7):
                    await asyncio.sleep(0)
        if not await self._settle(host, kill):
            return
        for _ in range(4 if life.idle_ms else 0):
            self.clock.advance(life.idle_ms // 4)
            if not await self._settle(host, kill):
                return
        if life.drains and not kill.dead:
            await host.stop()
            self.orderly = not kill.dead

    async def _settle(self, host: LocalHost, kill: Kill) -> bool:
        """False if the process has died."""
        deadline = time.monotonic() + 20
        quiet = 0
        while quiet < 2:
            assert time.monotonic() < deadline, "never settles"
            if kill.dead:
                return False
            if host.failed is not None:
                raise host.failed
            host.tick()
            for _ in range(40):
                await asyncio.sleep(0)
                if host._is_settled():
                    break
            else:
                await asyncio.sleep(0.0005)
            quiet = quiet + 1 if host._is_settled() else 0
        return not kill.dead

    def _arrive(self, portion: Sequence[Arrival]) -> None:
        for arrival in portion:
            self.now += arrival.later_ms
            target = self.log.topic(arrival.topic)[arrival.partition]
            target.append(START_MS + self.now, arrival.record_key, arrival.value, arrival.headers)
        self.log.changed.set()

    def _fence_all(self) -> None:
        for partition in range(PARTITIONS):
            asyncio.get_running_loop().create_task(self.log.open_writer(partition))

    # -- what goes wrong between two processes ----------------------------------------------------------
    def _spoil(self, what: Spoil, partition: int) -> None:
        store = self.stores._stores.get(partition)
        match what:
            case "store lost":
                self.stores.wipe(partition)
            case "store stale":
                older = self._older.get(partition)
                if older is not None:
                    self.stores.wipe(partition)
                    rows, timers = older
                    self._put(partition, rows, timers)
            case "offsets expired":
                self.log.forget_offsets()
            case "changelog lost":
                if self.orderly:  # a store that is behind cannot stand in for it
                    self.log.delete_topic("changelog")
            case "compacted":
                for p in range(PARTITIONS):
                    self._compact(p)
            case "zombie":
                self._leave_open(partition)
            case "":
                pass
        if store is not None and what != "store stale":
            self._older[partition] = dict(store._rows), list(store._timers)

    def _put(self, partition: int, rows: dict[bytes, bytes], timers: list[bytes]) -> None:
        store = MemoryStore()
        store.write([*rows.items(), *((row, b"") for row in timers)])
        self.stores._stores[partition] = store

    def _compact(self, partition: int) -> None:
        """Superseded records go; their offsets stay empty, as control records do."""
        seen: set[bytes | None] = set()
        for record in reversed(self.log.topic("changelog")[partition].read(0)[0]):
            if record.key in seen:
                record.control = True
            seen.add(record.key)

    def _leave_open(self, partition: int) -> None:
        """Somebody wrote something in this task's name and died."""

        async def write() -> None:
            writer = await self.log.open_writer(partition)
            await writer.begin()
            junk: list[Outgoing] = [(head_key(Summing.tag, b"a"), b"junk", ())]
            await writer.send("changelog", partition, junk)
            await writer.send("counts", partition, [(b"a", b"junk", ())])

        asyncio.run(write())

    # -- what came of it --------------------------------------------------------------------------------
    def outcome(self) -> Outcome:
        found = Outcome()
        for record in self._read("counts"):
            f = msgspec.json.decode(record.value or b"")
            found.counts[f["id"]] = (f["n"], f["total"], f["last"], f["nudges"], f["nudged"])
        for record in self._read("idles"):
            f = msgspec.json.decode(record.value or b"")
            found.idles[f["id"]] = (f["n"], f["total"], f["last"])
            if f["id"].startswith(PASSING.decode()):
                found.passed[f["id"]] += 1
        for record in self._read("dead-letters"):
            own, told = tuple(record.headers[:-6]), dict(record.headers[-6:])
            place = told["dlq.topic"].decode(), int(told["dlq.partition"]), int(told["dlq.offset"])
            why = told["dlq.reason"].decode()
            found.dead[why, *place, int(told["dlq.timestamp"]), record.key, record.value, own] += 1
        for record in self._read("repartition"):
            headers = dict(reversed(record.headers))  # the first of a name counts
            what: tuple[object, ...] = (headers["kind"].decode(), record.key, record.value)
            if "origin.topic" in headers:
                place = headers["origin.topic"].decode(), int(headers["origin.partition"])
                what = (*what, *place, int(headers["origin.offset"]), int(headers["origin.timestamp"]))
            found.forwards[what] += 1
        found.parts = {k: v for p in range(PARTITIONS) for k, v in self.rows(p).items() if k[:1] == b"p"}
        return found

    def _read(self, topic: str) -> list[LocalRecord]:
        return [r for partition in self.log.topic(topic) for r in partition.read(0)[0]]

    def rows(self, partition: int) -> dict[bytes, bytes]:
        """Everything that the store of a task holds and the changelog should."""
        store = self.stores._stores[partition]
        return {k: v for k, v in store._rows.items() if k[:1] in {b"p", b"s", b"m"}}

    def check(self) -> None:
        """What holds of the log and the stores after any history, once everything is processed."""
        for partition in range(PARTITIONS):
            rows = self.rows(partition)
            meta = decode_meta(rows[META])
            changelog: dict[bytes, bytes] = {}
            seqs = []
            for record in self.log.topic("changelog")[partition].read(0)[0]:
                assert record.key is not None
                if record.value is None:
                    changelog.pop(record.key, None)
                else:
                    changelog[record.key] = record.value
                if record.key == META:
                    seqs.append(decode_meta(record.value or b"").seq)
            assert changelog == rows, "the store is what its changelog says"
            assert seqs == sorted(set(seqs)), "commits are numbered one by one"
            for topic in self.topology.input_topics:
                committed = self.log._committed[topic, partition]
                assert committed == (meta.offsets[topic], str(meta.seq))
                assert not self.log.topic(topic)[partition].read(committed.offset)[0], "all is processed"
            timers = {(tag, key): due for due, tag, key in map(split_timer, self.stores._stores[partition]._timers)}
            for row, value in rows.items():
                if row[:1] == b"s" and (due := unpack_header(value)[1]):
                    assert timers[row[1:2], row[2:]] <= due, "every due time has a timer at or before it"
            for topic in ("counts", "idles"):
                revisions: dict[bytes | None, int] = {}
                for record in self.log.topic(topic)[partition].read(0)[0]:
                    revision = msgspec.json.decode(record.value or b"")["revision"]
                    assert revision > revisions.get(record.key, 0), "revisions strictly grow"
                    revisions[record.key] = revision
