"""Opening tasks: fence, ask where they stand, bring the store up to date, agree.

The order is what makes it right (semantics 7–10):

1. Open the writer of every task. That fences the previous owner and settles the transaction it left open.
2. Only then read the committed offsets, with the commit sequence number that was committed with them.
3. Replay the changelog from the store's position to its read_committed end. A store that is stale, foreign or damaged
   is wiped and rebuilt. What is found there must equal what is committed.
4. Seek and resume: the caller's part.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .commit import commit as commit_protocol
from .ports import Clock, Committed, Log, Observer, Outgoing, Probe, Record, Store, StoreDamaged, Stores
from .rows import (
    META,
    POSITION,
    Meta,
    Position,
    decode_meta,
    decode_position,
    encode_meta,
    position_after,
    timer_of_head,
)
from .task import Task
from .topology import Topology
from .work import Commit

log = logging.getLogger(__name__)

_ROWS_PER_SEED = 20_000
_ATTEMPTS_TO_AGREE = 6


class CannotOpen(Exception):
    """A task cannot be opened, and trying again would not help: an operator must decide. The text says what to do."""


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """How stores are brought up to date."""

    max_idle_ms: int = 7 * 24 * 3_600_000 // 2
    """A store not written to for longer may have missed tombstones that compaction has dropped since: half of the
    changelog's `delete.retention.ms`."""
    commit_deadline_s: float = 30.0


@dataclass(frozen=True, slots=True)
class World:
    """What opening needs besides the tasks."""

    log: Log
    stores: Stores
    clock: Clock
    observer: Observer
    probe: Probe
    settings: RecoverySettings


async def open_tasks(tasks: Sequence[Task], topology: Topology, world: World) -> None:
    """Steps 1 to 3 for these tasks, all together. After that each has a workbench and may run."""
    probe = world.probe
    partitions = [t.partition for t in tasks]
    by_partition = {t.partition: t for t in tasks}

    async def fence(task: Task) -> None:
        task.writer = await world.log.open_writer(task.partition)

    probe("open.start")
    await _together(fence(t) for t in tasks)
    probe("open.fenced")
    topics = topology.input_topics
    committed = await world.log.committed(topics, partitions)
    probe("open.offsets")
    found = await _restore(by_partition, world)
    for attempt in range(_ATTEMPTS_TO_AGREE):
        odd = [p for p in partitions if not _agree(found[p].meta(), committed[p])]
        if not odd:
            break
        # A coordinator or leader that has just moved may be behind for a moment: ask again before giving up
        await asyncio.sleep(0.25 * attempt)
        again = await world.log.committed(topics, odd)
        committed = {**committed, **again}
        found = {**found, **await _restore({p: by_partition[p] for p in odd}, world)}
    bounds = await world.log.input_bounds(topics, partitions)

    async def settle(task: Task) -> None:
        p = task.partition
        meta = await _settle(task, found[p], committed[p], bounds[p], topology, world)
        _check_bounds(p, meta, bounds[p])
        task.recovered(meta)

    await _together(settle(t) for t in tasks)
    probe("open.recovered")


async def _together(steps: Iterable[Coroutine[object, object, None]]) -> None:
    """All at once, and all of them over when this returns or raises: none goes on behind the back of whoever opens
    these tasks again."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _agree(meta: Meta | None, committed: Mapping[str, Committed | None]) -> bool:
    """Whether the changelog's last word equals what the group has committed (or one of them has nothing to say).
    Inputs that are read no more are not asked about, and do not matter."""
    offsets = {topic: c for topic, c in committed.items() if c is not None}
    if meta is None or not offsets:
        return meta is None or not offsets
    return all(
        (c := offsets.get(topic)) is not None and c.offset == offset and c.metadata == str(meta.seq)
        for topic, offset in meta.offsets.items()
        if topic in committed
    )


async def _restore(tasks: Mapping[int, Task], world: World) -> dict[int, Restorer]:
    """Step 3: brings every task's store to the end of its changelog."""
    restorers: dict[int, Restorer] = {}
    try:
        await _restore_all(tasks, world, restorers)
    except BaseException:  # an open store is a locked one
        for restorer in restorers.values():
            restorer.close()
        raise
    for partition, restorer in restorers.items():
        tasks[partition].store = restorer.store
        restorer.report(done=True)
    world.probe("open.replayed")
    return restorers


async def _restore_all(tasks: Mapping[int, Task], world: World, restorers: dict[int, Restorer]) -> None:
    async with world.log.changelog_reader(list(tasks)) as reader:
        starts, ends = {}, {}
        for partition, task in tasks.items():
            begin, end = await reader.bounds(partition)
            restorer = Restorer(partition, task.topology.changelog, world, begin, end)
            if task.store is not None:
                task.store.close()
            task.store = None
            restorers[partition] = restorer
            starts[partition], ends[partition] = restorer.open(), end
        world.probe("open.store")
        while starts:
            again: dict[int, int] = {}
            async for partition, records, position in reader.read(starts, ends):
                restorer = restorers[partition]
                if partition not in again and not restorer.apply(records, position):
                    again[partition] = restorer.restart()
                await asyncio.sleep(0)
            for partition, restorer in restorers.items():
                if partition in starts and partition not in again and (start := restorer.finish()) is not None:
                    again[partition] = start
            starts = again


