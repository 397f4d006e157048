"""What a lead counts: whole, as a function of its life, not the difference to before (semantics 35, 36, 40)."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from stream_app.domain.lead_life import Entry, Life
from stream_app.domain.sources.model import Source
from stream_app.domain.times import MINUTE_MS


class Contribution(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a lead adds to one minute of the counters, under its own attribution (semantics 35, 36, 40)."""

    minute: int
    """Minutes since 1970."""
    counts: tuple[tuple[str, int], ...] = ()
    sums: tuple[tuple[str, Decimal], ...] = ()
    currency: str = ""
    """Of revenue and profit; empty where there are none."""
    owner: str = ""
    """Of an entered status: who worked on the lead then. Of the lead itself: who does now."""
    refusal_reason: str = ""


class Counted(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All that a lead has counted and may still take back."""

    source: Source
    goal: str
    segment: tuple[tuple[str, str], ...]
    contributions: tuple[Contribution, ...]


def contributions(life: Life) -> tuple[Contribution, ...]:
    """The lead itself at its creation, each entered status at its entry, revenue and profit at the entry into `won` and
    taken back where the lead left it."""
    created = life.created_at // MINUTE_MS
    counts = (("leads", 1), ("won_cohort", 1)) if life.status == "won" else (("leads", 1),)
    found = [Contribution(created, counts, owner=life.owner)]
    for name, mention in (("mql", life.mql), ("sql", life.sql)):
        if mention is not None:
            found.append(Contribution(mention.at // MINUTE_MS, ((name, 1),), owner=mention.owner))
    first_contact = next((entry for entry in life.entries if entry.status == "contacted"), None)
    for entry in life.entries:
        found.extend(_of_entry(entry, life, contacts=entry is first_contact and entry.at == life.contacted_at))
    return tuple(found)


def _of_entry(entry: Entry, life: Life, *, contacts: bool) -> list[Contribution]:
    name = _COUNTED_AS.get(entry.status)
    if name is None:
        return []
    at, owner, reason = entry.at, entry.owner, entry.reason if entry.status == "refused" else ""
    minute = at // MINUTE_MS
    took = Decimal((at - life.created_at) // 1_000)
    if entry.status == "won":
        found = [Contribution(minute, ((name, 1),), (("time_to_close_s", took),), owner=owner)]
        worth = tuple(
            (field, amount) for field, amount in (("revenue", entry.revenue), ("profit", entry.profit)) if amount
        )
        if worth:
            found.append(Contribution(minute, (), worth, entry.currency, owner))
            if entry.left_at:
                back = tuple((field, amount.copy_negate()) for field, amount in worth)
                found.append(Contribution(entry.left_at // MINUTE_MS, (), back, entry.currency, owner))
        return found
    sums = (("time_to_contact_s", took),) if contacts else ()
    return [Contribution(minute, ((name, 1),), sums, owner=owner, refusal_reason=reason)]


_COUNTED_AS = {
    "contacted": "contacted",
    "proposal": "proposals",
    "won": "won",
    "refused": "refused",
    "reopened": "reopened",
}
"""Statuses that are counted at their entry. `new` is the lead itself, `qualified` counts as MQL or SQL."""
