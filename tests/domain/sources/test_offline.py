"""Tracking numbers and sources given by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream_app.domain.sources import OfflineSource, SourceResolver

Make = Callable[..., SourceResolver]

NUMBERS = {
    "+371 2000-0001": OfflineSource("newspaper", "offline", "spring"),
    "+371 2000-0002": OfflineSource("Radio", "offline"),
    "+372 2000-0001": OfflineSource("estonia"),
    "Sales@Example.com": OfflineSource("catalogue", "print"),
}


@pytest.mark.parametrize(
    ("number", "email", "expected"),
    [
        ("+37120000001", "", "newspaper"),
        ("0037120000001", "", "newspaper"),
        ("+371 (2000) 00-01", "", "newspaper"),
        ("37120000002", "", "radio"),
        ("20000002", "", "radio"),
        ("20000001", "", None),  # Latvia's or Estonia's?
        ("+37129999999", "", None),
        ("", "sales@example.com", "catalogue"),
        ("", "mailto:SALES@example.com", "catalogue"),
        ("", "other@example.com", None),
        ("0002", "", None),
        ("", "", None),
        ("not a number", "", None),
    ],
)
def test_called_numbers_and_addresses(make: Make, number: str, email: str, expected: str | None) -> None:
    """In any spelling; a number without its country only if that is clear."""
    found = make(phone_numbers=NUMBERS).of_call(number, email)
    assert (found.source if found else None) == expected
    if found:
        assert found.channel == "Offline"


def test_fields_are_normalised_as_tags(extended: SourceResolver, ga4: SourceResolver) -> None:
    """Source and medium in lower case, campaign as given."""
    found = extended.of_fields(" Newspaper ", "OFFLINE", " Spring ")
    assert (found.source, found.medium, found.campaign, found.channel) == ("newspaper", "offline", "Spring", "Offline")
    assert ga4.of_fields("newspaper", "offline").channel == "Unassigned"
    assert extended.of_fields("google", "cpc").channel == "Paid Search"
