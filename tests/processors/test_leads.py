"""Leads told by stories: what is refused, what counts where, what is bounded."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from stream_app.domain import leads
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.lead_events import LeadFact
from stream_app.domain.referral.facts import CLIENT, LEAD_OWNER, Purchase, Renamed
from stream_app.domain.referral.programs import Program, Programs
from stream_app.domain.sources.model import Source
from stream_app.engine.processor import Rejected
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.lead_referrals import LeadReferrals
from stream_app.processors.referral_facts import ReferralTeller
from tests.processors.lead_harness import GRACE, LeadRun, answer, fact, update

T0 = 1_700_000_000_000
MINUTE = 60_000
ADS = Source("google", "cpc", "Lenses", channel="Paid Search", arrival="tagged")
_PROGRAMS = Programs([Program("friends", (), statuses=("won", "mql"))])
REFERRALS = LeadReferrals(_PROGRAMS, ReferralTeller(_PROGRAMS, frozenset()))
UPDATE = {"event_id": "u1", "lead_id": "a", "occurred_at": T0, "status": "new"}


def told(at: int = 0, source: Source = ADS) -> LeadFact:
    return LeadFact(T0 + at, "v1", "c1", "lead_form", source)


def crm(at: int, event_id: str, status: str, **fields: Any) -> Any:
    return update("a", {"event_id": event_id, "occurred_at": T0 + at, "status": status, **fields})


def story(*sent: Any) -> LeadRun:
    """Each record in a commit of its own."""
    run = LeadRun(drop_cache=True)
    for one in sent:
        run.commit([one])
    return run


def sums(run: LeadRun) -> dict[tuple[int, str], Decimal]:
    """What is counted, by minute since the start and name."""
    found: dict[tuple[int, str], Decimal] = {}
    for (_, _, _, minute, name, _, _, _), amount in run.counted.items():
        key = (minute - T0 // MINUTE, name)
        found[key] = found.get(key, Decimal(0)) + amount
    return {key: amount for key, amount in found.items() if amount}


@pytest.mark.parametrize(
    ("change", "reason", "where"),
    [
        ({"status": "lost"}, "bad_field", "status"),
        ({"status": None}, "bad_field", "status"),
        ({"qualification": "MQL"}, "bad_field", "qualification"),
        ({"lead_id": ""}, "bad_field", "lead_id"),
        ({"lead_id": "x" * 129}, "too_large", "lead_id"),
        ({"contact_id": "a\nb"}, "bad_field", "contact_id"),
        ({"client_id": "ā" * 65}, "too_large", "client_id"),
        ({"reason": "ā" * 1_025}, "too_large", "reason"),
        ({"owner": 5}, "bad_field", "owner"),
        ({"revenue": "12,50"}, "bad_money", "revenue"),
        ({"revenue": -1}, "bad_money", "revenue"),
        ({"revenue": 1e15}, "bad_money", "revenue"),
        ({"profit": True}, "bad_money", "profit"),
        ({"profit": "NaN"}, "bad_money", "profit"),
        ({"currency": "EURO"}, "bad_money", "currency"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "bad_field", "occurred_at"),
        ({"occurred_at": -1}, "bad_field", "occurred_at"),
        ({"occurred_at": T0 + 5 * MINUTE + 1}, "clock_skew", "occurred_at"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_field(change: dict[str, Any], reason: str, where: str) -> None:
    """By the reasons of the contract."""
    decode = LeadRun().processor.decoder("lead-updates")
    with pytest.raises(Rejected) as caught:
        decode(None, json.dumps({**UPDATE, **change}).encode(), T0)
    assert (caught.value.reason, caught.value.detail.partition(":")[0]) == (reason, where)


@pytest.mark.parametrize("field", ["event_id", "lead_id", "occurred_at", "status"])
def test_what_is_missing_is_named(field: str) -> None:
    """Four fields are required."""
    decode = LeadRun().processor.decoder("lead-updates")
    value = json.dumps({name: content for name, content in UPDATE.items() if name != field}).encode()
    with pytest.raises(Rejected) as caught:
        decode(b"a", value, T0)
    assert (caught.value.reason, caught.value.detail) == ("missing_field", f"{field}: required")


def test_a_key_that_is_another_lead_is_refused_and_no_key_is_none() -> None:
    """The key is what the record was partitioned by."""
    processor = LeadRun().processor
    decode = processor.decoder("lead-updates")
    value = json.dumps(UPDATE).encode()
    with pytest.raises(Rejected) as caught:
        decode(b"b", value, T0)
    assert caught.value.reason == "key_mismatch"
    assert processor.key_of(decode(None, value, T0)) == b"a"
    with pytest.raises(Rejected):
        processor.decoder("lead-fact")(b"a", b"nonsense", T0)


def test_updates_of_any_age_are_taken() -> None:
    """Leads don't expire (semantics 25)."""
    run = LeadRun()
    run.commit([("lead-updates", "a", json.dumps({**UPDATE, "occurred_at": 0}).encode(), T0)])
    assert run.truth["a"]["created_at"] == "1970-01-01T00:00:00.000Z"
    assert run.rejected == []


