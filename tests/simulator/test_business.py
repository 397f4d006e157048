"""The CRM and the ad systems behind the simulated site."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from itertools import islice, pairwise
from typing import Any

import orjson

from stream_app.domain.costs import CostRules, read_cost, spend_of
from stream_app.domain.lead_events import compact, read_lead_update
from stream_app.engine.partitioning import partition_of
from stream_app.simulator.business import BILLBOARD, Business
from stream_app.simulator.faults import Faults
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig
from stream_app.simulator.visit import Behaviour
from tests.processors.lead_harness import RESOLVER

START = 1_767_000_000_000
MANY_LEADS = Behaviour(lead=0.3)


def make(seed: int, n: int, **options: Any) -> list[Record]:
    config = TrafficConfig(start_ms=START, rate=0.5, known=0, behaviour=MANY_LEADS, **options)
    return list(islice(Business(Traffic(seed, config), seed, tempo=0.02), n))


def by_topic(records: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.topic].append(record)
    return found


def test_the_traffic_goes_by_unchanged_but_for_the_leads_ids(seed: int) -> None:
    """In order, in the same bytes; the same seed gives the same business."""
    records = make(seed, 6_000)
    assert records == make(seed, 6_000)
    assert all(a.ts <= b.ts for a, b in pairwise(records))
    passed = [record for record in records if record.topic in {"clicks", "conversions"}]
    config = TrafficConfig(start_ms=START, rate=0.5, known=0, behaviour=MANY_LEADS)
    alone = list(islice(Traffic(seed, config), len(passed)))
    for record, before in zip(passed, alone, strict=True):
        value = orjson.loads(record.value)
        if value.get("goal") == "lead_form":
            assert value.pop("lead_id") == f"lead-{value['event_id']}"
        assert value == orjson.loads(before.value)


def test_everything_is_usable_and_on_its_partition(seed: int) -> None:
    """By the readers of the contract."""
    topics = by_topic(make(seed, 8_000, faults=Faults.parse("bad=0.01")))
    for record in topics["lead-updates"]:
        update = compact(read_lead_update(record.value), "EUR", RESOLVER)
        assert record.key == update.lead.encode()
        assert update.at == record.occurred_at <= record.ts
    for record in topics["costs"]:
        cost = read_cost(record.value)
        spend_of(cost, CostRules("EUR"), RESOLVER)
        assert record.key == cost.cost_id.encode()
    for record in (*topics["lead-updates"], *topics["costs"]):
        assert record.key is not None
        assert record.place % 8 == partition_of(record.key, 8)


def test_leads_live_all_kinds_of_lives(seed: int) -> None:
    """Every status, both qualifications, second chances, leads from a fair and over the phone."""
    values = [orjson.loads(record.value) for record in by_topic(make(seed, 30_000))["lead-updates"]]
    assert len({value["status"] for value in values}) == 7
    assert {value["qualification"] for value in values if "qualification" in value} == {"mql", "sql"}
    born = [value for value in values if value["status"] == "new"]
    assert any("source" in value for value in born)
    assert any("client_id" in value for value in born)
    forms = {value["lead_id"] for value in values if value["lead_id"].startswith("lead-")}
    assert len(forms) > 100
    again = Counter(value["event_id"] for value in values)
    assert 0.005 < sum(n - 1 for n in again.values()) / len(again) < 0.1


def test_costs_follow_the_clicks_and_one_campaign_brings_none(seed: int) -> None:
    """The last report of a day has all clicks of that day, and a few more."""
    records = make(seed, 30_000)
    last: dict[str, dict[str, Any]] = {}
    for record in by_topic(records)["costs"]:
        value = orjson.loads(record.value)
        last[value["cost_id"]] = value
    assert {"spring-sale", "lookalike-2", BILLBOARD[2]} <= {value["campaign"] for value in last.values()}
    for value in last.values():
        if value["campaign"] == BILLBOARD[2]:
            assert (value["clicks"], Decimal(value["cost"])) == (0, 40)
        elif value["medium"] != "affiliate":
            assert Decimal(value["cost"]) > 0
