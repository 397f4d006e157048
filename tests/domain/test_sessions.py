"""Where one session ends and the next begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream_app.domain.hits import CONVERSION, LINK_CLICK, PAGE_VIEW, Hit, Sale
from stream_app.domain.journey import Journey, Session
from stream_app.domain.rules import JourneyRules, SessionRules
from stream_app.domain.sessionization import MAX_TOUCHPOINTS, Fold
from stream_app.domain.sources.model import DIRECT, Source

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_700_000_000_000
GOOGLE = Source("google", "cpc", "spring", channel="Paid Search", arrival="tagged")
NEWS = Source("news", "email", "may", channel="Email", arrival="tagged")
BLOG = Source("blog.example.org", "referral", channel="Referral", arrival="referrer")


def fold(hits: list[Hit], rules: JourneyRules | None = None) -> tuple[Journey, list[Session]]:
    journey, folding = Journey(), Fold(rules or JourneyRules())
    for hit in hits:
        folding.apply(journey, hit, "c1")
    assert journey.open is not None
    return journey, [*journey.ended, journey.open]


def view(at: int, **fields: Any) -> Hit:
    return Hit(T0 + at, f"e{at}", PAGE_VIEW, url="https://shop.example.com/", **fields)


def sale(at: int, **fields: Any) -> Hit:
    return Hit(T0 + at, f"x{at}", CONVERSION, user=fields.pop("user", ""), source=fields.pop("source", None),
               sale=Sale("purchase", **fields))  # fmt: skip


@pytest.mark.parametrize(
    ("gap", "sessions"), [(30 * MINUTE - 1, 1), (30 * MINUTE, 2), (30 * MINUTE + 1, 2), (0, 1), (DAY, 2)]
)
def test_a_gap_of_the_timeout_or_longer_starts_a_new_session(gap: int, sessions: int) -> None:
    """Domain rules, section 3."""
    found = fold([view(0), view(gap)])[1]
    assert [session.split_reason for session in found] == ["first", "timeout"][:sessions]


@pytest.mark.parametrize(
    ("hits", "reasons"),
    [
        ([view(0, user="a"), view(1, user="a")], ["first"]),
        ([view(0), view(1, user="a")], ["first"]),
        ([view(0, user="a"), view(1), view(2, user="b")], ["first", "user"]),
        ([view(0, user="a"), sale(1, user="b")], ["first", "user"]),
        ([view(0), view(1, source=NEWS)], ["first"]),
        ([view(n * 29 * MINUTE) for n in range(50)], ["first"]),
        ([view(n * 29 * MINUTE) for n in range(51)], ["first", "max_age"]),
        ([view(n) for n in range(1_000)], ["first"]),
        ([view(n) for n in range(1_001)], ["first", "max_events"]),
        ([view(0), sale(29 * MINUTE), view(58 * MINUTE)], ["first"]),
        ([view(0), sale(29 * MINUTE, offline=True), view(58 * MINUTE)], ["first", "timeout"]),
        ([view(0), sale(29 * MINUTE, late=True), view(58 * MINUTE)], ["first", "timeout"]),
        ([view(0), sale(29 * MINUTE, bot=True), view(58 * MINUTE)], ["first", "timeout"]),
    ],
)
def test_what_splits_in_the_default_profile(hits: list[Hit], reasons: list[str]) -> None:
    """No campaign, no midnight; conversions extend, offline and late ones do not."""
    assert [session.split_reason for session in fold(hits)[1]] == reasons


UA = JourneyRules(sessions=SessionRules(profile="ua"), timezone="Europe/Riga")
MIDNIGHT = 1_700_085_600_000 - T0
"""16 November 2023 in Riga."""


@pytest.mark.parametrize(
    ("hits", "reasons"),
    [
        ([view(0, source=GOOGLE), view(1, source=NEWS)], ["first", "campaign"]),
        ([view(0, source=GOOGLE), view(1, source=GOOGLE)], ["first"]),
        ([view(0), view(1, source=GOOGLE)], ["first", "campaign"]),
        ([view(0, source=GOOGLE), view(1, source=Source("google", "cpc"))], ["first"]),
        ([view(0, source=Source("google", "cpc")), view(1, source=GOOGLE)], ["first", "campaign"]),
        ([view(0, source=GOOGLE), view(1, source=BLOG, referral="blog.example.org")], ["first"]),
        ([view(MIDNIGHT - 1), view(MIDNIGHT)], ["first", "midnight"]),
        ([view(MIDNIGHT - 2), view(MIDNIGHT - 1)], ["first"]),
    ],
)
def test_what_splits_in_profile_ua(hits: list[Hit], reasons: list[str]) -> None:
    """Semantics 30: a missing campaign alone is no change; midnight is the property's."""
    assert [session.split_reason for session in fold(hits, UA)[1]] == reasons


def test_a_detour_over_a_payment_service_changes_nothing() -> None:
    """A plain referral in an open session is listed, never its source or a touchpoint."""
    paid = view(MINUTE, source=BLOG, referral="pay.example.org")
    journey, (session,) = fold([view(0, source=GOOGLE), paid, paid])
    assert session.source == GOOGLE
    assert session.ignored_referrals == ("pay.example.org",)
    assert [touchpoint.source for touchpoint in journey.touchpoints] == [GOOGLE]


def test_a_referral_that_starts_a_session_is_its_source() -> None:
    """Only inside an open session it is ignored."""
    journey, (session,) = fold([view(0, source=BLOG, referral="blog.example.org")])
    assert session.source == BLOG
    assert journey.non_direct is not None


