"""Referrers with very many conversions within grace: their open entries lie in rows, and are ranked from where
something changed."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import islice

import msgspec
import pytest

from stream_app.domain.referral.fraud import Ranking, settled
from stream_app.domain.referral.ledger import Open, OpenMoment, Ranks
from stream_app.domain.referral.programs import Exchange, FraudRules
from stream_app.processors.people import opened
from stream_app.processors.people.opened import OpenEntries, next_settling
from stream_app.processors.people.state import PAGE_ROWS, Books
from tests.processors.harness import DictRows
from tests.processors.referral_lives import life, live, with_money
from tests.processors.referral_net import GRACE, HOUR, MINUTE, T0, Net, bought, enrolled, program, unbought
from tests.processors.test_referrals_properties import check_books, customers, refusals

KEY = b"anna"
EXCHANGE = Exchange("EUR", {"USD": Decimal("0.92")})


def item(at: int, name: str, **fields: object) -> Open:
    """An open entry of level 1."""
    return msgspec.structs.replace(Open(name, at, f"e-{name}", at + GRACE, "friends", 1), **fields)


def test_open_entries_are_a_sorted_list_whatever_their_number() -> None:
    """Against a plain list, through hundreds of commits; between two of them only bytes are left."""
    rng = random.Random(5)
    rows, books, plain = DictRows(), Books(), [item(0, "zero")]
    entries = OpenEntries(books, KEY, rows)
    entries.put(plain[0])
    for step in range(3_000):
        if rng.random() < (0.7 if step < 1_500 else 0.35) or not plain:
            at = rng.choice((step, step, rng.randrange(step + 1)))
            new = item(at, str(step))
            plain.append(new)
            plain.sort(key=lambda i: i.moment)
            entries.put(new)
        else:
            gone = plain.pop(0 if rng.random() < 0.8 else rng.randrange(len(plain)))
            entries.drop(gone.moment)
        if rng.random() < 0.2:
            entries.write()
            books = msgspec.msgpack.decode(msgspec.msgpack.encode(books), type=Books)
            entries = OpenEntries(books, KEY, rows)
            assert len(books.open) <= 2 * opened.OPEN_A_ROW
            assert {number for _, number in rows.rows} == {PAGE_ROWS + page.row for page in books.pages}
        assert len(entries) == len(plain)
        assert next_settling(books) == (plain[0].settles if plain else 0)
        if step % 10:
            continue
        assert list(entries) == plain
        probe: OpenMoment = (rng.randrange(step + 2), "", "")
        assert list(entries.since(probe)) == [i for i in plain if i.moment >= probe]
        assert list(entries.before(probe)) == [i for i in reversed(plain) if i.moment < probe]
        assert entries.get(probe) is None
        assert all(entries.get(i.moment) == i for i in islice(plain, 0, None, 7))
    assert max(len(rows.rows), 3) > 2, "there were pages"


@pytest.mark.parametrize("seed", range(8))
def test_ranks_go_on_from_anywhere(seed: int) -> None:
    """Ranked one by one from the start, or from any entry on, over what has settled before: the same."""
    rng = random.Random(seed)
    rules = FraudRules(same_ip=0, burst=rng.choice((0, 1, 3)), burst_ms=10 * HOUR)
    friends = program(cap=rng.choice((Decimal(0), Decimal(100))), cap_period="day", fraud=rules)
    items = [
        item(
            number * rng.choice((1, 20, 90)) * MINUTE,
            str(number),
            program=rng.choice(("friends", "friends", "partners")),
            level=rng.choice((0, 1, 1, 2)),
            currency=rng.choice(("EUR", "EUR", "USD", "KWD")),
            wish=rng.choice((Decimal(0), Decimal(7), Decimal("33.33"))),
        )
        for number in range(40)
    ]
    items.sort(key=lambda i: i.moment)
    mine = [i for i in items if i.program == "friends" and i.wish]
    whole = Ranking(friends, EXCHANGE, Ranks(), ())
    expected = [whole.rank(i, 0) for i in mine]
    assert any(holds for _, holds in expected) or not rules.burst
    for start in range(len(items)):
        ranks = Ranks()
        gone = rng.randrange(start + 1)
        for old in items[:gone]:
            if old.program == "friends":
                settled(ranks, old, friends)
        rest = [i for i in items[start:] if i in mine]
        if rest:
            resumed = Ranking(friends, EXCHANGE, ranks, reversed(items[gone:start]))
            assert [resumed.rank(i, 0) for i in rest] == expected[len(mine) - len(rest) :]


@pytest.mark.parametrize("seed", range(12))
def test_books_are_the_same_however_few_entries_a_row_holds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, happenings = life(seed, 60)
    happenings = with_money(seed, made, happenings)
    whole = live(made, happenings)
    monkeypatch.setattr(opened, "OPEN_A_ROW", 1)
    for variant in range(2):
        paged = live(made, happenings, delays=random.Random(f"{seed}/{variant}"), mix=variant)
        check_books(paged)
        assert paged.last() == whole.last()
        assert refusals(paged) == refusals(whole)
        assert customers(paged) == customers(whole)
    assert any(net_pages(paged)), "pages were used"


@pytest.mark.parametrize("seed", range(20))
def test_within_grace_ranks_do_not_depend_on_what_was_heard_first(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many purchases in one hour through one referrer, heard in order, or in any order, corrected and taken back."""
    monkeypatch.setattr(opened, "OPEN_A_ROW", 3)
    rng = random.Random(seed)
    rules = FraudRules(same_ip=rng.choice((0, 1, 3)), burst=rng.choice((0, 0, 2)), burst_ms=5 * MINUTE)
    cap = rng.choice((Decimal(0), Decimal(60)))
    made = [program(levels=("10%",), fraud=rules, cap=cap, cap_period="total")]
    sales = []
    for number, minute in enumerate(sorted(rng.randrange(50) for _ in range(25))):
        fields = {"ip": f"198.51.100.{rng.randrange(4)}", "via": ("anna", HOUR), "event_id": f"p{number}"}
        told = [
            bought(2 * HOUR + at * MINUTE, f"c{number}", rng.choice(("50", "99.90", "120")), **fields)  # type: ignore[arg-type]
            for at in (minute, *([rng.randrange(50)] if rng.random() < 0.2 else []))
        ]
        sales.append([*told, unbought(told[0])] if rng.random() < 0.2 else told)

    def heard(orders: random.Random | None) -> Net:
        net = Net(*made)
        net.send(enrolled(0, "anna", "ANNA"))
        net.pass_time(T0 + 2 * HOUR + 50 * MINUTE)
        letters = [list(told[-1:]) if orders is None else list(told) for told in sales]
        letters.sort(key=lambda told: told[-1][-1])
        while any(letters):
            waiting = [told for told in letters if told]
            net.send((orders.choice(waiting) if orders is not None else waiting[0]).pop(0))
        if orders is None or orders.random() < 0.5:
            net.pass_time(T0 + 4 * HOUR)
        check_books(net)
        return net

    in_order, reasons = heard(None), set()
    in_order.pass_time(T0 + 4 * HOUR)
    for variant in range(3):
        net = heard(random.Random(f"{seed}/{variant}"))
        net.pass_time(T0 + 4 * HOUR)
        assert net.last() == in_order.last()
    for record in in_order.last().values():
        reasons.update(record["reasons"])
    assert reasons >= {"capped"} or not cap
    assert reasons >= {"burst"} or not rules.burst


