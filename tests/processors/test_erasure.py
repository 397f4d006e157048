"""Who is forgotten, and what becomes of the money: stories through codes and people."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest

from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.lead_events import LeadFact
from stream_app.domain.referral.codes import marks_of
from stream_app.domain.referral.facts import ABREAST, LEAD_OWNER, WALK, Abreast, Walk
from stream_app.domain.referral.programs import Rate, ReferredReward
from stream_app.engine.partitioning import partition_of
from stream_app.processors.codes import CODE_KEY, Register
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.lead_facts import LEAD_FACT
from stream_app.processors.people.abreast import answer, task_keys
from tests.processors import referral_net
from tests.processors.referral_net import (
    DAY,
    HASHER,
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
    pseudonym_of,
    visited,
)
from tests.processors.test_referrals import family
from tests.processors.test_referrals_properties import check_books

DONE = 2 * (HOUR + MINUTE)
"""How long after its time an erasure is carried out."""
WELCOME = ReferredReward("fixed", Rate.parse("7.00"))


def erase(at: int, user: str, **fields: Any) -> Any:
    """As it is sent: it names no programme."""
    kind, key, value, ts = event(at, user, "erased", **fields)
    record = {name: told for name, told in msgspec.json.decode(value).items() if name != "program"}
    return kind, key, msgspec.json.encode(record), ts


def known_as(user: str) -> str:
    return pseudonym_of(user.encode())


def referred(net: Net) -> set[str]:
    return {record["referred_user"] for record in net.last().values()}


@pytest.mark.parametrize("who", ["anna", "misha", "olga", "petr"])
def test_whoever_of_a_family_is_erased_nobody_else_is_paid_otherwise(who: str) -> None:
    """What they had is held under another name, and a refund months later still goes all the way up."""
    net = Net(program(referred=WELCOME))
    family(net)
    net.send(erase(4 * DAY, who))
    net.pass_time(T0 + 4 * DAY + DONE - 1)
    assert known_as(who) not in {user for user, *_ in net.rewards}
    net.pass_time(T0 + 4 * DAY + DONE)
    name = {"anna": "anna", "misha": "misha", "olga": "olga", "petr": "petr"} | {who: known_as(who)}
    status = {**dict.fromkeys(name, "pending"), who: "on_hold"}
    parts = (("petr", 0, "7.00"), ("olga", 1, "100.00"), ("misha", 2, "50.00"), ("anna", 3, "20.00"))
    assert net.rewards == [(name[user], level, amount, status[user]) for user, level, amount in parts]
    assert referred(net) == {name["petr"]}
    net.pass_time(T0 + 100 * DAY)
    status = {**dict.fromkeys(name, "approved"), who: "on_hold"}
    assert net.rewards == [(name[user], level, amount, status[user]) for user, level, amount in parts]
    check_books(net)
    if who != "petr":
        net.send(bought(3 * DAY + HOUR, "c-petr", user="petr", via=("olga", 3 * DAY), refunds=[("r", 90 * DAY, "400")]))
        assert net.rewards[1:] == [
            (name["olga"], 1, "60.00", status["olga"]),
            (name["misha"], 2, "30.00", status["misha"]),
            (name["anna"], 3, "12.00", status["anna"]),
        ]
        check_books(net)


def test_the_next_purchase_still_pays_whoever_stands_above_the_erased() -> None:
    """Their own share is paid to nobody: they have left (semantics 42)."""
    net = Net(program())
    family(net)
    net.send(erase(4 * DAY, "olga"))
    net.pass_time(T0 + 10 * DAY)
    net.send(bought(10 * DAY, "c-petr", "100", user="petr", event_id="again"))
    rewards = {(r["user_id"], r["level"]): r["amount"] for r in net.last().values() if "again" in r["conversion_id"]}
    assert rewards == {("misha", 2): "5.00", ("anna", 3): "2.00"}
    check_books(net)


def test_what_was_paid_stays_paid_and_what_was_not_is_held_for_ever() -> None:
    """No deadline decides it, no payout takes it, nobody approves it; writing it off is all that is left."""
    net = Net(program(levels=("10%",), review_ms=2 * DAY, holding_ms=DAY))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 2 * HOUR)
    net.send(bought(2 * HOUR, "c-1", "100", via=("anna", HOUR)))
    net.pass_time(T0 + 3 * DAY)
    net.send(event(3 * DAY, "anna", "payout", amount="10.00"))
    net.pass_time(T0 + 4 * DAY)
    net.send(bought(4 * DAY, "c-2", "200", via=("anna", HOUR)))  # approved by then
    net.pass_time(T0 + 6 * DAY)
    net.send(bought(6 * DAY, "c-3", "300", via=("anna", HOUR)))  # pending
    net.pass_time(T0 + 6 * DAY + HOUR)
    net.send(erase(6 * DAY + HOUR, "anna"))
    net.send(event(6 * DAY + 90 * MINUTE, "anna", "payout", amount="20.00"))
    net.pass_time(T0 + 100 * DAY)
    anna = known_as("anna")
    held = [(anna, 1, "20.00", "on_hold"), (anna, 1, "30.00", "on_hold")]
    assert net.rewards == [(anna, 1, "10.00", "paid"), *held]
    assert net.rejected == [("payout_mismatch", "user_id: was erased before")]
    (reward,) = [record for record in net.last().values() if record["amount"] == "20.00"]
    assert (reward["reasons"], reward["due_at"]) == (["erased"], None)
    net.send(event(100 * DAY, anna, "payout", amount="20.00"))
    net.send(event(100 * DAY + HOUR, anna, "approve", reward_id=reward["id"]))
    net.pass_time(T0 + 101 * DAY)
    assert [reason for reason, _ in net.rejected[1:]] == ["payout_mismatch", "bad_field"]
    assert net.rewards[1:] == held
    net.send(event(102 * DAY, anna, "reject", reward_id=reward["id"]))
    net.pass_time(T0 + 103 * DAY)
    assert [status for *_, status in net.rewards] == ["paid", "rejected", "on_hold"]
    check_books(net)


@pytest.mark.parametrize("decided", ["approve", "reject"])
def test_what_was_not_decided_by_then_is_not_decided_by_a_leap_of_time(decided: str) -> None:
    """The erasure and the deadline after it are both long past in one commit: the erasure was first."""
    net = Net(program(levels=("10%",), review_ms=2 * DAY, on_deadline=decided))
    net.send(enrolled(0, "anna", "ANNA", name="Anna Berzina"))
    net.pass_time(T0 + 3 * DAY)
    net.send(bought(3 * DAY, "c-1", "100", via=("anna", HOUR), name="Berzina Anna"))
    net.pass_time(T0 + 4 * DAY)
    net.send(erase(4 * DAY, "anna"))
    net.send(enrolled(30 * DAY, "zoe", "ZOE"))
    net.pass_time(T0 + 60 * DAY)
    (reward,) = net.last().values()
    assert (reward["status"], reward["reasons"]) == ("on_hold", ["similar_name", "erased"])
    check_books(net)


def test_a_conversion_from_before_that_arrives_much_later_is_held_as_well() -> None:
    """It counts as of its time, at which the person was in the programme."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 2 * HOUR)
    net.send(bought(2 * HOUR, "c-1", "100", user="boris", via=("anna", HOUR)))
    net.send(erase(DAY, "anna"))
    net.pass_time(T0 + 5 * DAY)
    kind, key, value, _ = bought(3 * HOUR, "c-1", "200", user="boris")
    net.send((kind, key, value, net.now))
    late = [(known_as("anna"), 1, "10.00", "on_hold"), (known_as("anna"), 1, "20.00", "on_hold")]
    assert net.rewards == late
    net.pass_time(T0 + 90 * DAY)
    assert net.rewards == late
    assert [record["reasons"] for record in net.last().values()] == [["erased"]] * 2
    check_books(net)


