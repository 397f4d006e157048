"""Keeping one person's books during a commit: conversions that are told of, as long as they are open, until they are
booked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from stream_app.domain.referral.buyer import Bindings
from stream_app.domain.referral.facts import Walk, without_traces
from stream_app.domain.referral.fraud import Owed
from stream_app.domain.referral.ledger import APPROVED, ON_HOLD, PENDING, REJECTED, Entry, Open
from stream_app.domain.referral.member import Membership
from stream_app.domain.referral.programs import Rate
from stream_app.domain.times import MINUTE_MS
from stream_app.engine.processor import Context
from stream_app.processors.people.books.above import Above
from stream_app.processors.people.books.booked import Booked
from stream_app.processors.people.books.entries import Entries
from stream_app.processors.people.books.judging import Judge
from stream_app.processors.people.books.ranking import OpenRanks
from stream_app.processors.people.books.said import Said
from stream_app.processors.people.house import House
from stream_app.processors.people.opened import OpenEntries, next_settling
from stream_app.processors.people.state import MAX_OPEN, Books


class Bookkeeper:
    """One commit's work on one person's books. `write` ends it."""

    def __init__(
        self,
        house: House,
        key: bytes,
        books: Books,
        memberships: tuple[Membership, ...],
        bindings: Bindings,
        context: Context[Any],
        *,
        erased: bool = False,
    ) -> None:
        person, rows = key.decode(), context.rows
        self._books = books
        self._grace_ms = house.grace_ms
        self._context = context
        self._entries = Entries(house, key, books, context)
        self._open = OpenEntries(books, key, rows)
        self._ranks = OpenRanks(house.programs, key, books, self._open, rows)
        self._judge = Judge(house, person, memberships, bindings, erased=erased)
        self._above = Above(person, context, erased=erased)
        self.booked = Booked(house, key, books, self._entries, self._open, rows, erased=erased)
        self._stale: set[str] = set()
        """Open entries that must be assessed anew."""

    # --- what is heard -------------------------------------------------------------------------------

    def take(self, entry_id: str, said: Said) -> None:
        """What was said of a reward: a walk as it is now, or that there is none."""
        entry = self._entries.get(entry_id)
        standing = said.standing(self._standing(entry) if entry is not None else {})
        if entry is not None and entry.walk.erased:
            # Of somebody who was erased nothing is heard but by their pseudonym.
            standing = [walk for walk in standing if walk.erased]
        is_open = entry is None or self._open.of(entry) is not None
        if standing:
            *others, walk = standing
            if is_open:
                entry = self._take_open(entry_id, entry, walk)
            else:
                assert entry is not None
                entry.walk, entry.withdrawn = walk, walk.purchase.withdrawn
                self.booked.correct(entry)
                self._above.tell(entry, entry.next)
            entry.others, entry.is_gone = tuple(others), False
        elif entry is not None and is_open:
            self._remove(entry)
        elif entry is not None:
            entry.others, entry.is_gone, entry.withdrawn = (), True, "withdrawn"
            self.booked.correct(entry)
            self._above.take_back(entry)

    def _standing(self, entry: Entry) -> dict[str, Walk]:
        """What was said before, by teller. A buyer who was erased meanwhile goes by their new name."""
        if entry.is_gone:
            return {}
        item, walk = self._open.of(entry), entry.walk
        teller = item.buyer if item is not None and item.buyer and not walk.chain else walk.teller
        return {**{other.teller: other for other in entry.others}, teller: walk}

    def _take_open(self, entry_id: str, entry: Entry | None, walk: Walk) -> Entry:
        purchase = walk.purchase
        if entry is None:
            entry = _void(entry_id, walk)
            self._entries.add(entry)
            settles = max(purchase.at + self._grace_ms, self._context.now) + MINUTE_MS
            item = Open(entry_id, purchase.at, purchase.event_id, settles, walk.program, walk.level)
            self._open.put(item)
        else:
            before = self._open.of(entry)
            assert before is not None
            if walk.erased and not entry.walk.erased:
                before.buyer = walk.buyer
                walk = _as_before(walk, entry.walk)
            entry.walk = walk
            if (before.at, before.event_id) != (purchase.at, purchase.event_id):
                self._ranks.withdraw(before)
                self._open.drop(before.moment)
                before.at, before.event_id = purchase.at, purchase.event_id
                self._open.put(before)
        entry.withdrawn = purchase.withdrawn
        self._stale.add(entry_id)
        return entry

    def _remove(self, entry: Entry) -> None:
        self._above.tell(entry, "")
        item = self._open.of(entry)
        assert item is not None
        self._ranks.withdraw(item)
        self._open.drop(item.moment)
        self._stale.discard(entry.id)
        entry.gross = entry.paid = Decimal(0)
        entry.status = REJECTED
        self._entries.take_away(entry)

    def reassess(self) -> None:
        """Enrolments or bindings have changed: every open entry is looked at again."""
        self._stale.update(item.id for item in self._open)

    def adopt(self, entry: Entry) -> None:
        """Takes over an entry of somebody who goes by this name now. Nobody can be paid any more: what is not paid is
        held, and no time ends that."""
        self._entries.adopt(entry)
        if entry.status in (PENDING, ON_HOLD, APPROVED):
            entry.status, entry.due, entry.approved_at = ON_HOLD, 0, 0
            entry.reasons = (*entry.reasons, "erased")

    def rename(self, entry_id: str, old: str, new: str) -> bool:
        """The next ancestor of an entry goes by another name. False if that is not who comes next."""
        entry = self._entries.get(entry_id)
        return entry is not None and self._above.rename(entry, old, new)

    # --- what follows --------------------------------------------------------------------------------

    def settle(self, now: int) -> None:
        """Assesses what changed, ranks what that concerns, and books what can change no more."""
        owed = {entry_id: self._assess(self._entries.need(entry_id)) for entry_id in sorted(self._stale)}
        for item in self._ranks.rank(self._stale):
            entry = self._entries.need(item.id)
            self._judge.state(entry, item, owed[item.id] if item.id in owed else self._judge.owed(entry.walk))
        self._stale.clear()
        left = len(self._open)
        if left > MAX_OPEN:
            self._context.count("referral_caps")
        for item in self._bookable(left, now):
            self._open.drop(item.moment)
            self._book(item)

    def _assess(self, entry: Entry) -> Owed | None:
        """Who is owed what, before ranks; and who is next on the way up."""
        walk = entry.walk
        owed = self._judge.owed(walk)
        item = self._open.of(entry)
        assert item is not None
        wish = owed.amount if owed is not None and not owed.blocks else Decimal(0)
        currency = owed.currency if owed is not None else ""
        ip = walk.purchase.contact.ip if walk.level == 1 and wish else b""
        self._ranks.enter(item, wish, currency, ip)
        self._above.tell(entry, self._judge.next_above(walk))
        return owed

    def _bookable(self, left: int, now: int) -> list[Open]:
        """The oldest, as far as they have settled, or are too many."""
        found = []
        if left > MAX_OPEN or 0 < next_settling(self._books) <= now:
            for item in self._open:
                if left <= MAX_OPEN and item.settles > now:
                    break
                found.append(item)
                left -= 1
        return found

    def _book(self, item: Open) -> None:
        """From here on only refunds, time, reviews and payouts change it."""
        self._ranks.settle(item)
        entry = self._entries.need(item.id)
        if item.buyer:
            purchase = without_traces(entry.walk.purchase)
            entry.walk = msgspec.structs.replace(entry.walk, buyer=item.buyer, purchase=purchase, erased=True)
            self._above.tell(entry, entry.next)
        self.booked.wait(entry)

    def write(self) -> None:
        """Records that changed, sums, counters, rows."""
        self._entries.write()
        self._open.write()
        self._ranks.write()


def next_due(books: Books, slack_ms: int) -> int:
    """When the books must be looked at next; 0: never."""
    times = [page.first for page in books.due]
    if settles := next_settling(books):
        times.append(settles)
    if books.turns:
        times.append(books.turns[0].at + slack_ms)
    return min(times, default=0)


def _void(entry_id: str, walk: Walk) -> Entry:
    return Entry(entry_id, walk, "percent", Rate(Decimal(0)), "", Decimal(0), REJECTED, (), 0)


def _as_before(walk: Walk, known: Walk) -> Walk:
    """A walk whose buyer was erased, with what the open entry still has to be judged by."""
    who = known.purchase
    purchase = msgspec.structs.replace(walk.purchase, user=who.user, client=who.client, contact=who.contact)
    return msgspec.structs.replace(walk, buyer=known.buyer, purchase=purchase, erased=False)


__all__ = ["Bookkeeper", "next_due"]
