"""Golden tables of the credit models."""

from __future__ import annotations

from decimal import Decimal

import pytest

from stream_app.domain.credit import MODELS, credits_of
from stream_app.domain.journey import Touchpoint
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.domain.views import assisting_channels

SOURCES = {
    "D": DIRECT,
    "P": Source("google", "cpc", "spring", channel="Paid Search"),
    "E": Source("news", "email", "may", channel="Email"),
    "S": Source("facebook", "social", channel="Organic Social"),
}


def touchpoints(path: str) -> list[Touchpoint]:
    return [Touchpoint(at, f"s{at}", SOURCES[letter]) for at, letter in enumerate(path)]


@pytest.mark.parametrize(
    ("path", "last_non_direct", "last_click", "first_click"),
    [
        ("P", "P", "P", "P"),
        ("D", "D", "D", "D"),
        ("DD", "D", "D", "D"),
        ("PD", "P", "D", "P"),
        ("DP", "P", "P", "D"),
        ("PED", "E", "D", "P"),
        ("PEDD", "E", "D", "P"),
        ("DPESD", "S", "D", "D"),
    ],
)
def test_one_touchpoint_gets_it_all(path: str, last_non_direct: str, last_click: str, first_click: str) -> None:
    """Domain rules, section 4."""
    found = credits_of(touchpoints(path), 1_000, Decimal("49.90"), "EUR")
    wanted = {"last_non_direct": last_non_direct, "last_click": last_click, "first_click": first_click}
    assert list(found) == list(MODELS)
    for model, letter in wanted.items():
        (credit,) = found[model]
        source = SOURCES[letter]
        assert (credit.source, credit.medium, credit.campaign, credit.channel) == (
            source.source, source.medium, source.campaign, source.channel,
        )  # fmt: skip
        assert (credit.credit, credit.value) == ("1", "49.90")


def test_without_any_touchpoint_the_source_is_not_determined() -> None:
    """Semantics 32: one credit, so that sums still hold."""
    for (credit,) in credits_of([], 0, Decimal(5), "JPY").values():
        assert (credit.source, credit.medium, credit.channel) == ("(not determined)", "(not set)", "Not determined")
        assert (credit.credit, credit.value) == ("1", "5")


def test_a_conversion_without_value_has_credit_without_value() -> None:
    """Nothing is made up."""
    assert credits_of(touchpoints("P"), 1_000, None, "EUR")["last_click"][0].value is None


def test_a_model_that_divides_closes_credit_and_money_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is open: a model is a function that gives weights."""
    monkeypatch.setitem(MODELS, "thirds", lambda touches, _at: [Decimal(1)] * len(touches))
    shares = credits_of(touchpoints("PES"), 1_000, Decimal(100), "EUR")["thirds"]
    assert [share.credit for share in shares] == ["0.333333333334", "0.333333333333", "0.333333333333"]
    assert [share.value for share in shares] == ["33.34", "33.33", "33.33"]


@pytest.mark.parametrize(
    ("path", "assisting"),
    [
        ("P", ()),
        ("PD", ()),
        ("PE", ("Paid Search",)),
        ("EPE", ("Paid Search",)),
        ("SPSED", ("Organic Social", "Paid Search")),
        ("DD", ()),
        ("", ()),
    ],
)
def test_channels_assist_once_and_never_direct(path: str, assisting: tuple[str, ...]) -> None:
    """Semantics 34."""
    assert assisting_channels(touchpoints(path)) == assisting
