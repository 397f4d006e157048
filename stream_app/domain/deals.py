"""Deals with the chains that led to them: conversions, and leads that became clients."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import msgspec

from stream_app.domain.lead_records import Lead
from stream_app.domain.records import AttributedConversion, TouchpointRecord
from stream_app.domain.times import parse_rfc3339

LEAD_TYPE = "lead_type"
"""The segment field in which trackers say what a lead is: `seed` (came by recommendation), `net` (by marketing),
`spear` (was sought out)."""


class Deal(msgspec.Struct, frozen=True, gc=False):
    """One deal. Money is gross; what is not known is None."""

    kind: Literal["conversion", "won_lead"]
    id: str
    at: int
    """Of the conversion, or when the lead was won. Epoch ms."""
    goal: str | None
    client_id: str | None
    user_id: str | None
    order_id: str | None
    lead_id: str | None
    contact_id: str | None
    lead_type: str | None
    lead_owner: str | None
    """Who worked on the lead before it was won."""
    client_owner: str | None
    """Who has the client since."""
    value: str | None
    refunded: str | None
    profit: str | None
    currency: str | None
    source: str
    medium: str
    campaign: str
    channel: str
    """To which it counts: last non-direct, or the lead's own attribution."""
    first_source: str | None
    first_channel: str | None
    path: str | None
    """Channels, oldest first."""
    chain: str | None
    """Every touchpoint with its day: `2026-05-01 google / cpc / spring > …`."""
    touchpoints: int | None
    days_to_convert: int | None
    time_to_contact_s: int | None
    time_to_close_s: int | None


def deals(
    conversions: Iterable[AttributedConversion], leads: Iterable[Lead], since_ms: int, until_ms: int
) -> list[Deal]:
    """Conversions that occurred in [since, until), programs' ones left out, and leads won in it that are won still;
    oldest first. A won lead takes the chain of the conversion that created it, if there is one."""
    creating: dict[str, AttributedConversion] = {}
    found: list[Deal] = []
    for conversion in conversions:
        if conversion.bot:
            continue
        # A goal of kind lead without a lead's id makes one by its event id.
        lead_id = conversion.lead_id or conversion.event_id
        known = creating.get(lead_id)
        if known is None or (conversion.occurred_at, conversion.event_id) < (known.occurred_at, known.event_id):
            creating[lead_id] = conversion
        at = parse_rfc3339(conversion.occurred_at)
        if since_ms <= at < until_ms:
            found.append(_of_conversion(conversion, at))
    won = [(lead, parse_rfc3339(lead.status_since)) for lead in leads if lead.status == "won"]
    found += [_of_lead(lead, at, creating.get(lead.lead_id)) for lead, at in won if since_ms <= at < until_ms]
    return sorted(found, key=lambda deal: (deal.at, deal.kind, deal.id))


def chain(touchpoints: Iterable[TouchpointRecord]) -> str:
    """Every touchpoint with its day (UTC), oldest first."""
    return " > ".join(f"{t.occurred_at[:10]} {t.source} / {t.medium} / {t.campaign}" for t in touchpoints)


def _of_conversion(conversion: AttributedConversion, at: int) -> Deal:
    credited = conversion.credits["last_non_direct"][0]
    first = conversion.credits["first_click"][0]
    return Deal(
        kind="conversion",
        id=conversion.id,
        at=at,
        goal=conversion.goal,
        client_id=conversion.client_id,
        user_id=conversion.user_id,
        order_id=conversion.order_id,
        lead_id=conversion.lead_id,
        contact_id=None,
        lead_type=None,
        lead_owner=None,
        client_owner=None,
        value=conversion.value,
        refunded=_unless_zero(conversion.refunded_value),
        profit=None,
        currency=conversion.currency,
        source=credited.source,
        medium=credited.medium,
        campaign=credited.campaign,
        channel=credited.channel,
        first_source=first.source,
        first_channel=first.channel,
        path=conversion.path,
        chain=chain(conversion.touchpoints),
        touchpoints=len(conversion.touchpoints),
        days_to_convert=conversion.days_to_convert,
        time_to_contact_s=None,
        time_to_close_s=None,
    )


def _of_lead(lead: Lead, at: int, created_by: AttributedConversion | None) -> Deal:
    first = created_by.credits["first_click"][0] if created_by is not None else None
    lead_owner, client_owner = _owners(lead)
    return Deal(
        kind="won_lead",
        id=lead.id,
        at=at,
        goal=lead.goal,
        client_id=lead.client_id,
        user_id=created_by.user_id if created_by is not None else None,
        order_id=None,
        lead_id=lead.lead_id,
        contact_id=lead.contact_id,
        lead_type=lead.segment.get(LEAD_TYPE),
        lead_owner=lead_owner,
        client_owner=client_owner,
        value=lead.revenue,
        refunded=None,
        profit=lead.profit,
        currency=lead.currency,
        source=lead.attributed.source,
        medium=lead.attributed.medium,
        campaign=lead.attributed.campaign,
        channel=lead.attributed.channel,
        first_source=first.source if first is not None else None,
        first_channel=first.channel if first is not None else None,
        path=created_by.path if created_by is not None else None,
        chain=chain(created_by.touchpoints) if created_by is not None else None,
        touchpoints=len(created_by.touchpoints) if created_by is not None else None,
        days_to_convert=created_by.days_to_convert if created_by is not None else None,
        time_to_contact_s=lead.time_to_contact_s,
        time_to_close_s=lead.time_to_close_s,
    )


def _owners(lead: Lead) -> tuple[str | None, str | None]:
    """(who worked on the lead last before it was won, who has it since)."""
    before = [entry.owner for entry in lead.history if entry.status != "won" and entry.owner]
    won = [entry.owner for entry in lead.history if entry.status == "won" and entry.owner]
    lead_owner = before[-1] if before else lead.owner
    return lead_owner, (won[-1] if won else lead.owner)


def _unless_zero(amount: str | None) -> str | None:
    return amount if amount is not None and Decimal(amount) else None
