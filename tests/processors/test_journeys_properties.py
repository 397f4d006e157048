"""What must hold for every history (design: architecture, "Answers do not depend on arrival order")."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.domain import client as clients
from stream_app.domain.rules import AttributionRules, Goal, JourneyRules, SessionRules
from stream_app.processors.journeys import codec
from tests.processors.harness import MINUTE, Run, travel, with_programmes
from tests.processors.histories import arrivals, commits, enrolments, histories, in_order
from tests.processors.reference import reference

pytestmark = pytest.mark.slow

GOALS = (Goal("lead_form", kind="lead"), Goal("signup", acquisition=True))
RULES = (
    JourneyRules(goals=GOALS),
    JourneyRules(goals=GOALS, sessions=SessionRules(max_events=3, max_age_hours=1)),
    JourneyRules(goals=GOALS, sessions=SessionRules(profile="ua"), timezone="Europe/Riga"),
    JourneyRules(
        goals=GOALS,
        sessions=SessionRules(timeout_minutes=90, grace_minutes=60, campaign_timeout_days=30),
        attribution=AttributionRules(lookback_days=30, persons=False),
    ),
    JourneyRules(goals=GOALS, sessions=SessionRules(profile="ua", timeout_minutes=10), timezone="America/New_York"),
)
HISTORIES = int(os.environ.get("HISTORIES", "300"))
"""How many histories to try: HISTORIES=10000 for a thorough run."""
PROCESSORS = [with_programmes(rules) for rules in RULES]


@st.composite
def worlds(draw: st.DrawFn) -> list[Any]:
    """Events of some clients, and who enrolled with the codes in them."""
    history = draw(histories())
    return history + draw(enrolments(history))


def truth(number: int, batches: list[list[Any]], *, drop_cache: bool = False) -> dict[str, Any]:
    result = Run(PROCESSORS[number], drop_cache=drop_cache)
    for batch in batches:
        result.commit(batch)
    result.finish()
    return result.truth


@given(st.data(), st.sampled_from(range(len(RULES))))
@settings(max_examples=HISTORIES, deadline=None)
def test_any_order_within_grace_and_any_split_into_commits_give_what_one_sorted_fold_gives(
    data: st.DataObject, number: int
) -> None:
    """Late, early, doubled, in one commit or in many, with or without a warm cache: the truth is the same."""
    history = data.draw(worlds())
    arrived = data.draw(arrivals(history))
    expected = reference(PROCESSORS[number], in_order(history))
    assert truth(number, [[record] for record in in_order(history)]) == expected
    assert truth(number, data.draw(commits(arrived)), drop_cache=data.draw(st.booleans())) == expected
    assert truth(number, [arrived]) == expected


@given(st.data(), st.sampled_from(range(len(RULES))), st.integers(0, 1_000))
@settings(max_examples=HISTORIES, deadline=None)
def test_the_same_when_what_processors_tell_each_other_is_late(data: st.DataObject, number: int, seed: int) -> None:
    """Persons on several clients, orders and refunds from several: the truth is the same whenever and in whatever
    order the hops between them arrive, and however time jumps."""
    history = data.draw(worlds())
    result = Run(PROCESSORS[number], drop_cache=data.draw(st.booleans()))
    travel(result, data.draw(commits(data.draw(arrivals(history)))), Random(seed))
    result.finish()
    assert result.truth == reference(PROCESSORS[number], in_order(history))


@given(st.data(), st.sampled_from(range(len(RULES))))
@settings(max_examples=HISTORIES, deadline=None)
def test_the_same_with_all_that_is_large_in_rows_of_its_own(data: st.DataObject, number: int) -> None:
    """Segments of two events, the settled part always apart, nothing cached: where events lie changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "TAIL", 2)
        patch.setattr(codec, "INLINE_SNAPSHOT", 0)
        history = data.draw(worlds())
        result = Run(PROCESSORS[number], drop_cache=True)
        for batch in data.draw(commits(data.draw(arrivals(history)))):
            result.commit(batch)
        result.finish()
        assert result.truth == reference(PROCESSORS[number], in_order(history))


@given(st.data(), st.sampled_from(range(len(RULES))))
@settings(max_examples=HISTORIES, deadline=None)
def test_what_is_visible_is_a_function_of_the_events_and_the_stream_time(data: st.DataObject, number: int) -> None:
    """At any moment, open sessions included: commits and timers in between leave no trace."""
    arrived = data.draw(arrivals(data.draw(worlds())))
    many, one = Run(PROCESSORS[number]), Run(PROCESSORS[number])
    for batch in data.draw(commits(arrived)):
        many.commit(batch)
    later = data.draw(st.sampled_from((0, MINUTE, 30 * MINUTE)))
    many.commit([], now=many.now + later)
    one.commit(arrived, now=many.now)
    assert many.truth == one.truth


@given(st.data(), st.sampled_from(range(len(RULES))))
@settings(max_examples=HISTORIES // 3, deadline=None)
def test_records_that_come_again_change_nothing(data: st.DataObject, number: int) -> None:
    """A tracker or broker that delivers twice, within grace: nothing more is published than with one delivery."""
    arrived = data.draw(arrivals(data.draw(worlds())))
    again = sorted([*arrived, *data.draw(st.lists(st.sampled_from(arrived), max_size=5))], key=lambda r: r[2])
    once, twice = Run(PROCESSORS[number]), Run(PROCESSORS[number])
    for record in arrived:
        once.commit([record])
    for record in again:
        twice.commit([record])
    assert [(topic, r["id"]) for topic, r in once.outputs] == [(topic, r["id"]) for topic, r in twice.outputs]
    once.finish()
    twice.finish()
    assert once.truth == twice.truth
