"""Programmes: what is refused and why, what the examples in deploy/ pay, dry runs, links, statements."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream_app.cli.main import main
from stream_app.domain.referral.links import LinkReader, read_capture
from stream_app.domain.referral.planning import mix, plan
from stream_app.domain.referral.statement import as_csv, as_page, statement
from stream_app.settings import SettingsError, load, parse
from stream_app.settings.programs import programs_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "programs"
AT = "2026-12-02T00:00:00Z"


def check(file: Path, *lines: dict[str, object], code: int = 0) -> list[dict[str, object]]:
    """What `programs check --json` says of purchases."""
    purchases = "\n".join(json.dumps(line) for line in lines)
    result = CliRunner().invoke(
        main, ["programs", "check", str(file), "--at", AT, "--json", "--purchases", "-"], input=purchases
    )
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def paid(outcome: dict[str, object]) -> list[tuple[int, str, str]]:
    return [(p["level"], p["amount"], p["kind"]) for p in outcome["payments"]]


EXAMPLES = {
    "one-sided-percent": (
        [{"value": "99.95"}, {"value": "100", "day": 300}, {"value": "100", "day": 400}],
        [[(1, "10.00", "percent")], [(1, "10.00", "percent")], []],
    ),
    "two-sided-fixed": (
        [{"value": "49.99"}, {"value": "50"}, {"value": "500"}],
        [[], [(0, "10.00", "discount"), (1, "15.00", "fixed")], []],
    ),
    "three-levels": (
        [{"value": "1000"}, {"value": "9500", "refund": "100"}],
        [
            [(1, "100.00", "percent"), (2, "50.00", "percent"), (3, "20.00", "percent")],
            [(1, "900.00", "percent"), (2, "475.00", "percent"), (3, "190.00", "percent")],
        ],
    ),
    "partner-network": (
        [{"value": "1000", "day": 365}, {"value": "1000", "advocate_kind": "expert"}, {"value": "20000"}],
        [
            [(1, "120.00", "percent"), (2, "30.00", "percent")],
            [(1, "150.00", "percent"), (2, "30.00", "percent")],
            [(1, "4000.00", "percent"), (2, "600.00", "percent")],
        ],
    ),
    "employees": ([{"goal": "signup"}, {"value": "10"}], [[(1, "50.00", "fixed")], []]),
    "free-product": ([{"value": "10"}], [[(0, "12.00", "gift"), (1, "12.00", "gift")]]),
}


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_programme_pays_what_it_says(path: Path) -> None:
    purchases, expected = EXAMPLES[path.stem]
    assert [paid(outcome) for outcome in check(path, *purchases)] == expected


def test_every_example_is_there() -> None:
    assert {path.stem for path in DEPLOY.glob("*.toml")} == set(EXAMPLES)


def test_a_dry_run_says_why_nobody_is_paid(tmp_path: Path) -> None:
    (outcome,) = check(DEPLOY / "partner-network.toml", {"value": "10", "day": 366})
    assert outcome["why"] == "the visit is more than 365 days ago"
    (outcome,) = check(DEPLOY / "one-sided-percent.toml", {"value": "10", "goal": "signup"})
    assert outcome["why"] == "goal 'signup' does not qualify: the programme pays for purchase"
    text = CliRunner().invoke(main, ["programs", "check", str(DEPLOY / "three-levels.toml")]).stdout
    assert "circle (mastermind): good" in text
    assert "referrer at level 3: 20.00 EUR (percent, 2%)" in text


@pytest.mark.parametrize(
    ("wrong", "key", "message"),
    [
        ('levels = ["60%", "30%", "20%"]', "levels", "60 + 30 + 20 = 110 %"),
        ('levels = ["5%", "10%"]', "levels", "rise from 5% to 10%"),
        (
            'levels = ["5%"]\nvalid_from = "2026-01-02T00:00:00Z"\nvalid_to = "2026-01-01T00:00:00Z"',
            "valid_to",
            "never run",
        ),
        ('levels = ["5%"]\nvalid_from = "yesterday"', "valid_from", "RFC 3339"),
        ('levels = ["5%"]\ncap = "10"\ncap_period = "total"\nminimum_payout = "20"', "minimum_payout", "above"),
        ('levels = ["5%"]\nrates = [{ levels = ["9%"], advocate_kinds = ["neighbour"] }]', "rates[0]", "neighbour"),
        ('levels = ["5%"]\nrates = [{ levels = ["9%", "2%"] }]', "rates[0]", "has 2 levels; the programme has 1"),
        ('levels = ["5%"]\nreferred_reward = { kind = "percent", amount = "5" }', "referred_reward.amount", '"5%"'),
        ('levels = ["5%"]\nholding_days = 91', "holding_days", "90"),
        ('levels = ["5%"]\ncurrency = "XXX"', "currency", "ISO 4217"),
        (
            'levels = ["5%"]\nboosts = [{ from = "a", to = "2027-01-01T00:00:00Z", levels = ["1%"] }]',
            "boosts[0].from",
            "RFC 3339",
        ),
        (
            'levels = ["5%"]\nrates = [{ levels = ["9%"] }]\n'
            "boosts = [{ from = 2027-01-02T00:00:00Z, to = 2027-01-01T00:00:00Z, levels = ['1%'] }]",
            "boosts[0]",
            "ends before it begins",
        ),
        ('levels = ["5%"]\nvalid_to = 2026-01-02', "valid_to", "allowed: text"),
        ('levels = ["5%"]\nvalid_to = 2026-01-02T00:00:00', "valid_to", "RFC 3339 with an offset"),
        ('levels = ["5%"]\nlink_parameters = [""]', "link_parameters", "a parameter's name"),
        ('levels = ["5%"]\nfraud = { coupon_sites = ["https://c.example/"] }', "fraud.coupon_sites", "a host as"),
    ],
)
def test_a_wrong_programme_is_explained(tmp_path: Path, wrong: str, key: str, message: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f'[[programs]]\nname = "p"\ngoals = ["purchase"]\n{wrong}\n')
    with pytest.raises(SettingsError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"programs[0].{key}")
    assert message in str(problem)
    assert check(file, code=1) == []


def test_a_cap_is_that_of_each_referrer_in_a_dry_run(tmp_path: Path) -> None:
    """As the books have it, on all levels; one that cannot be compared is held."""
    file = tmp_path / "p.toml"
    file.write_text('[[programs]]\nname = "p"\nlevels = ["10%", "5%", "2%"]\ncap = "1000"\n')
    (first, second, third) = check(file, {"value": "30000"}, {"value": "10000"}, {"value": "10", "currency": "USD"})
    assert [(p["level"], p["amount"], p["notes"]) for p in first["payments"]] == [
        (1, "1000.00", ["capped"]),
        (2, "1000.00", ["capped"]),
        (3, "600.00", []),
    ]
    assert [p["amount"] for p in second["payments"]] == ["0.00", "0.00", "200.00"]
    assert {(p["currency"], *p["notes"]) for p in third["payments"]} == {("USD", "no_rate")}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('{"value": "-5"}', "purchase 2: value: -5 is no amount; allowed: 0 or more"),
        ('{"value": "NaN"}', "purchase 2: value: NaN is no amount"),
        ('{"value": "5", "refund": "-1"}', "purchase 2: refund: -1"),
        ('{"profit": "Infinity"}', "purchase 2: profit: Infinity"),
        ('{"value": "5", "currency": "XXX"}', 'purchase 2: currency: "XXX" is no ISO 4217 currency'),
        ('{"value": "5", "status": "lost"}', "allowed: mql, sql, won"),
        ('{"value": "5", "advocate_kind": "neighbour"}', "allowed: customer, past_customer"),
        ('{"value": "5", "day": -1}', "purchase 2: day"),
        ('{"valu": "5"}', "purchase 2 cannot be read"),
    ],
)
def test_an_example_that_cannot_be_is_explained(tmp_path: Path, wrong: str, message: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[programs]]\nname = "p"\nlevels = ["10%"]\n')
    lines = f'{{"value": "5", "profit": "0"}}\n{wrong}\n'
    result = CliRunner().invoke(main, ["programs", "check", str(file), "--purchases", "-"], input=lines)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


@pytest.mark.parametrize(("goal", "doubted"), [("purchse", True), ("purchase", False), ("won", False), ("tea", False)])
def test_a_goal_named_nearly_like_another_is_doubted(tmp_path: Path, goal: str, doubted: bool) -> None:
    """Goals need no settings; one that is misspelt would never pay."""
    file = tmp_path / "p.toml"
    file.write_text(f'[[programs]]\nname = "p"\nlevels = ["10%"]\nqualifies_on = ["{goal}"]\n')
    result = CliRunner().invoke(main, ["programs", "check", str(file)])
    assert result.exit_code == 0
    assert ('did you mean "purchase"?' in result.stderr) is doubted


def test_what_a_cap_of_a_month_leaves_adds_up_to_a_payout(tmp_path: Path) -> None:
    """A minimum above it is reached in two."""
    file = tmp_path / "p.toml"
    file.write_text('[[programs]]\nname = "p"\nlevels = ["10%"]\ncap = "10"\nminimum_payout = "20"\n')
    assert len(check(file, {"value": "5"})) == 1


def test_a_time_may_be_one_of_tomls(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[programs]]\nname = "p"\nlevels = ["10%"]\nvalid_from = 2026-12-01T02:00:00+02:00\n')
    (program,) = programs_of(load(file)).by_name.values()
    assert program.starts == 1_796_083_200_000


def test_the_mix_of_sources_says_how_many_more_each_must_bring() -> None:
    """Of 100 clients 30 % send 4 invitations: 12 are referred (K = 0.12), 88 come from elsewhere as 5 : 2 : 1."""
    counters = [
        ("Paid Search", 50),
        ("Organic Search", 20),
        ("Referral Programme", 20),
        ("Direct", 10),
        ("Paid Search", 0),
    ]
    lines = [json.dumps({"keys": {"channel": name}, "counts": {"new_clients": n}}) for name, n in counters]
    lines.append(json.dumps({"keys": {"channel": "Direct"}, "counts": None}))
    options = ["--clients", "100", "--share", "0.3", "--invites", "4", "--conversion", "0.1", "--mix", "-"]
    result = CliRunner().invoke(main, ["programs", "plan", *options], input="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["referred"], said["elsewhere"]) == (12, 88)
    assert [tuple(source.values()) for source in said["mix"]] == [
        ("Paid Search", 50, "0.5", 55, 5),
        ("Organic Search", 20, "0.2", 22, 2),
        ("Referral Programme", 20, "0.2", 12, -8),
        ("Direct", 10, "0.1", 11, 1),
    ]
    result = CliRunner().invoke(main, ["programs", "plan", "--clients", "1", "--mix", "-"], input="channel, sessions")
    assert result.exit_code == 1
    assert "line 1 is no counter" in result.stderr


@pytest.mark.parametrize("clients", range(1, 40))
def test_what_sources_must_bring_sums_to_the_plan(clients: int) -> None:
    """Whole clients, whatever the proportions."""
    made = plan(clients, Decimal("0.3"), Decimal(3), Decimal("0.1"))
    shares = mix(made, {"a": 1, "b": 1, "c": 1, "d": 7, "programme": 3, "none": 0}, {"programme"})
    assert sum(share.needed for share in shares) == clients
    assert [share.needed for share in shares if share.source in {"programme", "none"}] == [made.referred, 0]


def test_without_goals_all_paid_goals_qualify() -> None:
    raw = {
        "goals": [
            {"name": "order", "kind": "purchase"},
            {"name": "tip", "paid": True},
            {"name": "purchase", "paid": False},
        ],
        "programs": [{"name": "p", "levels": ["5%"]}],
    }
    (program,) = programs_of(parse(raw)).by_name.values()
    assert program.goals == ("order", "tip")


@pytest.mark.parametrize(
    ("url", "codes"),
    [
        ("https://s.example/?ref=ANNA", ["anna"]),
        ("https://s.example/?REF=An%20na+x", ["an na x"]),
        ("https://s.example/?a=1&amp;via=b", ["b"]),
        ("https://s.example/#/land?ref=c", ["c"]),
        ("https://s.example/?ref=&via=d", ["d"]),
        ("https://s.example/R/Elsa/more?x=1", ["elsa"]),
        ("https://s.example/r/", []),
        ("https://s.example/rabbit", []),
        ("https://s.example/?preref=x", []),
        ("https://s.example/?ref=%00", []),
        ("https://s.example/?ref=" + "x" * 129, []),
        ("https://[/?ref=q", ["q"]),
        ("https://s.example/?ref=junk&via=Anna", ["junk", "anna"]),
        ("https://s.example/r/Elsa?via=b&ref=a#?ref=c", ["b", "a", "elsa"]),
        ("https://s.example/?ref=%00&ref=a&ref=b&REF=c", ["a"]),
        ("https://s.example/r/a?ref=A", ["a"]),
    ],
)
def test_codes_in_links(url: str, codes: list[str]) -> None:
    """The first of each parameter that can be one, in the link's order."""
    reader = LinkReader(("ref", "via"), ("/r/",))
    assert list(reader.codes(url)) == codes
    text = reader.captured(url, "", "")
    assert [(visit.code, visit.at, visit.place) for visit in read_capture(text, 7).visits] == [
        (code, 7, place) for place, code in enumerate(codes)
    ]


