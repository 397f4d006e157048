"""What is known of a lead's life from its events, folded in order of time: its statuses and what each was worth, who
worked on it, when it was called what (semantics 40)."""

from __future__ import annotations

from copy import copy
from decimal import Decimal
from typing import TypeVar

import msgspec

from stream_app.domain import lead_events
from stream_app.domain.lead_events import LeadFact, Status, Update
from stream_app.domain.sources.model import Source

T = TypeVar("T")

MAX_HISTORY = 50
"""Statuses in the history: the first and the latest. So many amounts of one deal, too."""


class Worth(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a deal is worth since an event."""

    at: int
    event_id: str
    revenue: Decimal | None = None
    profit: Decimal | None = None
    currency: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A status that the lead entered, and what was so while it lasted."""

    status: Status
    at: int
    event_id: str
    owner: str = ""
    reason: str = ""
    left_at: int = 0
    """When the next status began; 0: it is the current one."""
    left_by: str = ""
    """The event that brought the next status."""
    revenue: Decimal | None = None
    """What the deal was worth while the lead was won: at its end, or now."""
    profit: Decimal | None = None
    currency: str = ""
    worths: tuple[Worth, ...] = ()
    """What it was worth when it was won, and each time that changed."""


class Mention(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The first time that a lead was called an MQL or SQL."""

    at: int
    event_id: str
    owner: str


class Life(msgspec.Struct, gc=False, array_like=True):
    """A lead's events, folded."""

    created_at: int
    created_id: str
    by_goal: bool
    """Created by a conversion, not by the CRM."""
    entries: list[Entry] = []
    owner: str = ""
    qualification: str = ""
    mql: Mention | None = None
    sql: Mention | None = None
    contact_id: str = ""
    client_id: str = ""
    """As the CRM says it first."""
    born: Source | None = None
    """What the creating update says of where the lead came from."""
    named: Source | None = None
    """What the first update that says anything says."""
    revenue: Decimal | None = None
    profit: Decimal | None = None
    currency: str = ""
    refusals: int = 0
    reopened: int = 0
    contacted_at: int | None = None

    @property
    def status(self) -> Status:
        """The current one."""
        return self.entries[-1].status

    def branch(self) -> Life:
        """A copy that can be folded on without changing this one."""
        branch = copy(self)
        branch.entries = self.entries.copy()
        return branch


def born(fact: LeadFact | None, update: Update | None) -> Life | None:
    """Created = the earliest (occurred_at, event_id) of goal or CRM record (semantics 40)."""
    if fact is not None and (update is None or (fact.at, fact.event_id) <= lead_events.order(update)):
        return Life(fact.at, fact.event_id, True, [Entry("new", fact.at, fact.event_id)])
    if update is None:
        return None
    return Life(update.at, update.id, False, born=update.source)


def apply(life: Life, update: Update) -> None:
    """One CRM record, the next in order of time."""
    before = life.entries[-1] if life.entries else None
    if before is None or update.status != before.status:
        _enter(life, before, update)
    elif (update.owner and not before.owner) or update.reason:
        # A repeated status changes nothing but what it adds to the one before.
        told = msgspec.structs.replace(
            before, owner=before.owner or update.owner, reason=update.reason or before.reason
        )
        life.entries[-1] = told
    life.owner = update.owner or life.owner
    life.contact_id = update.contact_id or life.contact_id
    life.client_id = life.client_id or update.client_id
    life.named = life.named or update.source
    if update.qualification:
        _qualify(life, update)
    if update.currency:
        if update.currency != life.currency:
            # A lead has one currency, that of its latest amount: what was in another one holds no more.
            life.revenue = life.profit = None
            life.currency = update.currency
        life.revenue = update.revenue if update.revenue is not None else life.revenue
        life.profit = update.profit if update.profit is not None else life.profit
    if life.status == "won":
        _note_worth(life, update)


def _enter(life: Life, before: Entry | None, update: Update) -> None:
    """The status changes: what the one before was worth is known now."""
    at = update.at
    if before is not None:
        left = _worth(before, life) if before.status == "won" else before
        life.entries[-1] = msgspec.structs.replace(left, left_at=at, left_by=update.id)
    life.entries.append(Entry(update.status, at, update.id, update.owner or life.owner, update.reason))
    match update.status:
        case "contacted":
            life.contacted_at = at if life.contacted_at is None else life.contacted_at
        case "refused":
            life.refusals += 1
        case "reopened":
            life.reopened += 1
        case _:
            pass


def _qualify(life: Life, update: Update) -> None:
    """MQL and SQL count once a lead, at their first mention; the one does not imply the other (semantics 40)."""
    life.qualification = update.qualification
    if update.qualification == "mql":
        life.mql = life.mql or Mention(update.at, update.id, life.owner)
    else:
        life.sql = life.sql or Mention(update.at, update.id, life.owner)


def _worth(entry: Entry, life: Life) -> Entry:
    return msgspec.structs.replace(entry, revenue=life.revenue, profit=life.profit, currency=life.currency)


def _note_worth(life: Life, update: Update) -> None:
    """What the deal is worth since this update, if that is something new."""
    entry = life.entries[-1]
    worth = Worth(update.at, update.id, life.revenue, life.profit, life.currency)
    if entry.worths:
        last = entry.worths[-1]
        if (last.revenue, last.profit, last.currency) == (worth.revenue, worth.profit, worth.currency):
            return
    life.entries[-1] = msgspec.structs.replace(entry, worths=tuple(shown([*entry.worths, worth])))


def worth_now(life: Life) -> None:
    """A deal that is won is worth what is known by now."""
    if life.status == "won":
        life.entries[-1] = _worth(life.entries[-1], life)


def shown(entries: list[T]) -> list[T]:
    """Of a long history the first entry and the latest."""
    return entries if len(entries) <= MAX_HISTORY else [entries[0], *entries[1 - MAX_HISTORY :]]
