"""What becomes visible of a client: records, and what others are told and counted with them.

One rule for everything: what should be visible is a function of the folded events and the stream time. It is written if
it differs from what was published; what was published and is not there any more is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_

import msgspec

from stream_app.domain import client as clients
from stream_app.domain import persons
from stream_app.domain.client import Client, Frozen, Order, Published
from stream_app.domain.hits import Hit
from stream_app.domain.ids import content_digest, conversion_id, link_id, order_address, refund_id
from stream_app.domain.journey import Captured, Converted, Fold, Ordered, Session, codes_of
from stream_app.domain.orders import Asked, Claim, Ruling
from stream_app.domain.records import CONVERSIONS, SESSIONS, AttributedConversion, AttributedSession
from stream_app.domain.refunds import Refund
from stream_app.domain.times import LATEST_MS
from stream_app.domain.views import Views
from stream_app.engine.processor import Context, Rows
from stream_app.processors.counting import Counter
from stream_app.processors.facts import Fact, Letter, Teller, encode_body, tell, tellers_of
from stream_app.processors.journeys import codec
from stream_app.processors.links import ORDER_CLAIM, ORDER_REFUND, PERSON_LINK

_AT_REVISION = len('{"id":"0123456789abcdef","revision":')
_encode_record = msgspec.json.Encoder().encode
_encode_apart = msgspec.msgpack.Encoder(decimal_format="string").encode
_NOTHING_APART = (None, (), None, False, "", "", ())


@dataclass(slots=True)
class Late:
    """What came behind everything that is settled."""

    conversions: list[Converted] = field(default_factory=list)
    refunds: list[Hit] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """What other keys have told in this commit."""

    orders: set[int] = field(default_factory=set)
    """Orders with another ruling."""
    since: int = LATEST_MS
    """The earliest conversion, by its time, that may see other touchpoints of its user's other clients."""
    refold: bool = False
    """A conversion has turned out to be an arrival, or to be none."""


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
                if closes_at <= since and not everything and not head.codes:
                    continue  # no event in order since then can have touched it
                if closes_at <= stored.horizon and not (everything and session.ordered):
                    continue
            self._session(key, client_id, client, session, context)
        for converted in reversed(head.converted):
            record_id = conversion_id(client_id, converted.hit.id)
            if not everything and converted.hit.at < since and record_id in published:
                break
            self._conversion(key, client_id, client, self.freeze(client, converted), context)
        if late is not None:
            self._late(key, client_id, client, late, context)
        if everything:
            gone = self._refunds(client_id, client, context)
            self._orders(key, client_id, client, heard, context, every=gone)
            if published:
                self._retract_others(key, client_id, client, sessions, context)
        if self.views.persons and (head.owners or head.guests or stored.linked):
            self._link(client_id, client, context)

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
        path = persons.path(self.views.path(head, hit, user), client.others, user, hit.at, self._oldest(hit))
        truncated = hit.at < client.stored.cap_horizon or path.cut or self.views.cut_short(head, hit)
        codes = tuple(captured for captured in head.codes if captured.at <= hit.at) if head.codes else ()
        if hit.code:
            codes = (*(captured for captured in codes if captured.is_visit), Captured(hit.at, hit.code))
        return Frozen(hit, session_id, user, path.touchpoints, truncated, codes, foreign=path.foreign)

    def keep_settled(self, key: bytes, client_id: str, client: Client, frozen: Frozen, rows: Rows) -> None:
        """A settled conversion leaves what is compared. One with an order gets a row, so that refunds find it; one with
        a user as well, for a while, as what their other clients saw may still be on its way."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        stored = client.stored
        before = stored.published.pop(conversion_id(client_id, hit.id), None)
        joins = bool(frozen.user) and self.views.persons
        if not sale.order and not joins:
            return
        places = stored.orders if sale.order else stored.held
        first = codec.FIRST_ORDER_ROW if sale.order else codec.FIRST_HELD_ROW
        row = places[-1].row + 1 if places else first
        if before is not None and (before.told or before.counted):
            frozen = msgspec.structs.replace(frozen, told=before.told, counted=before.counted)
        codec.put_frozen(key, row, frozen, rows)
        digest = before.digest if before is not None else 0
        places = (*places, Order(sale.order, row, digest, hit.at if joins else 0))
        if len(places) > clients.MAX_ORDERS:
            rows.put(key, places[0].row, None)
            places = places[1:]
        if sale.order:
            stored.orders = places
            client.orders = frozenset(order.key for order in places)
        else:
            stored.held = places

    def release(self, key: bytes, client: Client, until: int, rows: Rows) -> None:
        """Conversions up to that time hear no more of other clients: those with an order keep their rows."""
        stored = client.stored
        for order in stored.orders:
            if order.at < until:
                order.at = 0
        if stored.held and any(order.at < until for order in stored.held):
            for order in stored.held:
                if order.at < until:
                    rows.put(key, order.row, None)
            stored.held = tuple(order for order in stored.held if order.at >= until)

    def bot(self, hit: Hit, context: Context[Hit]) -> None:
        """A program's click, or one with a spam referrer: counted, and nothing else."""
        if self._counter is not None:
            self._counter.bot(hit, context)

    def erase(
        self,
        key: bytes,
        client_id: str,
        client: Client | None,
        new: str,
        conversions: Sequence[str],
        context: Context[Hit],
    ) -> None:
        """Takes back every record of a client that is known of, under another name: a random one, in the same
        partition. What was counted and told of it stays; orders it holds stay held, by nobody."""
        gone = dict.fromkeys(conversions, CONVERSIONS)
        if client is not None:
            gone |= self._records(client)
            for order in (*client.stored.orders, *client.stored.held):
                frozen = codec.frozen(key, order.row, context.rows)
                if order.digest:
                    gone[conversion_id(client_id, frozen.hit.id)] = CONVERSIONS
                own = (touch for place, touch in enumerate(frozen.touchpoints) if place not in frozen.foreign)
                gone |= {name: SESSIONS for name in (frozen.session_id, *(touch.session_id for touch in own)) if name}
                self._let_go(client_id, client, frozen.hit, context)
            for converted in client.head.converted:
                self._let_go(client_id, client, converted.hit, context)
            tell(client.stored.linked, (), link_id(client_id, client.head.life), context)
        for record_id, topic in gone.items():
            self._write_retraction(new.encode(), new, topic, record_id, context)

    @staticmethod
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

    @staticmethod
    def _let_go(client_id: str, client: Client, hit: Hit, context: Context[Hit]) -> None:
        """An order keeps the claim and the refunds of a client that is erased, without its name."""
        sale = hit.sale
        assert sale is not None
        if not sale.order:
            return
        address = order_address(sale.goal, sale.order_id)
        name, claim = conversion_id(client_id, hit.id), Claim("", hit.id, hit.at, sale.value, sale.currency, sale.late)
        context.forward(ORDER_CLAIM, address, encode_body(Letter(name, claim)))
        refunds = (*client.stored.refunds, *(Refund.of(refund) for refund in client.head.refunds))
        for refund in refunds:
            if refund.order == sale.order:
                letter = Letter(refund_id(client_id, refund.id), Asked("", refund))
                context.forward(ORDER_REFUND, address, encode_body(letter))

    # --- records -------------------------------------------------------------------------------------

    def _session(self, key: bytes, client_id: str, client: Client, session: Session, context: Context[Hit]) -> None:
        truncated = session.started_at < client.stored.cap_horizon
        rulings = client.stored.rulings
        lost: Sequence[Ordered] = ()
        if rulings and session.ordered:
            lost = [c for c in session.ordered if _is_lost(rulings, c.order, c.at, c.id, client_id, in_session=True)]
        record = self.views.session(client_id, session, context.now, truncated=truncated, lost=lost)
        status = clients.CLOSED if record.status == "closed" else clients.OPEN
        body = _encode_record(record)
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
        if hit.sale is not None and _is_lost(client.stored.rulings, hit.sale.order, hit.at, hit.id, client_id):
            record_id = conversion_id(client_id, hit.id)
            published = client.stored.published
            if record_id not in published or published[record_id].digest:
                context.count("duplicate_orders")
            entry = published.setdefault(record_id, Published(0, clients.UNSETTLED))
            if entry.digest:
                entry.digest = 0
                self._write_retraction(key, client_id, CONVERSIONS, record_id, context)
            entry.told = tell(entry.told, _claims(client_id, frozen), record_id, context)
            entry.counted = self._move(client, entry.counted, b"", context)
            return
        record = self._view(client_id, client, frozen)
        body = _encode_record(record)
        digest = _digest(body, frozen)
        found = self._written(key, client, CONVERSIONS, record, body, digest, clients.UNSETTLED, context)
        if found is not None:
            found.told, found.counted = self._follow(
                client_id, client, frozen, record, found.told, found.counted, context
            )

    def _late(self, key: bytes, client_id: str, client: Client, late: Late, context: Context[Hit]) -> None:
        """Conversions and refunds that are settled as they come."""
        for converted in late.conversions:
            frozen = self.freeze(client, converted)
            sale = frozen.hit.sale
            assert sale is not None
            for order in client.stored.orders:
                if sale.order and order.key == sale.order:  # it is earlier than what held the order in this client
                    self._displace(key, client_id, client, order, context)
            self._conversion(key, client_id, client, frozen, context)
            self.keep_settled(key, client_id, client, frozen, context.rows)
        for refund in late.refunds:
            tell((), _asks(client_id, refund), refund_id(client_id, refund.id), context)

    def _displace(self, key: bytes, client_id: str, client: Client, order: Order, context: Context[Hit]) -> None:
        stored = client.stored
        frozen = codec.frozen(key, order.row, context.rows)
        record_id = conversion_id(client_id, frozen.hit.id)
        if order.digest:
            self._write_retraction(key, client_id, CONVERSIONS, record_id, context)
        tell(frozen.told, (), record_id, context)
        self._move(client, frozen.counted, b"", context)
        context.rows.put(key, order.row, None)
        stored.orders = tuple(other for other in stored.orders if other is not order)

    def _refunds(self, client_id: str, client: Client, context: Context[Hit]) -> bool:
        """Refunds within grace: their orders are told. True if one is gone: another event has taken its id."""
        before = client.stored.refunding
        if not before and not client.head.refunds:
            return False
        now = {}
        for refund in client.head.refunds:
            name = refund_id(client_id, refund.id)
            now[name] = tell(before.pop(name, ()), _asks(client_id, refund), name, context)
        for name, told in before.items():
            tell(told, (), name, context)
        client.stored.refunding = now
        return bool(before)

    @staticmethod
    def settle_refunds(client_id: str, client: Client) -> None:
        """Refunds that have settled are not told again."""
        unsettled = {refund_id(client_id, refund.id) for refund in client.head.refunds}
        refunding = client.stored.refunding
        client.stored.refunding = {name: told for name, told in refunding.items() if name in unsettled}

    def _orders(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        heard: Heard | None,
        context: Context[Hit],
        *,
        every: bool,
    ) -> None:
        """Settled conversions that may have changed: by refunds, by rulings, by what other clients saw; or `every` one,
        where a refund is gone and does not say any more whose it was."""
        stored = client.stored
        if not stored.orders and not stored.held:
            return
        concerned = {refund.sale.order for refund in client.head.refunds if refund.sale is not None}
        concerned.update(refund.order for refund in stored.refunds)
        since = LATEST_MS
        if heard is not None:
            concerned |= heard.orders
            since = heard.since
        for order in (*stored.orders, *stored.held):
            if every or order.key in concerned or since <= order.at:
                self._order(key, client_id, client, order, context)

    def _order(self, key: bytes, client_id: str, client: Client, order: Order, context: Context[Hit]) -> None:
        frozen = codec.frozen(key, order.row, context.rows)
        hit = frozen.hit
        now = self._rejoined(client, frozen) if order.at else frozen
        if _is_lost(client.stored.rulings, order.key, hit.at, hit.id, client_id):
            if order.digest:
                context.count("duplicate_orders")
                order.digest = 0
                record_id = conversion_id(client_id, hit.id)
                self._write_retraction(key, client_id, CONVERSIONS, record_id, context)
                told = tell(frozen.told, _claims(client_id, frozen), record_id, context)
                counted = self._move(client, frozen.counted, b"", context)
                now = msgspec.structs.replace(now, told=told, counted=counted)
        else:
            record = self._view(client_id, client, now)
            body = _encode_record(record)
            digest = _digest(body, now)
            if digest != order.digest:
                order.digest = digest
                context.emit(CONVERSIONS, key, _with_revision(body, context.revision))
                told, counted = self._follow(client_id, client, now, record, now.told, now.counted, context)
                now = msgspec.structs.replace(now, told=told, counted=counted)
        if now != frozen:
            codec.put_frozen(key, order.row, now, context.rows)

    def _rejoined(self, client: Client, frozen: Frozen) -> Frozen:
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
        return hit.at - self.views.lookback_ms(hit.sale.goal)

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

    def _write_retraction(self, key: bytes, client_id: str, topic: str, record_id: str, context: Context[Hit]) -> None:
        body = _encode_record(self.views.retraction(client_id, record_id))
        context.emit(topic, key, _with_revision(body, context.revision))
        context.count("retractions", topic)

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
            ruling = client.stored.rulings.get(sale.order)
            if ruling is not None:
                asked += ruling.refunds
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
        facts = _claims(client_id, frozen)
        for teller in self._conversion_tellers:
            facts.extend(teller(client_id, client, frozen, record))
        if facts or told:
            told = tell(told, facts, record.id, context)
        counter = self._counter
        if counter is not None:
            counted = self._move(client, counted, counter.conversion(client_id, client, frozen, record), context)
        return told, counted

    def _move(self, client: Client, before: bytes, after: bytes, context: Context[Hit]) -> bytes:
        if self._counter is not None and before != after:
            stored = client.stored
            held = clients.held_from(stored) if stored.promos else LATEST_MS
            stored.counts = self._counter.move(before, after, stored.counts, context, held)
        return after


