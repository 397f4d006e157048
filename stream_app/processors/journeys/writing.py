"""How a client's records are written and taken back, and what is counted in place of what was."""

from __future__ import annotations

import msgspec

from stream_app.domain import horizons
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.times import LATEST_MS
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.counting import Counter

_AT_REVISION = len('{"id":"0123456789abcdef","revision":')
encode_record = msgspec.json.Encoder().encode


def with_revision(body: bytes, revision: int) -> bytes:
    """Puts the revision in place of the 0: always the second field, behind an id of sixteen hex digits."""
    return b"%b%d%b" % (body[:_AT_REVISION], revision, body[_AT_REVISION + 1 :])


class Writer:
    """What all records have in common."""

    def __init__(self, views: Views, counter: Counter | None) -> None:
        self.views = views
        self.counter = counter

    def retract(self, key: bytes, client_id: str, topic: str, record_id: str, context: Context[Hit]) -> None:
        """Takes a record back."""
        body = encode_record(self.views.retraction(client_id, record_id))
        context.emit(topic, key, with_revision(body, context.revision))
        context.count("retractions", topic)

    def move(self, client: Client, before: bytes, after: bytes, context: Context[Hit]) -> bytes:
        """Counts `after` in place of `before`; gives it back."""
        if self.counter is not None and before != after:
            stored = client.stored
            held = horizons.held_from(stored) if stored.promos else LATEST_MS
            stored.counts = self.counter.move(before, after, stored.counts, context, held)
        return after
