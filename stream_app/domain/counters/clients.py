"""The memory by which a client is counted once per window and key (semantics 38, 41).

For each attribution that a client had it keeps how many of its records stand behind each stage of the funnel: in total,
and for each day that can still change. A key is reached by a client as long as any of its attributions with that key
has a record: +1 at the first, −1 when a revision removes the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from stream_app.domain.counters.figures import (
    ACQUISITION,
    ACTIVATION,
    ANSWERS,
    CLIENTS,
    DETRACTORS,
    PROMOTERS,
    REFERRAL,
    RETENTION,
    REVENUE_CLIENTS,
)
from stream_app.domain.counters.lines import (
    ALL,
    CAMPAIGN,
    CHANNEL,
    PLATFORM,
    SOURCE_MEDIUM,
    Gathered,
    Line,
    Where,
    gather_line,
)
from stream_app.domain.counters.windows import DAYS, FOREVER, LONG_WINDOWS
from stream_app.domain.times import DAY_MS, MINUTE_MS

STAGES: Final = (CLIENTS, ACQUISITION, RETENTION, ACTIVATION, REFERRAL, REVENUE_CLIENTS)
"""Counts of distinct clients, by stage."""
VISITED, ACQUIRED, RETURNED, ACTIVATED, REFERRED, PAID = (1 << bit for bit in range(len(STAGES)))
"""Bits of the stages."""
_OF_SALES = (3, 4, 5)

MAX_ATTRIBUTIONS = 100
"""Per client; further ones do not count its clients (semantics 38)."""
MAX_DAYS = 64
"""Days per attribution on which something was bought: an order may be lost to another client much later."""
MAX_ANSWERS = 32
"""Latest answers of a client to NPS surveys."""
SETTLED_MS = 2 * DAY_MS
"""A day's visits cannot change any more when it began this long before what is settled: days last 25 hours at most."""

_PARTS: Final = (CHANNEL, SOURCE_MEDIUM, CAMPAIGN, PLATFORM)
_WIDTH = 4
_EVERYWHERE = ALL | CHANNEL | SOURCE_MEDIUM | CAMPAIGN | PLATFORM


class Reached(msgspec.Struct, gc=False, array_like=True):
    """What a client did under one attribution."""

    key: bytes
    """Four bytes for each of channel, source and medium, campaign, platform."""
    total: list[int]
    """Records by stage."""
    days: dict[int, list[int]]
    """By the minute at which the day begins."""


class Answer(msgspec.Struct, frozen=True, gc=False, array_like=True, order=True):
    """An answer to a survey. Compares by time, then event id."""

    at: int
    id: str
    score: int
    key: bytes
    day: int


class Memory(msgspec.Struct, gc=False, array_like=True):
    """What counters remember of one client."""

    reached: list[Reached] = []
    answers: tuple[Answer, ...] = ()
    revision: int = 0
    """The commit in which it was last changed."""
    settled: int = 0
    """What was settled then, in minutes: later commits bring nothing from before."""


