"""A conversion as it is seen, told and counted, whether it has settled or not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream_app.domain import persons
from stream_app.domain.client import Client, Frozen, Told
from stream_app.domain.hits import Hit
from stream_app.domain.ids import content_digest
from stream_app.domain.journey import Captured, Converted
from stream_app.domain.records import AttributedConversion
from stream_app.domain.refunds import Refund
from stream_app.domain.sessionization import Fold
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.facts import Teller, tell, tellers_of
from stream_app.processors.journeys.orders import claims
from stream_app.processors.journeys.writing import Writer

_encode_apart = msgspec.msgpack.Encoder(decimal_format="string").encode
_NOTHING_APART = (None, (), None, False, "", "", ())


class Conversions:
    """Says what is visible of a conversion, and tells and counts what follows from its record."""

    def __init__(self, fold: Fold, views: Views, tellers: Sequence[Teller], writer: Writer) -> None:
        self._fold = fold
        self._views = views
        self._tellers = tellers_of(tellers, "conversion")
        self._counter = writer.counter
        self._move = writer.move

    def freeze(self, client: Client, converted: Converted) -> Frozen:
        """A conversion with its grounds, as of now."""
        hit = converted.hit
        sale = hit.sale
        assert sale is not None
        head = converted.past or client.head
        session_id = converted.session_id
        if sale.late or sale.bot:
            session_id = self._fold.session_at(head, hit.at)
        user = converted.user
        path = persons.path(self._views.path(head, hit, user), client.others, user, hit.at, self._oldest(hit))
        truncated = hit.at < client.stored.cap_horizon or path.cut or self._views.cut_short(head, hit)
        codes = tuple(captured for captured in head.codes if captured.at <= hit.at) if head.codes else ()
        if hit.code:
            codes = (*(captured for captured in codes if captured.is_visit), Captured(hit.at, hit.code))
        return Frozen(hit, session_id, user, path.touchpoints, truncated, codes, foreign=path.foreign)

    def rejoined(self, client: Client, frozen: Frozen) -> Frozen:
        """A settled conversion with what is known by now of its user's other clients."""
        hit = frozen.hit
        foreign = set(frozen.foreign)
        mine = tuple(touch for place, touch in enumerate(frozen.touchpoints) if place not in foreign)
        path = persons.path(mine, client.others, frozen.user, hit.at, self._oldest(hit))
        if path.touchpoints == frozen.touchpoints:
            return frozen
        return msgspec.structs.replace(
            frozen,
            touchpoints=path.touchpoints,
            foreign=path.foreign,
            truncated=frozen.truncated or path.cut,
        )

    def _oldest(self, hit: Hit) -> int:
        assert hit.sale is not None
        return hit.at - self._views.lookback_ms(hit.sale.goal)

    def view(self, client_id: str, client: Client, frozen: Frozen) -> AttributedConversion:
        """Its record, refunds included."""
        sale = frozen.hit.sale
        assert sale is not None
        asked: tuple[Refund, ...] = ()
        if sale.order:
            asked = tuple(refund for refund in client.stored.refunds if refund.order == sale.order)
            asked += tuple(
                Refund.of(refund)
                for refund in client.head.refunds
                if refund.sale is not None and refund.sale.order == sale.order
            )
            ruling = client.stored.rulings.get(sale.order)
            if ruling is not None:
                asked += ruling.refunds
        return self._views.conversion(
            client_id,
            frozen.hit,
            frozen.session_id,
            frozen.user,
            frozen.touchpoints,
            asked,
            truncated=frozen.truncated,
        )

    def follow(
        self,
        client_id: str,
        client: Client,
        frozen: Frozen,
        record: AttributedConversion,
        told: tuple[Told, ...],
        counted: bytes,
        context: Context[Hit],
    ) -> tuple[tuple[Told, ...], bytes]:
        """Tells and counts a conversion as it is now; what is told and counted of it from here on."""
        facts = claims(client_id, frozen)
        for teller in self._tellers:
            facts.extend(teller(client_id, client, frozen, record))
        if facts or told:
            told = tell(told, facts, record.id, context)
        counter = self._counter
        if counter is not None:
            counted = self._move(client, counted, counter.conversion(client_id, client, frozen, record), context)
        return told, counted


def digest_of(body: bytes, frozen: Frozen) -> int:
    """Of a conversion with what only others are told."""
    sale = frozen.hit.sale
    assert sale is not None
    apart = sale.apart
    if frozen.codes or apart != _NOTHING_APART:
        body += _encode_apart((apart, frozen.codes))
    return content_digest(body)
