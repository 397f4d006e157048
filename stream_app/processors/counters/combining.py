"""What a commit gathers becomes one record per counter key: what crosses between tasks is bounded by the keys that a
commit touches, not by its events."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from stream_app.domain import money
from stream_app.domain.counters.dimensions import Addresses
from stream_app.engine.processor import Context
from stream_app.processors.counters.contributing import DELTA

OVERFLOW = "counter-overflow"
"""Kind of the records by which one counter key sends on to another: what found no place to `(other)`, what counts under
a campaign's id to the campaign."""


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
Slot = tuple[dict[int, int], dict[int, Decimal]]
"""Counts and amounts."""
When = tuple[int, int, str, str]
"""(minute, windows, currency, goal)"""
Found = dict[bytes, tuple[str, tuple[str, ...], dict[When, Slot]]]
"""By counter key: dimension, keys, what is added when."""


class Combiner:
    """The combiner of `counter-delta`."""

    def __init__(self, optional: Iterable[str] = ()) -> None:
        self._addresses = Addresses(optional)

    def __call__(self, gathered: dict[Any, Any], context: Context[Any]) -> None:
        """Forwards one record per counter key. Spellings of one campaign share a record."""
        found: Found = {}
        addresses = self._addresses
        for cell, (counts, amounts) in gathered.items():
            if not (any(counts.values()) or any(amounts.values())):
                continue
            minute, where, dimensions, windows, currency, goal, extras = cell
            by_all = minute, windows, currency, ""
            for key, dimension, keys, by_goal in addresses(where, dimensions, goal, extras):
                delta = found.get(key)
                if delta is None:
                    delta = found[key] = dimension, keys, {}
                when = (minute, windows, currency, by_goal) if by_goal else by_all
                add_to(delta[2], when, counts, amounts)
        _forward(DELTA, found, context)


def combine_overflow(gathered: dict[Any, Any], context: Context[Any]) -> None:
    """The combiner of `counter-overflow`: what is gathered goes by counter key already."""
    _forward(OVERFLOW, gathered, context)


def add_to(changes: dict[K, Slot], when: K, counts: dict[int, int], amounts: dict[int, Decimal]) -> None:
    """Adds figures at a time."""
    slot = changes.get(when)
    if slot is None:
        changes[when] = (counts.copy(), amounts.copy() if amounts else {})
        return
    mine = slot[0]
    for index, n in counts.items():
        mine[index] = mine.get(index, 0) + n
    if amounts:
        sums = slot[1]
        for index, amount in amounts.items():
            before = sums.get(index)
            sums[index] = amount if before is None else money.add(before, amount)


def _forward(kind: str, found: Found, context: Context[Any]) -> None:
    """One record per key; what came to nothing is left out."""
    sent = 0
    for key, (dimension, keys, slots) in found.items():
        changes = []
        for (minute, windows, currency, goal), (counts, amounts) in slots.items():
            kept = counts if all(counts.values()) else {index: n for index, n in counts.items() if n}
            sums = amounts if all(amounts.values()) else {index: amount for index, amount in amounts.items() if amount}
            if kept or sums:
                changes.append(Change(minute, windows, kept, sums, currency, goal))
        if changes:
            context.forward(kind, key, encode_delta(Delta(dimension, keys, changes)))
            sent += 1
    if sent:
        context.count("counter_deltas", n=sent)