_RECORDS: Final = tuple([bits >> stage & 1 for stage in range(len(STAGES))] for bits in range(1 << len(STAGES)))
"""One record's part in the stages, by their bits."""
_ARRIVALS: Final = tuple(
    tuple((count, 1) for stage, count in enumerate(STAGES) if bits >> stage & 1) for bits in range(1 << len(STAGES))
)
"""What a client counts that comes to stages, by their bits."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode
_firsts: dict[tuple[Where, int, int, int, int], bytes] = {}
_MAX_FIRSTS = 2_000
_keys: dict[Where, bytes] = {}
_MAX_KEYS = 20_000


def encode(memory: Memory) -> bytes:
    """The bytes to keep with the client."""
    return _encode(memory)


def decode(kept: bytes) -> Memory:
    """What `encode` has made; an empty memory from no bytes."""
    return _decode(kept) if kept else Memory()


def first(gathered: Gathered, where: Where, day: int, stages: int, revision: int, settled_ms: int) -> bytes:
    """The first record of a client without a memory: counts it, and gives the bytes to keep. As `prune`, `touch` and
    `encode` would; many clients of a commit begin alike."""
    alike = where, day, stages, revision, settled_ms
    kept = _firsts.get(alike)
    if kept is None:
        if len(_firsts) >= _MAX_FIRSTS:
            _firsts.clear()
        reached = Reached(_key(where), _RECORDS[stages], {day: _RECORDS[stages]})
        kept = _firsts[alike] = _encode(Memory([reached], (), revision, settled_ms // MINUTE_MS))
    gather_line(gathered, Line(day, _ARRIVALS[stages], (), where, _EVERYWHERE, LONG_WINDOWS), 1)
    return kept


def touch(gathered: Gathered, memory: Memory, where: Where, day: int, stages: int, sign: int) -> None:
    """A record (sign 1) or its end (−1) under an attribution on a day: counts its client where that is new. No window
    of clients is shorter than a day, so all of a day meet in one cell, at the minute at which it begins."""
    key = _key(where)
    if not memory.reached:
        if sign > 0:
            memory.reached.append(Reached(key, _RECORDS[stages].copy(), {day: _RECORDS[stages].copy()}))
            gather_line(gathered, Line(day, _ARRIVALS[stages], (), where, _EVERYWHERE, LONG_WINDOWS), 1)
        return
    entry = next((entry for entry in memory.reached if entry.key == key), None)
    if entry is None:
        if sign < 0 or len(memory.reached) >= MAX_ATTRIBUTIONS:
            return
        entry = Reached(key, [0] * len(STAGES), {})
        memory.reached.append(entry)
    on_day = entry.days.get(day)
    if on_day is None and sign > 0:
        on_day = entry.days[day] = [0] * len(STAGES)
    others = [other for other in memory.reached if other is not entry]
    for (dimensions, windows), counts in _steps(entry, others, on_day, day, stages, sign).items():
        gather_line(gathered, Line(day, tuple(counts), (), where, dimensions, windows), sign)
    if on_day is not None and not any(on_day):
        del entry.days[day]
    if not any(entry.total):
        memory.reached.remove(entry)


def answered(
    gathered: Gathered, memory: Memory, where: Where, answer: tuple[int, str, int], day: int, sign: int
) -> None:
    """An answer to a survey, or its end: the latest score of a client counts in each window and key (semantics 41)."""
    at, event_id, score = answer
    mine = Answer(at, event_id, score, _key(where), day)
    before = memory.answers
    if sign > 0:
        after = tuple(sorted((*before, mine)))[-MAX_ANSWERS:]
    else:  # once: it may have come again under another attribution of the same keys, before it goes under this one
        place = before.index(mine) if mine in before else len(before)
        after = before[:place] + before[place + 1 :]
    memory.answers = after
    minute = at // MINUTE_MS
    for window, of_day in ((FOREVER, None), (DAYS, day)):
        for dimension in (ALL, *_PARTS):
            was, now = (_latest(answers, dimension, mine.key, of_day) for answers in (before, after))
            if was == now:
                continue
            for latest, change in ((was, -1), (now, 1)):
                if latest is not None:
                    line = Line(minute, _classified(latest), (), where, dimension, window)
                    gather_line(gathered, line, change)


def prune(memory: Memory, revision: int, settled_ms: int) -> None:
    """Forgets the days that cannot change any more, once a commit. What the commit before had settled decides: the
    events of this one may be days older than its own stream time."""
    if memory.revision == revision:
        return
    oldest = memory.settled - SETTLED_MS // MINUTE_MS
    for entry in memory.reached:
        days = entry.days
        old = [day for day, records in days.items() if day < oldest and not any(records[stage] for stage in _OF_SALES)]
        for day in old:
            del days[day]
        if len(days) > MAX_DAYS:
            for day in sorted(days)[: len(days) - MAX_DAYS]:
                del days[day]
    memory.revision = revision
    memory.settled = settled_ms // MINUTE_MS


def _steps(
    entry: Reached, others: list[Reached], on_day: list[int] | None, day: int, stages: int, sign: int
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """A record more or less behind each stage, in total and on its day; what that makes of the client's counts, by
    (dimensions, windows)."""
    changed: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for stage, count in enumerate(STAGES):
        if not stages >> stage & 1:
            continue
        ever = _step(entry.total, stage, sign, entry.key, [(other.key, other.total) for other in others])
        today = 0
        if on_day is not None:
            theirs = [(other.key, other.days[day]) for other in others if day in other.days]
            today = _step(on_day, stage, sign, entry.key, theirs)
        for dimensions, windows in ((ever, LONG_WINDOWS),) if ever == today else ((ever, FOREVER), (today, DAYS)):
            if dimensions:
                changed.setdefault((dimensions, windows), []).append((count, 1))
    return changed


def _step(records: list[int], stage: int, sign: int, key: bytes, others: Iterable[tuple[bytes, list[int]]]) -> int:
    """One record more or less behind a stage; the dimensions in which that brings the client to its key, or away."""
    if sign < 0 and not records[stage]:
        return 0  # it came when there was no place for it, and was not counted
    records[stage] += sign
    if records[stage] != (1 if sign > 0 else 0):
        return 0
    dimensions = _EVERYWHERE
    for other, theirs in others:
        if not theirs[stage]:
            continue
        dimensions &= ~ALL
        for place, dimension in enumerate(_PARTS):
            if dimensions & dimension and _part(other, place) == _part(key, place):
                dimensions &= ~dimension
    return dimensions


def _latest(answers: Iterable[Answer], dimension: int, key: bytes, day: int | None) -> int | None:
    """The latest score under a key, in total or of a day."""
    score = None
    for answer in answers:
        if day is not None and answer.day != day:
            continue
        if dimension != ALL:
            place = _PARTS.index(dimension)
            if _part(answer.key, place) != _part(key, place):
                continue
        score = answer.score
    return score


def _classified(score: int) -> tuple[tuple[int, int], ...]:
    if score >= 9:
        return ((ANSWERS, 1), (PROMOTERS, 1))
    return ((ANSWERS, 1), (DETRACTORS, 1)) if score <= 6 else ((ANSWERS, 1),)


def _part(key: bytes, place: int) -> bytes:
    return key[place * _WIDTH : (place + 1) * _WIDTH]


def _key(where: Where) -> bytes:
    found = _keys.get(where)
    if found is None:
        if len(_keys) >= _MAX_KEYS:
            _keys.clear()
        # As its counter is found: by the campaign's id, if it has one, whatever it is called.
        campaign = f"\x1f{where.campaign_id}" if where.campaign_id else where.campaign.casefold()
        parts = (
            where.channel,
            f"{where.source}\x1f{where.medium}",
            f"{where.source}\x1f{where.medium}\x1f{campaign}",
            where.platform,
        )
        found = _keys[where] = b"".join(blake2b(part.encode(), digest_size=_WIDTH).digest() for part in parts)
    return found
