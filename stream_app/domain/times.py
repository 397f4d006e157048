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

_MAX_CACHED = 50_000
_seconds: dict[int, str] = {}
_MILLIS = tuple(f".{milli:03}Z" for milli in range(1_000))


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime; what is finer is cut off."""
    elapsed = moment - EPOCH
    return elapsed.days * DAY_MS + elapsed.seconds * 1_000 + elapsed.microseconds // 1_000


def parse_rfc3339(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 text with an offset. Raises ValueError."""
    return to_ms(datetime.fromisoformat(text))


def rfc3339(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`, for 1970 to 9999.

    The part up to the second is cached: events come close together, and formatting is in the hot path.
    """
    second = ms // 1_000
    prefix = _seconds.get(second)
    if prefix is None:
        if len(_seconds) >= _MAX_CACHED:
            _seconds.clear()
        prefix = _seconds[second] = (EPOCH + timedelta(seconds=second)).isoformat()[:19]
    return prefix + _MILLIS[ms % 1_000]