class Restorer:
    """Brings one store to the end of its changelog partition."""

    def __init__(self, partition: int, changelog: str, world: World, begin: int, end: int) -> None:
        self.partition = partition
        self._changelog = changelog
        self.store: Store
        self._world = world
        self._begin, self._end = begin, end
        self._expect: Position | None = None
        self._incarnation: str | None = None
        self._stale = False
        self._replayed = 0
        self._from = begin
        self._began = time.monotonic()

    def open(self) -> int:
        """Opens the store and decides where replay starts."""
        try:
            self.store = self._world.stores.open(self.partition)
            raw = self.store.get(POSITION)
            meta = self.meta()
        except StoreDamaged as exc:
            log.warning("task %d: the store is damaged (%s); rebuilding it from the changelog", self.partition, exc)
            return self.restart()
        if raw is None:
            return self._begin
        position = decode_position(raw)
        if position.changelog != self._changelog:
            log.warning(
                "task %d: the state directory is of another deployment (changelog %s); starting without it",
                self.partition,
                position.changelog,
            )
            return self.restart()
        idle = self._world.clock.wall_ms() - position.written_at
        if not self._begin <= position.offset < self._end or idle > self._world.settings.max_idle_ms:
            self._stale = True
            return self._begin
        self._expect = position
        self._incarnation = meta.incarnation if meta else None
        self._from = position.offset
        return position.offset

    def restart(self) -> int:
        """Wipes the store and starts from the beginning."""
        self.close()
        self._world.stores.wipe(self.partition)
        self.store = self._world.stores.open(self.partition)
        self._expect = self._incarnation = None
        self._stale = False
        self._from, self._replayed = self._begin, 0
        return self._begin

    def close(self) -> None:
        store = getattr(self, "store", None)
        if store is not None:
            store.close()

    @property
    def found_nothing(self) -> bool:
        """The changelog holds not one committed record: if the store has something, it is all there is."""
        return self._from == self._begin and not self._replayed

    def apply(self, records: Sequence[Record], position: int) -> bool:
        """Writes records and where they ended; False if the store turned out to be of another changelog, or damaged."""
        if not records:
            return True
        try:
            return self._apply(records, position)
        except StoreDamaged as exc:
            log.warning("task %d: the store is damaged (%s); rebuilding it from the changelog", self.partition, exc)
            return False

    def _apply(self, records: Sequence[Record], position: int) -> bool:
        if self._stale:  # not before something else is there to rebuild it from
            log.warning("task %d: the store is stale; rebuilding it from the changelog", self.partition)
            self.restart()
        if self._expect is not None:
            first, expected = records[0], self._expect
            self._expect = None
            # A gap may only be compaction, but a changelog copied into a new topic looks the same, and replaying that
            # from here would miss what the copy has moved to smaller offsets.
            if first.offset != expected.offset or not expected.matches(first.key, first.value):
                log.warning(
                    "task %d: the changelog is not the one this store was made from, or was compacted past where it "
                    "stood; rebuilding it",
                    self.partition,
                )
                return False
        rows: list[tuple[bytes, bytes | None]] = []
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            rows.append((key, value))
            if value is not None and key[0] == _HEAD:
                timer = timer_of_head(key, value)
                if timer is not None:
                    rows.append((timer, b""))
        last = records[-1]
        written = self._world.clock.wall_ms()
        rows.append((POSITION, position_after(self._changelog, last.offset, last.key or b"", last.value, written)))
        self.store.write_bulk(rows)
        self._replayed += len(records)
        self.report(done=False, at=position)
        return True

    def finish(self) -> int | None:
        """None: done. Else where to start again: what the changelog says last belongs to another incarnation than the
        store did, or the changelog ended before anything could be compared."""
        if self._expect is not None:
            self._expect, self._stale, self._from = None, True, self._begin
            return self._begin
        try:
            if self._replayed:
                self.store.flush()  # before anything that is logged is written on top
            same = self._same_incarnation()
        except StoreDamaged as exc:
            log.warning("task %d: the store is damaged (%s); rebuilding it from the changelog", self.partition, exc)
            same = False
        return None if same else self.restart()

    def _same_incarnation(self) -> bool:
        meta = self.meta()
        return self._incarnation is None or meta is None or meta.incarnation == self._incarnation

    def meta(self) -> Meta | None:
        raw = self.store.get(META)
        return None if raw is None else decode_meta(raw)

    def report(self, *, done: bool, at: int = 0) -> None:
        total = max(0, self._end - self._from)
        seconds = time.monotonic() - self._began
        self._world.observer.recovery(self.partition, total if done else min(total, at - self._from), total, seconds)
        if done and self._replayed > 1:
            log.info("task %d: replayed %d changelog records in %.2f s", self.partition, self._replayed, seconds)


