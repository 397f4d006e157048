"""Tasks from assignment to revocation: opening, feeding, failing, closing; one path for every failure."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from stream_app.engine.ports import Fenced, StoreDamaged
from stream_app.engine.recovery import CannotOpen
from stream_app.engine.rows import timer_key
from stream_app.engine.task import Phase, next_turn
from stream_app.engine.tasks import cause_of
from stream_app.engine.work import TIMERS_PER_COMMIT, Chunk
from stream_app.hosts.local.log import LocalLog
from tests.engine.bench import NEVER_MS, START_MS, Bench, until
from tests.engine.watching import Fail, Injected

# -- assignment -----------------------------------------------------------------------------------------


async def test_assigned_tasks_are_sought_and_fed_once_they_are_open(bench: Bench) -> None:
    """Not before: what is fetched earlier belongs to nobody."""
    tasks = bench.make()
    bench.log.topic("left")[1].append(START_MS, b"x", b"{}")
    bench.log.topic("left")[1].delete_before(1)
    await tasks.assign([0, 1])
    assert not bench.group.fed
    await bench.running(0, 1)
    assert {(p, o["left"]) for p, o, _ in bench.group.sought} == {(0, 0), (1, 1)}
    assert len({epoch for _, _, epoch in bench.group.sought}) == 1
    assert bench.group.fed == {0, 1}


async def test_offsets_are_asked_for_only_once_the_previous_owner_is_fenced(bench: Bench) -> None:
    """Or it could still commit what the newcomer would then do again."""
    zombie = await bench.log.open_writer(0)
    await zombie.begin()
    await zombie.send_offsets({"left": 1}, "1")
    asked, fenced = bench.log.committed, []

    async def committed(*given: Any) -> Any:
        answer = await asked(*given)
        with pytest.raises(Fenced):
            await zombie.commit()
        fenced.append(True)
        return answer

    bench.log.committed = committed  # type: ignore[method-assign]
    await bench.make().assign([0])
    await bench.running(0)
    assert fenced


async def test_a_new_assignment_closes_what_was_there_and_opens_everything_anew(bench: Bench) -> None:
    """With a new epoch, so that nothing fetched before is taken."""
    tasks = bench.make()
    await tasks.assign([0, 1])
    old = await bench.running(0, 1)
    await tasks.assign([0])
    new = await bench.running(0)
    assert old.phase is Phase.CLOSED
    assert set(tasks.tasks) == {0}
    assert new.epoch > old.epoch
    assert not tasks.feed(Chunk("left", 1, new.epoch, 0, 1, [], True)), "not ours any more"


@pytest.mark.parametrize(
    "step", ["open.start", "open.fenced", "open.offsets", "open.store", "open.replayed", "commit.begun"]
)
async def test_a_revocation_while_opening_leaves_nothing_open(bench: Bench, step: str) -> None:
    """However far it has come; the next assignment opens as if nothing had been."""
    reached = asyncio.Event()
    tasks = bench.make(lambda s: reached.set() if s == step else None)
    await tasks.assign([0, 1])
    await reached.wait()
    await tasks.revoke()
    assert not tasks.tasks
    assert not any(bench.stores.open_now.values())
    assert not bench.group.fed
    await tasks.assign([0, 1])
    await bench.running(0, 1)


async def test_nothing_is_opened_once_the_end_has_begun(bench: Bench) -> None:
    """A rebalance during shutdown must not leave an open task behind."""
    tasks = bench.make()
    await tasks.shutdown()
    await tasks.assign([0])
    assert not tasks.tasks


# -- feeding --------------------------------------------------------------------------------------------


async def test_enough_records_commit_before_the_interval_is_over(bench: Bench) -> None:
    """The commit loop wakes on count as well as on time."""
    tasks = bench.make(commit_interval_ms=NEVER_MS, commit_records=3)
    await tasks.assign([0])
    task = await bench.running(0)
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    task.feed(bench.chunk(task, [("e2", "a", 0)]))
    await asyncio.sleep(0)
    assert task.wants("left")
    task.feed(bench.chunk(task, [("e3", "a", 0)]))
    assert not task.wants("left"), "enough for one commit"
    await until(lambda: bench.seen.inputs["left", "accepted"] == 3)
    task.at_end("right", True)
    assert task.wants("left")
    assert task.commits == 1


async def test_an_input_more_than_a_minute_ahead_is_wanted_no_more(bench: Bench) -> None:
    """Until the others have caught up, or are at their end (semantics 3)."""
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    task.feed(bench.chunk(task, [("e1", "a", 0)], "right", ends=False))
    task.feed(bench.chunk(task, [("e2", "a", 60_000)], "left", ends=False))
    await until(lambda: task.idle)
    assert task.wants("left"), "just a minute"
    task.feed(bench.chunk(task, [("e3", "a", 60_001)], "left", ends=False))
    await until(lambda: task.idle)
    assert not task.wants("left")
    assert task.wants("right")
    assert task.wants("repartition"), "has no say in time, so it is never ahead"
    task.feed(bench.chunk(task, [("e4", "a", 30_000)], "right", ends=False))
    await until(lambda: task.idle)
    assert task.wants("left")
    task.feed(bench.chunk(task, [("e5", "a", 600_000)], "left", ends=False))
    await until(lambda: task.idle)
    assert not task.wants("left")
    task.at_end("right", True)
    assert task.wants("left")


async def test_a_task_that_is_not_running_takes_nothing_and_hears_nothing(bench: Bench) -> None:
    """Opening, failed, closed: hosts may still feed and ask."""
    bench.group.member.clear()
    tasks = bench.make(Fail("open.fenced"))
    await tasks.assign([0])
    task = tasks.tasks[0]
    for _ in range(30):
        assert not task.wants("left")
        assert not task.feed(Chunk("left", 0, 0, 0, 1, [], True))
        task.at_end("left", True)
        task.tick()
        await asyncio.sleep(0)


# -- failing --------------------------------------------------------------------------------------------


async def test_nobody_is_opened_again_before_the_group_has_confirmed_the_member(bench: Bench) -> None:
    """Fenced may mean that another owns the task: asking the log first would fence the rightful owner."""
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    bench.group.member.clear()
    await bench.log.open_writer(0)
    owner = bench.log._epochs[0]
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    await until(lambda: bench.group.asked)
    assert bench.seen.aborts == ["fenced"]
    assert not bench.group.fed
    assert not bench.stores.open_now[0], "closed while it waits"
    assert bench.log._epochs[0] == owner
    bench.group.member.set()
    again = await bench.running(0)
    again.feed(bench.chunk(again, []))
    await until(lambda: bench.counts() == {"a": 1})
    assert bench.seen.aborts == ["fenced"]


async def test_the_others_go_on_while_one_is_opened_again(bench: Bench) -> None:
    """A failure is one task's."""
    tasks = bench.make(Fail("commit.sent", times=0))
    await tasks.assign([0, 1])
    other = await bench.running(1, 0)
    bench.group.member.clear()
    tasks.tasks[0].fail(Injected())
    assert bench.group.fed == {1}
    other.feed(bench.chunk(other, [("e1", "a", 0)]))
    await until(lambda: bench.counts() == {"a": 1} or bench.seen.misplaced_records)
    assert bench.phase(1) is Phase.RUNNING


