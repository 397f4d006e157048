"""A processor run without an engine: commits, timers, saved states, rows and outputs in plain dicts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from stream_app.domain.bots import BotDetector
from stream_app.domain.referral.codes import Claim
from stream_app.domain.referral.facts import CLAIM
from stream_app.domain.referral.programs import Program, Programs, Rate
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import SourceRules
from stream_app.engine.processor import Rejected
from stream_app.processors.codes import CODE_KEY, CodesProcessor, claim_letter
from stream_app.processors.journeys import JourneysProcessor
from stream_app.processors.journeys.promos import PromoCodes
from stream_app.processors.orders import OrdersProcessor
from stream_app.processors.persons import PersonsProcessor
from stream_app.reference.loader import load

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_700_000_000_000

TABLES = load()


class DictRows:
    """Rows of all keys, as the store would hold them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, int], bytes] = {}
        self.written = 0

    def get(self, key: bytes, number: int) -> bytes | None:
        return self.rows.get((key, number))

    def put(self, key: bytes, number: int, value: bytes | None) -> None:
        if value is None:
            self.rows.pop((key, number), None)
        else:
            self.rows[key, number] = value
            self.written += len(value)

    def numbers(self, key: bytes) -> list[int]:
        return sorted(number for owner, number in self.rows if owner == key)


ENROLMENTS = "referral-events"
"""The topic of somebody's enrolment with a code, and of its end: what codes are told of them."""
PROGRAMS = Programs(
    [
        Program("friends", (Rate.parse("10%"),), "EUR"),
        Program("spring", (Rate.parse("10%"),), "EUR", starts=T0 + 2 * HOUR, ends=T0 + 60 * DAY),
    ]
)


