"""Stories of people with several clients, and of orders that several clients claim."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from stream_app.domain import client as clients
from stream_app.domain import orders, persons
from stream_app.domain.referral.facts import FORGOTTEN, Forgotten
from stream_app.domain.rules import AttributionRules, JourneyRules
from stream_app.domain.sources.rules import SourceRules
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.links import PERSON_ERASED, PERSON_LINK, PersonErased
from stream_app.processors.readable import client_document, person_document
from tests.processors.harness import DAY, HOUR, MINUTE, T0, Hop, Run, click, conversion, processor, run
from tests.processors.test_facts import Leads, Sums

SHOP = "https://shop.example.com/"
ADVERT = {"url": SHOP + "?utm_source=google&utm_medium=cpc&utm_campaign=spring"}
NEWS = {"url": SHOP + "?utm_source=news&utm_medium=email"}


def paths(result: Run) -> dict[str, str]:
    return {record["event_id"]: record["path"] for record in result.conversions}


def buy(at: int, event_id: str, client_id: str, **fields: Any) -> tuple[str, dict[str, Any], int]:
    return conversion(at, event_id, client_id, **({"order_id": "o1", "value": "10"} | fields))


def refund(at: int, event_id: str, client_id: str, **fields: Any) -> tuple[str, dict[str, Any], int]:
    return conversion(at, event_id, client_id, **({"kind": "refund", "order_id": "o1"} | fields))


# --- persons (semantics 31) ------------------------------------------------------------------------------


def test_a_conversion_sees_what_its_user_saw_on_another_client() -> None:
    """An advertisement on the phone, a purchase on the desk; each with the id of the one who was there."""
    result = run(
        [
            click(0, "a", "phone", user_id="anna", **ADVERT),
            click(DAY, "b", "desk", user_id="anna"),
            conversion(DAY + 1, "c", "desk"),
        ],
        drop_cache=True,
    )
    (sale,) = result.conversions
    assert (sale["path"], sale["user_id"]) == ("Paid Search > Direct", "anna")
    assert [touch["session_id"] for touch in sale["touchpoints"]] == [session["id"] for session in result.sessions]


def test_linking_later_changes_no_earlier_conversion() -> None:
    """The phone turns out to be Anna's only after her purchase; her next one sees it."""
    result = run(
        [
            click(0, "a", "phone", **ADVERT),
            click(1, "b", "desk", user_id="anna"),
            conversion(2, "c", "desk"),
            click(5, "d", "phone", user_id="anna"),
            conversion(5, "e", "desk"),
        ]
    )
    assert paths(result) == {"c": "Direct", "e": "Paid Search > Direct"}


def test_anonymous_sessions_belong_to_the_first_user_and_later_ones_to_the_latest() -> None:
    """Before the first id they wait for it; a session that a new id ends was never his."""
    result = run(
        [
            click(0, "a", "shared", **ADVERT),
            click(HOUR, "b", "shared", user_id="anna"),
            click(2 * HOUR, "c", "shared", **NEWS),
            click(3 * HOUR, "d", "shared", user_id="ben"),
            conversion(4 * HOUR, "anna", "elsewhere", user_id="anna"),
            conversion(4 * HOUR, "ben", "elsewhere2", user_id="ben"),
        ]
    )
    assert paths(result) == {"anna": "Paid Search > Direct > Email", "ben": "Direct"}


def test_a_session_that_turns_out_to_be_anothers_was_the_latest_users_until_then() -> None:
    """Anna's next session on the shared client becomes Ben's when he logs in: her purchases see it until then."""
    result = run(
        [
            click(0, "a", "shared", user_id="anna"),
            click(2 * HOUR, "b", "shared", **NEWS),
            conversion(2 * HOUR + 5 * MINUTE - 1, "before", "desk", user_id="anna"),
            click(2 * HOUR + 5 * MINUTE, "c", "shared", user_id="ben"),
            conversion(2 * HOUR + 5 * MINUTE, "after", "desk", user_id="anna"),
            conversion(2 * HOUR + 6 * MINUTE, "ben", "shared"),
        ]
    )
    assert paths(result) == {"before": "Direct > Email", "after": "Direct", "ben": "Email"}


