"""The engine, broken on purpose: what the chaos tests must notice. `python -m tests.chaos.mutations [NAME …]` runs them
all and prints what each led to; a worker process is told by its spec which ones to apply."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_app.engine import recovery, task
from stream_app.engine.rows import META, POSITION, position_after
from stream_app.engine.state import KeyedStates
from stream_app.engine.work import Chunk, Commit
from stream_app.hosts.kafka import intake, log

if TYPE_CHECKING:
    from tests.chaos.oracle import Verdict

Expect = str
"""`red`: the oracle or the engine itself must notice. `absorbed`: something else in the design makes up for it."""


class Mutation(NamedTuple):
    """One way to break it."""

    apply: Callable[[], None]
    scenario: str
    expect: Expect
    text: str


def _commit_with(**flags: bool) -> Callable[[], None]:
    def apply() -> None:
        async def broken(batch: Commit, **given: Any) -> int:
            return await _broken_commit(batch, **given, **flags)

        task.commit_protocol = broken

    return apply


async def _broken_commit(  # the protocol with its flaws, in one piece so that it can be compared
    batch: Commit,
    *,
    topology: Any,
    partition: int,
    writer: Any,
    store: Any,
    clock: Any,
    probe: Any,
    deadline_s: float,
    early_store: bool = False,
    no_timer_offsets: bool = False,
    meta_first: bool = False,
    unawaited: bool = False,
    lost_timers: bool = False,
) -> int:
    changelog = list(batch.changelog)
    if meta_first:
        changelog.insert(0, changelog.pop())
    meta = next(row for row in changelog if row[0] == META)
    rows: list[tuple[bytes, bytes | None]] = [(key, value) for key, value, _ in changelog if key and key != META]
    if not lost_timers:
        rows.extend(batch.timers.items())
    probe("commit.built")
    async with asyncio.timeout(deadline_s):
        await writer.begin()
        probe("commit.begun")
        if early_store:
            store.write(rows)
        for topic, records in batch.outputs.items():
            await writer.send(topology.topics[topic], partition, records)
        for target, records in batch.forwards.items():
            await writer.send(topology.repartition, target, records)
        if batch.dead_letters:
            await writer.send(topology.dead_letters, partition, batch.dead_letters)
        await writer.send(topology.changelog, partition, changelog)
        probe("commit.sent")
        delivered = None if unawaited else await writer.flush()
        probe("commit.delivered")
        if batch.records or not no_timer_offsets:
            await writer.send_offsets(batch.offsets, str(batch.seq))
        probe("commit.offsets")
        await writer.commit()
        if delivered is None:
            delivered = await writer.flush()
    probe("commit.committed")
    last = delivered[topology.changelog, partition]
    rows.append((META, meta[1]))
    rows.append((POSITION, position_after(topology.changelog, last, META, meta[1], clock.wall_ms())))
    store.write(rows)
    probe("commit.stored")
    return 0


def _keep_cache() -> None:
    kept: dict[int, dict[str, Any]] = {}
    recovered = task.Task.recovered

    def patched(self: Any, meta: Any) -> None:
        recovered(self, meta)
        for name, young in kept.get(self.partition, {}).items():
            self.bench.states[name].young = young
        kept[self.partition] = {name: states.young for name, states in self.bench.states.items()}

    task.Task.recovered = patched  # type: ignore[method-assign]


def _own_ids() -> None:
    right = log.AIOKafkaProducer

    def producer(**options: Any) -> Any:
        return right(**{**options, "transactional_id": f"{options['transactional_id']}-{uuid.uuid4()}"})

    log.AIOKafkaProducer = producer


class _Late:
    """A writer that is opened, and so fences, at its first transaction only."""

    def __init__(self, open_writer: Callable[[], Any]) -> None:
        self._open = open_writer
        self._writer: Any = None

    async def begin(self) -> None:
        if self._writer is None:
            self._writer = await self._open()
        await self._writer.begin()

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def _fence_last() -> None:
    open_writer = log.KafkaLog.open_writer

    async def late(self: Any, partition: int) -> Any:
        return _Late(lambda: open_writer(self, partition))

    log.KafkaLog.open_writer = late  # type: ignore[method-assign]


def _offsets_first() -> None:
    """The offsets are asked for before the fencing, and the first answer is kept for the second question."""
    open_tasks = recovery.open_tasks
    committed = log.KafkaLog.committed

    async def early(tasks: Any, topology: Any, world: Any) -> None:
        first = await committed(world.log, topology.input_topics, [t.partition for t in tasks])
        asked = 0

        async def answer(self: Any, topics: Sequence[str], partitions: Sequence[int]) -> Any:
            nonlocal asked
            asked += 1
            return first if asked == 1 else await committed(self, topics, partitions)

        log.KafkaLog.committed = answer  # type: ignore[method-assign]
        try:
            await open_tasks(tasks, topology, world)
        finally:
            log.KafkaLog.committed = committed  # type: ignore[method-assign]

    from stream_app.engine import tasks as module

    module.open_tasks = early


def _no_replay() -> None:
    async def read(self: Any, starts: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[Any]:
        for nothing in ():
            yield nothing

    log.KafkaChangelogReader.read = read  # type: ignore[method-assign]
    recovery.Restorer.finish = lambda self: None  # type: ignore[method-assign]


def _no_agreement() -> None:
    """Whatever the changelog says, the committed offsets are believed."""
    settle = recovery._settle
    recovery._agree = lambda meta, committed: True

    async def believing(task_: Any, restorer: Any, committed: Any, *rest: Any) -> Any:
        meta = await settle(task_, restorer, committed, *rest)
        offsets = {topic: c.offset for topic, c in committed.items() if c is not None}
        seq = max([meta.seq, *(int(c.metadata or 0) for c in committed.values() if c is not None)])
        return type(meta)(
            seq, {**meta.offsets, **offsets}, meta.stream_time, meta.newest, meta.partitions, meta.incarnation
        )

    recovery._settle = believing


def _drop_chunks() -> None:
    feed = intake.KafkaIntake.feed

    def dropping(self: Any, chunk: Chunk) -> None:
        if random.random() < 0.01:
            self._under_way[log.TopicPartition(chunk.topic, chunk.partition)] -= 1
            return
        feed(self, chunk)

    intake.KafkaIntake.feed = dropping  # type: ignore[method-assign]


def _no_chain() -> None:
    feed = task.Task.feed

    def trusting(self: Any, chunk: Chunk) -> bool:
        if self.phase is task.Phase.RUNNING and chunk.epoch == self.epoch:
            self._taken[chunk.topic] = chunk.first
        return feed(self, chunk)

    task.Task.feed = trusting  # type: ignore[method-assign]


def _evict_dirty() -> None:
    def landed(self: Any) -> None:
        if len(self.young) > self._capacity:
            self._old, self.young = {}, {}

    KeyedStates.landed = landed  # type: ignore[method-assign]


def _dirty(module: Any) -> Callable[[], None]:
    def apply() -> None:
        right = module.AIOKafkaConsumer

        def consumer(*topics: str, **options: Any) -> Any:
            if "isolation_level" in options:
                options["isolation_level"] = "read_uncommitted"
            return right(*topics, **options)

        module.AIOKafkaConsumer = consumer

    return apply


def _both(*parts: Callable[[], None]) -> Callable[[], None]:
    def apply() -> None:
        for part in parts:
            part()

    return apply


MUTATIONS: dict[str, Mutation] = {
    "none": Mutation(lambda: None, "random", "absorbed", "nothing broken: the scenario by itself"),
    "none-race": Mutation(lambda: None, "race", "absorbed", "nothing broken: the zombie's race by itself"),
    "none-early-race": Mutation(lambda: None, "early_race", "absorbed", "nothing broken: the race before the fencing"),
    "store-before-commit": Mutation(
        _commit_with(early_store=True), "random", "red", "state is written to RocksDB before the commit"
    ),
    "cache-kept": Mutation(_keep_cache, "random", "red", "the cache survives a failed commit"),
    "own-transactional-ids": Mutation(_own_ids, "race", "red", "each opening takes a transactional id of its own"),
    "fence-last": Mutation(_fence_last, "race", "red", "InitProducerId after offsets and changelog are read"),
    "offsets-first": Mutation(
        _offsets_first, "early_race", "absorbed", "offsets are read before InitProducerId (the changelog after it)"
    ),
    "offsets-first-no-agreement": Mutation(
        _both(_offsets_first, _no_agreement), "early_race", "red", "… and nobody compares them with the changelog"
    ),
    "no-replay": Mutation(_no_replay, "random", "red", "a store that is behind is taken as it is"),
    "no-replay-no-agreement": Mutation(
        _both(_no_replay, _no_agreement), "random", "red", "… and nobody compares it with the committed offsets"
    ),
    "chunk-dropped": Mutation(_drop_chunks, "random", "absorbed", "one fetched chunk in a hundred is lost"),
    "chunk-dropped-no-chain": Mutation(
        _both(_drop_chunks, _no_chain), "random", "red", "… and chunks are not checked to follow one another"
    ),
    "no-offsets-with-timers": Mutation(
        _commit_with(no_timer_offsets=True), "random", "red", "commits that only fire timers send no offsets"
    ),
    "meta-first": Mutation(
        _commit_with(meta_first=True), "random", "absorbed", "the meta record comes first in the changelog, not last"
    ),
    "timers-lost": Mutation(_commit_with(lost_timers=True), "random", "red", "timer rows are not written"),
    "deliveries-unawaited": Mutation(
        _commit_with(unawaited=True), "random", "absorbed", "nobody waits for deliveries before the commit"
    ),
    "changed-states-evicted": Mutation(
        _evict_dirty, "random", "red", "the cache drops states that are not in the store yet"
    ),
    "dirty-input": Mutation(_dirty(intake), "random", "red", "inputs are read uncommitted"),
    "dirty-changelog": Mutation(_dirty(log), "random", "red", "the changelog is replayed uncommitted"),
}


def apply(name: str) -> None:
    """In a worker process, before it starts."""
    MUTATIONS[name].apply()


# --- running them --------------------------------------------------------------------------------------------------


def outcome(name: str, bootstrap: str, directory: Path, seed: int, scenario: str = "") -> tuple[str, str]:
    """(`red` or `green`, what was seen) of one mutation in its scenario, or in another one."""
    from tests.chaos import scenarios
    from tests.chaos.arena import Arena, NotInTime
    from tests.chaos.oracle import check

    mutation = MUTATIONS[name]
    prefix = f"m{uuid.uuid4().hex[:8]}."
    scenario = scenario or mutation.scenario
    late = {"commit_deadline_s": 60, "transaction_timeout_ms": 90_000} if scenario.endswith("race") else {}
    broken = [] if name.startswith("none") else [name]
    with Arena(bootstrap, directory, prefix, seed, mutations=broken, max_failures=10, **late) as field:
        try:
            getattr(scenarios, f"mutated_{scenario}")(field)
            verdict = field.verdict(30, timers_s=8)
        except (NotInTime, AssertionError) as error:
            said = [m.said(r"cannot go on: (.{0,120})") for m in field.members.values()]
            why = next((f"refused: {texts[0]} …" for texts in said if texts), f"stuck: {str(error).splitlines()[0]}")
            return "red", "; ".join(filter(None, (why, _wrong(check(field.spec)))))
    if verdict.green:
        rebuilt = sum(m.all_said().count("rebuilding it") for m in field.members.values())
        broken_chains = sum(m.all_said().count("ChainBroken") for m in field.members.values())
        return "green", f"{rebuilt} stores rebuilt, {broken_chains} broken chains seen"
    return "red", _wrong(verdict)


def _wrong(verdict: Verdict) -> str:
    return ", ".join(f"{what}: {n}" for what, n in verdict.wrong.most_common(4))


def main() -> int:
    from stream_app.devtools.broker import Broker

    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MUTATIONS, []], help="which; default: all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    wrong = 0
    with Broker.start(say=lambda text: print(text, file=sys.stderr)) as broker:
        print(f"seed {options.seed}\n\n| mutation | what is broken | expected | seen |\n|---|---|---|---|", flush=True)
        for name in options.names or MUTATIONS:
            mutation = MUTATIONS[name]
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as directory:
                colour, seen = outcome(name, broker.bootstrap, Path(directory), options.seed)
            good = (colour == "red") == (mutation.expect == "red")
            wrong += not good
            print(f"| {name} | {mutation.text} | {mutation.expect} | {colour}: {seen} |", flush=True)
            print(
                f"{name}: {time.monotonic() - began:.0f} s{'' if good else ' UNEXPECTED'}", file=sys.stderr, flush=True
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
