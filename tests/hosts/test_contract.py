"""What holds on every host: one suite, run on the local host and on the Kafka host with a real broker.

Each promise has a test that turns red when the code breaks it; `tests/engine/mutations.md` lists what was tried.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import msgspec
import pytest

from stream_app.engine import recovery
from stream_app.engine.commit import STEPS
from stream_app.engine.ports import Committed, Fenced
from stream_app.engine.recovery import CannotOpen
from stream_app.engine.rows import META
from stream_app.engine.state import UnknownStateVersion
from stream_app.engine.task import ChainBroken
from stream_app.engine.work import Chunk
from tests.engine.bench import NEVER_MS
from tests.engine.summing import Summing, checksum
from tests.engine.watching import OPENING_STEPS, Fail, Injected, Kill, Killed
from tests.hosts.rig import INPUTS, PATIENCE_S, START_MS, Given, Rig, event

KEYS = ("a", "b", "c", "d", "e")
VISIBLE = STEPS[STEPS.index("commit.committed") :]
"""After these steps a commit is there for everyone."""


def events(n: int, start: int = 0, at: int = 0) -> list[Given]:
    return [event(i, KEYS[i % len(KEYS)], at) for i in range(start, start + n)]


async def _said(rig: Rig) -> tuple[object, ...]:
    """Everything that others can see of the worker's doings."""
    return (
        await rig.read("counts"),
        await rig.read("idles"),
        await rig.read("changelog"),
        await rig.read("repartition"),
        await rig.read("dead-letters"),
        await rig.offsets(),
    )


# -- the first start ------------------------------------------------------------------------------------


async def test_a_first_start_commits_the_earliest_offsets_at_once(rig: Rig) -> None:
    """Before anything is processed the group's offsets stand at the first record there is, with commit 1."""
    await rig.put("left", events(3), partition=0)
    await rig.delete_before("left", 0, 2)
    await rig.up(commit_interval_ms=NEVER_MS)
    await rig.running()
    begins = {("left", 0): 2}
    topics = (*INPUTS, "repartition")
    wanted = {(t, p): Committed(begins.get((t, p), 0), "1") for t in topics for p in range(rig.partitions)}
    async with asyncio.timeout(PATIENCE_S):  # the coordinator shows a transaction's offsets a little after its end
        while await rig.offsets() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for partition in range(rig.partitions):
        (meta,) = await rig.metas(partition)
        assert (meta.seq, meta.partitions, meta.stream_time) == (1, rig.partitions, 0)
        assert meta.offsets == {rig.prefix + t: begins.get((t, partition), 0) for t in topics}
        assert meta.incarnation
    await rig.crash()


async def test_every_commit_ends_in_a_meta_record_that_equals_the_committed_offsets(rig: Rig) -> None:
    """Sequence numbers grow by one; the last meta record, the offsets and their metadata agree."""
    await rig.up()
    for n in range(4):
        await rig.put("left" if n % 2 else "right", events(5, 5 * n))
        await rig.settle()
    await rig.down()
    committed = await rig.offsets()
    for partition in range(rig.partitions):
        records = [r for r in await rig.read("changelog") if r.partition == partition]
        metas = await rig.metas(partition)
        assert [m.seq for m in metas] == list(range(1, len(metas) + 1))
        assert records[-1].key == META
        assert {(t.removeprefix(rig.prefix), partition): Committed(o, str(metas[-1].seq)) for t, o in
                metas[-1].offsets.items()} == {k: v for k, v in committed.items() if k[1] == partition}  # fmt: skip


# -- crashes --------------------------------------------------------------------------------------------


async def test_a_crash_between_any_two_steps_shows_a_commit_whole_or_not_at_all(rig: Rig) -> None:
    """Outputs, changelog, forwarded records, dead letters and offsets appear together and once, wherever it dies."""
    await rig.run()
    for number, step in enumerate(STEPS):
        before = await _said(rig)
        batch = [event(10 * number, "a"), event(10 * number + 1, "a", to="b"), Given(b"{", b"a", START_MS)]
        await rig.put("left", batch, partition=rig.home("a"))
        probe = Kill(step)
        await rig.up(probe)
        await rig.until(lambda p=probe: p.dead)
        await rig.crash()
        after = await _said(rig)
        if step in VISIBLE:
            assert all(new != old for i, (new, old) in enumerate(zip(after, before, strict=True)) if i != 1), step
        else:
            assert after == before, step
        await rig.run()
    wanted = {"n": 2 * len(STEPS), "nudges": 0}
    assert {k: (await rig.last("counts"))["a"][k] for k in wanted} == wanted
    assert (await rig.last("counts"))["b"]["nudges"] == len(STEPS)
    assert len(await rig.read("dead-letters")) == len(STEPS)
    revisions = [r.fields["revision"] for r in await rig.read("counts") if r.key == b"a"]
    assert revisions == sorted(set(revisions)), "revisions strictly grow"


