"""What must hold for every history (design: architecture, "Answers do not depend on arrival order")."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.domain.rules import AttributionRules, Goal, JourneyRules, SessionRules
from tests.processors.harness import Run, processor
from tests.processors.histories import arrivals, commits, histories, in_order
from tests.processors.reference import reference

GOALS = (Goal("lead_form", kind="lead"), Goal("signup", acquisition=True))
RULES = (
    JourneyRules(goals=GOALS),
    JourneyRules(goals=GOALS, sessions=SessionRules(max_events=3, max_age_hours=1)),
    JourneyRules(goals=GOALS, sessions=SessionRules(profile="ua"), timezone="Europe/Riga"),
    JourneyRules(
        goals=GOALS,
        sessions=SessionRules(timeout_minutes=90, grace_minutes=60, campaign_timeout_days=30),
        attribution=AttributionRules(lookback_days=30),
    ),
)
HISTORIES = int(os.environ.get("HISTORIES", "300"))
"""How many histories to try: HISTORIES=10000 for a thorough run."""
PROCESSORS = [processor(rules) for rules in RULES]


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
    history = data.draw(histories())
    arrived = data.draw(arrivals(history))
    expected = reference(PROCESSORS[number], in_order(history))
    assert truth(number, [[record] for record in in_order(history)]) == expected
    assert truth(number, data.draw(commits(arrived)), drop_cache=data.draw(st.booleans())) == expected
    assert truth(number, [arrived]) == expected