def test_turns_to_commit_come_once_an_interval_and_are_spread_over_the_tasks() -> None:
    """Whenever something comes, the turn is within an interval; no two of eight tasks are closer than an eighth."""
    for since in (0.0, 3.21, 1_000_000.004):
        turns = [next_turn(since, 0.1, p / 8) for p in range(8)]
        assert all(since <= turn < since + 0.1 + 1e-6 for turn in turns)
        places = sorted(turn % 0.1 for turn in turns)
        gaps = [b - a for a, b in zip(places, [*places[1:], places[0] + 0.1], strict=True)]
        assert gaps == pytest.approx([0.0125] * 8, abs=1e-6)
    assert next_turn(0.26, 0.1, 0.5) == pytest.approx(0.35), "always at the same place of it"
    assert next_turn(0.34, 0.1, 0.5) == pytest.approx(0.35)
    assert next_turn(7.0, 0, 0.5) == 7.0, "no interval: at once"


async def test_one_task_works_at_a_time_and_whoever_waits_gathers(bench: Bench) -> None:
    """Side by side, all tasks' commits would be built when the last is, and be in memory at once."""
    tasks = bench.make()
    await tasks.assign([0, 1])
    first, second = await bench.running(0, 1), tasks.tasks[1]
    sizes: dict[int, list[int]] = {0: [], 1: []}
    working: list[int] = []
    fed_meanwhile = False

    for task in (first, second):
        plain = task.bench.work

        async def work(chunks: Any, *given: Any, task: Any = task, plain: Any = plain) -> Any:
            nonlocal fed_meanwhile
            working.append(task.partition)
            assert working == [task.partition], "the other one is at work"
            sizes[task.partition].append(len(chunks))
            made = await plain(chunks, *given)
            if task is first and not fed_meanwhile:
                fed_meanwhile = True
                for number in range(3):
                    second.feed(bench.chunk(second, [(f"e{number}", "k", 0)]))
                    for _ in range(20):
                        await asyncio.sleep(0)
            working.remove(task.partition)
            return made

        task.bench.work = work  # type: ignore[method-assign]
    first.feed(bench.chunk(first, [("e", "k", 0)]))
    await until(lambda: fed_meanwhile and not working and second.idle and first.idle)
    assert [n for n in sizes[1] if n] == [3]