def test_old_ids_are_taken_back_without_a_name() -> None:
    """Each once, in a commit in which nothing else is said of it, and in the partition in which it always was."""
    net = Net(program(referred=WELCOME))
    family(net)
    before = {name: record for name, record in net.last().items() if record["user_id"] in {"olga", "petr"}}
    net.send(erase(4 * DAY, "olga"), erase(4 * DAY, "petr"))
    net.pass_time(T0 + 5 * DAY)
    last = {record["id"]: record for record in net.outputs}
    assert len(before) == 2
    for name, record in before.items():
        assert last[name] == {
            "id": name,
            "revision": last[name]["revision"],
            "retracted": True,
            "truncated": False,
            "rules_version": "test",
            "user_id": known_as(record["user_id"]),
        }
    assert not {"olga", "petr"} & {record["user_id"] for record in last.values()}
    assert len([record for record in net.outputs if record["retracted"]]) == 2


def test_somebody_of_whom_nothing_is_known_leaves_nothing_behind() -> None:
    net = Net(program())
    net.send(erase(0, "nobody"))
    assert net.person("nobody") is not None
    net.pass_time(T0 + DAY + DONE)
    assert net.saved == {}
    assert net.outputs == net.rejected == []


def test_an_erasure_waits_for_every_task_to_have_come_to_its_time() -> None:
    """What one that lies behind has yet to read may name them. It is asked every ten seconds, the others once."""
    net = Net(program(referred=WELCOME), partitions=3)
    _, second, third = task_keys(3)
    net.silent = {second, third}
    family(net)
    net.send(erase(4 * DAY, "olga"))
    net.pass_time(T0 + 4 * DAY + DONE + 2 * HOUR)
    assert net.counts["asked"] == 1 + 2 * 721
    assert net.counts["erasures"] == 0
    net.silent = {third}
    net.pass_time(T0 + 4 * DAY + DONE + 3 * HOUR)
    assert net.counts["asked"] == 1 + 2 * 721 + 1 + 360
    assert "olga" in {user for user, *_ in net.rewards}
    net.silent = set()
    net.pass_time(T0 + 4 * DAY + DONE + 3 * HOUR + MINUTE)
    assert net.counts["erasures"] == 2, "she and her client"
    assert "olga" not in {user for user, *_ in net.rewards}
    check_books(net)


