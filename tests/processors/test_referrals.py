"""Who is paid what: stories through codes and people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from stream_app.domain.referral.facts import Visit
from stream_app.domain.referral.programs import FraudRules, Rate, RateRule, ReferredReward
from stream_app.domain.times import rfc3339
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.state import PAGE_ROWS, ROWS_OF_A_KIND, SOLD_ROWS
from tests.processors.referral_net import (
    DAY,
    HOUR,
    MINUTE,
    T0,
    Commit,
    Net,
    asked,
    bought,
    crm,
    enrolled,
    event,
    program,
    unbought,
    visited,
)
from tests.processors.test_referrals_properties import check_books

YEAR = 365 * DAY


def family(net: Net, *, petr_clicks: int = 3 * DAY, petr_buys: int = 3 * DAY + HOUR) -> None:
    """Anna refers Misha, Misha Olga, Olga Petr, who buys for 1,000."""
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(visited(HOUR, "s-misha", "Anna", user="misha", client="c-misha"))
    net.send(enrolled(2 * HOUR, "misha", "MISHA", client_id="c-misha"))
    net.send(visited(DAY, "s-olga", "misha", user="olga", client="c-olga"))
    net.send(enrolled(DAY + HOUR, "olga", "OLGA"))
    net.pass_time(T0 + petr_buys)
    net.send(bought(petr_buys, "c-petr", user="petr", via=("olga", petr_clicks)))


def test_a_purchase_pays_three_levels_up() -> None:
    net = Net(program())
    family(net)
    assert net.rewards == [
        ("olga", 1, "100.00", "pending"),
        ("misha", 2, "50.00", "pending"),
        ("anna", 3, "20.00", "pending"),
    ]
    net.pass_time(T0 + 3 * DAY + HOUR + 14 * DAY)
    assert [status for *_, status in net.rewards] == ["approved"] * 3


def test_a_code_that_is_claimed_after_the_purchase_was_nobodys() -> None:
    """Whether or not the enrolment is heard of before the purchase settles."""
    net = Net(program())
    net.send(bought(HOUR, "c-boris", via=("anna", 0)))
    net.send(enrolled(HOUR + MINUTE, "anna", "ANNA"))
    net.pass_time(T0 + 20 * DAY)
    assert net.rewards == []


def test_a_click_counts_for_a_year_inclusive() -> None:
    for late, paid in ((0, 3), (1, 0)):
        net = Net(program())
        family(net, petr_buys=3 * DAY + YEAR + late)
        assert len(net.rewards) == paid


def test_rewards_are_a_function_of_what_happened_not_of_when_it_was_heard() -> None:
    net = Net(program())
    net.send(bought(3 * HOUR, "c-petr", user="petr", via=("olga", 170 * MINUTE)))
    net.send(enrolled(160 * MINUTE, "olga", "OLGA", ts=3 * HOUR))
    assert net.rewards == [("olga", 1, "100.00", "pending")]
    net.send(visited(150 * MINUTE, "s-olga", "anna", user="olga", client="c-olga"))
    net.send(enrolled(140 * MINUTE, "anna", "ANNA", ts=3 * HOUR))
    assert net.rewards == [("olga", 1, "100.00", "pending"), ("anna", 2, "50.00", "pending")]


def test_a_leap_of_time_waits_for_what_is_on_its_way() -> None:
    """A backlog of a year in one commit: the time has come for everything before anybody has heard of anything."""
    records = [
        enrolled(0, "anna", "ANNA"),
        visited(HOUR, "s-misha", "anna", user="misha", client="c-misha"),
        enrolled(2 * HOUR, "misha", "MISHA"),
        visited(3 * HOUR, "s-olga", "misha", user="olga", client="c-olga"),
        enrolled(4 * HOUR, "olga", "OLGA"),
        bought(5 * HOUR, "c-petr", user="petr", via=("olga", 4 * HOUR + 1)),
    ]
    net = Net(program())
    net._commit(records)
    net.now = T0 + YEAR
    net.settle()
    net.pass_time(T0 + YEAR + HOUR)
    found = net.last().values()
    assert sorted(r["level"] for r in found) == [1, 2, 3]
    assert {r["due_at"] for r in found} == {"2023-11-29T03:13:20.000Z"}, "when it was due tells nothing of the leap"
    check_books(net)


def test_an_enrolment_that_time_leaps_over_is_still_heard() -> None:
    """The worker stood still for ten days; the partner had enrolled before the sale and is heard of after it, in one
    commit with what came much later: whoever asked about the code hears of her all the same."""
    net = Net(program())
    net.send(bought(MINUTE, "c-petr", user="petr", codes=("anna",)))
    net.send(enrolled(0, "anna", "ANNA", ts=50 * MINUTE), enrolled(10 * DAY, "olga", "OLGA"))
    net.pass_time(T0 + 11 * DAY)
    assert net.rewards == [("anna", 1, "100.00", "pending")]
    net.pass_time(T0 + 12 * DAY)
    assert net.rows["codes"].rows == {}, "and the question is forgotten"


def simple(net: Net, value: str = "1000", **fields: object) -> None:
    """Anna refers Boris, who buys after three hours."""
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", value, user="boris", via=("anna", 2 * HOUR), **fields))


def refunded(net: Net, *refunds: tuple[str, int, str], value: str = "1000", **fields: object) -> None:
    """The same purchase with refunds."""
    net.send(bought(3 * HOUR, "c-boris", value, user="boris", via=("anna", 2 * HOUR), refunds=refunds, **fields))


def payout(net: Net, at: int, amount: str, **fields: object) -> None:
    """Paid at T0 + `at`, and its turn has come."""
    net.pass_time(T0 + at)
    net.send(event(at, "anna", "payout", amount=amount, **fields))
    net.pass_time(T0 + at + HOUR + MINUTE)


# --- money ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "currency", "rate", "amount"),
    [
        ("0.05", "EUR", "10%", "0.01"),  # 0.005 goes up
        ("0.04", "EUR", "10%", None),  # 0.004 is nothing
        ("100.10", "EUR", "33.335%", "33.37"),  # 33.368335
        ("0.005", "KWD", "10%", "0.001"),  # three decimals
        ("1.005", "KWD", "50%", "0.503"),  # 0.5025
        ("5", "JPY", "10%", "1"),  # no decimals: 0.5
        ("1e2", "EUR", "0.005%", "0.01"),
    ],
)
def test_percentages_are_rounded_half_up_in_the_conversions_currency(
    value: str, currency: str, rate: str, amount: str | None
) -> None:
    net = Net(program(levels=(rate,)), rates={})
    simple(net, value, currency=currency)
    assert [(r["amount"], r["currency"]) for r in net.last().values()] == ([(amount, currency)] if amount else [])


def test_a_fixed_reward_is_in_the_programmes_currency() -> None:
    net = Net(program(levels=("15.00",), currency="USD"))
    simple(net, "40", currency="EUR")
    reward = net.reward("anna")
    assert (reward["amount"], reward["currency"], reward["kind"]) == ("15.00", "USD", "fixed")


def test_refunds_before_payment_lower_the_reward_by_differences_of_entitlements() -> None:
    """Half-up once for each state: 33.34 → 26.67 → 20.00, never the sum of rounded shares."""
    net = Net(program(levels=("33.335%",)))
    simple(net, "100")
    assert net.reward("anna")["amount"] == "33.34"
    refunded(net, ("r1", 4 * HOUR, "20"), value="100")
    assert net.reward("anna")["amount"] == "26.67"
    refunded(net, ("r1", 4 * HOUR, "20"), ("r2", 5 * HOUR, "20"), value="100")
    assert net.reward("anna")["amount"] == "20.00"
    refunded(net, ("r1", 4 * HOUR, "20"), ("r2", 5 * HOUR, "20"), ("r3", 30 * DAY, "60"), value="100")
    reward = net.reward("anna")
    assert (reward["amount"], reward["status"]) == ("0.00", "refunded")
    check_books(net)


def test_a_fixed_reward_shrinks_in_proportion() -> None:
    net = Net(program(levels=("15.00",)))
    simple(net, "90")
    refunded(net, ("r1", 4 * HOUR, "30"), value="90")
    assert net.reward("anna")["amount"] == "10.00"


def test_a_refund_after_payment_is_a_negative_reward_twice() -> None:
    """Approved at once, carried forward, and paid with what comes next."""
    net = Net(program())
    simple(net)
    payout(net, 20 * DAY, "100")
    assert net.reward("anna")["status"] == "paid"
    refunded(net, ("r1", 21 * DAY, "400"))
    refunded(net, ("r1", 21 * DAY, "400"), ("r2", 22 * DAY, "600"))
    reward = net.reward("anna")
    assert (reward["amount"], reward["status"]) == ("100.00", "paid")
    back = {name: r for name, r in net.last().items() if "-r" in name}
    assert {name.partition("-r")[2]: (r["amount"], r["status"]) for name, r in back.items()} == {
        "r1": ("-40.00", "approved"),
        "r2": ("-60.00", "approved"),
    }
    assert all(name.startswith(reward["id"]) for name in back)
    assert str(net.person("anna").books.sums["EUR"].approved) == "-100.00"
    net.pass_time(T0 + 23 * DAY)
    net.send(bought(23 * DAY, "c-boris", "3000", user="boris"))
    net.pass_time(T0 + 40 * DAY)
    payout(net, 40 * DAY, "200")
    assert {r["status"] for r in net.last().values()} == {"paid"}
    check_books(net)


def test_a_payout_must_come_to_what_was_approved_at_its_time() -> None:
    net = Net(program(minimum_payout=Decimal(50)))
    simple(net)
    net.send(bought(3 * HOUR + MINUTE, "c-boris", "100", user="boris"))
    for amount, fields in (
        ("109.99", {}),
        ("110.01", {}),
        ("10", {"reward_ids": [reward_id_of(net, "10.00")]}),  # below the minimum
        ("100", {"reward_ids": [reward_id_of(net, "10.00")]}),
        ("100", {"currency": "USD"}),
        ("100", {"reward_ids": ["0123456789abcdef"]}),
    ):
        payout(net, 20 * DAY, amount, event_id=f"{amount}{fields}"[:100], **fields)
    assert [reason for reason, _ in net.rejected] == ["payout_mismatch"] * 6
    payout(net, 13 * DAY, "110", event_id="too early", ts=20 * DAY)  # ts: late, so it counts from ts − grace
    assert {r["status"] for r in net.last().values()} == {"paid"}


@pytest.mark.parametrize(
    ("minimum", "rates", "status"),
    [
        ("0", {}, "paid"),
        ("50", {}, "approved"),  # who knows whether it is reached
        ("50", {"USD": Decimal("0.5")}, "paid"),
        ("50.01", {"USD": Decimal("0.5")}, "approved"),
    ],
)
def test_a_payout_in_another_currency_needs_a_rate_only_for_a_minimum(
    minimum: str, rates: dict[str, Decimal], status: str
) -> None:
    net = Net(program(levels=("10%",), minimum_payout=Decimal(minimum)), rates=rates)
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(bought(2 * HOUR, "c-boris", "1000", user="boris", via=("anna", HOUR), currency="USD"))
    payout(net, 20 * DAY, "100", currency="USD")
    assert net.reward("anna")["status"] == status
    assert [reason for reason, _ in net.rejected] == ["payout_mismatch"] * (status == "approved")
    assert all(("no rate" in detail) is (not rates) for _, detail in net.rejected)


def test_a_payout_does_not_see_what_was_approved_after_it() -> None:
    """Though it is looked at an hour later, when that is approved as well."""
    net = Net(program(levels=("10%",)))
    simple(net)
    net.send(bought(3 * HOUR + 30 * MINUTE, "c-boris", "500", user="boris"))
    payout(net, 14 * DAY + 3 * HOUR + 10 * MINUTE, "150")
    assert [r[2:] for r in net.rewards] == [("100.00", "approved"), ("50.00", "approved")]
    assert [reason for reason, _ in net.rejected] == ["payout_mismatch"]


def test_a_payout_that_came_to_nothing_may_be_sent_again() -> None:
    """Whoever replays its dead letter is answered anew; one that was booked is a duplicate."""
    net = Net(program(levels=("10%",)))
    simple(net)
    payout(net, 20 * DAY, "99", event_id="pay")
    for ts, amount in ((21, "99"), (22, "100"), (23, "100")):
        net.pass_time(T0 + ts * DAY)
        net.send(event(20 * DAY, "anna", "payout", amount=amount, event_id="pay", ts=ts * DAY))
        net.pass_time(T0 + ts * DAY + 2 * HOUR)
        assert net.reward("anna")["status"] == ("approved" if ts == 21 else "paid")
    assert [reason for reason, _ in net.rejected] == ["payout_mismatch"] * 2
    assert net.counts["duplicates"] == 1


def test_nothing_is_left_to_be_paid_once_all_is_paid() -> None:
    """Pages of what was approved go with it."""
    net = Net(program(levels=("10%",)))
    simple(net)
    payout(net, 20 * DAY, "100")
    assert net.reward("anna")["status"] == "paid"
    pages = range(PAGE_ROWS, PAGE_ROWS + ROWS_OF_A_KIND)
    assert [number for key, number in net.rows["people"].rows if key == b"anna" and number in pages] == []


def test_a_payout_takes_the_oldest_whole() -> None:
    net = Net(program())
    simple(net)
    net.pass_time(T0 + 2 * DAY)
    net.send(bought(2 * DAY, "c-boris", "500", user="boris"))
    payout(net, 20 * DAY, "100")
    assert sorted((r["amount"], r["status"]) for r in net.last().values()) == [
        ("100.00", "paid"),
        ("50.00", "approved"),
    ]
    payout(net, 20 * DAY, "50", event_id="again")
    assert {r["status"] for r in net.last().values()} == {"paid"}
    payout(net, 21 * DAY, "50", event_id="thrice")
    assert net.rejected[-1][0] == "payout_mismatch"


def test_nothing_is_approved_before_grace_and_a_minute() -> None:
    net = Net(program(holding_ms=0))
    simple(net)
    net.pass_time(T0 + 4 * HOUR + MINUTE - 1)
    assert net.reward("anna")["status"] == "pending"
    assert net.reward("anna")["due_at"] == "2023-11-15T02:14:20.000Z", "purchase, an hour of grace, a minute"
    net.pass_time(T0 + 4 * HOUR + MINUTE)
    assert net.reward("anna")["status"] == "approved"


def test_a_cap_cuts_what_is_over_it_and_refunds_do_not_bring_it_back() -> None:
    net = Net(program(levels=("10%",), cap=Decimal(120)))
    simple(net)
    refunded(net, ("r1", 4 * HOUR, "1000"))
    net.send(bought(4 * HOUR, "c-boris", "500", user="boris"))
    net.send(bought(5 * HOUR, "c-boris", "500", user="boris"))
    found = sorted((r["occurred_at"], r["amount"], r["status"], r["reasons"]) for r in net.last().values())
    assert [r[1:] for r in found] == [
        ("0.00", "refunded", []),
        ("20.00", "pending", ["capped"]),
        ("0.00", "rejected", ["capped"]),
    ]
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-boris", "500", user="boris"))
    assert net.rewards.count(("anna", 1, "0.00", "rejected")) == 2, "what is settled counts on"
    net.pass_time(T0 + 32 * DAY)
    net.send(bought(32 * DAY, "c-boris", "500", user="boris"))
    assert net.rewards.count(("anna", 1, "50.00", "pending")) == 1, "another month"


def test_only_the_first_purchases_earn_and_a_refund_frees_no_place() -> None:
    net = Net(program(levels=("10%",), first_purchases=2))
    simple(net)
    refunded(net, ("r1", 4 * HOUR, "1000"))
    net.pass_time(T0 + DAY)
    for number in range(3):
        net.send(bought(DAY + number * HOUR, "c-boris", "100", user="boris"))
    assert [r[2:] for r in net.rewards] == [("0.00", "refunded"), ("10.00", "pending")]


def test_the_best_matching_rate_counts() -> None:
    rules = (
        RateRule((Rate.parse("12%"),), advocate_kinds=("expert",)),
        RateRule((Rate.parse("20%"),), minimum=Decimal(500)),
        RateRule((Rate.parse("30.00"),), occasion="first"),
    )
    net = Net(program(levels=("10%",), rates=rules))
    net.send(enrolled(0, "anna", "ANNA", advocate_kind="expert"))
    net.pass_time(T0 + 3 * HOUR)
    for number, value in enumerate(("100", "100", "500")):
        net.send(bought(3 * HOUR + number, "c-boris", value, user="boris", via=("anna", 2 * HOUR)))
    found = sorted((r["occurred_at"], r["rate"], r["amount"], r["kind"]) for r in net.last().values())
    assert [r[1:] for r in found] == [
        ("30.00", "30.00", "fixed"),
        ("12%", "12.00", "percent"),
        ("20%", "100.00", "percent"),
    ]


@pytest.mark.parametrize(
    ("rates", "owed", "reasons"),
    [
        ({}, ("20.00", "USD"), ["no_rate"]),
        ({"USD": Decimal("0.5")}, ("15.00", "EUR"), []),
        ({"USD": Decimal("0.9")}, ("20.00", "USD"), []),
    ],
)
def test_a_percentage_and_an_amount_of_another_currency_are_compared_by_a_rate_or_held(
    rates: dict[str, Decimal], owed: tuple[str, str], reasons: list[str]
) -> None:
    """10 % of 200 USD, or 15 EUR. In one currency nothing needs a rate."""
    other = RateRule((Rate.parse("15.00"),))
    net = Net(program(levels=("10%",), rates=(other,)), rates=rates)
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(bought(2 * HOUR, "c-boris", "200", via=("anna", HOUR), currency="USD"))
    reward = net.reward("anna")
    assert ((reward["amount"], reward["currency"]), reward["reasons"]) == (owed, reasons)
    net = Net(program(levels=("10%",), rates=(RateRule((Rate.parse("12%"),)),)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(bought(2 * HOUR, "c-boris", "200", via=("anna", HOUR), currency="USD"))
    assert [net.reward("anna")[name] for name in ("amount", "reasons")] == ["24.00", []]


def test_both_sides_are_rewarded_once() -> None:
    net = Net(program(levels=("15.00",), referred=ReferredReward("fixed", Rate(Decimal(10)))))
    simple(net)
    net.send(bought(4 * HOUR, "c-boris", "100", user="boris"))
    assert net.rewards == [
        ("boris", 0, "10.00", "pending"),
        ("anna", 1, "15.00", "pending"),
        ("anna", 1, "15.00", "pending"),
    ]


# --- who is bound --------------------------------------------------------------------------------------------


def test_two_people_who_refer_each_other_are_paid_once_for_each_purchase() -> None:
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "boris", "BORIS"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", user="boris", via=("anna", 2 * HOUR)))
    net.send(bought(3 * HOUR + 1, "c-anna", user="anna", via=("boris", 2 * HOUR)))
    assert net.rewards == [("anna", 1, "100.00", "pending"), ("boris", 1, "100.00", "pending")]


def test_a_code_shared_as_a_coupon_binds_everybody_new_and_nobody_known() -> None:
    net = Net(program(levels=("10%",), fraud=FraudRules(same_ip=0)))
    net.send(enrolled(0, "anna", "ANNA", promo_code="SAVE10"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-known", user="known"))
    net.pass_time(T0 + 2 * DAY)
    for number in range(20):
        net.send(bought(2 * DAY + number, f"c-{number}", "100", codes=("save10",)))
    net.send(bought(2 * DAY + 30, "c-known", user="known", codes=("Save10",)))
    net.send(bought(2 * DAY + 31, "c-other", codes=("SAVE20",)))  # nobody's code: an ordinary coupon
    assert net.rewards == [*[("anna", 1, "10.00", "pending")] * 20, ("anna", 1, "100.00", "rejected")]


def test_a_promo_code_wins_over_a_link_and_later_codes_are_refused() -> None:
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "clara", "CLARA", promo_code="CLARA-10"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", user="boris", via=("anna", 2 * HOUR), codes=("clara-10",)))
    net.send(bought(4 * HOUR, "c-boris", user="boris", via=("anna", 2 * HOUR), codes=("ANNA",)))
    assert net.rewards == [("clara", 1, "100.00", "pending")] * 2
    assert sorted(r["reasons"] for r in net.last().values()) == [[], ["already_referred"]]


@pytest.mark.parametrize(("attribution", "winner"), [("first", "anna"), ("last", "clara")])
def test_of_two_links_the_first_or_the_last_wins(attribution: str, winner: str) -> None:
    net = Net(program(levels=("10%",), attribution=attribution))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "clara", "CLARA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", user="boris", via=(("anna", HOUR), ("clara", 2 * HOUR))))
    assert net.rewards == [(winner, 1, "100.00", "pending")]


def test_a_person_bound_before_being_known_stays_bound() -> None:
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "clara", "CLARA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", "100", via=("anna", 2 * HOUR)))
    net.pass_time(T0 + 2 * DAY)
    net.send(bought(2 * DAY, "c-boris", "200", user="boris", codes=("clara",)))
    assert net.rewards == [("anna", 1, "10.00", "pending"), ("anna", 1, "20.00", "pending")]


def test_who_leaves_is_not_paid_and_levels_do_not_move_up() -> None:
    net = Net(program())
    family(net)
    net.pass_time(T0 + 4 * DAY)
    net.send(event(4 * DAY, "misha", "left"))
    net.pass_time(T0 + 5 * DAY)
    net.send(bought(5 * DAY, "c-petr", "100", user="petr"))
    later = sorted(
        (r["user_id"], r["level"], r["amount"]) for r in net.last().values() if r["amount"] in {"10.00", "2.00", "5.00"}
    )
    assert later == [("anna", 3, "2.00"), ("olga", 1, "10.00")]


def test_a_code_belongs_to_whoever_claimed_it_first() -> None:
    net = Net(program())
    net.send(enrolled(10 * MINUTE, "clara", "Save"))
    net.send(enrolled(20 * MINUTE, "anna", "SAVE"))
    assert [reason for reason, _ in net.rejected] == ["code_taken"]
    net.send(enrolled(5 * MINUTE, "boris", "save", ts=30 * MINUTE))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-d", via=("sAvE", 2 * HOUR)))
    assert [r[0] for r in net.rewards] == ["boris"]


# --- who turns out to be whom --------------------------------------------------------------------------------

LATE = [30 * MINUTE, 80 * MINUTE]
"""How long after a purchase the link is heard of, which came half an hour after it: before it settles, or behind."""


def linked(at: int, heard: int, by: str = "purchase", event_id: str = "link") -> Any:
    """An event that says that c-boris is Boris, at `at`; heard of at `heard`."""
    if by == "purchase":
        return (*bought(at, "c-boris", "0", user="boris", paid=False, event_id=event_id)[:3], T0 + heard)
    return enrolled(at, "boris", "BORIS2", client_id="c-boris", ts=heard, event_id=event_id)


@pytest.mark.parametrize("heard", [0, 50, 70])
@pytest.mark.parametrize(("seen", "paid"), [(-MINUTE, True), (0, True), (1, False)])
def test_a_code_that_the_user_brought_on_another_client_counts(seen: int, heard: int, paid: bool) -> None:
    """The link was opened on the telephone and the purchase made on the desktop: whoever is credited is paid. Not what
    was seen later, nor what is heard of when the purchase has settled."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"), visited(MINUTE, "early", "nobodys", user="boris"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "desktop", "100", user="boris"))
    net.pass_time(T0 + DAY + heard * MINUTE)
    net.send((*visited(DAY + seen, "phone", "anna", user="boris")[:3], T0 + DAY + heard * MINUTE))
    net.pass_time(T0 + 3 * DAY)
    assert net.rewards == ([("anna", 1, "10.00", "pending")] if paid and heard <= 60 else [])
    check_books(net)


