"""The golden table of the domain rules, section 5: costs, clicks and leads go in, the counters by campaign come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.test_replay_leads import T0, click, form, replay, write
from tests.golden import TABLE, check, inputs


def test_costs_clicks_and_leads_give_the_golden_table(tmp_path: Path) -> None:
    """Clicks × CPC = cost, CPL = cost ÷ leads, CR = leads ÷ clicks; whatever is corrected on the way."""
    write(tmp_path, **{name.replace("-", "_"): lines for name, lines in inputs(T0).items()})
    check(replay(tmp_path)["lead-counters"])


def test_the_golden_table_stands_when_everything_arrives_out_of_order(tmp_path: Path) -> None:
    """Within grace; costs of one row keep their order (semantics 21)."""
    write(tmp_path, **{name.replace("-", "_"): lines for name, lines in inputs(T0).items()})
    check(replay(tmp_path, "--shuffle", "7")["lead-counters"])


def test_a_campaign_without_visits_and_visits_without_spend_have_counters_of_their_own(tmp_path: Path) -> None:
    """Rates without a denominator are null."""
    cost = {"event_id": "k1", "cost_id": "k", "day": "2026-05-28", "source": "google", "medium": "cpc",
            "campaign": "Spend only", "cost": "10.00", "currency": "EUR", "clicks": 4}  # fmt: skip
    write(
        tmp_path,
        clicks=[click(0, "e1", "c1", "Visits+only")],
        conversions=[form(1_000, "v1", "c1")],
        costs=[cost],
    )
    found = {record["keys"]["campaign"]: record for record in totals(replay(tmp_path)["lead-counters"])}
    spend, visits = found["Spend only"], found["Visits only"]
    assert (spend["sums"]["cost"], spend["sums"]["ad_clicks"], spend["counts"]["leads"]) == ("10.00", 4, 0)
    assert (spend["rates"]["cpl"], spend["rates"]["click_cr"]) == (None, "0")
    assert (visits["sums"]["cost"], visits["counts"]["leads"], visits["rates"]["cpc"]) == ("0.00", 1, None)
    assert visits["rates"]["click_cr"] is None


def test_costs_meet_their_visits_whatever_the_case_the_account_and_the_currency(tmp_path: Path) -> None:
    """Campaigns join without regard to case; source and medium as `classify` puts them; a factor for the account, a
    rate for the currency; what has no rate stays apart (semantics 37)."""
    config = """
[site]
own_domains = ["shop.example.com"]
[[goals]]
name = "form"
kind = "lead"
[costs]
rates = { USD = "0.5" }
multipliers = { agency = "1.2" }
"""
    cost = {"day": "2026-05-28", "source": "Google", "medium": "CPC", "campaign": "LENSES", "clicks": 10}
    write(
        tmp_path,
        clicks=[click(0, "e1", "c1", "Lenses")],
        conversions=[form(1_000, "v1", "c1")],
        costs=[
            {**cost, "event_id": "k1", "cost_id": "a", "cost": 100, "currency": "EUR"},
            {**cost, "event_id": "k2", "cost_id": "b", "cost": "100", "currency": "USD", "account": "agency"},
            {**cost, "event_id": "k3", "cost_id": "c", "cost": "7", "currency": "GBP"},
        ],
    )
    found = {record["currency"]: record for record in totals(replay(tmp_path, config=config)["lead-counters"])}
    assert set(found) == {"EUR", "GBP"}
    assert found["EUR"]["sums"]["cost"] == "160.00"
    assert found["EUR"]["rates"]["cpl"] == "160.00"
    assert found["GBP"]["sums"]["cost"] == "7.00"
    assert found["EUR"]["counts"]["sessions"] == 1


def test_costs_and_visits_with_one_id_are_one_campaign_whatever_they_are_called(tmp_path: Path) -> None:
    """By `utm_id`, if both have one (semantics 37)."""
    cost = {"event_id": "k1", "cost_id": "a", "day": "2026-05-28", "source": "google", "medium": "cpc",
            "campaign": "Q2 push", "cost": 10, "currency": "EUR", "campaign_id": "77"}  # fmt: skip
    visit = click(0, "e1", "c1", "Spring")
    write(tmp_path, clicks=[visit | {"url": visit["url"] + "&utm_id=77"}], costs=[cost])
    (both,) = totals(replay(tmp_path)["lead-counters"])
    assert (both["counts"]["sessions"], both["sums"]["cost"]) == (1, "10.00")


def test_of_two_lines_about_one_row_the_later_one_counts_whatever_day_it_names(tmp_path: Path) -> None:
    """A row booked on the wrong day, and moved."""
    cost = {"cost_id": "k", "source": "google", "medium": "cpc", "campaign": "Lenses", "currency": "EUR"}
    write(
        tmp_path,
        costs=[
            {**cost, "event_id": "k1", "day": "2026-05-28", "cost": 10},
            {**cost, "event_id": "k2", "day": "2026-05-27", "cost": 7},
        ],
    )
    (total,) = totals(replay(tmp_path)["lead-counters"])
    assert total["sums"]["cost"] == "7.00"


def totals(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By campaign, of all time; what is left of each id."""
    return [r for r in records if not r["retracted"] and (r["window"], r["dimension"]) == ("total", "campaign")]


def test_the_table_is_that_of_the_rules() -> None:
    """A slip in the test's own table would prove nothing."""
    for name, row in TABLE.items():
        assert row.clicks * row.cpc == row.cost, name
    assert json.dumps({name: row.leads for name, row in TABLE.items()}) == (
        '{"Sunglasses": 9, "Lenses": 16, "Diamonds": 11}'
    )