async def test_what_comes_while_a_task_waits_to_work_is_taken_with_the_rest(bench: Bench) -> None:
    """And what comes after that waits for its place in the interval, however busy the worker is: commits out of turn
    are more and smaller ones, just when there are too many."""
    tasks = bench.make(commit_interval_ms=NEVER_MS, commit_records=2)
    await tasks.assign([0])
    task = await bench.running(0)
    await tasks._turn.acquire()
    task.feed(bench.chunk(task, [("e1", "a", 0), ("e2", "a", 0)]))
    await _turns_of_the_loop()
    task.feed(bench.chunk(task, [("e3", "a", 0)]))
    busy = asyncio.create_task(tasks._turn.acquire())
    await _turns_of_the_loop()
    tasks._turn.release()
    await busy
    await until(lambda: bench.seen.inputs["left", "accepted"] == 3)
    await until(lambda: task.idle)  # it does not stand in line with nothing to do
    task.feed(bench.chunk(task, [("e4", "a", 0)]))
    tasks._turn.release()
    await _turns_of_the_loop()
    assert bench.seen.commits == 1
    task.feed(bench.chunk(task, [("e5", "a", 0)]))
    await until(lambda: bench.seen.inputs["left", "accepted"] == 5)
    assert bench.seen.commits == 2


async def test_a_look_at_the_time_takes_nothing_out_of_turn(bench: Bench) -> None:
    """A task that woke up for its timers may wait for others to work, and something may come meanwhile."""
    tasks = bench.make(commit_interval_ms=NEVER_MS, commit_records=2)
    await tasks.assign([0])
    task = await bench.running(0)
    await tasks._turn.acquire()
    task.tick()
    await _turns_of_the_loop()
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    tasks._turn.release()
    await _turns_of_the_loop()
    assert not bench.seen.commits
    task.feed(bench.chunk(task, [("e2", "a", 0)]))
    await until(lambda: bench.seen.inputs["left", "accepted"] == 2)
    assert bench.seen.commits == 1


