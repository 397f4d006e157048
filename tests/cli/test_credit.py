"""`stream-app credit` as a user meets it."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stream_app.bench.credit import lines, paths
from stream_app.domain.rules import AttributionRules
from stream_app.domain.times import DAY_MS, rfc3339
from tests.cli.helpers import json_lines, run
from tests.domain.credit_oracle import credits_by_hand
from tests.processors.harness import DAY as A_DAY
from tests.processors.harness import MINUTE, click, conversion
from tests.processors.harness import run as journeys

SHOP = "https://shop.example.com/"
AT = 1_700_000_000_000
MODELS = ["last_non_direct", "last_click", "first_click", "linear", "position_based", "time_decay"]


def credit(*arguments: str, stdin: str = "") -> Any:
    from click.testing import CliRunner

    from stream_app.cli.main import main

    return CliRunner().invoke(main, ["credit", *arguments], input=stdin)


def asked(*touchpoints: tuple[str, float], **more: Any) -> str:
    """A line: channels with their ages in days."""
    visits = [{"channel": channel, "occurred_at": AT - round(age * DAY_MS)} for channel, age in touchpoints]
    return json.dumps({"touchpoints": visits, "occurred_at": AT, **more}) + "\n"


def shares(answer: dict[str, Any], model: str) -> dict[str, str]:
    return {share["channel"]: share["credit"] for share in answer["credits"][model]}


def test_a_mark_of_utf8_before_the_first_line_is_no_part_of_it() -> None:
    """Windows writes one."""
    result = credit(stdin="\ufeff" + asked(("Email", 1)))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["credits"]


def test_the_golden_row_of_time_decay() -> None:
    """0, 7, 14 and 28 days: 55.17 / 27.59 / 13.79 / 3.45 %."""
    result = credit(stdin=asked(("A", 28), ("B", 14), ("C", 7), ("D", 0), value="1000", currency="EUR"))
    (answer,) = json_lines(result.stdout)
    assert result.exit_code == 0
    assert list(answer["credits"]) == MODELS
    percent = {channel: round(float(share) * 100, 2) for channel, share in shares(answer, "time_decay").items()}
    assert percent == {"D": 55.17, "C": 27.59, "B": 13.79, "A": 3.45}
    assert [share["value"] for share in answer["credits"]["time_decay"]] == ["34.48", "137.93", "275.86", "551.73"]
    assert shares(answer, "position_based") == {"A": "0.4", "B": "0.1", "C": "0.1", "D": "0.4"}
    assert answer["path"] == "A > B > C > D"
    assert answer["days_to_convert"] == 28
    assert answer["assisting_channels"] == ["A", "B", "C"]
    assert answer["source_determined"] is True


def test_direct_by_channel_alone_is_direct() -> None:
    """It gets credit from last_click only, unless it is counted."""
    line = asked(("Paid Search", 2), ("Direct", 0))
    (answer,) = json_lines(credit(stdin=line).stdout)
    assert {model: list(shares(answer, model)) for model in MODELS} == {
        **{model: ["Paid Search"] for model in MODELS},
        "last_click": ["Direct"],
    }
    assert answer["credits"]["last_click"][0]["source"] == "(direct)"
    (counted,) = json_lines(credit("--count-direct", stdin=line).stdout)
    assert shares(counted, "linear") == {"Paid Search": "0.5", "Direct": "0.5"}


def test_a_missing_channel_is_assigned_from_source_and_medium() -> None:
    """By the same rules as clicks."""
    visits = [{"source": "Google", "medium": "CPC", "occurred_at": "2026-01-01T00:00:00Z"}]
    line = json.dumps({"touchpoints": visits, "occurred_at": "2026-01-02T03:00:00+03:00"})
    (answer,) = json_lines(credit(stdin=line).stdout)
    (share,) = answer["credits"]["linear"]
    assert share == {
        "source": "google", "medium": "cpc", "campaign": "(not set)", "channel": "Paid Search", "credit": "1",
        "value": None,
    }  # fmt: skip
    assert answer["days_to_convert"] == 1


def test_settings_and_options(tmp_path: Path) -> None:
    """Custom models, lookback by goal, transforms; options win."""
    config = tmp_path / "config.toml"
    config.write_text(
        '[site]\ncurrency = "KWD"\n[attribution]\nlookback_days = 60\npath_transform = "first"\n'
        '[[attribution.custom_models]]\nname = "ours"\nmultipliers = { "B" = 3 }\n'
        '[[goals]]\nname = "signup"\nacquisition = true\n'
    )
    path = (("A", 50), ("B", 20), ("A", 0))
    line = asked(*path, value=1) + asked(*path, goal="signup")
    first, signup = json_lines(credit("--config", str(config), stdin=line).stdout)
    assert shares(first, "ours") == {"A": "0.25", "B": "0.75"}
    assert [share["value"] for share in first["credits"]["ours"]] == ["0.250", "0.750"]
    assert signup["path"] == "B > A"
    (plain,) = json_lines(credit("--config", str(config), "--transform", "none", stdin=asked(*path)).stdout)
    assert len(plain["credits"]["linear"]) == 3
    (near,) = json_lines(credit("--config", str(config), "--lookback-days", "7", stdin=asked(*path)).stdout)
    assert near["path"] == "A"


def test_touchpoints_in_any_order_too_old_or_yet_to_come() -> None:
    """Sorted by time; the lookback is inclusive, and so is the conversion's own time."""
    line = asked(("now", 0), ("late", -0.001), ("edge", 90), ("older", 90.0001), ("middle", 3))
    (answer,) = json_lines(credit(stdin=line).stdout)
    assert answer["path"] == "edge > middle > now"
    (nothing,) = json_lines(credit(stdin=asked(("older", 91), value="1.00")).stdout)
    assert nothing["source_determined"] is False
    assert nothing["days_to_convert"] is None
    assert {model: shares(nothing, model) for model in MODELS} == {model: {"Not determined": "1"} for model in MODELS}


