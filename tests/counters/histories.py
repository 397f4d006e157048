"""Generated histories of several clients over some days: visits, detours, orders, refunds, surveys, joins, programs."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from tests.counters.world import Arrival
from tests.processors import histories

PAGES = tuple(page for page in histories.PAGES if "gclid" not in page["url"])
"""Without the one that makes (google, cpc, not set) another platform: outputs do not tell all sources' platforms."""

MINUTE = 60_000
GRACE = 60 * MINUTE
GAPS = (
    0,
    1,
    5_000,
    11_000,
    MINUTE,
    7 * MINUTE,
    30 * MINUTE,
    31 * MINUTE,
    47 * MINUTE,
    3 * 60 * MINUTE,
    11 * 60 * MINUTE,
)
LATE = (GRACE + 1, 5 * 60 * MINUTE, 3 * 24 * 60 * MINUTE)
MONEY: tuple[dict[str, Any], ...] = (
    {},
    {"value": "10.50"},
    {"value": 3, "profit": "1.005"},
    {"value": "7.33", "currency": "USD"},
    {"value": "1000", "currency": "JPY"},
    {"value": "0.005"},
)


CAMPAIGNS = (
    ("google", "cpc", "SPRING"),
    ("Google", "CPC", "spring"),
    ("news", "email", "Letter"),
    ("fair", "offline", "x"),
)
STATUSES = ("new", "contacted", "qualified", "proposal", "won", "won", "refused", "reopened")


def history(rng: random.Random, start_ms: int, *, events: int) -> list[Arrival]:
    """Events with the time at which each arrives at the earliest: at its own, or too late for its grace."""
    clients = [f"c{number}" for number in range(rng.randint(1, 5))]
    at, result = start_ms, []
    for index in range(events):
        at += rng.choice(GAPS)
        draw = rng.random()
        if draw < 0.1:
            result.append(("costs", _cost(rng, index, at), at))
        elif draw < 0.25:
            result.append(("lead-updates", _update(rng, index, at, clients), at + rng.choice((0, 0, LATE[1]))))
        elif draw < 0.65:
            result.append(("clicks", _event(rng, index, at, clients) | rng.choice(PAGES), at))
        else:
            late = rng.random() < 0.15
            conversion = _conversion(rng, _event(rng, index, at, clients))
            if late:
                conversion["event_id"] = f"late{index}"
            result.append(("conversions", conversion, at + (rng.choice(LATE) if late else 0)))
    # One event id names one conversion of a client, else the recount could not tell which one stands behind an output.
    seen: set[tuple[str, str]] = set()
    for topic, record, _ in result:
        if topic == "conversions":
            if (record["client_id"], record["event_id"]) in seen:
                record["event_id"] += f"-{len(seen)}"
            seen.add((record["client_id"], record["event_id"]))
    return result


def _event(rng: random.Random, index: int, at: int, clients: list[str]) -> dict[str, Any]:
    record: dict[str, Any] = {"event_id": f"e{index}", "client_id": rng.choice(clients), "occurred_at": at}
    if rng.random() < 0.1:
        record["event_id"] = "same"
    if rng.random() < 0.2:
        record["user_id"] = rng.choice(("u1", "u2"))
    return record


def _conversion(rng: random.Random, record: dict[str, Any]) -> dict[str, Any]:
    client = record["client_id"]
    kind = rng.choice(
        ("purchase", "purchase", "lead_form", "signup", "tried", "survey", "joined", "left", "plain", "refund")
    )
    if kind == "refund":
        record |= {"goal": "purchase", "kind": "refund", "order_id": f"{client}-{rng.choice('ab')}"}
        return record | rng.choice(({}, {"value": "4"}, {"value": "100"}))
    record |= {"goal": kind} | rng.choice(MONEY)
    if kind == "purchase" and rng.random() < 0.6:
        record["order_id"] = f"{client}-{rng.choice('ab')}"
    elif kind == "purchase" and rng.random() < 0.3:
        record["lead_id"] = rng.choice(("l1", "l2"))
    elif kind == "survey":
        record["score"] = rng.randint(0, 10)
    elif kind == "joined":
        record["suspicious"] = rng.random() < 0.4
    if rng.random() < 0.2:
        record |= rng.choice(({"source": "fair", "medium": "offline"}, {"user_agent": "Googlebot/2.1"}))
    return record


def _cost(rng: random.Random, index: int, at: int) -> dict[str, Any]:
    source, medium, campaign = rng.choice(CAMPAIGNS)
    day = datetime.fromtimestamp(at / 1_000, UTC).date().isoformat()
    return {
        "event_id": f"x{index}",
        "cost_id": rng.choice(("row1", "row2", f"row{index}")),
        "day": day,
        "source": source,
        "medium": medium,
        "campaign": campaign,
        "cost": rng.choice(("150", "0.333", "12.5")),
        "currency": rng.choice(("EUR", "EUR", "USD", "JPY")),
        "clicks": rng.choice((0, 7, 100)),
        "impressions": rng.choice((0, 1_000)),
        "occurred_at": at,
    }


def _update(rng: random.Random, index: int, at: int, clients: list[str]) -> dict[str, Any]:
    lead = rng.choice(("l1", "l2", "l3"))
    record: dict[str, Any] = {
        "event_id": f"u{index}",
        "lead_id": lead,
        "occurred_at": at,
        "status": rng.choice(STATUSES),
        "currency": {"l1": "EUR", "l2": "USD", "l3": "JPY"}[lead],
    }
    if rng.random() < 0.4:
        record["qualification"] = rng.choice(("mql", "sql"))
    if rng.random() < 0.5:
        record |= {"revenue": rng.choice(("1000", "99.99", "250")), "profit": rng.choice(("10", "-5.5"))}
    if rng.random() < 0.3:
        record |= rng.choice(({"client_id": rng.choice(clients)}, {"source": "fair", "medium": "offline"}))
    return record
