"""A lead: a pure function of the set of its events (domain rules, section 5; semantics 40).

Events are folded in order of (occurred_at, event_id), whatever order they came in. A lead holds few of them, so it is
folded anew whenever one comes. Only a lead with too many has its oldest settled: they are folded into `Life` once, and
what they counted stays as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

import msgspec

from stream_app.domain import lead_events
from stream_app.domain.client import Told
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.lead_counts import Counted, contributions
from stream_app.domain.lead_events import LeadFact, Question, Update
from stream_app.domain.lead_life import Life, apply, born, shown, worth_now
from stream_app.domain.sources.model import Source

MAX_UPDATES = 200
"""Updates that are kept one by one; beyond it the oldest settle."""
MAX_WEIGHT = 128 * 1024
"""As MAX_UPDATES, in bytes of their texts."""
SETTLE = 50
"""Updates that settle at once."""
MAX_FACTS = 16
"""Conversions kept per lead: the earliest. Only the first decides anything."""

Taken = Literal["taken", "duplicate", "too_late"]


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


def clients_of(lead: Lead) -> list[str]:
    """The clients that the CRM named."""
    named = [update.client_id for update in lead.updates]
    if lead.settled is not None:
        named.append(lead.settled.client_id)
    return sorted({client for client in named if client})


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
    life = _begun(lead)
    assert life is not None
    for update in front:
        apply(life, update)
    life.entries = shown(life.entries)
    lead.settled = life
    lead.horizon = lead_events.order(front[-1])
    del updates[: len(front)]
    return True


# --- fold ----------------------------------------------------------------------------------------------


def live(lead: Lead) -> Life | None:
    """Folds all that is known of a lead; None if nothing is left."""
    life = _begun(lead)
    if life is None:
        return None
    for update in lead.updates:
        apply(life, update)
    worth_now(life)
    return life


def first_fact(lead: Lead) -> LeadFact | None:
    """The earliest conversion of a lead."""
    return min(lead.facts.values(), key=lambda fact: (fact.at, fact.event_id), default=None)


def _surplus(updates: list[Update]) -> int:
    """How many of the oldest must settle: some at once, so that not every further one settles another."""
    count = min(SETTLE, len(updates) - 1)
    size = sum(map(lead_events.weight, updates[count:]))
    while len(updates) - count > MAX_UPDATES or size > MAX_WEIGHT:
        size -= lead_events.weight(updates[count])
        count += 1
    return count


def _begun(lead: Lead) -> Life | None:
    """What the events that are kept one by one go on from."""
    if lead.settled is not None:
        return lead.settled.branch()
    return born(first_fact(lead), lead.updates[0] if lead.updates else None)


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


def counted(lead: Lead, life: Life | None) -> Counted | None:
    """What a lead counts, under its attribution; None: it does not exist."""
    if life is None:
        return None
    fact = first_fact(lead)
    return Counted(
        attribution(lead, life),
        fact.goal if fact is not None else "",
        fact.segment if fact is not None else (),
        contributions(life),
    )