@pytest.mark.parametrize("heard", [0, 30 * MINUTE])
def test_a_code_on_another_client_makes_no_customer_again_of_whoever_paid_before(heard: int) -> None:
    """Their own purchase before the visit, or anybody's with their telephone: these are asked for, too."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"), bought(HOUR, "old", "1", phone="+37120000001"))
    net.pass_time(T0 + DAY)
    if not heard:
        net.send(visited(DAY, "phone", "anna", user="boris"), visited(DAY, "phone", "anna", user="zoe"))
    net.send(bought(DAY + 1, "desktop", "100", user="boris", phone="+37120000001", event_id="b"))
    net.send(bought(2 * HOUR, "desktop", "1", user="zoe", event_id="z"), bought(DAY + 1, "desktop", "300", user="zoe"))
    net.pass_time(T0 + DAY + heard)
    if heard:
        net.send(visited(DAY, "phone", "anna", user="boris"), visited(DAY, "phone", "anna", user="zoe"))
    net.pass_time(T0 + 3 * DAY)
    assert sorted((r["amount"], *r["reasons"]) for r in net.last().values()) == [
        ("10.00", "existing_customer"),
        ("30.00", "existing_customer"),
    ]


def test_a_visit_on_another_client_that_is_taken_back_has_brought_nobody() -> None:
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    seen = visited(DAY - 1, "phone", "anna", user="boris")
    net.send(seen, bought(DAY, "desktop", "100", user="boris"))
    assert (len(net.rewards), net.person("anna").bound) == (1, {"friends": 1})
    net.send((*seen[:2], encode_body(Letter("phone", None)), seen[3]))
    assert (net.rewards, net.person("anna").bound) == ([], {})


@pytest.mark.parametrize(("seen", "paid"), [(-1, True), (1, False)])
def test_a_lead_is_brought_by_what_its_user_saw_on_another_client_before_it(seen: int, paid: bool) -> None:
    """As it is credited."""
    net = Net(program(levels=("10%",), goals=(), statuses=("won",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(visited(DAY + seen, "phone", "anna", user="boris"), asked(DAY, "lead", "desktop", user="boris"))
    net.pass_time(T0 + 5 * DAY)
    net.send(crm(5 * DAY, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 30 * DAY)
    assert net.rewards == ([("anna", 1, "100.00", "approved")] if paid else [])


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("by", ["purchase", "enrolment"])
def test_what_a_client_is_bound_to_counts_for_its_user_from_the_link_on(by: str, late: int) -> None:
    """One level up: Clara buys through Boris before he is known to be somebody whom Anna has brought, and after it."""
    net = Net(program(levels=("10%", "5%")))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "boris", "BORIS"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", "2", via=("anna", 2 * HOUR)))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-clara", "1000", via=("boris", DAY - HOUR)))
    net.send(linked(DAY + 30 * MINUTE, DAY + late, by))
    for event_id, value in (("lina", "100"), ("link", "200"), ("linz", "400")):
        sale = bought(DAY + 30 * MINUTE, "c-clara", value, event_id=event_id)
        net.send((*sale[:3], T0 + DAY + 80 * MINUTE))
    net.pass_time(T0 + 3 * DAY)
    assert [amount for user, level, amount, _ in net.rewards if (user, level) == ("anna", 2)] == ["10.00", "20.00"]
    check_books(net)


@pytest.mark.parametrize("late", LATE)
def test_a_binding_of_ones_own_stands_until_a_client_with_an_earlier_one_is_known(late: int) -> None:
    """The earliest wins, for what comes from the link on; what came before stays as it was paid."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "daina", "DAINA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", "10", via=("anna", 2 * HOUR), paid=False))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-new", "100", user="boris", via=("daina", DAY - HOUR)))
    net.send(linked(DAY + 30 * MINUTE, DAY + late))
    net.pass_time(T0 + DAY + 3 * HOUR)
    net.send(bought(DAY + 3 * HOUR, "c-new", "1000", user="boris"))
    net.pass_time(T0 + 3 * DAY)
    paid = [(user, amount) for user, _, amount, _ in net.rewards if amount != "0.00"]
    assert paid == [("anna", "1.00"), ("anna", "100.00"), ("daina", "10.00")]
    assert (net.person("anna").bound, net.person("daina").bound) == ({"friends": 1}, {})
    check_books(net)