def test_nothing_is_paid_or_settled_by_the_time_that_an_erasure_waits() -> None:
    """It is carried out as of its own time, however late that is."""
    net = Net(program(levels=("10%",), holding_ms=2 * DAY), partitions=2)
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 2 * HOUR)
    net.send(bought(2 * HOUR, "c-1", "100", via=("anna", HOUR)))
    net.pass_time(T0 + DAY)
    net.silent = {*task_keys(2)}
    net.send(erase(DAY, "anna"))
    net.pass_time(T0 + 3 * DAY)
    assert net.rewards == [("anna", 1, "10.00", "pending")]
    net.silent = set()
    net.pass_time(T0 + 4 * DAY)
    assert net.rewards == [(known_as("anna"), 1, "10.00", "on_hold")]
    check_books(net)


def test_the_old_name_is_known_until_all_tasks_are_a_day_ahead() -> None:
    """One that lies behind by then may still tell it something."""
    net = Net(program(), partitions=2)
    family(net)
    net.send(erase(4 * DAY, "olga"))
    net.pass_time(T0 + 4 * DAY + DONE)
    assert net.person("olga").moved == known_as("olga")
    net.silent = {task_keys(2)[1]}
    net.pass_time(T0 + 9 * DAY)
    assert net.person("olga").moved == known_as("olga")
    net.silent = set()
    net.pass_time(T0 + 9 * DAY + MINUTE)
    assert net.person("olga") is None


@pytest.mark.parametrize("partitions", [1, 3, 12, 100])
def test_each_task_has_a_key(partitions: int) -> None:
    """In its partition, so that it is asked what it has come to itself."""
    keys = task_keys(partitions)
    assert [partition_of(key, partitions) for key in keys] == list(range(partitions))


@pytest.mark.parametrize(("now", "caught_up", "says"), [(9, False, 0), (10, False, 1), (0, True, 1)])
def test_a_task_says_that_it_has_come_to_a_time(now: int, caught_up: bool, says: int) -> None:
    """Or that it has nothing left to read: one that nothing ever comes to has no time."""
    net = Net(program())
    commit = Commit(net, net.rows["people"])
    commit.now, commit.caught_up = now, caught_up
    answer("anna", Abreast(10, 0), commit)
    assert [(kind, key) for kind, key, _ in net.travelling] == [(ABREAST, b"anna")] * says


