"""The life of a lead: a pure function of the set of its events (domain rules, section 5; semantics 40).

Events are folded in order of (occurred_at, event_id), whatever order they came in. A lead holds few of them, so it is
folded anew whenever one comes. Only a lead with too many has its oldest settled: they are folded into `Life` once, and
what they counted stays as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from decimal import Decimal
from typing import Literal

import msgspec

from stream_app.domain import lead_events
from stream_app.domain.client import Told
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.lead_events import LeadFact, Question, Status, Update
from stream_app.domain.sources.model import Source
from stream_app.domain.times import MINUTE_MS

MAX_UPDATES = 200
"""Updates that are kept one by one; beyond it the oldest settle."""
MAX_WEIGHT = 128 * 1024
"""As MAX_UPDATES, in bytes of their texts."""
SETTLE = 50
"""Updates that settle at once."""
MAX_FACTS = 16
"""Conversions kept per lead: the earliest. Only the first decides anything."""
MAX_HISTORY = 50
"""Statuses in the history: the first and the latest. So many amounts of one deal, too."""

Taken = Literal["taken", "duplicate", "too_late"]


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


class Lead(msgspec.Struct, gc=False, array_like=True):
    """What is saved of a lead."""

    facts: dict[str, LeadFact] = {}
    """Conversions by their id."""
    updates: list[Update] = []
    """In order; those that have settled are gone."""
    settled: Life | None = None
    settled_source: Source | None = None
    """The attribution as it was when the first update settled: frozen since."""
    horizon: tuple[int, str] = (0, "")
    """The newest settled update: older ones are refused."""
    asked: Question | None = None
    answer: LeadFact | None = None
    crowded: bool = False
    """Conversions had to go."""
    published: int = 0
    """Digest of the record last written; 0: none, or a retraction."""
    status: str = ""
    """As last published."""
    counted: Counted | None = None
    told: dict[str, tuple[Told, ...]] = {}
    """Facts that follow from its statuses, as last told, by the id of what they follow from."""


def new_lead() -> Lead:
    """A lead never heard of."""
    return Lead({}, [])


# --- taking events in ----------------------------------------------------------------------------------


def take_update(lead: Lead, update: Update) -> Taken:
    """Puts an update in its place. Of several with one event id the one that comes first by `precedence` stands."""
    updates = lead.updates
    key = lead_events.order(update)
    if key <= lead.horizon:
        return "too_late"
    for index, other in enumerate(updates):
        if other.id == update.id:
            if lead_events.precedence(other) <= lead_events.precedence(update):
                return "duplicate"
            del updates[index]
            break
    updates.insert(bisect_left(updates, key, key=lead_events.order), update)
    return "taken"


def take_fact(lead: Lead, fact_id: str, fact: LeadFact | None) -> None:
    """Replaces what is known of a conversion; None: it does not exist, or is none of this lead's."""
    if fact is None:
        lead.facts.pop(fact_id, None)
        return
    facts = lead.facts
    facts[fact_id] = fact
    if len(facts) > MAX_FACTS:
        del facts[max(facts, key=lambda name: (facts[name].at, facts[name].event_id, name))]
        lead.crowded = True


def rename_client(lead: Lead, old: str, new: str) -> None:
    """The client that the CRM named goes by another name: whoever used it was erased."""
    for update in lead.updates:
        if update.client_id == old:
            update.client_id = new
    if lead.settled is not None and lead.settled.client_id == old:
        lead.settled.client_id = new
    if lead.asked is not None and lead.asked.client_id == old:
        lead.asked = msgspec.structs.replace(lead.asked, client_id=new)
    if lead.answer is not None and lead.answer.client_id == old:
        lead.answer = msgspec.structs.replace(lead.answer, client_id=new)


def settle(lead: Lead) -> bool:
    """Folds the oldest updates for good when there are too many; True if so. Call it once what they count is counted:
    it stays as it is."""
    updates = lead.updates
    if len(updates) <= MAX_UPDATES and sum(map(lead_events.weight, updates)) <= MAX_WEIGHT:
        return False
    whole = live(lead)
    assert whole is not None
    if lead.settled is None:
        lead.settled_source = attribution(lead, whole)
    front = updates[: _surplus(updates)]
    life = lead.settled.branch() if lead.settled is not None else _born(lead)
    assert life is not None
    for update in front:
        _apply(life, update)
    life.entries = shown(life.entries)
    lead.settled = life
    lead.horizon = lead_events.order(front[-1])
    del updates[: len(front)]
    return True


# --- fold ----------------------------------------------------------------------------------------------