def net_pages(net: Net) -> list[int]:
    """Rows of pages that are left, and those that there were."""
    return [net.person(key.decode()).books.next_row for name, key in net.saved if name == "people"]


def written(net: Net, record: object) -> int:
    """Bytes that one more purchase makes a referrer, and the buyer, write."""
    before, rows = net.saved["people", KEY], net.rows["people"].written
    net.send(record)  # type: ignore[arg-type]
    assert net.saved["people", KEY] != before
    return net.rows["people"].written - rows + len(net.saved["people", KEY])


def test_a_referrer_of_thousands_writes_no_more_for_one_than_a_referrer_of_few() -> None:
    """In order or late, within grace; with a rule that looks back at others."""
    net = Net(program(levels=("10%",), fraud=FraudRules(same_ip=3, burst=5, burst_ms=1_000)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)

    def purchases(first: int, count: int) -> list[object]:
        return [
            bought(3 * HOUR + n * 1_000, f"c{n}", "10", via=("anna", 2 * HOUR), ip=f"198.51.{n // 200}.{n % 200}")
            for n in range(first, first + count)
        ]

    net.send(*purchases(0, 100))  # type: ignore[arg-type]
    few = written(net, purchases(100, 1)[0])
    net.send(*purchases(101, 1_500))  # type: ignore[arg-type]
    assert len(OpenEntries(net.person("anna").books, KEY, net.rows["people"])) == 1_601
    assert written(net, purchases(1_601, 1)[0]) < 2 * few
    late = bought(3 * HOUR + 1_590_500, "late", "10", via=("anna", 2 * HOUR))
    assert written(net, late) < 3 * few
    net.pass_time(T0 + 3 * HOUR + GRACE + MINUTE + 500_000)
    assert 1_000 < len(OpenEntries(net.person("anna").books, KEY, net.rows["people"])) < 1_200
    check_books(net)


def test_beyond_the_most_that_may_be_open_the_oldest_are_booked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.processors.people.books.bookkeeper.MAX_OPEN", 150)
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 3 * HOUR)
    net.send(*(bought(3 * HOUR + n, f"c{n}", "10", via=("anna", 2 * HOUR)) for n in range(200)))
    books = net.person("anna").books
    still = list(OpenEntries(books, KEY, net.rows["people"]))
    assert [i.at - T0 - 3 * HOUR for i in still] == list(range(50, 200))
    assert net.counts["referral_caps"] == 1
    assert len(net.rewards) == 200
    check_books(net)