def test_several_users_of_one_client_leave_no_name_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is forgotten with the first of them; nothing of the second is kept with what it was."""
    numbers = count()  # no name is drawn twice, as it is with random ones
    monkeypatch.setattr(
        referral_net, "pseudonym_of", lambda key: f"{key.decode()[: key[0] == 31]}erased-{next(numbers)}"
    )
    net = Net(program())
    for user in ("boris", "clara"):
        net.send(bought(0, "c-1", "100", user=user, event_id=f"by {user[0]}"))
    net.pass_time(T0 + DAY)
    for day, user in ((1, "boris"), (3, "clara")):
        net.send(erase(day * DAY, user, event_id=f"erases {user[0]}"))
        net.pass_time(T0 + (day + 2) * DAY)
    assert [key for _, key in net.saved if key.startswith(b"\x1f")] == []
    assert [content for content in net.saved.values() if b"boris" in content or b"clara" in content] == []


def test_who_uses_a_client_that_is_erased_forgets_its_name_and_is_judged_as_before() -> None:
    """A family's tablet: rita enrolled on it, and boris buys on it by her code, which is her own for that. Then anna is
    erased, and the tablet with her, before it is settled; what was bought before has settled. Both tell their codes and
    referrers no more of it."""
    net = Net(program(levels=("10%",), referred=WELCOME))
    net.send(enrolled(0, "rita", "RITA", client_id="c-anna"), enrolled(0, "nina", "NINA"))
    net.send(bought(1, "c-anna", "1", user="anna", event_id="hers"))
    net.send(bought(HOUR, "c-anna", "50", user="zoe", via=("nina", 1), event_id="before"))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "anna"))
    net.pass_time(T0 + 2 * DAY + 2 * HOUR)
    net.send(bought(2 * DAY + 2 * HOUR, "c-anna", "100", user="boris", via=("rita", DAY), event_id="his"))
    own = net.reward("rita")
    assert own["reasons"] == ["own_code"]
    assert len(kept_of(net, b"c-anna")) >= 5
    net.pass_time(T0 + 2 * DAY + DONE)
    assert kept_of(net, b"c-anna") == kept_of(net, marks_of(NO_CONTACT, "c-anna")[0][1:]) == []
    assert net.person("boris").held
    net.pass_time(T0 + 30 * DAY)
    assert net.reward("rita") == own
    assert net.rewards == [
        ("zoe", 0, "7.00", "approved"),
        ("nina", 1, "5.00", "approved"),
        ("rita", 1, "10.00", "rejected"),
    ]
    check_books(net)
    net.send(bought(30 * DAY, "c-anna", "9", user="boris", event_id="again"))
    assert kept_of(net, b"c-anna"), "who goes on using it is known to do so"


@pytest.mark.parametrize("paid", [False, True])
def test_a_lead_on_a_client_that_is_erased_forgets_it_and_nothing_else(paid: bool) -> None:
    """Its person and their contacts stay, whom nobody has erased; what it may bring stays theirs."""
    net = Net(program(levels=("10%",), **LEADS))
    net.send(enrolled(0, "nina", "NINA"))
    make = asked if paid else unpaid
    more = {"via": ("nina", HOUR)} if paid else {}
    net.send(
        bought(1, "c-anna", "1", user="anna", event_id="hers"), make(2 * HOUR, "lead", "c-anna", user="boris", **more)
    )
    assert net.leads["lead"]["client_id"] == "c-anna"
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "anna"))
    net.pass_time(T0 + 5 * DAY)
    assert kept_of(net, b"c-anna") == []
    assert net.leads["lead"]["client_id"] is None
    net.send(crm(5 * DAY, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 30 * DAY)
    rewards = [("boris", 0, "7.00", "approved"), ("nina", 1, "100.00", "approved")]
    assert net.rewards == (rewards if paid else [])
    assert kept_of(net, b"c-anna") == []


@pytest.mark.parametrize("erased", [False, True])
@pytest.mark.parametrize("paid", [False, True], ids=["an unpaid lead", "a lead"])
def test_a_client_is_its_leads_users_before_the_lead_has_a_status(paid: bool, erased: bool) -> None:
    """Whoever had referred them on it, when they were nobody known, is paid for the deal, be they erased meanwhile."""
    net = Net(program(levels=("10%",), goals=("purchase",), statuses=("won",)))
    net.send(enrolled(0, "nina", "NINA"))
    net.send(bought(HOUR, "c-boris", "5", via=("nina", 1), event_id="his"))
    net.send((asked if paid else unpaid)(DAY, "lead", "c-boris", user="boris"))
    net.pass_time(T0 + 2 * DAY)
    if erased:
        net.send(erase(2 * DAY, "boris", event_id="gone"))
    net.pass_time(T0 + 5 * DAY)
    net.send(crm(5 * DAY, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 30 * DAY)
    assert net.rewards == [("nina", 1, "0.50", "approved"), ("nina", 1, "100.00", "approved")]
    assert (kept_of(net, b"boris") == []) is erased
    check_books(net)


def test_what_brought_a_lead_on_another_client_counts_also_if_its_user_is_erased_before_it_has_a_status() -> None:
    net = Net(program(levels=("10%",), goals=(), statuses=("won",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.send(visited(DAY, "phone", "anna", user="boris"), asked(DAY, "lead", "c-boris", user="boris"))
    net.send(visited(DAY, "phone", "anna", user="zoe"))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris", event_id="gone"), erase(2 * DAY, "zoe"))
    net.pass_time(T0 + 5 * DAY)
    assert net.person(known_as("zoe")) is None, "of whom nothing else is kept"
    net.send(crm(5 * DAY, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 30 * DAY)
    assert net.rewards == [("anna", 1, "100.00", "approved")]
    assert kept_of(net, b"boris") == []


def test_a_lead_that_turns_out_to_be_somebody_elses_does_not_say_whose_the_client_is() -> None:
    """What else says so stands, since then."""
    net = Net(program(**LEADS))
    letters = {user: asked(DAY, "lead", "c-1", user=user) for user in ("boris", "zoe")}
    net.send(letters["boris"], asked(2 * DAY, "other", "c-1", user="boris"))
    assert [net.person("boris").clients["c-1"].since[0], list(net.person("\x1fc-1").users)] == [T0 + DAY, ["boris"]]
    net.send(letters["zoe"])
    assert [net.person(user).clients["c-1"].since[0] for user in letters] == [T0 + 2 * DAY, T0 + DAY]
    net.send(asked(2 * DAY, "other", "c-2", user="boris"))
    assert list(net.person("boris").clients) == ["c-2"]
    assert list(net.person("\x1fc-1").users) == ["zoe"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_client_is_its_leads_users_since_the_first_conversion_that_says_so(order: int) -> None:
    net = Net(program())
    for letter in [unpaid(day * DAY, "lead", "c-1", "boris") for day in (1, 2)][::order]:
        net.send(letter)
    assert net.person("boris").clients["c-1"].since[0] == T0 + DAY
    net.send((*unpaid(DAY, "lead", "c-1", "boris")[:2], encode_body(Letter(f"conv-{DAY}", None)), T0 + 2 * DAY))
    assert net.person("boris").clients["c-1"].since[0] == T0 + 2 * DAY


def test_clients_of_leads_are_forgotten_also_if_a_user_has_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.processors.people.clients.MAX_CLIENTS", 1)
    net = Net(program())
    net.send(*(unpaid(DAY + n, f"lead-{n}", f"c{n}-boris", "boris") for n in range(3)))
    assert len(net.person("boris").clients) == 1
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris", event_id="gone"))
    net.pass_time(T0 + 5 * DAY)
    assert {f"c{n}-boris" for n in range(3)} <= net.forgotten
    assert kept_of(net, b"boris") == []


def test_whoever_comes_back_is_somebody_new() -> None:
    """Not before it is done; then with everything but the old codes, which are never reassigned."""
    net = Net(program(levels=("10%",), referred=WELCOME))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + 2 * HOUR)
    net.send(bought(2 * HOUR, "c-1", "100", user="boris", via=("anna", HOUR)))
    net.pass_time(T0 + DAY)
    net.send(erase(DAY, "anna"), erase(DAY, "boris"))
    net.send(enrolled(DAY + HOUR, "anna", "SOON"))
    assert [reason for reason, _ in net.rejected] == ["bad_field"]
    net.pass_time(T0 + 2 * DAY)
    net.send(enrolled(2 * DAY, "anna", "ANNA", event_id="again"))
    net.send(enrolled(2 * DAY, "anna", "HANNA", event_id="new"))
    assert [reason for reason, _ in net.rejected] == ["bad_field", "code_taken"]
    net.pass_time(T0 + 3 * DAY)
    net.send(bought(3 * DAY, "c-2", "200", user="boris", via=("hanna", 2 * DAY + HOUR)))
    net.pass_time(T0 + 60 * DAY)
    old = known_as("anna"), known_as("boris")
    assert sorted(net.rewards) == sorted(
        [
            (old[0], 1, "10.00", "on_hold"),
            (old[1], 0, "7.00", "on_hold"),
            ("anna", 1, "20.00", "approved"),
            ("boris", 0, "7.00", "approved"),
        ]
    )
    check_books(net)


@pytest.mark.parametrize("first", ["erased", "enrolled"])
def test_an_enrolment_that_came_too_soon_may_be_sent_again(first: str) -> None:
    """Whichever of both was heard first: it came to nothing, so it is no duplicate when the erasure is done."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    records = [erase(MINUTE, "anna"), enrolled(2 * MINUTE, "anna", "HANNA", client_id="c-hers")]
    for record in records if first == "erased" else records[::-1]:
        net.send(record)
    net.pass_time(T0 + DONE + 2 * MINUTE)
    assert net.person("anna").memberships == ()
    assert "c-hers" not in net.forgotten, "nor does it say whose the client is"
    net.send(enrolled(2 * MINUTE, "anna", "HANNA", ts=DONE + 2 * MINUTE))
    assert [claim.user for claim in net.person("anna").claimed.values()] == ["anna"]
    assert net.counts["duplicates"] == 0