@pytest.mark.parametrize(
    ("referrer", "click_id", "flags"),
    [
        ("https://coupons.example/x", "", 2),
        ("https://www.coupons.example/", "GCLID", 3),
        ("https://notcoupons.example/", "ysclid", 0),
        ("", "gclid", 1),
    ],
)
def test_what_speaks_against_a_visit_is_kept(referrer: str, click_id: str, flags: int) -> None:
    reader = LinkReader(("ref",), (), ("coupons.example",))
    text = reader.captured("https://s.example/?ref=a", referrer, click_id)
    capture = read_capture(text + "00ff", 1)
    assert ([visit.flags for visit in capture.visits], capture.ip) == ([flags], b"\x00\xff")


def reward(**fields: object) -> dict[str, object]:
    return {
        "id": "a", "revision": 1, "retracted": False, "user_id": "anna", "program": "friends", "role": "referrer",
        "level": 1, "code": "anna", "referred_user": "=HYPERLINK(1)", "conversion_id": "c", "kind": "percent",
        "basis": "1000.00", "rate": "10%", "amount": "100.00", "currency": "EUR", "status": "approved", "reasons": [],
        "due_at": "2026-01-14T05:00:00.000Z", "occurred_at": "2025-12-31T05:00:00.000Z", "paid_at": None,
        "payout": None, **fields,
    }  # fmt: skip


