"""`stream-app classify` as a user meets it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stream_app.cli.main import main


def classify(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["classify", *arguments], input=stdin)


def answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_line_for_a_line() -> None:
    """All fields of the contract, in order of the input."""
    result = classify(
        "--own-domain",
        "shop.example.com",
        stdin='{"url": "https://shop.example.com/?utm_source=News&utm_medium=email"}\n'
        '{"url": "https://shop.example.com/", "referrer": "https://www.google.lv/search?q=a"}\n'
        '{"url": "https://shop.example.com/", "referrer": "https://shop.example.com/x", "user_agent": "curl/8"}\n'
        '{"source": "Google", "medium": "CPC"}\n'
        '{"url": null, "referrer": "", "unknown": [1]}\n',
    )
    assert result.exit_code == 0
    found = answers(result)
    assert found[0] == {
        "source": "news",
        "medium": "email",
        "campaign": "(not set)",
        "term": "",
        "content": "",
        "source_platform": "",
        "channel": "Email",
        "arrival": "tagged",
        "click_id_type": "",
        "keyword": "",
        "bot": False,
        "kind": "source",
    }
    assert [(a["source"], a["medium"], a["channel"], a["kind"], a["bot"]) for a in found[1:]] == [
        ("google", "organic", "Organic Search", "source", False),
        ("(direct)", "(none)", "Direct", "none", True),
        ("google", "cpc", "Paid Search", "source", False),
        ("(direct)", "(none)", "Direct", "direct", False),
    ]


def test_profiles_and_settings(tmp_path: Path) -> None:
    """The settings decide; options win."""
    config = tmp_path / "config.toml"
    config.write_text(
        '[sources]\nprofile = "ga4"\n[[sources.rules]]\nchannel = "Brand"\n'
        'all = [{ field = "campaign", contains = "brand" }]\n'
        '[phone_numbers]\n"+37120000001" = { source = "paper", medium = "offline" }\n'
    )
    line = '{"referrer": "https://chatgpt.com/"}\n{"source": "google", "medium": "cpc", "campaign": "Brand"}\n'
    found = answers(classify("--config", str(config), stdin=line))
    assert [answer["channel"] for answer in found] == ["AI Assistant", "Brand"]
    found = answers(classify("--config", str(config), "--profile", "extended", stdin=line))
    assert [answer["channel"] for answer in found] == ["AI Assistants", "Brand"]


def test_lines_that_cannot_be_read() -> None:
    """An error in their place, the rest goes on, status 1."""
    result = classify(stdin='nonsense\n{"url": 4}\n\n[1]\n{"referrer": "https://t.me/x"}\n')
    assert result.exit_code == 1
    found = answers(result)
    assert [(a.get("error"), a.get("line")) for a in found[:3]] == [("bad_json", 1), ("bad_field", 2), ("bad_field", 4)]
    assert found[3]["channel"] == "Messengers"
    assert "3 lines could not be classified" in result.stderr


def test_a_mark_of_utf8_before_the_first_line_is_no_part_of_it() -> None:
    """Windows writes one."""
    click = '{"url": "https://shop.example.com/?utm_source=a"}'
    assert [answer.get("source") for answer in answers(classify(stdin=f"\ufeff{click}\n{click}\n"))] == ["a", "a"]


def test_explain() -> None:
    """Which rule decided, and all that were looked at."""
    result = classify("--explain", stdin='{"referrer": "https://semalt.com/"}\n{"source": "vk", "medium": "cpc"}\n')
    spam, given = answers(result)
    assert spam["explain"]["decided_by"] == "referrer spam"
    assert spam["explain"]["steps"][-1].startswith("referrer spam: semalt.com")
    assert (spam["kind"], spam["source"], spam["channel"]) == ("spam", "", "")
    assert given["explain"]["decided_by"] == "fields"


def test_csv_with_named_columns(tmp_path: Path) -> None:
    """The rows as they were, with the answer behind."""
    file = tmp_path / "clicks.csv"
    file.write_text(
        'day,Page,referrer,source\n1,"https://a.lv/?x=1,2",https://t.me/x,\n2,short\n', encoding="utf-8-sig"
    )
    result = classify(str(file), "--column", "url=Page", "--explain")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert rows[0]["Page"] == "https://a.lv/?x=1,2"
    assert (rows[0]["classified_source"], rows[0]["channel"]) == ("t.me", "Messengers")
    assert (rows[0]["bot"], rows[0]["decided_by"]) == ("false", "messenger")
    assert rows[1]["decided_by"] == "too few columns"
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [("--column", "Page"), ("--column", "address=Page"), ("--csv", "--column", "url=Nowhere"), ("--profile", "x")],
)
def test_wrong_use(arguments: tuple[str, ...]) -> None:
    """Status 2, and what is allowed."""
    result = classify(*arguments, stdin="url\nhttps://a.lv/\n")
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_compressed_files(tmp_path: Path) -> None:
    """As in replay."""
    file = tmp_path / "clicks.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"referrer": "https://ok.ru/"}\n'))
    assert answers(classify(str(file)))[0]["source_platform"] == "Odnoklassniki"


def test_reference_commands(tmp_path: Path) -> None:
    """Check prints sizes; diff needs something to compare with."""
    runner = CliRunner()
    assert "search:" in runner.invoke(main, ["reference", "check"]).stdout
    assert runner.invoke(main, ["reference", "diff"]).exit_code == 2
    (tmp_path / "Socials.yml").write_text("Fresh:\n  - fresh.example\n", encoding="utf-8")
    result = runner.invoke(main, ["reference", "diff", "--matomo", str(tmp_path)])
    assert result.stdout == "social: new: Fresh: fresh.example\n"