@pytest.mark.parametrize("other_id", ["f", "g"])
@pytest.mark.parametrize("order", [1, -1])
def test_of_two_erasures_the_earlier_counts_whichever_was_heard_first(order: int, other_id: str) -> None:
    net = Net(program())
    net.send(enrolled(0, "anna", "ANNA"))
    for record in [erase(HOUR, "anna", event_id="f"), erase(90 * MINUTE, "anna", event_id=other_id)][::order]:
        net.send(record)
    assert [m.at for m in net.person("anna").memberships] == [T0, T0 + HOUR]
    net.pass_time(T0 + DAY)
    done = net.counts["erasures"]
    net.send(erase(HOUR, "anna", event_id="f"))
    assert net.counts["erasures"] == done > 0


def test_who_never_stops_buying_is_erased_after_a_day_all_the_same() -> None:
    """What has not settled by then is somebody new's."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA"))
    for number in range(1, 40):
        net.pass_time(T0 + number * HOUR)
        net.send(bought(number * HOUR, "c-boris", "100", user="boris", via=("anna", MINUTE)))
        if number == 2:
            net.send(erase(2 * HOUR, "boris"))
        if number == 27:
            assert referred(net) == {"boris"}
        if number == 31:
            assert known_as("boris") in referred(net)
    net.pass_time(T0 + 9 * DAY)
    assert known_as("boris") in referred(net)
    assert len(net.rewards) == 39
    check_books(net)


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_buyer_who_is_erased_while_it_is_not_settled_is_still_known_to_be_the_referrer(taken_back: bool) -> None:
    """By their e-mail, until the reward is booked; then that is gone as well. Only the new name may take it back."""
    net = Net(program(levels=("10%",)))
    walks: list[Letter[Walk]] = []
    forward = Commit.forward

    def spy(self: Commit, kind: str, key: bytes, value: bytes) -> None:
        if kind == WALK:
            walks.append(msgspec.msgpack.decode(value, type=Letter[Walk]))
        forward(self, kind, key, value)

    Commit.forward = spy  # type: ignore[method-assign]
    try:
        net.send(enrolled(0, "anna", "ANNA", email="anna@example.org"))
        net.pass_time(T0 + 2 * HOUR)
        net.send(bought(2 * HOUR, "c-boris", "100", user="boris", via=("anna", HOUR), email="anna@example.org"))
        (letter,) = walks
    finally:
        Commit.forward = forward  # type: ignore[method-assign]
    walk = letter.body
    assert walk is not None
    assert walk.purchase.contact.email
    purchase = msgspec.structs.replace(walk.purchase, user="", client="", contact=type(walk.purchase.contact)())
    erased = msgspec.structs.replace(walk, buyer="erased-1", purchase=purchase, erased=True)
    net.send((WALK, b"anna", encode_body(Letter(letter.id, erased)), net.now))
    assert net.rewards == [("anna", 1, "10.00", "rejected")]
    assert referred(net) == {"boris"}
    if taken_back:
        for teller, left in (("boris", 1), ("erased-1", 0)):
            net.send((WALK, b"anna", encode_body(Letter(f"{letter.id}{SEPARATOR}{teller}", None)), net.now))
            assert len(net.rewards) == left
        return
    net.pass_time(T0 + 10 * DAY)
    assert net.rewards == [("anna", 1, "10.00", "rejected")]
    assert referred(net) == {"erased-1"}
    # whoever has the old name now has no say in it
    net.send((WALK, b"anna", encode_body(Letter(letter.id, walk)), net.now))
    assert referred(net) == {"erased-1"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"program": "friends"}, "bad_field"),
        ({"email": "anna@example.org"}, "bad_field"),
        ({"amount": "1"}, "bad_field"),
        ({"client_id": ""}, "bad_field"),
        ({"occurred_at": T0 + DAY}, "clock_skew"),
        ({"occurred_at": -1}, "bad_field"),
        ({"amount": None}, ""),
    ],
)
def test_an_erasure_says_who_and_when_and_nothing_else(fields: dict[str, Any], reason: str) -> None:
    net = Net(program())
    kind, key, value, ts = erase(0, "anna")
    net.send((kind, key, msgspec.json.encode(msgspec.json.decode(value) | fields), ts))
    assert [found for found, _ in net.rejected] == ([reason] if reason else [])
    assert (net.person("anna") is None) == bool(reason)


def test_only_an_erasure_concerns_all_programmes() -> None:
    net = Net(program())
    kind, key, value, ts = event(0, "anna", "left")
    record = {name: told for name, told in msgspec.json.decode(value).items() if name != "program"}
    net.send((kind, key, msgspec.json.encode(record), ts))
    assert net.rejected == [("missing_field", "program: only an erasure concerns them all")]


LEADS: dict[str, Any] = {"goals": (), "statuses": ("mql", "won"), "referred": WELCOME}


@pytest.mark.parametrize("won", [False, True])
@pytest.mark.parametrize("later", ["contacted", "won"])
def test_a_lead_of_somebody_erased_tells_their_new_name(later: str, won: bool) -> None:
    """Nobody is welcomed twice, and whoever referred them is paid as if they were there; nothing names them."""
    net = Net(program(levels=("10%",), **LEADS))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(asked(DAY, "lead", "c-boris", user="boris", via=("anna", HOUR), email="boris@example.org"))
    net.send(crm(DAY + 1, "lead", "qualified", qualification="mql"))
    if won:
        net.pass_time(T0 + 2 * DAY)
        net.send(crm(2 * DAY, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 30 * DAY)
    net.send(erase(30 * DAY, "boris"))
    net.pass_time(T0 + 31 * DAY)
    net.send(crm(31 * DAY, "lead", later, revenue="3000"))
    net.pass_time(T0 + 60 * DAY)
    deals = {
        (False, "contacted"): [],
        (False, "won"): [("anna", 1, "300.00", "approved")],
        (True, "contacted"): [("anna", 1, "0.00", "refunded")],
        (True, "won"): [("anna", 1, "300.00", "approved")],
    }
    assert net.rewards == [(known_as("boris"), 0, "7.00", "on_hold"), *deals[won, later]]
    check_books(net)
    assert net.leads["lead"]["client_id"] is None
    assert referred(net) == {known_as("boris")}
    assert kept_of(net, b"boris") == kept_of(net, HASHER.contact("boris@example.org").email) == []
    assert net.person(known_as("boris")).leads == 0, "it never changes again"


def kept_of(net: Net, name: bytes) -> list[bytes]:
    """Where a name, or something else of a person, is kept."""
    kept = [key + b" " + value for (_, key), value in net.saved.items()]
    kept += [key + b" " + value for part in net.rows.values() for (key, _), value in part.rows.items()]
    return [content for content in kept if name in content]


def test_nobody_keeps_the_hashes_that_an_owner_of_a_code_enrolled_with() -> None:
    """Neither the code nor whoever has asked whose it is, nor the new name."""
    net = Net(program(levels=("10%",), referred=WELCOME))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org", client_id="c-anna"))
    contact = HASHER.contact("anna@example.org", None, None, None)
    marks = marks_of(contact, "c-anna")
    assert len(marks) == 2
    net.pass_time(T0 + DAY)
    net.send(erase(DAY, "anna"))
    net.pass_time(T0 + DAY + 90 * MINUTE)
    net.send(bought(DAY + 90 * MINUTE, "c-boris", "1", via=("anna", HOUR)))  # asks, and is open when it is done
    assert [len(kept_of(net, mark[1:])) > 1 for mark in marks] == [True, True]
    net.pass_time(T0 + DAY + DONE)
    assert [kept_of(net, mark[1:]) for mark in marks] == [[], []]
    assert net.person("\x1fc-boris").answers


def test_an_open_purchase_learns_the_new_name_also_where_the_code_has_forgotten_who_asked() -> None:
    """As in a leap of time: the code's answer does not come any more. Whoever told of the purchase is told the name."""
    net = Net(program(levels=("10%",)))
    net.send(enrolled(0, "anna", "ANNA", client_id="c-anna"))
    net.pass_time(T0 + DAY)
    net.send(erase(DAY, "anna"))
    net.pass_time(T0 + DAY + 90 * MINUTE)
    net.send(bought(DAY + 90 * MINUTE, "c-boris", "100", via=("anna", HOUR)))
    place = ("codes", CODE_KEY + b"anna")
    register = msgspec.msgpack.decode(net.saved[place], type=Register)
    assert register.pages
    register.pages = []
    net.saved[place] = msgspec.msgpack.encode(register)
    net.pass_time(T0 + DAY + DONE)
    assert net.person("\x1fc-boris").answers
    assert kept_of(net, marks_of(NO_CONTACT, "c-anna")[0][1:]) == []
    net.pass_time(T0 + 3 * DAY)
    assert net.rewards == [(known_as("anna"), 1, "10.00", "rejected")]
    assert net.reward(known_as("anna"))["reasons"] == ["code_not_valid"]


