"""Sends traffic by the clock, or as fast as it will go."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from stream_app.simulator.feed import Feed
from stream_app.simulator.records import Record

_TICK_S = 0.02
_AT_ONCE = 4_000
_REPORT_S = 5.0

Say = Callable[[str], None]
Clock = Callable[[], int]


def wall_clock() -> int:
    """Epoch ms."""
    return time.time_ns() // 1_000_000


class Progress:
    """Says every few seconds how far things are, and at the end what came of it."""

    def __init__(self, say: Say, every_s: float = _REPORT_S) -> None:
        self._say = say
        self._every_s = every_s
        self._began = self._last = time.monotonic()
        self._then = 0

    def update(self, sent: int, more: str = "") -> None:
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._say(f"{sent:,} events, {(sent - self._then) / (now - self._last):,.0f}/s{more}")
            self._last, self._then = now, sent

    def end(self, sent: int) -> None:
        seconds = time.monotonic() - self._began
        self._say(f"done: {sent:,} events in {seconds:.1f} s, {sent / max(seconds, 1e-9):,.0f}/s")


async def live(
    records: Iterator[Record], feed: Feed, stop: asyncio.Event, progress: Progress, clock: Clock = wall_clock
) -> None:
    """Sends every record when its time has come, until `stop` or the end. Says so when it cannot keep up."""
    record = next(records, None)
    while record is not None and not stop.is_set():
        now = clock()
        due: list[Record] = []
        while record is not None and record.ts <= now and len(due) < _AT_ONCE:
            due.append(record)
            record = next(records, None)
        if due:
            await feed.send(due)
        behind = max(0, now - due[-1].ts) if len(due) == _AT_ONCE else 0
        progress.update(feed.sent, f", {behind / 1000:.1f} s behind" if behind > 1000 else "")
        if not behind:
            await _pause(stop, _TICK_S)
        else:
            await asyncio.sleep(0)


async def fast(records: Iterable[Record], feed: Feed, stop: asyncio.Event, progress: Progress) -> None:
    """Sends the records as fast as the broker takes them, until `stop` or the end."""
    iterator = iter(records)
    while not stop.is_set() and (due := list(islice(iterator, _AT_ONCE))):
        await feed.send(due)
        progress.update(feed.sent)
        await asyncio.sleep(0)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass


def to_stderr(prefix: str) -> Say:
    """Progress lines on standard error."""

    def say(text: str) -> None:
        sys.stderr.write(f"{prefix}: {text}\n")
        sys.stderr.flush()

    return say
