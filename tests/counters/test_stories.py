"""Stories from inputs to counters, through the whole topology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.counters.world import Arrival, World, at, settings

START = at("2026-06-01T06:00:00Z")
MINUTE = 60_000
SHOP = "https://shop.example.com/"


def click(client: str, minute: int, query: str = "", **more: Any) -> Arrival:
    ts = START + minute * MINUTE
    record = {"event_id": f"v{minute}", "client_id": client, "occurred_at": ts, "url": f"{SHOP}landing{query}"}
    return ("clicks", record | more, ts)


def conversion(client: str, minute: int, goal: str, **more: Any) -> Arrival:
    ts = START + minute * MINUTE
    record = {"event_id": f"{client}-{minute}", "client_id": client, "occurred_at": ts, "goal": goal}
    return ("conversions", record | more, ts)


def update(lead: str, minute: int, status: str, **more: Any) -> Arrival:
    ts = START + minute * MINUTE
    record = {"event_id": f"u{minute}", "lead_id": lead, "occurred_at": ts, "status": status, "currency": "EUR"}
    return ("lead-updates", record | more, ts)


def counters(tmp_path: Path, story: list[Arrival], more: str = "") -> list[dict[str, Any]]:
    world = World(settings(tmp_path, more=more), start_ms=START)
    world.live([[*world.first(START), *sorted(story, key=lambda arrival: arrival[2])]], idle_ms=3 * 60 * MINUTE)
    return world.counters()


def test_the_golden_table_from_costs_clicks_and_leads(tmp_path: Path) -> None:
    """Sunglasses, Lenses, Diamonds (domain rules, section 5): costs, visits and forms go in, out come cost,
    CPL and CR of each campaign, by day and in total."""
    table = {
        "Sunglasses": (100, 150, 9, "15000.00", "1666.67", "0.09"),
        "Lenses": (300, 45, 16, "13500.00", "843.75", "0.053333"),
        "Diamonds": (50, 600, 11, "30000.00", "2727.27", "0.22"),
    }
    story: list[Arrival] = []
    for campaign, (clicks, cpc, leads, *_) in table.items():
        for number in range(leads):
            client = f"{campaign}{number}"
            story.append(click(client, number, f"?utm_source=google&utm_medium=cpc&utm_campaign={campaign}"))
            story.append(conversion(client, number + 1, "lead_form"))
        row = {"event_id": campaign, "cost_id": campaign, "day": "2026-06-01", "source": "Google", "medium": "CPC"}
        row |= {"campaign": campaign.upper(), "cost": str(clicks * cpc), "currency": "EUR", "clicks": clicks}
        story.append(("costs", row, START + 60 * MINUTE))
    found = counters(tmp_path, story)
    for window in ("1d", "total"):
        for campaign, (clicks, cpc, leads, cost, cpl, cr) in table.items():
            (record,) = [
                r
                for r in found
                if (r["dimension"], r["window"]) == ("campaign", window)
                and r["keys"]["campaign"].casefold() == campaign.casefold()
            ]
            assert record["counts"]["leads"] == record["counts"]["conversions"] == leads
            assert (record["sums"]["ad_clicks"], record["sums"]["cost"]) == (clicks, cost)
            assert (record["rates"]["cpc"], record["rates"]["cpl"], record["rates"]["click_cr"]) == (
                f"{cpc}.00",
                cpl,
                cr,
            )


def test_dimensions_by_setting(tmp_path: Path) -> None:
    """Term, content of the source, landing of the session, segment of conversions and leads, owner and refusal reason
    of leads."""
    more = '[counters]\ndimensions = ["term", "content", "landing", "owner", "refusal_reason", "segment.geo"]\n'
    tags = "?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=shoes&utm_content=banner"
    story = [
        click("c1", 1, tags),
        conversion("c1", 2, "lead_form", lead_id="l1", segment={"geo": "LV", "device": "phone"}),
        update("l1", 10, "contacted", owner="Ann"),
        update("l1", 20, "refused", owner="Bob", reason="too dear"),
        click("c2", 30),
    ]
    found = [r for r in counters(tmp_path, story, more) if r["window"] == "total"]

    def of(dimension: str, **keys: str) -> dict[str, int]:
        (record,) = [r for r in found if r["dimension"] == dimension and r["keys"] == keys]
        return {name: n for name, n in record["counts"].items() if n}

    for dimension, value in (("term", "shoes"), ("content", "banner")):
        counts = of(dimension, **{dimension: value})
        assert (counts["sessions"], counts["conversions"], counts["leads"], counts["refused"]) == (1, 1, 1, 1)
    assert of("landing", landing=f"{SHOP}landing") == {
        "sessions": 2,
        "page_views": 2,
        "engaged_sessions": 1,
        "new_clients": 2,
    }
    geo = {r["keys"]["segment.geo"]: r for r in found if r["dimension"] == "segment.geo"}
    assert set(geo) == {"LV"}
    assert of("segment.geo", **{"segment.geo": "LV"})["conversions"] == 1
    assert of("refusal_reason", refusal_reason="too dear") == {"refused": 1}
    assert of("owner", owner="Ann")["contacted"] == 1
    assert of("owner", owner="Bob")["refused"] == 1
    assert not [r for r in found if r["dimension"] == "segment.device"]


def test_a_deal_that_is_lost_takes_its_revenue_back_in_the_window_of_the_change(tmp_path: Path) -> None:
    """And `won_cohort` of the lead's own day says that it is not won any more (semantics 40)."""
    story = [
        update("l1", 0, "new", source="fair", medium="offline"),
        update("l1", 60, "won", revenue="1000", profit="200"),
        update("l1", 24 * 60, "refused"),
    ]
    found = [r for r in counters(tmp_path, story) if r["dimension"] == "channel" and r["keys"]["channel"] == "Offline"]
    by_day = {r["window_start"]: r for r in found if r["window"] == "1d"}
    first, second = (by_day[day] for day in sorted(by_day))
    assert (first["sums"]["revenue"], first["counts"]["won"], first["counts"]["won_cohort"]) == ("1000.00", 1, 0)
    assert (second["sums"]["revenue"], second["sums"]["profit"], second["counts"]["refused"]) == (
        "-1000.00",
        "-200.00",
        1,
    )
    (total,) = [r for r in found if r["window"] == "total"]
    assert (total["sums"]["revenue"], total["counts"]["leads"], total["rates"]["lead_to_won"]) == ("0.00", 1, "0")