async def _turns_of_the_loop() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_a_failure_after_a_revocation_is_nobodys(bench: Bench) -> None:
    """A task that fails while it drains is closed, not opened again: that would leave an unowned task open."""
    failing = asyncio.Event()

    def probe(step: str) -> None:
        if step == "commit.sent" and failing.is_set():
            raise Injected

    tasks = bench.make(probe, commit_interval_ms=NEVER_MS)
    await tasks.assign([0])
    task = await bench.running(0)
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    failing.set()
    await tasks.revoke()
    assert task.phase is Phase.CLOSED
    assert not tasks.tasks
    assert not tasks._reopeners
    assert not bench.counts()


async def test_a_task_that_fails_while_it_is_taken_away_is_not_opened_again(bench: Bench) -> None:
    """Between the revocation and the closing it belongs to nobody already."""
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    revoking = asyncio.create_task(tasks.revoke())
    await asyncio.sleep(0)
    assert not tasks.tasks
    assert task.phase is Phase.RUNNING, "revoked, and its closing not begun"
    task.fail(Injected())
    assert not tasks._reopeners
    await revoking
    assert task.phase is Phase.CLOSED


async def test_a_commit_that_hangs_does_not_keep_a_task_from_closing(bench: Bench) -> None:
    """What is not committed within the deadline is dropped: the next owner does it."""
    tasks = bench.make(drain_s=0.05)
    await tasks.assign([0])
    task = await bench.running(0)

    async def hang() -> None:
        await asyncio.Event().wait()

    assert task.writer is not None
    task.writer.commit = hang  # type: ignore[method-assign]
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    async with asyncio.timeout(3):
        await tasks.revoke()
    assert task.phase is Phase.CLOSED
    assert not bench.counts()


async def test_cancelling_whoever_closes_does_not_stop_the_closing(bench: Bench) -> None:
    """One close a task, shielded: half a close would be an open store."""
    tasks = bench.make(drain_s=0.1)
    await tasks.assign([0])
    task = await bench.running(0)
    closing = asyncio.create_task(task.close(drain=True, deadline_s=1))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await task.close(drain=False, deadline_s=1)
    assert task.phase is Phase.CLOSED
    assert not bench.stores.open_now[0]


async def test_opening_is_tried_again_until_patience_ends(bench: Bench) -> None:
    """A broker may be away for a moment; after so many failures in a row the supervisor decides."""
    tasks = bench.make(Fail("open.offsets", times=2), max_failures=4)
    await tasks.assign([0, 1])
    await bench.running(0, 1)
    await tasks.revoke()
    tasks = bench.make(Fail("open.offsets", times=99), max_failures=3)
    await tasks.assign([0, 1])
    await until(lambda: bench.died)
    assert isinstance(bench.died[0], Injected)
    assert len(bench.died) == 1


async def test_what_only_an_operator_can_set_right_is_not_tried_again(bench: Bench) -> None:
    """The worker ends at once, with the text that says what to do."""
    tasks = bench.make()
    await tasks.assign([0])
    await bench.running(0)
    await tasks.revoke()
    bench.log.topic("left")[0].begin = 5
    tasks = bench.make()
    await tasks.assign([0])
    await until(lambda: bench.died)
    assert isinstance(bench.died[0], CannotOpen)
    assert bench.group.asked == 0


async def test_a_store_found_damaged_while_running_is_rebuilt(bench: Bench) -> None:
    """The changelog has all of it."""
    tasks = bench.make(cache_entries=1)
    await tasks.assign([0, 1])
    await bench.running(0, 1)
    keys = [k for k in "abcdefghijkl" if bench.home(k) == 0]
    task = tasks.tasks[0]
    task.feed(bench.chunk(task, [(f"e{k}", k, 0) for k in keys]))
    await until(lambda: len(bench.counts()) == len(keys))
    for _ in range(3):  # out of the cache
        task.feed(bench.chunk(task, [("x", keys[0], 0), ("y", keys[2], 0)]))
        await until(lambda: task.idle)
    bench.stores.failing = StoreDamaged("checksum mismatch")
    bench.clock.advance(1)
    task.feed(bench.chunk(task, [("again", keys[1], 0)]))
    await until(lambda: bench.seen.aborts)
    bench.stores.failing = None
    again = await bench.running(0, 1)
    assert bench.seen.aborts == ["store"]
    assert bench.stores.wiped == [0]
    again.feed(bench.chunk(again, []))
    await until(lambda: bench.counts()[keys[1]] == 2)


