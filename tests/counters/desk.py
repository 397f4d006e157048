"""The counters processor without an engine: contributions in, records out, states saved and loaded at every commit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from stream_app.domain.counters.lines import Gathered, Line, gather_line
from stream_app.domain.counters.rules import CounterRules
from stream_app.domain.counters.windows import Windows
from stream_app.processors.counters.combining import OVERFLOW, Combiner, combine_overflow
from stream_app.processors.counters.contributing import DELTA
from stream_app.processors.counters.processor import CountersProcessor
from tests.processors.harness import DictRows


class Desk:
    """One task that holds every key. Also the commit that its processor sees."""

    def __init__(self, rules: CounterRules, *, partitions: int = 1) -> None:
        self.processor = CountersProcessor(rules, Windows(rules.timezone), rules_version="v", partitions=partitions)
        self.combiners = {DELTA: Combiner(rules.dimensions), OVERFLOW: combine_overflow}
        self.rows = DictRows()
        self.saved: dict[bytes, bytes] = {}
        self.now = 0
        self.revision = 0
        self.records: dict[str, dict[str, Any]] = {}
        """What the topic holds once it is compacted."""
        self.written = 0
        self.tombstones = 0
        self.counts: Counter[str] = Counter()
        self.forwarded: list[tuple[str, bytes, bytes]] = []
        self._emitted: set[bytes] = set()
        self._gathered: dict[str, Gathered] = {}

    # -- the commit -----------------------------------------------------------------------------------
    def emit(self, topic: str, key: bytes, value: bytes | None) -> None:
        assert topic == "lead-counters"
        assert key not in self._emitted, "one record per id and commit"
        self._emitted.add(key)
        self.written += 1
        if value is None:
            self.tombstones += 1
            assert self.records.pop(key.decode(), None) is not None, "a tombstone ends something"
            return
        record = json.loads(value)
        assert record["id"].encode() == key
        assert record["revision"] == self.revision
        self.records[record["id"]] = record

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        self.forwarded.append((kind, key, value))

    def reject(self, event: Any, reason: str, detail: str) -> None:
        raise AssertionError(reason)

    def gather(self, kind: str) -> Gathered:
        return self._gathered.setdefault(kind, {})

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.counts[name] += n

    # -- the engine -----------------------------------------------------------------------------------
    def commit(self, lines: Iterable[tuple[Line, int]] = (), now: int = 0) -> None:
        """Counts lines (1) or takes them back (−1), until nothing is on its way any more; then fires what is due."""
        self.now = max(self.now, now)
        gathered = self.gather(DELTA)
        for line, sign in lines:
            gather_line(gathered, line, sign)
        self._combine()
        while self.forwarded:
            by_key: dict[bytes, list[Any]] = {}
            for kind, key, value in self.forwarded:
                by_key.setdefault(key, []).append(self.processor.decoder(kind)(key, value, self.now))
            self.forwarded = []
            self._step()
            for key, events in by_key.items():
                self._keep(key, self.processor.fold(key, self._load(key), events, self))
            self._combine()
        self._step()
        for key in list(self.saved):
            state = self._load(key)
            assert state is not None
            if 0 < self.processor.due(state) <= self.now:
                self._keep(key, self.processor.wake(key, state, self))

    def _step(self) -> None:
        self.revision += 1
        self._emitted = set()

    def _combine(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for kind, found in gathered.items():
            self.combiners[kind](found, self)

    def _load(self, key: bytes) -> Any:
        payload = self.saved.get(key)
        return None if payload is None else self.processor.load(key, 1, payload, self.rows)

    def _keep(self, key: bytes, state: Any) -> None:
        if state is None:
            self.saved.pop(key, None)
        else:
            self.saved[key] = self.processor.save(key, state, self.rows)

    # -- the outcome ----------------------------------------------------------------------------------
    def find(self, dimension: str, window: str, **keys: str) -> list[dict[str, Any]]:
        """Records of a dimension and window whose keys include these."""
        return [
            record
            for record in self.records.values()
            if record["dimension"] == dimension
            and record["window"] == window
            and keys.items() <= record["keys"].items()
        ]

    def total(self, dimension: str, window: str, count: str) -> int:
        """A count, added up over all keys and windows."""
        return sum(record["counts"].get(count, 0) for record in self.find(dimension, window))