class Part:
    """One processor with its states."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.rows = DictRows()
        self.version = processor.state_version
        self.saved: dict[bytes, bytes] = {}
        self.cached: dict[bytes, Any] = {}

    def state(self, key: bytes) -> Any:
        if key in self.cached:
            return self.cached[key]
        payload = self.saved.get(key)
        return self.processor.load(key, self.version, payload, self.rows) if payload is not None else None


class OneCommit:
    """What a processor sees of a commit."""

    def __init__(self, run: Run, now: int, revision: int) -> None:
        self.now = now
        self.revision = revision
        self.rows = run.rows
        self.run = run
        self.sender = b""
        self.emitted: set[tuple[str, str]] = set()
        self.gathered = run.gathered

    def emit(self, topic: str, key: bytes, value: bytes) -> None:
        record = json.loads(value)
        assert record["revision"] == self.revision
        assert record["client_id"].encode() == key
        assert (topic, record["id"]) not in self.emitted, "one record per id and commit"
        self.emitted.add((topic, record["id"]))
        self.run.outputs.append((topic, record))

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        self.run.forwards.append((kind, key, value))
        if kind in self.run.readers:
            self.run.pending.append(Hop(self.sender, kind, key, value, self.revision, self.now))

    def reject(self, event: Any, reason: str, detail: str) -> None:
        self.run.rejected.append((reason, detail))

    def origin(self, event: Any) -> tuple[int, int, int]:
        return (0, 7, event.at)

    def bury(self, topic: str, key: bytes, value: bytes, place: Any, reason: str, detail: str) -> None:
        self.run.rejected.append((reason, detail))
        self.run.buried.append((topic, json.loads(value), tuple(place), reason))

    def gather(self, kind: str) -> dict[Any, Any]:
        return self.gathered.setdefault(kind, {})

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.run.counts[name] += n


class Hop(NamedTuple):
    """A record on its way to another key."""

    sender: bytes
    kind: str
    key: bytes
    value: bytes
    revision: int
    now: int


MAX_HOPS = 20
MAX_DELAY = HOUR
"""A hop is on its way for so much of stream time at most: what is delayed has arrived before time goes on by more."""


class Run:
    """Journeys, persons, orders and codes over a list of (topic, record, ts), in commits of any size, as one task.
    Stream time is the newest ts. What processors tell each other arrives before the next records, unless `hops` says
    otherwise."""

    def __init__(self, processor: JourneysProcessor, *, drop_cache: bool = False) -> None:
        self.processor = processor
        self.drop_cache = drop_cache
        life = processor.rules.client_life_ms
        self.parts = [
            Part(processor),
            Part(PersonsProcessor(life)),
            Part(OrdersProcessor(life)),
            Part(CodesProcessor(grace_ms=processor.rules.sessions.grace_ms)),
        ]
        self.enrolled: dict[str, dict[str, dict[str, Any]]] = {}
        self.readers = {
            source: part for part in self.parts for source in (*part.processor.inputs, *part.processor.kinds)
        }
        self.outputs: list[tuple[str, dict[str, Any]]] = []
        self.gathered: dict[str, dict[Any, Any]] = {}
        self.forwards: list[tuple[str, bytes, bytes]] = []
        self.pending: list[Hop] = []
        self.rejected: list[tuple[str, str]] = []
        self.buried: list[tuple[str, dict[str, Any], tuple[int, ...], str]] = []
        self.counts: Counter[str] = Counter()
        self.now = 0
        self.revision = 0

    @property
    def rows(self) -> DictRows:
        """Of journeys."""
        return self.parts[0].rows

    @property
    def saved(self) -> dict[bytes, bytes]:
        """Of journeys."""
        return self.parts[0].saved

    @property
    def cached(self) -> dict[bytes, Any]:
        """Of journeys."""
        return self.parts[0].cached

    def commit(
        self,
        records: Iterable[tuple[str, dict[str, Any] | bytes, int]],
        now: int = 0,
        hops: Iterable[Hop] | None = None,
        told: Iterable[tuple[bytes, Any]] = (),
    ) -> None:
        """Takes one commit's records, what others tell journeys (key, event), and `hops` of what is pending (None: all
        that follows, in commits of their own); then fires what is due."""
        taken = list(hops or ())
        self.pending = [hop for hop in self.pending if hop not in taken]
        events: list[tuple[Part, bytes | None, Any]] = [(self.parts[0], key, event) for key, event in told]
        for topic, record, ts in records:
            self.now = max(self.now, ts)
            if topic == ENROLMENTS:
                events += self._enrolment(record)
                continue
            value = record if isinstance(record, bytes) else json.dumps(record).encode()
            part = self.readers[topic]
            try:
                event = part.processor.decoder(topic)(None, value, ts)
            except Rejected as rejected:
                self.rejected.append((rejected.reason, rejected.detail))
                continue
            events.append((part, part.processor.key_of(event), event))
        for hop in taken:
            part = self.readers[hop.kind]
            events.append((part, hop.key, part.processor.decoder(hop.kind)(hop.key, hop.value, hop.now)))
        self.now = max(self.now, now)
        self.revision += 1
        context = OneCommit(self, self.now, self.revision)
        for part in self.parts:
            by_key: dict[bytes, list[Any]] = {}
            for reader, key, event in events:
                if reader is part:
                    by_key.setdefault(key, []).append(event)
            self._fold(part, by_key, context)
        if hops is None:
            self.arrive()

    def _enrolment(self, record: Any) -> list[tuple[Part, bytes, Any]]:
        """What a code hears of an enrolment, as far as that is known."""
        known = self.enrolled.setdefault(record["event_id"], {})
        known[record["type"]] = record
        if "enrolled" not in known:
            return []
        told, left = known["enrolled"], known.get("left", {})
        code = told["code"]
        claim = Claim(
            told["user_id"], told["program"], told["occurred_at"], told["event_id"], until=left.get("occurred_at", 0)
        )
        part = self.readers[CLAIM]
        return [
            (
                part,
                CODE_KEY + code.encode(),
                part.processor.decoder(CLAIM)(None, claim_letter(code, claim, (0, 7, 0)), 0),
            )
        ]

    def _fold(self, part: Part, by_key: dict[bytes, list[Any]], context: OneCommit) -> None:
        context.rows = part.rows
        processor = part.processor
        changed: dict[bytes, Any] = {}
        for key, events in by_key.items():
            context.sender = processor.tag + key
            changed[key] = processor.fold(key, part.state(key), events, context)
        for key in [*part.saved, *changed]:
            state = changed[key] if key in changed else part.state(key)
            if state is not None and 0 < processor.due(state) <= self.now:
                context.sender = processor.tag + key
                changed[key] = processor.wake(key, state, context)
        for key, state in changed.items():
            if state is None:
                part.saved.pop(key, None)
                part.cached.pop(key, None)
            else:
                assert not 0 < processor.due(state) <= self.now, "what is due was done"
                part.saved[key] = processor.save(key, state, part.rows)
                part.cached[key] = state
        if self.drop_cache:
            part.cached.clear()

    def arrive(self) -> None:
        """Lets everything that is on its way arrive, and what follows from it."""
        for _ in range(MAX_HOPS):
            if not self.pending:
                return
            self.commit([], hops=self.pending)
        raise AssertionError("processors tell each other things for ever")

    def finish(self) -> None:
        """Lets time pass until all sessions are closed."""
        self.arrive()
        rules = self.processor.rules.sessions
        self.commit([], now=self.now + rules.grace_ms + rules.timeout_ms)

    def last(self, topic: str) -> dict[str, dict[str, Any]]:
        """The last record per id, retracted ones and revisions left out (semantics 20)."""
        truth: dict[str, dict[str, Any]] = {}
        for name, record in self.outputs:
            if name == topic:
                before = truth.get(record["id"])
                assert before is None or before["revision"] < record["revision"]
                truth[record["id"]] = record
        return {
            record_id: {name: value for name, value in record.items() if name != "revision"}
            for record_id, record in sorted(truth.items())
            if not record["retracted"]
        }

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Sessions in order of time."""
        return sorted(self.last("attributed-sessions").values(), key=lambda s: (s["started_at"], s["session_number"]))

    @property
    def conversions(self) -> list[dict[str, Any]]:
        """Conversions in order of time."""
        return sorted(self.last("attributed-conversions").values(), key=lambda c: (c["occurred_at"], c["event_id"]))

    @property
    def truth(self) -> dict[str, Any]:
        """All that two runs must agree on."""
        return {"sessions": self.last("attributed-sessions"), "conversions": self.last("attributed-conversions")}


