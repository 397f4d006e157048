"""Referral programmes from files to files: the story, any order, nothing personal."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream_app.cli.main import main
from tests.referral.worlds import (
    CANARIES,
    CONFIG,
    DAY,
    MINUTE,
    TRACES,
    anna,
    at,
    bought,
    click,
    joined,
    read,
    world,
    write,
)

YEAR = 365 * DAY


def sales_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "conversions.jsonl").read_text().splitlines()]


def replay(tmp_path: Path, options: list[str], name: str = "out", *more: str) -> Path:
    out = tmp_path / name
    result = CliRunner().invoke(main, ["replay", *options, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(("late", "paid"), [(YEAR - DAY, True), (YEAR, True), (YEAR + DAY, False)])
def test_the_story_of_anna_misha_olga_and_petr(tmp_path: Path, late: int, paid: bool) -> None:
    """100, 50 and 20 on a purchase of 1,000 up to a year after the click; a day later nothing."""
    out = replay(tmp_path, write(tmp_path / "in", anna(late)))
    rewards = {(r["user_id"], r["level"]): r["amount"] for r in read(out / "referral-rewards.jsonl").values()}
    assert rewards == ({("olga", 1): "100.00", ("misha", 2): "50.00", ("anna", 3): "20.00"} if paid else {})
    assert (out / "dead-letters.jsonl").read_text() == ""
    sessions = read(out / "attributed-sessions.jsonl").values()
    assert {s["channel"] for s in sessions if s["landing_url"]} == {"Referral Programme"}


@pytest.mark.parametrize("seed", range(4))
def test_a_world_in_any_order_within_grace_comes_to_the_same(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards, counters and what journeys say of arrivals by code, in whatever steps time moves on; and the counters
    are the sums of the rewards."""
    options = write(tmp_path / "in", world(seed))
    in_order = replay(tmp_path, options)
    rewards = read(in_order / "referral-rewards.jsonl")
    counters = read(in_order / "referral-counters.jsonl")
    for shuffle, chunk in ((1, 37), (2, 20_000)):
        monkeypatch.setattr("stream_app.app.replay._CHUNK", chunk)
        other = replay(tmp_path, options, f"out{shuffle}", "--shuffle", str(shuffle))
        assert read(other / "referral-rewards.jsonl") == rewards
        assert read(other / "referral-counters.jsonl") == counters
        for topic in ("attributed-sessions", "attributed-conversions", "lead-counters"):
            assert read(other / f"{topic}.jsonl") == read(in_order / f"{topic}.jsonl"), topic
    by_code = [
        sale["event_id"]
        for sale in read(in_order / "attributed-conversions.jsonl").values()
        if (sale["touchpoints"] or [{"channel": "", "age_s": 0}])[-1]["channel"] == "Referral Programme"
        and sale["touchpoints"][-1]["age_s"] == 0
    ]
    codes = {sale["event_id"] for sale in sales_of(tmp_path / "in") if "promo_code" in sale}
    assert by_code
    assert codes >= set(by_code)
    sums: dict[tuple[str, str, str], Decimal] = {}
    for reward in rewards.values():
        if reward["status"] != "refunded":
            place = reward["program"], reward["currency"], reward["status"]
            sums[place] = sums.get(place, Decimal(0)) + Decimal(reward["amount"])
    counted = {
        (c["keys"]["program"], c["currency"], name): Decimal(amount)
        for c in counters.values()
        if c["window"] == "total" and c["dimension"] == "program"
        for name, amount in c["sums"].items()
        if name not in {"earned", "refunded"} and Decimal(amount)
    }
    assert counted == {place: amount for place, amount in sums.items() if amount}
    brought = Decimal(0)
    for sale in read(in_order / "attributed-conversions.jsonl").values():
        brought += Decimal(sale["value"]) - sum(Decimal(refund["value"]) for refund in sale["refunds"])
    for counter in counters.values():
        if counter["cohorts"] is not None and counter["currency"] == "EUR":
            assert sum(Decimal(cohort["revenue"]) for cohort in counter["cohorts"].values()) == brought
        amounts = {name: Decimal(amount) for name, amount in counter["sums"].items()}
        assert amounts.pop("earned") == sum(amounts.values())


