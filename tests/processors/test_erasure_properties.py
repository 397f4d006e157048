"""Erasure over generated lives of programmes: whoever is forgotten, whenever, changes nobody's money.

`STREAM_APP_LIVES=10000` runs so many instead of the default."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest

from tests.processors.referral_lives import PEOPLE, PROGRAMS, Happening, life, live, with_leads, with_money
from tests.processors.referral_net import DAY, MINUTE, Net, pseudonym_of
from tests.processors.test_referrals_properties import check_books, customers, in_other_orders

pytestmark = pytest.mark.slow

LIVES = int(os.environ.get("STREAM_APP_LIVES", "30"))
CHUNK = 10
PARTS = [range(start, min(start + CHUNK, LIVES)) for start in range(0, LIVES, CHUNK)]
ALSO = ("", "-lead", "-guest")
"""Ends of the names of a user's clients."""


def erasures(seed: int, most: int = 5) -> dict[str, int]:
    """Who is erased, and when. Some at the same moment, as a clearing out would do it."""
    rng = random.Random(f"erase {seed}")
    who = rng.sample(PEOPLE, rng.randrange(1, most + 1))
    days = (3, 8, 60)
    together = rng.randrange(0, rng.choice(days) * DAY // MINUTE) * MINUTE
    return {
        name: together if rng.random() < 0.5 else rng.randrange(0, rng.choice(days) * DAY // MINUTE) * MINUTE
        for name in who
    }


def without_later(happenings: list[Happening], erased: dict[str, int]) -> list[Happening]:
    """The life without what the erased themselves do afterwards, and without their contacts in others' hands."""
    sales = {h.id: h for h in happenings if h.what == "buy"}

    def own(happening: Happening) -> Happening:
        """What they buy, they buy with no address but their own: addresses are forgotten with whoever used them."""
        user, mail = happening.fields.get("user", ""), happening.fields.get("email", "")
        if user in erased and mail and not mail.startswith(user):
            return happening._replace(fields={**happening.fields, "email": ""})
        return happening

    def belongs(happening: Happening) -> bool:
        of = sales.get(happening.fields.get("of", ""), happening)
        if happening.at > erased.get(of.fields["user"], happening.at):
            return False
        mail = str(happening.fields.get("email", "")).partition("@")[0]
        return happening.at <= erased.get(mail, happening.at)

    return [own(h) for h in happenings if belongs(h)]


def with_erasures(happenings: list[Happening], erased: dict[str, int]) -> list[Happening]:
    made = [Happening(at, f"gone-{PEOPLE.index(user)}", "erased", {"user": user}) for user, at in erased.items()]
    return sorted([*happenings, *made], key=lambda h: (h.at, h.id))


def with_departures(happenings: list[Happening], erased: dict[str, int], programs: list[str]) -> list[Happening]:
    """The same people only leave."""
    made = [
        Happening(at, f"gone-{PEOPLE.index(user)}", "left", {"user": user, "program": program})
        for user, at in erased.items()
        for program in programs
    ]
    # `left` is a duplicate by its id: one for each programme needs one of its own
    made = [h._replace(id=f"{h.id}-{h.fields['program']}") for h in made]
    return sorted([*happenings, *made], key=lambda h: (h.at, h.id))


def by_meaning(net: Net, erased: dict[str, int]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Records by what they are about, under the names that people had."""
    names = {}
    for user in erased:
        names[pseudonym_of(user.encode())] = user
        for also in ALSO:
            names[pseudonym_of(f"\x1fc-{user}{also}".encode()).lstrip("\x1f")] = f"c-{user}{also}"
    found = {}
    for name, record in net.last().items():
        record = {**record, "user_id": names.get(record["user_id"], record["user_id"])}
        record["referred_user"] = names.get(record["referred_user"], record["referred_user"])
        del record["id"]
        of = name.partition("-r")[2]
        found[record["program"], record["conversion_id"], record["level"], record["user_id"], of] = record
    return found


def names_left(net: Net, erased: dict[str, int]) -> list[str]:
    """Where the names of the erased are still to be found: keys, states, rows."""
    kept = [(place, name + key, payload) for place, ((name, key), payload) in enumerate(_saved(net))]
    rows = [
        (at, key, payload) for part in net.rows.values() for at, ((key, _), payload) in enumerate(part.rows.items())
    ]
    return [
        f"{user} in {key!r}: {payload!r}"
        for user in erased
        for _, key, payload in (*kept, *rows)
        if user.encode() in key + payload
    ]


def _saved(net: Net) -> list[tuple[tuple[bytes, bytes], bytes]]:
    return [((name.encode() + b"/", key), payload) for (name, key), payload in net.saved.items()]


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_an_erasure_is_the_same_in_any_order_within_grace(seeds: range, leads: bool) -> None:
    for seed in seeds:
        made, happenings = with_leads(seed, *life(seed)) if leads else life(seed)
        erased = erasures(seed)
        lived = without_later(with_money(seed, made, happenings), erased)
        lived = with_erasures(lived, erased)
        in_order = live(made, lived)
        check_books(in_order)
        assert names_left(in_order, erased) == [], f"life {seed}"
        for variant, other in enumerate(in_other_orders(seed, made, lived, in_order)):
            assert names_left(other, erased) == [], f"life {seed}, variant {variant}"


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_an_erasure_changes_nobodys_money(seeds: range, leads: bool) -> None:
    """Against the same life in which those people only leave: amounts, dates and counters are the same, and so is
    everything of everybody else; also when their leads go on."""
    for seed in seeds:
        made, happenings = with_leads(seed, *life(seed)) if leads else life(seed)
        erased = erasures(seed)
        lived = without_later(with_money(seed, made, happenings), erased)
        forgotten = live(made, with_erasures(lived, erased))
        left = live(made, with_departures(lived, erased, list(PROGRAMS)))
        compare(by_meaning(forgotten, erased), by_meaning(left, erased), erased, f"life {seed}")
        assert customers(forgotten) == customers(left), f"life {seed}"
        assert +forgotten.tally.added == +left.tally.added, f"life {seed}"
        for place in forgotten.tally.sums.keys() | left.tally.sums.keys():
            if place[1] in {"earned", "paid", "refunded"}:
                assert forgotten.tally.sums.get(place, 0) == left.tally.sums.get(place, 0), (seed, place)


def compare(
    forgotten: dict[tuple[Any, ...], dict[str, Any]],
    left: dict[tuple[Any, ...], dict[str, Any]],
    erased: dict[str, int],
    where: str,
) -> None:
    gone = {*erased, *(f"c-{user}{also}" for user in erased for also in ALSO)}
    for name, record in list(left.items()):
        if record["user_id"] in gone and record["status"] == "rejected" and name not in forgotten:
            assert "own_code" in record["reasons"], where  # by what is forgotten; they are owed nothing anyway
            del left[name]
    assert forgotten.keys() == left.keys(), where
    for name, record in forgotten.items():
        other = left[name]
        if record["user_id"] in gone and record["status"] == "on_hold":
            assert record["reasons"][-1] == "erased", where
            assert record["due_at"] is None, where
            assert other["status"] in {"on_hold", "approved", "rejected"}, where
            for field in ("status", "reasons", "due_at"):
                record[field] = other[field]
        elif record["status"] == "refunded" or (record["user_id"] in gone and record["status"] == "rejected"):
            for field in ("status", "reasons", "due_at"):
                record[field] = other[field]
            assert other["status"] in {"refunded", "rejected"}, where
        assert record == other, (where, name)


def test_lives_with_erasures_are_worth_looking_at() -> None:
    seen: Counter[str] = Counter()
    for seed in range(30):
        made, happenings = life(seed)
        erased = erasures(seed)
        net = live(made, with_erasures(without_later(with_money(seed, made, happenings), erased), erased))
        for record in net.last().values():
            who = "erased" if record["user_id"].startswith("erased-") else "other"
            whose = "erased" if record["referred_user"].startswith("erased-") else "other"
            seen[f"{who} paid for {whose} at {record['level']}"] += 1
            if who == "erased":
                seen[record["status"]] += 1
        seen.update(reason for reason, _ in net.rejected)
        seen["together"] += len(set(erased.values())) < len(erased)
    for name in ("erased paid for other", "other paid for erased", "erased paid for erased"):
        for level in (1, 2):  # of three levels: stories, test_erasure.py
            assert seen[f"{name} at {level}"], seen
    assert all(seen[status] for status in ("on_hold", "paid", "rejected", "refunded")), seen
    assert seen["payout_mismatch"], seen
    assert seen["together"], seen
