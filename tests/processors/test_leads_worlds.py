"""Leads over several tasks, with real hops between journeys and leads, disorder, and deaths at any step."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from stream_app.domain.lead_events import LeadFact
from stream_app.domain.sources.model import Source
from tests.counters.histories import GRACE, history
from tests.counters.world import Arrival, World, at, settings, shuffled, steps
from tests.processors.lead_reference import comparable, lead_of

pytestmark = pytest.mark.slow

HISTORIES = int(os.environ.get("LEAD_WORLDS", "12"))
"""How many to try: LEAD_WORLDS=10000 for a thorough run."""
START = at("2026-06-01T00:00:00Z")


def truth(world: World) -> dict[str, dict[str, Any]]:
    """Leads without their revisions."""
    return {
        name: {field: value for field, value in record.items() if field != "revision"}
        for name, record in world.last("leads").items()
    }


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_leads_are_the_same_whatever_order_and_wherever_workers_die(seed: int, tmp_path: Path) -> None:
    """As in a world where everything comes in order and nobody dies; and as told anew from the conversions that came
    out, for all leads that had nothing to ask."""
    rng = random.Random(seed)
    sorted_history = history(rng, START, events=rng.randint(10, 50))
    chosen = settings(tmp_path)
    orderly = World(chosen, start_ms=START)
    first = orderly.first(START)
    orderly.live([first, sorted(sorted_history, key=lambda arrival: arrival[2])], idle_ms=4 * GRACE)
    world = World(chosen, start_ms=START)
    rest: list[Arrival] = [*first, *shuffled(sorted_history, rng, GRACE)]
    while rest:
        portions = []
        for _ in range(rng.randint(1, 6)):
            size = rng.randint(1, 12)
            portions.append(rest[:size])
            rest = rest[size:]
        world.live(
            portions,
            step=rng.choice(["", *steps()]),
            nth=rng.randint(1, 6),
            commit_records=rng.randint(1, 30),
            cache=rng.choice((2, 1_000)),
        )
    world.live([], idle_ms=4 * GRACE)
    found = truth(world)
    assert found == truth(orderly)
    assert _retold(world, [*first, *sorted_history]) == {
        name: _plain(record) for name, record in found.items() if record["goal"] is not None
    }


def _retold(world: World, arrivals: list[Arrival]) -> dict[str, Any]:
    """Leads with a conversion, from what came out of journeys and what the CRM said."""
    facts: dict[str, list[LeadFact]] = {}
    for record in world.last("attributed-conversions").values():
        if record["lead_id"] and not record["bot"]:
            credit = record["credits"]["last_non_direct"][0]
            source = Source(credit["source"], credit["medium"], credit["campaign"], channel=credit["channel"])
            body = LeadFact(at(record["occurred_at"]), record["event_id"], record["client_id"], record["goal"], source)
            facts.setdefault(record["lead_id"], []).append(body)
    updates: dict[str, list[dict[str, Any]]] = {}
    for topic, record, ts in arrivals:
        if topic == "lead-updates":
            late = ts - record["occurred_at"] > GRACE
            updates.setdefault(record["lead_id"], []).append({**record, "late": late})
    result = {}
    for lead_id, made in facts.items():
        told = lead_of(lead_id, updates.get(lead_id, []), made, lambda *_: None)
        assert told is not None
        result[lead_id] = _plain(told[0])
    return result


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Without what outputs of journeys do not say, or what is of this world."""
    left_out = {"segment", "rules_version"}
    if record["currency"] == "JPY":
        left_out |= {"revenue", "profit"}  # the second telling shows two decimals, whatever the currency
    return {name: value for name, value in comparable(record).items() if name not in left_out}
