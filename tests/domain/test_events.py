"""Reading clicks and conversions: what is admitted, and what is refused for which reason."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.domain.errors import Refused
from stream_app.domain.events import Click, Conversion, moment, money_of, read_click, read_conversion

CLICK = {"event_id": "e1", "client_id": "c1", "occurred_at": 1_700_000_000_000, "url": "https://shop.example.com/"}
CONVERSION = {"event_id": "e1", "client_id": "c1", "occurred_at": 1_700_000_000_000, "goal": "purchase"}


def refused(read: Any, record: Any) -> tuple[str, str]:
    value = record if isinstance(record, bytes) or record is None else json.dumps(record).encode()
    with pytest.raises(Refused) as caught:
        read(value)
    return caught.value.reason, caught.value.detail.partition(":")[0]


@pytest.mark.parametrize(
    ("value", "reason", "where"),
    [
        (None, "bad_json", "record"),
        (b"", "bad_json", "record"),
        (b"{", "bad_json", "record"),
        (b"[]", "bad_json", "record"),
        (b"null", "bad_json", "record"),
        (b'"text"', "bad_json", "record"),
        (b"{}", "missing_field", "event_id"),
        (b"\xff\xfe", "bad_json", "record"),
        (b'{"event_id": "\xff"}', "bad_json", "record"),
        (b'{"event_id": "\\ud800", "client_id": "c"}', "bad_json", "record"),
        (b'{"event_id": NaN}', "bad_json", "record"),
        (b'{"a":' * 20_000, "bad_json", "record"),
        (json.dumps(CLICK).encode().replace(b"e1", b"e\x7f1"), "bad_field", "event_id"),
        (b"\xef\xbb\xbf" + json.dumps(CLICK).encode(), "bad_json", "record"),
        (json.dumps(CLICK).encode() + b"x", "bad_json", "record"),
        (json.dumps(CLICK)[:-1].encode() + b', "unknown": "\xff"}', "bad_json", "record"),
        (json.dumps(CLICK | {"x": "y" * 1_100_000}).encode(), "too_large", "record"),
    ],
)
def test_what_is_no_proper_record_is_refused_as_a_whole(value: bytes | None, reason: str, where: str) -> None:
    """Also for what is in fields that are ignored: a record is valid as a whole, or a dead letter."""
    assert refused(read_click, value) == (reason, where)


@pytest.mark.parametrize(
    ("change", "reason", "where"),
    [
        ({"event_id": ""}, "bad_field", "event_id"),
        ({"event_id": 5}, "bad_field", "event_id"),
        ({"event_id": None}, "bad_field", "event_id"),
        ({"event_id": "x" * 129}, "too_large", "event_id"),
        ({"event_id": "ā" * 65}, "too_large", "event_id"),
        ({"client_id": "a\nb"}, "bad_field", "client_id"),
        ({"client_id": "a\x7fb"}, "bad_field", "client_id"),
        ({"client_id": "a\x85b"}, "bad_field", "client_id"),
        ({"user_id": "a\x00b"}, "bad_field", "user_id"),
        ({"user_id": "x" * 129}, "too_large", "user_id"),
        ({"occurred_at": "yesterday"}, "bad_field", "occurred_at"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "bad_field", "occurred_at"),
        ({"occurred_at": "2026-13-01T00:00:00Z"}, "bad_field", "occurred_at"),
        ({"occurred_at": "1700000000000"}, "bad_field", "occurred_at"),
        ({"occurred_at": 1.5}, "bad_field", "occurred_at"),
        ({"occurred_at": True}, "bad_field", "occurred_at"),
        ({"occurred_at": None}, "bad_field", "occurred_at"),
        ({"url": ""}, "bad_field", "url"),
        ({"url": "/relative"}, "bad_field", "url"),
        ({"url": "ftp://host/"}, "bad_field", "url"),
        ({"url": "https://"}, "bad_field", "url"),
        ({"url": "https:///path"}, "bad_field", "url"),
        ({"url": "http://?q"}, "bad_field", "url"),
        ({"url": "javascript:alert(1)"}, "bad_field", "url"),
        ({"url": "https://h/" + "x" * 8_183}, "too_large", "url"),
        ({"url": "https://h/" + "ā" * 4_092}, "too_large", "url"),
        ({"referrer": "https://h/" + "x" * 8_183}, "too_large", "referrer"),
        ({"user_agent": "x" * 2_049}, "too_large", "user_agent"),
        ({"user_agent": "ā" * 1_025}, "too_large", "user_agent"),
        ({"kind": "scroll"}, "bad_field", "kind"),
        ({"kind": None}, "bad_field", "kind"),
    ],
)
def test_a_click_with_a_bad_field_is_refused_with_its_path(change: dict[str, Any], reason: str, where: str) -> None:
    """The limits of contracts.md, in bytes."""
    assert refused(read_click, CLICK | change) == (reason, where)


@pytest.mark.parametrize("field", ["event_id", "client_id", "occurred_at", "url"])
def test_a_required_field_that_lacks_is_named(field: str) -> None:
    """missing_field, with the field."""
    assert refused(read_click, {name: v for name, v in CLICK.items() if name != field}) == ("missing_field", field)


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": "x" * 128},
        {"event_id": "ā" * 64},
        {"event_id": "a b/ü€😀"},
        {"url": "https://h/" + "x" * 8_182},
        {"url": "HTTP://h"},
        {"url": "app://com.example.shop/home"},
        {"url": "https:\\/\\/h\\/"},
        {"user_agent": "x" * 2_048},
        {"user_id": ""},
        {"user_id": None, "referrer": None, "ip": None, "user_agent": None},
        {"kind": "screen_view", "more": {"of": ["anything", 1e300]}},
    ],
)
def test_a_click_at_the_limits_is_admitted(change: dict[str, Any]) -> None:
    """Nulls in optional fields are the same as absence; unknown fields are ignored."""
    text = json.dumps(CLICK | change, ensure_ascii=False).replace("\\\\/", "\\/")
    assert read_click(text.encode()).client_id == "c1"
    assert read_click(json.dumps(CLICK | change).replace("\\\\/", "\\/").encode()).client_id == "c1"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000_500),
        ("2023-11-14T22:13:20.123999Z", 1_700_000_000_123),
        ("2023-11-15T00:13:20.123+02:00", 1_700_000_000_123),
        ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
    ],
)
def test_times_are_epoch_milliseconds(text: str, ms: int) -> None:
    """RFC 3339 with any offset; what is finer than a millisecond is cut off."""
    assert moment(read_click(json.dumps(CLICK | {"occurred_at": text}).encode()).occurred_at) == ms
    assert moment(read_click(json.dumps(CLICK | {"occurred_at": ms}).encode()).occurred_at) == ms


def money(value: str, currency: str | None = None) -> Decimal | None:
    record = json.dumps(CONVERSION)[:-1] + f', "value": {value}}}'
    found = money_of(read_conversion(record.encode()).value, currency, "EUR", "value")
    return found.amount if found is not None else None


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0", "0"), ("10.50", "10.5"), ('"10.50"', "10.5"), ("0.1", "0.1"), ("1e3", "1000"), ("12E-2", "0.12"),
        ("999999999999999.999999999", "999999999999999.999999999"), ("-0.0", "0"), ("100.000000000000", "100"),
        ('"007"', "7"),
    ],
)  # fmt: skip
def test_money_is_exact(value: str, amount: str) -> None:
    """A number or a decimal string, never by way of a float."""
    assert money(value) == Decimal(amount)
    assert money("null") is None


@pytest.mark.parametrize(
    "value",
    ["-1", '"-0.01"', "1e15", "1e99", "1e999999999", '"1e400"', '"NaN"', '"Infinity"', '"1,5"', '" 1"', '"1_0"', '""',
     "0.0000000001", "true", "[1]", "{}", '"' + "9" * 50 + '"', '"\\u0031"', '"١"'],
)  # fmt: skip
def test_what_is_no_proper_amount_is_bad_money(value: str) -> None:
    """Also negative ones, absurd exponents and more digits than any currency has."""
    with pytest.raises(Refused) as caught:
        money(value)
    assert caught.value.reason == "bad_money"
    assert caught.value.detail.startswith("value:")


def test_a_currency_must_be_known() -> None:
    """ISO 4217, in any case; without one the site's."""
    assert money("1", "usd") == 1
    for currency in ("EURO", "XXX", "€", "eu"):
        with pytest.raises(Refused) as caught:
            money("1", currency)
        assert caught.value.reason == "bad_money"