def test_lines_that_cannot_be_read() -> None:
    """An error in their place, the rest goes on, status 1."""
    bad = [
        "nonsense",
        "[1]",
        '{"touchpoints": []}',
        '{"touchpoints": [{"channel": 1, "occurred_at": 1}], "occurred_at": 2}',
        '{"touchpoints": [], "occurred_at": 2, "value": "1e999"}',
        '{"touchpoints": [], "occurred_at": 2, "value": 1, "currency": "XXX"}',
        '{"touchpoints": [{"occurred_at": 1}], "occurred_at": 2}',
        '{"touchpoints": [{"channel": "A", "occurred_at": "2026-01-01T00:00:00"}], "occurred_at": 2}',
    ]
    result = credit(stdin="\n".join(bad) + "\n\n" + asked(("A", 0)))
    answers = json_lines(result.stdout)
    assert [(a["error"], a["line"]) for a in answers[:-1]] == [
        ("bad_json", 1), ("bad_json", 2), ("missing_field", 3), ("bad_field", 4), ("bad_money", 5), ("bad_money", 6),
        ("missing_field", 7), ("bad_field", 8),
    ]  # fmt: skip
    assert all(a["detail"] for a in answers[:-1])
    assert answers[-1]["path"] == "A"
    assert result.exit_code == 1
    assert "8 lines could not be credited" in result.stderr


def test_compressed_files_and_wrong_use(tmp_path: Path) -> None:
    """As in replay; status 2 for what is not an option."""
    file = tmp_path / "conversions.jsonl.gz"
    file.write_bytes(gzip.compress(asked(("A", 0)).encode()))
    assert json_lines(credit(str(file)).stdout)[0]["path"] == "A"
    assert credit("--transform", "x").exit_code == 2
    assert credit("--lookback-days", "401").exit_code == 2
    assert credit(str(tmp_path / "missing.jsonl")).exit_code == 2


