"""Points in time: integer epoch milliseconds inside, RFC 3339 outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_minutes: dict[int, str] = {}
_SECONDS = tuple(f":{second:02}" for second in range(60))
_MILLIS = tuple(f".{milli:03}Z" for milli in range(1_000))


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime; what is finer is cut off."""
    elapsed = moment - EPOCH
    return elapsed.days * DAY_MS + elapsed.seconds * 1_000 + elapsed.microseconds // 1_000


def rfc3339(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`, for 1970 to 9999.

    The part up to the minute is cached: events come close together, and formatting is in the hot path.
    """
    minute, rest = divmod(ms, MINUTE_MS)
    prefix = _minutes.get(minute)
    if prefix is None:
        if len(_minutes) > 100_000:
            _minutes.clear()
        prefix = (EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M")
        _minutes[minute] = prefix = prefix.rjust(16, "0")
    second, milli = divmod(rest, 1_000)
    return prefix + _SECONDS[second] + _MILLIS[milli]