async def test_a_crash_while_opening_changes_nothing(rig: Rig) -> None:
    """Wherever opening dies, first time or later, the next opening finds everything as it was."""
    for step in (*OPENING_STEPS[:-1], *STEPS, OPENING_STEPS[-1]):  # the first commits are made while opening
        assert step in VISIBLE[1:] + OPENING_STEPS[-1:] or not await rig.read("changelog")
        probe = Kill(step)
        await rig.up(probe)  # the task that didn't reach the step may have made its first commit all the same
        await rig.until(lambda p=probe: p.dead or p.heard["open.recovered"])
        await rig.crash()
    await rig.put("left", events(10))
    await rig.run()
    for step in OPENING_STEPS:
        probe = Kill(step)
        await rig.up(probe)
        await rig.until(lambda p=probe: p.dead)
        await rig.crash()
    await rig.put("right", events(10, 10))
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 4)


async def test_a_crash_in_a_commit_that_only_fires_timers_fires_them_once(rig: Rig) -> None:
    """Timers are part of the commit: what they publish is there once, wherever the process dies."""
    await rig.put("left", [event(1, "a"), event(2, "xb"), event(3, "c")], partition=None)
    await rig.run()
    for step in STEPS:
        await rig.up(probe := Kill(""))
        await rig.settle()
        probe._step, probe._left = step, 1
        rig.clock.advance(700)  # due at 1,000; the stream time starts anew at the last timestamp with each life
        async with asyncio.timeout(PATIENCE_S):
            while not probe.dead and len(await rig.read("idles")) < 3:
                if rig.died is None and await rig._look():
                    rig.clock.advance(700)
        await rig.crash()
    await rig.up()
    await rig.advance(1_500)
    await rig.down()
    idles = Counter(r.key for r in await rig.read("idles"))
    assert idles == {b"a": 1, b"xb": 1, b"c": 1}


async def test_what_was_aborted_is_not_replayed(rig: Rig) -> None:
    """A store rebuilt from a changelog with aborted records in it equals one that was there all along."""
    await rig.run()
    await rig.put("left", events(10))
    for step in ("commit.sent", "commit.delivered", "commit.offsets"):
        await rig.up(probe := Kill(step))
        await rig.until(lambda p=probe: p.dead)
        await rig.crash()
    await rig.run()
    whole = rig.rows()
    rig.lose_state()
    await rig.run()
    assert rig.rows() == whole
    assert await rig.counts() == dict.fromkeys(KEYS, 2)


async def test_nothing_is_replayed_after_an_orderly_stop(rig: Rig) -> None:
    """Opening again reads one record of the changelog: the one that shows that it is the right changelog."""
    await rig.put("left", events(500))
    await rig.run()
    await rig.run()
    assert all(done <= 2 for done, _ in rig.seen.recoveries.values()), rig.seen.recoveries


# -- failures -------------------------------------------------------------------------------------------


async def test_a_newer_writer_fences_the_task_which_opens_again_if_it_is_still_its_own(rig: Rig) -> None:
    """A fenced task commits nothing more; opened again it goes on where the log stands."""
    await rig.put("left", events(10))
    await rig.up()
    await rig.settle()
    await rig.fence(0)
    await rig.put("right", events(10, 10))
    await rig.settle()
    assert set(rig.seen.aborts) == {"fenced"}
    await rig.down()
    assert await rig.counts() == dict.fromkeys(KEYS, 4)


