"""Clicks and conversions as trackers send them: typed, checked, or refused with the reason.

`read_click` and `read_conversion` accept any bytes whatever; the only exception that leaves them is `Refused`.
Most checks run inside msgspec while it parses. What it cannot express (bytes instead of characters, control
characters) is done here, and only when it can matter: a record of at most 2,048 bytes holds no text above its limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw

from stream_app.domain.errors import Reason, Refused
from stream_app.domain.money import check_currency, parse_amount
from stream_app.domain.times import to_ms

MAX_ID = 128
MAX_TEXT = 2_048
MAX_URL = 8_192
MAX_RECORD = 1_048_576
MAX_SEGMENTS = 8

_NO_CONTROLS = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
_CONTROLS = re.compile("[\\u0000-\\u001f\\u007f-\\u009f]")

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID, extra_json_schema={"pattern": _NO_CONTROLS})]
OptionalId = Annotated[str, Meta(max_length=MAX_ID, extra_json_schema={"pattern": _NO_CONTROLS})]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Url = Annotated[str, Meta(max_length=MAX_URL)]
Time = Annotated[datetime, Meta(tz=True)]
Amount = Annotated[
    Raw,
    Meta(
        description="A JSON number or a decimal string; exact, at most 15 digits before and 9 after the point.",
        extra_json_schema={"type": ["number", "string", "null"], "pattern": r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"},
    ),
]
Segment = Annotated[dict[Text, Text], Meta(max_length=MAX_SEGMENTS)]
Score = Annotated[int, Meta(ge=0, le=10)]
ClickKind = Literal["page_view", "screen_view", "link_click"]


class Click(msgspec.Struct, gc=False):
    """A page view, screen view or click on a link, from a tracker. Topic `clicks`, key `client_id`."""

    event_id: Annotated[Id, Meta(description="Idempotency key of the event.")]
    client_id: Annotated[Id, Meta(description="The browser or device.")]
    occurred_at: Annotated[int | Time, Meta(description="RFC 3339 with an offset, or epoch milliseconds.")]
    url: Annotated[
        Url,
        Meta(
            min_length=1,
            description="Absolute http(s) URL, or an app's screen as app://package/screen.",
            extra_json_schema={"pattern": "^([hH][tT][tT][pP][sS]?|app)://[^/?#]"},
        ),
    ]
    referrer: Annotated[Url | None, Meta(description="URL, android-app://package, or empty.")] = None
    user_agent: Annotated[Text | None, Meta(description="As the browser sent it.")] = None
    ip: Annotated[Text | None, Meta(description="Never stored or passed on.")] = None
    user_id: Annotated[OptionalId | None, Meta(description="A known person; empty is the same as absent.")] = None
    kind: Annotated[ClickKind, Meta(description="What happened.")] = "page_view"


class Conversion(msgspec.Struct, gc=False):
    """A goal reached, or a refund. Topic `conversions`, key `client_id`."""

    event_id: Annotated[Id, Meta(description="Idempotency key of the event.")]
    client_id: Annotated[Id, Meta(description="The browser or device.")]
    occurred_at: Annotated[int | Time, Meta(description="RFC 3339 with an offset, or epoch milliseconds.")]
    goal: Annotated[Text, Meta(min_length=1, description="A name from the settings, or any other.")]
    kind: Annotated[Literal["conversion", "refund"], Meta(description="A refund is of `order_id`.")] = "conversion"
    value: Amount = msgspec.field(default_factory=Raw)
    currency: Annotated[str | None, Meta(description="ISO 4217; default from the settings.")] = None
    order_id: Annotated[OptionalId | None, Meta(description="Second idempotency key, unique with its goal.")] = None
    lead_id: Annotated[OptionalId | None, Meta(description="Makes it a lead, or ties it to one.")] = None
    promo_code: Annotated[Text | None, Meta(description="Of a referral programme.")] = None
    invite_code: Annotated[Text | None, Meta(description="Of a referral programme.")] = None
    email: Annotated[Text | None, Meta(description="Leaves only as a keyed hash.")] = None
    phone: Annotated[Text | None, Meta(description="Leaves only as a keyed hash.")] = None
    name: Annotated[Text | None, Meta(description="Leaves only as a keyed hash.")] = None
    ip: Annotated[Text | None, Meta(description="Leaves only as a keyed hash.")] = None
    user_id: Annotated[OptionalId | None, Meta(description="A known person; empty is the same as absent.")] = None
    user_agent: Annotated[Text | None, Meta(description="As the browser sent it.")] = None
    profit: Annotated[Amount, Meta(description="For goals that know it; a loss is negative.")] = msgspec.field(
        default_factory=Raw
    )
    called_number: Annotated[Text | None, Meta(description="The number the person called.")] = None
    called_email: Annotated[Text | None, Meta(description="The address the person wrote to.")] = None
    suspicious: Annotated[bool | None, Meta(description="For community joins.")] = None
    segment: Annotated[Segment | None, Meta(description="Geography, device, network and the like.")] = None
    source: Annotated[Text | None, Meta(description="For what happens off the site: where it came from.")] = None
    medium: Text | None = None
    campaign: Text | None = None
    score: Annotated[Score | None, Meta(description="For goals of kind `nps`.")] = None


class Money(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An amount as read: exact, with its currency."""

    amount: Decimal
    currency: str


