"""Exact money and exact times."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.domain import money
from stream_app.domain.calendar import LocalDays
from stream_app.domain.times import DAY_MS, LATEST_MS, rfc3339, to_ms

ZONES = ("UTC", "Europe/Riga", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe")
AMOUNTS = st.decimals(min_value=0, max_value=10**12, places=9, allow_nan=False, allow_infinity=False)


@given(st.integers(0, 10**20), st.lists(st.integers(0, 1_000), min_size=1, max_size=12).filter(any))
def test_shares_sum_to_exactly_the_total(total: int, weights: list[int]) -> None:
    """Whatever the weights; none is off by a unit or more."""
    shares = money.split(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (10_000, (1, 1, 1), (3_334, 3_333, 3_333)),
        (2, (1, 1, 1), (1, 1, 0)),
        (100, (2, 3, 1), (33, 50, 17)),
        (100, (40, 20, 40), (40, 20, 40)),
        (5, (0, 1, 1), (0, 3, 2)),
        (1, (1, 3, 3), (0, 1, 0)),
    ],
)
def test_what_is_left_goes_by_largest_remainder_then_to_the_earlier(
    total: int, weights: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    """Semantics 33."""
    assert tuple(money.split(total, weights)) == shares


@given(AMOUNTS, st.sampled_from(("EUR", "JPY", "KWD", "CLF")))
def test_whole_units_are_shown_as_the_amount_is(amount: Decimal, currency: str) -> None:
    """Both ways of writing money say the same."""
    digits = money.MINOR_UNITS[currency]
    assert money.shown_units(money.units(amount, currency), digits) == money.shown(amount, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("10.5", "EUR", "10.50"),
        ("0.005", "EUR", "0.01"),
        ("0.0049", "EUR", "0.00"),
        ("1234567.125", "USD", "1234567.13"),
        ("1.5", "JPY", "2"),
        ("1.2345", "KWD", "1.235"),
        ("0", "EUR", "0.00"),
        ("1000", "JPY", "1000"),
    ],
)
def test_amounts_are_shown_half_up_at_the_minor_unit(amount: str, currency: str, text: str) -> None:
    """The one place where amounts are rounded."""
    assert money.shown(Decimal(amount), currency) == text


@given(st.integers(0, LATEST_MS))
def test_times_out_are_rfc3339_in_utc_with_milliseconds(ms: int) -> None:
    """The same as the standard library's, and readable again."""
    text = rfc3339(ms)
    assert len(text) == 24
    assert text.endswith("Z")
    assert to_ms(datetime.fromisoformat(text)) == ms


@given(
    st.integers(0, 2**42),
    st.sampled_from(ZONES),
)
def test_days_are_those_of_the_time_zone(ms: int, zone: str) -> None:
    """Daylight saving and odd offsets included."""
    local = datetime.fromtimestamp(ms // 1000, UTC).astimezone(ZoneInfo(zone)).date()
    assert LocalDays(zone).day(ms) == (local - datetime(1970, 1, 1, tzinfo=UTC).date()).days


def test_a_day_of_the_clock_change_has_25_hours() -> None:
    """Riga, 26 October 2025."""
    days = LocalDays("Europe/Riga")
    start = to_ms(datetime(2025, 10, 25, 21, tzinfo=UTC))
    assert days.day(start - 1) + 1 == days.day(start) == days.day(start + 25 * 3_600_000 - 1)
    assert days.day(start + 25 * 3_600_000) == days.day(start) + 1
    assert DAY_MS == 24 * 3_600_000
