"""Exactly once, whatever dies and whenever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.arena import Arena
from tests.chaos.scenarios import come_and_go, every_first_step, every_step, random_kills, two, zombie
from tests.chaos.spec import STEPS_OF_COMMIT, TIMERS, Failpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

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
    verdict = field.expect_green()
    assert verdict.facts["aborted"] > 0


def test_kills_and_failures_at_random(arena: MakeArena) -> None:
    """Two workers killed at random moments while one commit in fifty also fails by itself at some step."""
    field = arena()
    anywhere = tuple(Failpoint(p + s, "raise", probability=0.003) for p in ("", TIMERS) for s in STEPS_OF_COMMIT)
    members = two(field, static=True, failpoints=anywhere)
    field.wait_running()
    feeder = field.feed(1_000_000, 800)
    random_kills(field, members, 6)
    for member in members:
        member.kill()
        member.start(*anywhere)
    feeder.join(6)
    for member in members:  # the last ones don't fail, or it would never end
        member.kill()
        member.start()
    feeder.stop()
    field.expect_green()
    failures = sum(len(m.all_said().split("raise at ")) - 1 for m in members)
    assert failures > 3


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


@pytest.mark.parametrize(("step", "patient"), [("commit.sent", True), ("commit.offsets", True), ("commit.sent", False)])
def test_a_zombie_wakes_with_an_open_transaction(arena: MakeArena, step: str, patient: bool) -> None:
    """Stopped between sending and committing until its tasks are another's: what it held is never seen, and the group
    takes it back. Patient: its own deadline hasn't passed when it wakes, so it does try to commit."""
    field = arena(commit_deadline_s=60, transaction_timeout_ms=90_000) if patient else arena()
    victim, heir = field.member("a"), field.member("b")
    heir.start()
    field.wait_running()
    feeder = field.feed(1_000_000, 600)
    held = zombie(field, victim, heir, step)
    feeder.stop()
    print(f"records held in open transactions: {held}")
    verdict = field.expect_green()
    assert sum(held.values()) > 0
    assert verdict.facts["aborted"] > 0
    if patient:
        assert "Fenced" in victim.all_said(), victim.tail()
