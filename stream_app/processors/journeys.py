"""Clicks and conversions of each client → attributed sessions and conversions.

The rules are in the domain; here is what the engine needs: decoding, one fold per commit, publishing, timers, codec.

A commit, for one client:

1. Events are admitted in order of time: dead letters for what is too late, duplicates counted, the rest folded onto
   the head, or the head folded anew when one came out of order.
2. Everything that may have changed is looked at: a record is written if its content differs from what was last
   published under its id, a retraction if what was published does not exist any more.
3. What no admissible event can touch any longer settles, up to stream time − grace.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream_app.domain import client as clients
from stream_app.domain import hits
from stream_app.domain.bots import BotDetector
from stream_app.domain.client import Client, Frozen, Kept, Order, Published, Stored, Timeline
from stream_app.domain.errors import Refused
from stream_app.domain.events import (
    Conversion,
    moment,
    money_of,
    read_click,
    read_conversion,
)
from stream_app.domain.hits import BOT, CONVERSION, KIND_OF_CLICK, REFUND, SPAM, Hit, Sale
from stream_app.domain.ids import content_digest, conversion_id, order_key
from stream_app.domain.journey import Converted, Fold, Journey, Session
from stream_app.domain.records import CONVERSIONS, SESSIONS, AttributedConversion, AttributedSession, Retraction
from stream_app.domain.refunds import MAX_REFUNDS, Refund
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.times import LATEST_MS, MINUTE_MS, to_ms
from stream_app.domain.views import Views
from stream_app.engine.processor import Context, Decoder, Rejected, Rows

CLOCK_SKEW_MS = 5 * MINUTE_MS
FIRST_ORDER_ROW = 1 << 31
"""Rows below hold events within grace, rows from here on settled conversions with an order."""
SNAPSHOT_ROW = FIRST_ORDER_ROW - 1
INLINE_SNAPSHOT = 200
"""A settled part of up to so many bytes stays with the rest."""

MAX_USER_AGENTS = 20_000
"""Verdicts on user agents that the click decoder keeps at hand."""

TAKEN, SHOWN, EVERYTHING, REFOLD = 1, 2, 4, 8
"""What an event means for publishing: nothing yet; what it touched is looked at; everything is; the head is folded anew
first."""

_NO_HITS = b"\x90"
_AT_REVISION = len('{"id":"0123456789abcdef","revision":')
_encode_record = msgspec.json.Encoder().encode
_encode_state = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode_stored = msgspec.msgpack.Decoder(Stored).decode
_decode_snapshot = msgspec.msgpack.Decoder(Journey).decode
_decode_hits = msgspec.msgpack.Decoder(list[Hit]).decode
_decode_frozen = msgspec.msgpack.Decoder(Frozen).decode

Record = AttributedSession | AttributedConversion | Retraction


def direct_source(resolver: SourceResolver) -> Source:
    """What a visit without any source is called; custom rules may give it a channel of their own."""
    return resolver.resolve("", "").source or DIRECT


def _untimely(age: int, limit_ms: int, limit: str) -> Rejected:
    """Why a record's time is refused: a property of the record alone (semantics 2)."""
    if age > limit_ms:
        return Rejected("too_late", f"occurred_at: {age // MINUTE_MS} min before it arrived, more than {limit}")
    if age < -CLOCK_SKEW_MS:
        return Rejected("clock_skew", "occurred_at: more than 5 min after it arrived")
    return Rejected("bad_field", "occurred_at: expected a time between 1970 and 9999")


class _Verdicts(dict[str, bool]):
    """Which user agents are programs': a plain dict where the verdict is known."""

    def __init__(self, bots: BotDetector) -> None:
        super().__init__()
        self._is_bot = bots.is_bot

    def __missing__(self, user_agent: str) -> bool:
        if len(self) >= MAX_USER_AGENTS:
            self.clear()
        bot = self[user_agent] = self._is_bot(user_agent)
        return bot