def test_a_refused_lead_may_win_yet() -> None:
    """Refusal with its reason, second chance, deal: each entry counts once, the same status again does not."""
    run = story(
        fact("a", "f1", told()),
        crm(10 * MINUTE, "u1", "contacted", owner="Ann"),
        crm(20 * MINUTE, "u2", "refused", reason="price"),
        crm(21 * MINUTE, "u3", "refused"),
        crm(30 * MINUTE, "u4", "reopened", owner="Bob"),
        crm(40 * MINUTE, "u5", "won", revenue="500", profit="120.5", contact_id="client-7"),
    )
    lead = run.truth["a"]
    assert [entry["status"] for entry in lead["history"]] == ["new", "contacted", "refused", "reopened", "won"]
    assert [entry["owner"] for entry in lead["history"]] == [None, "Ann", "Ann", "Bob", "Bob"]
    assert lead["history"][2]["reason"] == "price"
    assert (lead["refusals"], lead["reopened"], lead["contact_id"]) == (1, 1, "client-7")
    assert (lead["revenue"], lead["profit"], lead["currency"]) == ("500.00", "120.50", "EUR")
    assert (lead["time_to_contact_s"], lead["time_to_close_s"]) == (600, 2400)
    assert lead["attributed"]["campaign"] == "Lenses"
    counted = sums(run)
    assert counted == {
        (0, "leads"): 1, (0, "won_cohort"): 1, (10, "contacted"): 1, (10, "time_to_contact_s"): 600,
        (20, "refused"): 1, (30, "reopened"): 1, (40, "won"): 1, (40, "time_to_close_s"): 2400,
        (40, "revenue"): 500, (40, "profit"): Decimal("120.5"),
    }  # fmt: skip
    assert {cell[7] for cell in run.counted if cell[4] == "refused"} == {"price"}


def test_revenue_counts_at_the_latest_deal_and_is_taken_back_where_the_lead_leaves_it() -> None:
    """Semantics 40: absolute, the latest by time; of an earlier deal the amount that it had."""
    run = story(
        crm(0, "u1", "new"),
        crm(10 * MINUTE, "u2", "won", revenue="100"),
        crm(12 * MINUTE, "u3", "won", revenue="130"),
        crm(20 * MINUTE, "u4", "refused", reason="sent back"),
        crm(30 * MINUTE, "u5", "won", revenue="90"),
    )
    revenue = {minute: amount for (minute, name), amount in sums(run).items() if name == "revenue"}
    assert revenue == {10: 130, 20: -130, 30: 90}
    assert run.truth["a"]["revenue"] == "90.00"
    run.commit([crm(40 * MINUTE, "u6", "refused")])
    revenue = {minute: amount for (minute, name), amount in sums(run).items() if name == "revenue"}
    assert revenue == {10: 130, 20: -130, 30: 90, 40: -90}
    assert (0, "won_cohort") not in sums(run)


def test_mql_and_sql_count_once_at_their_first_mention() -> None:
    """And the one does not imply the other."""
    run = story(
        crm(0, "u1", "qualified", qualification="sql"),
        crm(5 * MINUTE, "u2", "proposal", qualification="sql"),
        crm(9 * MINUTE, "u3", "qualified", qualification="mql"),
        crm(10 * MINUTE, "u4", "qualified", qualification="sql"),
    )
    assert {key: n for key, n in sums(run).items() if key[1] in {"mql", "sql"}} == {(0, "sql"): 1, (9, "mql"): 1}
    assert run.truth["a"]["qualification"] == "sql"


def test_the_earliest_of_goal_and_crm_creates_the_lead_and_gives_the_attribution() -> None:
    """Whichever becomes known first."""
    run = story(crm(MINUTE, "u1", "contacted", source="fair", medium="offline"))
    assert run.truth["a"]["attributed"]["source"] == "fair"
    run.commit([fact("a", "f1", told())])
    lead = run.truth["a"]
    assert (lead["attributed"]["source"], lead["client_id"], lead["goal"]) == ("google", "c1", "lead_form")
    assert [entry["status"] for entry in lead["history"]] == ["new", "contacted"]
    run.commit([fact("a", "f1", told(2 * MINUTE))])
    lead = run.truth["a"]
    assert lead["attributed"]["source"] == "fair"
    assert [entry["status"] for entry in lead["history"]] == ["contacted"]


