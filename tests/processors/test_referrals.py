"""Who is paid what: stories through codes and people."""

from __future__ import annotations

from tests.processors.referral_net import DAY, HOUR, MINUTE, T0, Net, bought, enrolled, program, visited

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
