"""Windows open, change, expire and overflow; records follow (semantics 20, 36; domain rules, section 6)."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from stream_app.domain.counters.figures import AD_CLICKS, CONVERSIONS, COST, LEADS, SESSIONS, VALUE
from stream_app.domain.counters.lines import CAMPAIGN, DEAL, VISIT, Line, Where
from stream_app.domain.counters.rules import CounterRules, Plan
from stream_app.domain.counters.windows import DAYS, LONG_WINDOWS, NAMES, TOTAL, Windows
from stream_app.processors.counters import processor as module
from tests.counters.desk import Desk

START = 29_500_000
MS = 60_000
DAY = 1_440
PLACES_IN_TOTAL = module.row_of(TOTAL, 0)
ONE = Where("google", "cpc", "Spring", "Paid Search", "Google")


def visit(minute: int = START, where: Where = ONE, n: int = 1, **more: Any) -> Line:
    return Line(minute, ((SESSIONS, n),), where=where, **more)


def deal(goal: str, minute: int = START, value: str = "0", currency: str = "") -> Line:
    amounts = ((VALUE, Decimal(value)),) if Decimal(value) else ()
    return Line(minute, ((CONVERSIONS, 1),) if not currency else (), amounts, ONE, DEAL, currency=currency, goal=goal)


def test_a_session_counts_once_in_each_dimension_and_window() -> None:
    """Five dimensions, four windows, keys as the contract names them."""
    desk = Desk(CounterRules())
    desk.commit([(visit(), 1)], START * MS)
    assert desk.written == 20
    found = {(r["dimension"], tuple(r["keys"].items())) for r in desk.records.values()}
    assert found == {
        ("all", ()),
        ("channel", (("channel", "Paid Search"),)),
        ("source_medium", (("source", "google"), ("medium", "cpc"))),
        ("campaign", (("source", "google"), ("medium", "cpc"), ("campaign", "Spring"))),
        ("platform", (("platform", "Google"),)),
    }
    assert {r["counts"]["sessions"] for r in desk.records.values()} == {1}


def test_what_is_taken_back_leaves_tombstones_and_nothing_else() -> None:
    """An all-zero counter is a tombstone; and it can come back."""
    desk = Desk(CounterRules())
    desk.commit([(visit(), 1)], START * MS)
    desk.commit([(visit(), -1)])
    assert desk.records == {}
    assert desk.tombstones == 20
    desk.commit([(visit(), 1), (visit(), -1)])
    assert desk.tombstones == 20
    desk.commit([(visit(), 1)])
    assert len(desk.records) == 20


def test_deltas_of_a_commit_are_coalesced_by_key() -> None:
    """A thousand sessions of one campaign make five records on their way, and twenty counters."""
    desk = Desk(CounterRules())
    desk.commit([(visit(), 1)] * 1_000, START * MS)
    assert desk.counts["counter_deltas"] == 5
    assert desk.written == 20
    assert desk.total("campaign", "1m", "sessions") == 1_000


def test_campaigns_are_one_whatever_their_letter_case_and_shown_as_first_seen() -> None:
    """Costs meet visits (semantics 37)."""
    desk = Desk(CounterRules())
    desk.commit([(visit(), 1)], START * MS)
    cost = Line(START, ((AD_CLICKS, 4),), ((COST, Decimal(10)),), ONE._replace(campaign="SPRING"), VISIT, LONG_WINDOWS)
    desk.commit([(cost, 1)])
    (total,) = desk.find("campaign", "total")
    assert total["keys"]["campaign"] == "Spring"
    assert (total["counts"]["sessions"], total["sums"]["cost"], total["rates"]["cpc"]) == (1, "10.00", "2.50")
    assert [r["sums"]["cost"] for r in desk.find("campaign", "1h")] == ["0.00"]


def test_two_spellings_in_one_commit_are_one_counter() -> None:
    """They share a record on their way, too."""
    desk = Desk(CounterRules())
    desk.commit([(visit(), 1), (visit(where=ONE._replace(campaign="sPRING")), 1)], START * MS)
    assert [r["counts"]["sessions"] for r in desk.find("campaign", "total")] == [2]
    assert desk.counts["counter_deltas"] == 5


def test_campaigns_with_one_id_are_one_under_the_name_that_came_first() -> None:
    """And they meet what has that name and no id (semantics 37)."""
    desk = Desk(CounterRules())
    named = ONE._replace(campaign="Spring", campaign_id="77")
    renamed = ONE._replace(campaign="Spring sale", campaign_id="77")
    other = ONE._replace(campaign="Spring sale", campaign_id="78")
    desk.commit([(visit(where=named), 1)], START * MS)
    desk.commit([(visit(where=renamed), 1), (visit(where=ONE._replace(campaign="SPRING")), 1)])
    desk.commit([(visit(where=other), 1), (visit(where=renamed), 1)])
    desk.commit([(visit(where=renamed), -1)])
    for window in ("1m", "1h", "1d", "total"):
        found = {r["keys"]["campaign"]: r["counts"]["sessions"] for r in desk.find("campaign", window)}
        assert found == {"Spring": 3, "Spring sale": 1}


def test_an_id_without_a_place_counts_by_its_name() -> None:
    """Ids are bounded as names are."""
    desk = Desk(CounterRules(values=2))
    for campaign_id in ("1", "2", "3"):
        for campaign in ("a", "b"):
            where = ONE._replace(campaign=campaign, campaign_id=campaign_id)
            desk.commit([(visit(where=where), 1)], START * MS)
    # "1" and "2" met "a" first and have the two places; "3" has none.
    found = {r["keys"]["campaign"]: r["counts"]["sessions"] for r in desk.find("campaign", "total")}
    assert found == {"a": 5, "b": 1}


def test_goals_take_the_sessions_and_cost_of_all_and_follow_them() -> None:
    """Their rates are right after every commit, also when only the sessions changed (semantics 39)."""
    desk = Desk(CounterRules())
    desk.commit([(visit(n=3), 1), (deal("purchase", value="5"), 1)], START * MS)
    (total,) = desk.find("goal", "total", goal="purchase")
    assert (total["counts"]["sessions"], total["counts"]["conversions"], total["rates"]["cr"]) == (3, 1, "0.333333")
    desk.commit([(visit(), 1)])
    cost = Line(START, (), ((COST, Decimal(8)),), ONE, VISIT, LONG_WINDOWS)
    desk.commit([(cost, 1)])
    (total,) = desk.find("goal", "total", goal="purchase")
    assert (total["counts"]["sessions"], total["rates"]["cr"], total["rates"]["cpa"]) == (4, "0.25", "8.00")
    desk.commit([(deal("purchase", value="5"), -1)])
    assert desk.find("goal", "total") == []
    desk.commit([(visit(), 1)])
    assert desk.find("goal", "total") == []


def test_goals_beyond_their_number_count_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of goals come from outside, too."""
    monkeypatch.setattr(module, "MAX_GOALS", 3)
    desk = Desk(CounterRules())
    for number in range(10):
        desk.commit([(deal(f"g{number}"), 1)], START * MS)
    assert {r["keys"]["goal"] for r in desk.find("goal", "total")} == {"g0", "g1", "g2", "(other)"}
    assert desk.total("goal", "total", "conversions") == 10