def test_a_lead_that_turns_out_to_be_somebody_elses_is_forgotten() -> None:
    net = Net(program(**LEADS))
    made, other = (asked(DAY, "lead", client, user="boris") for client in ("c-boris", "c-other"))
    for letter, leads in (
        (made, 1),
        (made, 1),
        (other, 1),
        ((*made[:2], encode_body(Letter("conv-lead", None)), made[3]), 0),
    ):
        net.send(letter)
        person = net.person("boris")
        assert (person.leads if person is not None else 0) == leads
        assert len(net.rows["people"].rows) == 2 * leads, "the client is told as well"
    assert person is None
    assert not net.saved


@pytest.mark.parametrize("first", ["boris", "zoe"])
def test_a_lead_that_nobody_pays_for_forgets_whoever_is_erased(first: str) -> None:
    """Whichever of its conversions was theirs, and the client of it; it forgets nobody else."""
    net = Net(program(levels=("10%",)))
    second = "zoe" if first == "boris" else "boris"
    net.send(unpaid(DAY, "lead", f"c1-{first}", first), unpaid(DAY + 1, "lead", f"c1-{second}", second))
    net.send(unpaid(2 * DAY, "other", "c2-boris", ""), crm(2 * DAY, "third", "new", client_id="c2-boris"))
    net.send(enrolled(2 * DAY, "boris", "K", client_id="c2-boris", event_id="e"))
    net.pass_time(T0 + 3 * DAY)
    assert len(kept_of(net, b"boris")) >= 4
    net.send(erase(3 * DAY, "boris", event_id="gone"))
    net.pass_time(T0 + 5 * DAY)
    assert {"c1-boris", "c2-boris"} <= net.forgotten
    assert kept_of(net, b"boris") == []
    assert len(kept_of(net, b"zoe")) == 5, "the lead, she herself, her client, and that it names both"
    assert net.leads["lead"]["client_id"] == ("c1-zoe" if first == "zoe" else None)
    assert net.leads["other"]["client_id"] is None
    net.send(crm(6 * DAY, "lead", "won", revenue="5"))
    assert kept_of(net, b"boris") == net.rewards == []


