"""The slot for counters in journeys: what a record counts, and the difference when it changes (decision 0012)."""

from __future__ import annotations

from typing import Protocol

from stream_app.domain.client import Client, Frozen
from stream_app.domain.hits import Hit
from stream_app.domain.journey import Session
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.domain.times import LATEST_MS
from stream_app.engine.processor import Context


class Counter(Protocol):
    """Says what records count. A contribution is bytes that only the counter reads: journeys keeps the last one with
    each record that can still change, and hands both to `move` when it does. Empty: nothing is counted.

    The two questions must be answered by their arguments alone."""

    def session(self, client_id: str, client: Client, session: Session, record: AttributedSession) -> bytes:
        """What a session counts as published."""
        ...

    def conversion(self, client_id: str, client: Client, frozen: Frozen, record: AttributedConversion) -> bytes:
        """What a conversion counts as published, its refunds included."""
        ...

    def move(self, before: bytes, after: bytes, counts: bytes, context: Context[Hit], held: int = LATEST_MS) -> bytes:
        """Counts `after` in place of `before` (empty: not published before, or not any more).

        `counts` is what the counter itself remembers of this client (distinct clients, funnel, scores); its new value
        is returned. It must stay small, for it is saved with the client at every event. Whatever is within grace may
        change again, and what is from `held` on.
        """
        ...

    def bot(self, hit: Hit, context: Context[Hit]) -> None:
        """A click by a program (`hit.kind == BOT`) or with a spam referrer (SPAM), which leaves nothing else behind."""
        ...
