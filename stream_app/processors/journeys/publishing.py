"""What becomes visible of a client: records, and what others are told and counted with them.

One rule for everything: what should be visible is a function of the folded events and the stream time. It is written if
it differs from what was published; what was published and is not there any more is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream_app.domain import client as clients
from stream_app.domain.client import Client, Frozen, Order, Published
from stream_app.domain.hits import Hit
from stream_app.domain.ids import content_digest, conversion_id
from stream_app.domain.journey import Converted, Fold, Session
from stream_app.domain.records import CONVERSIONS, SESSIONS, AttributedConversion, AttributedSession
from stream_app.domain.refunds import Refund
from stream_app.domain.views import Views
from stream_app.engine.processor import Context, Rows
from stream_app.processors.counting import Counter
from stream_app.processors.facts import Teller, tell, tellers_of
from stream_app.processors.journeys import codec

_AT_REVISION = len('{"id":"0123456789abcdef","revision":')
_encode_record = msgspec.json.Encoder().encode
_encode_apart = msgspec.msgpack.Encoder(decimal_format="string").encode
_NOTHING_APART = (None, (), None, False, "", "", ())


class Publisher:
    """Compares what should be visible of a client with what is, and writes the difference."""

    def __init__(
        self, fold: Fold, views: Views, tellers: Sequence[Teller] = (), counter: Counter | None = None
    ) -> None:
        self.views = views
        self._fold = fold
        self._session_tellers = tellers_of(tellers, "session")
        self._conversion_tellers = tellers_of(tellers, "conversion")
        self._counter = counter

    def publish(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        context: Context[Hit],
        *,
        everything: bool,
        since: int,
        late: Sequence[Converted],
    ) -> None:
        """Writes what differs from what was last published: of `everything`, or of what events in order since `since`,
        or the time, can have changed. `late` are conversions that are settled as they come."""
        stored, head = client.stored, client.head
        published = stored.published
        sessions = head.ended if head.open is None or head.open.final else (*head.ended, head.open)
        for session in sessions:
            before = published.get(session.id)
            if (
                before is not None
                and before.status == clients.CLOSED
                and self.views.closes_at(session) <= stored.horizon
            ):
                continue
            self._session(key, client_id, client, session, context)
        for converted in reversed(head.converted):
            record_id = conversion_id(client_id, converted.hit.id)
            if not everything and converted.hit.at < since and record_id in published:
                break
            self._conversion(key, client_id, client, self.freeze(client, converted), context)
        for converted in late:
            frozen = self.freeze(client, converted)
            self._conversion(key, client_id, client, frozen, context)
            self.keep_settled(key, client_id, client, frozen, context.rows)
        if everything:
            self._orders(key, client_id, client, context)
            if published:
                self._retract_others(key, client_id, client, sessions, context)

    def freeze(self, client: Client, converted: Converted) -> Frozen:
        """A conversion with its grounds, as of now."""
        hit = converted.hit
        sale = hit.sale
        assert sale is not None
        head = client.head
        session_id = converted.session_id
        if sale.late or sale.bot:
            session_id = self._fold.session_at(head, hit.at)
        truncated = hit.at < client.stored.cap_horizon or self.views.cut_short(head, hit)
        codes = tuple(captured for captured in head.codes if captured.at <= hit.at) if head.codes else ()
        return Frozen(hit, session_id, converted.user, self.views.path(head, hit), truncated, codes)

    def keep_settled(self, key: bytes, client_id: str, client: Client, frozen: Frozen, rows: Rows) -> None:
        """A settled conversion is not compared any more; one with an order gets a row, so that refunds find it."""
        sale = frozen.hit.sale
        assert sale is not None
        stored = client.stored
        before = stored.published.pop(conversion_id(client_id, frozen.hit.id), None)
        if not sale.order:
            return
        row = stored.orders[-1].row + 1 if stored.orders else codec.FIRST_ORDER_ROW
        if before is not None and (before.told or before.counted):
            frozen = msgspec.structs.replace(frozen, told=before.told, counted=before.counted)
        codec.put_frozen(key, row, frozen, rows)
        stored.orders = (*stored.orders, Order(sale.order, row, before.digest if before is not None else 0))
        if len(stored.orders) > clients.MAX_ORDERS:
            rows.put(key, stored.orders[0].row, None)
            stored.orders = stored.orders[1:]
        client.orders = frozenset(order.key for order in stored.orders)

    def bot(self, hit: Hit, context: Context[Hit]) -> None:
        """A program's click, or one with a spam referrer: counted, and nothing else."""
        if self._counter is not None:
            self._counter.bot(hit, context)

    # --- records -------------------------------------------------------------------------------------

    def _session(self, key: bytes, client_id: str, client: Client, session: Session, context: Context[Hit]) -> None:
        truncated = session.started_at < client.stored.cap_horizon
        record = self.views.session(client_id, session, context.now, truncated=truncated)
        status = clients.CLOSED if record.status == "closed" else clients.OPEN
        body = _encode_record(record)
        codes = [captured for captured in client.head.codes if captured.at >= session.started_at]
        digest = content_digest(body + _encode_apart(codes) if codes else body)
        entry = self._written(key, client, SESSIONS, record, body, digest, status, context)
        if entry is None:
            return
        if self._session_tellers:
            facts = [fact for teller in self._session_tellers for fact in teller(client_id, client, session, record)]
            entry.told = tell(entry.told, facts, record.id, context)
        counter = self._counter
        if counter is not None:
            entry.counted = self._move(
                client, entry.counted, counter.session(client_id, client, session, record), context
            )

    def _conversion(self, key: bytes, client_id: str, client: Client, frozen: Frozen, context: Context[Hit]) -> None:
        record = self._view(client_id, client, frozen)
        body = _encode_record(record)
        digest = _digest(body, frozen)
        entry = self._written(key, client, CONVERSIONS, record, body, digest, clients.UNSETTLED, context)
        if entry is not None:
            entry.told, entry.counted = self._follow(
                client_id, client, frozen, record, entry.told, entry.counted, context
            )

    def _orders(self, key: bytes, client_id: str, client: Client, context: Context[Hit]) -> None:
        """Settled conversions whose refunds may have changed."""
        stored = client.stored
        if not stored.orders:
            return
        concerned = {refund.sale.order for refund in client.head.refunds if refund.sale is not None}
        concerned.update(refund.order for refund in stored.refunds)
        for order in stored.orders:
            if order.key not in concerned:
                continue
            frozen = codec.frozen(key, order.row, context.rows)
            record = self._view(client_id, client, frozen)
            body = _encode_record(record)
            digest = _digest(body, frozen)
            if digest == order.digest:
                continue
            order.digest = digest
            context.emit(CONVERSIONS, key, _with_revision(body, context.revision))
            told, counted = self._follow(client_id, client, frozen, record, frozen.told, frozen.counted, context)
            if told != frozen.told or counted != frozen.counted:
                frozen = msgspec.structs.replace(frozen, told=told, counted=counted)
                codec.put_frozen(key, order.row, frozen, context.rows)

    def _retract_others(
        self, key: bytes, client_id: str, client: Client, sessions: Sequence[Session], context: Context[Hit]
    ) -> None:
        """Takes back what was published and does not exist any more."""
        published = client.stored.published
        exists = {session.id for session in sessions}
        exists.update(conversion_id(client_id, converted.hit.id) for converted in client.head.converted)
        for record_id in [other for other in published if other not in exists]:
            entry = published.pop(record_id)
            if entry.status == clients.OPEN:
                context.count("sessions_withdrawn")
            self._retract(key, client_id, client, record_id, entry, context)

    def _retract(
        self, key: bytes, client_id: str, client: Client, record_id: str, entry: Published, context: Context[Hit]
    ) -> None:
        topic = CONVERSIONS if entry.status == clients.UNSETTLED else SESSIONS
        body = _encode_record(self.views.retraction(client_id, record_id))
        context.emit(topic, key, _with_revision(body, context.revision))
        context.count("retractions", topic)
        tell(entry.told, (), record_id, context)
        self._move(client, entry.counted, b"", context)

    def _written(
        self,
        key: bytes,
        client: Client,
        topic: str,
        record: AttributedSession | AttributedConversion,
        body: bytes,
        digest: int,
        status: int,
        context: Context[Hit],
    ) -> Published | None:
        """Writes the record if it differs from what was published; its entry then, else None."""
        published = client.stored.published
        entry = published.get(record.id)
        if entry is not None:
            was, entry.status = entry.status, status
            if entry.digest == digest:
                return None
            entry.digest = digest
        else:
            was = None
            entry = published[record.id] = Published(digest, status)
        if was != status:
            _count(record, was, status, context)
        context.emit(topic, key, _with_revision(body, context.revision))
        return entry

    def _view(self, client_id: str, client: Client, frozen: Frozen) -> AttributedConversion:
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
        return self.views.conversion(
            client_id,
            frozen.hit,
            frozen.session_id,
            frozen.user,
            frozen.touchpoints,
            asked,
            truncated=frozen.truncated,
        )

    # --- what follows from a record ------------------------------------------------------------------

    def _follow(
        self,
        client_id: str,
        client: Client,
        frozen: Frozen,
        record: AttributedConversion,
        told: tuple[clients.Told, ...],
        counted: bytes,
        context: Context[Hit],
    ) -> tuple[tuple[clients.Told, ...], bytes]:
        """Tells and counts a conversion as it is now; what is told and counted of it from here on."""
        if self._conversion_tellers:
            facts = [fact for teller in self._conversion_tellers for fact in teller(client_id, client, frozen, record)]
            told = tell(told, facts, record.id, context)
        counter = self._counter
        if counter is not None:
            counted = self._move(client, counted, counter.conversion(client_id, client, frozen, record), context)
        return told, counted

    def _move(self, client: Client, before: bytes, after: bytes, context: Context[Hit]) -> bytes:
        if self._counter is not None and before != after:
            client.stored.counts = self._counter.move(before, after, client.stored.counts, context)
        return after


def _digest(body: bytes, frozen: Frozen) -> int:
    """Of a conversion with what only others are told."""
    sale = frozen.hit.sale
    assert sale is not None
    apart = sale.apart
    if frozen.codes or apart != _NOTHING_APART:
        body += _encode_apart((apart, frozen.codes))
    return content_digest(body)


def _count(
    record: AttributedSession | AttributedConversion, was: int | None, status: int, context: Context[Hit]
) -> None:
    """For operators: what began and what ended, by channel. Channels are a closed set: the settings name them all."""
    if isinstance(record, AttributedConversion):
        credited = record.credits["last_non_direct"]
        context.count("conversions", credited[0].channel if credited else "")
        return
    if was is None:
        context.count("sessions", record.channel)
    if status == clients.CLOSED:
        context.count("sessions_closed", record.channel)
    elif was == clients.CLOSED:
        context.count("sessions_reopened")


def _with_revision(body: bytes, revision: int) -> bytes:
    """Puts the revision in place of the 0: always the second field, behind an id of sixteen hex digits."""
    return b"%b%d%b" % (body[:_AT_REVISION], revision, body[_AT_REVISION + 1 :])
