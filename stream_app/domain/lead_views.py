"""What the world sees of a lead: a record as a function of its events."""

from __future__ import annotations

from stream_app.domain import leads, money
from stream_app.domain.lead_life import Entry, Life, shown
from stream_app.domain.lead_records import Lead, LeadRetraction, LeadSource, StatusEntry
from stream_app.domain.sources.model import Source
from stream_app.domain.times import rfc3339


def lead_view(lead_id: str, lead: leads.Lead, life: Life, rules_version: str) -> Lead:
    """The record of a lead. Revision 0: the publisher gives the real one."""
    entries = life.entries
    history = shown(entries)
    fact = leads.first_fact(lead)
    source = leads.attribution(lead, life)
    last = entries[-1]
    contacted = life.contacted_at
    currency = life.currency
    return Lead(
        id=lead_id,
        revision=0,
        retracted=False,
        truncated=lead.crowded or lead.settled is not None or len(history) < len(entries),
        rules_version=rules_version,
        lead_id=lead_id,
        status=last.status,
        qualification=life.qualification or None,  # type: ignore[arg-type]  # mql, sql, or none mentioned
        created_at=rfc3339(life.created_at),
        first_status_at=rfc3339(entries[0].at),
        status_since=rfc3339(last.at),
        history=tuple(_entry(entry) for entry in history),
        owner=life.owner or None,
        client_id=(fact.client_id if fact is not None else life.client_id) or None,
        contact_id=life.contact_id or None,
        goal=fact.goal if fact is not None else None,
        segment=dict(fact.segment) if fact is not None else {},
        attributed=_source(source),
        source_determined=leads.is_determined(source),
        revenue=None if life.revenue is None else money.shown(life.revenue, currency),
        profit=None if life.profit is None else money.shown(life.profit, currency),
        currency=currency or None,
        refusals=life.refusals,
        reopened=life.reopened,
        time_to_contact_s=None if contacted is None else (contacted - life.created_at) // 1_000,
        time_to_close_s=(last.at - life.created_at) // 1_000 if last.status == "won" else None,
    )


def lead_retraction(lead_id: str, rules_version: str) -> LeadRetraction:
    """Takes back a lead of which nothing is left."""
    return LeadRetraction(lead_id, 0, True, False, rules_version, lead_id)


def _entry(entry: Entry) -> StatusEntry:
    return StatusEntry(entry.status, rfc3339(entry.at), entry.owner or None, entry.reason or None)


def _source(source: Source) -> LeadSource:
    return LeadSource(
        source.source,
        source.medium,
        source.campaign,
        source.term,
        source.content,
        source.source_platform,
        source.channel,
    )
