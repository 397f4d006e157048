"""From contributions to the counters they go to."""

from __future__ import annotations

from collections.abc import Iterator
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
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "all": (),
    "channel": ("channel",),
    "source_medium": ("source", "medium"),
    "campaign": ("source", "medium", "campaign"),
    "platform": ("platform",),
    GOALS: ("goal",),
    **{name: (name,) for name in OPTIONAL_DIMENSIONS},
}
"""Fields of the keys by dimension (semantics 37)."""

_PREFIX: Final = dict(zip(FIELDS, b"acskpgtnlor", strict=True))
_SEGMENT_PREFIX: Final = ord("x")
KEY_SIZE: Final = 13

Address = tuple[str, tuple[str, ...], str]
"""(dimension, keys, goal). Counters by goal live with `all`, whose sessions and cost they take: goal is set then."""


def fields_of(dimension: str) -> tuple[str, ...]:
    """Names of a dimension's keys."""
    return FIELDS.get(dimension) or ((dimension,) if dimension.startswith(SEGMENT) else ())


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


def addresses(
    where: Where | None, dimensions: int, goal: str, extras: tuple[tuple[str, str], ...], optional: frozenset[str]
) -> Iterator[Address]:
    """Where a line counts."""
    if dimensions & ALL:
        yield "all", (), ""
    if dimensions & GOAL and goal:
        yield "all", (), goal
    if where is not None:
        yield from _attributed(where, dimensions, optional)
    if dimensions & OPTIONAL:
        for dimension, value in extras:
            if dimension in optional:
                yield dimension, (value,), ""


def _attributed(where: Where, dimensions: int, optional: frozenset[str]) -> Iterator[Address]:
    source, medium, campaign, channel, platform, term, content = where
    if dimensions & CHANNEL:
        yield "channel", (channel,), ""
    if dimensions & SOURCE_MEDIUM:
        yield "source_medium", (source, medium), ""
    if dimensions & CAMPAIGN:
        yield "campaign", (source, medium, campaign), ""
    if dimensions & PLATFORM:
        yield "platform", (platform,), ""
    if dimensions & OPTIONAL and optional:
        if "term" in optional:
            yield "term", (term,), ""
        if "content" in optional:
            yield "content", (content,), ""
