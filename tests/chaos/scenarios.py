"""What is done to workers while traffic flows. Tests, mutations and the soak choose among these."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.arena import Arena, Member, wait_until
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
    """Kills at each step of the very first commit, made while opening. The tasks open side by side: by the time one is
    through, all may be, and then there is no further first commit to die in; such a member is killed at work."""
    for step in STEPS_OF_COMMIT:
        member.start(Failpoint(OPENING + step, nth=1))
        _wait_at_work(member)
        if member.alive:
            assert step in {"commit.committed", "commit.stored"}, f"{step} was never reached\n{member.tail()}"
            member.kill()
        else:
            assert member.wait() == -signal.SIGKILL, member.tail()
        field.kills += 1
    return len(STEPS_OF_COMMIT)


def every_step(field: Arena, members: list[Member]) -> int:
    """Kills at each step of commits, of commits that only fire timers, of opening, of feeding, of closing; the members
    go through their shares at the same time."""
    points = [Failpoint(step, nth=field.random.randint(2, 12)) for step in STEPS_OF_COMMIT]
    points += [Failpoint(TIMERS + step, nth=field.random.randint(1, 4)) for step in STEPS_OF_COMMIT]
    points += [Failpoint(step, nth=1) for step in STEPS_OF_OPENING]
    points += [Failpoint("intake.feed", nth=field.random.randint(2, 20))]
    points += [Failpoint(step, nth=field.random.randint(1, 3)) for step in ("close.begin", "close.end")]
    field.random.shuffle(points)

    def go_through(member: Member, share: list[Failpoint]) -> None:
        for point in share:
            if member.alive:
                member.kill()
            dies_at(member, point, terminate=point.step.startswith("close."))
        member.start()

    with ThreadPoolExecutor(len(members)) as pool:
        runs = [pool.submit(go_through, m, points[n :: len(members)]) for n, m in enumerate(members)]
    for run in runs:
        run.result()
    field.kills += len(points)
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


def zombie(field: Arena, victim: Member, heir: Member, *, held_at: str = "open.recovered") -> dict[int, int]:
    """A worker stands still in the middle of a transaction until another has taken over all its tasks; then it wakes.

    The cruellest moment for that is when the heir knows where to go on, but has not begun to: it is held there until
    the zombie has tried to commit. Returns the records of the zombie's open transactions that nobody could read while
    it stood still, by changelog partition.
    """
    hold = field.directory / "hold-the-heir"
    heir.start(Failpoint(held_at, "stop", probability=1.0, armed_by=str(hold)))
    field.wait_running()
    victim.start(Failpoint("commit.delivered", "stop", nth=field.random.randint(10, 20)))
    wait_until(f"{victim.name} stands still", lambda: victim.stopped)
    topics = [field.changelog, field.spec.prefix + "counts"]
    hold.touch()
    wait_until("its transaction is open", lambda: any(hanging(field.admin, t, field.spec.partitions) for t in topics))
    held = hanging(field.admin, field.changelog, field.spec.partitions)
    wait_until(f"{heir.name} is about to take over", lambda: heir.stopped)
    assert heir.said(r"assigned tasks \[([\d, ]*)\]")[-1].count(",") == field.spec.partitions - 1, heir.tail()
    hold.unlink()
    victim.mark()
    victim.signal(signal.SIGCONT)
    # It fails now; or, if something is broken, its transaction goes through.
    wait_until(
        f"{victim.name} has tried to commit",
        lambda: victim.said("failed|closed tasks|cannot go on") or not _held(field, topics),
    )
    heir.signal(signal.SIGCONT)
    wait_until(f"{victim.name} is back in the group, or has ended", lambda: victim.running or not victim.alive)
    if not victim.alive:
        victim.start()
    field.wait_running()
    return held


def _held(field: Arena, topics: list[str]) -> bool:
    return any(hanging(field.admin, topic, field.spec.partitions) for topic in topics)


# -- what mutations are put through ------------------------------------------------------------------------------------


def mutated_random(field: Arena) -> None:
    """Failures at all steps, kills, kills right after a commit; whoever ends is started again."""
    anywhere = tuple(Failpoint(p + s, "raise", probability=0.004) for p in ("", TIMERS) for s in STEPS_OF_COMMIT)
    members = two(field, static=True, failpoints=anywhere)
    wait_until("work begins", lambda: all(m.running or not m.alive for m in members))
    feeder = field.feed(1_000_000, 700)
    for n, point in enumerate([*(["commit.committed", "commit.delivered"] * 3), "", ""]):
        feeder.join(2)
        member = members[n % 2]
        if member.alive:
            member.kill()
        member.start(*((Failpoint(point, nth=8),) if point else anywhere))
        field.kills += 1
    feeder.join(3)
    feeder.stop()
    for member in members:
        if member.alive:
            member.kill()
        member.start()


def mutated_plain(field: Arena) -> None:
    """Nothing but traffic."""
    two(field, static=True)
    wait_until("work begins", lambda: any(m.running for m in field.members.values()))
    field.feed(3_000, 1_000, keys=500).join()


def mutated_race(field: Arena) -> None:
    """The zombie's race."""
    victim, heir = field.member("a"), field.member("b")
    feeder = field.feed(1_000_000, 400)
    zombie(field, victim, heir)
    feeder.join(2)
    feeder.stop()


def mutated_early_race(field: Arena) -> None:
    """The zombie's transaction goes through while the heir begins to open, before it fences."""
    victim, heir = field.member("a"), field.member("b")
    feeder = field.feed(1_000_000, 400)
    zombie(field, victim, heir, held_at="open.start")
    feeder.join(2)
    feeder.stop()
