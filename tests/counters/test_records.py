"""A counter's record: rates of the contract, roundings, and bytes as the type says (semantics 37, 39)."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from stream_app.domain.counters.figures import AMOUNTS, COUNTS, Figures
from stream_app.domain.counters.records import LeadCounter, Renderer, keys_json, ratio
from stream_app.domain.counters.windows import DAY, HOUR, NAMES, TOTAL


def figures(**named: Any) -> Figures:
    counts = [0] * len(COUNTS)
    amounts = {}
    for name, value in named.items():
        if name in AMOUNTS:
            amounts[AMOUNTS.index(name)] = Decimal(value)
        else:
            counts[COUNTS.index(name)] = value
    return Figures(counts, amounts)


def record(found: Figures, kind: int = TOTAL, currency: str = "EUR") -> LeadCounter:
    keys = keys_json("channel", ('a "quoted" one\n',))
    body = Renderer("EUR", "v1").record("0" * 16, 7, kind, 29_000_000, "channel", keys, currency, found)
    return msgspec.json.decode(body, type=LeadCounter)


@pytest.mark.parametrize(
    ("clicks", "cost", "leads", "cpc", "cpl", "cr"),
    [(100, "15000", 9, "150.00", "1666.67", "0.09"), (300, "13500", 16, "45.00", "843.75", "0.053333"),
     (50, "30000", 11, "600.00", "2727.27", "0.22")],
)  # fmt: skip
def test_the_golden_table(clicks: int, cost: str, leads: int, cpc: str, cpl: str, cr: str) -> None:
    """Sunglasses, Lenses, Diamonds (domain rules, section 5): cost, CPL and CR of three campaigns."""
    for kind in (DAY, TOTAL):
        rates = record(figures(ad_clicks=clicks, cost=cost, leads=leads), kind).rates
        assert (rates.cpc, rates.cpl, rates.click_cr) == (cpc, cpl, cr)


def test_every_rate_by_its_formula() -> None:
    """With figures of which no two rates are alike."""
    found = record(
        figures(
            sessions=400, conversions=16, leads=10, won_cohort=3, ad_clicks=50, clients=80, joins=9, leaves=4,
            suspicious=3, cost="200", revenue="500", profit="150", value="700", refunded="60",
        ),
    ).rates  # fmt: skip
    assert msgspec.to_builtins(found) == {
        "cpc": "4.00", "cpl": "20.00", "cpa": "12.50", "cr": "0.04", "lead_cr": "0.025", "click_cr": "0.2",
        "lead_to_won": "0.3", "drr": "0.4", "roas": "3.2", "romi": "1.5", "roi": "-0.25", "arpu": "6.25",
        "growth": "2.25", "suspicious_share": "0.333333",
    }  # fmt: skip


def test_no_denominator_no_rate() -> None:
    """Null, never a division by zero and never 0."""
    assert set(msgspec.to_builtins(record(Figures([], {})).rates).values()) == {None}


def test_cost_rates_stand_in_days_and_in_total_only() -> None:
    """An hour knows no cost: a lead of it did not cost nothing."""
    rates = record(figures(leads=3, conversions=2, sessions=9, revenue="5", clients=2), HOUR).rates
    assert (rates.cpl, rates.cpa, rates.drr, rates.arpu, rates.cpc) == (None,) * 5
    assert rates.cr is not None


def test_another_currency_has_sums_and_rates_of_sums_only() -> None:
    """Counts stand in the record of the base currency."""
    found = record(figures(cost="100", ad_clicks=4, revenue="250", value="300"), TOTAL, "JPY")
    assert found.counts == {}
    assert found.funnel is None
    assert (found.sums.cost, found.sums.value, found.rates.cpc, found.rates.romi) == ("100", "300", "25", "1.5")
    assert (found.rates.cpl, found.rates.cr, found.rates.arpu) == (None, None, None)


@pytest.mark.parametrize(
    ("answers", "promoters", "detractors", "expected"),
    [(0, 0, 0, None), (3, 1, 1, "0"), (3, 2, 0, "66.67"), (3, 0, 1, "-33.33"), (1, 1, 0, "100")],
)
def test_nps_is_the_share_of_promoters_less_that_of_detractors(
    answers: int, promoters: int, detractors: int, expected: str | None
) -> None:
    """Sevens and eights are in the denominator."""
    assert record(figures(answers=answers, promoters=promoters, detractors=detractors)).nps == expected


def test_ratios_round_half_up_and_lose_trailing_zeros() -> None:
    assert [ratio(1, 3), ratio(2, 3), ratio(1, 2), ratio(-1, 3), ratio(5, 10_000_000), ratio(0, 5), ratio(3, 0)] == [
        "0.333333", "0.666667", "0.5", "-0.333333", "0.000001", "0", None,
    ]  # fmt: skip


def test_the_bytes_are_what_the_type_encodes_to() -> None:
    """Whatever the figures: the renderer writes by hand what msgspec would write."""
    rng = random.Random(1)
    for _ in range(300):
        found = Figures(
            [rng.choice((0, 0, 1, 7, 12_345)) for _ in range(rng.randint(0, len(COUNTS)))],
            {i: Decimal(rng.randint(-99_999, 99_999)).scaleb(-rng.randint(0, 4)) for i in range(rng.randint(0, 5))},
        )
        kind = rng.randrange(len(NAMES))
        currency = rng.choice(("EUR", "JPY", "KWD"))
        keys = keys_json("source_medium", ("a\u2028b", 'x"\\'))
        body = Renderer("EUR", "v1").record("0" * 16, 3, kind, 29_000_000, "source_medium", keys, currency, found)
        assert msgspec.json.encode(msgspec.json.decode(body, type=LeadCounter)) == body


@pytest.mark.parametrize("seed", range(20))
def test_what_is_remembered_of_one_record_shows_in_no_other(seed: int) -> None:
    """One renderer for many records that are nearly alike, against a new one for each."""
    rng = random.Random(seed)
    renderer, keys = Renderer("EUR", "v1"), keys_json("channel", ("Email",))
    for _ in range(200):
        found = figures(
            sessions=rng.randrange(3), conversions=rng.randrange(2),
            ad_clicks=rng.randrange(2), answers=rng.randrange(2),
            **{name: rng.choice(("1", "2.50")) for name in ("value", "cost") if rng.random() < 0.5},
        )  # fmt: skip
        found.settle()
        kind, currency = rng.randrange(4), rng.choice(("EUR", "USD", "JPY"))
        asked = ("0" * 16, 7, kind, 29_000_000, "channel", keys, currency, found)
        assert renderer.record(*asked) == Renderer("EUR", "v1").record(*asked)


def test_the_memory_of_short_windows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.domain.counters.records._MAX_SHORT", 10)
    renderer = Renderer("EUR", "v1")
    for sessions in range(100):
        renderer.record("0" * 16, 7, HOUR, 29_000_000, "all", "{}", "EUR", figures(sessions=sessions))
        assert len(renderer._short) <= 10
