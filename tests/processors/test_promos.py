"""Stories of conversions with a code: arrivals of a referral programme, if somebody takes part with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import msgspec
import pytest

from stream_app.domain import client as clients
from stream_app.domain import hits, promos
from stream_app.domain.rules import Goal, JourneyRules, SessionRules
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import SourceRules
from tests.processors.harness import (
    DAY,
    HOUR,
    MINUTE,
    T0,
    TABLES,
    Run,
    click,
    conversion,
    enrolled,
    left,
    processor,
    with_programmes,
)

Record = tuple[str, dict[str, Any], int]

SHOP = "https://shop.example.com/"
ADVERT = {"url": SHOP + "?utm_source=google&utm_medium=cpc&utm_campaign=spring"}
LINK = {"url": SHOP + "?utm_source=referral-programme&utm_medium=referral-programme"}
"""Any page that gives the same touchpoint as a programme's link does."""


def run(records: Sequence[Record], rules: JourneyRules | None = None, *, finish: bool = True) -> Run:
    """The records, each in a commit of its own."""
    result = Run(with_programmes(rules), drop_cache=True)
    for record in records:
        result.commit([record])
    if finish:
        result.finish()
    return result


def late(record: Record, by: int) -> Record:
    """The same, heard so much later."""
    topic, body, ts = record
    return (topic, body, ts + by)


def bought(at: int, event_id: str = "sale", client_id: str = "c1", **fields: Any) -> Record:
    return conversion(at, event_id, client_id, **({"value": "100", "currency": "EUR", "promo_code": "ANNA"} | fields))


def paths(result: Run) -> dict[str, str]:
    return {record["event_id"]: record["path"] for record in result.conversions}


def last_click(result: Run) -> list[tuple[str, str, str, str, str, str]]:
    return [tuple(c.values()) for sale in result.conversions for c in sale["credits"]["last_non_direct"]]  # type: ignore[misc]


STORY = (click(0, "visit", **ADVERT), bought(10 * MINUTE), enrolled(-DAY, "anna", "anna"))


@pytest.mark.parametrize("order", sorted(permutations(range(3))))
def test_a_sale_with_a_partners_code_is_credited_to_the_programme_whatever_is_heard_first(order: Sequence[int]) -> None:
    """The advertisement that brought the visit has its part where models share; the last non-direct is the code."""
    story = [*STORY[:2], enrolled(5 * MINUTE, "anna", "anna")]
    result = run([late(story[n], 50 * MINUTE - story[n][2] + T0 + place) for place, n in enumerate(order)])
    (sale,) = result.conversions
    assert sale["path"] == "Paid Search > Referral Programme"
    name = "referral-programme"
    assert last_click(result) == [(name, name, "(not set)", "Referral Programme", "1", "100.00")]
    assert [(c["channel"], c["value"]) for c in sale["credits"]["linear"]] == [
        ("Paid Search", "50.00"),
        ("Referral Programme", "50.00"),
    ]
    assert sale["assisting_channels"] == ["Paid Search"]
    (session,) = result.sessions
    assert [touch["session_id"] for touch in sale["touchpoints"]] == [session["id"]] * 2
    assert (session["channel"], session["attributed"]["channel"], session["events"]) == ("Paid Search",) * 2 + (2,)


def test_an_answer_makes_one_revision_and_no_more() -> None:
    """Published at once, as an ordinary coupon; once more when somebody turns out to take part with it."""
    result = run([enrolled(-DAY, "anna", "anna"), click(0, "visit", **ADVERT), bought(MINUTE)])
    shown = [record["path"] for topic, record in result.outputs if topic == "attributed-conversions"]
    assert shown == ["Paid Search", "Paid Search > Referral Programme"]


@pytest.mark.parametrize(
    ("since", "until", "arrives"),
    [(MINUTE, 0, True), (MINUTE + 1, 0, False), (0, MINUTE, False), (0, MINUTE + 1, True)],
)
@pytest.mark.parametrize("delay", [0, 59 * MINUTE])
def test_the_code_must_be_active_at_the_conversion(since: int, until: int, arrives: bool, delay: int) -> None:
    """Whenever the enrolment and its end are heard of."""
    joined = [
        late(enrolled(since, "anna", "anna"), delay),
        *([late(left(until, "anna", "anna"), delay)] if until else []),
    ]
    result = run(sorted([*joined, click(0, "visit", **ADVERT), bought(MINUTE)], key=lambda r: r[2]))
    assert paths(result) == {"sale": "Paid Search > Referral Programme" if arrives else "Paid Search"}