def test_on_a_shared_client_each_user_sees_their_own_sessions() -> None:
    """And an unknown visitor, or a purchase by nobody known, sees them all."""
    result = run(
        [
            click(0, "a", user_id="anna", **ADVERT),
            click(HOUR, "b", user_id="ben", **NEWS),
            conversion(HOUR + 1, "c"),
            conversion(HOUR + 2, "d", user_id="anna", source="fair"),
            conversion(9 * HOUR, "e", source="call"),
        ],
        JourneyRules(),
    )
    by_event = {
        record["event_id"]: [touch["source"] for touch in record["touchpoints"]] for record in result.conversions
    }
    assert by_event["c"] == ["news"]
    assert by_event["d"] == ["google"]
    assert by_event["e"] == ["google", "news", "fair", "call"]


def test_touchpoints_of_one_moment_on_several_clients_come_in_one_order() -> None:
    """Two calls in the same millisecond, in no session: whichever client was heard of first."""
    first, second = click(0, "a", "c1", user_id="anna"), click(0, "b", "c2", user_id="anna")
    calls = [conversion(HOUR, f"call{n}", f"c{n}", source=f"call{n}") for n in (1, 2)]
    sale = conversion(2 * HOUR, "sale", "c3", user_id="anna")
    ends = [run([*clicks, *calls, sale]).truth for clicks in ([first, second], [second, first])]
    assert ends[0] == ends[1]


def test_persons_can_be_switched_off() -> None:
    """Then a conversion sees its own client, whoever used it, and nobody is told anything."""
    rules = JourneyRules(attribution=AttributionRules(persons=False))
    records = [
        click(0, "a", "phone", user_id="anna", **ADVERT),
        click(HOUR, "b", "desk", user_id="ben", **NEWS),
        click(2 * HOUR, "c", "desk", user_id="anna"),
        conversion(2 * HOUR + 1, "d", "desk"),
    ]
    result = run(records, rules)
    assert paths(result) == {"d": "Email > Direct"}
    assert result.forwards == []


def test_a_conversion_off_the_site_sees_what_its_user_did_elsewhere() -> None:
    """A call that only the CRM knows of, on a client that never had a session."""
    result = run(
        [click(0, "a", "phone", user_id="anna", **ADVERT), conversion(DAY, "b", "crm", user_id="anna", source="call")]
    )
    assert paths(result)["b"].startswith("Paid Search > ")


def test_a_backlog_in_one_commit_gives_what_it_would_have_given_live() -> None:
    """Time jumps over the conversion before its person is heard of: it waits for what is on its way."""
    records = [
        click(0, "a", "phone", user_id="anna", **ADVERT),
        click(DAY, "b", "desk", user_id="anna"),
        buy(DAY + 1, "c", "desk"),
        buy(DAY + 2, "d", "other"),
        click(700 * DAY, "e", "desk"),
    ]
    live, backlog = run(records, drop_cache=True), run(records, size=len(records), drop_cache=True)
    assert paths(backlog) == {"c": "Paid Search > Direct"}
    assert live.truth == backlog.truth


def test_what_is_on_its_way_is_waited_for_once() -> None:
    """A day later, and some commits, a settled conversion without an order is forgotten and hears no more."""
    result = run([click(0, "b", "desk", user_id="anna"), conversion(1, "c", "desk")])
    result.commit([click(DAY, "x", "desk")])
    assert any(number >= 3 << 30 for _, number in result.rows.rows)
    for _ in range(clients.HOLD_COMMITS):
        result.commit([])
    result.commit([click(3 * DAY, "d", "desk")])
    assert not any(number >= 3 << 30 for _, number in result.rows.rows)


def test_a_person_with_very_many_clients_is_bounded() -> None:
    """Clients last seen are kept, and touchpoints up to a hundred; records say that something is missing."""
    result = Run(processor())
    for n in range(persons.MAX_CLIENTS + 30):
        result.commit([click(n * HOUR, f"a{n}", f"c{n}", user_id="anna", url=f"{SHOP}?utm_source=s{n}&utm_medium=x")])
        result.commit([click(n * HOUR + 1, f"b{n}", f"c{n}", url=f"{SHOP}?utm_source=t{n}&utm_medium=x")])
    result.commit([conversion(100 * HOUR, "sale", "c79")])
    person = result.parts[1].state(b"anna").person
    assert len(person.links) == persons.MAX_CLIENTS
    assert len(result.parts[1].saved[b"anna"]) < 20_000
    (sale,) = result.conversions
    assert len(sale["touchpoints"]) == 2 * persons.MAX_CLIENTS
    assert sale["truncated"]
    assert sale["touchpoints"][-1]["source"] == "t79"


