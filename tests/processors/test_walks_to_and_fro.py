"""A conversion, or the levels beneath, moves from one to another and back while letters are on their way.

Whoever tells of it does so in order, but the letters of two tellers come in any order, and any number in one commit.
All of these orders are gone through: in the end what the last teller said stands, and nothing that was taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from decimal import Decimal
from itertools import combinations, product

import pytest

from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral.facts import RENAMED, WALK, Purchase, Walk
from stream_app.domain.referral.ledger import reward_id
from stream_app.processors.facts import Letter, encode_body
from tests.processors.referral_lives import life, live, with_money
from tests.processors.referral_net import DAY, HOUR, MINUTE, T0, Commit, Net, bought, enrolled, program, unbought
from tests.processors.test_erasure import erase, known_as
from tests.processors.test_referrals import family
from tests.processors.test_referrals_properties import check_books, in_other_orders, moving

AT = 3 * DAY
Said = tuple[str, int]
"""Who says it, and what the conversion is worth; 0: it is taken back."""


def tellers(truth: str) -> dict[str, list[Said]]:
    """What each says while the conversion is theirs by turns: `ab-a` is a's, then b's, then nobody's, then a's."""
    said: dict[str, list[Said]] = {name: [] for name in sorted({*truth} - {"-"})}
    for number, (before, now) in enumerate(zip(" " + truth, truth, strict=False), 1):
        if before in said and before != now:
            said[before].append((before, 0))
        if now in said:
            said[now].append((now, 100 * number))
    return said


def merged(sequences: Sequence[list[Said]]) -> Iterator[list[Said]]:
    """All orders in which each sequence keeps its own."""
    if len(sequences) == 1:
        yield sequences[0]
        return
    first, *others = sequences
    for rest in merged(others):
        for places in combinations(range(len(first) + len(rest)), len(first)):
            one, other = iter(first), iter(rest)
            yield [next(one if place in places else other) for place in range(len(first) + len(rest))]


def batches(letters: list[Said]) -> Iterator[list[list[Said]]]:
    """All ways to cut them into commits."""
    for cuts in product((False, True), repeat=len(letters) - 1):
        found = [[letters[0]]]
        for letter, cut in zip(letters[1:], cuts, strict=True):
            if cut:
                found.append([])
            found[-1].append(letter)
        yield found


def told(said: Said, level: int) -> tuple[str, bytes, bytes, int]:
    """A letter to Xenia about the conversion: by its buyer, or by the referrer who is one level below."""
    teller, worth = said
    name = reward_id("friends", "conv", level, "xenia")
    if not worth:
        return WALK, b"xenia", encode_body(Letter(f"{name}{SEPARATOR}{teller}", None)), T0 + AT
    purchase = Purchase(T0 + AT, "buy", "purchase", value=Decimal(worth), currency="EUR", paid=True)
    buyer, chain = (teller, ()) if level == 1 else ("buyer", (teller,))
    walk = Walk("friends", level, "conv", purchase, buyer, "k", chain[0] if chain else "xenia", T0, True, chain)
    return WALK, b"xenia", encode_body(Letter(name, walk)), T0 + AT


def start() -> Net:
    """Yves referred Xenia."""
    net = Net(program(levels=("10%", "10%", "10%")))
    net.send(enrolled(0, "xenia", "X"), enrolled(0, "yves", "Y"))
    net.send(bought(HOUR, "c-xenia", "0.01", user="xenia", via=("y", HOUR)))
    net.pass_time(T0 + AT)
    return net


def again(base: Net) -> Net:
    """The same as it was; what processors share that does not change is shared."""
    shared = {id(processor): processor for processor in base.processors}
    net = copy(base)
    for name, value in vars(base).items():
        if name not in {"programs", "processors", "by_kind", "tally"}:
            setattr(net, name, deepcopy(value, shared))
    net.tally.__init__()  # type: ignore[misc]
    return net


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("settled", [False, True], ids=["open", "booked"])
@pytest.mark.parametrize("truth", ["ab", "aab", "aba", "aba-", "ab-a", "abab", "abc"])
def test_in_the_end_the_last_teller_is_right(truth: str, level: int, settled: bool) -> None:
    """And so is everybody above. Also if the reward was booked when the letters came: what it brings then is what it
    was booked with, by whoever told first, or nothing."""
    base = start()
    worth = 100 * len(truth) if truth[-1] != "-" else 0
    tried = 0
    for letters in merged(list(tellers(truth).values())):
        for commits in batches(letters):
            if settled and len(commits) < 2:
                continue
            net = again(base)
            for number, commit in enumerate(commits):
                if settled and number == 1:
                    net.pass_time(T0 + AT + HOUR + 2 * MINUTE)
                net.send(*(told(said, level) for said in commit))
            net.pass_time(T0 + 5 * DAY)
            amounts = [(r["user_id"], r["amount"]) for r in net.last().values() if r["conversion_id"] == "conv"]
            paid = sorted(name for name, amount in amounts if amount != "0.00")
            assert paid == (["xenia", "yves"] if worth else []), commits
            if not settled:
                assert {amount for _, amount in amounts} == ({f"{worth / 10:.2f}"} if worth else set()), commits
            check_books(net)
            tried += 1
    assert tried


@pytest.mark.parametrize("who", ["petr", "olga", "misha"])
def test_whoever_goes_by_a_new_name_takes_back_what_they_told_by_the_old_one(who: str) -> None:
    """Those above know the old name only, and believe them: nobody else tells of it any more."""
    net = Net(program())
    family(net)
    net.pass_time(T0 + 10 * DAY)
    assert [r[:3] for r in net.rewards] == [("olga", 1, "100.00"), ("misha", 2, "50.00"), ("anna", 3, "20.00")]
    net.send(erase(10 * DAY, who))
    net.pass_time(T0 + 12 * DAY)
    key = known_as(who).encode() if who == "petr" else b"petr"
    sale = bought(3 * DAY + HOUR, "c-petr", user="petr", via=("olga", 3 * DAY))
    net.send((unbought(sale)[0], key, *unbought(sale)[2:3], net.now))
    assert {r[2] for r in net.rewards} == {"0.00"}, net.rewards
    check_books(net)


def test_what_the_old_name_told_is_taken_back_by_the_new_one_also_if_nobody_has_heard_that() -> None:
    """A purchase is gone before its buyer hears that who referred them has another name, and tells that on."""
    net = Net(program())
    family(net)
    net.pass_time(T0 + 10 * DAY)
    net.send(erase(10 * DAY, "olga"))
    gone = unbought(bought(3 * DAY + HOUR, "c-petr", user="petr", via=("olga", 3 * DAY)))
    forward, sent = Commit.forward, []

    def first(self: Commit, kind: str, key: bytes, value: bytes) -> None:
        """Petr hears that it is gone before the new name."""
        if (kind, key) == (RENAMED, b"petr") and not sent:
            sent.append(kind)
            forward(self, gone[0], b"petr", gone[2])
        forward(self, kind, key, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Commit, "forward", first)
        net.pass_time(T0 + 12 * DAY)
    assert sent
    assert {r[2] for r in net.rewards} == {"0.00"}, net.rewards
    check_books(net)


@pytest.mark.parametrize("who", ["olga", "misha", "anna"])
def test_what_was_taken_back_is_not_told_to_a_new_name(who: str) -> None:
    """Whoever is erased after that stays without a reward, and so do those above."""
    net = Net(program())
    family(net)
    net.pass_time(T0 + 10 * DAY)
    net.send(unbought(bought(3 * DAY + HOUR, "c-petr", user="petr", via=("olga", 3 * DAY))))
    net.send(erase(10 * DAY, who))
    net.pass_time(T0 + 12 * DAY)
    assert {r[2] for r in net.rewards} == {"0.00"}, net.rewards
    check_books(net)


def test_whoever_goes_by_a_new_name_keeps_what_the_last_teller_said() -> None:
    """Who else has told of it would not find them any more to take it back, so that counts no more."""
    net = start()
    net.send(told(("a", 100), 1))
    net.send(told(("b", 200), 1))
    net.send(erase(AT + MINUTE, "xenia"))
    net.pass_time(T0 + AT + DAY)
    assert [r[2] for r in net.rewards if r[0] == known_as("xenia")] == ["0.00"], "b is asked, and knows nothing of it"


@pytest.mark.parametrize("seed", [263])
def test_a_life_in_which_two_were_rewarded_for_one_purchase(seed: int) -> None:
    """Its buyer changed to and fro."""
    made, happenings = moving(seed, *life(seed))
    happenings = with_money(seed, made, happenings)
    for _ in in_other_orders(seed, made, happenings, live(made, happenings)):
        pass
