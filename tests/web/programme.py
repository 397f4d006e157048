"""A shop with referral programmes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.counters.world import Arrival, World, at, settings

START = "2026-03-01T09:00:00Z"
MINUTE = 60_000
PROGRAMME = """
[[programs]]
name = "friends"
levels = ["10%", "5%"]
goals = ["purchase"]
link_parameters = ["ref"]
[[programs]]
name = "partners"
levels = ["15.00"]
goals = ["signup"]
link_parameters = ["via"]
"""


def programme(directory: Path) -> World:
    """Anna refers Misha, who buys nothing, and Petr, who buys, and tries her own code from another browser; Misha
    refers Olga, who buys twice; Zoe's buyer Ivan pays in a currency that has no rate. Vera is a
    partner."""
    start = at(START)

    def arrival(topic: str, minute: int, **fields: Any) -> Arrival:
        moment = start + minute * MINUTE
        return topic, {"event_id": f"{topic}{minute}", "occurred_at": moment} | fields, moment

    def enrolled(minute: int, user: str, kind: str, **more: Any) -> Arrival:
        return arrival(
            "referral-events", minute, user_id=user, program="friends", type="enrolled", code=user, advocate_kind=kind,
            **more,
        )  # fmt: skip

    def visit(minute: int, client: str, code: str) -> Arrival:
        return arrival("clicks", minute, client_id=client, url=f"https://shop.example.com/?ref={code}")

    def bought(minute: int, client: str, value: str, **more: Any) -> Arrival:
        return arrival("conversions", minute, client_id=client, goal="purchase", value=value, **more)

    def invited(minute: int, user: str, count: int) -> Arrival:
        return arrival("referral-events", minute, user_id=user, program="friends", type="invited", count=count)

    story = [
        enrolled(1, "anna", "partner", email="anna@example.org"),
        enrolled(2, "zoe", "customer"),
        visit(3, "c-misha", "ANNA"),
        enrolled(4, "misha", "partner", client_id="c-misha"),
        invited(5, "anna", 8),
        visit(6, "c-olga", "misha"),
        visit(7, "c-petr", "anna"),
        visit(8, "c-ivan", "zoe"),
        visit(9, "c-anna", "anna"),
        bought(10, "c-olga", "900"),
        bought(11, "c-olga", "100"),
        bought(12, "c-petr", "160"),
        bought(13, "c-ivan", "50", currency="GBP"),
        bought(14, "c-anna", "70", email="anna@example.org"),
        bought(15, "c-other", "30"),
        arrival("referral-events", 16, user_id="vera", program="partners", type="enrolled", code="vera"),
        arrival("clicks", 17, client_id="c-new", url="https://shop.example.com/?via=vera"),
        arrival("conversions", 18, client_id="c-new", goal="signup"),
    ]
    world = World(settings(directory, more=PROGRAMME), start_ms=start)
    world.live([[*world.first(start), *story]], idle_ms=180 * MINUTE)
    return world
