"""A client is erased: every record of it that is known of is taken back (semantics 50, decision 0021)."""

from __future__ import annotations

from collections.abc import Sequence

from stream_app.domain import client as clients
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.ids import conversion_id, link_id
from stream_app.domain.records import CONVERSIONS, SESSIONS
from stream_app.engine.processor import Context
from stream_app.processors.facts import tell
from stream_app.processors.journeys import codec
from stream_app.processors.journeys.orders import let_go, let_refunds_go
from stream_app.processors.journeys.writing import Writer


def take_back(
    key: bytes,
    client_id: str,
    client: Client | None,
    new: str,
    conversions: Sequence[str],
    writer: Writer,
    context: Context[Hit],
) -> None:
    """Under another name: a random one, in the same partition. What was counted and told of the client stays; orders it
    holds stay held, by nobody."""
    gone = dict.fromkeys(conversions, CONVERSIONS)
    if client is not None:
        gone |= _records(client)
        for order in (*client.stored.orders, *client.stored.held):
            frozen = codec.frozen(key, order.row, context.rows)
            if order.digest:
                gone[conversion_id(client_id, frozen.hit.id)] = CONVERSIONS
            own = (touch for place, touch in enumerate(frozen.touchpoints) if place not in frozen.foreign)
            gone |= {name: SESSIONS for name in (frozen.session_id, *(touch.session_id for touch in own)) if name}
            let_go(client_id, frozen.hit, context)
        for converted in client.head.converted:
            let_go(client_id, converted.hit, context)
        let_refunds_go(client_id, client, context)
        tell(client.stored.linked, (), link_id(client_id, client.head.life), context)
    for record_id, topic in gone.items():
        writer.retract(new.encode(), new, topic, record_id, context)


def _records(client: Client) -> dict[str, str]:
    """Id → topic of what is published or still talked of."""
    head, published = client.head, client.stored.published
    found = {
        name: CONVERSIONS if entry.status == clients.UNSETTLED else SESSIONS
        for name, entry in published.items()
        if entry.digest
    }
    sessions = [session.id for session in (*head.ended, head.open) if session is not None]
    sessions.extend(touch.session_id for touch in head.touchpoints if touch.session_id)
    return dict.fromkeys(sessions, SESSIONS) | found
