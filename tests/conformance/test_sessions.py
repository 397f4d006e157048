"""Session splits of d8a and last non-direct of dbt-ga4, run through the fold of a client's events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stream_app.domain.hits import KIND_OF_CLICK, Hit
from stream_app.domain.journey import Journey
from stream_app.domain.rules import JourneyRules, SessionRules
from stream_app.domain.sessionization import Fold
from stream_app.domain.sources import Source

from .scores import Score

Rows = Callable[[str], list[dict[str, Any]]]
T0 = 1_700_006_400_000  # midnight, so that the property's day does not end within a case
HOUR = 3_600_000


def _sessions(fold: Fold, hits: list[Hit]) -> list[list[int]]:
    """Indexes of the events of each session."""
    journey, found, last = Journey(), list[list[int]](), ""
    for index, hit in enumerate(hits):
        fold.apply(journey, hit, "client")
        assert journey.open is not None
        if journey.open.id != last:
            found.append([])
            last = journey.open.id
        found[-1].append(index)
    return found


def _rules(conditions: list[dict[str, Any]]) -> SessionRules:
    given = {condition["split_on"]: condition.get("value", 0) for condition in conditions}
    return SessionRules(
        profile="ua" if "utm_campaign_changed" in given else "ga4",
        timeout_minutes=475,
        max_events=given.get("max_events", 1_000),
        # A minute of the file is an hour here, the unit of our setting.
        max_age_hours=given.get("max_age_minutes", 720),
    )


def _source(event: dict[str, Any]) -> Source | None:
    campaign = event.get("utm_campaign")
    if campaign is None:
        return None
    return Source(source="site", medium="cpc", campaign=campaign, arrival="tagged")


def test_session_splits(rows: Rows) -> None:
    """Campaign (profile ua), user, number of events and age split as there."""
    score = Score("session_splits.jsonl (ua where the campaign splits, else ga4)")
    for row in rows("session_splits.jsonl"):
        fold = Fold(JourneyRules(sessions=_rules(row["conditions"])))
        hits = [
            Hit(
                T0 + event["minute"] * HOUR,
                f"e{index:03}",
                KIND_OF_CLICK["page_view"],
                _source(event),
                "",
                event.get("user_id") or "",
                "https://shop.example.com/",
            )
            for index, event in enumerate(row["events"])
        ]
        score.row(row["name"], _sessions(fold, hits), row["expected_sessions"])
    score.settle()


def test_last_non_direct(rows: Rows) -> None:
    """A direct session is credited to the last source before it."""
    score = Score("last_non_direct.jsonl (ga4)")
    fold, journey, names = Fold(JourneyRules()), Journey(), dict[str, str]()
    for row in rows("last_non_direct.jsonl"):
        direct = row["source"] == "(direct)"
        source = None if direct else Source(row["source"], row["medium"], row["campaign"], row["term"], row["content"])
        url = "https://shop.example.com/"
        hit = Hit(row["time_ms"], row["session"], KIND_OF_CLICK["page_view"], source, "", "", url)
        fold.apply(journey, hit, "client")
        assert journey.open is not None
        names[journey.open.id] = row["session"]
        credited = journey.open.attributed
        expected = row["expected"]
        got = {
            "from_session": names[credited.session_id],
            **{field: getattr(credited.source, field) for field in ("source", "medium", "campaign", "content", "term")},
        }
        score.row(row["name"], got, {field: expected[field] for field in got})
    score.settle(least=1)