def test_currencies_stand_apart_and_counts_in_that_of_the_base() -> None:
    """One record per currency."""
    desk = Desk(CounterRules(base_currency="EUR"))
    desk.commit([(deal("purchase", value="5"), 1), (deal("purchase", value="700", currency="JPY"), 1)], START * MS)
    found = {r["currency"]: r for r in desk.find("channel", "total")}
    assert found["EUR"]["counts"]["conversions"] == 1
    assert (found["EUR"]["sums"]["value"], found["JPY"]["sums"]["value"]) == ("5.00", "700")
    assert found["JPY"]["counts"] == {}


# -- expiry -------------------------------------------------------------------------------------------------


def test_windows_expire_with_tombstones_the_total_never() -> None:
    """Minutes after two days, hours after sixty, days after twenty-five months; not a moment later."""
    desk = Desk(CounterRules())
    desk.commit([(visit(START + minute), 1) for minute in range(0, 3 * DAY, 97)], (START + 3 * DAY) * MS)
    rows = len(desk.rows.rows)
    assert rows > 200
    desk.commit(now=(START + 5 * DAY) * MS)
    assert desk.find("all", "1m") == []
    assert desk.find("all", "1h")
    desk.commit(now=(START + 63 * DAY) * MS)
    assert desk.find("all", "1h") == []
    assert desk.find("all", "1d")
    desk.commit(now=(START + 764 * DAY) * MS)
    assert desk.find("all", "1d") == []
    assert {r["window"] for r in desk.records.values()} == {"total"}
    assert {number for _, number in desk.rows.rows} == {PLACES_IN_TOTAL}, "nothing is left of expired windows"
    assert desk.total("all", "total", "sessions") == len(range(0, 3 * DAY, 97))