def test_a_creation_that_says_nothing_leaves_it_to_the_next_that_does() -> None:
    """A form without any touchpoint, and a CRM that knows better."""
    run = story(fact("a", "f1", told(0, NOT_DETERMINED)))
    assert not run.truth["a"]["source_determined"]
    run.commit([crm(MINUTE, "u1", "contacted", source="Newspaper", medium="Offline")])
    assert run.truth["a"]["attributed"]["source"] == "newspaper"


def test_a_lead_of_which_nothing_is_left_is_retracted_and_may_come_back() -> None:
    """Its only conversion is taken back, or found to belong to another lead."""
    run = story(fact("a", "f1", told()))
    first = run.records["a"]["revision"]
    run.commit([fact("a", "f1", None)])
    assert run.records["a"]["retracted"]
    assert run.records["a"]["revision"] > first
    assert run.saved == {}
    assert run.counted == {}
    assert {label: n for (name, label), n in run.counts.items() if name == "leads"} == {"new": 0}
    run.commit([fact("a", "f1", None)])
    run.commit([fact("a", "f1", told())])
    assert run.truth["a"]["status"] == "new"


def test_of_two_updates_with_one_id_the_earlier_stands_but_not_against_one_that_came_in_time() -> None:
    """Semantics 23: within grace the smallest wins; after that what was taken stays."""
    first, earlier = crm(10, "u1", "won"), crm(5, "u1", "contacted")
    assert story(first, earlier).truth["a"]["status"] == "contacted"
    assert story(earlier, first).truth["a"]["status"] == "contacted"
    late = update("a", {"event_id": "u1", "occurred_at": T0 + 5, "status": "refused"}, T0 + 5 + GRACE + 1)
    assert story(first, late).truth["a"]["status"] == "won"
    assert story(late, first).truth["a"]["status"] == "won"


def test_a_lead_has_one_currency() -> None:
    """That of its latest amount; what was in another one holds no more."""
    run = story(crm(0, "u1", "won", revenue=10, profit=4, currency="USD"), crm(1, "u2", "won", revenue=9))
    lead = run.truth["a"]
    assert (lead["revenue"], lead["profit"], lead["currency"]) == ("9.00", None, "EUR")
    assert {(cell[4], cell[5]) for cell in run.counted if cell[5]} == {("revenue", "EUR")}


def test_many_conversions_of_one_lead_are_bounded() -> None:
    """The earliest are kept, and the record says that some were not."""
    run = LeadRun(drop_cache=True)
    for index in range(leads.MAX_FACTS * 3):
        run.commit([fact("a", f"f{index}", LeadFact(T0 - index, f"v{index}", "c1", "lead_form", ADS))])
    assert run.truth["a"]["truncated"]
    assert len(run.processor.load(b"a", 1, run.saved[b"a"], run.rows).facts) == leads.MAX_FACTS
    assert len(run.counted) == 1


def test_hostile_updates_stay_small() -> None:
    """Ten thousand with the longest texts: state and record are bounded, and settled times are refused."""
    run = LeadRun()
    for index in range(0, 10_000, 100):
        run.commit(
            crm(index + i, f"u{index + i}", ("won", "refused")[i % 2], owner="x" * 2000, reason="y" * 2000)
            for i in range(100)
        )
    assert len(run.saved[b"a"]) < 600_000
    assert len(json.dumps(run.truth["a"])) < 300_000
    assert run.truth["a"]["refusals"] == 5_000
    assert run.truth["a"]["truncated"]
    run.commit([crm(1, "old", "new")])
    assert run.rejected == [("too_late", "lead_cap")]


def test_an_answer_counts_for_the_question_it_answers_only() -> None:
    """An earlier record of the CRM asks for an earlier moment; nobody knows anything of that."""
    run = story(crm(10 * MINUTE, "u1", "new", client_id="c1"))
    run.commit([answer("a", LeadFact(T0 + 10 * MINUTE, "", "c1", "", ADS))])
    assert run.truth["a"]["attributed"]["campaign"] == "Lenses"
    run.commit([crm(0, "u0", "new", client_id="c1")])
    assert run.open_questions()["a"].at == T0
    assert not run.truth["a"]["source_determined"]


