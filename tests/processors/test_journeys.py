"""Stories of single clients, with the records that they must produce."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from stream_app.domain import client as clients
from stream_app.domain.rules import Goal, JourneyRules
from stream_app.domain.sources.rules import OfflineSource, SourceRules
from stream_app.engine.processor import Rejected
from tests.processors.harness import DAY, HOUR, MINUTE, T0, Run, click, conversion, processor, run
from tests.processors.reference import reference, show

SHOP = "https://shop.example.com/"
ADVERT = {"url": SHOP + "?utm_source=google&utm_medium=cpc&utm_campaign=spring"}
INTERNAL = {"referrer": SHOP}


def last_session(result: Run) -> dict[str, Any]:
    return result.sessions[-1]


def written(result: Run) -> list[tuple[str, Any]]:
    """What was written about sessions, in order."""
    return [(r.get("status", "retracted"), r.get("page_views")) for t, r in result.outputs if t.endswith("sessions")]


# --- when sessions are written (semantics 22) ------------------------------------------------------------


def test_page_views_alone_are_not_written_until_the_session_closes() -> None:
    """Opened and closed: two records, whatever lies between."""
    result = run([click(n * MINUTE, f"e{n}", **INTERNAL) for n in range(20)])
    assert written(result) == [("open", 1), ("closed", 20)]
    assert last_session(result)["duration_s"] == 19 * 60


def test_a_conversion_a_user_and_a_new_source_are_written_at_once_with_what_is_so_then() -> None:
    """The triggers of semantics 22."""
    result = run(
        [
            click(0, "a"),
            click(1, "b", **INTERNAL),
            click(2, "c", user_id="u1"),
            click(3, "d", **INTERNAL),
            click(4, "e", **ADVERT),
            conversion(5, "f"),
        ]
    )
    assert written(result) == [("open", 1), ("open", 3), ("open", 5), ("open", 5), ("closed", 5)]


def test_what_an_open_session_shows_does_not_depend_on_how_events_were_batched() -> None:
    """A page view in the same commit as a trigger before it is not shown."""
    records = [click(0, "a"), click(1, "b", **INTERNAL)]
    one, two = run(records, size=2, finish=False), run(records, size=1, finish=False)
    assert one.truth == two.truth
    assert last_session(one)["page_views"] == 1


def test_a_session_is_closed_from_the_timeout_on_and_opened_again_by_a_late_event() -> None:
    """Semantics 6: status is a function of stream time; revisions tell the rest."""
    result = run([click(0, "a")], finish=False)
    result.commit([], now=T0 + 30 * MINUTE - 1)
    assert last_session(result)["status"] == "open"
    result.commit([], now=T0 + 30 * MINUTE)
    assert last_session(result)["status"] == "closed"
    topic, record, _ = click(20 * MINUTE, "late", **INTERNAL)
    result.commit([(topic, record, T0 + 40 * MINUTE)])
    assert last_session(result)["status"] == "open"
    result.commit([], now=T0 + 50 * MINUTE)
    assert (last_session(result)["status"], last_session(result)["page_views"]) == ("closed", 2)


def test_a_late_event_that_joins_two_sessions_retracts_the_second() -> None:
    """What was published and does not exist any more is taken back."""
    result = run([click(0, "a"), click(45 * MINUTE, "b")], finish=False)
    second = last_session(result)["id"]
    topic, record, _ = click(20 * MINUTE, "between")
    result.commit([(topic, record, T0 + 46 * MINUTE)])
    retraction = [record for _, record in result.outputs if record["retracted"]]
    assert [record["id"] for record in retraction] == [second]
    result.finish()
    assert [session["page_views"] for session in result.sessions] == [3]


def test_a_late_event_that_changes_nothing_visible_writes_nothing() -> None:
    """The head is folded anew, and what it shows compared with what was published."""
    result = run(
        [click(0, "a", **ADVERT), conversion(5, "b", value=1, order_id="o1"), click(10 * MINUTE, "c", **INTERNAL)],
        finish=False,
    )
    before = len(result.outputs)
    topic, record, _ = click(5 * MINUTE, "late", **INTERNAL)
    result.commit([(topic, record, T0 + 11 * MINUTE)])
    assert len(result.outputs) == before
    result.finish()
    assert last_session(result)["page_views"] == 3


# --- duplicates (semantics 23) ---------------------------------------------------------------------------


def test_a_click_that_comes_twice_counts_once() -> None:
    """Counted as a duplicate, no dead letter."""
    result = run([click(0, "a"), click(0, "a"), click(5, "b", **INTERNAL), click(0, "a")])
    assert last_session(result)["events"] == 2
    assert result.counts["duplicates"] == 2
    assert result.rejected == []


def test_of_two_claims_to_one_id_the_earlier_stands() -> None:
    """Even if it comes later; the loser's session is taken back."""
    first = click(0, "a", url=SHOP + "first")
    second = click(10 * MINUTE, "a", url=SHOP + "second")
    for records in ([first, second], [second, (*first[:2], second[2] + 1)]):
        (session,) = run(records).sessions
        assert (session["events"], session["landing_url"]) == (1, SHOP + "first")


