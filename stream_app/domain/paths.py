"""The path of a conversion: its touchpoints as the credit models see them (domain rules, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_app.domain.journey import Touchpoint
from stream_app.domain.records import Credit
from stream_app.domain.rules import PathTransform
from stream_app.domain.sources.model import Source

Path = Sequence[Touchpoint]
"""Touchpoints, oldest first."""


def without_direct(path: Path) -> Path:
    """The path without direct touchpoints; all of it if there are no others."""
    named = [touchpoint for touchpoint in path if touchpoint.source.source != "(direct)"]
    return named if 0 < len(named) < len(path) else path


def last_non_direct_index(path: Path) -> int:
    """Position of the last touchpoint that is not direct, else of the last."""
    for index in range(len(path) - 1, -1, -1):
        if path[index].source.source != "(direct)":
            return index
    return len(path) - 1


def source_of(path: Path, credit: Credit) -> Source | None:
    """The whole source of a touchpoint that got credit, where a record tells four of its fields."""
    wanted = (credit.source, credit.medium, credit.campaign, credit.channel)
    return next((touchpoint.source for touchpoint in reversed(path) if _name(touchpoint) == wanted), None)


def untouched(path: Path) -> Path:
    """`none`: A > A > B > A stays what it is."""
    return path


def exposure(path: Path) -> Path:
    """Consecutive equal touchpoints are one, at the time of the first: A > A > B > A → A > B > A."""
    kept: list[Touchpoint] = []
    for touchpoint in path:
        if not kept or _name(kept[-1]) != _name(touchpoint):
            kept.append(touchpoint)
    return kept


def unique(path: Path) -> Path:
    """Each touchpoint once, where it came last: A > A > B > A → B > A."""
    latest = {_name(touchpoint): touchpoint for touchpoint in path}
    return [touchpoint for touchpoint in path if latest[_name(touchpoint)] is touchpoint]


def first(path: Path) -> Path:
    """Each touchpoint once, where it came first: A > A > B > A → A > B."""
    earliest: dict[tuple[str, ...], Touchpoint] = {}
    for touchpoint in path:
        earliest.setdefault(_name(touchpoint), touchpoint)
    return list(earliest.values())


TRANSFORMS: dict[PathTransform, Callable[[Path], Path]] = {
    "none": untouched,
    "exposure": exposure,
    "unique": unique,
    "first": first,
}


def _name(touchpoint: Touchpoint) -> tuple[str, ...]:
    """What makes touchpoints equal: source, medium and campaign; the channel follows from them, or is all there is."""
    source = touchpoint.source
    return source.source, source.medium, source.campaign, source.channel


def shown(path: Path) -> str:
    """Channels, oldest first: `Paid Search > Direct`."""
    return " > ".join([touchpoint.source.channel for touchpoint in path])


def assisting_channels(path: Path, credited: str) -> tuple[str, ...]:
    """Each channel on the path once, but the one that last_non_direct credits, and never Direct (semantics 34)."""
    channels = dict.fromkeys([touchpoint.source.channel for touchpoint in path])
    return tuple([channel for channel in channels if channel not in {credited, "Direct"}])
