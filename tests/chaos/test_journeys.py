"""The whole pipeline under kills, against the offline replay of its own input."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.chaos.journeys import Journeys
from tests.chaos.scenarios import random_kills, two

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EVENTS = 200_000
KILLS = 22


def test_sessions_conversions_leads_and_counters_are_exactly_those_of_a_replay(
    broker: Broker, tmp_path: Path, topic_prefix: str, seed: int
) -> None:
    """200,000 events of 20,000 clients over 8 partitions, two workers, more than 20 SIGKILLs at random moments."""
    with Journeys(broker.bootstrap, tmp_path, topic_prefix, seed) as field:
        members = two(field, static=True)
        field.wait_running()
        shop = field.shop(EVENTS, 3_200)
        random_kills(field, members, KILLS, low_s=0.2, high_s=2.5)
        shop.join()
        verdict = field.expect_green()
        assert verdict.facts["events"] >= EVENTS
        assert verdict.facts["clients"] >= 20_000
        assert verdict.facts["kills"] >= 20
        assert verdict.facts["aborted"] > 0
        assert verdict.facts["leads"] > 500
        assert verdict.facts["counters"] > 1_000
        assert verdict.facts["overflowed"] > 0
