"""A state as people read it: what `/clients/{id}`, `/leads/{id}` and `state get KIND ID` show.

No personal data: ids as trackers gave them, pages without query, sources. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from stream_app.domain import leads
from stream_app.domain.client import Client
from stream_app.domain.costs import Row
from stream_app.domain.hits import CONVERSION, LINK_CLICK, REFUND, SCREEN_VIEW, Hit
from stream_app.domain.journey import Session, Touchpoint
from stream_app.domain.lead_views import lead_view
from stream_app.domain.leads import Lead
from stream_app.domain.sources.model import Source
from stream_app.domain.times import rfc3339
from stream_app.engine.processor import Rows
from stream_app.processors.journeys import codec
from stream_app.processors.persons import Known

_KINDS = {SCREEN_VIEW: "screen_view", LINK_CLICK: "link_click", CONVERSION: "conversion", REFUND: "refund"}

Document = dict[str, object]


def client_document(key: bytes, client: Client, rows: Rows | None) -> Document:
    """The journey of one client, newest session first; with `rows`, its settled conversions too."""
    head, stored = client.head, client.stored
    settled = [codec.frozen(key, order.row, rows) for order in (*stored.orders, *stored.held)[-100:]] if rows else []
    sessions = [head.open, *reversed(head.ended)] if head.open is not None else list(reversed(head.ended))
    return {
        "client_id": key.decode("utf-8", "replace"),
        "user_id": head.user or None,
        "users": [
            {"user_id": owner.user, "from_session": max(owner.since, 1), "linked_at": rfc3339(owner.linked_at)}
            for owner in head.owners
        ],
        "sessions_so_far": head.sessions,
        "last_event_at": rfc3339(head.last_at),
        "settled_until": rfc3339(client.stored.horizon) if client.stored.horizon > 0 else None,
        "truncated": client.stored.cap_horizon > 0,
        "sessions": [_session(session) for session in sessions],
        "touchpoints": [_touchpoint(touchpoint) for touchpoint in head.touchpoints],
        "last_non_direct": _touchpoint(head.non_direct) if head.non_direct is not None else None,
        "touchpoints_on_other_clients": {
            user: [
                _touchpoint(linked.touchpoint)
                | {
                    "linked_at": rfc3339(linked.since),
                    "linked_until": rfc3339(linked.until) if linked.until else None,
                }
                for linked in others.touches
            ]
            for user, others in client.others.items()
        },
        "conversions_within_grace": [_hit(converted.hit) for converted in head.converted],
        "settled_conversions": [
            _hit(frozen.hit)
            | {"user_id": frozen.user or None, "path": " > ".join(t.source.channel for t in frozen.touchpoints)}
            for frozen in settled
        ],
        "settled_orders": len(stored.orders),
        "orders_of_others": [
            {
                "order": f"{order:016x}",
                "rival": {"occurred_at": rfc3339(at), "event_id": event, "client_id": rival},
            }
            for order, ruling in stored.rulings.items()
            if ruling.rival is not None
            for at, event, rival in [ruling.rival]
        ],
        "refunds": [
            {
                "event_id": refund.id,
                "occurred_at": rfc3339(refund.at),
                "value": None if refund.value is None else str(refund.value),
                "currency": refund.currency or None,
            }
            for refund in (*stored.refunds, *(r for ruling in stored.rulings.values() for r in ruling.refunds))
        ],
        "events_within_grace": [_hit(hit) for hit in client.recents[-100:]],
        "events_within_grace_in_all": len(client.recents),
    }


def person_document(key: bytes, known: Known) -> Document:
    """A person's clients, with the touchpoints that they are linked to."""
    return {
        "user_id": key.decode("utf-8", "replace"),
        "clients": [
            {
                "client_id": link.client_id,
                "known_since": rfc3339(link.since),
                "touchpoints": [
                    _touchpoint(linked.touchpoint)
                    | {
                        "linked_at": rfc3339(linked.since),
                        "linked_until": rfc3339(linked.until) if linked.until else None,
                    }
                    for linked in link.touches
                ],
            }
            for link in known.person.links.values()
        ],
        "truncated": known.person.dropped_until > 0,
    }


def lead_document(key: bytes, lead: Lead) -> Document:
    """The life of one lead: its record, what it stands on, and what it counts."""
    life = leads.live(lead)
    assert life is not None
    record = lead_view(key.decode("utf-8", "replace"), lead, life, "")
    document = msgspec.to_builtins(record)
    return {
        **{name: value for name, value in document.items() if name not in {"id", "revision", "retracted"}},
        "conversions": [
            {
                "event_id": fact.event_id,
                "occurred_at": rfc3339(fact.at),
                "client_id": fact.client_id,
                "goal": fact.goal,
                **_source(fact.source),
            }
            for fact in sorted(lead.facts.values(), key=lambda fact: (fact.at, fact.event_id))
        ],
        "updates": [
            {"event_id": update.id, "occurred_at": rfc3339(update.at), "status": update.status}
            for update in lead.updates[-100:]
        ],
        "updates_in_all": len(lead.updates),
    }


def cost_document(key: bytes, row: Row) -> Document:
    """A row of advertising spend as it counts."""
    spend = row.spend
    return {
        "cost_id": key.decode("utf-8", "replace"),
        "day": (dt.date(1970, 1, 1) + dt.timedelta(spend.day)).isoformat(),
        **_source(spend.source),
        "cost": f"{spend.cost:f}",
        "currency": spend.currency,
        "ad_clicks": spend.ad_clicks,
        "impressions": spend.impressions,
    }


def _session(session: Session) -> Document:
    return {
        "id": session.id,
        "number": session.number,
        "split_reason": session.split_reason,
        "started_at": rfc3339(session.started_at),
        "ended_at": rfc3339(session.ended_at),
        "page_views": session.page_views,
        "events": session.events,
        "conversions": session.conversions,
        "user_id": session.user or session.inherited_user or None,
        "landing_url": session.landing_url or None,
        "exit_url": session.exit_url or None,
        **_source(session.source),
        "attributed": _touchpoint(session.attributed),
        "ignored_referrals": list(session.ignored_referrals),
    }


def _touchpoint(touchpoint: Touchpoint) -> Document:
    return {
        "occurred_at": rfc3339(touchpoint.at),
        "session_id": touchpoint.session_id or None,
        **_source(touchpoint.source),
    }


def _source(source: Source) -> Document:
    return {
        "source": source.source,
        "medium": source.medium,
        "campaign": source.campaign,
        "channel": source.channel,
    }


def _hit(hit: Hit) -> Document:
    found: Document = {
        "event_id": hit.id,
        "occurred_at": rfc3339(hit.at),
        "kind": _KINDS.get(hit.kind, "page_view"),
    }
    if hit.url:
        found["url"] = hit.url
    if hit.source is not None:
        found |= _source(hit.source)
    if hit.sale is not None:
        value = hit.sale.value
        found |= {"goal": hit.sale.goal, "value": None if value is None else str(value), "currency": hit.sale.currency}
        if hit.sale.order_id:
            found["order_id"] = hit.sale.order_id
    return found
