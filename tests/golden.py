"""The golden table of the domain rules, section 5, as input records and as counters that must come of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

MINUTE = 60_000


class Row(NamedTuple):
    """One campaign: what goes in, and what must come out."""

    clicks: int
    cpc: int
    cost: int
    leads: int
    cpl: str
    click_cr: float


TABLE = {
    "Sunglasses": Row(100, 150, 15_000, 9, "1666.67", 0.09),
    "Lenses": Row(300, 45, 13_500, 16, "843.75", 0.0533),
    "Diamonds": Row(50, 600, 30_000, 11, "2727.27", 0.22),
}


def inputs(start: int) -> dict[str, list[dict[str, Any]]]:
    """Records by topic, within two hours from `start`. One visit for each click that was paid for; each campaign's
    costs come in two rows of which one is corrected; of the leads every other is told by a form twice, and the CRM
    knows of each."""
    found: dict[str, list[dict[str, Any]]] = {"clicks": [], "conversions": [], "lead-updates": [], "costs": []}
    day = datetime.fromtimestamp(start / 1000, UTC).strftime("%Y-%m-%d")
    for name, row in TABLE.items():
        for index in range(row.clicks):
            at = start + index * 7_000
            person = f"{name}-{index}"
            url = f"https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign={name}"
            found["clicks"].append({"event_id": f"e-{person}", "client_id": person, "occurred_at": at, "url": url})
            if index >= row.leads:
                continue
            lead = {"client_id": person, "goal": "form", "lead_id": f"lead-{person}"}
            found["conversions"].append({**lead, "event_id": f"v-{person}", "occurred_at": at + MINUTE})
            if index % 2:
                found["conversions"].append({**lead, "event_id": f"w-{person}", "occurred_at": at + 2 * MINUTE})
            crm = {"event_id": f"u-{person}", "lead_id": f"lead-{person}", "status": "contacted"}
            found["lead-updates"].append({**crm, "occurred_at": at + 3 * MINUTE})
        part = row.clicks // 5
        cost = {"day": day, "source": "Google", "medium": "CPC", "campaign": name.upper(), "currency": "EUR"}
        for event, cost_id, clicks in (
            ("1", "brand", row.clicks),
            ("2", "generic", part),
            ("3", "brand", row.clicks - part),
        ):
            found["costs"].append(
                {
                    **cost,
                    "event_id": f"{name}-{event}",
                    "cost_id": f"{name}/{cost_id}/{day}",
                    "cost": clicks * row.cpc,
                    "clicks": clicks,
                }
            )
    return found


def check(records: Iterable[dict[str, Any]]) -> None:
    """The counters by campaign, of all time, are the table. `records`: the last of each id."""
    found = {
        record["keys"]["campaign"].lower(): record
        for record in records
        if not record["retracted"] and (record["window"], record["dimension"]) == ("total", "campaign")
    }
    assert set(found) == {name.lower() for name in TABLE}
    for name, row in TABLE.items():
        record = found[name.lower()]
        assert record["keys"]["source"] == "google"
        counts, sums, rates = record["counts"], record["sums"], record["rates"]
        assert (counts["leads"], counts["contacted"], counts["sessions"]) == (row.leads, row.leads, row.clicks), name
        assert (sums["cost"], sums["ad_clicks"]) == (f"{row.cost}.00", row.clicks), name
        assert float(rates["cpc"]) == row.cpc, name
        assert rates["cpl"] == row.cpl, name
        assert round(float(rates["click_cr"]), 4) == row.click_cr, name