def test_an_id_used_again_after_grace_is_another_event() -> None:
    """And starts a session of its own, which does not overwrite the first."""
    assert len(run([click(0, "a"), click(60 * MINUTE, "a")]).sessions) == 1
    assert len(run([click(0, "a"), click(60 * MINUTE + 1, "a")]).sessions) == 2


def test_a_duplicate_is_known_although_its_first_has_settled() -> None:
    """Arrival order within grace decides nothing: ids are remembered for another grace."""
    topic, record, _ = click(50 * MINUTE, "a")
    result = run([click(0, "a"), click(80 * MINUTE, "b"), (topic, record, T0 + 100 * MINUTE)], drop_cache=True)
    assert [session["events"] for session in result.sessions] == [1, 1]


def test_a_conversion_is_remembered_as_long_as_its_client() -> None:
    """Its id, and its order within the client."""
    result = run(
        [
            conversion(0, "a", order_id="o1", value=1),
            conversion(90 * DAY, "a"),
            conversion(100 * DAY, "b", order_id="o1"),
            conversion(110 * DAY, "c", order_id="o1", goal="other"),
        ],
        drop_cache=True,
    )
    assert [record["event_id"] for record in result.conversions] == ["a", "c"]
    assert [session["conversions"] for session in result.sessions] == [1, 0, 1]


# --- lateness --------------------------------------------------------------------------------------------


def test_lateness_is_a_property_of_the_record() -> None:
    """Semantics 2: clicks by grace, anything by five minutes ahead, conversions by the client's life."""
    decode = processor().decoder("clicks")
    value = json.dumps(click(0, "a")[1]).encode()
    sale = json.dumps(conversion(0, "a")[1]).encode()
    assert decode(b"c1", value, T0 + HOUR).at == T0
    assert decode(b"c1", value, T0 - 5 * MINUTE).at == T0
    for key, ts, reason in (
        (b"c1", T0 + HOUR + 1, "too_late"),
        (b"c1", T0 - 5 * MINUTE - 1, "clock_skew"),
        (b"c2", T0, "key_mismatch"),
        (b"", T0, "key_mismatch"),
    ):
        with pytest.raises(Rejected) as caught:
            decode(key, value, ts)
        assert caught.value.reason == reason
    decode = processor().decoder("conversions")
    assert decode(b"c1", sale, T0 + 400 * DAY).at == T0
    with pytest.raises(Rejected) as caught:
        decode(b"c1", sale, T0 + 400 * DAY + 1)
    assert caught.value.reason == "too_late"