def click_decoder(rules: JourneyRules, resolver: SourceResolver, bots: BotDetector) -> Decoder[Hit]:
    """A click's bytes → its compact event with the source resolved. A closure, as every click passes here."""
    grace_ms = rules.sessions.grace_ms
    resolve = resolver.resolve
    direct = direct_source(resolver)
    is_bot = _Verdicts(bots)

    def decode(key: bytes | None, value: bytes | None, ts: int) -> Hit:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            click = read_click(value)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None
        client = click.client_id
        if key is not None:
            if key != client.encode():
                raise Rejected("key_mismatch", "client_id: the record's key is another")
            client = ""
        at = click.occurred_at
        if at.__class__ is not int:
            at = to_ms(at)  # type: ignore[arg-type]
        age = ts - at
        if not -CLOCK_SKEW_MS <= age <= grace_ms or not 0 <= at <= LATEST_MS:
            raise _untimely(age, grace_ms, "grace")
        user_agent = click.user_agent
        if user_agent and is_bot[user_agent]:
            return Hit(at, click.event_id, BOT, client=client)
        url = click.url
        arrival = resolve(url, click.referrer or "")
        source = arrival.source
        kind = arrival.kind
        referral = ""
        if kind == "referral":
            referral = arrival.referrer_host
        elif kind == "spam":
            return Hit(at, click.event_id, SPAM, client=client)
        elif source is direct:
            source = None
        if "?" in url or "#" in url:
            url = url.partition("?")[0].partition("#")[0]
        user = click.user_id or ""
        return Hit(at, click.event_id, KIND_OF_CLICK[click.kind], source, referral, user, url, None, client)

    return decode


class ConversionDecoder:
    """A conversion's or refund's bytes → its compact event."""

    def __init__(self, rules: JourneyRules, resolver: SourceResolver, bots: BotDetector) -> None:
        self._grace_ms = rules.sessions.grace_ms
        self._life_ms = rules.client_life_ms
        self._currency = rules.currency
        self._goals = {goal.name: goal for goal in rules.goals}
        self._resolver = resolver
        self._is_bot = bots.is_bot

    def __call__(self, key: bytes | None, value: bytes | None, ts: int) -> Hit:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            return self._hit(key, read_conversion(value), ts)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None

    def _hit(self, key: bytes | None, conversion: Conversion, ts: int) -> Hit:
        client_id = conversion.client_id
        if key is not None and key != client_id.encode():
            raise Rejected("key_mismatch", "client_id: the record's key is another")
        at = moment(conversion.occurred_at)
        age = ts - at
        if not -CLOCK_SKEW_MS <= age <= self._life_ms or not 0 <= at <= LATEST_MS:
            raise _untimely(age, self._life_ms, "the life of a client's state")
        value = money_of(conversion.value, conversion.currency, self._currency, "value")
        money_of(conversion.profit, conversion.currency, self._currency, "profit")
        goal = self._goals.get(conversion.goal)
        source = self._offline_source(conversion)
        called = conversion.called_number or conversion.called_email
        lead_id = conversion.lead_id or ""
        if goal is not None and goal.kind == "lead" and not lead_id:
            lead_id = conversion.event_id
        sale = Sale(
            goal=conversion.goal,
            value=value.amount if value is not None else None,
            currency=value.currency if value is not None else "",
            order_id=conversion.order_id or "",
            order=order_key(conversion.goal, conversion.order_id) if conversion.order_id else 0,
            lead_id=lead_id,
            offline=source is not None or bool(called) or (goal is not None and goal.offline),
            late=age > self._grace_ms,
            bot=bool(conversion.user_agent) and self._is_bot(conversion.user_agent or ""),
        )
        return Hit(
            at,
            conversion.event_id,
            REFUND if conversion.kind == "refund" else CONVERSION,
            source,
            "",
            conversion.user_id or "",
            "",
            sale,
            client_id if key is None else "",
        )

    def _offline_source(self, conversion: Conversion) -> Source | None:
        """The touchpoint that an offline conversion is itself: named by its fields, else by what was called."""
        source, medium, campaign = conversion.source or "", conversion.medium or "", conversion.campaign or ""
        if source or medium or campaign:
            return self._resolver.of_fields(source, medium, campaign)
        if conversion.called_number or conversion.called_email:
            return self._resolver.of_call(conversion.called_number or "", conversion.called_email or "")
        return None


