"""Opening: what is replayed, what is trusted, what is wiped; the finer cases (the others are in the contract suite)."""

from __future__ import annotations

import msgspec
import pytest

from stream_app.engine.rows import META, POSITION, decode_meta, encode_meta, head_key, position_after
from stream_app.hosts.local.log import LocalRecord
from tests.engine.bench import Bench, until
from tests.engine.watching import Kill

JUNK = head_key(b"S", b"junk")


async def _opened(bench: Bench) -> None:
    """Opens task 0 and ends it before it has done anything."""
    probe = Kill("open.recovered")
    tasks = bench.make(probe, max_failures=1)
    bench.died.clear()
    await tasks.assign([0])
    await until(lambda: bench.died)
    await tasks.revoke()


async def _filled(bench: Bench) -> None:
    """Task 0 has committed a few states, and forgotten one."""
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    keys = [k for k in ("a", "b", "c", "d", "e", "f", "x1", "x2", "x3") if bench.home(k) == 0]
    assert {k[0] for k in keys} > {"x"}
    task.at_end("right", True)
    task.feed(bench.chunk(task, [(f"e{k}", k, 0) for k in keys]))
    await until(lambda: len(bench.counts()) == len(keys))
    for _ in range(2):
        task.tick()
        bench.clock.advance(5_000)
        task.tick()
        await until(lambda: task.idle)
    await tasks.revoke()
    assert not any(k[2:3] == b"x" for k in bench.rows(0))


def _changelog(bench: Bench) -> list[LocalRecord]:
    return bench.log.topic("changelog")[0].read(0)[0]


async def test_what_was_forgotten_is_not_replayed_into_life(bench: Bench) -> None:
    """Tombstones remove, also where the states before them are still in the changelog."""
    await _filled(bench)
    rows = bench.rows(0)
    assert any(r.key is not None and r.key[2:3] == b"x" and r.value is not None for r in _changelog(bench))
    bench.stores.wipe(0)
    await _opened(bench)
    assert bench.rows(0) == rows


async def test_every_state_has_its_timer_after_a_rebuild(bench: Bench) -> None:
    """Before anything else is done: what the states call for, and nothing of those that are gone for ever."""
    tasks = bench.make()
    await tasks.assign([0])
    task = await bench.running(0)
    keys = [k for k in "abcdefgh" if bench.home(k) == 0]
    task.feed(bench.chunk(task, [(f"e{k}", k, n) for n, k in enumerate(keys)]))
    await until(lambda: len(bench.counts()) == len(keys))
    await tasks.revoke()
    before = list(bench.stores._stores[0]._timers)
    assert len(before) == len(keys)
    bench.stores.wipe(0)
    await _opened(bench)
    assert bench.stores._stores[0]._timers == before


async def test_a_store_of_another_incarnation_is_rebuilt_even_where_its_position_seems_right(bench: Bench) -> None:
    """A store left in the middle of a replay stands on a record that says nothing of the incarnation."""
    await _filled(bench)
    rows = bench.rows(0)
    record = next(r for r in _changelog(bench) if r.key and r.key[:1] == b"s")
    foreign = msgspec.structs.replace(decode_meta(rows[META]), incarnation="another")
    position = position_after("changelog", record.offset, record.key or b"", record.value, bench.clock.wall_ms())
    bench.stores._stores[0].write([(JUNK, b"junk"), (META, encode_meta(foreign)), (POSITION, position)])
    await _opened(bench)
    assert bench.rows(0) == rows


async def test_a_store_of_another_deployment_is_rebuilt(bench: Bench) -> None:
    """Its position names another changelog: two deployments with one state directory must not mix."""
    await _filled(bench)
    rows = bench.rows(0)
    last = _changelog(bench)[-1]
    position = position_after("another", last.offset, last.key or b"", last.value, bench.clock.wall_ms())
    bench.stores._stores[0].write([(JUNK, b"junk"), (POSITION, position)])
    await _opened(bench)
    assert bench.rows(0) == rows


@pytest.mark.parametrize("where", ["before the start", "beyond the end"])
async def test_a_position_outside_of_the_changelog_is_not_trusted(bench: Bench, where: str) -> None:
    """Retention has cut it off, or the topic was made anew and is shorter (semantics 9)."""
    await _filled(bench)
    rows = bench.rows(0)
    changelog = bench.log.topic("changelog")[0]
    if where == "before the start":
        junk = position_after("changelog", 0, b"k", b"v", bench.clock.wall_ms())
        for record in _changelog(bench)[:1]:
            changelog.delete_before(record.offset + 1)
    else:
        junk = position_after("changelog", changelog.end + 10, b"k", b"v", bench.clock.wall_ms())
    bench.stores._stores[0].write([(JUNK, b"junk"), (POSITION, junk)])
    await _opened(bench)
    assert JUNK not in bench.rows(0)
    assert bench.rows(0) == rows


async def test_a_store_that_changelog_and_group_have_left_behind_is_not_wiped_for_nothing(bench: Bench) -> None:
    """While there is nothing to rebuild it from, even a store that cannot be checked is all there is."""
    await _filled(bench)
    rows = bench.rows(0)
    bench.log.delete_topic("changelog")
    bench.clock.advance(30 * 24 * 3_600_000)  # and it lay idle for long
    await _opened(bench)
    after = bench.rows(0)
    assert {k: v for k, v in after.items() if k != META} == {k: v for k, v in rows.items() if k != META}
    assert {r.key for r in _changelog(bench)} == set(after)


async def test_an_answer_that_is_behind_for_a_moment_is_asked_for_again(bench: Bench) -> None:
    """A coordinator that has just moved may not know the last commit yet."""
    await _filled(bench)
    asked, answers = bench.log.committed, []

    async def committed(*given: object) -> object:
        answers.append(dict(await asked(*given)))  # type: ignore[arg-type]
        if len(answers) == 1:
            return {0: {t: c and c._replace(metadata="1") for t, c in answers[0][0].items()}}
        return answers[-1]

    bench.log.committed = committed  # type: ignore[method-assign, assignment]
    await bench.make().assign([0])
    await bench.running(0)
    assert len(answers) == 2