def live(lead: Lead) -> Life | None:
    """Folds all that is known of a lead; None if nothing is left."""
    life = lead.settled.branch() if lead.settled is not None else _born(lead)
    if life is None:
        return None
    for update in lead.updates:
        _apply(life, update)
    if life.status == "won":
        life.entries[-1] = _worth(life.entries[-1], life)
    return life


def shown(entries: list[Entry]) -> list[Entry]:
    """Of a long history the first entry and the latest."""
    return entries if len(entries) <= MAX_HISTORY else [entries[0], *entries[1 - MAX_HISTORY :]]


def first_fact(lead: Lead) -> LeadFact | None:
    """The earliest conversion of a lead."""
    return min(lead.facts.values(), key=lambda fact: (fact.at, fact.event_id), default=None)


def _born(lead: Lead) -> Life | None:
    """Created = the earliest (occurred_at, event_id) of goal or CRM record (semantics 40)."""
    fact, update = first_fact(lead), lead.updates[0] if lead.updates else None
    if fact is not None and (update is None or (fact.at, fact.event_id) <= lead_events.order(update)):
        return Life(fact.at, fact.event_id, True, [Entry("new", fact.at, fact.event_id)])
    if update is None:
        return None
    return Life(update.at, update.id, False, born=update.source)


def _apply(life: Life, update: Update) -> None:
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
    worths = (*entry.worths, worth)
    if len(worths) > MAX_HISTORY:
        worths = (worths[0], *worths[1 - MAX_HISTORY :])
    life.entries[-1] = msgspec.structs.replace(entry, worths=worths)


def _surplus(updates: list[Update]) -> int:
    """How many of the oldest must settle: some at once, so that not every further one settles another."""
    count = min(SETTLE, len(updates) - 1)
    size = sum(map(lead_events.weight, updates[count:]))
    while len(updates) - count > MAX_UPDATES or size > MAX_WEIGHT:
        size -= lead_events.weight(updates[count])
        count += 1
    return count


# --- attribution ---------------------------------------------------------------------------------------


def attribution(lead: Lead, life: Life) -> Source:
    """Where the lead came from: what its creating event says. Where that says nothing, the earliest that does: a
    conversion, the client's touchpoints at its creation, the fields of a later CRM record. `(not determined)` if
    nothing does."""
    if lead.settled_source is not None:
        return lead.settled_source
    if not life.by_goal and life.born is not None:
        return life.born
    facts = sorted(lead.facts.values(), key=lambda fact: (fact.at, fact.event_id))
    for fact in facts:
        if is_determined(fact.source):
            return fact.source
    question = wanted(lead, life)
    answer = lead.answer
    if (
        question is not None
        and answer is not None
        and (answer.client_id, answer.at) == (question.client_id, question.at)
        and is_determined(answer.source)
    ):
        return answer.source
    return life.named or NOT_DETERMINED


def is_determined(source: Source) -> bool:
    """False for the source of a conversion without any touchpoint."""
    return source.source != NOT_DETERMINED.source


def wanted(lead: Lead, life: Life | None) -> Question | None:
    """What journeys must be asked: about a lead that has a client, no conversion, and no source of its own."""
    if life is None or lead.facts or life.by_goal or life.born is not None or not life.client_id:
        return None
    if lead.settled is not None:
        return lead.asked
    return Question(life.client_id, life.created_at)


# --- counters ------------------------------------------------------------------------------------------


def counted(lead: Lead, life: Life | None) -> Counted | None:
    """What a lead counts, as a function of its events: whole, not the difference to before.

    The lead itself at its creation, each entered status at its entry, revenue and profit at the entry into `won` and
    taken back where the lead left it (semantics 36, 40)."""
    if life is None:
        return None
    fact = first_fact(lead)
    created = life.created_at // MINUTE_MS
    counts = (("leads", 1), ("won_cohort", 1)) if life.status == "won" else (("leads", 1),)
    found = [Contribution(created, counts, owner=life.owner)]
    for name, mention in (("mql", life.mql), ("sql", life.sql)):
        if mention is not None:
            found.append(Contribution(mention.at // MINUTE_MS, ((name, 1),), owner=mention.owner))
    first_contact = next((entry for entry in life.entries if entry.status == "contacted"), None)
    for entry in life.entries:
        found.extend(_of_entry(entry, life, contacts=entry is first_contact and entry.at == life.contacted_at))
    return Counted(
        attribution(lead, life),
        fact.goal if fact is not None else "",
        fact.segment if fact is not None else (),
        tuple(found),
    )


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