@pytest.mark.parametrize("at", [2 * HOUR - 1, 2 * HOUR, 60 * DAY - 1, 60 * DAY])
def test_the_programme_must_run_at_the_conversion(at: int) -> None:
    """`spring` runs from two hours to sixty days."""
    result = run([enrolled(0, "anna", "anna", "spring"), bought(at)])
    assert bool(result.conversions[0]["touchpoints"]) == (2 * HOUR <= at < 60 * DAY)


def test_a_coupon_of_nobody_changes_nothing() -> None:
    """Whatever is published is what it is without programmes, revisions included; and the question is asked once."""
    records = [click(0, "visit", **ADVERT), bought(MINUTE, promo_code="SALE20"), click(DAY, "later"), bought(DAY, "s2")]
    records[3][1]["promo_code"] = "   "
    asked = run(records)
    plain = Run(processor(), drop_cache=True)
    for record in records:
        plain.commit([record])
    plain.finish()
    by_id = [sorted((r["id"], r["path"]) for t, r in one.outputs if "path" in r) for one in (asked, plain)]
    assert by_id[0] == by_id[1]
    assert asked.truth == plain.truth
    assert len(asked.outputs) == len(plain.outputs)
    assert [kind for kind, _, _ in asked.forwards] == ["referral-question"]
    assert plain.forwards == []


def test_a_refund_is_listed_and_leaves_the_credit_alone() -> None:
    """40 of 100 come back before anybody knows whose the code is."""
    refund = conversion(10 * MINUTE, "back", "c2", kind="refund", order_id="o1", value="40", currency="EUR")
    records = [click(0, "visit", **ADVERT), bought(5 * MINUTE, order_id="o1"), refund]
    for place in range(4):
        story = [*records[:place], enrolled(0, "anna", "anna"), *records[place:]]
        result = run([late(record, 20 * MINUTE - record[2] + T0 + n) for n, record in enumerate(story)])
        (sale,) = result.conversions
        assert (sale["refunded_value"], [r["value"] for r in sale["refunds"]]) == ("40.00", ["40.00"])
        assert [c[3:] for c in last_click(result)] == [("Referral Programme", "1", "100.00")]


@pytest.mark.parametrize("order", sorted(permutations(range(3))))
@pytest.mark.parametrize(("at", "channel"), [(4, "Paid Search"), (6, "Paid Search"), (3, "Referral Programme")])
def test_of_two_duplicates_the_one_that_counts_decides(order: Sequence[int], at: int, channel: str) -> None:
    """A tracker sends the sale twice, in other minutes: with the code in the first only; the partner joins around."""
    twice = [bought(4 * MINUTE - 1), bought(5 * MINUTE, promo_code="SALE20")]
    story = [*twice, enrolled(at * MINUTE, "anna", "anna")]
    heard = [late(story[n], 50 * MINUTE - story[n][2] + T0 + place) for place, n in enumerate(order)]
    result = run([click(0, "visit", **ADVERT), *heard])
    assert [c[3:] for c in last_click(result)] == [(channel, "1", "100.00")]


def test_without_programmes_nobody_is_asked() -> None:
    """Nothing is told, and nothing is kept of the code but the conversion itself."""
    result = Run(processor())
    for record in STORY[:2]:
        result.commit([record])
    assert result.forwards == []
    assert result.cached[b"c1"].stored.promos == ()


def test_later_visits_and_sales_owe_themselves_to_the_code() -> None:
    """As they would to a visit through the partner's link."""
    result = run(
        [enrolled(0, "anna", "anna"), bought(MINUTE), click(DAY, "back"), bought(DAY + 1, "next", promo_code="")]
    )
    assert paths(result) == {"sale": "Referral Programme", "next": "Referral Programme > Direct"}
    assert last_click(result)[1][3:] == ("Referral Programme", "1", "100.00")
    first, second = result.sessions
    assert (first["channel"], first["attributed"]["channel"]) == ("Direct", "Direct")
    assert (second["channel"], second["attributed"]["channel"]) == ("Direct", "Referral Programme")
    assert second["attributed"]["from_session"] == first["id"]