E = TypeVar("E")
_click: Callable[[bytes], Click] = msgspec.json.Decoder(Click).decode
_conversion: Callable[[bytes], Conversion] = msgspec.json.Decoder(Conversion).decode
_URL_START = re.compile(r"(?:https?|app)://[^/?#\s]", re.IGNORECASE).match
_NO_HOST = "/?# "
"""Behind the scheme, these (or nothing at all) mean that there is no host."""


def read_click(value: bytes | None) -> Click:
    """A checked click. Raises Refused, and nothing else, whatever the bytes."""
    try:
        click = _click(value)  # type: ignore[arg-type]  # None raises TypeError like any other non-record
    except (ValueError, TypeError, RecursionError) as error:
        raise refusal(value, error) from None
    assert value is not None
    url = click.url
    if (url[:8] != "https://" or url[8:9] in _NO_HOST) and _URL_START(url) is None:
        raise Refused("bad_field", "url: expected an absolute http(s) URL or app://package/screen")
    if value.find(0x5C) >= 0 or value.find(0x7F) >= 0 or not value.isascii():
        # Only with a backslash, a DEL or more than ASCII can an id hold a control character or more bytes than
        # characters: JSON has no other place for them.
        check_utf8(value)
        check_id("event_id", click.event_id)
        check_id("client_id", click.client_id)
        check_id("user_id", click.user_id or "")
    if len(value) > MAX_TEXT:
        _check_click_sizes(click, len(value))
    return click


def read_conversion(value: bytes | None) -> Conversion:
    """A checked conversion or refund; amounts are left to `money_of`. Raises Refused, and nothing else."""
    conversion = read_record(_conversion, value, _CONVERSION_IDS, _CONVERSION_TEXTS)
    if value is not None and len(value) > MAX_TEXT:
        for name, text in (conversion.segment or {}).items():
            check_size("segment", name, MAX_TEXT)
            check_size("segment", text, MAX_TEXT)
    if conversion.kind == "refund" and not conversion.order_id:
        raise Refused("missing_field", "order_id: a refund names the order it refunds")
    return conversion


def read_record(decode: Callable[[bytes], E], value: bytes | None, ids: Iterable[str], texts: Iterable[str]) -> E:
    """A record of any input with its ids and texts checked. Raises Refused, and nothing else, whatever the bytes."""
    try:
        record = decode(value)  # type: ignore[arg-type]  # None raises TypeError like any other non-record
    except (ValueError, TypeError, RecursionError) as error:
        raise refusal(value, error) from None
    assert value is not None
    check_utf8(value)
    if len(value) > MAX_RECORD:
        raise Refused("too_large", f"record: at most {MAX_RECORD} bytes")
    for field in ids:
        text = getattr(record, field)
        if text:
            check_id(field, text)
    if len(value) > MAX_TEXT:
        for field in texts:
            check_size(field, getattr(record, field), MAX_TEXT)
    return record


