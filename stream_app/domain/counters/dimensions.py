"""From contributions to the counters they go to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from stream_app.domain.counters.lines import (
    ALL,
    CAMPAIGN,
    CHANNEL,
    GOAL,
    OPTIONAL,
    PLATFORM,
    SOURCE_MEDIUM,
    Where,
)
from stream_app.domain.counters.rules import OPTIONAL_DIMENSIONS, SEGMENT

OTHER: Final = "(other)"
"""The key of what found no place under its own."""

GOALS: Final = "goal"
BY_ID: Final = "campaign_id"
"""No counters: whoever owns a campaign's id knows its name as first seen, and sends on what is counted under the id to
the campaign of that name."""
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "all": (),
    "channel": ("channel",),
    "source_medium": ("source", "medium"),
    "campaign": ("source", "medium", "campaign"),
    "platform": ("platform",),
    GOALS: ("goal",),
    **{name: (name,) for name in OPTIONAL_DIMENSIONS},
    BY_ID: ("source", "medium", "campaign"),
}
"""Fields of the keys by dimension (semantics 37)."""
BY_CLIENT: Final = frozenset(("all", "channel", "source_medium", "campaign", "platform"))
"""Dimensions that count distinct clients, the funnel and the NPS."""
COSTLESS: Final = frozenset(("landing", "owner", "refusal_reason"))
"""Dimensions whose keys no row of costs has; nor has it segments."""
SHOWN: Final = (*(name for name in FIELDS if name != BY_ID), f"{SEGMENT}NAME")
"""Dimensions that have counters, for messages."""

_PREFIX: Final = dict(zip(FIELDS, b"acskpgtnlori", strict=True))
_SEGMENT_PREFIX: Final = ord("x")
KEY_SIZE: Final = 13
_MAX_REMEMBERED: Final = 20_000

Address = tuple[bytes, str, tuple[str, ...], str]
"""(state key, dimension, keys, goal). Counters by goal live with `all`, whose sessions and cost they take."""


def fields_of(dimension: str) -> tuple[str, ...]:
    """Names of a dimension's keys."""
    return FIELDS.get(dimension) or ((dimension,) if dimension.startswith(SEGMENT) else ())


def is_shown(dimension: str) -> bool:
    """Whether there are counters of that dimension."""
    return dimension == "all" or (dimension != BY_ID and bool(fields_of(dimension)))


def prefix_of(dimension: str) -> bytes:
    """How the state keys of a dimension begin. Segments share one."""
    return bytes((_PREFIX.get(dimension, _SEGMENT_PREFIX),))


def key_of(dimension: str, keys: tuple[str, ...]) -> bytes:
    """The state key of a counter: thirteen bytes, however long the names. Campaigns are one whatever their letter case
    (semantics 37)."""
    folded = (*keys[:-1], keys[-1].casefold()) if dimension == "campaign" else keys
    text = "\x1f".join((dimension, *folded))
    return prefix_of(dimension) + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_SIZE - 1).digest()


def other_of(dimension: str) -> tuple[str, ...]:
    """The keys of a dimension's overflow."""
    return (OTHER,) * len(fields_of(dimension))


class Addresses:
    """Finds where lines count; what it found it remembers."""

    def __init__(self, optional: Iterable[str] = ()) -> None:
        self._optional = frozenset(optional)
        self._attributed: dict[tuple[Where | None, int], tuple[Address, ...]] = {}
        self._all = key_of("all", ())

    def __call__(
        self, where: Where | None, dimensions: int, goal: str, extras: tuple[tuple[str, str], ...]
    ) -> Iterable[Address]:
        """The counters that a line goes to."""
        known = where, dimensions
        found = self._attributed.get(known)
        if found is None:
            if len(self._attributed) >= _MAX_REMEMBERED:
                self._attributed.clear()
            found = self._attributed[known] = tuple(self._of(where, dimensions))
        if dimensions & GOAL and goal:
            found = (*found, (self._all, "all", (), goal))
        if extras and dimensions & OPTIONAL:
            found += tuple(
                (key_of(dimension, (value,)), dimension, (value,), "")
                for dimension, value in extras
                if dimension in self._optional
            )
        return found

    def _of(self, where: Where | None, dimensions: int) -> Iterator[Address]:
        if dimensions & ALL:
            yield self._all, "all", (), ""
        if where is None:
            return
        source, medium, campaign, channel, platform, term, content, campaign_id = where
        if campaign_id and dimensions & CAMPAIGN:
            yield key_of(BY_ID, (source, medium, campaign_id)), BY_ID, (source, medium, campaign), ""
            dimensions &= ~CAMPAIGN
        places: tuple[tuple[int, str, tuple[str, ...]], ...] = (
            (CHANNEL, "channel", (channel,)),
            (SOURCE_MEDIUM, "source_medium", (source, medium)),
            (CAMPAIGN, "campaign", (source, medium, campaign)),
            (PLATFORM, "platform", (platform,)),
            (OPTIONAL if "term" in self._optional else 0, "term", (term,)),
            (OPTIONAL if "content" in self._optional else 0, "content", (content,)),
        )
        for bit, dimension, keys in places:
            if dimensions & bit:
                yield key_of(dimension, keys), dimension, keys, ""
