"""When a client is looked at again without an event: as a visit closes, or to be forgotten."""

from __future__ import annotations

from stream_app.domain import client as clients
from stream_app.domain import horizons
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.journeys import codec
from stream_app.processors.lead_facts import LeadAnswers


class Expiry:
    """Says when that is, and forgets."""

    def __init__(self, views: Views, answers: LeadAnswers, grace_ms: int, expiry_ms: int) -> None:
        self._views = views
        self._answers = answers
        self._grace_ms = grace_ms
        self._expiry_ms = expiry_ms

    def due_or_gone(self, key: bytes, client_id: str, client: Client, context: Context[Hit]) -> Client | None:
        """Sets when the client is due next; None if it is forgotten now."""
        if client.stored.asked:
            horizon = horizons.hold(client.stored, context.now - self._grace_ms, context.revision)
            self._answers.answer(client_id, client, horizon, context)
        due = self._forgotten_at(client)
        if context.now >= due:
            stored = client.stored
            if (
                not (stored.linked or stored.orders or stored.held or stored.promos)
                or context.revision >= stored.revision + clients.HOLD_COMMITS
            ):
                codec.forget(key, client, context.rows)
                return None
            due = context.now + clients.HOLD_MS
        client.due = self._due(client, due)
        return client

    def due(self, client: Client) -> int:
        """When the earliest open session closes, or the client is forgotten."""
        return self._due(client, self._forgotten_at(client))

    def _forgotten_at(self, client: Client) -> int:
        """When the client is forgotten. One that is known from questions only is kept as long as they are open."""
        expiry = client.head.last_at + self._expiry_ms
        if client.stored.asked:
            expiry = max(expiry, max(asked.at for asked in client.stored.asked) + self._grace_ms + 1)
        return expiry

    def _due(self, client: Client, expiry: int) -> int:
        head = client.head
        due = expiry
        published = client.stored.published
        last = head.open
        client.shows_closed = False
        if last is not None and not last.final:
            before = published.get(last.id)
            if before is None or before.status == clients.OPEN:
                due = min(due, self._views.closes_at(last))
            else:
                client.shows_closed = True
        for session in head.ended:
            before = published.get(session.id)
            if before is None or before.status == clients.OPEN:
                due = min(due, self._views.closes_at(session))
        return due
