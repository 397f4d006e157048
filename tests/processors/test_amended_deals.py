"""Deals whose revenue is amended: what a programme pays for them, whenever that is heard of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from stream_app.domain.referral.programs import Program, Rate, RateRule, ReferredReward
from tests.processors.referral_net import DAY, HOUR, MINUTE, T0, Net, asked, bought, crm, enrolled, event, program
from tests.processors.test_referrals_properties import check_books

WON = DAY
EARLY, LATE, MUCH_LATER = 31 * MINUTE, 89 * MINUTE, 30 * DAY
"""How long after the deal its amendment of half an hour after is heard of: before the reward is booked, within grace
of the amendment but after that, and whenever."""


def sold(revenue: str | None = "1000", *programs: Program, lead: str = "lead", **fields: Any) -> Net:
    """Anna brought Boris, whose lead is won."""
    made = programs or (program(levels=("10%",), goals=("purchase",), statuses=("won",), holding_ms=0),)
    net = Net(*made, rates={"USD": Decimal("0.5")})
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(asked(HOUR, lead, "c-boris", user="boris", via=("anna", HOUR)))
    net.pass_time(T0 + WON)
    told = {} if revenue is None else {"revenue": revenue}
    net.send(crm(WON, lead, "won", event_id="u1", **told, **fields))
    return net


def amend(net: Net, revenue: str, *, after: int = 30 * MINUTE, heard: int, event_id: str = "u2", **fields: Any) -> None:
    """The CRM says another revenue some time after the deal, and that is heard of later still."""
    net.pass_time(T0 + WON + heard)
    net.send(crm(WON + after, "lead", "won", ts=WON + heard, event_id=event_id, revenue=revenue, **fields))


def owed(net: Net) -> list[tuple[str, str]]:
    """(amount, status) of all rewards."""
    check_books(net)
    return [r[2:] for r in net.rewards]


@pytest.mark.parametrize("heard", [EARLY, LATE, MUCH_LATER])
@pytest.mark.parametrize(("revenue", "amount"), [("1200", "120.00"), ("400.05", "40.01"), ("0", "0.00")])
def test_an_amendment_counts_whenever_it_is_heard_of(heard: int, revenue: str, amount: str) -> None:
    """As long as nothing is paid the reward is that of what the deal is worth, and says of what."""
    net = sold()
    assert net.reward("anna")["basis"] == "1000.00"
    amend(net, revenue, heard=heard)
    net.pass_time(T0 + 60 * DAY)
    assert owed(net) == [(amount, "approved" if revenue != "0" else "refunded")]
    assert net.reward("anna")["basis"] == f"{Decimal(revenue):.2f}"
    assert net.person("anna").books.sums["EUR"].earned == max(Decimal(100), Decimal(amount))


@pytest.mark.parametrize("heard", [EARLY, LATE, MUCH_LATER])
def test_a_deal_won_without_a_revenue_is_paid_once_there_is_one(heard: int) -> None:
    """Until then nobody is owed anything, and there is no record."""
    net = sold(None)
    net.pass_time(T0 + WON + EARLY)
    assert owed(net) == []
    amend(net, "500", heard=heard)
    net.pass_time(T0 + 60 * DAY)
    assert owed(net) == [("50.00", "approved")]
    assert net.tally.sums["EUR", "earned"] == 50


@pytest.mark.parametrize("before", [None, "1000"])
def test_what_it_was_worth_when_it_was_won_may_be_heard_of_long_after(before: str | None) -> None:
    """As an amendment of an hour before the deal."""
    net = sold(before)
    net.pass_time(T0 + 5 * DAY)
    net.send(crm(WON, "lead", "won", ts=5 * DAY, event_id="u0", revenue="400"))
    net.pass_time(T0 + 60 * DAY)
    assert owed(net) == [("40.00", "approved")] if before is None else [("100.00", "approved")]
    net = sold(before)
    net.pass_time(T0 + 5 * DAY)
    net.send(crm(WON - HOUR, "lead", "qualified", ts=5 * DAY, event_id="u0", revenue="400"))
    net.pass_time(T0 + 60 * DAY)
    assert owed(net) == [("100.00" if before else "40.00", "approved")]


def test_what_is_no_reward_yet_cannot_be_reviewed() -> None:
    net = sold(None)
    net.pass_time(T0 + 2 * DAY)
    (entry_id,) = _entry_ids(net)
    net.send(event(2 * DAY, "anna", "reject", reward_id=entry_id))
    net.pass_time(T0 + 3 * DAY)
    assert net.rejected == [("bad_field", "reward_id: this person has no such reward")]


@pytest.mark.parametrize(("revenue", "difference"), [("1200", "20.00"), ("400", "-60.00")])
@pytest.mark.parametrize("heard", [EARLY, LATE])
def test_what_was_paid_stays_and_the_difference_is_a_record_of_its_own(
    heard: int, revenue: str, difference: str
) -> None:
    """Approved at once, paid with the next payout; the payout sees what the deal was worth at its time."""
    net = sold()
    net.pass_time(T0 + WON + 30 * DAY)
    net.send(event(WON + 30 * DAY, "anna", "payout", amount="100", event_id="p1"))
    amend(net, revenue, after=30 * DAY + 30 * MINUTE, heard=30 * DAY + heard)
    net.pass_time(T0 + 40 * DAY)
    assert owed(net) == sorted([(difference, "approved"), ("100.00", "paid")])
    record = net.reward_of(difference)
    assert record["id"] == net.reward("anna")["id"] + "-ru2"
    assert (record["reasons"], record["basis"]) == (["amended"], f"{revenue}.00")
    assert net.reward("anna")["basis"] == "1000.00"
    amend(net, "1100", after=41 * DAY, heard=41 * DAY, event_id="u3")
    assert sum(Decimal(amount) for amount, _ in owed(net)) == 110
    net.send(event(45 * DAY, "anna", "payout", amount="10", event_id="p2"))
    net.pass_time(T0 + 50 * DAY)
    assert net.rejected == []
    assert {status for _, status in owed(net)} == {"paid"}
    net.send(crm(51 * DAY, "lead", "refused", event_id="u4"))
    assert sum(Decimal(amount) for amount, _ in owed(net)) == 0, "and a deal that is left takes all of it back"


def test_a_difference_to_pay_has_its_turn_by_its_time() -> None:
    """Only what is taken back comes first."""
    net = sold()
    net.pass_time(T0 + 3 * DAY)
    net.send(event(3 * DAY, "anna", "payout", amount="100", event_id="p1"))
    net.pass_time(T0 + 4 * DAY)
    net.send(bought(4 * DAY, "c-boris", "300", user="boris"))
    amend(net, "1200", after=5 * DAY, heard=5 * DAY)
    net.pass_time(T0 + 7 * DAY)
    net.send(event(7 * DAY, "anna", "payout", amount="30", event_id="p2"))
    net.pass_time(T0 + 8 * DAY)
    assert owed(net) == [("100.00", "paid"), ("20.00", "approved"), ("30.00", "paid")]


@pytest.mark.parametrize("grows", [False, True])
def test_only_what_is_new_is_an_amendment(grows: bool) -> None:
    """However often a CRM says the same. Of very many amounts the first and the latest are known."""
    net = sold()
    net.pass_time(T0 + 3 * DAY)
    net.send(event(3 * DAY, "anna", "payout", amount="100", event_id="p1"))
    amend(net, "1200", after=5 * DAY, heard=5 * DAY)
    for number in range(60):
        revenue = {"revenue": str(1200 + number)} if grows else {}
        net.send(crm(6 * DAY + number, "lead", "won", event_id=f"u3-{number}", **revenue))
    if grows:
        assert sum(Decimal(amount) for amount, _ in owed(net)) == Decimal("125.90")
        assert net.reward("anna")["amount"] == "100.00"
    else:
        assert net.reward_of("20.00")["id"].endswith("-ru2")


@pytest.mark.parametrize("heard", [EARLY, LATE, 3 * DAY])
def test_a_payout_sees_what_the_deal_was_worth_at_its_time(heard: int) -> None:
    """An amendment before it counts though it was heard of later, one after it does not."""
    net = sold()
    net.pass_time(T0 + WON + 2 * HOUR)
    payout = event(WON + 2 * HOUR, "anna", "payout", amount="120", event_id="p1")
    if heard < 2 * HOUR:
        amend(net, "1200", heard=heard)
    net.send(payout)
    amend(net, "900", after=2 * HOUR + 1, heard=2 * HOUR + 2, event_id="u3")
    net.pass_time(T0 + 3 * DAY)
    if heard < 2 * HOUR:
        assert owed(net) == [("-30.00", "approved"), ("120.00", "paid")]
    else:
        assert owed(net) == [("90.00", "approved")]
        assert net.rejected[0][0] == "payout_mismatch"


@pytest.mark.parametrize("heard", [EARLY, LATE])
def test_what_a_deal_binds_and_ranks_goes_by_what_it_was_worth_when_won(heard: int) -> None:
    """Minimum orders, rates by amount, and caps, which a refund does not change either."""
    rates = (RateRule((Rate.parse("50%"),), minimum=Decimal(1001)),)
    common: dict[str, Any] = {"levels": ("10%",), "statuses": ("won",), "holding_ms": 0}
    net = sold("1000", program(**common, minimum_order=Decimal(1000), rates=rates))
    amend(net, "2000", heard=heard)
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == [("200.00", "approved")]
    net = sold("999", program(**common, minimum_order=Decimal(1000)))
    amend(net, "2000", heard=heard)
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == []
    net = sold("1000", program(**common, cap=Decimal(150)))
    net.send(bought(WON + 5 * MINUTE, "c-boris", "1000", user="boris"))
    amend(net, "1400", heard=heard)
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == [("100.00", "approved"), ("50.00", "approved")], "a cap leaves no room for more"
    amend(net, "100", after=4 * DAY, heard=4 * DAY, event_id="u3")
    assert owed(net) == [("10.00", "approved"), ("50.00", "approved")], "and gets none back"


def test_profits_and_fixed_amounts() -> None:
    """A share of the profit follows the profit; what is fixed does not depend on what a deal is worth."""
    net = sold("1000", program(levels=("10%",), statuses=("won",), basis="profit"), profit="300")
    amend(net, "1000", heard=LATE, profit="200.50")
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == [("20.05", "pending")]
    amend(net, "1000", after=3 * DAY, heard=3 * DAY, profit="-5", event_id="u3")
    assert owed(net) == [("0.00", "refunded")], "a loss pays nothing, and takes nothing"
    net = sold("1000", program(levels=("10%",), statuses=("won",), basis="profit"), profit="-5")
    assert owed(net) == []
    welcome = ReferredReward("percent", Rate.parse("5%"))
    for fields in ({}, {"basis": "profit"}, {"cap": Decimal(1000)}):
        net = sold("1000", program(levels=("15.00",), statuses=("won",), referred=welcome, **fields))
        amend(net, "2000", heard=LATE, profit="1")
        net.pass_time(T0 + 3 * DAY)
        assert owed(net) == [("100.00", "pending"), ("15.00", "pending")], "the welcome is a share of the revenue"


@pytest.mark.parametrize("heard", [EARLY, LATE])
def test_another_currency_counts_at_its_rate(heard: int) -> None:
    """In the currency of the deal; one that has no rate says nothing."""
    net = sold()
    amend(net, "3000", heard=heard, currency="USD")
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == [("150.00", "approved")]
    amend(net, "3000", after=3 * DAY, heard=3 * DAY, currency="KWD", event_id="u3")
    assert owed(net) == [("150.00", "approved")]


def test_all_levels_hear_of_it() -> None:
    net = Net(program(statuses=("won",)))
    net.send(enrolled(0, "anna", "ANNA"), enrolled(0, "misha", "MISHA"))
    net.send(bought(HOUR, "c-misha", "1", user="misha", via=("anna", HOUR)))
    net.send(asked(HOUR, "lead", "c-boris", user="boris", via=("misha", HOUR)))
    net.pass_time(T0 + WON)
    net.send(crm(WON, "lead", "won", event_id="u1", revenue="1000"))
    amend(net, "3000", heard=LATE)
    assert [r[:3] for r in net.rewards][-2:] == [("misha", 1, "300.00"), ("anna", 2, "150.00")]
    check_books(net)


def test_whoever_is_rewarded_does_not_learn_which_lead_it_was() -> None:
    """The CRM's name of a lead says who it is: neither the books nor the records have it, but for its person's own."""
    net = sold(lead="lead-of-boris")
    net.pass_time(T0 + 3 * DAY)
    assert owed(net) == [("100.00", "approved")]
    assert "lead-of-boris" not in str(net.outputs)
    states = [*net.saved.items(), *net.rows["people"].rows.items()]
    found = {place for place, payload in states if place[0] != "leads" and b"lead-of-boris" in payload}
    whose = {part for place in found for part in place if isinstance(part, bytes)}
    assert whose == {b"boris", b"\x1fc-boris"}, found


def _entry_ids(net: Net) -> list[str]:
    from tests.processors.test_referrals_properties import _entries

    rows = net.rows["people"].rows.items()
    return [e.id for (_, number), payload in rows if number < 1 << 29 for e in _entries(payload)]