async def test_failures_are_counted_in_a_row(bench: Bench) -> None:
    """A commit that is through begins the row anew; the third failure in a row would end the worker."""
    probe = Fail("commit.sent", times=0)
    tasks = bench.make(probe, max_failures=3)
    await tasks.assign([0])
    await bench.running(0)
    for number in range(4):
        probe._left = 2
        task = await bench.running(0)
        task.feed(bench.chunk(task, [(f"e{number}", "a", 0)]))
        for failures in (1, 2):
            await until(lambda n=failures: tasks.tasks[0].failures == n)
            task = await bench.running(0)
            task.feed(bench.chunk(task, []))
        await until(lambda: not tasks.tasks[0].failures)
        probe._left = 0
    assert not bench.died


# -- timers ---------------------------------------------------------------------------------------------


async def test_thousands_of_timers_fire_in_order_over_several_commits(bench: Bench) -> None:
    """No commit takes more than its share; none is lost between them; the earliest come first."""
    bench.partitions = 1
    bench.log = LocalLog(1, bench.clock)
    bench.log.changelog = "changelog"
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    n = 2 * TIMERS_PER_COMMIT + 2_500
    task.feed(bench.chunk(task, [(f"e{i}", f"k{i}", i % 977) for i in range(n)]))
    task.at_end("right", True)
    await until(lambda: len(bench.counts()) == n)
    commits = task.commits
    task.tick()
    bench.clock.advance(5_000)
    task.tick()
    await until(lambda: len(bench.idles()) == n and task.idle)
    assert sorted(bench.idles()) == sorted(f"k{i}" for i in range(n))
    due = [int(name[1:]) % 977 for name in bench.idles()]
    assert due == sorted(due)
    assert task.commits - commits >= 3
    revisions = Counter(msgspec.json.decode(r.value or b"")["revision"] for r in bench.log.topic("idles")[0].read(0)[0])
    assert max(revisions.values()) < TIMERS_PER_COMMIT + 2_001
    assert task.store is not None
    assert not task.store.scan(b"t", b"u", 10)


async def test_a_timer_that_was_put_off_makes_no_commit(bench: Bench) -> None:
    """Moving rows is nobody's news: without anything to say there is no transaction."""
    bench.partitions = 1
    bench.log = LocalLog(1, bench.clock)
    bench.log.changelog = "changelog"
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    task.at_end("right", True)
    task.feed(bench.chunk(task, [("e1", "a", 0)]))
    task.feed(bench.chunk(task, [("e2", "a", 900)]))
    await until(lambda: task.idle and bench.counts() == {"a": 2})
    commits = task.commits
    bench.clock.advance(0)
    task.tick()
    bench.clock.advance(500)  # 1,400: the row of e1 comes up, the state is due at 1,900
    task.tick()
    await until(lambda: task.idle)
    assert task.commits == commits
    assert not bench.idles()
    bench.clock.advance(500)
    task.tick()
    await until(bench.idles)
    assert task.store is not None
    await until(lambda: task.idle)
    assert timer_key(START_MS + 1_000, b"S", b"a") not in task.store.scan(b"t", b"u", 10)


# -- names ----------------------------------------------------------------------------------------------


def test_causes_of_failures_come_from_a_closed_set() -> None:
    """They are labels of a metric."""
    from stream_app.engine.commit import CommitTimedOut
    from stream_app.engine.task import ChainBroken

    causes = {
        Fenced(): "fenced",
        TimeoutError(): "timeout",
        CommitTimedOut(): "timeout",
        ChainBroken(): "chain",
        StoreDamaged(): "store",
        KeyError("anything"): "error",
    }
    assert {exc: cause_of(exc) for exc in causes} == causes