def travel(run: Run, batches: Iterable[list[tuple[str, dict[str, Any], int]]], random: Random) -> None:
    """Commits batches while what processors tell each other arrives late and interleaved: in order from each sender to
    each key, and in no other. Time goes on by more than an hour only once what was delayed has arrived; what was told
    in the last commit may arrive with that step."""
    for batch in batches:
        newest = max([run.now, *(ts for _, _, ts in batch)])
        while newest > run.now + MAX_DELAY and any(hop.revision < run.revision for hop in run.pending):
            run.commit([], hops=[hop for hop in run.pending if hop.revision < run.revision])
        jumps = newest > run.now + MAX_DELAY
        chosen, held = [], set()
        for hop in run.pending:
            lane = (hop.sender, hop.key)
            if jumps or (lane not in held and random.random() < 0.5):
                chosen.append(hop)
            else:
                held.add(lane)
        run.commit(batch, hops=chosen)


def processor(
    rules: JourneyRules | None = None, source_rules: SourceRules | None = None, **given: Any
) -> JourneysProcessor:
    """A processor with the real reference tables."""
    sources = source_rules or SourceRules(own_domains=("shop.example.com",))
    bots = BotDetector(TABLES.ai_crawlers)
    resolver = SourceResolver(sources, TABLES)
    return JourneysProcessor(rules or JourneyRules(), resolver, bots, rules_version="test", **given)


def with_programmes(rules: JourneyRules | None = None, **given: Any) -> JourneysProcessor:
    """A processor that knows `PROGRAMS`."""
    source = SourceResolver(SourceRules(), TABLES).of_programme()
    assert source is not None
    return processor(rules, promos=PromoCodes(PROGRAMS, source), **given)


def enrolled(at: int, user: str, code: str, program: str = "friends") -> tuple[str, dict[str, Any], int]:
    """An enrolment at T0 + `at`, heard at once."""
    record = {"event_id": f"{user} {code}", "type": "enrolled", "user_id": user, "code": code, "program": program}
    return (ENROLMENTS, {**record, "occurred_at": T0 + at}, T0 + at)


def left(at: int, user: str, code: str) -> tuple[str, dict[str, Any], int]:
    """The end of an enrolment at T0 + `at`, heard at once."""
    return (ENROLMENTS, {"event_id": f"{user} {code}", "type": "left", "occurred_at": T0 + at}, T0 + at)


def click(at: int, event_id: str, client_id: str = "c1", **fields: Any) -> tuple[str, dict[str, Any], int]:
    """A click at T0 + `at`, taken at once."""
    record = {"event_id": event_id, "client_id": client_id, "occurred_at": T0 + at, "url": "https://shop.example.com/"}
    return ("clicks", {**record, **fields}, T0 + at)


def conversion(at: int, event_id: str, client_id: str = "c1", **fields: Any) -> tuple[str, dict[str, Any], int]:
    """A purchase at T0 + `at`, taken at once."""
    record = {"event_id": event_id, "client_id": client_id, "occurred_at": T0 + at, "goal": "purchase"}
    return ("conversions", {**record, **fields}, T0 + at)


def run(
    records: Sequence[tuple[str, dict[str, Any], int]],
    rules: JourneyRules | None = None,
    *,
    size: int = 1,
    drop_cache: bool = False,
    finish: bool = True,
) -> Run:
    """The records in commits of `size`, to the end of time."""
    result = Run(processor(rules), drop_cache=drop_cache)
    for start in range(0, len(records), size):
        result.commit(records[start : start + size])
    if finish:
        result.finish()
    return result