def test_a_client_that_is_told_no_more_keeps_what_it_knows() -> None:
    """The twenty clients last seen are told; an older one still has what it heard, and hears again when it is used."""
    result = Run(processor())
    for n in range(persons.MAX_TOLD + 5):
        result.commit([click(n * HOUR, f"a{n}", f"c{n}", user_id="anna", url=f"{SHOP}?utm_source=s{n}&utm_medium=x")])
    result.commit([conversion(30 * HOUR, "quiet", "c1", user_id="anna")])
    result.commit([click(31 * HOUR, "b", "c2", user_id="anna"), conversion(31 * HOUR, "sale", "c2")])
    by_event = {record["event_id"]: [t["source"] for t in record["touchpoints"]] for record in result.conversions}
    assert by_event["quiet"] == [f"s{n}" for n in range(persons.MAX_TOLD + 1)]
    assert by_event["sale"] == [f"s{n}" for n in range(persons.MAX_TOLD + 5)] + ["(direct)"]


def test_persons_and_orders_are_forgotten() -> None:
    """A person a client's life after the last touchpoint, an order thirteen months later than that."""
    result = run([click(0, "a", user_id="anna"), buy(1, "b", "c1"), click(1, "c", "c2", user_id="anna")])
    assert [len(part.saved) for part in result.parts[:3]] == [2, 1, 1]
    for _ in range(clients.HOLD_COMMITS):
        result.commit([])
    result.commit([], now=T0 + 402 * DAY)
    assert [len(part.saved) for part in result.parts[:3]] == [0, 0, 1]
    result.commit([], now=T0 + 900 * DAY)
    assert [len(part.saved) for part in result.parts[:3]] == [0, 0, 0]
    assert result.rows.rows == {}


# --- orders (semantics 24) -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_the_earliest_claim_keeps_the_order_whoever_comes_first(first: int) -> None:
    """The other is retracted, and its session shows no conversion."""
    claims = [buy(0, "a", "c1"), buy(MINUTE, "b", "c2")]
    order = [claims[first], (*claims[1 - first][:2], T0 + MINUTE)]
    result = run(order, drop_cache=True)
    assert [(sale["event_id"], sale["client_id"]) for sale in result.conversions] == [("a", "c1")]
    assert [(s["client_id"], s["conversions"], s["conversion_value"]) for s in result.sessions] == [
        ("c1", 1, {"EUR": "10.00"}),
        ("c2", 0, {}),
    ]


def test_a_claim_that_comes_months_late_takes_a_settled_order() -> None:
    """And what was told and counted of the loser is taken back, but sessions long over keep their figures."""
    topic, record, _ = buy(-MINUTE, "late", "c2")
    result = Run(processor(tellers=[Leads()], counter=Sums()), drop_cache=True)
    result.commit([click(0, "x"), buy(1, "a", "c1", lead_id="l1"), click(0, "y", "c2")])
    result.commit([], now=T0 + 20 * DAY)
    result.commit([click(20 * DAY, "z")])
    assert [sale["event_id"] for sale in result.conversions] == ["a"]
    result.commit([(topic, record, T0 + 100 * DAY)])
    assert [sale["event_id"] for sale in result.conversions] == ["late"]
    assert [session["conversions"] for session in result.sessions if session["client_id"] == "c1"] == [1, 0]
    counted = {what: n for what, n in result.gathered["sums"].items() if n and what.startswith(b"conversion")}
    assert counted == {b"conversion purchase  0.00": 1}
    lead = [value for kind, key, value in result.forwards if (kind, key) == ("lead", b"l1")]
    assert lead[-1][-1:] == b"\xc0"


def test_an_earlier_claim_of_the_same_client_takes_the_order_too() -> None:
    """However late it comes; a later one is a duplicate."""
    early, late = buy(-MINUTE, "early", "c1"), buy(MINUTE, "later", "c1")
    result = run(
        [buy(0, "a", "c1"), click(DAY, "x"), *((*r[:2], T0 + 30 * DAY) for r in (early, late))], drop_cache=True
    )
    assert [sale["event_id"] for sale in result.conversions] == ["early"]
    assert result.counts["duplicate_orders"] == 1


def test_a_winner_that_is_taken_back_gives_the_order_to_the_next() -> None:
    """The first claim's event id turns out to belong to an earlier conversion of another order."""
    result = Run(processor(), drop_cache=True)
    result.commit([buy(MINUTE, "a", "c1"), buy(2 * MINUTE, "b", "c2")])
    assert [sale["event_id"] for sale in result.conversions] == ["a"]
    topic, record, _ = buy(0, "a", "c1", order_id="o2")
    result.commit([(topic, record, T0 + 3 * MINUTE)])
    result.finish()
    assert [(sale["event_id"], sale["order_id"]) for sale in result.conversions] == [("a", "o2"), ("b", "o1")]
    assert [session["conversions"] for session in result.sessions] == [1, 1]


