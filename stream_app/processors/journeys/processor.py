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
from typing import Any

from stream_app.domain import client as clients
from stream_app.domain import hits
from stream_app.domain.bots import BotDetector
from stream_app.domain.client import Client, Timeline
from stream_app.domain.contacts import ContactHasher
from stream_app.domain.hits import BOT, CONVERSION, REFUND, Hit
from stream_app.domain.journey import MAX_OWNERS, Converted, Fold, welcome
from stream_app.domain.persons import changed_since
from stream_app.domain.referral.facts import ARRIVAL, FORGOTTEN, Forgotten
from stream_app.domain.referral.links import LinkReader
from stream_app.domain.refunds import MAX_REFUNDS, Refund
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.views import Views
from stream_app.engine.processor import Context, Decoder, Rows
from stream_app.processors.counting import Counter
from stream_app.processors.facts import Letter, Teller, encode_body
from stream_app.processors.journeys import codec, erasing, orders
from stream_app.processors.journeys.conversions import Conversions
from stream_app.processors.journeys.decoding import ConversionDecoder, click_decoder, direct_source
from stream_app.processors.journeys.promos import PromoCodes, Told, read_arrival
from stream_app.processors.journeys.publishing import Heard, Late, Publisher
from stream_app.processors.journeys.settled import Settled
from stream_app.processors.journeys.writing import Writer
from stream_app.processors.lead_facts import LEAD_QUESTION, Asking, LeadAnswers, read_question
from stream_app.processors.links import (
    CLIENT_ERASED,
    ORDER_RULING,
    PERSON_TOUCHPOINTS,
    ClientErased,
    OthersTold,
    Ruled,
)
from stream_app.processors.links import decoder as letter_decoder
from stream_app.processors.pseudonyms import Pseudonyms, random_names

Word = Asking | OthersTold | Ruled | Told
Letters = Word | ClientErased

TAKEN, SHOWN, EVERYTHING, REFOLD = 1, 2, 4, 8
"""What an event means for publishing: nothing yet; what it touched is looked at; everything is; the head is folded anew
first."""


