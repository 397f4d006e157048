"""How far time goes in a replay (semantics 21)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stream_app.app import ReplayRequest, run_replay
from stream_app.settings import Settings
from tests.cli.test_replay_leads import T0, click, replay, write

DAY = 86_400_000


def test_at_the_end_all_sessions_are_closed_however_little_there_is(tmp_path: Path) -> None:
    """Files that are not given hold nothing back."""
    write(tmp_path, clicks=[click(0, "k1", "c1", "spring")])
    assert [session["status"] for session in replay(tmp_path)["attributed-sessions"]] == ["closed"]


@pytest.mark.parametrize(("until", "status"), [("", "pending"), ("2026-06-11T00:00:00Z", "approved")])
def test_a_holding_period_is_over_if_time_goes_further(tmp_path: Path, until: str, status: str) -> None:
    """One purchase, and nothing behind it."""
    programs = '[[programs]]\nname = "friends"\nlevels = ["10%"]\ngoals = ["purchase"]\nholding_days = 7\n'
    joined = {"event_id": "e1", "user_id": "anna", "occurred_at": T0 - DAY, "type": "enrolled", "code": "ANNA"}
    (tmp_path / "events.jsonl").write_bytes(msgspec.json.encode({**joined, "program": "friends"}))
    sale = {"event_id": "p1", "client_id": "c1", "occurred_at": T0, "goal": "purchase", "value": "10"}
    write(tmp_path, conversions=[{**sale, "promo_code": "anna"}])
    events = str(tmp_path / "events.jsonl")
    more = ("--until", until) if until else ()
    (reward,) = replay(tmp_path, "--referral-events", events, *more, config=programs)["referral-rewards"]
    assert (reward["status"], reward["amount"]) == (status, "1.00")


def test_where_nothing_can_be_written_nothing_is_worked_out(tmp_path: Path) -> None:
    """It may have taken hours to find that out at the end."""
    write(tmp_path, clicks=[click(0, "k1", "c1", "spring")])
    clicks = next(tmp_path.glob("*clicks*"))
    heard: list[int] = []
    with pytest.raises(NotADirectoryError):
        run_replay(Settings(), ReplayRequest(out=clicks / "out", clicks=clicks), lambda done, _: heard.append(done))
    assert not heard
    run_replay(Settings(), ReplayRequest(out=tmp_path / "a" / "b", clicks=clicks), lambda done, _: heard.append(done))
    assert heard


def test_a_mark_of_utf8_and_lines_without_anything_are_no_records(tmp_path: Path) -> None:
    """As Windows and hands leave them: the first record was a dead letter, and the blank lines were, too."""
    write(tmp_path, clicks=[click(0, "k1", "c1", "spring"), click(1, "k2", "c1", "spring")])
    file = next(tmp_path.glob("*clicks*"))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n \t\r\n") + b"  ")
    found = replay(tmp_path)
    assert not found["dead-letters"]
    assert [session["page_views"] for session in found["attributed-sessions"]] == [2]
