"""A person's books in a commit: what came is entered, what is due happens, and reviews and payouts have their turns."""

from __future__ import annotations

from stream_app.domain.events import money_of
from stream_app.domain.ids import content_digest
from stream_app.domain.referral import member as members
from stream_app.domain.referral.buyer import Bindings
from stream_app.domain.referral.ledger import reward_id
from stream_app.engine.processor import DeadLetterReason, Place
from stream_app.processors.facts import encode_body
from stream_app.processors.people.books import Booked, Bookkeeper, Mismatch
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.due import erased_at
from stream_app.processors.people.renaming import not_here
from stream_app.processors.people.seen import may_come_again
from stream_app.processors.people.state import Turn

INPUT = "referral-events"


def hear(desk: Desk, turn: Turn) -> None:
    """A review or payout, which waits for its turn."""
    books = desk.person.books
    books.turns = sorted([*books.turns, turn], key=lambda t: (t.at, t.event_id))


def keep_books(desk: Desk, bindings: Bindings, now: int) -> None:
    """Keeps the books up to now."""
    person, house = desk.person, desk.house
    books = person.books
    settled = now
    if person.erasing is not None:
        now = min(now, erased_at(person.erasing.at, house))  # what is not decided by then never is
    turns = [turn for turn in books.turns if turn.at + house.slack_ms <= now]
    if not (desk.walks or turns or books.open or books.pages or books.due or desk.adopted or desk.renames):
        return
    keeper = Bookkeeper(
        house,
        desk.key,
        books,
        person.memberships,
        bindings,
        desk.context,
        erased=bool(person.erased),
    )
    for entry in desk.adopted:
        keeper.adopt(entry)
    for told in desk.renames:
        entry_id = reward_id(told.program, told.conversion_id, told.level - 1, desk.name)
        if not keeper.rename(entry_id, told.old, told.new):
            not_here(desk, told)
    for name, said in desk.walks.items():
        keeper.take(name, said)
    grounds = content_digest(encode_body((bindings, person.memberships)))
    if grounds != books.grounds:
        books.grounds = grounds
        keeper.reassess()
    keeper.settle(settled)
    keeper.booked.mature(now)
    for turn in turns:
        _take(desk, keeper.booked, turn)
    books.turns = books.turns[len(turns) :]
    keeper.write()


def _take(desk: Desk, booked: Booked, turn: Turn) -> None:
    """A review or payout whose turn has come."""
    record = members.read_referral_event(turn.record)
    erasing = desk.person.erasing
    if erasing is not None and turn.at > erasing.at:
        reason: DeadLetterReason = "payout_mismatch" if record.type == "payout" else "bad_field"
        _bury(desk, turn, reason, "user_id: was erased before")
        return
    if record.type != "payout":
        problem = booked.review(record.reward_id or "", turn.at, approve=record.type == "approve")
        if problem:
            _bury(desk, turn, "bad_field", problem)
        return
    money = money_of(record.amount, record.currency, desk.house.currency, "amount")
    assert money is not None  # it was checked when it came
    try:
        booked.pay(turn.at, record.event_id, record.program, money.amount, money.currency, record.reward_ids or ())
    except Mismatch as mismatch:
        _bury(desk, turn, "payout_mismatch", str(mismatch))


def _bury(desk: Desk, turn: Turn, reason: DeadLetterReason, detail: str) -> None:
    """It comes to nothing: its record becomes a dead letter, and may be sent again."""
    may_come_again(desk.person, turn.event_id)
    desk.context.bury(INPUT, desk.key, turn.record, Place(*turn.origin), reason, detail)