def test_a_refund_finds_its_order_from_any_client_and_before_it() -> None:
    """Part of it before the order came, the rest from a third client months later; more than is left is cut."""
    result = run(
        [
            refund(0, "r1", "crm", value="4"),
            buy(MINUTE, "a", "c1"),
            refund(90 * DAY, "r2", "till", value="100"),
            refund(91 * DAY, "r3", "c1"),
        ],
        drop_cache=True,
    )
    (sale,) = result.conversions
    assert [(r["event_id"], r["value"]) for r in sale["refunds"]] == [("r1", "4.00"), ("r2", "6.00"), ("r3", "0.00")]
    assert (sale["refunded_value"], sale["value"]) == ("10.00", "10.00")
    assert result.counts["refunds_cut"] == 1
    assert result.rejected == []


def test_a_refund_of_the_same_client_needs_no_hop() -> None:
    """Its order is revised in the same commit."""
    result = Run(processor())
    result.commit([buy(0, "a", "c1"), refund(1, "r", "c1", value="4")], hops=())
    assert [sale["refunded_value"] for sale in result.conversions] == ["4.00"]


def test_a_refund_without_its_order_becomes_a_dead_letter_after_thirteen_months() -> None:
    """Made from what was kept: no contact fields, and where it lay."""
    record = refund(0, "r", "crm", value="4", email="anna@example.com", phone="+37120000001", user_id="anna")
    result = run([record], drop_cache=True)
    result.commit([], now=T0 + orders.WAIT_MS - 1)
    assert result.rejected == []
    result.commit([], now=T0 + orders.WAIT_MS)
    (letter,) = result.buried
    assert letter == (
        "conversions",
        {
            "event_id": "r", "client_id": "crm", "occurred_at": "2023-11-14T22:13:20.000Z", "goal": "purchase",
            "order_id": "o1", "kind": "refund", "value": "4.00", "currency": "EUR",
        },
        (0, 7, T0),
        "unknown_order",
    )  # fmt: skip
    assert orders.WAIT_MS == 396 * DAY
    assert result.parts[2].saved == {}


@pytest.mark.parametrize("client_id", ["c1", "crm"])
@pytest.mark.parametrize("at", [-MINUTE, MINUTE])
def test_a_refund_in_other_money_is_refused_once(client_id: str, at: int) -> None:
    """Whichever client it comes from, before its order or after; it takes nothing."""
    records = sorted([buy(0, "a", "c1"), refund(at, "r", client_id, value="4", currency="USD")], key=lambda r: r[2])
    result = run([*records, click(DAY, "b"), refund(2 * DAY, "r2", "crm", value=1)], drop_cache=True)
    assert [reason for reason, _ in result.rejected] == ["bad_money"]
    assert [sale["refunded_value"] for sale in result.conversions] == ["1.00"]


def test_an_order_that_everybody_claims_is_bounded() -> None:
    """An order id like `0`: the smallest claims are remembered, all others have lost."""
    result = Run(processor())
    for n in range(orders.MAX_CLAIMS + 20):
        result.commit([buy(n * MINUTE, f"a{n}", f"c{n}")])
    assert len(result.parts[2].state(b"purchase\x1fo1").order.claims) == orders.MAX_CLAIMS
    assert [sale["event_id"] for sale in result.conversions] == ["a0"]


# --- what people read ------------------------------------------------------------------------------------


def test_a_client_is_shown_with_its_persons_touchpoints_and_its_orders() -> None:
    """What `/clients/{id}` and `state get client ID` answer."""
    result = run(
        [
            click(0, "a", "phone", user_id="anna", **ADVERT),
            buy(DAY, "b", "desk", user_id="anna"),
            buy(DAY + 1, "c", "till"),
            refund(2 * DAY, "r", "till", value="3"),
            click(3 * DAY, "d", "desk"),
        ]
    )
    shown = client_document(b"desk", result.parts[0].state(b"desk"), result.rows)
    assert [user["user_id"] for user in shown["users"]] == ["anna"]
    (touch,) = shown["touchpoints_on_other_clients"]["anna"]
    assert (touch["source"], touch["linked_until"]) == ("google", None)
    (settled,) = shown["settled_conversions"]
    assert (settled["order_id"], settled["path"], settled["user_id"]) == ("o1", "Paid Search", "anna")
    assert [(r["event_id"], r["value"]) for r in shown["refunds"]] == [("r", "3")]
    assert [rival["rival"]["client_id"] for rival in shown["orders_of_others"]] == ["till"]
    person = person_document(b"anna", result.parts[1].state(b"anna"))
    assert [client["client_id"] for client in person["clients"]] == ["phone", "desk"]
    assert json.dumps([shown, person])