_HEAD = b"s"[0]


async def _settle(
    task: Task,
    restorer: Restorer,
    committed: Mapping[str, Committed | None],
    bounds: Mapping[str, tuple[int, int]],
    topology: Topology,
    world: World,
) -> Meta:
    """What the task starts from. Every case of semantics 10."""
    found = restorer.meta()
    offsets = {topic: c.offset for topic, c in committed.items() if c is not None}
    if found is not None and found.partitions != topology.partitions:
        raise CannotOpen(
            f"the state of task {task.partition} was made with {found.partitions} partitions, the inputs have "
            f"{topology.partitions}. The partition count of an app id is fixed for its life: use a new app id and "
            "reprocess."
        )
    if found is None and not offsets:  # never ran: from the earliest, committed at once
        begins = {topic: begin for topic, (begin, _) in bounds.items()}
        meta = _new_meta(0, begins, topology)
        return await _write(task, meta, [], topology, world)
    if found is None:
        raise CannotOpen(
            f"task {task.partition}: the group has committed {offsets}, but its changelog {topology.changelog} and its "
            "state directory hold nothing. Going on would lose every state. Bring the changelog or the state directory "
            "back; or reprocess from the beginning: stop all workers and delete the consumer group."
        )
    if offsets and not _agree(found, committed):
        raise CannotOpen(
            f"task {task.partition}: the changelog says {dict(found.offsets)} at commit {found.seq}, the group has "
            f"{ {t: (c.offset, c.metadata) for t, c in committed.items() if c} }. Were the group's offsets set by "
            "hand, or was an input made anew? Put them back, or reprocess from the beginning: stop all workers, delete "
            "group and changelog topic, create it anew."
        )
    if not offsets:
        log.warning(
            "task %d: the group's offsets are gone (expired?); going on from the changelog's: %s",
            task.partition,
            found.offsets,
        )
    store = task.store
    assert store is not None
    missing = [topic for topic in bounds if topic not in found.offsets]
    empty = restorer.found_nothing
    if missing or not offsets or empty:
        meta = _new_meta(
            found.seq, {**{t: bounds[t][0] for t in missing}, **found.offsets}, topology, found, fresh=empty
        )
        rows = _all_rows(task.partition, store) if empty else []
        if empty:
            log.warning(
                "task %d: the changelog is empty, the store is whole: writing it back (%d rows)",
                task.partition,
                len(rows),
            )
        return await _write(task, meta, rows, topology, world)
    return found


def _new_meta(
    seq: int, offsets: dict[str, int], topology: Topology, old: Meta | None = None, *, fresh: bool = True
) -> Meta:
    return Meta(
        seq=seq + 1,
        offsets=offsets,
        stream_time=old.stream_time if old else 0,
        newest=old.newest if old else {},
        partitions=topology.partitions,
        incarnation=str(uuid.uuid4()) if fresh or old is None else old.incarnation,
    )


def _all_rows(partition: int, store: Store) -> list[Outgoing]:
    """Every changelogged row of a store."""
    rows: list[Outgoing] = []
    try:
        for kind in (b"p", b"s"):
            start, stop = kind, bytes([kind[0] + 1])
            while keys := store.scan(start, stop, _ROWS_PER_SEED):
                rows.extend((key, store.get(key), ()) for key in keys)
                start = keys[-1] + b"\x00"
    except StoreDamaged as exc:
        raise CannotOpen(
            f"task {partition}: its changelog is empty and its store is damaged ({exc}). Bring one of them back from a "
            "backup; or reprocess from the beginning: stop all workers and delete the consumer group."
        ) from exc
    return rows


async def _write(task: Task, meta: Meta, rows: list[Outgoing], topology: Topology, world: World) -> Meta:
    """A commit of its own while opening: the first one, or one that sets things right."""
    assert task.writer is not None
    assert task.store is not None
    batch = Commit(meta.seq, meta, dict(meta.offsets), changelog=[*rows, (META, encode_meta(meta), ())])
    await commit_protocol(
        batch,
        topology=topology,
        partition=task.partition,
        writer=task.writer,
        store=task.store,
        clock=world.clock,
        probe=world.probe,
        deadline_s=world.settings.commit_deadline_s,
    )
    return meta


def _check_bounds(partition: int, meta: Meta, bounds: Mapping[str, tuple[int, int]]) -> None:
    for topic, offset in meta.offsets.items():
        if topic not in bounds:
            continue
        begin, end = bounds[topic]
        if not begin <= offset <= end:
            what = (
                "were deleted (retention?) before they were processed"
                if offset < begin
                else "do not exist: was the topic made anew?"
            )
            raise CannotOpen(
                f"task {partition} stands at offset {offset} of {topic}, which holds {begin} to {end}: records {what} "
                "Nothing is skipped silently. To go on from what is there, stop all workers and delete the consumer "
                "group and the changelog topic; state starts anew."
            )


__all__ = ["CannotOpen", "RecoverySettings", "World", "open_tasks"]