def test_a_record_of_the_topic_is_credited_as_the_worker_did() -> None:
    """`attributed-conversions` go in as they are, and their own credits come out."""
    result = journeys(
        [
            click(0, "a", url=SHOP + "?utm_source=google&utm_medium=cpc&utm_campaign=spring"),
            click(10 * A_DAY, "b", url=SHOP + "?utm_source=news&utm_medium=email"),
            click(12 * A_DAY, "c"),
            conversion(12 * A_DAY + 2 * MINUTE, "e", value="99.90", currency="USD"),
        ]
    )
    (record,) = result.conversions
    (answer,) = json_lines(credit(stdin=json.dumps(record)).stdout)
    for field in ("credits", "path", "days_to_convert", "assisting_channels", "source_determined"):
        assert answer[field] == record[field]


def test_a_lead_counts_where_its_conversion_does(tmp_path: Path) -> None:
    """Also where a path transform moves the last non-direct touchpoint: the lead, the conversion and the counters."""
    config = tmp_path / "stream-app.toml"
    config.write_text('[attribution]\npath_transform = "first"\n[[goals]]\nname = "form"\nkind = "lead"\n')
    visits = ("utm_source=a&utm_medium=cpc", "utm_source=b&utm_medium=email", "utm_source=a&utm_medium=cpc")
    clicks = [
        {"event_id": f"c{n}", "client_id": "c", "occurred_at": AT + n * DAY_MS, "url": f"{SHOP}?{tags}"}
        for n, tags in enumerate(visits)
    ]
    form = {"event_id": "f", "client_id": "c", "occurred_at": AT + 2 * DAY_MS + 1, "goal": "form", "lead_id": "l"}
    (tmp_path / "clicks.jsonl").write_text("".join(json.dumps(record) + "\n" for record in clicks))
    (tmp_path / "conversions.jsonl").write_text(json.dumps(form) + "\n")
    result = run(
        "replay", "--config", str(config), "--clicks", str(tmp_path / "clicks.jsonl"),
        "--conversions", str(tmp_path / "conversions.jsonl"), "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (lead,) = json_lines((tmp_path / "out" / "leads.jsonl").read_text())
    (record,) = json_lines((tmp_path / "out" / "attributed-conversions.jsonl").read_text())
    assert record["path"] == "Paid Other > Email > Paid Other"
    assert record["credits"]["last_non_direct"][0]["source"] == "b"
    assert record["assisting_channels"] == ["Paid Other"]
    assert (lead["attributed"]["source"], lead["attributed"]["channel"]) == ("b", "Email")
    leads = {
        counter["keys"]["channel"]: counter["counts"]["leads"]
        for counter in json_lines((tmp_path / "out" / "lead-counters.jsonl").read_text())
        if (counter["window"], counter["dimension"]) == ("total", "channel")
    }
    assert leads == {"Email": 1, "Paid Other": 0}


@pytest.mark.parametrize("length", [1, 2, 5, 8, 20])
def test_thousands_of_conversions_agree_with_formulas_written_anew(length: int, tmp_path: Path) -> None:
    """Times as texts and all; 10,000 lines over five lengths of path."""
    seed = 7 + length
    number = 400 if length > 5 else 3_000
    print(f"seed {seed}")
    given = paths(number, length, seed)
    file = tmp_path / "conversions.jsonl"
    file.write_bytes(b"\n".join(lines(given)))
    answers = json_lines(credit(str(file)).stdout)
    assert len(answers) == number
    rng = random.Random(seed)
    for (path, at, value), answer in rng.sample(list(zip(given, answers, strict=True)), min(number, 200)):
        touches = [(point.at, point.source) for point in path]
        assert answer["credits"] == credits_by_hand(touches, at, value, "EUR", AttributionRules()), rfc3339(at)
    for (_, _, value), answer in zip(given, answers, strict=True):
        for model in answer["credits"].values():
            assert sum(Fraction(share["credit"]) for share in model) == 1
            assert sum(Decimal(share["value"]) for share in model) == value
