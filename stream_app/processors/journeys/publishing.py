"""What becomes visible of a client: records, and what others are told and counted with them.

One rule for everything: what should be visible is a function of the folded events and the stream time. It is written if
it differs from what was published; what was published and is not there any more is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

import msgspec

from stream_app.domain import client as clients
from stream_app.domain import persons
from stream_app.domain.captures import codes_of
from stream_app.domain.client import Client, Frozen, Published
from stream_app.domain.hits import Hit
from stream_app.domain.ids import content_digest, conversion_id, link_id
from stream_app.domain.journey import Ordered, Session
from stream_app.domain.records import CONVERSIONS, SESSIONS, AttributedConversion, AttributedSession
from stream_app.domain.times import LATEST_MS
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.facts import Fact, Teller, encode_body, tell, tellers_of
from stream_app.processors.journeys import orders
from stream_app.processors.journeys.conversions import Conversions, digest_of
from stream_app.processors.journeys.hearing import Heard
from stream_app.processors.journeys.intake import Late
from stream_app.processors.journeys.settled import Settled
from stream_app.processors.journeys.writing import Writer, encode_record, with_revision
from stream_app.processors.links import PERSON_LINK

_encode_apart = msgspec.msgpack.Encoder(decimal_format="string").encode
_NONE: frozenset[int] = frozenset()


class Publisher:
    """Compares what should be visible of a client with what is, and writes the difference."""

    def __init__(
        self,
        views: Views,
        tellers: Sequence[Teller],
        writer: Writer,
        conversions: Conversions,
        settled: Settled,
    ) -> None:
        self.views = views
        self._session_tellers = tellers_of(tellers, "session")
        self._conversions = conversions
        self._settled = settled
        self._counter = writer.counter
        self._move = writer.move
        self._write_retraction = writer.retract

    def publish(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        context: Context[Hit],
        *,
        everything: bool,
        since: int,
        late: Late | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Writes what differs from what was last published: of `everything`, or of what events in order since `since`,
        or the time, can have changed; with what settled as it came, and what was `heard` from others."""
        stored, head = client.stored, client.head
        published = stored.published
        sessions = head.ended if head.open is None or head.open.final else (*head.ended, head.open)
        for session in sessions:
            before = published.get(session.id)
            if before is not None and before.status == clients.CLOSED:
                closes_at = self.views.closes_at(session)
                if closes_at <= since and not everything:
                    continue  # no event in order since then can have touched it
                if closes_at <= stored.horizon and not (everything and session.ordered):
                    continue
            self._session(key, client_id, client, session, context)
        for converted in reversed(head.converted):
            record_id = conversion_id(client_id, converted.hit.id)
            if not everything and converted.hit.at < since and record_id in published:
                break
            self._conversion(key, client_id, client, self._conversions.freeze(client, converted), context)
        if late is not None:
            self._late(key, client_id, client, late, context)
        if everything:
            gone = orders.tell_refunds(client_id, client, context)
            ruled, seen = (heard.orders, heard.since) if heard is not None else (_NONE, LATEST_MS)
            self._settled.look_again(key, client_id, client, ruled, seen, context, every=gone)
            if published:
                self._retract_others(key, client_id, client, sessions, context)
        if self.views.persons and (head.owners or head.guests or stored.linked):
            self._link(client_id, client, context)

    # --- records -------------------------------------------------------------------------------------

    def _session(self, key: bytes, client_id: str, client: Client, session: Session, context: Context[Hit]) -> None:
        truncated = session.started_at < client.stored.cap_horizon
        rulings = client.stored.rulings
        lost: Sequence[Ordered] = ()
        if rulings and session.ordered:
            lost = [
                c for c in session.ordered if orders.is_lost(rulings, c.order, c.at, c.id, client_id, in_session=True)
            ]
        record = self.views.session(client_id, session, context.now, truncated=truncated, lost=lost)
        status = clients.CLOSED if record.status == "closed" else clients.OPEN
        body = encode_record(record)
        if client.head.codes:
            digest = content_digest(body + _apart(client, session, record.user_id))
        else:
            digest = content_digest(body)
        entry = self._written(key, client, SESSIONS, record, body, digest, status, context)
        if entry is None:
            return
        if self._session_tellers or entry.told:
            facts = [fact for teller in self._session_tellers for fact in teller(client_id, client, session, record)]
            if facts or entry.told:
                entry.told = tell(entry.told, facts, record.id, context)
        counter = self._counter
        if counter is not None:
            entry.counted = self._move(
                client, entry.counted, counter.session(client_id, client, session, record), context
            )

    def _conversion(self, key: bytes, client_id: str, client: Client, frozen: Frozen, context: Context[Hit]) -> None:
        hit = frozen.hit
        if hit.sale is not None and orders.is_lost(client.stored.rulings, hit.sale.order, hit.at, hit.id, client_id):
            record_id = conversion_id(client_id, hit.id)
            published = client.stored.published
            if record_id not in published or published[record_id].digest:
                context.count("duplicate_orders")
            entry = published.setdefault(record_id, Published(0, clients.UNSETTLED))
            if entry.digest:
                entry.digest = 0
                self._write_retraction(key, client_id, CONVERSIONS, record_id, context)
            entry.told = tell(entry.told, orders.claims(client_id, frozen), record_id, context)
            entry.counted = self._move(client, entry.counted, b"", context)
            return
        record = self._conversions.view(client_id, client, frozen)
        body = encode_record(record)
        digest = digest_of(body, frozen)
        found = self._written(key, client, CONVERSIONS, record, body, digest, clients.UNSETTLED, context)
        if found is not None:
            found.told, found.counted = self._conversions.follow(
                client_id, client, frozen, record, found.told, found.counted, context
            )

    def _late(self, key: bytes, client_id: str, client: Client, late: Late, context: Context[Hit]) -> None:
        """Conversions and refunds that are settled as they come."""
        for converted in late.conversions:
            frozen = self._conversions.freeze(client, converted)
            sale = frozen.hit.sale
            assert sale is not None
            if sale.order:  # it is earlier than what held the order in this client
                self._settled.displace(key, client_id, client, sale.order, context)
            self._conversion(key, client_id, client, frozen, context)
            self._settled.keep(key, client_id, client, frozen, context.rows)
        for refund in late.refunds:
            orders.tell_late_refund(client_id, refund, context)

    def _link(self, client_id: str, client: Client, context: Context[Hit]) -> None:
        """Tells the client's users of its touchpoints, if these have changed. What it told before it was forgotten and
        came back stands: it was so then, and persons forget by themselves."""
        head, stored = client.head, client.stored
        if stored.life != head.life:
            stored.life, stored.linked = head.life, ()
        linked_from = client.linked_from
        links_from = (head.touchpoints, head.owners, head.guests)
        if linked_from is not None and all(map(is_, linked_from, links_from)):
            return
        client.linked_from = links_from
        facts = [
            Fact(PERSON_LINK, user.encode(), encode_body(link)) for user, link in persons.links(client_id, head).items()
        ]
        stored.linked = tell(stored.linked, facts, link_id(client_id, head.life), context)

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
        if entry.digest:
            topic = CONVERSIONS if entry.status == clients.UNSETTLED else SESSIONS
            self._write_retraction(key, client_id, topic, record_id, context)
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
        context.emit(topic, key, with_revision(body, context.revision))
        return entry


def _apart(client: Client, session: Session, user: str | None) -> bytes:
    """Codes that others are told of with a session."""
    codes = codes_of(client.head, session, user)
    return _encode_apart(codes) if codes else b""


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