def unpaid(at: int, lead: str, client: str, user: str) -> Any:
    """A conversion that makes a lead or touches it, where no programme pays for statuses."""
    told = LeadFact(T0 + at, f"ask-{at}", client, "lead_form", NOT_DETERMINED, (), user)
    return (LEAD_FACT, lead.encode(), encode_body(Letter(f"conv-{at}", told)), T0 + at)


@pytest.mark.parametrize("made_by", ["conversion", "crm"])
@pytest.mark.parametrize("before", [False, True])
def test_a_lead_of_a_client_follows_when_its_user_is_erased(made_by: str, before: bool) -> None:
    """One that was made as nobody known, or that the CRM named; also if there was nothing to tell before."""
    net = Net(program(levels=("10%",), **LEADS))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(bought(DAY, "c-boris", None, via=("anna", HOUR), goal="lead_form", status="mql", event_id="bound"))
    if made_by == "conversion":
        net.send(asked(DAY + 1, "lead", "c-boris"))
    net.send(crm(DAY + 2, "lead", "new", client_id="c-boris"))
    if before:
        net.send(crm(DAY + 3, "lead", "won", revenue="500"))
    net.send(enrolled(DAY + 4, "boris", "K", client_id="c-boris", event_id="e"))
    net.pass_time(T0 + 30 * DAY)
    net.send(erase(30 * DAY, "boris", event_id="gone"))
    net.pass_time(T0 + 31 * DAY)
    net.send(crm(31 * DAY, "lead", "contacted"), crm(31 * DAY + 1, "lead", "won", revenue="1000"))
    net.pass_time(T0 + 60 * DAY)
    new = pseudonym_of(b"\x1fc-boris").lstrip("\x1f")
    assert [r[:3] for r in net.rewards if r[2] != "0.00"] == [(new, 0, "7.00"), ("anna", 1, "100.00")]
    check_books(net)
    assert net.leads["lead"]["client_id"] == (None if made_by == "conversion" else new)
    assert kept_of(net, b"boris") == []


@pytest.mark.parametrize("heard", [DONE - MINUTE, DONE + MINUTE])
@pytest.mark.parametrize("known_by", ["conversion", "enrolment"])
def test_a_status_after_the_erasure_is_judged_without_contacts_whenever_it_is_heard(heard: int, known_by: str) -> None:
    """Before the move by the old name, behind it by the new one: it comes to the same."""
    given = {"email": "anna@example.org"}
    net = Net(program(levels=("15.00",), **LEADS))
    net.send(enrolled(0, "anna", "ANNA", email="anna@example.org"))
    if known_by == "enrolment":
        net.send(enrolled(0, "boris", "BORIS", **given))
    net.pass_time(T0 + DAY)
    named = given if known_by == "conversion" else {}
    net.send(asked(DAY, "lead", "c-boris", user="boris", via=("anna", HOUR), **named))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris"))
    net.pass_time(T0 + 2 * DAY + heard)
    late = {"ts": 2 * DAY + heard, "qualification": "mql"}
    net.send(crm(2 * DAY + heard - 50 * MINUTE, "lead", "qualified", **late))
    net.pass_time(T0 + 60 * DAY)
    assert net.rewards == [(known_as("boris"), 0, "7.00", "on_hold"), ("anna", 1, "15.00", "approved")]
    check_books(net)


