"""Windows: hours and days of the property's time zone, whatever its clock does (semantics 36)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stream_app.domain.counters.windows import DAY, HOUR, MINUTE, TOTAL, Windows, expires_at, is_expired

ZONES = ("Europe/Riga", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe", "America/Havana")


def minute(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 60


def hours(windows: Windows, day: str) -> list[int]:
    """Lengths in minutes of the hours of the calendar day that holds noon UTC of a date."""
    noon = minute(f"{day}T12:00:00+00:00")
    start = windows.start(DAY, noon)
    end = start
    while windows.start(DAY, end) == start:
        end += 15
    starts = [windows.start(HOUR, quarter) for quarter in range(start, end, 15)]
    return [15 * starts.count(hour) for hour in sorted(set(starts))]


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        ("Europe/Riga", "2026-03-29", [60] * 23),
        ("Europe/Riga", "2026-10-25", [60] * 25),
        ("Europe/Riga", "2026-06-01", [60] * 24),
        ("America/New_York", "2026-03-08", [60] * 23),
        ("America/New_York", "2026-11-01", [60] * 25),
        ("Asia/Kolkata", "2026-03-29", [60] * 24),
        ("UTC", "2026-03-29", [60] * 24),
        ("Australia/Lord_Howe", "2026-04-05", [60] * 2 + [30] + [60] * 22),
    ],
)
def test_days_have_as_many_hours_as_the_clock_gives_them(zone: str, day: str, expected: list[int]) -> None:
    """23 in spring, 25 in autumn; half an hour where the clock moves by half an hour."""
    found = hours(Windows(zone), day)
    assert sum(found) == sum(expected)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("zone", "moment", "hour", "day"),
    [
        ("Europe/Riga", "2026-03-29T00:59:00Z", "2026-03-29T00:00:00Z", "2026-03-28T22:00:00Z"),
        ("Europe/Riga", "2026-03-29T21:00:00Z", "2026-03-29T21:00:00Z", "2026-03-29T21:00:00Z"),
        ("Europe/Riga", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-24T21:00:00Z"),
        ("Europe/Riga", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-24T21:00:00Z"),
        ("America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T04:00:00Z"),
        ("America/New_York", "2026-11-01T06:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T04:00:00Z"),
        ("Asia/Kolkata", "2026-03-29T18:29:00Z", "2026-03-29T17:30:00Z", "2026-03-28T18:30:00Z"),
        ("Asia/Kolkata", "2026-03-29T18:30:00Z", "2026-03-29T18:30:00Z", "2026-03-29T18:30:00Z"),
        ("UTC", "2026-03-29T23:59:00Z", "2026-03-29T23:00:00Z", "2026-03-29T00:00:00Z"),
    ],
)
def test_a_moment_is_in_the_hour_and_day_that_the_clock_shows(zone: str, moment: str, hour: str, day: str) -> None:
    """The hour that comes twice in autumn is two windows."""
    assert Windows(zone).hour_and_day(minute(moment)) == (minute(hour), minute(day))


@pytest.mark.parametrize("zone", ZONES)
def test_windows_follow_one_another_without_gap_or_overlap(zone: str) -> None:
    """Over two years of quarters: a start belongs to its own window, and starts never run backwards."""
    windows = Windows(zone)
    before = (0, 0)
    begin = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) // 60
    for quarter in range(begin, begin + 731 * 1_440, 15):
        found = windows.hour_and_day(quarter)
        assert found >= before
        assert found[0] <= quarter < found[0] + 60
        assert found[1] <= quarter < found[1] + 25 * 60
        assert windows.hour_and_day(found[0])[0] == found[0]
        assert windows.hour_and_day(found[1])[1] == found[1]
        before = found


def test_a_calendar_day_begins_where_its_moments_say() -> None:
    """Costs name a day, everything else a moment: they meet in one window, also where midnight does not exist."""
    for zone in ZONES:
        windows = Windows(zone)
        for number in range(0, 800, 7):
            day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(number)
            start = windows.of_day(day.year, day.month, day.day)
            assert windows.start(DAY, start) == start
            local = windows.local(start)
            assert (local.year, local.month, local.day) == (day.year, day.month, day.day)


def test_windows_expire_after_two_days_sixty_days_and_twenty_five_months() -> None:
    """To the millisecond; the total never does."""
    start = minute("2026-06-01T00:00:00Z")
    for kind, life in ((MINUTE, timedelta(2)), (HOUR, timedelta(60)), (DAY, timedelta(761))):
        end = start * 60_000 + int(life.total_seconds()) * 1_000
        assert expires_at(kind, start) == end
        assert not is_expired(kind, start, end - 1)
        assert is_expired(kind, start, end)
    assert not is_expired(TOTAL, 0, 2**62)
