"""Leads and costs through `replay`: the whole pipeline over files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import json_lines, run

T0 = 1_780_000_000_000
MINUTE = 60_000
CONFIG = """
[site]
own_domains = ["shop.example.com"]
[[goals]]
name = "form"
kind = "lead"
"""
FILES = ("clicks", "conversions", "lead-updates", "costs")


def replay(directory: Path, *more: str, config: str = CONFIG) -> dict[str, list[dict[str, Any]]]:
    """Replays the files that are in `directory`; the outputs by topic."""
    settings, out = directory / "settings.toml", directory / f"out{len(list(directory.glob('out*')))}"
    settings.write_text(config)
    files = [
        part for name in FILES if (path := directory / f"{name}.jsonl").exists() for part in (f"--{name}", str(path))
    ]
    done = run("replay", "--config", str(settings), *files, "--out", str(out), *more)
    assert done.exit_code == 0, done.stderr
    return {path.stem: json_lines(path.read_text(encoding="utf-8")) for path in out.glob("*.jsonl")}


def write(directory: Path, **records: list[dict[str, Any]]) -> None:
    for name, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / f"{name.replace('_', '-')}.jsonl").write_text(text)


def click(at: int, event_id: str, client_id: str, campaign: str) -> dict[str, Any]:
    url = f"https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign={campaign}"
    return {"event_id": event_id, "client_id": client_id, "occurred_at": T0 + at, "url": url}


def form(at: int, event_id: str, client_id: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": event_id, "client_id": client_id, "occurred_at": T0 + at, "goal": "form", **fields}


def said(at: int, event_id: str, lead_id: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": event_id, "lead_id": lead_id, "occurred_at": T0 + at, "status": status, **fields}


def content(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What two runs must agree on (semantics 20)."""
    return [
        {name: value for name, value in record.items() if name != "revision"}
        for record in records
        if not record["retracted"]
    ]


def test_a_form_and_a_crm_make_one_lead_with_the_campaign_it_came_from(tmp_path: Path) -> None:
    """The lead's id is that of the event when the form names none."""
    write(
        tmp_path,
        clicks=[click(0, "e1", "c1", "Lenses")],
        conversions=[form(MINUTE, "v1", "c1")],
        lead_updates=[
            said(5 * MINUTE, "u1", "v1", "contacted"),
            said(9 * MINUTE, "u2", "v1", "won", revenue="99.5", contact_id="k1"),
        ],
    )
    (lead,) = replay(tmp_path)["leads"]
    assert (lead["id"], lead["status"], lead["revenue"], lead["contact_id"]) == ("v1", "won", "99.50", "k1")
    assert lead["attributed"]["campaign"] == "Lenses"
    assert [entry["status"] for entry in lead["history"]] == ["new", "contacted", "won"]


def test_a_lead_of_the_crm_gets_the_source_of_its_client_and_of_a_click_that_came_late(tmp_path: Path) -> None:
    """Asked and answered through the repartition topic, and corrected."""
    late = click(10 * MINUTE, "e2", "c1", "Diamonds") | {"received_at": T0 + 50 * MINUTE}
    write(
        tmp_path,
        clicks=[click(0, "e1", "c1", "Lenses"), late],
        lead_updates=[
            said(20 * MINUTE, "u1", "a", "new", client_id="c1"),
            said(20 * MINUTE, "u2", "b", "new", client_id="nobody"),
            said(20 * MINUTE, "u3", "c", "new", source="Fair", medium="Offline", client_id="c1"),
        ],
    )
    result = replay(tmp_path)
    a, b, c = result["leads"]
    assert (a["attributed"]["campaign"], a["client_id"]) == ("Diamonds", "c1")
    assert (b["source_determined"], b["attributed"]["channel"]) == (False, "Not determined")
    assert (c["attributed"]["source"], c["attributed"]["channel"]) == ("fair", "Offline")
    assert result["dead-letters"] == []


def test_a_lead_of_the_crm_gets_the_source_that_its_person_had_on_another_device(tmp_path: Path) -> None:
    """As a conversion would: what was linked by then (semantics 31)."""
    home = {"event_id": "e2", "client_id": "c2", "occurred_at": T0 + 5 * MINUTE, "url": "https://shop.example.com/"}
    write(
        tmp_path,
        clicks=[click(0, "e1", "c1", "Lenses") | {"user_id": "u"}, home | {"user_id": "u"}],
        lead_updates=[
            said(4 * MINUTE, "u0", "before", "new", client_id="c2"),
            said(9 * MINUTE, "u1", "after", "new", client_id="c2"),
        ],
    )
    after, before = replay(tmp_path)["leads"]
    assert after["attributed"]["campaign"] == "Lenses"
    assert not before["source_determined"]


def test_a_form_that_a_late_event_makes_a_duplicate_leaves_no_lead_behind(tmp_path: Path) -> None:
    """The same event id, told earlier for another lead: the fact moves."""
    write(
        tmp_path,
        conversions=[
            form(10 * MINUTE, "v1", "c1", lead_id="wrong"),
            form(5 * MINUTE, "v1", "c1", lead_id="right") | {"received_at": T0 + 20 * MINUTE},
        ],
    )
    assert [lead["id"] for lead in content(replay(tmp_path)["leads"])] == ["right"]


def test_bad_updates_and_costs_become_dead_letters_with_their_reason(tmp_path: Path) -> None:
    """And harm nothing else."""
    cost = {"event_id": "k1", "cost_id": "k", "day": "2026-05-28", "source": "a", "medium": "b", "campaign": "c"}
    write(
        tmp_path,
        lead_updates=[said(0, "u1", "a", "lost"), said(0, "u2", "a", "won", revenue="much"), said(0, "u3", "b", "new")],
        costs=[{**cost, "currency": "EUR"}, {**cost, "currency": "XXY", "cost": 1}],
    )
    result = replay(tmp_path)
    assert sorted(letter["reason"] for letter in result["dead-letters"]) == [
        "bad_field", "bad_money", "bad_money", "missing_field",
    ]  # fmt: skip
    assert [lead["id"] for lead in result["leads"]] == ["b"]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """Three days of a shop whose leads live fast."""
    directory = tmp_path_factory.mktemp("traffic")
    made = run(
        "simulate", "--out", str(directory), "--events", "5000", "--days", "3", "--from", "2026-03-01",
        "--seed", str(seed % 10_000), "--faults", "late=0.05,duplicates=0.02",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    return directory


@pytest.mark.slow
def test_disorder_within_grace_changes_no_lead(traffic: Path) -> None:
    """Simulated days, in order and shaken."""
    config = CONFIG.replace('"form"', '"lead_form"')
    plain = content(replay(traffic, config=config)["leads"])
    assert len(plain) > 30
    assert len({lead["status"] for lead in plain}) >= 4
    assert any(lead["goal"] is None for lead in plain)
    for shake in ("1", "2"):
        assert content(replay(traffic, "--shuffle", shake, config=config)["leads"]) == plain