async def test_a_worker_fenced_in_the_middle_of_a_commit_leaves_nothing_of_it(rig: Rig) -> None:
    """The zombie's open transaction is settled by the newcomer, before anyone asks where the group stands."""
    await rig.put("left", [event(1, "a")])
    await rig.run()
    await rig.put("left", [event(2, "a")])
    zombies = []

    def probe(step: str) -> None:
        if zombies or step == "commit.offsets":
            task = rig.tasks.tasks[rig.home("a")]
            zombies.append(task.writer)
            task.writer = None  # nobody closes it: it lives on while another takes over
            raise Killed

    await rig.up(probe)
    await rig.until(lambda: zombies)
    await rig.crash()
    await rig.run()
    writer = zombies[0]
    assert writer is not None
    with pytest.raises(Fenced):
        await writer.commit()
    await writer.close()
    assert await rig.counts() == {"a": 2}
    assert [r.fields["n"] for r in await rig.read("counts")] == [1, 2]


async def test_a_task_that_failed_is_opened_again_and_loses_nothing(rig: Rig) -> None:
    """Whatever fails: everything in memory is thrown away, and the others go on meanwhile."""
    await rig.put("left", events(10))
    await rig.up(Fail("commit.delivered", times=rig.partitions + 1))
    await rig.settle()
    assert set(rig.seen.aborts) <= {"error"}
    await rig.put("right", events(10, 10))
    await rig.settle()
    assert all(t.failures == 0 for t in rig.tasks.tasks.values()), "a commit that is through ends the row of failures"
    await rig.down()
    assert await rig.counts() == dict.fromkeys(KEYS, 4)


async def test_too_many_failures_in_a_row_end_the_worker(rig: Rig) -> None:
    """Its supervisor may start it anew; until then it holds nothing back and hides nothing."""
    rig.max_failures = 3

    def poison(key: bytes, _: object) -> None:
        if key == b"a":
            raise Injected("a record that nobody can fold")

    await rig.run()
    rig.processors = [Summing(on_fold=poison)]
    await rig.put("left", [event(1, "a")])
    await rig.up()
    assert isinstance(await rig.death(), Injected)
    assert len(rig.seen.aborts) == 3
    assert not await rig.read("counts")


async def test_a_gap_between_chunks_fails_the_task_and_nothing_is_lost(rig: Rig) -> None:
    """Records missing between the log and the task are noticed before anything later is committed."""
    await rig.put("left", events(10))
    await rig.up()
    await rig.settle()
    failed: list[BaseException] = []
    task = rig.tasks.tasks[0]
    task._on_failure = lambda t, exc: (failed.append(exc), rig.tasks._failed(t, exc))[0]
    topic = rig.prefix + "left"
    first = task.offsets[topic] + 1
    assert not task.feed(Chunk(topic, 0, task.epoch, first, first + 1, [], False))
    assert isinstance(failed[0], ChainBroken)
    await rig.put("left", events(10, 10))
    await rig.settle()
    await rig.down()
    assert rig.seen.aborts == ["chain"]
    assert await rig.counts() == dict.fromkeys(KEYS, 4)


async def test_a_chunk_fetched_before_the_task_was_opened_again_is_dropped(rig: Rig) -> None:
    """Chunks carry the epoch of their seek: an old one is not for this task, and no failure either."""
    await rig.up()
    await rig.settle()
    task = rig.tasks.tasks[0]
    topic = rig.prefix + "left"
    assert not task.feed(Chunk(topic, 0, task.epoch - 1, 7, 9, [], False))
    await rig.down()
    assert rig.seen.aborts == []


async def test_closing_commits_what_was_taken(rig: Rig) -> None:
    """A worker asked to stop finishes what it has gathered: no work is done twice for an orderly stop."""
    await rig.up(commit_interval_ms=NEVER_MS)
    await rig.running()
    await rig.put("left", [event(n, "a") for n in range(20)])
    task = rig.tasks.tasks[rig.home("a")]
    await rig.until(lambda: task.backlog(rig.prefix + "left") == 20)
    await rig.down()
    assert await rig.counts() == {"a": 20}
    await rig.run()
    assert len(await rig.read("counts")) == 1


# -- what an operator must decide -----------------------------------------------------------------------


async def test_another_partition_count_is_refused(rig: Rig) -> None:
    """The partition count of an app id is fixed for its life (semantics 17)."""
    await rig.put("left", events(10))
    await rig.run()
    await rig.grow(3)
    await rig.up()
    error = await rig.death()
    assert isinstance(error, CannotOpen)
    assert "was made with 2 partitions, the inputs have 3" in str(error)
    assert "use a new app id" in str(error)