@pytest.mark.parametrize("moved", [False, True])
def test_a_status_that_a_lead_tells_the_old_name_is_nobodys(moved: bool) -> None:
    """While clients are being forgotten, and as long as the lead has not heard the new name: it will tell that."""
    net = Net(program(levels=("15.00",), **LEADS))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(asked(DAY, "lead", "c-boris", user="boris", via=("anna", HOUR)))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris"))
    if not moved:
        net.forget_clients = lambda *_: None  # type: ignore[method-assign]
    net.pass_time(T0 + 2 * DAY + DONE)
    status = {"goal": "lead_form", "status": "mql", "paid": False, "lead": "lead", "via": ("anna", HOUR)}
    net.send(bought(2 * DAY + DONE, "c-boris", None, user="boris", **status))
    assert net.rewards == []
    assert moved or net.person("boris").held == {}


def test_a_status_that_is_open_while_the_name_changes_is_paid_once_and_can_be_taken_back() -> None:
    """It came after the erasure, so it has not been booked when that is carried out. The new name tells of it, and
    takes it back when an earlier mention turns up."""
    net = Net(program(levels=("15.00",), **LEADS))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    for lead in ("first", "lead"):
        net.send(asked(DAY, lead, "c-boris", user="boris", via=("anna", HOUR)))
    net.send(crm(DAY, "first", "qualified", qualification="mql"))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris"))
    done = 3 * DAY + DONE
    for at in range(2 * DAY, done, 30 * MINUTE):  # nobody who still buys is waited for longer than a day
        net.pass_time(T0 + at)
        net.send(bought(at, "c-more", "1", user="boris", goal="other"))
    for at, heard, who in ((10, -5, "boris"), (5, 1, known_as("boris")), (20, 5, known_as("boris"))):
        net.pass_time(T0 + done + heard * MINUTE)
        net.send(crm(done - at * MINUTE, "lead", "qualified", qualification="mql", ts=done + heard * MINUTE))
        assert [r[:3] for r in net.rewards] == [(who, 0, "7.00"), *[("anna", 1, "15.00")] * 2]
    net.pass_time(T0 + 60 * DAY)
    assert net.rewards == [(known_as("boris"), 0, "7.00", "on_hold"), *[("anna", 1, "15.00", "approved")] * 2]
    check_books(net)


def test_a_status_that_is_open_while_the_name_changes_binds_nobody_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lead tells the new name, and takes it back from the old one: half a minute later, when it would have settled
    there, and bound whoever has that name now."""
    net = Net(program(levels=("15.00",), statuses=("mql",)))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    net.send(asked(DAY, "lead", "c-boris", user="boris", via=("anna", HOUR)))
    net.pass_time(T0 + 2 * DAY)
    net.send(erase(2 * DAY, "boris"))
    done = 3 * DAY + DONE
    for at in range(2 * DAY, done, 30 * MINUTE):  # nobody who still buys is waited for longer than a day
        net.pass_time(T0 + at)
        net.send(bought(at, "c-more", "1", user="boris", goal="other"))
    net.send(crm(done - HOUR - MINUTE // 2, "lead", "qualified", qualification="mql", ts=at))
    forward, told = Commit.forward, []

    def slow(self: Commit, kind: str, key: bytes, value: bytes) -> None:
        if kind == LEAD_OWNER:
            told.append((kind, key, value, T0 + done))
        else:
            forward(self, kind, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(Commit, "forward", slow)
        net.pass_time(T0 + done)
        net.pass_time(T0 + done + 40_000)
    net.send(*told)
    net.pass_time(T0 + 10 * DAY)
    net.send(bought(10 * DAY, "c-new", "100", user="boris"))
    assert [r[:3] for r in net.rewards] == [("anna", 1, "15.00")]
    assert not net.person("boris").settled.bindings


def test_what_was_bought_before_settles_first_also_when_time_leaps() -> None:
    """A purchase, the erasure and a time days later come in one commit: the purchase is no new person's."""
    net = Net(program(levels=("10%",), referred=WELCOME))
    net.send(enrolled(0, "anna", "ANNA"))
    net.pass_time(T0 + DAY)
    bought_before = bought(8 * DAY - HOUR // 2, "c-boris", "100", user="boris", via=("anna", DAY))
    net.send(bought_before, erase(8 * DAY, "boris"), enrolled(12 * DAY, "zoe", "ZOE"))
    net.pass_time(T0 + 60 * DAY)
    assert net.rewards == [(known_as("boris"), 0, "7.00", "on_hold"), ("anna", 1, "10.00", "approved")]
    assert referred(net) == {known_as("boris")}
    check_books(net)
