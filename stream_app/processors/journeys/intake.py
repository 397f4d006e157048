"""How a client's events are taken in: each in its place, late ones as far as they can still be used."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_app.domain import duplicates
from stream_app.domain.client import Client
from stream_app.domain.hits import BOT, CONVERSION, REFUND, Hit
from stream_app.domain.journey import Converted
from stream_app.domain.owners import welcome
from stream_app.domain.refunds import MAX_REFUNDS, Refund
from stream_app.domain.sessionization import Fold
from stream_app.domain.timeline import Timeline
from stream_app.engine.processor import Context
from stream_app.processors.counting import Counter
from stream_app.processors.journeys import codec
from stream_app.processors.journeys.promos import PromoCodes

TAKEN, SHOWN, EVERYTHING, REFOLD = 1, 2, 4, 8
"""What an event means for publishing: nothing yet; what it touched is looked at; everything is; the head is folded anew
first."""


@dataclass(slots=True)
class Late:
    """What came behind everything that is settled."""

    conversions: list[Converted] = field(default_factory=list)
    refunds: list[Hit] = field(default_factory=list)


class Intake:
    """Takes events into a client."""

    def __init__(self, fold: Fold, timeline: Timeline, counter: Counter | None, promos: PromoCodes | None) -> None:
        self._fold = fold
        self._timeline = timeline
        self._counter = counter
        self._promos = promos

    def take(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        hit: Hit,
        so_far: int,
        late: Late,
        context: Context[Hit],
    ) -> int:
        """Takes one event in; says what that means for publishing."""
        kind = hit.kind
        if kind >= BOT:
            context.count("bots" if kind == BOT else "spam")
            if self._counter is not None:
                self._counter.bot(hit, context)
            return 0
        if hit.at < client.stored.horizon:
            if not self._take_late(key, client, hit, late, context):
                return 0
            return EVERYTHING | REFOLD if client.head.converted else EVERYTHING
        hit.client = ""
        admission = self._timeline.admit(client, hit)
        if admission == "duplicate":
            context.count("duplicates")
            return 0
        if kind == REFUND:
            _judge(key, client, hit, context)
        elif kind == CONVERSION and self._promos is not None:
            self._promos.ask(client, client_id, hit, context)
        if admission == "out_of_order":
            return EVERYTHING | REFOLD
        if so_far & REFOLD:
            return TAKEN
        if not self._fold.apply(client.head, hit, client_id, client.orders):
            return SHOWN if client.shows_closed else TAKEN
        return EVERYTHING if kind == REFUND else SHOWN

    def _take_late(self, key: bytes, client: Client, hit: Hit, late: Late, context: Context[Hit]) -> bool:
        """An event behind what is settled. A click cannot be used; a conversion is credited against the touchpoints
        that are kept; a refund goes to its order."""
        stored = client.stored
        if hit.kind < CONVERSION:
            capped = hit.at < stored.cap_horizon
            context.reject(hit, "too_late", "client_cap" if capped else "occurred_at: before what is settled")
            return False
        sale = hit.sale
        assert sale is not None
        if duplicates.is_remembered(stored.remembered, hit.id) or any(
            other.id == hit.id and other.kind >= CONVERSION for other in client.recents
        ):
            context.count("duplicates")
            return False
        duplicates.remember(stored, hit.id)
        hit.client = ""
        if hit.kind == REFUND:
            _judge(key, client, hit, context)
            stored.refunds = (*stored.refunds, Refund.kept(hit))[-MAX_REFUNDS:]
            late.refunds.append(hit)
            return True
        sale.late = True
        if sale.order and sale.order in client.orders and not _is_earlier(key, client, hit, context):
            context.count("duplicate_orders")
            return False
        late.conversions.append(Converted(hit, "", hit.user))
        if sale.order:
            client.orders = client.orders | {sale.order}
        for journey in (client.snapshot, client.head):
            welcome(journey, hit)
        client.snapshot.last_at = max(client.snapshot.last_at, hit.at)
        client.snapshot_changed = True
        client.head.last_at = max(client.head.last_at, hit.at)
        return True


def _is_earlier(key: bytes, client: Client, hit: Hit, context: Context[Hit]) -> bool:
    """Whether a late claim comes before the settled one of this client: the smallest keeps the order."""
    assert hit.sale is not None
    held = next((order for order in client.stored.orders if order.key == hit.sale.order), None)
    if held is None:
        return False
    settled = codec.frozen(key, held.row, context.rows).hit
    return (hit.at, hit.id) < (settled.at, settled.id)


def _judge(key: bytes, client: Client, hit: Hit, context: Context[Hit]) -> None:
    """A refund in another currency than its order is refused (semantics 24). It takes nothing, but stays among the
    events: its id is used, whether it came before its order or after. If its order is not known here, the order's
    own processor will see to it: where the record lies is kept for the dead letter that it may become."""
    context.count("refunds")
    refund = hit.sale
    assert refund is not None
    converted = client.head.converted
    sale = next((c.hit.sale for c in converted if c.hit.sale and c.hit.sale.order == refund.order), None)
    if sale is None and refund.order in client.orders:
        row = next((order.row for order in client.stored.orders if order.key == refund.order), None)
        sale = codec.frozen(key, row, context.rows).hit.sale if row is not None else None
    if sale is None:
        refund.origin = tuple(context.origin(hit))
    elif refund.value is not None and sale.value is not None and sale.currency != refund.currency:
        context.reject(hit, "bad_money", "currency: another than the order's")