@pytest.mark.parametrize(("link", "late", "reasons"), [(30, 30, []), (30, 80, []), (-30, 20, ["existing_customer"])])
def test_a_client_that_paid_makes_its_user_a_customer_from_the_link_on(
    link: int, late: int, reasons: list[str]
) -> None:
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"), bought(3 * HOUR, "c-boris", "10"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-new", user="boris", via=("anna", DAY - HOUR)))
    net.send(linked(DAY + link * MINUTE, DAY + late * MINUTE))
    net.pass_time(T0 + 3 * DAY)
    assert [r["reasons"] for r in net.last().values() if r["amount"] == "100.00"] == [reasons]
    check_books(net)


@pytest.mark.parametrize(("link", "late", "bound"), [(30, 30, 0), (30, 80, 0), (-30, 20, 1)])
def test_codes_that_a_client_brought_bind_whoever_enrols_from_the_link_on(link: int, late: int, bound: int) -> None:
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"), visited(3 * HOUR, "s", "anna", client="c-boris"))
    net.pass_time(T0 + DAY)
    net.send(enrolled(DAY, "boris", "BORIS"))
    net.send(
        bought(DAY + 1, "c-new", user="boris", via=("anna", DAY - HOUR), goal="signup")
    )  # whose code it is is known
    said = bought(DAY + link * MINUTE, "c-boris", "0", user="boris", paid=False, goal="signup", event_id="link")
    net.send((*said[:3], T0 + DAY + late * MINUTE))
    net.pass_time(T0 + 3 * DAY)
    assert sum(net.person("anna").bound.values()) == bound