def _is_lost(
    rulings: Mapping[int, Ruling], order: int, at: int, event_id: str, client_id: str, *, in_session: bool = False
) -> bool:
    """Whether another client holds the order of a conversion."""
    ruling = rulings.get(order) if rulings else None
    return ruling is not None and ruling.beats((at, event_id, client_id), in_session=in_session)


def _claims(client_id: str, frozen: Frozen) -> list[Fact]:
    """A conversion with an order claims it, whether or not it holds it."""
    hit = frozen.hit
    sale = hit.sale
    assert sale is not None
    if not sale.order:
        return []
    claim = Claim(client_id, hit.id, hit.at, sale.value, sale.currency, sale.late)
    return [Fact(ORDER_CLAIM, order_address(sale.goal, sale.order_id), encode_body(claim))]


def _asks(client_id: str, refund: Hit) -> list[Fact]:
    sale = refund.sale
    assert sale is not None
    asked = Asked(client_id, Refund.of(refund), sale.origin)
    return [Fact(ORDER_REFUND, order_address(sale.goal, sale.order_id), encode_body(asked))]


def _apart(client: Client, session: Session, user: str | None) -> bytes:
    """Codes that others are told of with a session."""
    codes = codes_of(client.head, session, user)
    return _encode_apart(codes) if codes else b""


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
