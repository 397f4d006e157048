"""A processor run without an engine: commits, timers, saved states, rows and outputs in plain dicts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from stream_app.domain.bots import BotDetector
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import SourceRules
from stream_app.engine.processor import Rejected
from stream_app.processors.journeys import JourneysProcessor
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


class OneCommit:
    """What a processor sees of a commit."""

    def __init__(self, run: Run, now: int, revision: int) -> None:
        self.now = now
        self.revision = revision
        self.rows = run.rows
        self.run = run
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

    def reject(self, event: Any, reason: str, detail: str) -> None:
        self.run.rejected.append((reason, detail))

    def gather(self, kind: str) -> dict[Any, Any]:
        return self.gathered.setdefault(kind, {})

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.run.counts[name] += n


class Run:
    """One processor over a list of (topic, record, ts), in commits of any size. Stream time is the newest ts."""

    def __init__(self, processor: JourneysProcessor, *, drop_cache: bool = False) -> None:
        self.processor = processor
        self.drop_cache = drop_cache
        self.rows = DictRows()
        self.outputs: list[tuple[str, dict[str, Any]]] = []
        self.gathered: dict[str, dict[Any, Any]] = {}
        self.forwards: list[tuple[str, bytes, bytes]] = []
        self.rejected: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.saved: dict[bytes, bytes] = {}
        self.cached: dict[bytes, Any] = {}
        self.now = 0
        self.revision = 0

    def commit(
        self,
        records: Iterable[tuple[str, dict[str, Any] | bytes, int]],
        now: int = 0,
        told: Iterable[tuple[bytes, Any]] = (),
    ) -> None:
        """Takes one commit's records, and what other processors tell (key, event); then fires what is due."""
        by_key: dict[bytes, list[Any]] = {}
        for key, event in told:
            by_key.setdefault(key, []).append(event)
        for topic, record, ts in records:
            self.now = max(self.now, ts)
            value = record if isinstance(record, bytes) else json.dumps(record).encode()
            try:
                event = self.processor.decoder(topic)(None, value, ts)
            except Rejected as rejected:
                self.rejected.append((rejected.reason, rejected.detail))
                continue
            by_key.setdefault(self.processor.key_of(event), []).append(event)
        self.now = max(self.now, now)
        self.revision += 1
        context = OneCommit(self, self.now, self.revision)
        changed: dict[bytes, Any] = {}
        for key, events in by_key.items():
            changed[key] = self.processor.fold(key, self._state(key), events, context)
        for key in [*self.saved, *changed]:
            if key in changed:
                continue
            state = self._state(key)
            if 0 < self.processor.due(state) <= self.now:
                changed[key] = self.processor.wake(key, state, context)
        for key, state in changed.items():
            if state is None:
                self.saved.pop(key, None)
                self.cached.pop(key, None)
            else:
                assert self.processor.due(state) > self.now, "what is due was done"
                self.saved[key] = self.processor.save(key, state, self.rows)
                self.cached[key] = state
        if self.drop_cache:
            self.cached.clear()

    def finish(self) -> None:
        """Lets time pass until all sessions are closed."""
        rules = self.processor.rules.sessions
        self.commit([], now=self.now + rules.grace_ms + rules.timeout_ms)

    def _state(self, key: bytes) -> Any:
        if key in self.cached:
            return self.cached[key]
        payload = self.saved.get(key)
        return self.processor.load(key, 1, payload, self.rows) if payload is not None else None

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


def processor(
    rules: JourneyRules | None = None, source_rules: SourceRules | None = None, **given: Any
) -> JourneysProcessor:
    """A processor with the real reference tables."""
    sources = source_rules or SourceRules(own_domains=("shop.example.com",))
    bots = BotDetector(TABLES.ai_crawlers)
    resolver = SourceResolver(sources, TABLES)
    return JourneysProcessor(rules or JourneyRules(), resolver, bots, rules_version="test", **given)


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