@pytest.mark.parametrize(
    ("change", "reason", "where"),
    [
        ({"goal": ""}, "bad_field", "goal"),
        ({"goal": "x" * 2_049}, "too_large", "goal"),
        ({"kind": "chargeback"}, "bad_field", "kind"),
        ({"kind": "refund"}, "missing_field", "order_id"),
        ({"order_id": "x" * 129}, "too_large", "order_id"),
        ({"lead_id": "a\tb"}, "bad_field", "lead_id"),
        ({"segment": {str(i): "x" for i in range(9)}}, "too_large", "segment"),
        ({"segment": {"geo": 5}}, "bad_field", "segment[...]"),
        ({"segment": {"geo": "ā" * 1_500}}, "too_large", "segment"),
        ({"score": 11}, "bad_field", "score"),
        ({"suspicious": "yes"}, "bad_field", "suspicious"),
        ({"name": "ā" * 1_500}, "too_large", "name"),
    ],
)
def test_a_conversion_with_a_bad_field_is_refused_with_its_path(
    change: dict[str, Any], reason: str, where: str
) -> None:
    """The same limits as for clicks."""
    assert refused(read_conversion, CONVERSION | change) == (reason, where)


def test_details_never_quote_values() -> None:
    """They go to headers and logs, and values may be personal data."""
    for change in ({"kind": "anna@example.com"}, {"occurred_at": "anna@example.com"}, {"url": "anna@example.com"}):
        with pytest.raises(Refused) as caught:
            read_click(json.dumps(CLICK | change).encode())
        assert "anna" not in caught.value.detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({*Click.__struct_fields__, *Conversion.__struct_fields__})


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid record with something changed: a value, a field left out, a byte."""
    record: dict[str, Any] = dict(draw(st.sampled_from((CLICK, CONVERSION))))
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        record[field] = draw(JSON)
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=1)):
        record.pop(field, None)
    value = bytearray(json.dumps(record).encode())
    for _ in range(draw(st.integers(0, 2))):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
    return bytes(value)


@given(st.one_of(st.binary(max_size=200), nearly_valid(), JSON.map(lambda v: json.dumps(v).encode())))
@example(b'{"event_id":"a","client_id":"b","occurred_at":' + b"9" * 5_000 + b',"url":"https://h/"}')
@example(json.dumps(CLICK | {"event_id": "\udcff"}).encode())
def test_only_refused_ever_escapes(value: bytes) -> None:
    """Whatever the bytes are: a record or a reason."""
    for read in (read_click, read_conversion):
        try:
            record = read(value)
            assert isinstance(moment(record.occurred_at), int)
            if isinstance(record, Conversion):
                money_of(record.value, record.currency, "EUR", "value")
                money_of(record.profit, record.currency, "EUR", "profit")
        except Refused:
            pass


def test_schemas_can_be_made_from_the_types() -> None:
    """The JSON Schemas of the contract come from these structs."""
    click = msgspec.json.schema(Click)["$defs"]["Click"]
    assert click["required"] == ["event_id", "client_id", "occurred_at", "url"]
    value = msgspec.json.schema(Conversion)["$defs"]["Conversion"]["properties"]["value"]
    assert value["type"] == ["number", "string", "null"]
