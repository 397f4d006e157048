"""Periods side by side, deals, and which records count."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_app.app.outputs import CannotRead, Last, decoded, read_directory
from stream_app.domain.counters.comparing import Period, month, pairs, period
from stream_app.domain.counters.figures import COUNTS, Figures
from stream_app.domain.counters.questions import CannotAsk, Question
from stream_app.domain.counters.records import LeadCounter, Renderer
from stream_app.domain.counters.tables import Row, Table
from stream_app.domain.counters.windows import Windows
from stream_app.domain.deals import deals
from stream_app.domain.lead_records import Lead
from stream_app.domain.records import AttributedConversion
from stream_app.domain.times import parse_rfc3339
from stream_app.schemas import DIRECTORY


def rows(**leads: int) -> list[Row]:
    """Campaigns with so many leads."""
    table = Table(Question("1d", "campaign"), Renderer("EUR", "v"))
    for name, n in leads.items():
        counts = [0] * len(COUNTS)
        counts[COUNTS.index("leads")] = n
        table.add(("google", "cpc", name), "EUR", 0, Figures(counts, {}))
    return table.rows()


def test_both_periods_side_by_side() -> None:
    """Campaigns are one whatever their letter case; those that are no more stay in sight; change needs a before."""
    found = {
        pair.keys["campaign"]: pair.values("leads") for pair in pairs(rows(Spring=6, new=2), rows(SPRING=4, old=3))
    }
    assert found == {"Spring": (6, 4, "0.5"), "new": (2, None, None), "old": (None, 3, None)}


@pytest.mark.parametrize(
    ("of", "before"),
    [
        (month("2026-03"), Period(date(2026, 2, 1), date(2026, 3, 1))),
        (month("2026-01"), Period(date(2025, 12, 1), date(2026, 1, 1))),
        (period("2026-01-01", "2026-04-01"), Period(date(2025, 10, 1), date(2026, 1, 1))),
        (period("2026-03-02", "2026-03-09"), Period(date(2026, 2, 23), date(2026, 3, 2))),
        (period("2026-03-01", "2026-03-08"), Period(date(2026, 2, 22), date(2026, 3, 1))),
    ],
)
def test_the_period_before(of: Period, before: Period) -> None:
    """Months before whole months, else as many days."""
    assert of.before() == before


def test_days_are_those_of_the_property() -> None:
    """Also over the change of the clock."""
    since, until = month("2026-03").minutes(Windows("Europe/Riga"))
    assert (until - since) == 31 * 1_440 - 60
    with pytest.raises(CannotAsk):
        month("2026-13")
    with pytest.raises(CannotAsk):
        period("2026-01-02", "2026-01-02")


def conversion(**changes: Any) -> AttributedConversion:
    """An example of the schemas, changed."""
    example = json.loads((DIRECTORY / "examples" / "valid" / "attributed-conversions.refunded.json").read_text())
    return msgspec.convert({**example, **changes}, AttributedConversion)


def lead(**changes: Any) -> Lead:
    path = next((DIRECTORY / "examples" / "valid").glob("leads.*won*.json"))
    return msgspec.convert({**json.loads(path.read_text()), **changes}, Lead)


def test_deals_of_a_period() -> None:
    """The first moment belongs to it, the last does not; programs' conversions are none; leads count while won."""
    since, until = "2026-06-01T00:00:00.000Z", "2026-07-01T00:00:00.000Z"
    conversions = [
        conversion(id=name, occurred_at=at, bot=bot)
        for name, at, bot in (
            ("1" * 16, "2026-05-31T23:59:59.999Z", False),
            ("2" * 16, since, False),
            ("3" * 16, "2026-06-30T23:59:59.999Z", False),
            ("4" * 16, until, False),
            ("5" * 16, since, True),
        )
    ]
    leads = [
        lead(id=name, lead_id=name, status=status, status_since=at)
        for name, status, at in (
            ("early", "won", "2026-05-31T23:59:59.999Z"),
            ("won", "won", since),
            ("refused", "refused", since),
            ("late", "won", until),
        )
    ]
    found = deals(conversions, leads, parse_rfc3339(since), parse_rfc3339(until))
    assert [deal.id for deal in found] == ["2" * 16, "won", "3" * 16]
    assert found[1].chain is None
    assert found[1].client_id == leads[1].client_id


def test_the_chain_of_a_won_lead_is_that_of_the_goal_that_made_it() -> None:
    """The earliest of its conversions; a goal without a lead's id makes one by its event id."""
    first = conversion(lead_id="a", occurred_at="2026-05-01T00:00:00.000Z", path="First", event_id="e1")
    later = conversion(lead_id="a", occurred_at="2026-05-02T00:00:00.000Z", path="Later", event_id="e0")
    plain = conversion(lead_id=None, occurred_at="2026-05-02T00:00:00.000Z", path="Plain", event_id="b")
    when = "2026-06-02T00:00:00.000Z"
    leads = [lead(id=name, lead_id=name, status="won", status_since=when) for name in ("a", "b")]
    found = deals([later, first, plain], leads, parse_rfc3339("2026-06-01T00:00:00Z"), parse_rfc3339(when) + 1)
    assert {deal.id: deal.path for deal in found} == {"a": "First", "b": "Plain"}


def test_the_last_record_of_an_id_counts(tmp_path: Path) -> None:
    """Not one that is retracted or ended by a tombstone; what came back after that counts again."""

    def body(name: str, **more: Any) -> bytes:
        return json.dumps({"id": name, "retracted": False, **more}).encode()

    last = Last()
    for key, value in (
        (b"a", body("a", n=1)), (b"a", body("a", n=2)),
        (b"b", body("b")), (b"x", body("b", retracted=True)),
        (b"c", body("c")), (b"c", None),
        (b"d", body("d", retracted=True)), (b"d", body("d", n=3)),
    ):  # fmt: skip
        last.take(key, value)
    assert last.values() == [body("a", n=2), body("d", n=3)]
    (tmp_path / "leads.jsonl").write_bytes(body("a", n=1) + b"\n\n" + body("a", n=2) + b"\n")
    assert read_directory(tmp_path, "leads") == [body("a", n=2)]
    (tmp_path / "leads.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(CannotRead, match=r"leads\.jsonl"):
        read_directory(tmp_path, "leads")
    with pytest.raises(CannotRead, match=r"costs\.jsonl"):
        read_directory(tmp_path, "costs")
    with pytest.raises(CannotRead, match="LeadCounter"):
        list(decoded([b"{}"], LeadCounter))
