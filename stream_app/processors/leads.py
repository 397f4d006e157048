"""Updates from a CRM and conversions that make leads → the topic `leads`.

The life of a lead is folded in the domain, anew whenever something is told of it: leads have few events. Here is what
the engine needs: decoding, one fold per commit, publishing, counting, questions to journeys, codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from stream_app.domain import leads
from stream_app.domain.errors import Refused
from stream_app.domain.ids import content_digest
from stream_app.domain.lead_counts import Counted
from stream_app.domain.lead_events import LeadFact, Question, Update, compact, read_lead_update
from stream_app.domain.lead_life import Life
from stream_app.domain.lead_records import LEADS, LeadRetraction
from stream_app.domain.lead_records import Lead as LeadRecord
from stream_app.domain.lead_views import lead_retraction, lead_view
from stream_app.domain.leads import Lead
from stream_app.domain.referral.facts import LEAD_OWNER, Renamed
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.times import LATEST_MS, MINUTE_MS
from stream_app.engine.processor import Context, Decoder, Rejected, Rows
from stream_app.processors.facts import Fact, Letter, encode_body, read, tell
from stream_app.processors.lead_facts import ANSWER, LEAD_FACT, LEAD_QUESTION
from stream_app.processors.lead_referrals import LeadReferrals

CLOCK_SKEW_MS = 5 * MINUTE_MS


_encode_record = msgspec.json.Encoder().encode
_encode_state = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode_state = msgspec.msgpack.Decoder(Lead).decode
_decode_fact = msgspec.msgpack.Decoder(Letter[LeadFact]).decode
_decode_owner = msgspec.msgpack.Decoder(Letter[Renamed]).decode


class Told(msgspec.Struct, frozen=True, gc=False):
    """A fact from journeys."""

    id: str
    fact: LeadFact | None


Event = Update | Told | Renamed


class LeadCounter(Protocol):
    """The slot for counters: hears what a lead counts whenever that changes."""

    def move(self, before: Counted | None, after: Counted | None, context: Context[Event]) -> None:
        """Counts `after` in place of `before`; None: nothing."""
        ...


class LeadsProcessor:
    """Folds what is told of each lead to its record."""

    name = "leads"
    tag = b"l"
    inputs: Sequence[str] = ("lead-updates",)
    kinds: Sequence[str] = (LEAD_FACT, LEAD_OWNER)
    state_version = 1

    def __init__(
        self,
        resolver: SourceResolver,
        *,
        currency: str,
        grace_ms: int,
        rules_version: str,
        counter: LeadCounter | None = None,
        referrals: LeadReferrals | None = None,
    ) -> None:
        self._resolver = resolver
        self._currency = currency
        self._grace_ms = grace_ms
        self._rules_version = rules_version
        self._counter = counter
        self._referrals = referrals

    # --- events --------------------------------------------------------------------------------------

    def decoder(self, source: str) -> Decoder[Event]:
        """The decoder of `lead-updates` or of facts."""
        if source == LEAD_OWNER:
            return self._renamed
        return self._told if source == LEAD_FACT else self._update

    def key_of(self, event: Event) -> bytes:
        """The lead of an update whose record had no key."""
        assert isinstance(event, Update)
        return event.lead.encode()

    def _update(self, key: bytes | None, value: bytes | None, ts: int) -> Update:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            read = read_lead_update(value)
            if key is not None and key != read.lead_id.encode():
                raise Rejected("key_mismatch", "lead_id: the record's key is another")
            update = compact(read, self._currency, self._resolver)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None
        if not 0 <= update.at <= LATEST_MS:
            raise Rejected("bad_field", "occurred_at: expected a time between 1970 and 9999")
        if update.at - ts > CLOCK_SKEW_MS:
            raise Rejected("clock_skew", "occurred_at: more than 5 min after it arrived")
        update.late = ts - update.at > self._grace_ms
        return update

    @staticmethod
    def _told(_key: bytes | None, value: bytes | None, _ts: int) -> Told:
        letter = read(_decode_fact, value, LEAD_FACT)
        return Told(letter.id, letter.body)

    @staticmethod
    def _renamed(_key: bytes | None, value: bytes | None, _ts: int) -> Renamed:
        body = read(_decode_owner, value, LEAD_OWNER).body
        assert body is not None  # a name that was given up does not come back
        return body

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Lead | None, events: list[Event], context: Context[Event]) -> Lead | None:
        """Takes one commit's events of a lead, and publishes what they change."""
        lead = state if state is not None else leads.new_lead()
        for event in events:
            if isinstance(event, Update):
                self._take(lead, event, context)
            elif isinstance(event, Renamed):
                if self._referrals is not None:
                    self._referrals.rename(lead, event.old, event.new)
            elif event.id == ANSWER:
                lead.answer = event.fact
            else:
                leads.take_fact(lead, event.id, event.fact)
        return self._publish(key, lead, context)

    def wake(self, _key: bytes, state: Lead, _context: Context[Event]) -> Lead:
        """Leads wait for nothing."""
        return state

    def due(self, _state: Lead) -> int:
        """Never: leads don't expire (semantics 25)."""
        return 0

    @staticmethod
    def _take(lead: Lead, update: Update, context: Context[Event]) -> None:
        update.lead = ""
        match leads.take_update(lead, update):
            case "duplicate":
                context.count("duplicates")
            case "too_late":
                context.reject(update, "too_late", "lead_cap")
            case _:
                pass

    def _publish(self, key: bytes, lead: Lead, context: Context[Event]) -> Lead | None:
        lead_id = key.decode()
        life = leads.live(lead)
        self._ask(lead_id, lead, leads.wanted(lead, life), context)
        self._count(lead, leads.counted(lead, life), context)
        self._tell(lead_id, lead, life, context)
        if life is None:
            if lead.published:
                self._emit(key, lead, lead_retraction(lead_id, self._rules_version), context)
                context.count("retractions", LEADS)
                _gauge(lead, "", context)
            return None
        if leads.settle(lead):
            life = leads.live(lead)
            assert life is not None
            lead.counted = leads.counted(lead, life)
            lead.told = {name: lead.told[name] for name, _ in self._facts(lead_id, lead, life)}
            context.count("lead_caps")
        self._emit(key, lead, lead_view(lead_id, lead, life, self._rules_version), context)
        _gauge(lead, life.status, context)
        return lead

    @staticmethod
    def _emit(key: bytes, lead: Lead, record: LeadRecord | LeadRetraction, context: Context[Event]) -> None:
        digest = content_digest(_encode_record(record))
        if digest != lead.published:
            lead.published = digest
            record.revision = context.revision
            context.emit(LEADS, key, _encode_record(record))

    @staticmethod
    def _ask(lead_id: str, lead: Lead, question: Question | None, context: Context[Event]) -> None:
        """Tells journeys what a lead wants to know, or that it does not any more."""
        asked = lead.asked
        if question == asked:
            return
        if asked is not None and (question is None or question.client_id != asked.client_id):
            context.forward(LEAD_QUESTION, asked.client_id.encode(), encode_body(Letter(lead_id, None)))
        if question is not None:
            context.forward(LEAD_QUESTION, question.client_id.encode(), encode_body(Letter(lead_id, question)))
        lead.asked = question

    def _facts(self, lead_id: str, lead: Lead, life: Life | None) -> Sequence[tuple[str, Fact]]:
        if self._referrals is None or life is None:
            return ()
        return tuple(self._referrals.facts(lead_id, lead, life))

    def _tell(self, lead_id: str, lead: Lead, life: Life | None, context: Context[Event]) -> None:
        """Tells what follows from the lead's statuses, and takes back what does not any more."""
        facts: dict[str, list[Fact]] = {}
        for name, fact in self._facts(lead_id, lead, life):
            facts.setdefault(name, []).append(fact)
        before, lead.told = lead.told, {}
        for name, now in facts.items():
            lead.told[name] = tell(before.pop(name, ()), now, name, context)
        for name, told in before.items():
            tell(told, (), name, context)

    def _count(self, lead: Lead, after: Counted | None, context: Context[Event]) -> None:
        before = lead.counted
        if after != before:
            lead.counted = after
            if self._counter is not None:
                self._counter.move(before, after, context)

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Lead:
        """A lead as it was when saved."""
        if version != self.state_version:
            raise ValueError(f"leads state version {version} is not known; this release reads {self.state_version}")
        return _decode_state(payload)

    def save(self, _key: bytes, state: Lead, _rows: Rows) -> bytes:
        """The lead's bytes: all of it, as it is small."""
        return _encode_state(state)


def _gauge(lead: Lead, status: str, context: Context[Event]) -> None:
    if status != lead.status:
        if lead.status:
            context.count("leads", lead.status, -1)
        if status:
            context.count("leads", status)
        lead.status = status


__all__ = ["LeadCounter", "LeadsProcessor", "Told"]