def test_what_happens_twice_in_one_minute_counts_twice(tmp_path: Path) -> None:
    """Refunds of one amount in one minute, and a lead refused and reopened twice in one: the second of them is heard
    in a later commit than the first, and is one more."""

    def refund(number: int) -> Arrival:
        ts = START + 30 * MINUTE + number * 1_000
        more = {"kind": "refund", "order_id": "o1", "value": "10"}
        record = {"event_id": f"r{number}", "client_id": "c1", "occurred_at": ts, "goal": "purchase"}
        return ("conversions", record | more, ts)

    def soon(number: int, status: str) -> Arrival:
        ts = START + 30 * MINUTE + number * 1_000
        return ("lead-updates", {"event_id": f"s{number}", "lead_id": "l1", "occurred_at": ts, "status": status}, ts)

    world = World(settings(tmp_path), start_ms=START)
    begun = [
        *world.first(START),
        click("c1", 1),
        conversion("c1", 2, "purchase", value="100", order_id="o1"),
        update("l1", 3, "new", source="fair", medium="offline"),
    ]
    parts = [
        [refund(1), soon(1, "refused"), soon(2, "reopened")],
        [refund(2), soon(3, "refused"), soon(4, "reopened")],
    ]
    world.live([begun, *parts], idle_ms=3 * 60 * MINUTE)
    for record in world.counters():
        if record["dimension"] == "all" and record["window"] == "total":
            counts, sums = record["counts"], record["sums"]
            assert (counts["refunds"], sums["refunded"], sums["revenue"]) == (2, "20.00", "80.00")
            assert (counts["refused"], counts["reopened"]) == (2, 2)
            break
    else:
        raise AssertionError("no total")


def test_off_is_off(tmp_path: Path) -> None:
    """No counter, and nothing on its way to one."""
    world = World(settings(tmp_path, more="[counters]\nenabled = false\n"), start_ms=START)
    world.live([[*world.first(START), click("c1", 1), conversion("c1", 2, "purchase", value="5")]])
    assert world.counters() == []
    kinds = {
        dict(record.headers)["kind"] for p in world.log.topic(world.topology.repartition) for record in p.read(0)[0]
    }
    assert not {kind for kind in kinds if kind.startswith(b"counter")}


def test_a_sale_at_a_loss_is_a_sale(tmp_path: Path) -> None:
    """Its profit is less than nothing, as that of a lead may be; a share of it is nothing, and nobody owes it."""
    programs = '[[programs]]\nname = "p"\nlevels = ["10%"]\nbasis = "profit"\nlink_parameters = ["ref"]\n'
    enrolled = {"event_id": "e", "user_id": "anna", "occurred_at": START, "type": "enrolled", "code": "anna"}
    world = World(settings(tmp_path, more=programs), start_ms=START)
    story = [
        ("referral-events", enrolled | {"program": "p"}, START),
        click("c1", 1, "?ref=anna"),
        conversion("c1", 2, "purchase", value="50", profit="-5.005"),
        conversion("c1", 3, "purchase", value="30", profit="20"),
    ]
    world.live([[*world.first(START), *story]], idle_ms=3 * 60 * MINUTE)
    (everything,) = [r for r in world.counters() if (r["window"], r["dimension"]) == ("total", "all")]
    assert (everything["counts"]["conversions"], everything["sums"]["value"]) == (2, "80.00")
    assert everything["sums"]["profit"] == "14.99"
    rewards = sorted((r["basis"], r["amount"]) for r in world.last("referral-rewards").values())
    assert rewards == [("20.00", "2.00")]


def test_an_answer_that_moves_to_another_advertisement_of_its_campaign_stays(tmp_path: Path) -> None:
    """A late click makes another term, or another case of the campaign, the last one before the answer: a counter of
    the same keys takes it back and gets it at once."""
    tags = "?utm_source=google&utm_medium=cpc"
    early = click("c1", 1, f"{tags}&utm_campaign=spring&utm_term=shoes")
    late = click("c1", 5, f"{tags}&utm_campaign=Spring&utm_term=boots")
    world = World(settings(tmp_path), start_ms=START)
    answered = [*world.first(START), early, conversion("c1", 10, "survey", score=10)]
    world.live([answered, [(*late[:2], START + 20 * MINUTE)]], idle_ms=3 * 60 * MINUTE)
    (answer,) = [c for c in world.last("attributed-conversions").values() if c["goal"] == "survey"]
    assert [t["campaign"] for t in answer["touchpoints"]] == ["spring", "Spring"]
    found = world.counters()
    scores = {
        (r["window"], r["dimension"]): r["nps"]
        for r in found
        if r["window"] in {"1d", "total"} and {"all", "google", "Paid Search"} & {r["dimension"], *r["keys"].values()}
    }
    assert set(scores.values()) == {"100"}
    assert {"all", "channel", "source_medium", "campaign"} <= {dimension for _, dimension in scores}
