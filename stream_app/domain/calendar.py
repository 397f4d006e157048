"""Days as the property's time zone has them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from stream_app.domain.times import DAY_MS, MINUTE_MS

_QUARTER_MS = 15 * MINUTE_MS
_MAX_CACHED = 20_000


class LocalDays:
    """Numbers the days of one time zone, daylight saving included. Offsets change at quarters of an hour at most, so
    they are cached by quarter."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._offsets: dict[int, int] = {}

    def day(self, ms: int) -> int:
        """Days since 1 January 1970 on the zone's calendar."""
        quarter = ms // _QUARTER_MS
        offset = self._offsets.get(quarter)
        if offset is None:
            if len(self._offsets) >= _MAX_CACHED:
                self._offsets.clear()
            delta = datetime.fromtimestamp(quarter * _QUARTER_MS // 1_000, UTC).astimezone(self._zone).utcoffset()
            assert delta is not None
            offset = self._offsets[quarter] = int(delta.total_seconds()) * 1_000
        return (ms + offset) // DAY_MS
