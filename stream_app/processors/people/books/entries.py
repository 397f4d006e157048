"""Entries that a commit looks at, and what is said of those that changed: records, sums, figures."""

from __future__ import annotations

from typing import Any

import msgspec

from stream_app.domain.ids import content_digest
from stream_app.domain.referral import ledger
from stream_app.domain.referral.buyer import shown_person
from stream_app.domain.referral.counting import counts_of, places
from stream_app.domain.referral.ledger import REJECTED, STATUSES, Entry
from stream_app.domain.referral.records import REWARDS, Reward, RewardRetraction, clawback_of, reward_of
from stream_app.engine.processor import Context
from stream_app.processors.people.house import NO_SUMS, Counted, House
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import ENTRY_ROWS, Books

_encode_record = msgspec.json.Encoder().encode


def is_shown(entry: Entry) -> bool:
    """Whether there is anything to say about it: somebody who is owed nothing has no record."""
    if not entry.currency or not (entry.due or entry.reasons):
        return False
    # A deal that was worth nothing when it was won is nothing until it is amended.
    return not entry.rate.percent or entry.status == REJECTED or bool(entry.gross or entry.amount or entry.clawbacks)


class Entries:
    """One commit's view of a person's entries; `write` says what changed since each was first looked at."""

    def __init__(self, house: House, key: bytes, books: Books, context: Context[Any]) -> None:
        self._person = key.decode()
        self._house = house
        self._books = books
        self._context = context
        self._shelf = Shelf(Entry, ENTRY_ROWS, key, context.rows)
        self._before: dict[str, Counted] = {}
        """Of every entry looked at: what it counted."""
        self._statuses: dict[str, str] = {}
        self._taken: set[str] = set()

    def get(self, entry_id: str) -> Entry | None:
        """The entry of that id; also one that was taken away in this commit."""
        entry = self._shelf.get(entry_id)
        if entry is not None and entry_id not in self._before:
            self._look_at(entry)
        return entry

    def need(self, entry_id: str) -> Entry:
        """One that must be there."""
        entry = self.get(entry_id)
        if entry is None:
            raise ValueError(f"people state of a person lacks the entry {entry_id}")
        return entry

    def add(self, entry: Entry) -> None:
        """A new one, of which nothing was said."""
        self._shelf.put(entry)
        self._before[entry.id] = Counted()
        self._statuses[entry.id] = ""
        self._books.entries += 1

    def adopt(self, entry: Entry) -> None:
        """One of somebody who goes by this name now."""
        self._shelf.put(entry)
        self._look_at(entry)

    def take_away(self, entry: Entry) -> None:
        """Gone when the commit is over."""
        self._taken.add(entry.id)
        self._books.entries -= 1

    def is_taken(self, entry_id: str) -> bool:
        """Whether it was taken away in this commit."""
        return entry_id in self._taken

    def _look_at(self, entry: Entry) -> None:
        self._statuses[entry.id] = STATUSES[entry.shown_status] if is_shown(entry) else ""
        self._before[entry.id] = self._counted(entry)

    # --- what is said of them ------------------------------------------------------------------------

    def write(self) -> None:
        """Records that changed, sums, counters, rows."""
        for entry_id in self._before:
            entry = self.need(entry_id)
            gone = entry_id in self._taken
            was = {c.event_id for c in entry.clawbacks if c.digest}
            entry.clawbacks = () if gone else ledger.clawed_back(entry)
            self._emit(entry, gone=gone)
            for event_id in was - {c.event_id for c in entry.clawbacks}:
                self._retract(f"{entry.id}-r{event_id}")
            self._add_up(entry)
            self._gauge(entry, gone=gone)
            if gone:
                self._shelf.drop(entry.id)
        self._shelf.write()

    def _gauge(self, entry: Entry, *, gone: bool) -> None:
        """For operators: rewards by status."""
        now = "" if gone or not is_shown(entry) else STATUSES[entry.shown_status]
        before = self._statuses[entry.id]
        if now != before:
            if before:
                self._context.count("rewards", before, -1)
            if now:
                self._context.count("rewards", now)

    def _emit(self, entry: Entry, *, gone: bool) -> None:
        if gone or not is_shown(entry):
            if entry.digest:
                self._retract(entry.id)
                entry.digest = 0
            return
        rules = self._house.rules_version
        entry.digest = self._publish(reward_of(entry, self._person, rules), entry.digest)
        if entry.clawbacks:
            entry.clawbacks = tuple(
                msgspec.structs.replace(c, digest=self._publish(clawback_of(entry, c, self._person, rules), c.digest))
                for c in entry.clawbacks
            )

    def _publish(self, record: Reward, before: int) -> int:
        digest = content_digest(_encode_record(record))
        if digest != before:
            record.revision = self._context.revision
            self._context.emit(REWARDS, shown_person(self._person).encode(), _encode_record(record))
        return digest

    def _retract(self, record_id: str) -> None:
        user = shown_person(self._person)
        record = RewardRetraction(record_id, self._context.revision, True, False, self._house.rules_version, user)
        self._context.emit(REWARDS, user.encode(), _encode_record(record))
        self._context.count("retractions", REWARDS)

    def _add_up(self, entry: Entry) -> None:
        """Sums and counters get new − old (semantics 45)."""
        before, after = self._before[entry.id], self._counted(entry)
        if before == after:
            return
        sums = self._books.sums
        for currency in sorted({before.currency, after.currency} - {""}):
            was = before.sums if before.currency == currency else NO_SUMS
            now = after.sums if after.currency == currency else NO_SUMS
            sums[currency] = sums.get(currency, NO_SUMS).moved(was, now)
        if self._house.counter is not None:
            self._house.counter.move(entry, before, after, self._context)

    def _counted(self, entry: Entry) -> Counted:
        if entry.id in self._taken or not is_shown(entry):
            return Counted()
        walk = entry.walk
        where = places(walk.program, walk.code if walk.level == 1 else "", entry.advocate_kind, walk.level)
        return Counted(entry.currency, ledger.sums_of(entry), counts_of(entry), where)