@pytest.mark.parametrize("seed", range(8))
def test_a_window_is_there_until_it_expires_and_not_a_moment_longer(seed: int) -> None:
    """Window by window, whatever the gaps between them: what is visible is a function of the stream time."""
    rng = random.Random(seed)
    desk = Desk(CounterRules(timezone="Europe/Riga"))
    minutes = sorted(rng.sample(range(START, START + 40 * DAY), 30))
    for minute in minutes:
        desk.commit([(visit(minute), 1)], minute * MS)
    lives = {"1m": 2 * DAY, "1h": 60 * DAY, "1d": 761 * DAY}
    for now in sorted(rng.sample(range(START + 40 * DAY, START + 802 * DAY), 60)):
        desk.commit(now=now * MS)
        for window, life in lives.items():
            kind = NAMES.index(window)
            starts = {Windows("Europe/Riga").start(kind, minute) for minute in minutes}
            found = {
                int(datetime.fromisoformat(r["window_start"]).timestamp()) // 60 for r in desk.find("campaign", window)
            }
            assert found == {start for start in starts if start + life > now}


def test_a_change_of_an_expired_window_is_dropped_and_counted_and_opens_nothing() -> None:
    """Its day and total still take it (semantics 36)."""
    desk = Desk(CounterRules())
    now = (START + 2 * DAY) * MS
    desk.commit([(visit(START), 1)], now - 1)
    assert len(desk.find("all", "1m")) == 1
    desk.commit(now=now)
    assert desk.find("all", "1m") == []
    desk.commit([(visit(START), 1)])
    assert desk.counts["counter_deltas_expired"] == 5
    assert desk.find("all", "1m") == []
    assert [r["counts"]["sessions"] for r in desk.find("all", "1d")] == [2]
    desk.commit([(visit(START - 61 * DAY), 1)])
    assert desk.counts["counter_deltas_expired"] == 15
    assert desk.total("all", "total", "sessions") == 3


# -- overflow -----------------------------------------------------------------------------------------------


def hostile(number: int) -> Where:
    return ONE._replace(campaign=f"campaign {number}")


def test_values_beyond_the_bound_count_as_other_and_sums_stay_right() -> None:
    """Admission is by arrival; what came in time keeps its place until the window expires (semantics 20)."""
    desk = Desk(CounterRules(values=10))
    for number in range(40):
        desk.commit([(visit(where=hostile(number)), 1)], START * MS)
    for window in ("1m", "1h", "1d", "total"):
        found = {r["keys"]["campaign"]: r["counts"]["sessions"] for r in desk.find("campaign", window)}
        assert found == {f"campaign {n}": 1 for n in range(10)} | {"(other)": 30}
        assert desk.find("campaign", window, campaign="(other)")[0]["keys"] == dict.fromkeys(
            ("source", "medium", "campaign"), "(other)"
        )
    assert desk.counts["counter_overflow"] == 4 * 30
    desk.commit([(visit(where=hostile(3)), 1), (visit(where=hostile(33)), 1)])
    (kept,) = desk.find("campaign", "total", campaign="campaign 3")
    assert kept["counts"]["sessions"] == 2
    assert desk.total("campaign", "total", "sessions") == 42
    assert [r["counts"]["sessions"] for r in desk.find("channel", "total")] == [42]


def test_a_place_is_kept_while_its_counter_is_nothing() -> None:
    """Else what is taken back could meet another counter than what was counted."""
    desk = Desk(CounterRules(values=1))
    desk.commit([(visit(where=hostile(0)), 1)], START * MS)
    desk.commit([(visit(where=hostile(0)), -1)])
    desk.commit([(visit(where=hostile(1)), 1)])
    desk.commit([(visit(where=hostile(0)), 1)])
    desk.commit([(visit(where=hostile(1)), -1)])
    assert {r["keys"]["campaign"]: r["counts"]["sessions"] for r in desk.find("campaign", "total")} == {"campaign 0": 1}


def test_a_new_window_has_places_of_its_own() -> None:
    """Who found no place in one minute has one in the next; places of expired windows are given up."""
    desk = Desk(CounterRules(values=1))
    for minute in range(3):
        for number in (minute, 7):
            desk.commit([(visit(START + minute, hostile(number)), 1)], (START + minute) * MS)
    by_minute = {(r["window_start"], r["keys"]["campaign"]) for r in desk.find("campaign", "1m")}
    assert len(by_minute) == 6
    assert {campaign for _, campaign in by_minute} == {"campaign 0", "campaign 1", "campaign 2", "(other)"}
    desk.commit(now=(START + 800 * DAY) * MS)
    assert {number for _, number in desk.rows.rows} == {PLACES_IN_TOTAL}


