"""What is done to workers while traffic flows. Tests, mutations and the soak choose among these."""

from __future__ import annotations

import signal
import time

from tests.chaos.arena import Arena, Member, NotInTime, wait_until
from tests.chaos.logs import hanging
from tests.chaos.spec import OPENING, STEPS_OF_COMMIT, STEPS_OF_OPENING, TIMERS, Failpoint


def two(field: Arena, *, static: bool, failpoints: tuple[Failpoint, ...] = (), **changes: object) -> list[Member]:
    """Two workers, running."""
    members = [field.member("a", static=static), field.member("b", static=static)]
    for member in members:
        member.start(*failpoints, **changes)
    return members


def random_kills(
    field: Arena, members: list[Member], kills: int, *, low_s: float = 0.3, high_s: float = 2.0, **changes: object
) -> None:
    """SIGKILL at random moments, mostly at work, sometimes still opening; whoever dies is started again."""
    for _ in range(kills):
        victim = field.random.choice(members)
        if field.random.random() < 0.6:
            _wait_at_work(victim)
        time.sleep(field.random.uniform(low_s, high_s))
        if victim.alive:
            victim.kill()
            field.kills += 1
        victim.start(**changes)


def _wait_at_work(member: Member) -> None:
    wait_until(f"{member.name} is at work", lambda: member.running or not member.alive)


def dies_at(member: Member, *failpoints: Failpoint, terminate: bool = False) -> None:
    """Starts it, and waits until it has killed itself at one of these points."""
    member.start(*failpoints)
    if terminate:
        wait_until(f"{member.name} is at work", lambda: member.running)
        member.signal(signal.SIGTERM)
    code = member.wait()
    steps = [f.step for f in failpoints]
    assert code == -signal.SIGKILL, f"{member.name} ended with {code} instead of dying at {steps}\n{member.tail()}"
    assert set(member.said(r"kill at (\S+)")) <= set(steps)


def every_first_step(field: Arena, member: Member) -> int:
    """Kills at each step of the very first commit, made while opening: on one task, with others before and after it."""
    for n, step in enumerate(STEPS_OF_COMMIT):
        dies_at(member, Failpoint(OPENING + step, nth=1 + n % 3))
        field.kills += 1
    return len(STEPS_OF_COMMIT)


def every_step(field: Arena, members: list[Member]) -> int:
    """Kills at each step of commits, of commits that only fire timers, of opening, of feeding and of closing."""
    points = [Failpoint(step, nth=field.random.randint(2, 12)) for step in STEPS_OF_COMMIT]
    points += [Failpoint(TIMERS + step, nth=field.random.randint(1, 4)) for step in STEPS_OF_COMMIT]
    points += [Failpoint(step, nth=1) for step in STEPS_OF_OPENING]
    points += [Failpoint("intake.feed", nth=field.random.randint(2, 20))]
    points += [Failpoint(step, nth=field.random.randint(1, 3)) for step in ("close.begin", "close.end")]
    field.random.shuffle(points)
    for n, point in enumerate(points):
        member = members[n % len(members)]
        if member.alive:
            member.kill()
        dies_at(member, point, terminate=point.step.startswith("close."))
        field.kills += 1
        member.start()
    return len(points)


def come_and_go(field: Arena, stays: Member, comes: Member, times: int) -> tuple[list[float], list[float]]:
    """A worker joins and leaves (SIGTERM) under load. Seconds until every task runs again, by join and by leave."""
    joins, leaves = [], []
    for _ in range(times):
        began = time.monotonic()
        comes.start()
        wait_until(f"{comes.name} has its share", lambda: comes.running)
        field.wait_running()
        joins.append(time.monotonic() - began)
        began = time.monotonic()
        code = comes.terminate()
        assert code == 0, f"{comes.name} exited with {code}\n{comes.tail()}"
        field.wait_running()
        leaves.append(time.monotonic() - began)
        assert stays.alive, stays.tail()
    return joins, leaves


def zombie(field: Arena, victim: Member, heir: Member, step: str = "commit.sent", **changes: object) -> dict[int, int]:
    """A worker stands still in the middle of a transaction until another has taken over all its tasks; then it wakes.

    Returns the records of its open transactions that nobody could read while it stood still, by changelog partition.
    """
    victim.start(Failpoint(step, "stop", nth=field.random.randint(10, 20)), **changes)
    wait_until(f"{victim.name} stands still", lambda: victim.stopped)
    topics = [field.changelog, field.spec.prefix + "counts"]
    wait_until("its transaction is open", lambda: any(hanging(field.admin, t, field.spec.partitions) for t in topics))
    held = hanging(field.admin, field.changelog, field.spec.partitions)
    everything = list(range(field.spec.partitions))
    try:
        wait_until(f"{heir.name} has taken over everything", lambda: heir.running == everything)
    except NotInTime as error:
        raise NotInTime(f"{error}\n{field.tails()}") from None
    victim.mark()
    victim.signal(signal.SIGCONT)
    wait_until(f"{victim.name} is back in the group, or has ended", lambda: victim.running or not victim.alive)
    if not victim.alive:
        victim.start()
    field.wait_running()
    return held
