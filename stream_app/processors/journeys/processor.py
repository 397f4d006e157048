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
from stream_app.domain import hits, horizons
from stream_app.domain.bots import BotDetector
from stream_app.domain.client import Client
from stream_app.domain.contacts import ContactHasher
from stream_app.domain.hits import Hit
from stream_app.domain.referral.facts import ARRIVAL
from stream_app.domain.referral.links import LinkReader
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sessionization import Fold
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.timeline import Timeline
from stream_app.domain.views import Views
from stream_app.engine.processor import Context, Decoder, Rows
from stream_app.processors.counting import Counter
from stream_app.processors.facts import Teller
from stream_app.processors.journeys import codec
from stream_app.processors.journeys.conversions import Conversions
from stream_app.processors.journeys.decoding import ConversionDecoder, click_decoder, direct_source
from stream_app.processors.journeys.expiry import Expiry
from stream_app.processors.journeys.hearing import Heard, Hearing, Letters, Word
from stream_app.processors.journeys.intake import EVERYTHING, REFOLD, TAKEN, Intake, Late
from stream_app.processors.journeys.promos import PromoCodes, read_arrival
from stream_app.processors.journeys.publishing import Publisher
from stream_app.processors.journeys.settled import Settled
from stream_app.processors.journeys.settling import Settling
from stream_app.processors.journeys.writing import Writer
from stream_app.processors.lead_facts import LEAD_QUESTION, LeadAnswers, read_question
from stream_app.processors.links import CLIENT_ERASED, ORDER_RULING, PERSON_TOUCHPOINTS
from stream_app.processors.links import decoder as letter_decoder
from stream_app.processors.pseudonyms import Pseudonyms, random_names


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
        fold = self._fold = Fold(rules, direct_source(resolver))
        timeline = self._timeline = Timeline(fold, self._grace_ms)
        views = Views(rules, rules_version if rules_version is not None else rules.digest())
        writer = Writer(views, counter)
        conversions = Conversions(fold, views, tellers, writer)
        settled = Settled(conversions, writer)
        answers = LeadAnswers(views)
        self._hearing = Hearing(writer, answers, promos, pseudonyms)
        self._intake = Intake(fold, timeline, counter, promos)
        self._publisher = Publisher(views, tellers, writer, conversions, settled)
        self._settling = Settling(fold, timeline, views, conversions, settled, self._grace_ms)
        self._expiry = Expiry(views, answers, self._grace_ms, rules.client_life_ms + self._grace_ms)

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
                    state.due = self._expiry.due(state)
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
            state, words = self._hearing.first_of_all(key, client_id, state, letters, context)
            if state is None and not events and not words:
                return None
        client = state if state is not None else clients.new_client()
        heard = None
        if words:
            heard = self._hearing.hear(client, words)
        elif context.revision >= client.stored.revision + clients.HOLD_COMMITS:
            self._settling.release(key, client, context)
        if events and events[-1].at - (client.head.last_at or events[0].at) >= self._fold.life_ms:
            changed = False
            for part in self._lives(client, events):
                changed |= self._fold_part(key, client_id, client, part, heard, context)
                heard = None
        else:
            changed = self._fold_part(key, client_id, client, events, heard, context)
        if not changed and state is None and not client.stored.asked:
            return None
        return self._expiry.due_or_gone(key, client_id, client, context)

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
            horizon = horizons.hold(stored, horizon, context.revision)
        recents = client.recents
        if events and recents and recents[-1].at < horizon <= events[0].at and heard is None:
            # All that was within grace has settled and nothing new interferes: the head becomes the snapshot, and no
            # event of a returning client is folded twice.
            self._settling.settle(key, client_id, client, horizon, context)
        late = Late()
        changes = EVERYTHING if heard is not None or client.anew else 0
        if heard is not None and heard.refold:
            changes |= REFOLD
        client.anew = False
        for hit in events:
            changes |= self._intake.take(key, client_id, client, hit, changes, late, context)
        if changes & REFOLD:
            self._timeline.refold(client, client_id)
        if stored.promos:
            horizon = horizons.hold(stored, context.now - self._grace_ms, context.revision)
        if len(client.recents) > clients.MAX_RECENT:
            horizon = context.now - self._grace_ms  # of so many nothing waits for whose a code is
            if client.recents[-clients.MAX_RECENT - 1].at >= horizon:
                horizon = horizons.cap(client)
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
            self._settling.finish_sessions(client, horizon, ordered=False)
            return False
        if events:
            stored.revision = context.revision
            self._settling.settle(key, client_id, client, horizon, context)
        self._settling.finish_sessions(client, context.now - self._grace_ms, ordered=False)
        return True

    def wake(self, key: bytes, state: Client, context: Context[Hit]) -> Client | None:
        """Publishes sessions as closed, or forgets the client."""
        return self._fold_all(key, state, [], [], context)

    def due(self, state: Client) -> int:
        """When the earliest open session closes, or the client is forgotten."""
        return state.due

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> Client:
        """A client as it was when saved; the head is folded anew."""
        if version not in {self.state_version, self.state_version - 1}:
            raise ValueError(f"journeys state version {version} is not known; this release reads 1 and 2")
        client = codec.load(key, payload, rows, self._timeline)
        client.due = self._expiry.due(client)
        return client

    def save(self, key: bytes, state: Client, rows: Rows) -> bytes:
        """The client's bytes; parts of large clients go to rows."""
        return codec.save(key, state, rows, self._grace_ms)