@pytest.mark.parametrize(
    ("clicks", "path"),
    [
        ([LINK], "Referral Programme"),
        ([ADVERT, LINK], "Paid Search > Referral Programme"),
        ([LINK, ADVERT], "Referral Programme > Paid Search > Referral Programme"),
    ],
)
def test_who_came_by_the_link_and_types_the_code_arrived_once(clicks: list[dict[str, str]], path: str) -> None:
    """Equal touchpoints one after the other in a session are one."""
    visits = [click(n, f"k{n}", **page) for n, page in enumerate(clicks)]
    result = run([enrolled(0, "anna", "anna"), *visits, bought(MINUTE), bought(2 * MINUTE, "again")])
    assert paths(result) == {"sale": path, "again": path}


def test_in_profile_ua_the_advertisement_again_after_the_code_is_another_session() -> None:
    """The code is the session's latest touchpoint, and the campaign differs from it (semantics 30)."""
    records = [click(0, "k1", **ADVERT), bought(MINUTE), click(2 * MINUTE, "k2", **ADVERT)]
    rules = JourneyRules(sessions=SessionRules(profile="ua"))
    assert [s["split_reason"] for s in run(records, rules).sessions] == ["first"]
    known = run([enrolled(0, "anna", "anna"), *records], rules)
    assert [s["split_reason"] for s in known.sessions] == ["first", "campaign"]
    heard_last = run([*records, late(enrolled(0, "anna", "anna"), 10 * MINUTE)], rules)
    assert heard_last.truth == known.truth


def test_a_call_with_a_code_is_a_touchpoint_of_both() -> None:
    """It neither starts a session nor becomes the latest of one."""
    rules = JourneyRules(goals=(Goal("visit", offline=True),))
    result = run(
        [
            enrolled(0, "anna", "anna"),
            bought(MINUTE, "call", source="newspaper", medium="offline"),
            click(HOUR, "k", **ADVERT),
            bought(HOUR + 1, "office", goal="visit"),
            click(HOUR + 2, "k2", **ADVERT),
            bought(HOUR + 3, "shop", promo_code=""),
        ],
        rules,
    )
    assert paths(result) == {
        "shop": "Offline > Referral Programme > Paid Search > Referral Programme",
        "call": "Offline > Referral Programme",
        "office": "Offline > Referral Programme > Paid Search > Referral Programme",
    }
    assert result.conversions[0]["session_id"] is None
    assert [s["channel"] for s in result.sessions] == ["Paid Search"]


def test_what_comes_beyond_grace_or_from_a_program_is_no_arrival() -> None:
    """It is credited once, to what there is, and frozen (semantics 27); a program's counts nowhere (26)."""
    result = run(
        [
            enrolled(0, "anna", "anna"),
            click(0, "k", **ADVERT),
            bought(1, "bot", user_agent="Googlebot/2.1"),
            click(3 * HOUR, "k2"),
            late(bought(2, "late"), 3 * HOUR),
            late(bought(2, "later", "c2"), 3 * HOUR),
        ]
    )
    assert paths(result) == {"bot": "Paid Search", "late": "Paid Search", "later": ""}
    assert "referral-question" not in {kind for kind, _, _ in result.forwards}


def test_an_invite_code_is_a_code() -> None:
    """Of two codes in one conversion any will do."""
    result = run([enrolled(0, "anna", "anna"), bought(1, promo_code="SALE20", invite_code="Anna")])
    assert paths(result) == {"sale": "Referral Programme"}


def test_the_persons_other_clients_see_it() -> None:
    """On her desk she types the code in; the next purchase is on the phone."""
    result = run(
        [
            enrolled(0, "anna", "anna"),
            bought(1, "desk", "desk", user_id="olga"),
            bought(2, "phone", "phone", user_id="olga", promo_code=""),
        ]
    )
    assert paths(result) == {"desk": "Referral Programme", "phone": "Referral Programme"}


# --- what is on its way ----------------------------------------------------------------------------------


def test_a_backlog_in_one_commit_gives_what_it_would_have_given_live() -> None:
    """Months of sales are read at once, before any code has answered."""
    records = [enrolled(0, "anna", "anna"), click(0, "k", **ADVERT)]
    for month in range(5):
        records += [bought(month * 30 * DAY + HOUR, f"sale{month}"), click(month * 30 * DAY + DAY, f"later{month}")]
    records.append(left(70 * DAY, "anna", "anna"))
    records.sort(key=lambda record: record[2])
    live, backlog = run(records), Run(with_programmes(), drop_cache=True)
    backlog.commit(records)
    backlog.finish()
    assert backlog.truth == live.truth
    assert [path.count("Referral Programme") for path in paths(live).values()] == [1, 2, 3, 3, 2]


