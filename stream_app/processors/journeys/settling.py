"""How a client settles: events leave what is compared, conversions get rows, sessions are done with."""

from __future__ import annotations

from stream_app.domain import client as clients
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.sessionization import Fold
from stream_app.domain.timeline import Timeline
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.journeys import orders
from stream_app.processors.journeys.conversions import Conversions
from stream_app.processors.journeys.settled import Settled


class Settling:
    """Lets go what no admissible event can touch any more."""

    def __init__(
        self, fold: Fold, timeline: Timeline, views: Views, conversions: Conversions, settled: Settled, grace_ms: int
    ) -> None:
        self._fold = fold
        self._timeline = timeline
        self._views = views
        self._conversions = conversions
        self._settled = settled
        self._grace_ms = grace_ms

    def settle(self, key: bytes, client_id: str, client: Client, horizon: int, context: Context[Hit]) -> None:
        """Settles what no admissible event can touch any more; conversions leave, orders get a row of their own."""
        refunds = client.stored.refunds
        for converted in self._timeline.settle(client, horizon, client_id):
            frozen = self._conversions.freeze(client, converted)
            self._settled.keep(key, client_id, client, frozen, context.rows)
        if client.stored.refunds is not refunds:
            orders.settle_refunds(client_id, client)

    def release(self, key: bytes, client: Client, context: Context[Hit]) -> None:
        """What was kept for what other clients might still tell, long enough in commits, is looked at by the time."""
        horizon = context.now - self._grace_ms - clients.HOLD_MS
        stored, snapshot = client.stored, client.snapshot
        if stored.orders or stored.held:
            self._settled.release(key, client, horizon, context.rows)
        if snapshot.ended or (snapshot.open is not None and snapshot.open.ordered):
            self.finish_sessions(client, horizon, ordered=True)

    def finish_sessions(self, client: Client, horizon: int, *, ordered: bool) -> None:
        """Sessions that are settled and published as closed are done with; those with orders only when `ordered`, as
        long as they are not too many. That is asked before the events of a commit are taken, which may still belong to
        the latest session."""
        snapshot = client.snapshot
        last = snapshot.open
        if not snapshot.ended and (last is None or last.final):
            return
        stored, head = client.stored, client.head
        published = stored.published
        gone: set[str] = set()
        held: list[str] = []
        for session in snapshot.ended:
            before = published.get(session.id)
            if before is not None and before.status == clients.CLOSED:
                if not session.ordered or (ordered and self._views.closes_at(session) <= horizon):
                    gone.add(session.id)
                else:
                    held.append(session.id)
        gone.update(held[: -clients.MAX_HELD])
        if gone:
            snapshot.ended = tuple(session for session in snapshot.ended if session.id not in gone)
        if (
            last is not None
            and not last.final
            and (ordered or not last.ordered)
            and self._views.closes_at(last) <= (min(horizon, stored.horizon) if ordered else horizon)
            and not any(hit.at - last.ended_at < self._fold.timeout_ms for hit in client.recents[:1])
        ):
            before = published.get(last.id)
            if before is not None and before.status == clients.CLOSED:
                last.final = True
                if not ordered:
                    # Nothing may join it any more. What has not settled stays on this side of the horizon.
                    until = min(horizon, client.recents[0].at) if client.recents else horizon
                    stored.horizon = max(stored.horizon, until)
                gone.add(last.id)
        if gone:
            client.snapshot_changed = True
            head.ended = tuple(session for session in head.ended if session.id not in gone)
            if head.open is not None and head.open.id in gone:
                head.open.final = True
            for record_id in gone:
                published.pop(record_id, None)