@pytest.mark.parametrize("first", [20, 30])
@pytest.mark.parametrize(
    ("taken_back", "by"), [("", "purchase"), ("link", "purchase"), ("link0", "purchase"), ("link0", "enrolment")]
)
def test_of_several_links_the_earliest_that_stands_counts(first: int, taken_back: str, by: str) -> None:
    """Whichever is heard of first, and taken back before it settles: as if that had never been heard of."""
    net = Net(program(levels=("10%", "5%")))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "boris", "BORIS"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", "2", via=("anna", 2 * HOUR)))
    net.pass_time(T0 + DAY)
    links = {
        20: linked(DAY + 20 * MINUTE, DAY + HOUR, event_id="link0"),
        30: linked(DAY + 30 * MINUTE, DAY + HOUR, by),
    }
    for at in (first, 50 - first):
        net.send(links[at])
    net.send((*bought(DAY + 25 * MINUTE, "c-clara", "1000", via=("boris", DAY - HOUR))[:3], T0 + DAY + HOUR))
    net.send((*bought(DAY + 35 * MINUTE, "c-clara", "2000")[:3], T0 + DAY + HOUR))
    if taken_back:
        net.send(unbought(links[20 if taken_back == "link0" else 30]))
    net.pass_time(T0 + 3 * DAY)
    paid = [amount for user, level, amount, _ in net.rewards if (user, level) == ("anna", 2)]
    assert paid == (["100.00"] if taken_back == "link0" else ["100.00", "50.00"])
    check_books(net)


def test_a_conversion_that_turns_out_to_be_somebody_elses_is_paid_whichever_letter_comes_first() -> None:
    """A late click says whose the session was: the client takes back what the user tells now, of the same referrer."""
    for mix in range(30):
        net = Net(program(levels=("10%", "5%")), mix=mix)
        net.send(enrolled(0, "anna", "ANNA"))
        net.pass_time(T0 + DAY)
        net.send(bought(DAY, "c-boris", "2", user="boris", via=("anna", HOUR), event_id="other"))
        as_nobody = bought(DAY, "c-boris", "100", via=("anna", HOUR), event_id="sale")
        net.send(as_nobody)
        net.send(bought(DAY, "c-boris", "100", user="boris", via=("anna", HOUR), event_id="sale"), unbought(as_nobody))
        assert net.rewards == [("anna", 1, "0.20", "pending"), ("anna", 1, "10.00", "pending")], mix
        assert {r["referred_user"] for r in net.last().values()} == {"boris"}
        check_books(net)
        net.send(unbought(bought(DAY, "c-boris", user="boris", event_id="sale")))
        assert net.rewards == [("anna", 1, "0.20", "pending")]


def test_whoever_turns_out_to_have_brought_themselves_was_brought_by_nobody() -> None:
    """Anna follows her own link before she is known; that binds her to nobody, and welcomes her to nothing."""
    net = Net(program(levels=("10%",), referred=ReferredReward("fixed", Rate.parse("7.00"))))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "boris", "BORIS"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-anna", "100", via=("anna", HOUR), paid=False))
    net.pass_time(T0 + 2 * DAY)
    net.send(bought(2 * DAY, "c-anna", "200", user="anna", paid=False))
    assert {r["amount"] for r in net.last().values() if r["referred_user"] == "anna"} == set()
    net.send(bought(2 * DAY + 1, "c-anna", "400", user="anna", codes=("boris",)))
    assert {(r["user_id"], r["amount"]) for r in net.last().values() if r["referred_user"] == "anna"} == {
        ("anna", "7.00"),
        ("boris", "40.00"),
    }
    check_books(net)