def test_a_client_whose_life_a_backlog_leaps_over_still_hears_the_answer() -> None:
    """Read in one commit with what others did two years later, when nobody would remember it any more."""
    records = [enrolled(0, "anna", "anna"), bought(MINUTE), click(730 * DAY, "k", "c2")]
    result = Run(with_programmes(), drop_cache=True)
    result.commit(records)
    assert result.truth == run(records, finish=False).truth
    assert paths(result) == {"sale": "Referral Programme"}


def test_an_enrolment_that_time_leaps_over_is_still_heard() -> None:
    """The worker stood still for ten days; the partner had joined before the sale and was heard of after it."""
    records = [click(0, "k", **ADVERT), bought(MINUTE)]
    leap = [late(enrolled(0, "anna", "anna"), 50 * MINUTE), click(10 * DAY, "much later")]
    result = run(records, finish=False)
    result.commit(leap[1:], hops=())
    result.arrive()
    result.commit(leap[:1])
    result.finish()
    assert result.truth == run([*records, *leap]).truth
    assert paths(result)["sale"] == "Paid Search > Referral Programme"


def test_what_is_waited_for_is_waited_for_once() -> None:
    """A day later nothing of it is kept but the touchpoint."""
    result = run([enrolled(0, "anna", "anna"), bought(1)], finish=False)
    for n in range(8):
        result.commit([click(DAY + HOUR + (n + 1) * 31 * MINUTE, f"k{n}")])
        stored = result.parts[0].state(b"c1").stored
        assert bool(stored.promos) == (n < clients.HOLD_COMMITS)
    client = result.parts[0].state(b"c1")
    assert [touch.source.channel for touch in client.head.touchpoints][:2] == ["Referral Programme", "Direct"]
    assert [hit.id for hit in client.recents] == ["k6", "k7"]
    assert result.parts[3].rows.rows == {}


def test_an_answer_for_a_client_that_is_gone_makes_no_client() -> None:
    """It was forgotten while the answer was on its way."""
    result = Run(with_programmes())
    result.commit([enrolled(0, "anna", "anna"), bought(1)], hops=())
    result.commit([], hops=[hop for hop in result.pending if hop.kind == "referral-question"])
    result.saved.clear()
    result.cached.clear()
    result.arrive()
    assert result.saved == {}


def test_a_client_with_very_many_codes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of further conversions nobody asks; they are ordinary ones."""
    monkeypatch.setattr("stream_app.processors.journeys.promos.MAX_PROMOS", 2)
    result = run([enrolled(0, "anna", "anna"), *(bought(n * HOUR, f"s{n}") for n in range(1, 4))])
    assert paths(result) == {f"s{n}": " > ".join(["Referral Programme"] * min(n, 2)) for n in range(1, 4)}


def test_for_a_client_with_very_many_events_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for the answer goes first; nothing within grace is cut, and nothing says so. An answer that was
    there by then stands."""
    monkeypatch.setattr(clients, "MAX_RECENT", 8)
    result = run([enrolled(0, "anna", "anna"), bought(1), *(click(n * 20 * MINUTE, f"k{n}") for n in range(1, 40))])
    assert paths(result) == {"sale": "Referral Programme"}
    assert result.counts["client_caps"] == 0
    assert not any(record["truncated"] for record in (*result.sessions, *result.conversions))
    client = result.parts[0].state(b"c1")
    assert client.stored.promos == ()
    assert len(client.recents) <= 8


def test_in_ga4_there_is_no_such_channel() -> None:
    """Nor by a rule that excludes the programme as a source. A rule may name the channel."""
    rule = {"any": [{"field": "source", "equals": "referral-programme"}]}
    for given in ({"profile": "ga4"}, {"rules": [{"exclude": True, **rule}]}):
        assert SourceResolver(_rules(given), TABLES).of_programme() is None
    named = SourceResolver(_rules({"rules": [{"channel": "Friends", **rule}]}), TABLES).of_programme()
    assert named is not None
    assert named.channel == "Friends"
    linked = SourceResolver(_rules({"referral_parameters": ["ref"]}), TABLES)
    assert linked.of_programme() == linked.resolve(SHOP + "?ref=anna").source


def _rules(given: dict[str, Any]) -> SourceRules:
    return msgspec.convert(given, SourceRules)


def test_codes_compare_without_case_and_unreadable_ones_are_none() -> None:
    """As people compare them."""
    sale = hits.Sale("purchase", promo_code=" ＡNNA ", invite_code="a\x07b")
    assert promos.codes_of(sale) == ("anna",)
