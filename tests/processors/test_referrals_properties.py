"""The books as properties: over generated lives of programmes, whatever the order in which they are heard of.

`STREAM_APP_LIVES=10000` runs so many instead of the default."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from stream_app.domain.referral.ledger import Sums, sums_of
from stream_app.domain.referral.programs import Program
from tests.processors.referral_lives import (
    Happening,
    life,
    live,
    on_shared_clients,
    with_amendments,
    with_leads,
    with_money,
    with_moves,
)
from tests.processors.referral_net import Net

pytestmark = pytest.mark.slow

LIVES = int(os.environ.get("STREAM_APP_LIVES", "40"))
CHUNK = 10
Life = tuple[list[Program], list[Happening]]
PARTS = [range(start, min(start + CHUNK, LIVES)) for start in range(0, LIVES, CHUNK)]


def check_books(net: Net) -> None:
    """What must hold of any books at any time."""
    last = net.last()
    seen = Counter((r["program"], r["conversion_id"], r["level"]) for name, r in last.items() if "-r" not in name)
    assert not seen or max(seen.values()) == 1, "one reward for each programme, conversion and level"
    total: dict[tuple[str, str], Decimal] = {}
    for key in [key for name, key in net.saved if name == "people"]:
        person = net.person(key.decode())
        found: dict[str, Sums] = {}
        for (owner, number), payload in net.rows["people"].rows.items():
            if owner == key and number < 1 << 29:
                for entry in _entries(payload):
                    if entry.currency and (entry.due or entry.reasons):
                        before = found.get(entry.currency, Sums())
                        found[entry.currency] = before.moved(Sums(), sums_of(entry))
        for currency, sums in person.books.sums.items():
            assert sums.balanced, (key, currency, sums)
            assert sums == found.get(currency, Sums()), (key, currency, "sums are those of the rows")
            clawed = sum(
                (
                    min(Decimal(r["amount"]), Decimal(0))
                    for name, r in last.items()
                    if "-r" in name and r["user_id"] == key.decode().lstrip("\x1f") and r["currency"] == currency
                ),
                Decimal(0),
            )
            assert sums.approved >= clawed, "never below what was clawed back"
            for name in Sums.__struct_fields__:
                place = currency, name
                total[place] = total.get(place, Decimal(0)) + getattr(sums, name)
    for place, amount in net.tally.sums.items():
        assert amount == total.get(place, Decimal(0)), (place, "counters are the sum of the books")
    for name in ("pending", "on_hold", "approved", "paid", "rejected"):
        for currency in {currency for currency, _ in total}:
            shown = sum(
                (Decimal(r["amount"]) for r in last.values() if r["status"] == name and r["currency"] == currency),
                Decimal(0),
            )
            assert shown == total[currency, name], (name, currency, "records are what the books say")


def refusals(net: Net) -> list[tuple[str, str]]:
    """What was refused; a code's loser only becomes a dead letter when heard of after the winner (decision 18)."""
    return sorted(refusal for refusal in net.rejected if refusal[0] != "code_taken")


def customers(net: Net) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str, str], Decimal]]:
    """What cohorts are made of."""
    figures = {place: n for place, n in net.tally.figures.items() if n}
    return figures, {place: amount for place, amount in net.tally.brought.items() if amount}


def _entries(payload: bytes):  # type: ignore[no-untyped-def]
    import msgspec

    from stream_app.domain.referral.ledger import Entry

    return msgspec.msgpack.decode(payload, type=list[Entry])


def in_other_orders(seed: int, made: list[Program], happenings: list[Happening], in_order: Net) -> Iterator[Net]:
    """The life heard in two other orders within grace, each checked to have come to the same."""
    for variant in range(2):
        delays = random.Random(f"{seed}/{variant}")
        other = live(made, happenings, delays=delays, mix=variant, overlap=bool(variant))
        check_books(other)
        assert other.last() == in_order.last(), f"life {seed}, variant {variant}"
        assert refusals(other) == refusals(in_order), f"life {seed}, variant {variant}"
        assert customers(other) == customers(in_order), f"life {seed}, variant {variant}"
        yield other


def plain(_seed: int, made: list[Program], happenings: list[Happening]) -> Life:
    return made, happenings


def shared(seed: int, made: list[Program], happenings: list[Happening]) -> Life:
    """Who is known to be whom, since when, and with whose address, is as late as everything else."""
    return made, on_shared_clients(seed, happenings)


def moving(seed: int, made: list[Program], happenings: list[Happening]) -> Life:
    """Whose a purchase is changes, to and fro."""
    return made, with_moves(seed, happenings)


@pytest.mark.parametrize("kind", [plain, shared, with_leads, with_amendments, moving])
@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_any_order_within_grace_gives_the_same_books(seeds: range, kind: Callable[..., Life]) -> None:
    """Rewards, payouts and sums are those of the life heard in order, whatever is late and whoever overtakes whom."""
    for seed in seeds:
        made, happenings = kind(seed, *life(seed))
        happenings = with_money(seed, made, happenings)
        in_order = live(made, happenings)
        check_books(in_order)
        for _ in in_other_orders(seed, made, happenings, in_order):
            pass


@pytest.mark.parametrize(("seed", "size", "variant"), [(511, 36, 1), (1287, 36, 0), (10_095, 70, 0)])
def test_who_becomes_known_after_a_purchase_was_nobody_known_before(seed: int, size: int, variant: int) -> None:
    """Lives in which a client's binding counted for its user's purchases before the link if that was heard early."""
    made, happenings = life(seed, size)
    happenings = with_money(seed, made, happenings)
    in_order = live(made, happenings)
    other = live(made, happenings, delays=random.Random(f"{seed}/{variant}"), mix=variant)
    check_books(other)
    assert other.last() == in_order.last()
    assert refusals(other) == refusals(in_order)
    assert customers(other) == customers(in_order)


@pytest.mark.parametrize(("seed", "size", "variant"), [(1190, 36, 1), (10_382, 70, 0)])
def test_what_one_referrer_takes_back_another_may_have_told_since(seed: int, size: int, variant: int) -> None:
    """A late event moves the first level from one to another who have the same referrer: what the one takes back comes
    behind what the other tells. Two lives in which that happens; the reward at the second level was lost in them."""
    made, happenings = life(seed, size)
    happenings = with_money(seed, made, happenings)
    other = live(made, happenings, delays=random.Random(f"{seed}/{variant}"), mix=variant)
    check_books(other)
    assert other.last() == live(made, happenings).last()


def test_lives_are_worth_looking_at() -> None:
    """Every status, reason and kind of clawback comes up."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    levels: Counter[object] = Counter()
    rejected: Counter[str] = Counter()
    for seed in range(40):
        made, happenings = life(seed)
        net = live(made, with_money(seed, made, happenings))
        for name, record in net.last().items():
            statuses[record["status"]] += 1
            statuses["clawback"] += "-r" in name
            reasons.update(record["reasons"])
            levels[record["level"]] += 1
        rejected.update(reason for reason, _ in net.rejected)
    assert set(statuses) == {"approved", "paid", "refunded", "rejected", "clawback"}, statuses
    assert min(statuses.values()) >= 3, statuses
    for reason in (
        "same_ip",
        "burst",
        "capped",
        "own_code",
        "existing_customer",
        "already_referred",
        "deadline",
        "no_rate",
    ):
        assert reasons[reason], reasons
    assert all(levels[level] for level in (None, 1, 2, 3)), levels
    assert rejected["payout_mismatch"], rejected
    assert rejected["code_taken"], rejected