def test_statuses_that_earn_are_told_once_and_stay_told_when_the_lead_is_crowded() -> None:
    """A deal with its revenue, withdrawn when it is left; a lead that moves to another person is told there."""
    run = LeadRun(drop_cache=True, referrals=REFERRALS)
    run.commit([fact("a", "f1", told())])
    run.commit([crm(MINUTE, "u1", "won", revenue="100", qualification="mql")])
    run.commit([crm(2 * MINUTE, "u2", "refused")])
    (won,) = [purchase for purchase in run.purchases.values() if purchase.status == "won"]
    assert (won.at, won.event_id, won.value) == (T0 + MINUTE, "u1", 100)
    assert (won.withdrawn, won.withdrawn_at) == ("u2", T0 + 2 * MINUTE)
    assert {(person, purchase.status) for (_, person), purchase in run.purchases.items()} == {
        (CLIENT + "c1", "won"), (CLIENT + "c1", "mql"),
    }  # fmt: skip
    run.commit([fact("a", "f1", None), fact("a", "f0", LeadFact(T0, "v0", "c2", "lead_form", ADS))])
    assert {person for _, person in run.purchases} == {*run.led} == {CLIENT + "c2"}
    for index in range(3 * leads.MAX_UPDATES):
        run.commit([crm(3 * MINUTE + index, f"x{index}", ("won", "refused")[index % 2])])
    assert sum(purchase.status == "won" for purchase in run.purchases.values()) == 1 + 300
    assert len(run.processor.load(b"a", 1, run.saved[b"a"], run.rows).told) < 200


def test_a_status_that_turns_out_to_have_come_earlier_is_told_anew_and_the_other_taken_back() -> None:
    """The first mention earns, and there is one only; a lead that vanishes leaves nothing told."""
    run = LeadRun(drop_cache=True, referrals=REFERRALS)
    run.commit([fact("a", "f1", told())])
    run.commit([crm(9 * MINUTE, "u2", "qualified", qualification="mql")])
    run.commit([crm(5 * MINUTE, "u1", "contacted", qualification="mql")])
    assert [purchase.event_id for purchase in run.purchases.values()] == ["u1"]


def renamed(old: str, new: str) -> Any:
    return LEAD_OWNER, "a", encode_body(Letter(old, Renamed(old, new))), 0


def test_a_lead_of_somebody_erased_forgets_them_and_nobody_else() -> None:
    """It tells their new name what it told the old one; the question about the client's source is not asked again."""
    grounds = {
        who: encode_body(Purchase(T0, "v1", "lead_form", client=f"c-{who}", user=who)) for who in ("boris", "zoe")
    }
    run = LeadRun(drop_cache=True, referrals=REFERRALS)
    for at, who in enumerate(grounds):
        body = LeadFact(T0 + at, f"v{at}", f"c-{who}", "lead_form", ADS, (), who, grounds[who])
        run.commit([fact("a", f"f{at}", body)])
    run.commit([crm(MINUTE, "u1", "qualified", qualification="mql", client_id="c-boris")])
    (told,) = run.purchases.items()
    assert run.led == dict.fromkeys(("boris", "zoe", "\x1fc-boris", "\x1fc-zoe"), "a")
    run.commit([renamed("boris", "erased-1"), renamed("\x1fc-boris", "\x1ferased-2")])
    assert run.purchases == {(told[0][0], "erased-1"): msgspec.structs.replace(told[1], user="erased-1", client="")}
    assert run.led == dict.fromkeys(("erased-1", "zoe", "\x1ferased-2", "\x1fc-zoe"), "a")
    assert (b"boris" in run.saved[b"a"], b"zoe" in run.saved[b"a"]) == (False, True)
    run.commit([renamed("zoe", "erased-3")])
    assert b"zoe" not in run.saved[b"a"]


@pytest.mark.parametrize("settled", [False, True])
def test_a_lead_of_a_client_of_the_crm_forgets_it(settled: bool) -> None:
    """And keeps the source that journeys answered: it is asked under the new name, and not again."""
    run = LeadRun(drop_cache=True, referrals=REFERRALS)
    run.commit([crm(0, "u1", "new", client_id="c-boris"), crm(1, "u2", "qualified", qualification="mql")])
    run.commit([answer("a", LeadFact(T0, "", "c-boris", "", ADS))])
    for index in range((leads.MAX_UPDATES + 1) * settled):
        run.commit([crm(MINUTE + index, f"x{index}", "contacted")])
    asked = dict(run.questions["a"])
    run.commit([renamed("\x1fc-boris", "\x1ferased-2")])
    assert run.led == {"\x1ferased-2": "a"}
    assert run.questions["a"] == asked
    assert (run.records["a"]["client_id"], run.records["a"]["attributed"]["source"]) == ("erased-2", "google")
    assert b"boris" not in run.saved[b"a"]


def test_a_state_of_another_version_is_refused_by_name() -> None:
    """It is never read as something else."""
    run = story(crm(0, "u1", "new"))
    with pytest.raises(ValueError, match="leads state version 2"):
        run.processor.load(b"a", 2, run.saved[b"a"], run.rows)