class JourneysProcessor:
    """Folds each client's events to sessions and conversions with their sources."""

    name = "journeys"
    tag = b"j"
    inputs: Sequence[str] = ("clicks", "conversions")
    kinds: Sequence[str] = ()
    state_version = 1

    def __init__(
        self, rules: JourneyRules, resolver: SourceResolver, bots: BotDetector, rules_version: str | None = None
    ) -> None:
        self.rules = rules
        self._decoders: dict[str, Decoder[Hit]] = {
            "clicks": click_decoder(rules, resolver, bots),
            "conversions": ConversionDecoder(rules, resolver, bots),
        }
        self._grace_ms = rules.sessions.grace_ms
        self._expiry_ms = rules.client_life_ms + self._grace_ms
        self._fold = Fold(rules, direct_source(resolver))
        self._timeline = Timeline(self._fold, self._grace_ms)
        self._views = Views(rules, rules_version if rules_version is not None else rules.digest())

    def decoder(self, source: str) -> Decoder[Hit]:
        """The decoder of `clicks` or `conversions`."""
        return self._decoders[source]

    def key_of(self, event: Hit) -> bytes:
        """The client of an event whose record had no key."""
        return event.client.encode()

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Client | None, events: list[Hit], context: Context[Hit]) -> Client | None:
        """Applies one commit's events of a client."""
        horizon = context.now - self._grace_ms
        if len(events) > 1:
            events = sorted(events, key=hits.order)
        elif (
            state is not None
            and state.recents
            and state.recents[0].at >= horizon
            and context.now < state.due
            and self._timeline.extends_quietly(state, events[0])
        ):
            if state.head.ended:
                state.due = self._due(state, state.head.last_at + self._expiry_ms)
            else:
                state.due = events[0].at + self._fold.timeout_ms
            return state
        client_id = key.decode()
        client = state if state is not None else clients.new_client()
        recents = client.recents
        if recents and recents[-1].at < horizon <= events[0].at:
            # All that was within grace has settled and nothing new interferes: the head becomes the snapshot, and no
            # event of a returning client is folded twice.
            self._settle(key, client_id, client, horizon, context)
        late: list[Converted] = []
        changes = 0
        for hit in events:
            changes |= self._take(key, client_id, client, hit, changes, late, context)
        if not changes:
            return self._rest(key, client_id, client, context, known=state is not None)
        if changes & REFOLD:
            self._timeline.refold(client, client_id)
        if len(client.recents) > clients.MAX_RECENT:
            horizon = max(horizon, clients.cap(client))
            changes |= EVERYTHING
            context.count("client_caps")
        if changes > TAKEN or context.now >= client.due:
            self._publish(
                key, client_id, client, context, everything=changes >= EVERYTHING, since=events[0].at, late=late
            )
        self._settle(key, client_id, client, horizon, context)
        self._finish_sessions(client, context.now)
        return self._due_or_gone(key, client, context)

    def wake(self, key: bytes, state: Client, context: Context[Hit]) -> Client | None:
        """Publishes sessions as closed, or forgets the client."""
        return self._rest(key, key.decode(), state, context, known=True)

    def due(self, state: Client) -> int:
        """When the earliest open session closes, or the client is forgotten."""
        return state.due

    def _rest(self, key: bytes, client_id: str, client: Client, context: Context[Hit], *, known: bool) -> Client | None:
        """No event to fold: publish what time alone has changed."""
        if not known:
            return None
        if context.now >= client.due:
            self._publish(key, client_id, client, context, everything=False, since=client.head.last_at + 1, late=[])
            self._finish_sessions(client, context.now)
        return self._due_or_gone(key, client, context)

    def _take(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        hit: Hit,
        so_far: int,
        late: list[Converted],
        context: Context[Hit],
    ) -> int:
        """Takes one event in; says what that means for publishing."""
        kind = hit.kind
        if kind >= BOT:
            context.count("bots" if kind == BOT else "spam")
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
            self._check_currency(key, client, hit, context)
        if admission == "out_of_order":
            return EVERYTHING | REFOLD
        if so_far & REFOLD:
            return TAKEN
        if not self._fold.apply(client.head, hit, client_id, client.orders):
            return SHOWN if client.shows_closed else TAKEN
        return EVERYTHING if kind == REFUND else SHOWN

    def _take_late(self, key: bytes, client: Client, hit: Hit, late: list[Converted], context: Context[Hit]) -> bool:
        """An event behind what is settled. A click cannot be used; a conversion is credited against the touchpoints
        that are kept; a refund goes to its order."""
        stored = client.stored
        if hit.kind < CONVERSION:
            capped = hit.at < stored.cap_horizon
            context.reject(hit, "too_late", "client_cap" if capped else "occurred_at: before what is settled")
            return False
        sale = hit.sale
        assert sale is not None
        if clients.is_remembered(stored.remembered, hit.id) or any(
            other.id == hit.id and other.kind >= CONVERSION for other in client.recents
        ):
            context.count("duplicates")
            return False
        clients.remember(stored, hit.id)
        hit.client = ""
        if hit.kind == REFUND:
            self._check_currency(key, client, hit, context)
            stored.refunds = (*stored.refunds, Refund.of(hit))[-MAX_REFUNDS:]
            return True
        sale.late = True
        if sale.order and sale.order in client.orders:
            context.count("duplicate_orders")
            return False
        late.append(Converted(hit, "", hit.user))
        if sale.order:
            client.orders = client.orders | {sale.order}
        client.snapshot.last_at = max(client.snapshot.last_at, hit.at)
        client.snapshot_changed = True
        client.head.last_at = max(client.head.last_at, hit.at)
        return True

    def _check_currency(self, key: bytes, client: Client, hit: Hit, context: Context[Hit]) -> None:
        """A refund in another currency than its order, if that is known, is refused (semantics 24). It takes nothing,
        but stays among the events: its id is used, whether it came before its order or after."""
        refund = hit.sale
        assert refund is not None
        if refund.value is None:
            return
        converted = client.head.converted
        sale = next((c.hit.sale for c in converted if c.hit.sale and c.hit.sale.order == refund.order), None)
        if sale is None and refund.order in client.orders:
            row = next(order.row for order in client.stored.orders if order.key == refund.order)
            payload = context.rows.get(key, row)
            sale = _decode_frozen(payload).hit.sale if payload is not None else None
        if sale is not None and sale.value is not None and sale.currency != refund.currency:
            context.reject(hit, "bad_money", "currency: another than the order's")

    # --- publish -------------------------------------------------------------------------------------

    def _publish(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        context: Context[Hit],
        *,
        everything: bool,
        since: int,
        late: list[Converted],
    ) -> None:
        """Writes what differs from what was last published: of `everything`, or of what events in order since `since`,
        or the time, can have changed. A record is a function of folded events and stream time, nothing else."""
        stored, head = client.stored, client.head
        published = stored.published
        sessions = head.ended if head.open is None or head.open.final else (*head.ended, head.open)
        for session in sessions:
            before = published.get(session.id)
            if (
                before is not None
                and before.status == clients.CLOSED
                and self._views.closes_at(session) <= stored.horizon
            ):
                continue
            self._publish_session(key, client_id, client, session, context)
        for converted in reversed(head.converted):
            record_id = conversion_id(client_id, converted.hit.id)
            if not everything and converted.hit.at < since and record_id in published:
                break
            self._publish_conversion(key, client_id, client, converted, context)
        for converted in late:
            frozen = self._freeze(client, converted)
            self._emit(
                key, client, CONVERSIONS, self._frozen_view(client_id, client, frozen), clients.UNSETTLED, context
            )
            self._keep_settled(key, client, frozen, context.rows)
        if everything:
            self._publish_orders(key, client_id, client, context)
            if published:
                self._retract(key, client_id, client, sessions, context)

    def _publish_session(
        self, key: bytes, client_id: str, client: Client, session: Session, context: Context[Hit]
    ) -> None:
        view = self._views.session(
            client_id, session, context.now, truncated=session.started_at < client.stored.cap_horizon
        )
        status = clients.CLOSED if view.status == "closed" else clients.OPEN
        self._emit(key, client, SESSIONS, view, status, context)

    def _publish_conversion(
        self, key: bytes, client_id: str, client: Client, converted: Converted, context: Context[Hit]
    ) -> None:
        record = self._frozen_view(client_id, client, self._freeze(client, converted))
        self._emit(key, client, CONVERSIONS, record, clients.UNSETTLED, context)

    def _publish_orders(self, key: bytes, client_id: str, client: Client, context: Context[Hit]) -> None:
        """Settled conversions whose refunds may have changed."""
        stored = client.stored
        if not stored.orders:
            return
        concerned = {refund.sale.order for refund in client.head.refunds if refund.sale is not None}
        concerned.update(refund.order for refund in stored.refunds)
        for order in stored.orders:
            if order.key in concerned:
                payload = context.rows.get(key, order.row)
                if payload is None:
                    raise ValueError(f"journeys state of a client lacks row {order.row}")
                body = _encode_record(self._frozen_view(client_id, client, _decode_frozen(payload)))
                digest = content_digest(body)
                if digest != order.digest:
                    order.digest = digest
                    context.emit(CONVERSIONS, key, _with_revision(body, context.revision))

    def _retract(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        sessions: Sequence[Session],
        context: Context[Hit],
    ) -> None:
        """Takes back what was published and does not exist any more."""
        published = client.stored.published
        exists = {session.id for session in sessions}
        exists.update(conversion_id(client_id, converted.hit.id) for converted in client.head.converted)
        for record_id in [other for other in published if other not in exists]:
            status = published.pop(record_id).status
            topic = CONVERSIONS if status == clients.UNSETTLED else SESSIONS
            if status == clients.OPEN:
                context.count("sessions_withdrawn")
            body = _encode_record(self._views.retraction(client_id, record_id))
            context.emit(topic, key, _with_revision(body, context.revision))
            context.count("retractions", topic)

    def _emit(
        self,
        key: bytes,
        client: Client,
        topic: str,
        record: AttributedSession | AttributedConversion,
        status: int,
        context: Context[Hit],
    ) -> None:
        body = _encode_record(record)
        digest = content_digest(body)
        published = client.stored.published
        before = published.get(record.id)
        if before is not None:
            was, before.status = before.status, status
            if before.digest == digest:
                return
            before.digest = digest
        else:
            was = None
            published[record.id] = Published(digest, status)
        if was != status:
            _count(record, was, status, context)
        context.emit(topic, key, _with_revision(body, context.revision))

    # --- conversions ---------------------------------------------------------------------------------

    def _freeze(self, client: Client, converted: Converted) -> Frozen:
        """A conversion with its grounds, as of now."""
        hit = converted.hit
        sale = hit.sale
        assert sale is not None
        head = client.head
        session_id = converted.session_id
        if sale.late or sale.bot:
            session_id = self._fold.session_at(head, hit.at)
        truncated = hit.at < client.stored.cap_horizon or self._views.cut_short(head, hit)
        return Frozen(hit, session_id, converted.user, self._views.path(head, hit), truncated)

    def _frozen_view(self, client_id: str, client: Client, frozen: Frozen) -> AttributedConversion:
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
        return self._views.conversion(
            client_id,
            frozen.hit,
            frozen.session_id,
            frozen.user,
            frozen.touchpoints,
            asked,
            truncated=frozen.truncated,
        )

    def _keep_settled(self, key: bytes, client: Client, frozen: Frozen, rows: Rows) -> None:
        """A settled conversion is not compared any more; one with an order gets a row, so that refunds find it."""
        sale = frozen.hit.sale
        assert sale is not None
        stored = client.stored
        before = stored.published.pop(conversion_id(key.decode(), frozen.hit.id), None)
        if not sale.order:
            return
        row = stored.orders[-1].row + 1 if stored.orders else FIRST_ORDER_ROW
        rows.put(key, row, _encode_state(frozen))
        stored.orders = (*stored.orders, Order(sale.order, row, before.digest if before is not None else 0))
        if len(stored.orders) > clients.MAX_ORDERS:
            rows.put(key, stored.orders[0].row, None)
            stored.orders = stored.orders[1:]
        client.orders = frozenset(order.key for order in stored.orders)

    # --- settle --------------------------------------------------------------------------------------

    def _settle(self, key: bytes, client_id: str, client: Client, horizon: int, context: Context[Hit]) -> None:
        """Settles what no admissible event can touch any more; conversions leave, orders get a row of their own."""
        for converted in self._timeline.settle(client, horizon, client_id):
            self._keep_settled(key, client, self._freeze(client, converted), context.rows)

    def _finish_sessions(self, client: Client, now: int) -> None:
        """Sessions that are settled and published as closed are done with."""
        snapshot = client.snapshot
        last = snapshot.open
        if not snapshot.ended and (last is None or last.final):
            return
        stored, head = client.stored, client.head
        published = stored.published
        gone: set[str] = set()
        for session in snapshot.ended:
            before = published.get(session.id)
            if before is not None and before.status == clients.CLOSED:
                gone.add(session.id)
        if gone:
            snapshot.ended = tuple(session for session in snapshot.ended if session.id not in gone)
        horizon = now - self._grace_ms
        if (
            last is not None
            and not last.final
            and self._views.closes_at(last) <= horizon
            and not any(hit.at - last.ended_at < self._fold.timeout_ms for hit in client.recents[:1])
        ):
            before = published.get(last.id)
            if before is not None and before.status == clients.CLOSED:
                last.final = True
                stored.horizon = max(stored.horizon, horizon)
                gone.add(last.id)
        if gone:
            client.snapshot_changed = True
            head.ended = tuple(session for session in head.ended if session.id not in gone)
            if head.open is not None and head.open.id in gone:
                head.open.final = True
            for record_id in gone:
                published.pop(record_id, None)

    def _due_or_gone(self, key: bytes, client: Client, context: Context[Hit]) -> Client | None:
        head, stored = client.head, client.stored
        due = head.last_at + self._expiry_ms
        if context.now >= due:
            for row in (*(kept.row for kept in stored.kept), *stored.rows):
                context.rows.put(key, row, None)
            if stored.snapshot is None:
                context.rows.put(key, SNAPSHOT_ROW, None)
            for order in stored.orders:
                context.rows.put(key, order.row, None)
            return None
        client.due = self._due(client, due)
        return client

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

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> Client:
        """A client as it was when saved; the head is folded anew."""
        if version != self.state_version:
            raise ValueError(f"journeys state version {version} is not known; this release reads {self.state_version}")
        stored = _decode_stored(payload)
        older = []
        for row in (*(kept.row for kept in stored.kept), *stored.rows):
            content = rows.get(key, row)
            if content is None:
                raise ValueError(f"journeys state of a client lacks row {row}")
            older.append(_decode_hits(content))
        snapshot = stored.snapshot
        if snapshot is None:
            content = rows.get(key, SNAPSHOT_ROW)
            if content is None:
                raise ValueError("journeys state of a client lacks its settled part")
            snapshot = _decode_snapshot(content)
        client = self._timeline.load(stored, snapshot, older, key.decode())
        client.due = self._due(client, client.head.last_at + self._expiry_ms)
        return client

    def save(self, key: bytes, state: Client, rows: Rows) -> bytes:
        """The client's bytes. The settled part, which changes once a visit, and older events within grace go to rows,
        of which only changed ones are written."""
        if state.snapshot_changed:
            _save_snapshot(key, state, rows)
        if state.lengths is not None or len(state.recents) > clients.TAIL or state.stored.kept:
            _save_rows(key, state, rows, self._grace_ms)
        return _encode_state(state.stored)


