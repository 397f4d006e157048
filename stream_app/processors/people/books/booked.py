"""What becomes of an entry once it is booked: its time comes, somebody reviews it, it is paid."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from stream_app.domain.money import add
from stream_app.domain.referral import ledger
from stream_app.domain.referral.ledger import APPROVED, ON_HOLD, PENDING, REJECTED, STATUSES, Entry
from stream_app.engine.processor import Rows
from stream_app.processors.people.books.entries import Entries, is_shown
from stream_app.processors.people.books.pages import Pages
from stream_app.processors.people.house import House
from stream_app.processors.people.opened import OpenEntries
from stream_app.processors.people.state import Books


class Mismatch(Exception):
    """A payout that doesn't fit the books; says why."""


class Booked:
    """One commit's work on the booked entries of a person."""

    def __init__(
        self, house: House, key: bytes, books: Books, entries: Entries, opened: OpenEntries, rows: Rows, *, erased: bool
    ) -> None:
        self._house = house
        self._programs = house.programs
        self._entries = entries
        self._open = opened
        self._pages = Pages(books, key, rows)
        self._erased = erased

    # --- time ----------------------------------------------------------------------------------------

    def wait(self, entry: Entry) -> None:
        """Until holding is over, or the time for its review."""
        if entry.status in (PENDING, ON_HOLD) and entry.due:
            self._pages.wait(entry.due, entry.id)

    def mature(self, now: int) -> None:
        """What is due by now: holding is over, or the deadline of a review."""
        while ready := self._pages.ready(now):
            for page in ready:
                for due, entry_id in self._pages.take(page, now):
                    entry = self._entries.need(entry_id)
                    if entry.due == due:
                        self._come_due(entry)

    def _come_due(self, entry: Entry) -> None:
        program = self._programs.by_name.get(entry.walk.program)
        if entry.status == PENDING:
            self._approve(entry, entry.due)
        elif entry.status == ON_HOLD:
            entry.reasons = (*entry.reasons, "deadline")
            if program is not None and program.on_deadline == "reject":
                entry.status = REJECTED
                return
            held_until = entry.walk.purchase.at + (program.holding_ms if program is not None else 0)
            if held_until > entry.due:
                entry.status, entry.due = PENDING, held_until
                self.wait(entry)
            else:
                self._approve(entry, entry.due)

    def _approve(self, entry: Entry, at: int) -> None:
        entry.status, entry.approved_at, entry.due = APPROVED, at, at
        self._pages.approve(entry.id)

    # --- reviews and payouts -------------------------------------------------------------------------

    def review(self, entry_id: str, at: int, *, approve: bool) -> str:
        """Somebody has looked at a reward. What is wrong with that; empty: done."""
        entry = self._entries.get(entry_id)
        if entry is None or self._entries.is_taken(entry_id) or not is_shown(entry):
            return "reward_id: this person has no such reward"
        is_open = self._open.of(entry) is not None
        if is_open or entry.status not in (PENDING, ON_HOLD, APPROVED):
            status = "not settled yet" if is_open else STATUSES[entry.shown_status]
            return f"reward_id: it is {status}, there is nothing to decide"
        if approve and self._erased:
            return "reward_id: its person was erased, nobody can be paid"
        if not approve:
            entry.status, entry.reasons, entry.due = REJECTED, (*entry.reasons, "rejected_by_review"), at
        elif entry.status != APPROVED:
            entry.reasons = (*entry.reasons, "approved_by_review") if entry.status == ON_HOLD else entry.reasons
            self._approve(entry, max(at, entry.walk.purchase.at + self._house.slack_ms))
        return ""

    def pay(
        self, at: int, event_id: str, program_name: str, amount: Decimal, currency: str, wanted: tuple[str, ...]
    ) -> None:
        """Reconciles a payout with what was approved at its time, and books it. Raises Mismatch (semantics 46)."""
        program = self._programs.by_name[program_name]
        entries = [self._entries.need(entry_id) for entry_id in self._pages.approved()]
        found = ledger.payable(entries, at, currency, program_name)
        if wanted:
            by_id = {
                (f"{e.id}-r{c.event_id}" if c is not None else e.id): item for item in found for e, c in [item[1:3]]
            }
            missing = [name for name in dict.fromkeys(wanted) if name not in by_id]
            if missing:
                raise Mismatch(
                    f"reward_ids: {len(missing)} of them cannot be paid: not approved, paid before, or unknown"
                )
            chosen = [by_id[name] for name in dict.fromkeys(wanted)]
        else:
            chosen = _oldest(found, amount)
        total = sum((item[3] for item in chosen), Decimal(0))
        if not chosen or total != amount:
            raise Mismatch(f"amount: {amount:f} {currency} is not what these rewards come to, {total:f} {currency}")
        least = self._programs.exchange.convert(total, currency, program.currency)
        if least is None and program.minimum_payout:
            raise Mismatch(f"currency: no rate says whether it is {program.minimum_payout:f} {program.currency}")
        if least is not None and least < program.minimum_payout:
            raise Mismatch(f"amount: below the minimum payout of {program.minimum_payout:f} {program.currency}")
        for _, entry, clawback, _ in chosen:
            if clawback is None:
                ledger.pay(entry, at, event_id)
            else:
                entry.clawbacks = tuple(
                    msgspec.structs.replace(c, paid_at=at, payout=event_id) if c.event_id == clawback.event_id else c
                    for c in entry.clawbacks
                )
        self._forget_paid(entries)

    def _forget_paid(self, entries: list[Entry]) -> None:
        left = []
        for entry in entries:
            entry.clawbacks = ledger.clawed_back(entry)
            if entry.status == APPROVED or any(not c.paid_at for c in entry.clawbacks):
                left.append(entry.id)
        self._pages.leave(left)

    def correct(self, entry: Entry) -> None:
        """What its conversion is has changed: what was paid may have to be clawed back."""
        if entry.status == ledger.PAID and not self._erased:
            self._pages.approve(entry.id)


def _oldest(found: list[Any], amount: Decimal) -> list[Any]:
    """All negatives, then the oldest, whole, until the amount is reached."""
    chosen: list[Any] = []
    total = Decimal(0)
    for item in found:
        if total == amount and item[3] > 0:
            break
        if total > amount and item[3] > 0:
            break
        chosen.append(item)
        total = add(total, item[3])
    return chosen
