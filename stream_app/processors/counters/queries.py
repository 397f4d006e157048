"""Reads the counters of one task as committed: what `/counters` and the reports stand on.

Nothing here adds up over tasks: each counter key lives in one task, so the answers of all tasks together are the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec

from stream_app.domain.counters.dimensions import GOALS, fields_of, prefix_of
from stream_app.domain.counters.figures import Figures
from stream_app.domain.counters.records import LeadCounter, Renderer, counter_id, keys_json, with_all
from stream_app.domain.counters.windows import NAMES, TOTAL
from stream_app.engine.rows import HEADER_SIZE, head_key, part_key
from stream_app.processors.counters.processor import (
    BLOCK,
    CountersProcessor,
    Head,
    Window,
    block_row,
    decode_head,
    decode_starts,
    decode_window,
    row_of,
)

_PAGE = 1_000
_TAG = CountersProcessor.tag


class CommittedRows(Protocol):
    """The part of a task's store that is needed."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]: ...


class Found(NamedTuple):
    """One counter: its figures may be added to those of other windows of the same key, distinct clients excepted."""

    key: bytes
    kind: int
    """Of window: `windows.MINUTE`, `HOUR`, `DAY`, `TOTAL`."""
    start: int
    """Minutes since 1970; 0 for `total`."""
    dimension: str
    keys: tuple[str, ...]
    currency: str
    figures: Figures
    """Of a goal: with the sessions and cost of `all`."""


def find(store: CommittedRows, dimension: str, window: str, since: int = 0, until: int = 2**30) -> Iterator[Found]:
    """Counters of a dimension whose window (`1m`, `1h`, `1d`, `total`) starts in [since, until), in minutes since 1970.
    In no particular order; all-zero ones are left out. `total` has one window, whatever the times."""
    kind = NAMES.index(window)
    if dimension not in {GOALS, "all"} and not fields_of(dimension):
        return
    for key, head in _heads(store, "all" if dimension == GOALS else dimension):
        for start, found in _windows(store, key, head, kind, since, until):
            if dimension != GOALS:
                yield from _figures(key, kind, start, dimension, head.keys, found.figures, None)
                continue
            for goal, by_currency in found.goals.items():
                yield from _figures(key, kind, start, GOALS, (goal,), by_currency, found.figures)


def to_record(found: Found, renderer: Renderer) -> LeadCounter:
    """The counter as the topic shows it, without plan; its revision is 0."""
    goal = found.keys[0] if found.dimension == GOALS else ""
    return _decode_record(
        renderer.record(
            counter_id(found.key, found.kind, found.start, found.currency, goal),
            0,
            found.kind,
            found.start,
            found.dimension,
            keys_json(found.dimension, found.keys),
            found.currency,
            found.figures,
        )
    )


_decode_record = msgspec.json.Decoder(LeadCounter).decode


def _figures(
    key: bytes,
    kind: int,
    start: int,
    dimension: str,
    keys: tuple[str, ...],
    by_currency: dict[str, Figures],
    everything: dict[str, Figures] | None,
) -> Iterator[Found]:
    for currency, figures in by_currency.items():
        if figures.settle():
            shown = figures if everything is None else with_all(figures, everything.get(currency))
            yield Found(key, kind, start, dimension, keys, currency, shown)


def _heads(store: CommittedRows, dimension: str) -> Iterator[tuple[bytes, Head]]:
    """Keys of a dimension with what is saved of them."""
    prefix = head_key(_TAG, prefix_of(dimension))
    start, stop = prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
    while rows := store.scan(start, stop, _PAGE):
        for row in rows:
            raw = store.get(row)
            if raw is None:
                continue
            head = decode_head(raw[0], raw[HEADER_SIZE:])
            if head.dimension == dimension:  # segments share a prefix
                yield row[len(prefix) - 1 :], head
        start = rows[-1] + b"\x00"


def _windows(
    store: CommittedRows, key: bytes, head: Head, kind: int, since: int, until: int
) -> Iterator[tuple[int, Window]]:
    if kind == TOTAL:
        if head.total is not None:
            yield 0, head.total
        return
    first, last = head.spans[2 * kind], head.spans[2 * kind + 1]
    size = BLOCK[kind]
    for block in range(max(first, since) // size, min(last, until) // size + 1) if first >= 0 else ():
        payload = store.get(part_key(_TAG, key, block_row(kind, block)))
        for start in sorted(decode_starts(payload)) if payload is not None else ():
            if since <= start < until:
                content = store.get(part_key(_TAG, key, row_of(kind, start)))
                if content is not None:
                    yield start, decode_window(content)
