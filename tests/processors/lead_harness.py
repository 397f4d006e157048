"""The leads processor without an engine: commits, saved states, records, questions and counts in plain dicts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from stream_app.domain.lead_counts import Counted
from stream_app.domain.lead_events import LeadFact, Question
from stream_app.domain.referral.facts import CONVERSION, LEAD, Mine, Purchase
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import SourceRules
from stream_app.engine.processor import Rejected
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.lead_facts import ANSWER, LEAD_FACT, LEAD_QUESTION
from stream_app.processors.lead_referrals import LeadReferrals
from stream_app.processors.leads import LeadsProcessor
from tests.processors.harness import TABLES, DictRows

RESOLVER = SourceResolver(SourceRules(), TABLES)
GRACE = 60 * 60_000

Cell = tuple[Any, ...]
"""(source, goal, segment, minute, name, currency, owner, refusal reason)."""
Sent = tuple[str, str, bytes, int]
"""(topic or kind, lead id, value, timestamp)."""


class LeadRun:
    """One processor over updates and letters, in commits of any size."""

    def __init__(self, *, drop_cache: bool = False, referrals: LeadReferrals | None = None) -> None:
        self.processor = LeadsProcessor(
            RESOLVER, currency="EUR", grace_ms=GRACE, rules_version="test", counter=self, referrals=referrals
        )
        self.purchases: dict[tuple[str, str], Purchase] = {}
        """What people were told, by record and person."""
        self.led: dict[str, str] = {}
        """Whose lead it is."""
        self.drop_cache = drop_cache
        self.records: dict[str, dict[str, Any]] = {}
        self.written = 0
        self.sums: dict[Cell, Decimal] = defaultdict(Decimal)
        self.questions: dict[str, dict[str, Question | None]] = defaultdict(dict)
        """By lead: what each client was asked last."""
        self.rejected: list[tuple[str, str]] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.saved: dict[bytes, bytes] = {}
        self.cached: dict[bytes, Any] = {}
        self.revision = 0
        self.now = 0
        self.rows = DictRows()
        self._emitted: set[str] = set()

    # -- the commit, as a processor sees it
    def emit(self, topic: str, key: bytes, value: bytes) -> None:
        record = json.loads(value)
        name = record["id"]
        assert topic == "leads"
        assert name == record["lead_id"] == key.decode()
        assert name not in self._emitted, "one record per id and commit"
        self._emitted.add(name)
        before = self.records.get(name)
        assert record["revision"] > (before["revision"] if before else 0)
        assert before is None or _content(before) != _content(record), "a revision says something new"
        self.records[name] = record
        self.written += 1

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        if kind == CONVERSION:
            told = msgspec.msgpack.decode(value, type=Letter[Purchase])
            before = self.purchases.pop((told.id, key.decode()), None)
            assert told.body is not None or before is not None
            if told.body is not None:
                self.purchases[told.id, key.decode()] = told.body
            return
        if kind == LEAD:
            mine = msgspec.msgpack.decode(value, type=Letter[Mine])
            self.led.pop(key.decode(), None)
            if mine.body is not None:
                self.led[key.decode()] = mine.id
            return
        assert kind == LEAD_QUESTION
        letter = msgspec.msgpack.decode(value, type=Letter[Question])
        assert letter.body is None or letter.body.client_id == key.decode()
        self.questions[letter.id][key.decode()] = letter.body

    def reject(self, event: Any, reason: str, detail: str) -> None:
        self.rejected.append((reason, detail))

    def gather(self, kind: str) -> dict[Any, Any]:
        raise AssertionError(kind)

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.counts[name, label] += n

    # -- the counter
    def move(self, before: Counted | None, after: Counted | None, context: Any) -> None:
        for cell, amount in cells(before).items():
            self.sums[cell] -= amount
        for cell, amount in cells(after).items():
            self.sums[cell] += amount

    # -- running
    def commit(self, sent: Iterable[Sent]) -> None:
        """Takes one commit's records."""
        by_key: dict[bytes, list[Any]] = {}
        for source, lead_id, value, ts in sent:
            try:
                event = self.processor.decoder(source)(lead_id.encode(), value, ts)
            except Rejected as rejected:
                self.rejected.append((rejected.reason, rejected.detail))
                continue
            by_key.setdefault(lead_id.encode(), []).append(event)
        self.revision += 1
        self._emitted = set()
        for key, events in by_key.items():
            state = self.cached.get(key)
            if state is None and key in self.saved:
                state = self.processor.load(key, 1, self.saved[key], self.rows)
            after = self.processor.fold(key, state, events, self)
            if after is None:
                self.saved.pop(key, None)
                self.cached.pop(key, None)
            else:
                self.saved[key] = self.processor.save(key, after, self.rows)
                self.cached[key] = after
        if self.drop_cache:
            self.cached.clear()

    def open_questions(self) -> dict[str, Question]:
        """What leads want to know at the end."""
        found = {}
        for lead_id, asked in self.questions.items():
            still = [question for question in asked.values() if question is not None]
            assert len(still) <= 1, "one question a lead"
            if still:
                found[lead_id] = still[0]
        return found

    @property
    def truth(self) -> dict[str, dict[str, Any]]:
        """The last record per id, retracted ones and revisions left out (semantics 20)."""
        return {name: _content(record) for name, record in sorted(self.records.items()) if not record["retracted"]}

    @property
    def counted(self) -> dict[Cell, Decimal]:
        """All deltas summed up; what came to nothing is left out."""
        return {cell: amount for cell, amount in self.sums.items() if amount}


def cells(counted: Counted | None) -> dict[Cell, Decimal]:
    """What one lead counts, by where it is counted."""
    found: dict[Cell, Decimal] = defaultdict(Decimal)
    if counted is None:
        return found
    source = counted.source
    where = ((source.source, source.medium, source.campaign, source.channel), counted.goal, counted.segment)
    for part in counted.contributions:
        for name, n in part.counts:
            found[(*where, part.minute, name, "", part.owner, part.refusal_reason)] += n
        for name, amount in part.sums:
            currency = part.currency if name in {"revenue", "profit"} else ""
            found[(*where, part.minute, name, currency, part.owner, part.refusal_reason)] += amount
    return found


def update(lead_id: str, record: dict[str, Any], ts: int | None = None) -> Sent:
    """An update as it is sent."""
    value = {**record, "lead_id": lead_id}
    return "lead-updates", lead_id, json.dumps(value).encode(), record["occurred_at"] if ts is None else ts


def fact(lead_id: str, fact_id: str, body: LeadFact | None) -> Sent:
    """What journeys tells."""
    return LEAD_FACT, lead_id, encode_body(Letter(fact_id, body)), 0


def answer(lead_id: str, body: LeadFact | None) -> Sent:
    """What journeys answers."""
    return fact(lead_id, ANSWER, body)


def _content(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "revision"}