async def test_offsets_without_any_state_are_refused(rig: Rig) -> None:
    """Changelog and state directory both gone while the group stands somewhere: going on would lose every state."""
    await rig.put("left", events(10))
    await rig.run()
    await rig.recreate("changelog")
    rig.lose_state()
    await rig.up()
    error = await rig.death()
    assert isinstance(error, CannotOpen)
    assert "hold nothing" in str(error)
    assert len(await rig.read("counts")) == len(KEYS)


async def test_records_deleted_before_they_were_processed_are_an_error(rig: Rig) -> None:
    """Nothing is skipped silently (semantics 10)."""
    await rig.put("left", events(3), partition=0)
    await rig.run()
    await rig.put("left", events(3), partition=0)
    await rig.delete_before("left", 0, 5)
    await rig.up()
    error = await rig.death()
    assert isinstance(error, CannotOpen)
    assert f"stands at offset 3 of {rig.prefix}left, which holds 5 to 6" in str(error)
    assert "retention" in str(error)


async def test_an_input_made_anew_is_an_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records would be skipped up to the old position, or read as if they were others."""
    monkeypatch.setattr(recovery, "_ATTEMPTS_TO_AGREE", 2)
    await rig.put("left", events(3), partition=0)
    await rig.run()
    await rig.recreate("left")
    await rig.put("left", events(1), partition=0)
    await rig.up()
    error = await rig.death()
    assert isinstance(error, CannotOpen)
    assert "made anew" in str(error)


@pytest.mark.parametrize("offset", [1, 3])
async def test_offsets_set_by_hand_are_an_error(rig: Rig, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state already holds these events: processing them again would count them twice. Where the offset is right by
    chance, the commit's number is missing."""
    monkeypatch.setattr(recovery, "_ATTEMPTS_TO_AGREE", 2)
    await rig.put("left", events(3), partition=0)
    await rig.run()
    await rig.set_offset("left", 0, offset)
    await rig.up()
    error = await rig.death()
    assert isinstance(error, CannotOpen)
    assert "set by hand" in str(error)


async def test_a_state_of_an_unknown_version_stops_the_task_and_wipes_nothing(rig: Rig) -> None:
    """A program that is too old names the version; the right program finds everything as it was (semantics 14)."""
    rig.processors = [Summing(state_version=4)]
    await rig.put("left", events(5))
    await rig.run()
    rows = rig.rows()
    rig.processors = [Summing(state_version=2)]
    await rig.put("left", events(5, 5))
    await rig.up()
    error = await rig.death()
    assert isinstance(error, UnknownStateVersion)
    assert "summing has version 4; this program reads 1 and 2" in str(error)
    assert rig.rows() == rows
    rig.processors = [Summing(state_version=5)]
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 2)


# -- what recovers by itself ----------------------------------------------------------------------------


