"""Whose a code is, when people who never heard of each other name their events alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.counters.world import Arrival, World, at, settings

START = at("2026-03-01T09:00:00Z")
MINUTE = 60_000
PROGRAMME = '[[programs]]\nname = "friends"\nlevels = ["10%"]\ngoals = ["purchase"]\nlink_parameters = ["ref"]\n'


def told(type_: str, minute: int, user: str, event_id: str, **more: Any) -> Arrival:
    fields = {"event_id": event_id, "occurred_at": START + minute * MINUTE, "program": "friends", "type": type_}
    return "referral-events", fields | {"user_id": user} | more, START + minute * MINUTE


def outcome(directory: Path, *portions: list[Arrival]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Who is paid for a purchase in minute 30, and whose claims are dead letters."""
    world = World(settings(directory, more=PROGRAMME), start_ms=START)
    sale = {"event_id": "s", "client_id": "c", "goal": "purchase", "value": "100", "promo_code": "ann"}
    bought = ("conversions", sale | {"occurred_at": START + 30 * MINUTE}, START + 30 * MINUTE)
    world.live([world.first(START), *portions, [bought]], idle_ms=180 * MINUTE)
    dead = [
        (dict(record.headers)["dlq.reason"].decode(), (record.key or b"").decode())
        for partition in world.log.topic(world.topology.topics["dead-letters"])
        for record in partition.read(0)[0]
    ]
    return [(r["user_id"], r["amount"]) for r in world.last("referral-rewards").values()], dead


@pytest.mark.parametrize("event_id", ["enrol", "another"])
def test_a_code_is_not_taken_by_an_event_of_the_same_id(tmp_path: Path, event_id: str) -> None:
    """Event ids are a user's own (semantics 23): who comes later is refused, whatever they call it."""
    first = told("enrolled", 1, "anna", "enrol", code="ann")
    second = told("enrolled", 5, "bob", event_id, code="ANN")
    assert outcome(tmp_path, [first], [second]) == ([("anna", "10.00")], [("code_taken", "bob")])


def test_it_is_the_owners_as_well_where_both_come_at_once(tmp_path: Path) -> None:
    """In whatever order the code hears of them."""
    claims = [told("enrolled", 1, "anna", "enrol", code="ann"), told("enrolled", 5, "bob", "enrol", code="ann")]
    assert outcome(tmp_path, claims)[0] == [("anna", "10.00")]
    assert outcome(tmp_path, [claims[1]], [claims[0]])[0] == [("anna", "10.00")]


def test_whoever_leaves_takes_only_their_own_claim_along(tmp_path: Path) -> None:
    """The owner leaves and comes back, and somebody else of the same event id leaves: the code is the owner's."""
    story = [
        [told("enrolled", 1, "anna", "e1", code="ann")],
        [told("enrolled", 2, "bob", "e1", code="ann")],
        [told("left", 3, "anna", "e2"), told("left", 4, "bob", "e2")],
        [told("enrolled", 5, "anna", "e3", code="ann")],
    ]
    assert outcome(tmp_path, *story) == ([("anna", "10.00")], [("code_taken", "bob")])