def test_an_earlier_link_that_is_much_too_late_and_taken_back_leaves_the_settled_one() -> None:
    net = Net(program())
    net.pass_time(T0 + DAY)
    net.send(linked(DAY, DAY))
    net.pass_time(T0 + 2 * DAY)
    much_too_late = linked(HOUR, 2 * DAY, event_id="late")
    for letter, since in ((much_too_late, (T0 + HOUR, "late")), (unbought(much_too_late), (T0 + DAY, "link"))):
        net.send(letter)
        assert net.person("\x1fc-boris").users["boris"].since == since


def test_a_link_that_moves_is_told_anew() -> None:
    """An event of the same id that is earlier takes the place of the one known; a client of another id is let go."""
    net = Net(program())
    net.pass_time(T0 + DAY)
    for at, client in ((30, "c-boris"), (20, "c-boris"), (10, "c-other")):
        net.send((*bought(DAY + at * MINUTE, client, "0", user="boris", event_id="link")[:3], T0 + DAY + HOUR))
        assert {name: heir.since for name, heir in net.person(f"\x1f{client}").users.items()} == {
            "boris": (T0 + DAY + at * MINUTE, "link")
        }
    assert net.person("\x1fc-boris") is None or not net.person("\x1fc-boris").users


@pytest.mark.parametrize("late", LATE)
def test_a_referrer_who_turns_out_to_be_the_buyer_later_was_somebody_else(late: int) -> None:
    """Who enrols after the purchase with the buyer's client or address is paid for it, whenever that is heard of."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-boris", via=("anna", DAY - HOUR), email="boris@example.org"))
    mine = {"client_id": "c-boris", "email": "boris@example.org"}
    net.send(enrolled(DAY + 30 * MINUTE, "anna", "ANNA2", ts=DAY + late, **mine))
    net.pass_time(T0 + DAY + 2 * HOUR)
    net.send(bought(DAY + 2 * HOUR, "c-boris", "1"))
    net.pass_time(T0 + 3 * DAY)
    assert sorted((r["amount"], r["reasons"]) for r in net.last().values()) == [("0.10", ["own_code"]), ("100.00", [])]
    check_books(net)


# --- fraud ---------------------------------------------------------------------------------------------------

BLOCKS = {
    "own_code": [
        ({"user": "anna"}, True),
        ({"email": "anna@example.org"}, True),
        ({"email": " Anna@Example.ORG "}, True),
        ({"phone": "+371 2000-0009"}, True),
        ({"phone": "20000009"}, True),
        ({"client": "c-anna"}, True),
        ({"email": "anne@example.org", "phone": "+371 20000008"}, False),
    ],
}


@pytest.mark.parametrize(("fields", "blocked"), BLOCKS["own_code"])
def test_own_codes_pay_nothing(fields: dict[str, str], blocked: bool) -> None:
    fields = dict(fields)
    net = Net(program(levels=("10%",), fraud=FraudRules(similar=False)))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org", phone="+37120000009", client_id="c-anna"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, fields.pop("client", "c-x"), via=("anna", 2 * HOUR), **fields))
    reward = net.reward("anna")
    assert (reward["status"], reward["reasons"]) == (("rejected", ["own_code"]) if blocked else ("pending", []))


@pytest.mark.parametrize(
    ("contacts", "says", "status", "reasons"),
    [
        ({"email": "ANNA@example.org"}, {}, "rejected", ["own_code"]),
        ({"phone": "+371 2000-0009"}, {}, "rejected", ["own_code"]),
        ({"name": "Berg, Anna"}, {}, "on_hold", ["similar_name"]),
        ({"email": "a.nna+2@example.org"}, {}, "on_hold", ["similar_email"]),
        ({"email": "x@mailinator.com"}, {}, "on_hold", ["disposable_mail"]),
        ({"email": "anna@example.org"}, {"email": "boris@example.org"}, "pending", []),  # the conversion says another
        ({"email": "anna@example.org"}, {"at": 3 * HOUR - 1}, "pending", []),  # before enrolling
        ({"email": "boris@example.org"}, {}, "pending", []),
    ],
)
@pytest.mark.parametrize("late", [0, 50 * MINUTE])
def test_whoever_enrolled_under_two_names_is_known_by_what_they_enrolled_with(
    contacts: dict[str, str], says: dict[str, Any], status: str, reasons: list[str], late: int
) -> None:
    """The conversion names no contacts. The second enrolment may be heard of behind it."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org", phone="+37120000009", name="Anna Berg"))
    second = enrolled(3 * HOUR, "boris", "BORIS", ts=3 * HOUR + late, **contacts)
    sale = bought(**{"at": 3 * HOUR + MINUTE, **says}, client="c-2", user="boris", via=("anna", HOUR))
    net.send(*((sale, second) if late else (second, sale)))
    reward = net.reward("anna")
    assert (reward["status"], reward["reasons"]) == (status, reasons)


WELCOME_OF_10 = ReferredReward("fixed", Rate(Decimal(10)))