# --- rules that change -----------------------------------------------------------------------------------


def test_a_change_of_rules_never_resolves_the_past_again() -> None:
    """Between what was emitted and the refold another rule for the same tags began: events keep their source, and what
    was counted is taken back as it was counted (semantics 13)."""
    before = processor(counter=Sums())
    after = processor(None, SourceRules(own_domains=("shop.example.com",), profile="ga4"), counter=Sums())
    social = {"url": SHOP, "referrer": "https://t.me/s/news"}
    result = Run(before, drop_cache=True)
    result.commit([click(MINUTE, "a", **social), conversion(2 * MINUTE, "b")])
    channel = result.sessions[0]["channel"]
    result.parts[0].processor = after
    topic, record, _ = click(0, "late", referrer=SHOP)
    result.commit([(topic, record, T0 + 3 * MINUTE)])
    result.commit([click(2 * HOUR, "c", **social)])
    result.finish()
    assert result.sessions[-1]["channel"] != channel
    assert result.conversions[0]["path"] == f"Direct > {channel}"
    sums = {what: n for what, n in result.gathered["sums"].items() if n}
    assert sums == {
        b"session Direct closed": 1,
        f"session {result.sessions[-1]['channel']} closed".encode(): 1,
        f"conversion purchase Direct > {channel} None".encode(): 1,
    }


def test_a_refund_that_loses_its_id_to_another_event_is_taken_back_from_a_settled_order() -> None:
    """A tracker gives one id to a refund and to a conversion of the same moment; only one of them stands."""
    other = conversion(600_000, "same", "c1")
    result = run(
        [
            click(0, "a", "c1"),
            refund(600_000, "same", "c1"),
            (*buy(0, "late", "c1")[:2], T0 + HOUR + 1),
            (*other[:2], T0 + HOUR + 9 * MINUTE),
        ]
    )
    late = next(record for record in result.conversions if record["event_id"] == "late")
    assert late["refunds"] == []
    assert late["refunded_value"] in {None, "0.00"}


# --- erasure (semantics 50) ------------------------------------------------------------------------------


def erase(result: Run, user: str, **clients: tuple[str, ...]) -> None:
    """What people say of a user who is erased, and all that follows."""
    body = encode_body(Letter(user, PersonErased(clients)))
    result.pending.append(Hop(b"r" + user.encode(), PERSON_ERASED, user.encode(), body, result.revision, result.now))
    result.arrive()


def told_people(result: Run) -> list[tuple[bytes, Any]]:
    return [
        (key, msgspec.msgpack.decode(value, type=Letter[Forgotten]).body)
        for kind, key, value in result.forwards
        if kind == FORGOTTEN
    ]


def everything_kept(result: Run) -> bytes:
    parts = [(key, payload) for part in result.parts for key, payload in part.saved.items()]
    parts += [(key, payload) for part in result.parts for (key, _), payload in part.rows.rows.items()]
    return b"\n".join(key + b" " + payload for key, payload in parts)


def test_all_clients_of_somebody_who_is_erased_are_forgotten() -> None:
    """Every record is taken back under another name, also those that people remember alone; nothing is taken off any
    figure, and people are told when it is done."""
    result = Run(processor(counter=Sums()), drop_cache=True)
    for record in (
        click(0, "a", "phone-a", user_id="anna", **ADVERT),
        buy(1, "b", "phone-a"),
        refund(2, "r", "phone-a", value="4"),
        click(DAY, "c", "desk-a", user_id="anna", **NEWS),
        buy(DAY + 1, "d", "desk-a", order_id="o2"),
        conversion(3 * DAY, "e", "desk-a"),
        click(3 * DAY, "f", "boris-c", user_id="boris"),
    ):
        result.commit([record])
    result.finish()
    counted = dict(result.counts)
    gathered = {name: dict(figures) for name, figures in result.gathered.items()}
    others = [record for _, record in result.outputs if record["client_id"] == "boris-c"]
    assert b"phone-a" in everything_kept(result)
    erase(result, "anna", **{"phone-a": ("0123456789abcdef",), "tablet-a": ()})
    for trace in (b"phone-a", b"desk-a", b"tablet-a", b"anna"):
        assert trace not in everything_kept(result), trace
    last = {record["id"]: record for _, record in result.outputs}
    gone = [record for record in last.values() if record not in others]
    assert len(gone) == 3 + 3 + 1
    assert all(record["retracted"] and record["client_id"].startswith("erased-") for record in gone)
    assert {record["client_id"] for record in last.values() if not record["retracted"]} == {"boris-c"}
    clients_told = ("desk-a", "phone-a", "tablet-a")
    assert told_people(result)[0] == (b"anna", Forgotten(clients_told))
    assert sorted(told_people(result)[1:], key=repr) == [
        (b"anna", Forgotten((client,), done=True)) for client in clients_told
    ]
    retractions = {name: n for name, n in result.counts.items() if n != counted.get(name, 0)}
    assert set(retractions) == {"retractions"}
    assert {name: dict(figures) for name, figures in result.gathered.items()} == gathered