async def test_expired_group_offsets_are_taken_from_the_changelog(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is processed again, nothing is lost; the log warns (semantics 10)."""
    await rig.put("left", events(10))
    await rig.run()
    await rig.forget_offsets()
    await rig.put("right", events(5, 10))
    with caplog.at_level(logging.WARNING):
        await rig.run()
    assert "expired?" in caplog.text
    assert await rig.counts() == dict.fromkeys(KEYS, 3)
    assert all(c is not None and c.offset >= 0 for c in (await rig.offsets()).values())


async def test_a_lost_state_directory_is_rebuilt_from_the_changelog(rig: Rig) -> None:
    """Every row, every timer."""
    await rig.put("left", events(10))
    await rig.run()
    rows = rig.rows()
    rig.lose_state()
    await rig.up()
    await rig.settle()
    await rig.down()
    assert rig.rows() == rows
    await rig.put("left", events(5, 10))
    await rig.up()
    await rig.advance(1_500)
    await rig.down()
    assert await rig.counts() == dict.fromkeys(KEYS, 3)
    assert {r.key: r.fields["n"] for r in await rig.read("idles")} == {k.encode(): 3 for k in KEYS}


async def test_a_lost_changelog_is_written_back_from_whole_stores(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """After that the changelog is enough again to rebuild everything."""
    await rig.put("left", events(10))
    await rig.run()
    rows = rig.rows()
    old = {m.incarnation for p in range(rig.partitions) for m in await rig.metas(p)}
    await rig.recreate("changelog")
    with caplog.at_level(logging.WARNING):
        await rig.run()
    assert "writing it back" in caplog.text
    new = {m.incarnation for p in range(rig.partitions) for m in await rig.metas(p)}
    assert len(new) == rig.partitions
    assert not new & old
    rig.lose_state()
    await rig.put("right", events(5, 10))
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 3)
    heads = {k for part in rig.rows().values() for k in part}
    assert heads >= {k for part in rows.values() for k in part}


async def test_an_older_store_is_brought_up_to_date(rig: Rig) -> None:
    """A store from a backup, or of a worker that had the task once, replays what it missed."""
    await rig.put("left", events(10))
    await rig.run()
    saved = rig.save_state()
    await rig.put("left", events(10, 10))
    await rig.run()
    rows = rig.rows()
    rig.put_state(saved)
    await rig.run()
    assert rig.rows() == rows
    assert await rig.counts() == dict.fromkeys(KEYS, 4)


async def test_a_store_that_lay_idle_too_long_is_rebuilt(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """It may have missed tombstones that compaction has dropped since (semantics 9)."""
    await rig.put("left", events(5))
    await rig.run()
    rows = rig.rows()
    rig.clock.advance(7 * 24 * 3_600_000 // 2 + 1)
    with caplog.at_level(logging.WARNING):
        await rig.up()
        await rig.running()
        await rig.crash()
    assert caplog.text.count("the store is stale") == rig.partitions
    assert rig.rows() == rows


async def test_a_store_of_another_incarnation_is_rebuilt(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The changelog was deleted with the group and the app began anew: an old store must not be mixed into it."""
    await rig.put("left", events(20))
    await rig.run()
    saved = rig.save_state()
    await rig.forget_offsets()
    await rig.recreate("changelog")
    rig.lose_state()
    for topic in INPUTS:
        await rig.recreate(topic)
    await rig.put("right", events(40, 100))
    await rig.run()
    rows = rig.rows()
    rig.put_state(saved)
    with caplog.at_level(logging.WARNING):
        await rig.run()
    assert "rebuilding" in caplog.text
    assert rig.rows() == rows
    assert await rig.counts() == dict.fromkeys(KEYS, 8)


async def test_a_damaged_store_is_rebuilt(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What RocksDB refuses to open is wiped, and replayed from the changelog."""
    await rig.put("left", events(10))
    await rig.run()
    rows = rig.rows()
    for partition in range(rig.partitions):
        (manifest,) = (rig.state / str(partition)).glob("MANIFEST-*")
        manifest.write_bytes(b"\xff" * manifest.stat().st_size)
    await rig.put("right", events(5, 10))
    with caplog.at_level(logging.WARNING):
        await rig.run()
    assert "damaged" in caplog.text
    assert await rig.counts() == dict.fromkeys(KEYS, 3)
    assert {k for part in rig.rows().values() for k in part} >= {k for part in rows.values() for k in part}


async def test_a_new_input_begins_at_its_earliest_record(rig: Rig) -> None:
    """A topology may grow by an input: what the group has of the others stays."""

    class OnlyLeft(Summing):
        inputs = ("left",)

    rig.processors = [OnlyLeft()]
    await rig.put("left", events(5))
    await rig.put("right", events(5, 5))
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 1)
    rig.processors = [Summing()]
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 2)


async def test_an_input_may_go(rig: Rig) -> None:
    """A topology that no longer reads an input goes on with the others."""

    class OnlyLeft(Summing):
        inputs = ("left",)

    await rig.put("left", events(5))
    await rig.put("right", events(5, 5))
    await rig.run()
    rig.processors = [OnlyLeft()]
    await rig.put("left", events(5, 10))
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 3)


# -- records --------------------------------------------------------------------------------------------


async def test_records_in_the_wrong_partition_reach_their_owner(rig: Rig) -> None:
    """Whatever partitioner a tracker uses, one client is one state; who forwards says where from (semantics 16)."""
    wrong = [event(n, key, at=n) for n, key in enumerate(KEYS)]
    for record in wrong:
        await rig.put("left", [record], partition=1 - rig.home(record.key.decode()))
    await rig.put("right", events(5, 5))
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 2)
    assert rig.seen.misplaced_records == len(KEYS)
    assert all(r.partition == rig.home(r.key.decode()) for r in await rig.read("counts"))
    forwarded = await rig.read("repartition")
    assert sorted(r.value for r in forwarded) == sorted(r.value for r in wrong)
    for record in forwarded:
        headers = dict(record.headers)
        assert record.partition == rig.home(record.key.decode())
        assert headers["kind"] == b"misplaced:left"
        assert headers["origin.topic"] == (rig.prefix + "left").encode()
        assert headers["origin.partition"] == b"%d" % (1 - record.partition)
        assert headers["origin.timestamp"] == b"%d" % (START_MS + int(record.fields["id"][1:]))
    assert {f["last"] for f in (await rig.last("counts")).values()} >= {START_MS + n for n in range(len(KEYS))}


async def test_a_forwarded_record_is_taken_wherever_it_arrives(rig: Rig) -> None:
    """It is never forwarded twice: two workers of different minds would send it to and fro for ever."""
    wrong = 1 - rig.home("a")
    record = event(1, "a")
    await rig.put("repartition", [Given(record.value, b"a", START_MS, (("kind", b"misplaced:left"),))], wrong)
    await rig.run()
    assert [(r.partition, r.fields["n"]) for r in await rig.read("counts")] == [(wrong, 1)]
    assert len(await rig.read("repartition")) == 1


async def test_records_without_a_key_take_it_from_their_value(rig: Rig) -> None:
    """A null key counts as misplaced unless it happens to lie right."""
    for n, key in enumerate(KEYS):
        await rig.put("left", [event(n, key, keyed=False)], partition=n % 2)
    await rig.run()
    assert await rig.counts() == dict.fromkeys(KEYS, 1)
    assert rig.seen.misplaced_records == sum(rig.home(key) != n % 2 for n, key in enumerate(KEYS))


async def test_what_processors_send_each_other_arrives_once(rig: Rig) -> None:
    """Re-keyed records travel through the repartition topic in the same transaction."""
    await rig.put("left", [event(n, "a", to=KEYS[n % len(KEYS)]) for n in range(10)])
    await rig.run()
    last = await rig.last("counts")
    for number, key in enumerate(KEYS):
        assert last[key]["nudges"] == 2
        assert last[key]["nudged"] == checksum(f"e{number}") + checksum(f"e{number + 5}")


async def test_what_cannot_be_used_becomes_a_dead_letter_byte_for_byte(rig: Rig) -> None:
    """Key, value and headers as they came, with what is wrong and where it lay; the good ones around it count."""
    headers = (("tracker", b"\xff\x00"), ("tracker", b""), ("dlq.reason", b"mine"))
    bad = {
        "bad_json": [Given(b"\xff\xfe{", b"a", START_MS + 1, headers), Given(None, b"a", START_MS + 2)],
        "key_mismatch": [Given(event(1, "b").value, b"a", START_MS + 3, headers)],
        "too_large": [Given(b'{"id":"' + b"x" * 40_000 + b'","key":"a"}', b"a", START_MS + 4)],
        "too_late": [event(2, "a", 5, reject=True), event(3, "a", 6, reject=True, keyed=False)],
    }
    await rig.put("left", [event(10, "a")], partition=rig.home("a"))
    for records in bad.values():
        await rig.put("left", records, partition=rig.home("a"))
    await rig.put("left", [event(11, "a")], partition=rig.home("a"))
    await rig.run(max_record_bytes=30_000)
    assert await rig.counts() == {"a": 2}
    letters = await rig.read("dead-letters")
    ours = [dict(r.headers[-6:]) for r in letters]
    assert Counter(h["dlq.reason"].decode() for h in ours) == {k: len(v) for k, v in bad.items()} == rig.seen.reasons
    wanted = [r for records in bad.values() for r in records]
    place = lambda h: int(h["dlq.offset"]) - 1  # noqa: E731
    for letter, told in zip(letters, ours, strict=True):
        given = wanted[place(told)]
        assert (letter.key, letter.value) == (given.key, given.value)
        assert letter.headers[:-6] == tuple(given.headers)
        assert told["dlq.topic"] == (rig.prefix + "left").encode()
        assert told["dlq.partition"] == b"%d" % rig.home("a")
        assert told["dlq.timestamp"] == b"%d" % given.timestamp
        assert told["dlq.detail"]


async def test_a_dead_letter_of_a_forwarded_record_tells_of_the_record_it_was(rig: Rig) -> None:
    """Its origin, its missing key and its own headers, even such as bear the names of ours."""
    headers = (("kind", b"mine"), ("origin.offset", b"99"), ("x", b"1"))
    record = event(1, "a", 7, keyed=False, reject=True)
    wrong = 1 - rig.home("a")
    await rig.put("left", [event(0, "b")], partition=wrong)
    await rig.put("left", [Given(record.value, None, record.timestamp, headers)], partition=wrong)
    await rig.run()
    (letter,) = await rig.read("dead-letters")
    assert (letter.key, letter.value, letter.headers[:3]) == (None, record.value, headers)
    assert dict(letter.headers[3:]) == {
        "dlq.reason": b"too_late",
        "dlq.detail": b"as the event asks",
        "dlq.topic": (rig.prefix + "left").encode(),
        "dlq.partition": b"%d" % wrong,
        "dlq.offset": b"1",
        "dlq.timestamp": b"%d" % (START_MS + 7),
    }


async def test_records_larger_than_a_batch_of_the_producer_go_through(rig: Rig) -> None:
    """A dead letter may be larger than any batch, and a commit may need several batches for one partition."""
    huge = Given(b"x" * (3 << 20), b"a", START_MS)
    await rig.put("left", [huge], partition=rig.home("a"))
    await rig.put("left", [Given(b"y" * 700_000, b"a", START_MS) for _ in range(5)], partition=rig.home("a"))
    await rig.put("left", [event(1, "a")])
    await rig.run(max_record_bytes=1 << 20)
    letters = await rig.read("dead-letters")
    assert [r.value for r in letters] == [huge.value] + [b"y" * 700_000] * 5
    await rig.run()
    assert await rig.counts() == {"a": 1}


async def test_a_commit_of_many_states_is_recovered_whole(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Several batches to the changelog in one transaction: the last offset is that of the meta record."""
    n = 6_000
    await rig.put("left", [event(i, f"{'k' * 300}{i}") for i in range(n)])
    with caplog.at_level(logging.WARNING):
        await rig.run(commit_records=n)
        rows = rig.rows()
        await rig.run()
    assert "rebuilding" not in caplog.text
    assert all(done <= 2 for done, _ in rig.seen.recoveries.values())
    rig.lose_state()
    await rig.run()
    assert rig.rows() == rows
    assert sum(len(part) for part in rows.values()) == 2 * n


# -- time -----------------------------------------------------------------------------------------------


async def test_the_stream_time_is_kept_and_only_grows(rig: Rig) -> None:
    """A worker started again stands where it stood; an older record doesn't turn time back (semantics 3)."""
    await rig.put("left", [event(1, "a", 10_000)])
    await rig.up()
    await rig.advance(500)
    await rig.put("left", [event(2, "a", 10_000)])
    await rig.settle()
    home = rig.home("a")
    assert (await rig.metas(home))[-1].stream_time == START_MS + 10_500
    await rig.down()
    await rig.put("right", [event(3, "a", 100)])
    await rig.up()
    await rig.settle()
    assert rig.tasks.tasks[home].bench.time.value >= START_MS + 10_500
    await rig.down()
    times = [m.stream_time for m in await rig.metas(home)]
    assert times == sorted(times)


async def test_bad_records_and_records_from_elsewhere_never_move_time(rig: Rig) -> None:
    """Neither a dead letter nor a forwarded record has a say in the stream time."""
    home = rig.home("a")
    await rig.put("left", [event(1, "a", 100)], partition=home)
    await rig.put("left", [Given(b"{", b"a", START_MS + 90_000)], partition=home)
    await rig.put("right", [event(2, "a", 80_000)], partition=1 - home)
    await rig.up()
    await rig.settle()
    assert rig.tasks.tasks[home].bench.time.value == START_MS + 100
    assert rig.tasks.tasks[1 - home].bench.time.value == START_MS + 80_000
    await rig.down()
    assert (await rig.last("counts"))["a"]["last"] == START_MS + 80_000, "but the event keeps its own time"


async def test_a_replayed_record_has_the_time_it_had(rig: Rig) -> None:
    """A dead letter sent back tells its first timestamp in a header; nonsense there is ignored, never a way ahead."""
    ahead = b"%d" % (START_MS + 3_600_000)
    for number, told in enumerate((b"%d" % (START_MS - 5_000), b"soon", b"9" * 5_000, ahead)):
        record = event(number, KEYS[number])
        headers = (("replay.timestamp", told),)
        await rig.put("left", [Given(record.value, record.key, record.timestamp, headers)])
        await rig.put("left", [Given(event(10 + number, "e").value, b"e", START_MS, headers)], 1 - rig.home("e"))
    await rig.up()
    await rig.settle()
    assert all(t.bench.time.value <= START_MS for t in rig.tasks.tasks.values())
    await rig.down()
    last = await rig.last("counts")
    assert [last[key]["last"] - START_MS for key in KEYS] == [-5_000, 0, 0, 0, 0]
    assert last["e"]["n"] == 4


async def test_an_input_far_ahead_waits_for_the_others(rig: Rig) -> None:
    """One input may be a minute ahead of the slowest that has something left, no more; all of it is read in the end."""
    home = rig.home("a")
    await rig.put("left", [event(n, "a", n * 30_000) for n in range(20)], partition=home)
    await rig.put("right", [event(100 + n, "a", n * 30_000) for n in range(20)], partition=home)
    await rig.up(commit_records=1)
    await rig.settle()
    task = rig.tasks.tasks[home]
    assert task.wants(rig.prefix + "left")
    await rig.down()
    assert await rig.counts() == {"a": 40}
    assert (await rig.metas(home))[-1].stream_time == START_MS + 19 * 30_000


async def test_timers_survive_a_lost_state_directory(rig: Rig) -> None:
    """Timers are not in the changelog: they are rebuilt from the states, and none is lost or fires twice."""
    await rig.put("left", [event(n, f"k{n}", 10 * n) for n in range(50)])
    await rig.run()
    rig.lose_state()
    await rig.up()
    await rig.advance(3_000)
    await rig.down()
    assert Counter(r.fields["id"] for r in await rig.read("idles")) == {f"k{n}": 1 for n in range(50)}


async def test_a_forgotten_key_leaves_nothing(rig: Rig) -> None:
    """A timer that deletes writes tombstones for the state and its rows, in the changelog too."""
    await rig.put("left", [event(1, "x1"), event(2, "x2"), event(3, "a")])
    await rig.up()
    await rig.advance(1_500)
    await rig.advance(8_000)
    await rig.down()
    assert {k[2:3] for part in rig.rows().values() for k in part} == {b"a"}
    rig.lose_state()
    await rig.run()
    assert {k[2:3] for part in rig.rows().values() for k in part} == {b"a"}
    await rig.put("left", [event(4, "x1")])
    await rig.run()
    assert (await rig.last("counts"))["x1"]["n"] == 1


async def test_a_small_cache_gives_the_same_answers(rig: Rig) -> None:
    """With room for two states nearly all come from the store again and again."""
    for n in range(10):
        await rig.put("left" if n % 2 else "right", [event(n * 20 + i, f"k{i}") for i in range(20)])
    await rig.run(cache_entries=2, commit_records=5)
    last = await rig.last("counts")
    assert {k: (f["n"], f["total"]) for k, f in last.items()} == {
        f"k{i}": (10, sum(checksum(f"e{n * 20 + i}") for n in range(10))) for i in range(20)
    }
    for part in rig.rows().values():
        counted: Counter[bytes] = Counter()
        for row, value in part.items():
            if row[:1] == b"p":
                counted[row[2:-4]] += int(value)
        assert set(counted.values()) == {10}


def test_the_events_of_this_suite_are_what_they_seem() -> None:
    """A guard against a suite that proves nothing: the keys live in both partitions."""
    from stream_app.engine.partitioning import partition_of

    assert {partition_of(k.encode(), 2) for k in KEYS} == {0, 1}
    assert msgspec.json.decode(event(1, "a").value)["id"] == "e1"