@pytest.mark.parametrize(
    ("says", "enrols", "welcomed"),
    [
        ({"email": "Anna@example.org"}, {}, False),
        ({"phone": "+37120000009"}, {}, False),
        ({"client": "c-anna"}, {}, False),
        ({}, {"email": "anna@example.org"}, False),
        ({"email": "boris@example.org"}, {}, True),
        ({}, {}, True),
    ],
)
@pytest.mark.parametrize("late", [0, 50 * MINUTE])
@pytest.mark.parametrize("drop_cache", [False, True])
def test_nobody_is_welcomed_for_referring_themselves(
    says: dict[str, str], enrols: dict[str, str], welcomed: bool, late: int, drop_cache: bool
) -> None:
    """Neither side of it is paid, also if the owner's enrolment is heard of behind the purchase, or it is refunded
    long after."""
    net = Net(program(levels=("10%",), referred=WELCOME_OF_10), drop_cache=drop_cache)
    known = {"email": "anna@example.org", "phone": "+37120000009", "client_id": "c-anna"}
    owner = enrolled(0, "anna", "ANNA", ts=late, **known)
    sale = {"user": "boris", "via": ("anna", MINUTE), "client": "c-boris", **says}
    records = [owner, *([enrolled(MINUTE, "boris", "BORIS", **enrols)] if enrols else []), bought(HOUR // 2, **sale)]
    net.send(*(records[::-1] if late else records))
    paid = [("boris", 0, "10.00", "pending"), ("anna", 1, "100.00", "pending")]
    assert net.rewards == (paid if welcomed else [("anna", 1, "100.00", "rejected")])
    net.pass_time(T0 + 30 * DAY)
    net.send(bought(HOUR // 2, **sale, refunds=[("r", DAY, "500")]))
    amounts = {(user, level): amount for user, level, amount, _ in net.rewards}
    assert amounts.get(("boris", 0)) == ("5.00" if welcomed else None)
    check_books(net)


def test_a_welcome_does_not_depend_on_what_the_referrer_enrols_with_later() -> None:
    """They were somebody else when the purchase was made, as far as anybody knew."""
    net = Net(program(levels=("10%",), referred=WELCOME_OF_10))
    net.send(enrolled(0, "anna", "ANNA"), bought(HOUR // 2, "c-boris", via=("anna", MINUTE), email="b@example.org"))
    net.send(enrolled(40 * MINUTE, "anna", "ANNA", email="b@example.org"))
    assert [(level, status) for _, level, _, status in net.rewards] == [(0, "pending"), (1, "pending")]


@pytest.mark.parametrize("another", [False, True])
def test_a_welcome_does_not_depend_on_what_else_is_bought(another: bool) -> None:
    """Another purchase asks whose the code is by which the person was bound; this one does not."""
    net = Net(program(levels=("10%",), referred=WELCOME_OF_10))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org"))
    net.send(bought(2 * MINUTE, "c-1", "5", codes=("ANNA",)))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY - 1, "c-1", "0", user="boris", paid=False, goal="signup"))
    if another:
        net.send(bought(DAY + MINUTE, "c-1", "1", user="boris", codes=("ANNA",)))
    net.send(bought(DAY, "c-2", "100", user="boris", email="anna@example.org"))
    rewards = [r[:3] for r in net.rewards if r[0] != "c-1" and r[2] not in {"0.10", "0.50"}]
    assert rewards == [("boris", 0, "10.00"), ("anna", 1, "10.00")]


def test_nobody_is_welcomed_by_a_code_of_their_own_that_bound_them_on_another_client() -> None:
    """It is asked for with each purchase of the user, whichever client that is made on."""
    net = Net(program(levels=("10%",), referred=WELCOME_OF_10))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org"))
    net.send(visited(MINUTE, "s1", "ANNA", user="boris"), enrolled(2 * MINUTE, "boris", "BORIS"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-2", "100", user="boris", email="anna@example.org"))
    assert [r[:3] for r in net.rewards] == [("anna", 1, "10.00")]


@pytest.mark.parametrize(
    ("mail", "rules", "held"),
    [
        ("x@mailinator.com", FraudRules(), ["disposable_mail"]),
        ("x@mailinator.com", FraudRules(disposable_mail=False), []),
        ("x@gmail.com", FraudRules(free_mail=True), ["free_mail"]),
        ("x@gmail.com", FraudRules(), []),
    ],
)
def test_a_welcome_to_a_mailbox_to_throw_away_is_held_as_well(mail: str, rules: FraudRules, held: list[str]) -> None:
    net = Net(program(levels=("10%",), referred=WELCOME_OF_10, fraud=rules))
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(bought(2 * HOUR, "c-boris", "100", user="boris", via=("anna", HOUR), email=mail))
    assert {record["user_id"]: record["reasons"] for record in net.last().values()} == {"anna": held, "boris": held}


@pytest.mark.parametrize(
    ("before", "blocked"),
    [
        ({"user": "boris"}, True),
        ({"client": "c-other", "email": "boris@example.org"}, True),
        ({"client": "c-boris"}, True),  # the same browser, before being known
        ({"client": "c-other", "email": "other@example.org"}, False),
        ({"user": "boris", "paid": False, "goal": "signup"}, False),
        ({"user": "boris", "at": 2 * HOUR + 1}, False),  # after the captured visit
    ],
)
def test_existing_customers_are_not_referred(before: dict[str, object], blocked: bool) -> None:
    fields = dict(before)
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    at = fields.pop("at", HOUR)
    net.send(bought(at, fields.pop("client", "c-1"), "10", **fields))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", user="boris", email="boris@example.org", via=("anna", 2 * HOUR)))
    reward = net.reward("anna")
    assert (reward["status"], reward["reasons"]) == (
        ("rejected", ["existing_customer"]) if blocked else ("pending", [])
    )


@pytest.mark.parametrize(
    "fields", [{"promo_code": "SAVE", "email": "z@example.org"}, {"client_id": "c-z"}, {}, {"aliases": ["SAVE", "B"]}]
)
def test_the_dead_letter_of_a_taken_code_takes_nothing_from_its_enrolment_when_replayed(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made of what the code knows: less than was sent."""
    letters: list[tuple[str, bytes, bytes, int]] = []
    monkeypatch.setattr(
        Commit, "bury", lambda _self, topic, key, value, place, *_: letters.append((topic, key, value, place.timestamp))
    )
    net = Net(program())
    code = "ZED" if {"promo_code", "aliases"} & fields.keys() else "SAVE"
    net.send(enrolled(0, "anna", "SAVE"), enrolled(1, "zoe", code, **fields))
    before = net.person("zoe").memberships
    assert len(letters) == 1
    net.send(*letters)
    assert (net.person("zoe").memberships, len(letters)) == (before, 1)
    assert net.counts["duplicates"] == 1


HERS = {"email": "Boris@example.org"}


@pytest.mark.parametrize(("paid_at", "bound"), [(HOUR, 0), (3 * HOUR, 1)])
@pytest.mark.parametrize("heard", ["before", "after"])
def test_who_paid_before_is_not_bound_by_enrolling_with_the_same_address(paid_at: int, bound: int, heard: str) -> None:
    """Whether the visit is heard of before the enrolment or after it. Nobody knew whose that purchase was."""
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    visit, joined = visited(2 * HOUR, "s", "anna", user="boris"), enrolled(4 * HOUR, "boris", "B", **HERS)
    net.pass_time(T0 + HOUR)
    net.send(bought(paid_at, "c-1", "10", **HERS))
    net.pass_time(T0 + 4 * HOUR)
    for letter in (visit, joined) if heard == "before" else (joined, visit):
        net.send(letter)
    net.pass_time(T0 + DAY)
    assert sum(net.person("anna").bound.values()) == bound
    assert not net.person("boris").enrolling


@pytest.mark.parametrize(("joins_at", "blocked"), [(2 * HOUR, True), (4 * HOUR, False)])
@pytest.mark.parametrize("who", ["the buyer", "who paid before"])
def test_a_customer_is_known_by_what_they_enrolled_with_by_then(who: str, joins_at: int, blocked: bool) -> None:
    """Be it whoever buys by the code now and says nothing at the checkout, or said nothing when they paid before."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    other = who == "who paid before"
    first, last = (3 * HOUR, DAY) if other else (HOUR, 3 * HOUR + 10)
    joins = enrolled(joins_at, "boris", "B", **HERS)
    paid = bought(first, "c-1", "10", user="boris") if other else bought(first, "c-1", "10", **HERS)
    for at, letter in sorted([(joins_at, joins), (first, paid)], key=lambda pair: pair[0]):
        net.pass_time(T0 + at)
        net.send(letter)
    net.pass_time(T0 + last)
    net.send(bought(last - 9, "c-3", "0", user="boris", goal="signup", paid=False))  # has them tell their contacts anew
    via = ("anna", last - 5)
    net.send(bought(last, "c-2", via=via, **HERS) if other else bought(last, "c-2", via=via, user="boris"))
    net.pass_time(T0 + 2 * DAY)
    assert net.reward("anna")["reasons"] == (["existing_customer"] if blocked else [])


@pytest.mark.parametrize(("left", "status"), [(2 * HOUR + 1, "rejected"), (None, "pending")])
def test_a_code_must_be_active_at_the_visit_and_the_conversion(left: int | None, status: str) -> None:
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 2 * HOUR)
    if left is not None:
        net.send(event(left, "anna", "left"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", via=("anna", 2 * HOUR)))
    reward = net.reward("anna")
    assert (reward["status"], reward["reasons"]) == (status, ["code_not_valid"] if left is not None else [])


@pytest.mark.parametrize(
    ("reason", "rules", "fields", "near_miss"),
    [
        ("similar_name", {}, {"name": "BERZINA, Anna"}, {"name": "Anna Ozola"}),
        ("similar_email", {}, {"email": "a.n.n.a+shop@example.org"}, {"email": "hanna@example.org"}),
        ("disposable_mail", {}, {"email": "x@mailinator.com"}, {"email": "x@mailinator.com.example.org"}),
        ("free_mail", {"free_mail": True}, {"email": "x@gmail.com"}, {"email": "x@acme.example"}),
        ("brand_bidding", {}, {"via": ("anna", 2 * HOUR, 1)}, {"via": ("anna", 2 * HOUR, 0)}),
        ("coupon_site", {}, {"via": ("anna", 2 * HOUR, 2)}, {"via": ("anna", 2 * HOUR, 0)}),
    ],
)
def test_each_suspicion_holds_with_its_reason(
    reason: str, rules: dict[str, bool], fields: dict[str, object], near_miss: dict[str, object]
) -> None:
    for extra, expected in ((fields, ("on_hold", [reason])), (near_miss, ("pending", []))):
        net = Net(program(levels=("10%",), fraud=FraudRules(**rules)))
        net.send(enrolled(0, "anna", "ANNA", email="anna@example.org", name="Anna Bērziņa"))
        net.pass_time(T0 + 3 * HOUR)
        net.send(bought(3 * HOUR, "c-boris", **{"via": ("anna", 2 * HOUR), **extra}))
        reward = net.reward("anna")
        assert (reward["status"], reward["reasons"]) == expected


def test_the_fourth_conversion_from_one_ip_is_held_whatever_arrived_first() -> None:
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    for at in (3, 1, 2, 0):
        net.send(bought(3 * HOUR + at, f"c-{at}", via=("anna", 2 * HOUR), ip="203.0.113.7"))
    net.send(bought(3 * HOUR + 9, "c-9", via=("anna", 2 * HOUR), ip="203.0.113.8"))
    found = sorted((r["occurred_at"], r["status"], r["reasons"]) for r in net.last().values())
    assert [r[1:] for r in found] == [("pending", [])] * 3 + [("on_hold", ["same_ip"])] + [("pending", [])]
    net.pass_time(T0 + 3 * DAY)
    net.send(bought(3 * DAY, "c-late", via=("anna", 2 * HOUR), ip="203.0.113.7"))
    assert sum(r["reasons"] == ["same_ip"] for r in net.last().values()) == 2, "settled ones count on"


def test_conversions_from_one_ip_count_once_however_often_they_are_assessed() -> None:
    """An enrolment has all open ones assessed anew."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    for at in (0, 2):
        net.send(bought(3 * HOUR + at, f"c-{at}", via=("anna", 2 * HOUR), ip="203.0.113.7"))
        net.send(enrolled(3 * HOUR + at + 1, "anna", f"ANNA-{at}"))
    for at, held in ((4, 0), (6, 1)):
        net.send(bought(3 * HOUR + at, f"c-{at}", via=("anna", 2 * HOUR), ip="203.0.113.7"))
        assert sum(r["reasons"] == ["same_ip"] for r in net.last().values()) == held


def test_a_burst_is_held_and_a_slower_one_is_not() -> None:
    for gap, held in ((10 * MINUTE, 1), (31 * MINUTE, 0)):
        net = Net(program(levels=("10%",), fraud=FraudRules(burst=2, burst_ms=HOUR)))
        net.send(enrolled(0, "anna", "ANNA"))
        net.pass_time(T0 + 3 * HOUR)
        for number in range(3):
            net.send(bought(3 * HOUR + number * gap, f"c-{number}", via=("anna", 2 * HOUR)))
        assert sum(r["reasons"] == ["burst"] for r in net.last().values()) == held


def test_what_is_held_waits_for_a_review_or_the_deadline() -> None:
    hold = {"ip": "", "via": ("anna", 2 * HOUR, 2)}
    for decide, on_deadline, expected in (
        ("approve", "reject", ("approved", ["coupon_site", "approved_by_review"])),
        ("reject", "approve", ("rejected", ["coupon_site", "rejected_by_review"])),
        (None, "approve", ("approved", ["coupon_site", "deadline"])),
        (None, "reject", ("rejected", ["coupon_site", "deadline"])),
    ):
        net = Net(program(levels=("10%",), on_deadline=on_deadline))
        net.send(enrolled(0, "anna", "ANNA"))
        net.pass_time(T0 + 3 * HOUR)
        net.send(bought(3 * HOUR, "c-boris", **hold))
        reward = net.reward("anna")
        assert reward["status"] == "on_hold"
        if decide:
            net.pass_time(T0 + 5 * DAY)
            net.send(event(5 * DAY, "anna", decide, reward_id=reward["id"]))
            net.pass_time(T0 + 6 * DAY)
        else:
            net.pass_time(T0 + 3 * HOUR + 30 * DAY - 1)
            assert net.reward("anna")["status"] == "on_hold"
            net.pass_time(T0 + 3 * HOUR + 30 * DAY)
        reward = net.reward("anna")
        assert (reward["status"], reward["reasons"]) == expected
        check_books(net)


def test_nothing_personal_is_kept() -> None:
    """E-mail, telephone, name and ip are looked for in every state, row, letter and record."""
    secret = {"email": "canary-mail@example.org", "phone": "+37120009999", "name": "Canary Name", "ip": "203.0.113.99"}
    net = Net(program(referred=ReferredReward("fixed", Rate(Decimal(5)))), drop_cache=False)
    letters: list[bytes] = []
    forward = Commit.forward

    def spy(self: Commit, kind: str, key: bytes, value: bytes) -> None:
        letters.append(key + value)
        forward(self, kind, key, value)

    Commit.forward = spy  # type: ignore[method-assign]
    try:
        net.send(enrolled(0, "anna", "ANNA", **secret))
        net.pass_time(T0 + 3 * HOUR)
        net.send(bought(3 * HOUR, "c-boris", via=("anna", 2 * HOUR), **secret))
        net.pass_time(T0 + 40 * DAY)
    finally:
        Commit.forward = forward  # type: ignore[method-assign]
    everything = b"\n".join(
        [
            *(key + value for (_, key), value in net.saved.items()),
            *(value for rows in net.rows.values() for value in rows.rows.values()),
            *letters,
            repr(net.outputs).encode(),
        ]
    ).lower()
    assert len(everything) > 2_000
    for text in (*secret.values(), "canary", "20009999", "berzina"):
        assert text.lower().encode() not in everything, text


def reward_id_of(net: Net, amount: str) -> str:
    """The id of the reward of that amount."""
    return next(name for name, r in net.last().items() if r["amount"] == amount)


@pytest.mark.parametrize("paid", [False, True])
def test_a_status_withdrawn_cancels_before_payment_and_claws_back_after(paid: bool) -> None:
    """A won deal pays on its revenue; when the lead leaves `won`, the reward goes."""
    net = Net(program(levels=("10%",), goals=(), statuses=("won",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    deal = {"goal": "lead_form", "status": "won", "paid": False, "via": ("anna", 2 * HOUR), "event_id": "u1"}
    net.send(bought(3 * HOUR, "c-boris", "2000", **deal))
    assert net.rewards == [("anna", 1, "200.00", "pending")]
    if paid:
        payout(net, 20 * DAY, "200")
    net.pass_time(T0 + 25 * DAY)
    net.send(bought(3 * HOUR, "c-boris", "2000", withdrawn="u2", **deal))
    if paid:
        assert sorted(r[2:] for r in net.rewards) == [("-200.00", "approved"), ("200.00", "paid")]
        assert any(name.endswith("-ru2") for name in net.last())
    else:
        assert net.rewards == [("anna", 1, "0.00", "refunded")]
        assert net.reward("anna")["reasons"] == ["withdrawn"]
    check_books(net)
    net.send(bought(3 * HOUR, "c-boris", "2000", **deal))
    amount = sum((Decimal(r["amount"]) for r in net.last().values()), Decimal(0))
    assert amount == 200, "and comes back with the status"
    check_books(net)


def test_a_conversion_that_comes_back_is_paid_on_all_levels_again() -> None:
    """Also if it had settled: whoever is above was told that it is gone."""
    net = Net(program())
    family(net)
    net.pass_time(T0 + 10 * DAY)
    sale = bought(3 * DAY + HOUR, "c-petr", user="petr", via=("olga", 3 * DAY))
    net.send(unbought(sale))
    assert {r[2:] for r in net.rewards} == {("0.00", "refunded")}
    net.send(sale)
    assert [r[:3] for r in net.rewards] == [("olga", 1, "100.00"), ("misha", 2, "50.00"), ("anna", 3, "20.00")]
    check_books(net)


DEAL: dict[str, Any] = {"goal": "lead_form", "status": "won", "paid": False, "event_id": "u1"}


@pytest.mark.parametrize("late", LATE)
def test_a_status_that_was_left_has_bound_all_the_same(late: int) -> None:
    """Whether that is heard of before the reward is booked or after it: only the money goes."""
    net = Net(program(levels=("10%",), statuses=("won",), first_purchases=2))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-boris", "2000", via=("anna", HOUR), **DEAL))
    net.pass_time(T0 + DAY + late)
    left = {"withdrawn": "u2", "withdrawn_at": T0 + DAY + 30 * MINUTE}
    net.send((*bought(DAY, "c-boris", "2000", via=("anna", HOUR), **DEAL, **left)[:3], net.now))
    for at in (2 * DAY, 3 * DAY):
        net.pass_time(T0 + at)
        net.send(bought(at, "c-boris", "100"))
    net.pass_time(T0 + 60 * DAY)
    assert net.rewards == [("anna", 1, "0.00", "refunded"), ("anna", 1, "10.00", "approved")]
    assert net.reward_of("0.00")["reasons"] == ["withdrawn"]
    check_books(net)


@pytest.mark.parametrize("heard", [31, 90])
def test_a_payout_does_not_see_that_a_status_was_left_after_it(heard: int) -> None:
    """Whenever it is heard of: what was paid comes back with the next payout, not with this one."""
    net = Net(program(levels=("10%",), statuses=("won",), holding_ms=0))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-boris", "2000", via=("anna", HOUR), **DEAL))
    net.send(bought(DAY + 1, "c-clara", "50", via=("anna", HOUR)))
    net.pass_time(T0 + 5 * DAY)
    net.send(event(5 * DAY, "anna", "payout", amount="205"))
    net.pass_time(T0 + 5 * DAY + heard * MINUTE)
    left = {"withdrawn": "u2", "withdrawn_at": T0 + 5 * DAY + 30 * MINUTE}
    net.send((*bought(DAY, "c-boris", "2000", via=("anna", HOUR), **DEAL, **left)[:3], net.now))
    net.pass_time(T0 + 6 * DAY)
    assert net.rejected == []
    assert [r[2:] for r in net.rewards] == [("-200.00", "approved"), ("200.00", "paid"), ("5.00", "paid")]
    back = net.reward_of("-200.00")
    assert back["due_at"] == back["occurred_at"] == rfc3339(T0 + 5 * DAY + 30 * MINUTE)
    check_books(net)


def test_two_programmes_pay_for_one_purchase_only_if_neither_is_exclusive() -> None:
    for exclusive, expected in ((True, [("anna", "friends")]), (False, [("anna", "friends"), ("clara", "partners")])):
        net = Net(program(levels=("10%",), exclusive=exclusive), program("partners", ("5%",), exclusive=False))
        net.send(enrolled(0, "anna", "ANNA"), enrolled(1, "clara", "CLARA", program="partners"))
        net.pass_time(T0 + 3 * HOUR)
        net.send(bought(3 * HOUR, "c-boris", via=(("anna", HOUR), ("clara", 2 * HOUR))))
        assert sorted((r["user_id"], r["program"]) for r in net.last().values()) == expected


def cohort(net: Net, name: str, prefix: str = "") -> tuple[int, Decimal]:
    """How many of a kind of customers, and what they brought."""
    brought = net.tally.brought.get((f"{prefix}revenue", "friends", "EUR"), Decimal(0))
    return net.tally.figures["friends", prefix + name], brought


@pytest.mark.parametrize(
    ("after", "within"),
    [(30 * DAY, 3), (30 * DAY + 1, 2), (90 * DAY, 2), (90 * DAY + 1, 1), (365 * DAY, 1), (365 * DAY + 1, 0)],
)
def test_a_customer_who_comes_back_counts_by_how_long_it_took(after: int, within: int) -> None:
    """From the first paid conversion, inclusive; whoever was referred counts as such, and all count together."""
    net = Net(program(first_purchases=1))
    simple(net)
    net.send(bought(3 * HOUR, "c-other", "50"))
    net.pass_time(T0 + 3 * HOUR + after)
    net.send(bought(3 * HOUR + after, "c-boris", "10", user="boris"))
    net.send(bought(3 * HOUR + after + MINUTE, "c-boris", "5", user="boris", paid=False))
    assert cohort(net, "customers") == (2, Decimal(1060))
    assert cohort(net, "customers", "referred_") == (1, Decimal(1010))
    for prefix in ("", "referred_"):
        repeats = [net.tally.figures["friends", f"{prefix}repeat_{days}d"] for days in (365, 90, 30)]
        assert repeats == [1] * within + [0] * (3 - within)


@pytest.mark.parametrize(("another", "settled", "stays"), [(0, 0, 0), (1, 0, 1), (2, 0, 1), (0, 2 * HOUR, 1)])
def test_a_client_is_no_users_once_the_purchase_that_said_so_is_taken_back(
    another: int, settled: int, stays: int
) -> None:
    """As if it had never been heard of; unless something else says so, or it had settled."""
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-clara", "100", via=("anna", 2 * HOUR)))
    known = bought(3 * HOUR, "c-clara", "7", user="clara", event_id="known")
    net.send(known)
    if another == 1:
        net.send(bought(3 * HOUR, "c-clara", "0.01", user="clara", event_id="another"))
    elif another:
        net.send(enrolled(3 * HOUR, "clara", "CLARA", client_id="c-clara"))
    net.pass_time(T0 + 3 * HOUR + settled)
    assert len(net.person("clara").inherited) == 1
    if settled:
        net.send(known := bought(3 * HOUR + settled, "c-clara", "8", user="clara", event_id="later"))
    net.send(unbought(known))
    assert len(net.person("clara").inherited) == len(net.person("\x1fc-clara").users) == stays
    assert cohort(net, "customers")[0] == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_client_is_no_users_once_another_enrolment_has_taken_the_event_that_said_so(order: int) -> None:
    """Of two with one id the smaller stands (semantics 23), whichever was heard first."""
    net = Net(program())
    for at, client in [(HOUR, "c-mine"), (HOUR + 1, "c-other")][::order]:
        net.send(enrolled(at, "clara", "CLARA", client_id=client, event_id="e"))
    assert {*net.person("clara").clients} == {"c-mine"}
    assert net.person("\x1fc-other") is None


def test_whoever_refers_counts_as_soon_as_somebody_came() -> None:
    """Also when nothing else is heard of them; a client's visits reach its user whenever they come."""
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(bought(HOUR, "c-anna", "100", user="anna"))
    net.pass_time(T0 + 2 * DAY)
    assert not net.tally.figures["friends", "referring_customers"]
    net.send(bought(2 * DAY, "c-boris", "100", via=("anna", 2 * DAY - HOUR)))
    assert net.tally.figures["friends", "referring_customers"] == 1
    assert not net.tally.figures["friends", "invited_referred"]
    net.send(event(2 * DAY, "anna", "invited", channel="email", count=3))
    assert net.tally.figures["friends", "invited_referred"] == 1
    net.send(bought(2 * DAY, "c-clara", "1", user="clara"))
    net.pass_time(T0 + 4 * DAY)
    net.send(visited(4 * DAY, "s-clara", "anna", client="c-clara"))
    assert net.person("clara").inherited["\x1fc-clara"].visits == (Visit("anna", T0 + 4 * DAY),)


def test_refunds_lower_revenue_long_after_and_what_is_taken_back_is_gone() -> None:
    """Also of customers whom nobody referred, and whose purchases were settled months ago."""
    net = Net(program())
    sale = bought(HOUR, "c-other", "100")
    net.send(sale, bought(HOUR, "c-more", "7", currency="USD"))
    net.pass_time(T0 + 90 * DAY)
    net.send(bought(HOUR, "c-other", "100", refunds=[("r1", 80 * DAY, "30")]))
    assert cohort(net, "customers") == (2, Decimal(70))
    assert net.tally.brought["revenue", "friends", "USD"] == 7
    net.send(bought(HOUR, "c-other", "100", refunds=[("r1", 80 * DAY, "30"), ("r2", 81 * DAY, "70")]))
    assert cohort(net, "customers") == (2, Decimal(0))
    net.send(sale)
    assert cohort(net, "customers") == (2, Decimal(100))
    net.send(unbought(sale))
    assert cohort(net, "customers") == (2, Decimal(0))


def test_of_a_settled_purchase_that_concerned_nobody_only_what_it_brought_is_kept() -> None:
    """One through a referrer keeps what refunds need to redo its walk."""
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(
        bought(3 * HOUR, "client-of-nobody", "100", email="nobody@example.org", event_id="of-nobody"),
        bought(3 * HOUR, "client-of-anna", "100", via=("anna", 2 * HOUR), event_id="of-anna"),
    )
    net.pass_time(T0 + 2 * DAY)
    kept = {
        key.decode().lstrip("\x1f"): row
        for (key, number), row in net.rows["people"].rows.items()
        if SOLD_ROWS <= number < SOLD_ROWS + ROWS_OF_A_KIND
    }
    assert kept.keys() == {"client-of-nobody", "client-of-anna"}
    assert b"of-anna" in kept["client-of-anna"]
    assert len(kept["client-of-nobody"]) < 80 < len(kept["client-of-anna"])


def test_a_customer_who_becomes_known_is_one_customer() -> None:
    """What the client bought as nobody known counts with its user; of two users, with one of them."""
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(bought(3 * HOUR, "c-boris", "100", via=("anna", 2 * HOUR)))
    assert cohort(net, "customers", "referred_") == (1, Decimal(100))
    net.pass_time(T0 + 2 * DAY)
    net.send(bought(2 * DAY, "c-boris", "20", user="boris"))
    assert cohort(net, "customers", "referred_") == cohort(net, "customers") == (1, Decimal(120))
    assert net.tally.figures["friends", "referred_repeat_30d"] == 1
    net.pass_time(T0 + 4 * DAY)
    net.send(bought(4 * DAY, "c-boris", "3", user="alice"))
    assert cohort(net, "customers") == (2, Decimal(123))