def test_an_order_stays_with_somebody_who_is_erased() -> None:
    """The other client that claimed it does not win it now; whoever held it is named no more, and not told any more."""
    result = run([buy(0, "a", "phone-a", user_id="anna"), buy(MINUTE, "b", "desk-b")], drop_cache=True)
    assert [sale["event_id"] for sale in result.conversions] == ["a"]
    erase(result, "anna", **{"phone-a": ()})
    assert result.conversions == []
    assert b"phone-a" not in everything_kept(result)
    result.commit([refund(HOUR, "r", "phone-a", value="4")])
    assert [sale["client_id"] for sale in result.conversions] == []


@pytest.mark.parametrize("heard", ["open", "settled", "late"])
def test_orders_of_others_keep_refunds_of_somebody_who_is_erased_and_forget_who_asked(heard: str) -> None:
    """Also if no order has come: then nothing becomes a dead letter thirteen months later, as it would name them."""
    result = Run(processor(), drop_cache=True)
    result.commit([buy(0, "a", "desk-b", user_id="boris")])
    result.commit([click(HOUR, "b", "phone-a", user_id="anna", **ADVERT)])
    asked = [refund(HOUR + 1, "r1", "phone-a", value="4"), refund(HOUR + 2, "r2", "phone-a", order_id="none")]
    if heard == "late":
        result.commit([click(2 * DAY, "c", "phone-a")])
        result.finish()
        asked = [(topic, record, T0 + 3 * DAY) for topic, record, _ in asked]
    result.commit(asked)
    if heard == "settled":
        result.commit([click(2 * DAY, "c", "phone-a")])
        result.finish()
    assert len([part for part in everything_kept(result).split(b"\n") if b"phone-a" in part]) >= 3
    erase(result, "anna", **{"phone-a": ()})
    assert b"phone-a" not in everything_kept(result)
    (sale,) = result.conversions
    assert (sale["client_id"], sale["refunded_value"]) == ("desk-b", "4.00")
    result.commit([], now=T0 + 400 * DAY)
    assert result.buried == []


def test_a_link_on_its_way_to_somebody_who_is_erased_is_not_kept() -> None:
    """It reaches the person when nothing of them is there any more, and is taken back with its client."""
    result = run([click(0, "a", "phone-a", user_id="anna", **ADVERT)], drop_cache=True)
    result.commit([click(HOUR, "b", "phone-a", **NEWS)], hops=[])
    late = [hop for hop in result.pending if hop.kind == PERSON_LINK]
    assert late
    result.pending = [hop for hop in result.pending if hop.kind != PERSON_LINK]
    body = encode_body(Letter("anna", PersonErased({})))
    hop = Hop(b"ranna", PERSON_ERASED, b"anna", body, result.revision, result.now)
    result.commit([], hops=[hop])
    result.pending = [*late, *result.pending]
    result.arrive()
    assert everything_kept(result) == b""


def test_a_client_that_only_the_person_still_knows_is_not_kept() -> None:
    result = Run(processor(), drop_cache=True)
    link = encode_body(Letter("ghost-a", persons.Link("ghost-a", (), T0)))
    result.commit([], now=T0, hops=[Hop(b"jghost-a", PERSON_LINK, b"anna", link, 0, T0)])
    assert b"ghost-a" in everything_kept(result)
    erase(result, "anna")
    assert everything_kept(result) == b""
    assert told_people(result) == [(b"anna", Forgotten(("ghost-a",))), (b"anna", Forgotten(("ghost-a",), done=True))]
