"""Exactly once, whatever dies and whenever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.arena import Arena
from tests.chaos.scenarios import come_and_go, every_first_step, every_step, two, zombie
from tests.chaos.spec import STEPS_OF_COMMIT, TIMERS, Failpoint

pytestmark = pytest.mark.slow

MakeArena = Callable[..., Arena]


def test_a_kill_between_any_two_steps(arena: MakeArena) -> None:
    """SIGKILL at each step of the first commit, of commits, of commits of timers only, of opening, of closing."""
    field = arena()
    members = [field.member("a", static=True), field.member("b", static=True)]
    steps = every_first_step(field, members[0])
    for member in members:
        member.start()
    field.wait_running()
    feeder = field.feed(1_000_000, 700)
    steps += every_step(field, members)
    feeder.stop()
    assert steps == 30
    assert field.kills == 30
    verdict = field.expect_green()
    assert verdict.facts["aborted"] > 0


def test_failures_at_random(arena: MakeArena) -> None:
    """Commits that fail at some step, again and again, in workers that live on: nothing of a failed one stays."""
    field = arena()
    anywhere = tuple(Failpoint(p + s, "raise", probability=0.004) for p in ("", TIMERS) for s in STEPS_OF_COMMIT)
    members = two(field, static=True, failpoints=anywhere)
    field.wait_running()
    feeder = field.feed(1_000_000, 800)
    feeder.join(12)
    for member in members:  # the last ones don't fail, or it would never end
        member.kill()
        member.start()
    feeder.join(1)
    feeder.stop()
    field.expect_green()
    assert sum(m.all_said().count("raise at ") for m in members) > 5


def test_a_worker_joins_and_leaves_ten_times_under_load(arena: MakeArena) -> None:
    """Rebalances without a kill: nobody exits but those who are told to, and nothing is lost on the way."""
    field = arena()
    stays, comes = field.member("a"), field.member("b")
    stays.start()
    field.wait_running()
    feeder = field.feed(1_000_000, 700, pause_s=0)
    joins, leaves = come_and_go(field, stays, comes, 10)
    feeder.stop()
    print(f"joins {sorted(round(s, 2) for s in joins)}, leaves {sorted(round(s, 2) for s in leaves)}")
    field.expect_green()


@pytest.mark.parametrize("patient", [True, False])
def test_a_zombie_wakes_with_an_open_transaction(arena: MakeArena, patient: bool) -> None:
    """Stopped in the middle of a commit until its tasks are another's: what it held is never seen, and the group takes
    it back. Patient: its own deadline hasn't passed when it wakes, so it does try to commit, and is fenced."""
    field = arena(commit_deadline_s=60, transaction_timeout_ms=90_000) if patient else arena()
    victim, heir = field.member("a"), field.member("b")
    feeder = field.feed(1_000_000, 400)
    held = zombie(field, victim, heir)
    feeder.stop()
    print(f"records held in open transactions: {held}")
    field.expect_green()
    assert sum(held.values()) > 0
    if patient:
        assert "Fenced" in victim.all_said(), victim.tail()