def test_an_arrival_inside_a_session_is_a_touchpoint_once() -> None:
    """Consecutive equal ones are one; the session keeps the source of its first event."""
    journey, (session,) = fold([view(0), view(1, source=NEWS), view(2, source=NEWS), view(3, source=GOOGLE)])
    assert session.source == DIRECT
    assert [touchpoint.source for touchpoint in journey.touchpoints] == [DIRECT, NEWS, GOOGLE]


def test_a_conversion_with_no_session_open_starts_a_direct_one_that_is_no_touchpoint() -> None:
    """Semantics 27."""
    journey, (session,) = fold([sale(0)])
    assert (session.source, session.page_views, session.events, session.conversions) == (DIRECT, 0, 1, 1)
    assert journey.touchpoints == ()
    for one in (sale(0, offline=True), sale(0, late=True), sale(0, bot=True)):
        offline = Journey()
        Fold(JourneyRules()).apply(offline, one, "c1")
        assert offline.open is None


def test_an_offline_conversion_counts_in_the_session_that_is_open() -> None:
    """It joins, without extending."""
    session = fold([view(0), sale(10 * MINUTE, offline=True)])[1][0]
    assert (session.conversions, session.ended_at) == (1, T0)
    session = fold([view(0), sale(30 * MINUTE, offline=True)])[1][0]
    assert session.conversions == 0


def test_an_offline_conversion_with_a_source_is_a_touchpoint() -> None:
    """A call answers a newspaper: later direct visits are attributed to it."""
    journey, sessions = fold([view(0), sale(DAY, offline=True, source=NEWS), view(2 * DAY)])
    assert [touchpoint.source for touchpoint in journey.touchpoints] == [DIRECT, NEWS, DIRECT]
    assert sessions[1].attributed.source == NEWS
    assert sessions[1].attributed.session_id == ""


@pytest.mark.parametrize(("days", "source"), [(90, GOOGLE), (89, GOOGLE)])
def test_a_direct_session_is_attributed_to_the_last_non_direct(days: int, source: Source) -> None:
    """Within the campaign timeout, inclusive."""
    sessions = fold([view(0, source=GOOGLE), view(days * DAY)])[1]
    assert sessions[1].source == DIRECT
    assert sessions[1].attributed.source == source
    assert sessions[1].attributed.session_id == sessions[0].id


def test_after_the_campaign_timeout_direct_is_direct() -> None:
    """A direct session does not renew what it was attributed to (semantics 30)."""
    sessions = fold([view(0, source=GOOGLE), view(60 * DAY), view(90 * DAY + 1)])[1]
    assert [session.attributed.source for session in sessions] == [GOOGLE, GOOGLE, DIRECT]
    assert sessions[2].attributed.session_id == sessions[2].id


def test_a_client_is_new_again_after_its_life() -> None:
    """400 days without an event, whether or not a timer has fired meanwhile (semantics 5, 25)."""
    sessions = fold([view(0, source=GOOGLE, user="a"), view(400 * DAY - 1), view(800 * DAY)])[1]
    assert [session.number for session in sessions] == [1, 2, 1]
    assert sessions[2].attributed.source == DIRECT
    assert sessions[2].inherited_user == ""


def test_touchpoints_are_the_first_and_the_latest_hundred() -> None:
    """What had to go is known, so that a conversion can say so."""
    journey = fold([view(n * HOUR, source=Source("s", "m", str(n))) for n in range(150)])[0]
    assert [int(touchpoint.source.campaign) for touchpoint in journey.touchpoints] == [0, *range(51, 150)]
    assert len(journey.touchpoints) == MAX_TOUCHPOINTS
    assert journey.dropped_until == T0 + 50 * HOUR


def test_a_link_click_is_an_event_but_no_page_view() -> None:
    """It shows as landing page only as long as there is no page."""
    session = fold([Hit(T0, "e", LINK_CLICK, url="https://shop.example.com/go")])[1][0]
    assert (session.page_views, session.events, session.landing_url) == (0, 1, "https://shop.example.com/go")


def test_an_anonymous_session_belongs_to_the_latest_user_before_it() -> None:
    """Semantics 31."""
    sessions = fold([view(0, user="a"), view(DAY), view(2 * DAY), view(2 * DAY + 1, user="b")])[1]
    assert [(session.user, session.inherited_user) for session in sessions] == [("a", ""), ("", "a"), ("b", "a")]


def _conformance(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "session_splits.jsonl").read_text().splitlines()]


def test_sessions_split_as_in_another_projects_cases(shared_dir: Path) -> None:
    """d8a's splitter, where its rules are ours: a campaign that is given as empty is missing here, no change."""
    cases = _conformance(shared_dir)
    applied = 0
    for case in cases:
        if case["name"] == "UTM campaign - Multiple events - empty campaign":
            continue
        conditions = {condition["split_on"]: condition.get("value") for condition in case["conditions"]}
        folding = Fold(
            JourneyRules(
                sessions=SessionRules(
                    profile="ua" if "utm_campaign_changed" in conditions else "ga4",
                    timeout_minutes=475,
                    max_events=conditions.get("max_events") or 1_000,
                )
            )
        )
        if "max_age_minutes" in conditions:
            folding.max_age_ms = conditions["max_age_minutes"] * MINUTE
        journey = Journey()
        of_event = []
        for index, event in enumerate(case["events"]):
            campaign = event.get("utm_campaign")
            source = Source("s", "m", campaign) if campaign else None
            user = event.get("user_id") or "" if "user_id_changed" in conditions else ""
            hit = Hit(T0 + event["minute"] * MINUTE, f"{index:03}", PAGE_VIEW, source, user=user)
            folding.apply(journey, hit, "c1")
            of_event.append(journey.sessions)
        found = [[i for i, n in enumerate(of_event) if n == number] for number in range(1, journey.sessions + 1)]
        assert found == case["expected_sessions"], case["name"]
        applied += 1
    assert applied == len(cases) - 1