def test_worlds_are_worth_looking_at(tmp_path: Path) -> None:
    """Rewards of all levels and kinds of status come up."""
    seen: set[object] = set()
    for seed in range(6):
        out = replay(tmp_path, write(tmp_path / f"in{seed}", world(seed)), f"out{seed}")
        for reward in read(out / "referral-rewards.jsonl").values():
            seen |= {reward["level"], reward["status"], *reward["reasons"]}
    assert {1, 2, "approved", "pending", "refunded", "rejected", "on_hold", "existing_customer", "capped"} <= seen


def test_nothing_personal_gets_anywhere(tmp_path: Path) -> None:
    """E-mail, telephone, name and ip of a referrer and a buyer are in no store, output or log."""
    story = anna(DAY)
    story["clicks"].append(click(9, "c-x", "https://shop.example.com/?ref=anna", ip=CANARIES["ip"]))
    story["conversions"].append(bought(2 * DAY, "c-petr", "10", **CANARIES))
    story["referral-events"].append(joined(DAY, "clara", "ANNA", **CANARIES))
    options = write(tmp_path / "in", story)
    result = CliRunner().invoke(
        main, ["replay", *options, "--out", str(tmp_path / "out"), "--state-directory", str(tmp_path / "state")]
    )
    assert result.exit_code == 0
    assert "code_taken" in (tmp_path / "out" / "dead-letters.jsonl").read_text()
    files = [path for part in ("out", "state") for path in (tmp_path / part).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 10_000
    everything = [(path.name, path.read_bytes()) for path in files] + [("log", result.output.encode())]
    pattern = re.compile("|".join(re.escape(trace) for trace in TRACES).encode(), re.IGNORECASE)
    assert pattern.search(str(CANARIES).encode()) is not None
    assert [name for name, content in everything if pattern.search(content)] == []


def test_a_promo_code_a_payout_and_an_unknown_programme(tmp_path: Path) -> None:
    """The whole life of a reward, and letters for what cannot be."""
    made = {
        "clicks": [],
        "conversions": [bought(DAY, "c-1", "200", promo_code="Welcome")],
        "referral-events": [
            joined(0, "anna", "ANNA", promo_code="WELCOME"),
            {**joined(3 * DAY, "anna", ""), "event_id": "pay", "type": "payout", "amount": "20.00", "currency": "EUR"},
            {**joined(4 * DAY, "anna", ""), "event_id": "more", "type": "payout", "amount": "20.00"},
            joined(5 * DAY, "anna", "X", program="nowhere"),
            joined(6 * DAY, "boris", "anna"),
        ],
    }
    out = replay(tmp_path, write(tmp_path / "in", made))
    (reward,) = read(out / "referral-rewards.jsonl").values()
    assert (reward["status"], reward["payout"], reward["amount"]) == ("paid", "pay", "20.00")
    letters = (out / "dead-letters.jsonl").read_text()
    assert sorted(re.findall(r'"reason": "(\w+)"', letters)) == ["code_taken", "payout_mismatch", "unknown_program"]
    assert re.findall(r'"topic": "([\w-]+)"', letters) == ["referral-events"] * 3
    assert '\\"event_id\\": \\"more\\"' in letters
    shown = CliRunner().invoke(main, ["rewards", "--user", "anna", "--data", str(out), "--format", "csv"])
    assert "20.00,EUR,paid" in shown.stdout


@pytest.mark.parametrize(("own", "shared", "held"), [((0, 40), 10, 1), ((10, 15), 0, 0), ((0, 10), 30, 0)])
@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "5")])
def test_the_ip_is_that_of_the_last_click_before_the_conversion(
    tmp_path: Path,
    own: tuple[int, int],
    shared: int,
    held: int,
    shuffle: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four customers come by the link, each from an address of their own, and also from one that all share, in minutes
    around their purchase after 20. Shared is the last before it: the fourth is held."""
    monkeypatch.setattr("stream_app.app.replay._CHUNK", 1)
    made: dict[str, list[dict[str, Any]]] = {"clicks": [], "conversions": [], "referral-events": []}
    made["referral-events"].append(joined(0, "anna", "ANNA"))
    page = "https://shop.example.com/page"
    for n in range(4):
        client, start, address = f"c-{n}", (n + 1) * DAY, f"198.51.100.{n}"
        first, other = (start + minutes * MINUTE for minutes in own)
        made["clicks"] += [
            click(first, client, "https://shop.example.com/?ref=anna", ip=address),
            click(other, client, page, ip=address),
            click(start + shared * MINUTE, client, page, ip="198.51.100.99"),
            click(start + 19 * MINUTE, client, page),
        ]
        made["conversions"].append(bought(start + 20 * MINUTE, client, "100"))
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    rewards = read(out / "referral-rewards.jsonl").values()
    assert len(rewards) == 4
    assert [r["reasons"] for r in rewards if r["reasons"]] == [["same_ip"]] * held
    assert len(read(out / "attributed-sessions.jsonl")) == 4


HALF_AN_HOUR = 30 * MINUTE


@pytest.mark.parametrize(
    ("login", "user", "late", "bound"),
    [
        (2 * DAY, "misha", 0, True),  # in a later session than the link
        (
            HALF_AN_HOUR,
            "misha",
            60 * MINUTE,
            True,
        ),  # the visit by the link is heard of when the login's session is closed
        (4 * DAY, "misha", 0, False),  # at the enrolment nobody knew
        (2 * DAY, "olga", 0, False),  # the client became another's first
    ],
)
@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "5")])
def test_a_code_that_a_client_brought_binds_whoever_it_turned_out_to_be_by_then(
    tmp_path: Path,
    login: int,
    user: str,
    late: int,
    bound: bool,
    shuffle: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The enrolment names no client: that the client is Misha's, a click with the user's id has said."""
    monkeypatch.setattr("stream_app.app.replay._CHUNK", 1)
    page = "https://shop.example.com/?utm_source=news&utm_medium=email"  # owes nothing to the visit before
    made: dict[str, list[dict[str, Any]]] = {
        "clicks": [
            click(60 * MINUTE, "c-other", page),
            click(-MINUTE, "c-misha", "https://shop.example.com/"),
            click(0, "c-misha", "https://shop.example.com/?ref=anna", received_at=at(late)),
            click(login, "c-misha", page, user_id=user),
            *([click(login + DAY // 2, "c-misha", page, user_id="misha")] if user != "misha" else []),
        ],
        "conversions": [bought(6 * DAY, "c-petr", "100", promo_code="misha")],
        "referral-events": [joined(-DAY, "anna", "ANNA"), joined(3 * DAY, "misha", "MISHA")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    paid = {r["user_id"]: r["amount"] for r in read(out / "referral-rewards.jsonl").values()}
    assert paid == {"misha": "10.00"} | ({"anna": "5.00"} if bound else {})


@pytest.mark.parametrize(
    ("link", "paid"),
    [
        ("?ref=header&ref=x&via=anna", "anna"),  # what others call ref is nobody's code
        ("?via=misha&ref=anna", "misha"),  # of two that are somebody's the first
        ("?ref=anna&via=misha", "anna"),
        ("?ref=gone&via=anna", "anna"),  # of somebody who has left
    ],
)
@pytest.mark.parametrize("attribution", ["first", "last"])
def test_of_several_codes_in_a_link_the_first_that_can_be_used_counts(
    tmp_path: Path, link: str, paid: str, attribution: str
) -> None:
    left = joined(-DAY + 1, "zoe", "unused") | {"type": "left"}
    made = {
        "clicks": [click(0, "c-1", f"https://shop.example.com/{link}")],
        "conversions": [bought(DAY, "c-1", "100"), bought(5 * DAY, "c-1", "100")],
        "referral-events": [joined(-DAY, user, user.upper()) for user in ("anna", "misha")]
        + [joined(-DAY, "zoe", "GONE"), left],
    }
    config = CONFIG.replace("[[programs]]", f'[[programs]]\nattribution = "{attribution}"', 1)
    out = replay(tmp_path, write(tmp_path / "in", made, config))
    rewards = read(out / "referral-rewards.jsonl").values()
    assert [(r["user_id"], r["amount"]) for r in rewards] == [(paid, "10.00")] * 2
    counted = [
        (c["keys"]["code"], c["counts"]["visits"])
        for c in read(out / "referral-counters.jsonl").values()
        if c["dimension"] == "code" and c["window"] == "total"
    ]
    known = [name for name in ("anna", "misha") if name in link]
    assert sorted(counted) == [(name, 1) for name in known], "each is a visit by it"


@pytest.mark.parametrize("known", ["at the link", "later", "never"])
@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "3")])
def test_the_partner_whose_link_a_journey_credits_is_paid(tmp_path: Path, known: str, shuffle: tuple[str, ...]) -> None:
    """The link is opened on the telephone, the purchase made on the desktop, by one user as far as anybody knows."""
    page = "https://shop.example.com/"
    made = {
        "clicks": [
            click(0, "phone", f"{page}?ref=anna", **({"user_id": "misha"} if known == "at the link" else {})),
            *([click(3 * MINUTE, "phone", page, user_id="misha")] if known == "later" else []),
        ],
        "conversions": [bought(10 * MINUTE, "desktop", "100", user_id="misha")],
        "referral-events": [joined(-DAY, "anna", "ANNA")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    (sale,) = read(out / "attributed-conversions.jsonl").values()
    credited = [c["channel"] for c in sale["credits"]["last_non_direct"]]
    paid = [(r["user_id"], r["amount"]) for r in read(out / "referral-rewards.jsonl").values()]
    assert (credited == ["Referral Programme"]) is (known != "never")
    assert paid == ([("anna", "10.00")] if known != "never" else [])


@pytest.mark.parametrize("codes", [1, 15])
def test_visits_with_codes_of_nobody_do_not_push_a_partners_out(tmp_path: Path, codes: int) -> None:
    """Whatever else is called ref on a page: before the visit by the partner's link and behind it."""
    junk = [f"https://shop.example.com/?ref=banner-{n % codes}" for n in range(30)]
    urls = [*junk, "https://shop.example.com/?ref=anna", *junk]
    made = {
        "clicks": [click(n * MINUTE, "c-1", url) for n, url in enumerate(urls)],
        "conversions": [bought(DAY, "c-1", "100")],
        "referral-events": [joined(-DAY, "anna", "ANNA")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made))
    assert [r["user_id"] for r in read(out / "referral-rewards.jsonl").values()] == ["anna"]


def test_of_a_partners_visits_the_first_is_kept_among_many_others(tmp_path: Path) -> None:
    """Misha came later, so Anna keeps whom she brought first, however often either is seen again."""
    names = ["banner", "anna", "misha", "anna", *["banner"] * 30]
    made = {
        "clicks": [click(n * MINUTE, "c-1", f"https://shop.example.com/?ref={name}") for n, name in enumerate(names)],
        "conversions": [bought(DAY, "c-1", "100")],
        "referral-events": [joined(-DAY, user, user.upper()) for user in ("anna", "misha")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made))
    assert [r["user_id"] for r in read(out / "referral-rewards.jsonl").values()] == ["anna"]


def test_the_ip_of_a_click_publishes_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions have as many revisions with ips as without, also when a late click has them looked at again."""
    monkeypatch.setattr("stream_app.app.replay._CHUNK", 1)
    lines = []
    for name, fields in (("with", {"ip": "198.51.100.7"}), ("without", {})):
        url = "https://shop.example.com/?ref=anna"
        clicks = [click(0, "c-1", url, **fields)]
        clicks += [click(n * MINUTE, "c-1", "https://shop.example.com/page", **fields) for n in range(1, 9)]
        clicks.append(click(90_000, "c-1", "https://shop.example.com/page", received_at=at(9 * MINUTE), **fields))
        made = {"clicks": clicks, "conversions": [], "referral-events": [joined(0, "anna", "ANNA")]}
        out = replay(tmp_path, write(tmp_path / name, made), f"out-{name}", "--all-revisions")
        lines.append((out / "attributed-sessions.jsonl").read_text().count("\n"))
    assert lines[0] == lines[1] > 1


def test_referred_customers_are_told_from_others_in_every_currency(tmp_path: Path) -> None:
    """Customers are the same in each, what they brought is not."""
    made = {
        "clicks": [],
        "conversions": [
            bought(DAY, "c-1", "200", promo_code="Welcome"),
            bought(2 * DAY, "c-2", "90", currency="USD"),
            bought(3 * DAY, "c-2", "0.01", currency="USD"),
            bought(9 * DAY, "c-3", "5"),
        ],
        "referral-events": [joined(0, "anna", "ANNA", promo_code="WELCOME")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made))
    found = {
        (c["window"], c["currency"], kind): tuple(cohort.values())
        for c in read(out / "referral-counters.jsonl").values()
        if c["cohorts"] is not None and c["keys"] == {"program": "friends"}
        for kind, cohort in c["cohorts"].items()
    }
    assert found == {
        ("total", "EUR", "referred"): (1, 0, 0, 0, "200.00", "200.00"),
        ("total", "EUR", "other"): (2, 1, 1, 1, "5.00", "2.50"),
        ("total", "USD", "referred"): (1, 0, 0, 0, "0.00", "0.00"),
        ("total", "USD", "other"): (2, 1, 1, 1, "90.01", "45.01"),
    }


@pytest.mark.parametrize("value", [None, "0", "80"])
@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "2")])
def test_a_refund_of_what_had_no_value_takes_all_of_a_fixed_reward(
    tmp_path: Path, value: str | None, paid: bool, shuffle: tuple[str, ...]
) -> None:
    """No value of a refund means all that is left; a second one finds nothing."""
    sale = bought(DAY, "c-1", "", promo_code="p", order_id="o")
    refunds = [
        {**bought(n * DAY, "c-1", "", order_id="o"), "kind": "refund", "event_id": f"r{n}", "value": None}
        for n in (4, 5)
    ]
    payout = joined(3 * DAY, "pat", "", "partners") | {"type": "payout", "amount": "15", "event_id": "pay"}
    made = {
        "clicks": [],
        "conversions": [{**sale, "value": value}, *refunds],
        "referral-events": [joined(0, "pat", "P", "partners"), *([payout] if paid else [])],
    }
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    rewards = sorted((r["amount"], r["status"]) for r in read(out / "referral-rewards.jsonl").values())
    assert rewards == ([("-15.00", "approved"), ("15.00", "paid")] if paid else [("0.00", "refunded")])


@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "7")])
def test_each_kind_of_advocate_has_a_k_factor_of_its_own(tmp_path: Path, shuffle: tuple[str, ...]) -> None:
    """People they referred by those enrolled as such."""
    made = {
        "clicks": [],
        "conversions": [bought(DAY + n, f"c-{n}", "10", promo_code=code) for n, code in enumerate("aab")],
        "referral-events": [
            joined(0, "anna", "A", advocate_kind="expert"),
            joined(0, "boris", "B", advocate_kind="friend"),
            joined(0, "clara", "C", advocate_kind="friend"),
            joined(0, "dora", "D", advocate_kind="partner"),
        ],
    }
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    found = {
        c["keys"]["advocate_kind"]: (c["counts"]["referred"], c["counts"]["users"], c["rates"]["k_factor"])
        for c in read(out / "referral-counters.jsonl").values()
        if c["dimension"] == "advocate_kind" and c["window"] == "total"
    }
    assert found == {"expert": (2, 1, "2"), "friend": (1, 2, "0.5"), "partner": (0, 1, "0")}


@pytest.mark.parametrize("shuffle", [(), ("--shuffle", "3")])
def test_a_partners_code_is_where_the_sale_came_from(
    tmp_path: Path, shuffle: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anna is paid for a sale with her code, and her programme is credited with it, in journeys, counters and the
    funnel; a coupon of nobody leaves the advertisement what it brought."""
    monkeypatch.setattr("stream_app.app.replay._CHUNK", 2)
    advert = "https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign=spring"
    made = {
        "clicks": [click(DAY, "c-1", advert), click(DAY, "c-2", advert)],
        "conversions": [
            bought(DAY + 10 * MINUTE, "c-1", "200", promo_code="Welcome", order_id="o1"),
            bought(DAY + 10 * MINUTE, "c-2", "50", promo_code="SALE20"),
            {**bought(2 * DAY, "c-1", "80", order_id="o1"), "kind": "refund"},
        ],
        "referral-events": [joined(DAY + 5 * MINUTE, "anna", "ANNA", promo_code="WELCOME")],
    }
    out = replay(tmp_path, write(tmp_path / "in", made), "out", *shuffle)
    (reward,) = read(out / "referral-rewards.jsonl").values()
    assert (reward["user_id"], reward["amount"]) == ("anna", "12.00")
    sales = {sale["client_id"]: sale for sale in read(out / "attributed-conversions.jsonl").values()}
    assert sales["c-1"]["path"] == "Paid Search > Referral Programme"
    assert sales["c-2"]["path"] == "Paid Search"
    counted = {
        counter["keys"]["channel"]: (
            counter["counts"]["sessions"],
            counter["counts"]["conversions"],
            counter["sums"]["value"],
            counter["sums"]["refunded"],
            counter["funnel"]["referral"],
        )
        for counter in read(out / "lead-counters.jsonl").values()
        if (counter["dimension"], counter["window"]) == ("channel", "total")
    }
    assert counted == {
        "Paid Search": (2, 1, "50.00", "0.00", 0),
        "Referral Programme": (0, 1, "200.00", "80.00", 1),
    }


@pytest.mark.slow
def test_simulated_partners_are_paid(tmp_path: Path) -> None:
    """Most payouts of the simulator's are what the books say, and its reviews concern rewards that there are."""
    config = tmp_path / "app.toml"
    config.write_text(CONFIG.replace("holding_days = 1\n", 'holding_days = 1\nminimum_payout = "5"\n', 1))
    made = ["--config", str(config), "--events", "40000", "--days", "9", "--from", "2026-03-01", "--seed", "4"]
    source = tmp_path / "in"
    assert CliRunner().invoke(main, ["simulate", *made, "--program", "friends", "--out", str(source)]).exit_code == 0
    misspelt = CliRunner().invoke(main, ["simulate", *made, "--program", "freinds", "--out", str(source)])
    assert misspelt.exit_code == 2
    assert "friends" in misspelt.output
    files = [option for topic in ("clicks", "conversions", "referral-events")
             for option in (f"--{topic}", str(source / f"{topic}.jsonl"))]  # fmt: skip
    out = replay(tmp_path, ["--config", str(config), *files])
    statuses = Counter(reward["status"] for reward in read(out / "referral-rewards.jsonl").values())
    events = Counter(re.findall(r'"type":"(\w+)"', (source / "referral-events.jsonl").read_text()))
    letters = Counter(re.findall(r'"reason": "(\w+)"', (out / "dead-letters.jsonl").read_text()))
    assert statuses["paid"] >= 10, statuses
    assert events["payout"] >= 6, events
    assert events["approve"] + events["reject"] >= 1, events
    assert letters["payout_mismatch"] * 4 <= events["payout"], letters
    assert letters["bad_field"] <= 1, letters


def test_simulated_customers_refer_each_other(tmp_path: Path) -> None:
    """The simulator's programme comes to life in replay: enrolments, visits, rewards; the same each time."""
    made = ["simulate", "--events", "4000", "--days", "1", "--from", "2026-03-01", "--seed", "3"]
    made += ["--program", "friends"]
    for name in ("a", "b"):
        assert CliRunner().invoke(main, [*made, "--out", str(tmp_path / name)]).exit_code == 0
    one, other = ((tmp_path / name / "referral-events.jsonl").read_text() for name in ("a", "b"))
    assert one == other
    (tmp_path / "app.toml").write_text(CONFIG)
    files = [option for topic in ("clicks", "conversions", "referral-events")
             for option in (f"--{topic}", str(tmp_path / "a" / f"{topic}.jsonl"))]  # fmt: skip
    out = replay(tmp_path, ["--config", str(tmp_path / "app.toml"), *files])
    counters = [c for c in read(out / "referral-counters.jsonl").values() if c["window"] == "total" and c["counts"]]
    (total,) = [c["counts"] for c in counters if c["dimension"] == "program" and c["keys"]["program"] == "friends"]
    assert total["users"] >= 3
    assert total["visits"] >= 10
    assert total["invites"] >= 3
    assert total["referred"] >= 1
