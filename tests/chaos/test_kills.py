"""Exactly once under SIGKILL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.arena import Arena

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_random_kills(arena: Callable[..., Arena]) -> None:
    """Two workers killed at random moments: nothing missing, nothing doubled, state and stores right."""
    field = arena()
    workers = [field.member("a", static=True), field.member("b", static=True)]
    for worker in workers:
        worker.start()
    field.wait_running()
    field.feed(20_000, 900)
    while not field.feeder.done:
        field.feeder.join(field.random.uniform(0.3, 2.5))
        victim = field.random.choice(workers)
        if victim.alive:
            victim.kill()
            field.kills += 1
        victim.start()
    verdict = field.expect_green()
    assert verdict.facts["kills"] >= 5