def test_places_are_shared_out_between_tasks() -> None:
    """Each takes its part, rounded up."""
    desk = Desk(CounterRules(values=10), partitions=4)
    desk.commit([(visit(where=hostile(number)), 1) for number in range(20)], START * MS)
    assert len(desk.find("campaign", "total")) == 3 + 1


def sessions_by_start(desk: Desk, dimension: str, window: str) -> dict[str | None, int]:
    """Sessions of all keys together. Expired minutes are left out: their tombstones come key by key."""
    found: dict[str | None, int] = {}
    for record in desk.find(dimension, window):
        start = record["window_start"]
        if window == "1m" and datetime.fromisoformat(start).timestamp() * 1_000 + 2 * DAY * MS <= desk.now:
            continue
        found[start] = found.get(start, 0) + record["counts"]["sessions"]
    return {start: n for start, n in found.items() if n}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_counted_and_taken_back_sums_add_up_over_keys(seed: int) -> None:
    """With few places, many names, and time going on: the keys of a dimension together are what `all` says."""
    rng = random.Random(seed)
    desk = Desk(CounterRules(values=rng.randint(1, 6)))
    counted: list[Line] = []
    now = START
    for _ in range(40):
        now += rng.choice((0, 1, 30, 700))
        batch: list[tuple[Line, int]] = []
        for _ in range(rng.randint(0, 5)):
            if counted and rng.random() < 0.4:
                batch.append((counted.pop(rng.randrange(len(counted))), -1))
            else:
                line = visit(now - rng.choice((0, 5, 61)), hostile(rng.randint(0, 12)), rng.randint(1, 3))
                counted.append(line)
                batch.append((line, 1))
        desk.commit(batch, now * MS)
        for window in ("1m", "1h", "1d", "total"):
            of_all = sessions_by_start(desk, "all", window)
            for dimension in ("campaign", "channel"):
                assert sessions_by_start(desk, dimension, window) == of_all
    assert desk.total("all", "total", "sessions") == sum(n for line in counted for _, n in line.counts)


# -- plans --------------------------------------------------------------------------------------------------


def test_plans_are_met_by_the_days_of_their_month() -> None:
    """By campaign, source and medium in any letter case, and for everything; others and other months do not count."""
    plans = (
        Plan("2026-02", "spring", "Google", "CPC", figures={"leads": Decimal(4), "cost": Decimal(100)}),
        Plan("2026-02", "spring", "bing", figures={"sql": Decimal(4)}),
        Plan("2026-02", figures={"sessions": Decimal(10)}),
    )
    desk = Desk(CounterRules(timezone="Europe/Riga", plans=plans))
    february = 29_531_400  # 2026-02-23 in Riga
    lead = Line(february, ((LEADS, 1),), where=ONE)
    march = Line(february + 9 * DAY, ((LEADS, 1),), where=ONE)
    cost = Line(february, (), ((COST, Decimal("12.5")),), ONE, VISIT, LONG_WINDOWS)
    desk.commit([(lead, 1), (march, 1), (cost, 1), (visit(february), 1)], (february + 9 * DAY) * MS)
    (total,) = desk.find("campaign", "total")
    assert total["plan"] == {
        "2026-02": {
            "leads": {"plan": "4", "actual": "1", "completion": "0.25"},
            "cost": {"plan": "100.00", "actual": "12.50", "completion": "0.125"},
        }
    }
    (everything,) = desk.find("all", "total")
    assert everything["plan"] == {"2026-02": {"sessions": {"plan": "10", "actual": "1", "completion": "0.1"}}}
    assert [r["plan"] for r in desk.find("channel", "total")] == [None]
    assert {r["plan"] for r in desk.find("campaign", "1d")} == {None}


def test_a_line_goes_only_to_the_dimensions_and_windows_that_it_names() -> None:
    """Distinct clients are told by key."""
    desk = Desk(CounterRules())
    desk.commit([(visit(dimensions=CAMPAIGN, windows=DAYS), 1)], START * MS)
    assert [(r["dimension"], r["window"]) for r in desk.records.values()] == [("campaign", "1d")]