def _save_snapshot(key: bytes, client: Client, rows: Rows) -> None:
    payload = _encode_state(client.snapshot)
    if len(payload) > INLINE_SNAPSHOT:
        rows.put(key, SNAPSHOT_ROW, payload)
        client.stored.snapshot = None
    else:
        if client.stored.snapshot is None:
            rows.put(key, SNAPSHOT_ROW, None)
        client.stored.snapshot = client.snapshot
    client.snapshot_changed = False


def _save_rows(key: bytes, client: Client, rows: Rows, grace_ms: int) -> None:
    stored, recents = client.stored, client.recents
    numbers = list(stored.rows)
    lengths = client.lengths if client.lengths is not None else []
    start = 0
    for number, length in zip(numbers, lengths, strict=True):
        if client.changed_rows is not None and number in client.changed_rows:
            # What has settled stays in the row for its ids, also what came and settled within this commit.
            before = _decode_hits(rows.get(key, number) or _NO_HITS) + client.changed_rows[number]
            settled = sorted((hit for hit in before if hit.at < stored.horizon), key=hits.order)
            rows.put(key, number, _encode_state(settled + recents[start : start + length]))
        if length == 0:
            stored.kept = (*stored.kept, Kept(number, stored.horizon))
        start += length
    kept = [(number, length) for number, length in zip(numbers, lengths, strict=True) if length]
    while len(recents) - start > clients.TAIL:
        rows.put(key, stored.next_row, _encode_state(recents[start : start + clients.TAIL]))
        kept.append((stored.next_row, clients.TAIL))
        stored.next_row = (stored.next_row + 1) % SNAPSHOT_ROW
        start += clients.TAIL
    old = [kept for kept in stored.kept if kept.settled < stored.horizon - grace_ms]
    old += stored.kept[len(old) : max(len(old), len(stored.kept) - clients.MAX_KEPT)]
    for kept_row in old:
        rows.put(key, kept_row.row, None)
    stored.kept = stored.kept[len(old) :]
    client.changed_rows = None
    stored.rows = tuple(number for number, _ in kept)
    if kept:
        client.lengths = [length for _, length in kept]
        stored.tail = recents[start:]
    else:
        client.lengths = None
        stored.tail = client.recents


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