def test_a_statement_adds_up_what_is_due_and_is_safe_to_open() -> None:
    """Negative amounts count, other people's and gifts do not, and no text becomes a formula or a tag."""
    made = statement(
        "anna",
        [
            reward(),
            reward(id="b-rx", amount="-40.00"),
            reward(id="c", kind="gift", amount="12.00"),
            reward(id="d", status="paid", reasons=["<script>"]),
            reward(id="e", user_id="boris"),
            reward(id="f", occurred_at="2024-01-01T00:00:00.000Z"),
        ],
        since="2025",
    )
    account = ("friends", "EUR")
    assert str(made.due[account]) == "160.00"  # what is due does not depend on the period that is looked at
    assert str(made.sums[account]["approved"]) == "72.00"
    rows = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert [row["amount"] for row in rows] == ["100.00", "-40.00", "12.00", "100.00"]
    assert rows[0]["referred_user"] == "'=HYPERLINK(1)"
    page = as_page(made)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>160.00</b>" in page


def test_what_is_due_is_told_by_programme_as_it_is_paid(tmp_path: Path) -> None:
    """A payout is one of a programme in a currency: its amount is there, in the currency's decimals."""
    records = [
        reward(),
        reward(id="b", program="partners", amount="7.00"),
        reward(id="c", program="partners", amount="5", currency="JPY", status="pending", kind="fixed"),
        reward(id="d", program="partners", amount="1.000", currency="KWD", occurred_at="2026-01-01T00:00:00.000Z"),
    ]
    (tmp_path / "referral-rewards.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def ask(*more: str) -> dict[str, dict[str, str]]:
        result = CliRunner().invoke(main, ["rewards", "--user", "anna", "--data", str(tmp_path), *more])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    said = ask()
    assert said["due"] == {"EUR": "107.00", "JPY": "0", "KWD": "1.000"}
    owed = {(p, c): amounts["due"] for p, of in said["programs"].items() for c, amounts in of.items()}
    assert owed == {
        ("friends", "EUR"): "100.00",
        ("partners", "EUR"): "7.00",
        ("partners", "JPY"): "0",
        ("partners", "KWD"): "1.000",
    }
    assert said["programs"]["partners"]["JPY"]["pending"] == said["sums"]["JPY"]["pending"] == "5"
    for since in ("2026", "2026-01", "2026-01-01", "2026-01-01T02:00:00+02:00"):
        later = ask("--from", since)
        assert (later["due"], [r["id"] for r in later["rewards"]]) == (said["due"], ["d"])
        assert [r["id"] for r in ask("--to", since)["rewards"]] == ["a", "b", "c"]
    result = CliRunner().invoke(main, ["rewards", "--user", "anna", "--data", str(tmp_path), "--from", "November"])
    assert result.exit_code == 2
    assert "allowed: 2026, 2026-11" in result.stderr
