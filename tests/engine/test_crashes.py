"""Crash anywhere = no crash: random histories, compared with plain arithmetic over what arrived."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.engine.histories import Life, World, expected, histories

_MANY = settings(
    max_examples=settings.default.max_examples,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Thousands of deaths would each be logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _lived(lives: Sequence[Life]) -> World:
    world = World()
    for life in lives:
        world.live(life)
    world.finish()
    return world


@_MANY
@given(histories())
def test_a_crash_anywhere_is_as_good_as_none(lives: list[Life]) -> None:
    """Whatever arrives, wherever processes die or fail, whatever is spoilt between them: every event counts once, every
    dead letter and every forwarded record is there once, timers fire once, and the stores are what the log says."""
    world = _lived(lives)
    world.check()
    assert world.outcome() == expected(lives)


@settings(parent=_MANY, max_examples=settings.default.max_examples // 3)
@given(histories(crashes=False))
def test_however_events_are_split_into_commits_the_answers_are_the_same(lives: list[Life]) -> None:
    """Chunks, commits and caches of any size, and orderly or sudden ends."""
    world = _lived(lives)
    world.check()
    assert world.outcome() == expected(lives)