@pytest.mark.parametrize(
    ("at", "unit"), [(T0 // 1_000, "seconds"), (T0 * 1_000, "microseconds"), (T0 * 1_000_000, "nanoseconds")]
)
def test_times_in_another_unit_are_told_as_such(at: int, unit: str) -> None:
    """The most frequent mistake of a new tracker; whatever else is refused is not called one."""
    for topic in ("clicks", "conversions"):
        record = (click(0, "a") if topic == "clicks" else conversion(0, "a"))[1]
        for occurred_at, told in ((at, True), (T0 - 500 * DAY, False), (0, False), (T0 + DAY, False), (-1, False)):
            with pytest.raises(Rejected) as caught:
                processor().decoder(topic)(None, json.dumps(record | {"occurred_at": occurred_at}).encode(), T0 + HOUR)
            assert (f"in {unit}? milliseconds are expected" in caught.value.detail) == told
            assert told or "?" not in caught.value.detail


@pytest.mark.parametrize("at", [10**30, -(10**30), 253_402_300_800_000, -1])
def test_absurd_times_are_refused(at: int) -> None:
    """With any record timestamp, however absurd that is itself."""
    for topic in ("clicks", "conversions"):
        record = (click(0, "a") if topic == "clicks" else conversion(0, "a"))[1] | {"occurred_at": at}
        for ts in (T0, 0, -1, at):
            with pytest.raises(Rejected) as caught:
                processor().decoder(topic)(None, json.dumps(record).encode(), ts)
            assert caught.value.reason in {"too_late", "clock_skew", "bad_field"}


def test_a_click_behind_what_its_client_has_settled_is_too_late() -> None:
    """Possible only when record timestamps run backwards (semantics 4)."""
    result = run([click(0, "a"), click(5 * HOUR, "b"), click(HOUR, "c")])
    assert [reason for reason, _ in result.rejected] == ["too_late"]
    assert [session["events"] for session in result.sessions] == [1, 1]


@pytest.mark.parametrize("busy", [False, True])
def test_a_late_conversion_joins_the_session_of_its_time_and_is_credited_by_what_came_before(busy: bool) -> None:
    """Semantics 27: it starts, extends and changes no session; whether or not its time has settled."""
    topic, record, _ = conversion(10 * MINUTE, "late", value=5)
    between = [click(DAY, "b", url=SHOP + "?gclid=1")] if busy else []
    result = run([click(0, "a", **ADVERT), *between, (topic, record, T0 + 2 * DAY)], drop_cache=True)
    (sale,) = result.conversions
    assert sale["session_id"] == result.sessions[0]["id"]
    assert sale["path"] == "Paid Search"
    assert [session["conversions"] for session in result.sessions] == [0] * len(result.sessions)


def test_a_late_conversion_outside_any_session_has_none() -> None:
    """And without a touchpoint before it its source is not determined."""
    topic, record, _ = conversion(-5 * HOUR, "late", value=5)
    (sale,) = run([click(0, "a", **ADVERT), (topic, record, T0 + 1)]).conversions
    assert (sale["session_id"], sale["source_determined"], sale["days_to_convert"]) == (None, False, None)
    assert sale["credits"]["last_click"][0]["channel"] == "Not determined"


# --- conversions -----------------------------------------------------------------------------------------


def test_a_worked_journey() -> None:
    """Advertisement, newsletter ten days later, direct purchase after a payment detour."""
    result = run(
        [
            click(0, "a", **ADVERT),
            click(10 * DAY, "b", url=SHOP + "?utm_source=news&utm_medium=email"),
            click(12 * DAY, "c"),
            click(12 * DAY + MINUTE, "d", referrer="https://www.paypal.com/checkout"),
            conversion(12 * DAY + 2 * MINUTE, "e", value="99.90", order_id="o1", user_id="u1"),
        ]
    )
    (sale,) = result.conversions
    assert sale["path"] == "Paid Search > Email > Direct"
    assert sale["days_to_convert"] == 12
    assert {
        model: [(share["channel"], share["credit"], share["value"]) for share in shares]
        for model, shares in sale["credits"].items()
    } == {
        "last_non_direct": [("Email", "1", "99.90")],
        "last_click": [("Direct", "1", "99.90")],
        "first_click": [("Paid Search", "1", "99.90")],
        "linear": [("Paid Search", "0.5", "49.95"), ("Email", "0.5", "49.95")],
        "position_based": [("Paid Search", "0.5", "49.95"), ("Email", "0.5", "49.95")],
        "time_decay": [("Paid Search", "0.270870549771", "27.06"), ("Email", "0.729129450229", "72.84")],
    }
    assert sale["assisting_channels"] == ["Paid Search"]
    assert (sale["value"], sale["currency"], sale["refunded_value"]) == ("99.90", "EUR", "0.00")
    assert [touchpoint["age_s"] for touchpoint in sale["touchpoints"]] == [12 * 86_400 + 120, 2 * 86_400 + 120, 120]
    session = last_session(result)
    assert (session["source"], session["attributed"]["source"], session["attributed"]["age_s"]) == (
        "(direct)", "news", 2 * 86_400,
    )  # fmt: skip
    assert (session["conversions"], session["conversion_value"]) == (1, {"EUR": "99.90"})
    assert (session["user_id"], sale["user_id"], sale["session_id"]) == ("u1", "u1", session["id"])


@pytest.mark.parametrize(("days", "determined"), [(0, True), (90, True), (91, False)])
def test_a_conversion_looks_back_ninety_days_inclusive(days: int, determined: bool) -> None:
    """Semantics 32."""
    (sale,) = run([click(0, "a", **ADVERT), conversion(days * DAY, "b")]).conversions
    assert sale["source_determined"] == determined
    (sale,) = run([click(0, "a", **ADVERT), conversion(90 * DAY + 1, "b")]).conversions
    assert not sale["source_determined"]


def test_an_acquisition_goal_looks_back_thirty_days() -> None:
    """And a goal of kind lead gives the conversion a lead id."""
    rules = JourneyRules(goals=(Goal("purchase", kind="lead", acquisition=True),))
    (sale,) = run([click(0, "a"), conversion(30 * DAY, "b")], rules).conversions
    assert (sale["source_determined"], sale["lead_id"]) == (True, "b")
    (sale,) = run([click(0, "a"), conversion(30 * DAY + 1, "b", lead_id="l1")], rules).conversions
    assert (sale["source_determined"], sale["lead_id"]) == (False, "l1")


def test_a_touchpoint_at_the_conversions_own_time_counts_whatever_its_id() -> None:
    """Semantics 32, also when it comes a commit later."""
    for records in (
        [conversion(0, "a"), click(0, "b", **ADVERT)],
        [click(0, "b", **ADVERT), conversion(0, "a")],
        [conversion(0, "a"), click(0, "b", **ADVERT), click(1, "c")],
    ):
        for size in (1, 2, 3):
            (sale,) = run(records, size=size).conversions
            assert sale["path"] == "Paid Search"


def test_a_call_is_a_touchpoint_of_its_own() -> None:
    """The number stands for a newspaper advertisement; the call starts no session."""
    sources = SourceRules(own_domains=("shop.example.com",), phone_numbers={"+37120000001": OfflineSource("newspaper")})
    result = Run(processor(None, sources))
    for record in (conversion(0, "a", called_number="+371 2000 0001", goal="call"), conversion(DAY, "b")):
        result.commit([record])
    result.finish()
    first, second = result.conversions
    assert first["touchpoints"][0]["source"] == second["touchpoints"][0]["source"] == "newspaper"
    assert (first["session_id"], first["touchpoints"][0]["session_id"]) == (None, None)
    assert len(result.sessions) == 1


def test_programs_make_no_session_and_their_conversions_are_flagged() -> None:
    """Semantics 26."""
    bot = {"user_agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"}
    result = run([click(0, "a", **bot), conversion(1, "b", **bot), click(2, "c")])
    assert result.counts["bots"] == 1
    assert [(sale["bot"], sale["session_id"]) for sale in result.conversions] == [(True, None)]
    assert [session["conversions"] for session in result.sessions] == [0]


# --- refunds ---------------------------------------------------------------------------------------------


def refund(at: int, event_id: str, **fields: Any) -> Any:
    return conversion(at, event_id, kind="refund", order_id="o1", **fields)


@pytest.mark.parametrize("delay", [MINUTE, 2 * DAY, 200 * DAY])
def test_refunds_are_listed_beside_the_gross_credits(delay: int) -> None:
    """Partial, another, then all that is left; whether the order has settled or not."""
    result = run(
        [
            click(0, "a", **ADVERT),
            conversion(1, "b", value=100, order_id="o1"),
            refund(delay, "r1", value="30.5"),
            refund(delay + 1, "r2", value=20, currency="EUR"),
            refund(delay + 2, "r3"),
            refund(delay + 3, "r4", value=1),
        ],
        drop_cache=True,
    )
    (sale,) = result.conversions
    assert [(r["event_id"], r["value"]) for r in sale["refunds"]] == [
        ("r1", "30.50"), ("r2", "20.00"), ("r3", "49.50"), ("r4", "0.00"),
    ]  # fmt: skip
    assert (sale["value"], sale["refunded_value"]) == ("100.00", "100.00")
    assert sale["credits"]["last_click"][0]["value"] == "100.00"


def test_a_refund_waits_for_its_order() -> None:
    """Whatever comes first."""
    topic, record, _ = conversion(0, "b", value=10, order_id="o1")
    result = run([refund(5, "r1", value=4), (topic, record, T0 + 20 * DAY)])
    assert [sale["refunded_value"] for sale in result.conversions] == ["4.00"]


def test_refunds_take_in_order_of_their_time_however_they_arrive() -> None:
    """The earlier one is served first, also when both are months late and the later came first."""
    sale = conversion(0, "b", value=10, order_id="o1")
    early, late = refund(HOUR, "r1", value=7), refund(2 * HOUR, "r2", value=7)
    arrived = [(*late[:2], T0 + 30 * DAY), (*early[:2], T0 + 31 * DAY)]
    result = run([sale, click(DAY, "a"), *arrived], drop_cache=True)
    (sold,) = result.conversions
    assert [(r["event_id"], r["value"]) for r in sold["refunds"]] == [("r1", "7.00"), ("r2", "3.00")]


@pytest.mark.parametrize("at", [5, 20 * DAY])
def test_a_refund_in_another_currency_is_bad_money(at: int) -> None:
    """It takes nothing."""
    result = run([conversion(0, "b", value=10, order_id="o1"), refund(at, "r1", value=4, currency="USD")])
    assert [reason for reason, _ in result.rejected] == ["bad_money"]
    assert [sale["refunded_value"] for sale in result.conversions] == ["0.00"]


# --- bounds ----------------------------------------------------------------------------------------------


def test_a_client_with_very_many_events_costs_little_and_stays_bounded() -> None:
    """100,000 events in a day: 5,000 within grace, rows of 64, and what goes beyond says so."""
    total, step = 20_000, 200
    result = Run(processor())
    written_bytes = []
    for start in range(0, total, 10):
        before = result.rows.written
        result.commit([click(n * step, f"e{n}", **INTERNAL) for n in range(start, start + 10)])
        written_bytes.append(result.rows.written - before + len(result.saved[b"c1"]))
    state = result.cached[b"c1"]
    assert len(state.recents) <= clients.MAX_RECENT
    assert max(written_bytes) < 20_000
    assert sum(written_bytes[-500:]) / 500 < 12_000
    assert len(result.rows.rows) <= clients.MAX_RECENT // clients.TAIL + clients.MAX_KEPT + 2
    assert result.counts["client_caps"] > 0
    topic, record, _ = click((total - 6_000) * step, "old", **INTERNAL)
    result.commit([(topic, record, T0 + total * step)])
    assert result.rejected == [("too_late", "client_cap")]
    result.finish()
    assert sum(session["page_views"] for session in result.sessions) == total
    assert [session["truncated"] for session in result.sessions] == [True] * 16 + [False] * 4
    result.commit([], now=result.now + 402 * DAY)
    assert result.saved == {}
    assert result.rows.rows == {}


def test_events_out_of_order_find_their_place_in_stored_rows() -> None:
    """A client with hundreds of events within grace, loaded anew for every commit."""
    records = [click(n * 1_000, f"e{n}", **(ADVERT if n % 50 == 0 else INTERNAL)) for n in range(0, 600, 2)]
    late = [click(n * 1_000, f"e{n}", **INTERNAL) for n in range(1, 600, 60)]
    arrived = [*records, *[(topic, record, T0 + 700_000 + n) for n, (topic, record, _) in enumerate(late)]]
    result = run(arrived, size=37, drop_cache=True)
    assert result.truth == reference(result.processor, [*records, *late])
    assert result.rows.rows


def test_a_late_event_that_settles_in_a_stored_row_at_once_is_remembered_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows keep what has settled for its ids, also when they are written again."""
    monkeypatch.setattr(clients, "TAIL", 2)
    records = [click(0, f"a{n}") for n in range(4)] + [click(45 * MINUTE, "a9")]
    records += [click(45 * MINUTE, f"b{n}") for n in range(4)]
    again = [
        (*click(0, "a9")[:2], T0 + 59 * MINUTE),
        click(65 * MINUTE, "c"),
        (*click(10 * MINUTE, "a2")[:2], T0 + 66 * MINUTE),
        (*click(8 * MINUTE, "a7")[:2], T0 + 67 * MINUTE),
        (*click(30 * MINUTE, "a7")[:2], T0 + 75 * MINUTE),
    ]
    for size in (1, 2, 9):
        result = run([*records, *again], size=size, drop_cache=True)
        assert result.truth == reference(result.processor, [*records, *again])


def test_a_client_that_becomes_busy_again_knows_duplicates_of_what_came_in_between() -> None:
    """Ids in a set are those of a busy client; single page views after that must be found there as well."""
    busy = Run(processor())
    busy.commit([click(n * 1_000, f"old{n}") for n in range(100)])
    busy.commit([click(2 * DAY, "first")])
    busy.commit([click(2 * DAY + 1_000, "single")])
    busy.commit([click(2 * DAY + 2_000 + n, f"more{n}") for n in range(100)])
    busy.commit([click(2 * DAY + 1_000, "single")])
    busy.finish()
    assert busy.counts["duplicates"] == 1
    assert sum(session["events"] for session in busy.sessions) == 202


def test_a_busy_client_knows_duplicates_of_what_has_settled_after_a_restart() -> None:
    """4,000 clicks an hour for two hours, then those of the first hour again, under a later time."""
    records = [click(n * 900, f"e{n}", **INTERNAL) for n in range(8_000)]
    result = run(records, size=100, finish=False)
    result.cached.clear()
    again = [(*click(61 * MINUTE, f"e{n}", **INTERNAL)[:2], T0 + 120 * MINUTE) for n in range(100, 3_900, 100)]
    result.commit(again)
    assert result.counts["duplicates"] == len(again)


def test_a_session_that_is_over_leaves_later_events_in_rows_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer finds a session closed and settled; an event after it has passed grace as well, but has not settled."""
    monkeypatch.setattr(clients, "TAIL", 2)
    half = 30 * MINUTE
    records = [
        [click(0, f"{n}") for n in range(5)],
        [click(half, "5")],
        [click(half + 5_000, "6"), click(2 * half + 4_999, "7")],
        [click(3 * half + 4_999, "other", "c2")],
        [click(3 * half + 4_999, "8")],
    ]
    result = Run(processor(), drop_cache=True)
    for batch in records:
        result.commit(batch)
    result.finish()
    assert [s["events"] for s in result.sessions if s["client_id"] == "c1"] == [5, 3, 1]
    assert result.truth == reference(result.processor, [record for batch in records for record in batch])


def test_a_client_is_forgotten_after_its_life() -> None:
    """400 days and grace after its last event, with all its rows; a moment before it is still known."""
    result = run([click(0, "a", **ADVERT), conversion(1, "b", order_id="o1"), click(DAY, "c")])
    for _ in range(clients.HOLD_COMMITS):
        result.commit([])
    result.commit([], now=T0 + 401 * DAY + HOUR - 1)
    assert list(result.saved) == [b"c1"]
    assert result.rows.rows
    result.commit([], now=T0 + 401 * DAY + HOUR)
    assert result.saved == {}
    assert result.rows.rows == {}


def test_time_that_jumps_over_everything_still_closes_what_was_open() -> None:
    """Then the client is forgotten, in one commit."""
    result = run([click(0, "a")], finish=False)
    result.commit([], now=T0 + 1_000 * DAY)
    assert last_session(result)["status"] == "closed"
    assert result.saved == {}


def test_an_unknown_state_version_stops_the_task() -> None:
    """Semantics 14: it is named, never wiped."""
    result = run([click(0, "a")])
    with pytest.raises(ValueError, match="version 9"):
        processor().load(b"c1", 9, result.saved[b"c1"], result.rows)


# --- real page views -------------------------------------------------------------------------------------


def test_real_page_views_make_sessions_that_account_for_every_one(shared_dir: Path) -> None:
    """The log of semicomplete.com: shuffled within its hours, programs and referrer spam included."""
    with gzip.open(shared_dir / "apache_pageviews.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    records = []
    newest = 0
    for line in lines:
        newest = max(newest, line["time_ms"])
        record = {
            "event_id": line["name"],
            "client_id": line["ip"],
            "occurred_at": line["time_ms"],
            "url": "http://www.semicomplete.com" + line["path"],
            "referrer": line["referrer"],
            "user_agent": line["user_agent"],
        }
        records.append(("clicks", record, newest))
    result = Run(processor(None, SourceRules(own_domains=("semicomplete.com",))))
    for start in range(0, len(records), 100):
        result.commit(records[start : start + 100])
    result.finish()
    assert result.rejected == []
    views = sum(session["page_views"] for session in result.sessions)
    assert views + result.counts["bots"] + result.counts["spam"] == len(records)
    assert {session["status"] for session in result.sessions} == {"closed"}
    assert sum(session["is_new_client"] for session in result.sessions) == len(result.saved)
    assert result.truth == reference(result.processor, records)
    assert show(lines[0]["time_ms"]).startswith("2015-05-17T")
