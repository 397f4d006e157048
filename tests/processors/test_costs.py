"""Advertising spend: the last record of a row counts, brought to one currency where there is a rate."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.domain.costs import MAX_SEEN, CostRules, Spend
from stream_app.engine.processor import Rejected
from stream_app.processors.costs import CostsProcessor
from tests.processors.harness import DictRows
from tests.processors.lead_harness import RESOLVER

RULES = CostRules("EUR", {"USD": Decimal("0.92")}, {"agency": Decimal("1.15")})
COST = {
    "event_id": "e1", "cost_id": "k", "day": "2026-05-28", "source": "google", "medium": "cpc", "campaign": "Lenses",
    "cost": "13500", "currency": "EUR",
}  # fmt: skip


class Spending:
    """The processor, and what its counter has in sum."""

    def __init__(self) -> None:
        self.processor = CostsProcessor(RULES, RESOLVER, self)
        self.saved: dict[bytes, bytes] = {}
        self.counted: list[Spend] = []
        self.counts: list[str] = []

    def move(self, before: Spend | None, after: Spend | None, context: Any) -> None:
        if before is not None:
            self.counted.remove(before)
        if after is not None:
            self.counted.append(after)

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.counts.append(name)

    def commit(self, *records: dict[str, Any]) -> Spending:
        by_key: dict[bytes, list[Any]] = {}
        for record in records:
            key = record["cost_id"].encode()
            by_key.setdefault(key, []).append(self.processor.decoder("costs")(key, json.dumps(record).encode(), 0))
        for key, events in by_key.items():
            payload = self.saved.get(key)
            state = None if payload is None else self.processor.load(key, 1, payload, DictRows())
            after = self.processor.fold(key, state, events, self)  # type: ignore[arg-type]
            assert after is not None
            self.saved[key] = self.processor.save(key, after, DictRows())
        return self


def spent(**change: Any) -> Spend:
    """What one record counts."""
    return Spending().commit({**COST, **change}).counted[0]


@pytest.mark.parametrize(
    ("change", "reason", "where"),
    [
        ({"day": "2026-5-28"}, "bad_field", "day"),
        ({"day": "2026-02-30"}, "bad_field", "day"),
        ({"day": "1969-12-31"}, "bad_field", "day"),
        ({"day": 20_000}, "bad_field", "day"),
        ({"cost": None}, "missing_field", "cost"),
        ({"cost": "-1"}, "bad_money", "cost"),
        ({"cost": "1.0000000001"}, "bad_money", "cost"),
        ({"currency": "???"}, "bad_money", "currency"),
        ({"currency": ""}, "bad_money", "currency"),
        ({"clicks": -1}, "bad_field", "clicks"),
        ({"clicks": 1.5}, "bad_field", "clicks"),
        ({"impressions": 10**15 + 1}, "bad_field", "impressions"),
        ({"campaign": "ā" * 1_025}, "too_large", "campaign"),
        ({"cost_id": "a\x7fb"}, "bad_field", "cost_id"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_field(change: dict[str, Any], reason: str, where: str) -> None:
    """By the reasons of the contract."""
    with pytest.raises(Rejected) as caught:
        Spending().processor.decoder("costs")(None, json.dumps({**COST, **change}).encode(), 0)
    assert (caught.value.reason, caught.value.detail.partition(":")[0]) == (reason, where)


def test_the_key_must_be_the_row() -> None:
    """And a record without a key is known by its row."""
    processor = Spending().processor
    value = json.dumps(COST).encode()
    with pytest.raises(Rejected, match="key_mismatch"):
        processor.decoder("costs")(b"other", value, 0)
    assert processor.key_of(processor.decoder("costs")(None, value, 0)) == b"k"


def test_source_and_medium_are_put_as_classify_puts_them() -> None:
    """So that spend meets the visits it paid for; the campaign keeps its case."""
    source = spent(source=" Google ", medium="CPC", campaign=" Lenses ").source
    assert (source.source, source.medium, source.campaign, source.channel) == ("google", "cpc", "Lenses", "Paid Search")
    assert spent(campaign_id="17").source.campaign_id == "17"


def test_amounts_get_the_accounts_factor_and_come_to_the_base_currency() -> None:
    """Clicks and impressions stay as they are; what has no rate stays apart (semantics 37)."""
    one = spent(cost="100.10", currency="USD", account="agency", clicks=7, impressions=90)
    assert (one.cost, one.currency, one.ad_clicks, one.impressions) == (Decimal("105.9058"), "EUR", 7, 90)
    assert spent(currency="GBP", cost=5) == spent(currency="gbp", cost="5.00")
    assert spent(currency="GBP", cost=5).currency == "GBP"
    assert spent(account="other").cost == 13500


def test_a_later_record_replaces_the_earlier_one_and_a_repeated_one_does_nothing() -> None:
    """By the order of the log, whatever day it names; duplicates are known by their event id."""
    run = Spending().commit(COST)
    run.commit({**COST, "event_id": "e2", "cost": "14000"}, COST)
    assert [spend.cost for spend in run.counted] == [14000]
    assert run.counts == ["duplicates"]
    run.commit({**COST, "event_id": "e3", "day": "2026-05-27", "campaign": "Diamonds"})
    assert [(spend.day, spend.source.campaign) for spend in run.counted] == [(20600, "Diamonds")]


def test_what_is_remembered_of_a_row_is_bounded() -> None:
    """Corrected a thousand times."""
    run = Spending()
    for index in range(1_000):
        run.commit({**COST, "event_id": f"e{index}", "cost": index})
    assert len(run.saved[b"k"]) < MAX_SEEN * 8 + 200
    assert [spend.cost for spend in run.counted] == [999]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 9)), max_size=12), st.data())
def test_any_split_into_commits_counts_the_last_of_each_row(
    sent: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """An event id that was there does not come back."""
    run = Spending()
    records = [{**COST, "cost_id": row, "event_id": f"e{event}", "cost": cost} for row, event, cost in sent]
    batch: list[dict[str, Any]] = []
    for record in records:
        batch.append(record)
        if data.draw(st.booleans()):
            run.commit(*batch)
            batch = []
    run.commit(*batch)
    last: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for row, event, cost in sent:
        if (row, event) not in seen:
            last[row] = cost
        seen.add((row, event))
    assert sorted(int(spend.cost) for spend in run.counted) == sorted(last.values())
