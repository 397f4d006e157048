"""Tumbling windows: minutes, hours and days of the property's time zone, and one for ever (domain rules, section 6).

Everything counts in minutes since 1970. A window is (kind, start), and its start says all: days of 23 and 25 hours,
the hour that comes twice in autumn, half-hour zones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from stream_app.domain.times import MINUTE_MS

MINUTE, HOUR, DAY, TOTAL = range(4)
NAMES: Final = ("1m", "1h", "1d", "total")
"""By kind."""

MINUTES, HOURS, DAYS, FOREVER = 1, 2, 4, 8
ALL_WINDOWS: Final = 15
LONG_WINDOWS: Final = DAYS | FOREVER
"""Of costs and of distinct clients (semantics 36, 38)."""

_DAY_MINUTES = 1_440
LIFE: Final = (2 * _DAY_MINUTES, 60 * _DAY_MINUTES, 761 * _DAY_MINUTES)
"""Minutes from a window's start until it expires: 2 days, 60 days, 25 months of 365.25/12 days. `total` never does."""
_QUARTER = 15
_MAX_CACHED = 50_000


class Windows:
    """Finds the windows of a moment in one time zone. Offsets from UTC change at quarters of an hour at most."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._cache: dict[int, tuple[int, int]] = {}

    def hour_and_day(self, minute: int) -> tuple[int, int]:
        """Starts of the hour and of the day that a minute belongs to."""
        quarter = minute // _QUARTER
        found = self._cache.get(quarter)
        if found is None:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            found = self._cache[quarter] = self._hour(quarter * _QUARTER), self._day(quarter * _QUARTER)
        return found

    def start(self, kind: int, minute: int) -> int:
        """Start of the window of a kind that a minute belongs to; 0 for `total`."""
        if kind == MINUTE:
            return minute
        return 0 if kind == TOTAL else self.hour_and_day(minute)[kind - HOUR]

    def of_day(self, year: int, month: int, day: int) -> int:
        """Start of a calendar day."""
        return int(datetime(year, month, day, tzinfo=self._zone).timestamp()) // 60

    def local(self, minute: int) -> datetime:
        """The moment on the zone's clock."""
        return datetime.fromtimestamp(minute * 60, UTC).astimezone(self._zone)

    def _day(self, minute: int) -> int:
        local = self.local(minute)
        return self.of_day(local.year, local.month, local.day)

    def _hour(self, minute: int) -> int:
        local = self.local(minute)
        start = minute - local.minute
        while self.local(start).utcoffset() != local.utcoffset():
            start += _QUARTER  # the clock was moved within this hour: it begins there
        return start


def expires_at(kind: int, start: int) -> int:
    """Stream time, epoch ms, from which on a window takes nothing any more."""
    return (start + LIFE[kind]) * MINUTE_MS


def is_expired(kind: int, start: int, now: int) -> bool:
    """True if a window takes nothing any more at stream time `now`, epoch ms."""
    return kind != TOTAL and now >= (start + LIFE[kind]) * MINUTE_MS