class JourneysProcessor:
    """Folds each client's events to sessions and conversions with their sources."""

    name = "journeys"
    tag = b"j"
    inputs: Sequence[str] = ("clicks", "conversions")
    kinds: Sequence[str] = (LEAD_QUESTION, PERSON_TOUCHPOINTS, ORDER_RULING, CLIENT_ERASED, ARRIVAL)
    state_version = 2

    def __init__(
        self,
        rules: JourneyRules,
        resolver: SourceResolver,
        bots: BotDetector,
        rules_version: str | None = None,
        *,
        tellers: Sequence[Teller] = (),
        counter: Counter | None = None,
        links: LinkReader | None = None,
        hasher: ContactHasher | None = None,
        promos: PromoCodes | None = None,
        pseudonyms: Pseudonyms = random_names(1),  # noqa: B008
    ) -> None:
        self.rules = rules
        self._pseudonyms = pseudonyms
        self._decoders: dict[str, Decoder[Any]] = {
            "clicks": click_decoder(rules, resolver, bots, links, hasher),
            "conversions": ConversionDecoder(rules, resolver, bots, hasher),
            LEAD_QUESTION: read_question,
            PERSON_TOUCHPOINTS: letter_decoder(PERSON_TOUCHPOINTS),
            ORDER_RULING: letter_decoder(ORDER_RULING),
            CLIENT_ERASED: letter_decoder(CLIENT_ERASED),
            ARRIVAL: read_arrival,
        }
        self._grace_ms = rules.sessions.grace_ms
        self._expiry_ms = rules.client_life_ms + self._grace_ms
        self._fold = Fold(rules, direct_source(resolver))
        self._timeline = Timeline(self._fold, self._grace_ms)
        self._views = Views(rules, rules_version if rules_version is not None else rules.digest())
        self._counter = counter
        self._writer = Writer(self._views, counter)
        self._conversions = Conversions(self._fold, self._views, tellers, self._writer)
        self._settled = Settled(self._conversions, self._writer)
        self._publisher = Publisher(self._views, tellers, self._writer, self._conversions, self._settled)
        self._answers = LeadAnswers(self._views)
        self._promos = promos

    def decoder(self, source: str) -> Decoder[Any]:
        """The decoder of an input, or of what others tell."""
        return self._decoders[source]

    def key_of(self, event: Hit) -> bytes:
        """The client of an event whose record had no key."""
        return event.client.encode()

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Client | None, events: list[Any], context: Context[Hit]) -> Client | None:
        """Applies one commit's events of a client."""
        if len(events) > 1:
            found = [event for event in events if event.__class__ is Hit]
            letters = [event for event in events if event.__class__ is not Hit] if len(found) < len(events) else []
            found.sort(key=hits.order)
        elif events[0].__class__ is Hit:
            if (
                state is not None
                and state.recents
                and state.recents[0].at >= context.now - self._grace_ms
                and context.now < state.due
                and not state.stored.asked
                and self._timeline.extends_quietly(state, events[0])
            ):
                if state.head.ended:
                    state.due = self._due(state, state.head.last_at + self._expiry_ms)
                else:
                    state.due = events[0].at + self._fold.timeout_ms
                return state
            found, letters = events, []
        else:
            found, letters = [], events
        return self._fold_all(key, state, found, letters, context)

    def _fold_all(
        self,
        key: bytes,
        state: Client | None,
        events: list[Hit],
        letters: list[Letters],
        context: Context[Hit],
    ) -> Client | None:
        client_id = key.decode()
        words: list[Word] = []
        if letters:
            state, words = self._first_of_all(key, client_id, state, letters, context)
            if state is None and not events and not words:
                return None
        client = state if state is not None else clients.new_client()
        heard = None
        if words:
            heard = self._hear(client, words)
        elif context.revision >= client.stored.revision + clients.HOLD_COMMITS:
            self._release(key, client, context)
        if events and events[-1].at - (client.head.last_at or events[0].at) >= self._fold.life_ms:
            changed = False
            for part in self._lives(client, events):
                changed |= self._fold_part(key, client_id, client, part, heard, context)
                heard = None
        else:
            changed = self._fold_part(key, client_id, client, events, heard, context)
        if not changed and state is None and not client.stored.asked:
            return None
        return self._due_or_gone(key, client_id, client, context)

    def _first_of_all(
        self, key: bytes, client_id: str, state: Client | None, letters: list[Letters], context: Context[Hit]
    ) -> tuple[Client | None, list[Word]]:
        """A client that is erased is forgotten before anything else; what is taken back of one that is not known is
        nothing new, nor what a code is that it asked for. What is left of all that."""
        for letter in letters:
            if isinstance(letter, ClientErased):
                new = self._pseudonyms(key)
                erasing.take_back(key, client_id, state, new, letter.conversions, self._writer, context)
                if state is not None:
                    codec.forget(key, state, context.rows)
                    state = None
                body = encode_body(Letter(letter.user, Forgotten((client_id,), done=True)))
                context.forward(FORGOTTEN, letter.user.encode(), body)
        left = [letter for letter in letters if not isinstance(letter, ClientErased)]
        if state is None:
            left = [letter for letter in left if not _takes_back(letter)]
        return state, left

    def _lives(self, client: Client, events: list[Hit]) -> list[list[Hit]]:
        """Events before and after a silence in which the client would be forgotten, if a backlog holds both: what was
        before is settled first."""
        life_ms, last_at = self._fold.life_ms, client.head.last_at
        parts: list[list[Hit]] = [[]]
        for hit in events:
            if last_at and hit.at - last_at >= life_ms:
                parts.append([])
            parts[-1].append(hit)
            last_at = max(last_at, hit.at)
        return parts

    def _fold_part(
        self,
        key: bytes,
        client_id: str,
        client: Client,
        events: list[Hit],
        heard: Heard | None,
        context: Context[Hit],
    ) -> bool:
        """Takes events and what was heard, publishes, and settles. False if there was nothing to take."""
        horizon = context.now - self._grace_ms
        stored = client.stored
        if stored.promos:
            horizon = clients.hold(stored, horizon, context.revision)
        recents = client.recents
        if events and recents and recents[-1].at < horizon <= events[0].at and heard is None:
            # All that was within grace has settled and nothing new interferes: the head becomes the snapshot, and no
            # event of a returning client is folded twice.
            self._settle(key, client_id, client, horizon, context)
        late = Late()
        changes = EVERYTHING if heard is not None or client.anew else 0
        if heard is not None and heard.refold:
            changes |= REFOLD
        client.anew = False
        for hit in events:
            changes |= self._take(key, client_id, client, hit, changes, late, context)
        if changes & REFOLD:
            self._timeline.refold(client, client_id)
        if stored.promos:
            horizon = clients.hold(stored, context.now - self._grace_ms, context.revision)
        if len(client.recents) > clients.MAX_RECENT:
            horizon = context.now - self._grace_ms  # of so many nothing waits for whose a code is
            if client.recents[-clients.MAX_RECENT - 1].at >= horizon:
                horizon = clients.cap(client)
                changes |= EVERYTHING
                context.count("client_caps")
        if changes > TAKEN or context.now >= client.due:
            self._publisher.publish(
                key,
                client_id,
                client,
                context,
                everything=changes >= EVERYTHING,
                since=events[0].at if events else client.head.last_at + 1,
                late=late,
                heard=heard,
            )
        if not changes:
            self._finish_sessions(client, horizon, ordered=False)
            return False
        if events:
            stored.revision = context.revision
            self._settle(key, client_id, client, horizon, context)
        self._finish_sessions(client, context.now - self._grace_ms, ordered=False)
        return True

    def wake(self, key: bytes, state: Client, context: Context[Hit]) -> Client | None:
        """Publishes sessions as closed, or forgets the client."""
        return self._fold_all(key, state, [], [], context)

    def due(self, state: Client) -> int:
        """When the earliest open session closes, or the client is forgotten."""
        return state.due

    def _take(
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
            self._judge(key, client, hit, context)
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
        if clients.is_remembered(stored.remembered, hit.id) or any(
            other.id == hit.id and other.kind >= CONVERSION for other in client.recents
        ):
            context.count("duplicates")
            return False
        clients.remember(stored, hit.id)
        hit.client = ""
        if hit.kind == REFUND:
            self._judge(key, client, hit, context)
            stored.refunds = (*stored.refunds, Refund.of(hit))[-MAX_REFUNDS:]
            late.refunds.append(hit)
            return True
        sale.late = True
        if sale.order and sale.order in client.orders and not self._is_earlier(key, client, hit, context):
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

    @staticmethod
    def _is_earlier(key: bytes, client: Client, hit: Hit, context: Context[Hit]) -> bool:
        """Whether a late claim comes before the settled one of this client: the smallest keeps the order."""
        assert hit.sale is not None
        held = next((order for order in client.stored.orders if order.key == hit.sale.order), None)
        if held is None:
            return False
        settled = codec.frozen(key, held.row, context.rows).hit
        return (hit.at, hit.id) < (settled.at, settled.id)

    def _judge(self, key: bytes, client: Client, hit: Hit, context: Context[Hit]) -> None:
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

    def _hear(self, client: Client, letters: list[Word]) -> Heard:
        """Takes what others tell of the client."""
        heard = Heard()
        stored = client.stored
        asking = []
        for letter in letters:
            match letter:
                case OthersTold(user, others):
                    before = client.others.pop(user, None)
                    if others is not None:
                        client.others[user] = others
                        if len(client.others) > MAX_OWNERS:
                            del client.others[next(iter(client.others))]
                    client.others_changed = True
                    heard.since = min(heard.since, changed_since(before, others))
                case Ruled(order, ruling):
                    stored.rulings.pop(order, None)
                    if ruling is not None:
                        stored.rulings[order] = ruling
                        if len(stored.rulings) > clients.MAX_ORDERS:
                            del stored.rulings[next(iter(stored.rulings))]
                    heard.orders.add(order)
                case Told(code, spans):
                    if self._promos is not None and self._promos.hear(client, code, spans):
                        heard.refold = True
                case Asking():
                    asking.append(letter)
        if asking:
            self._answers.take(client, asking)
        return heard

    # --- settle --------------------------------------------------------------------------------------

    def _settle(self, key: bytes, client_id: str, client: Client, horizon: int, context: Context[Hit]) -> None:
        """Settles what no admissible event can touch any more; conversions leave, orders get a row of their own."""
        refunds = client.stored.refunds
        for converted in self._timeline.settle(client, horizon, client_id):
            frozen = self._conversions.freeze(client, converted)
            self._settled.keep(key, client_id, client, frozen, context.rows)
        if client.stored.refunds is not refunds:
            orders.settle_refunds(client_id, client)

    def _release(self, key: bytes, client: Client, context: Context[Hit]) -> None:
        """What was kept for what other clients might still tell, long enough in commits, is looked at by the time."""
        horizon = context.now - self._grace_ms - clients.HOLD_MS
        stored, snapshot = client.stored, client.snapshot
        if stored.orders or stored.held:
            self._settled.release(key, client, horizon, context.rows)
        if snapshot.ended or (snapshot.open is not None and snapshot.open.ordered):
            self._finish_sessions(client, horizon, ordered=True)

    def _finish_sessions(self, client: Client, horizon: int, *, ordered: bool) -> None:
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

    def _due_or_gone(self, key: bytes, client_id: str, client: Client, context: Context[Hit]) -> Client | None:
        if client.stored.asked:
            horizon = clients.hold(client.stored, context.now - self._grace_ms, context.revision)
            self._answers.answer(client_id, client, horizon, context)
        due = self._expiry(client)
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

    def _expiry(self, client: Client) -> int:
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

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> Client:
        """A client as it was when saved; the head is folded anew."""
        if version not in {self.state_version, self.state_version - 1}:
            raise ValueError(f"journeys state version {version} is not known; this release reads 1 and 2")
        client = codec.load(key, payload, rows, self._timeline)
        client.due = self._due(client, self._expiry(client))
        return client

    def save(self, key: bytes, state: Client, rows: Rows) -> bytes:
        """The client's bytes; parts of large clients go to rows."""
        return codec.save(key, state, rows, self._grace_ms)


def _takes_back(word: Word) -> bool:
    match word:
        case OthersTold(_, others):
            return others is None
        case Ruled(_, ruling):
            return ruling is None
        case Asking(_, question):
            return question is None
        case Told():
            return True