def moment(occurred_at: int | datetime) -> int:
    """Epoch milliseconds of `occurred_at`. Not bounded: any integer is one."""
    return occurred_at if isinstance(occurred_at, int) else to_ms(occurred_at)


def money_of(
    raw: Raw, currency: str | None, default_currency: str, field: str, *, signed: bool = False
) -> Money | None:
    """The amount in a field, None if it isn't given. Raises Refused(bad_money) when it is no proper amount, is
    negative and not `signed`, or its currency isn't known."""
    code = check_currency(currency) if currency else default_currency
    text = bytes(raw).strip()
    if not text or text == b"null":
        return None
    amount = parse_amount(text, field)
    if amount < 0 and not signed:
        raise Refused("bad_money", f"{field}: may not be negative")
    return Money(amount, code)


def check_id(field: str, text: str) -> None:
    """Raises Refused for more than 128 bytes or a control character."""
    if len(text.encode()) > MAX_ID:
        raise Refused("too_large", f"{field}: at most {MAX_ID} bytes")
    if _CONTROLS.search(text) is not None:
        raise Refused("bad_field", f"{field}: control characters are not allowed")


def check_size(field: str, text: str | None, limit: int) -> None:
    """Raises Refused for a text above its limit in bytes."""
    if text is not None and len(text) * 4 > limit and len(text.encode()) > limit:
        raise Refused("too_large", f"{field}: at most {limit} bytes")


def check_utf8(value: bytes) -> None:
    """The whole record must be UTF-8, fields that are ignored included. Raises Refused(bad_json)."""
    try:
        value.decode()
    except UnicodeDecodeError:
        raise Refused("bad_json", "record: not valid UTF-8") from None


_CONVERSION_IDS = ("event_id", "client_id", "order_id", "lead_id", "user_id")
_CONVERSION_TEXTS = (
    "goal",
    "promo_code",
    "invite_code",
    "email",
    "phone",
    "name",
    "ip",
    "user_agent",
    "called_number",
    "called_email",
    "source",
    "medium",
    "campaign",
)


def _check_click_sizes(click: Click, size: int) -> None:
    if size > MAX_RECORD:
        raise Refused("too_large", f"record: at most {MAX_RECORD} bytes")
    check_size("url", click.url, MAX_URL)
    check_size("referrer", click.referrer, MAX_URL)
    check_size("user_agent", click.user_agent, MAX_TEXT)
    check_size("ip", click.ip, MAX_TEXT)


_AT_PATH = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`")


def refusal(value: bytes | None, error: Exception) -> Refused:
    """What a failed parse means in the contract's terms. msgspec's messages name the path and the types; the one
    that quotes a value (an unknown enum member) is put otherwise."""
    if not value:
        return Refused("bad_json", "record: empty")
    if len(value) > MAX_RECORD:
        return Refused("too_large", f"record: at most {MAX_RECORD} bytes")
    if isinstance(error, RecursionError):
        return Refused("bad_json", "record: nested too deeply")
    if isinstance(error, UnicodeError):
        return Refused("bad_json", "record: not valid UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        return Refused("bad_json", "record: not valid JSON")
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            return Refused("bad_json", "record: not valid UTF-8")
    message = str(error)
    missing = _MISSING.match(message)
    if missing is not None:
        return Refused("missing_field", f"{missing['field']}: required")
    located = _AT_PATH.match(message)
    if located is None:
        return Refused("bad_json", "record: expected a JSON object")
    return _field_refusal(located["path"].removeprefix("."), located["what"])


def _field_refusal(path: str, what: str) -> Refused:
    reason: Reason = "bad_field"
    if what.startswith("Invalid enum value"):
        what = "not one of the allowed values"
    elif " of length <= " in what:
        reason = "too_large"
    return Refused(reason, f"{path}: {what[:1].lower()}{what[1:]}")
