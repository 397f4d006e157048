"""Referral programmes that pay for leads: `qualifies_on` statuses, through replay (semantics 48)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli import test_replay_leads
from tests.cli.test_replay_leads import MINUTE, T0, form, said, write

CONFIG = """
[site]
own_domains = ["shop.example.com"]
[[goals]]
name = "form"
kind = "lead"
[privacy]
hash_key = "0123456789abcdef0123456789abcdef"
[[programs]]
name = "friends"
levels = [LEVEL]
qualifies_on = [STATUS]
holding_days = 0
"""


def rewards(directory: Path, level: str, status: str, *said: dict[str, Any]) -> list[dict[str, Any]]:
    """Anna's link brings somebody who fills in a form; the CRM says what it says."""
    enrolled = {"event_id": "r1", "user_id": "anna", "occurred_at": T0 - MINUTE, "program": "friends",
                "type": "enrolled", "code": "ANNA", "advocate_kind": "customer"}  # fmt: skip
    visit = {"event_id": "e1", "client_id": "c1", "occurred_at": T0, "url": "https://shop.example.com/?ref=ANNA"}
    write(
        directory,
        referral_events=[enrolled],
        clicks=[visit],
        conversions=[form(MINUTE, "v1", "c1", lead_id="L")],
        lead_updates=list(said),
    )
    config = CONFIG.replace("LEVEL", f'"{level}"').replace("STATUS", f'"{status}"')
    return test_replay_leads.replay(directory, config=config)["referral-rewards"]


@pytest.fixture(autouse=True)
def _with_referral_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_replay_leads, "FILES", (*test_replay_leads.FILES, "referral-events"))


def test_a_deal_earns_by_the_leads_revenue(tmp_path: Path) -> None:
    """The latest one named; the form itself earns nothing."""
    (reward,) = rewards(
        tmp_path,
        "10%",
        "won",
        said(5 * MINUTE, "u1", "L", "won", revenue="900"),
        said(6 * MINUTE, "u2", "L", "won", revenue="1000"),
    )
    assert (reward["user_id"], reward["referred_user"], reward["amount"]) == ("anna", "c1", "100.00")
    assert reward["occurred_at"] == "2026-05-28T20:31:40.000Z"


def test_a_deal_that_is_left_earns_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    """A status withdrawn before payment cancels."""
    earned = rewards(
        tmp_path,
        "10%",
        "won",
        said(5 * MINUTE, "u1", "L", "won", revenue="1000"),
        said(9 * MINUTE, "u2", "L", "refused"),
        said(12 * MINUTE, "u3", "L", "won", revenue="500"),
    )
    live = sorted((r["occurred_at"][11:16], r["amount"], r["status"]) for r in earned if not r["retracted"])
    assert live == [("20:31", "0.00", "refunded"), ("20:38", "50.00", "approved")]


def test_a_qualification_earns_once(tmp_path: Path) -> None:
    """At its first mention."""
    (reward,) = rewards(
        tmp_path,
        "15.00",
        "mql",
        said(5 * MINUTE, "u1", "L", "contacted", qualification="mql"),
        said(6 * MINUTE, "u2", "L", "qualified", qualification="mql"),
        said(7 * MINUTE, "u3", "L", "won", revenue="1000"),
    )
    assert (reward["amount"], reward["kind"]) == ("15.00", "fixed")
    assert reward["occurred_at"] == "2026-05-28T20:31:40.000Z"


def test_a_lead_that_moves_to_another_form_takes_its_reward_along(tmp_path: Path) -> None:
    """An earlier form of somebody else with the same lead id: whoever made the lead earns for it."""
    earned = rewards(tmp_path, "10%", "won", said(5 * MINUTE, "u1", "L", "won", revenue="1000"))
    assert [reward["amount"] for reward in earned] == ["100.00"]
    lines = (tmp_path / "conversions.jsonl").read_text()
    write(tmp_path, conversions=[form(0, "v0", "c2", lead_id="L") | {"received_at": T0 + 10 * MINUTE}])
    (tmp_path / "conversions.jsonl").write_text(lines + (tmp_path / "conversions.jsonl").read_text())
    config = CONFIG.replace("LEVEL", '"10%"').replace("STATUS", '"won"')
    again = test_replay_leads.replay(tmp_path, config=config)["referral-rewards"]
    assert [reward for reward in again if not reward["retracted"]] == []
