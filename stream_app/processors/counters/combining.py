"""What a commit gathers becomes one record per counter key: what crosses between tasks is bounded by the keys that a
commit touches, not by its events."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from stream_app.domain import money
from stream_app.domain.counters.dimensions import addresses, key_of
from stream_app.engine.processor import Context
from stream_app.processors.counters.contributing import DELTA

OVERFLOW = "counter-overflow"
"""Kind of the records that tell the owner of `(other)` what found no place."""


class Change(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is added to the windows around one minute."""

    minute: int
    windows: int
    counts: dict[int, int]
    amounts: dict[int, Decimal] = {}
    currency: str = ""
    goal: str = ""


class Delta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is added to one counter key."""

    dimension: str
    keys: tuple[str, ...]
    changes: list[Change]


encode_delta = msgspec.msgpack.Encoder(decimal_format="string").encode

K = TypeVar("K")
_Slot = tuple[dict[int, int], dict[int, Decimal]]
_When = tuple[int, int, str, str]
"""(minute, windows, currency, goal)"""


class Combiner:
    """The combiner of `counter-delta`."""

    def __init__(self, optional: Iterable[str] = ()) -> None:
        self._optional = frozenset(optional)

    def __call__(self, gathered: dict[Any, Any], context: Context[Any]) -> None:
        """Forwards one record per counter key."""
        found: dict[tuple[str, tuple[str, ...]], dict[_When, _Slot]] = {}
        optional = self._optional
        for cell, (counts, amounts) in gathered.items():
            minute, where, dimensions, windows, currency, goal, extras = cell
            if not any(counts.values()) and not any(amounts.values()):
                continue
            for dimension, keys, by_goal in addresses(where, dimensions, goal, extras, optional):
                address = dimension, keys
                changes = found.get(address)
                if changes is None:
                    changes = found[address] = {}
                add_to(changes, (minute, windows, currency, by_goal), counts, amounts)
        forward(DELTA, found, context)


def combine_overflow(gathered: dict[Any, Any], context: Context[Any]) -> None:
    """The combiner of `counter-overflow`: gathered is what a record of it says, by (dimension, keys)."""
    forward(OVERFLOW, gathered, context)


def add_to(changes: dict[K, _Slot], when: K, counts: dict[int, int], amounts: dict[int, Decimal]) -> None:
    """Adds figures at a time."""
    slot = changes.get(when)
    if slot is None:
        changes[when] = (counts.copy(), amounts.copy())
        return
    mine, sums = slot
    for index, n in counts.items():
        mine[index] = mine.get(index, 0) + n
    for index, amount in amounts.items():
        before = sums.get(index)
        sums[index] = amount if before is None else money.add(before, amount)


def forward(kind: str, found: dict[tuple[str, tuple[str, ...]], dict[_When, _Slot]], context: Context[Any]) -> None:
    """One record per key; what came to nothing is left out. Spellings of one campaign share a record."""
    records: dict[bytes, Delta] = {}
    for (dimension, keys), slots in found.items():
        changes = []
        for (minute, windows, currency, goal), (counts, amounts) in slots.items():
            kept = counts if all(counts.values()) else {index: n for index, n in counts.items() if n}
            sums = amounts if all(amounts.values()) else {index: amount for index, amount in amounts.items() if amount}
            if kept or sums:
                changes.append(Change(minute, windows, kept, sums, currency, goal))
        if not changes:
            continue
        key = key_of(dimension, keys)
        delta = records.get(key)
        if delta is None:
            records[key] = Delta(dimension, keys, changes)
        else:
            delta.changes.extend(changes)
    for key, delta in records.items():
        context.forward(kind, key, encode_delta(delta))
    context.count("counter_deltas", n=len(records))
