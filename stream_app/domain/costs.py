"""Advertising spend: what was spent on which day for which campaign (domain rules, sections 5 and 6).

An ad system sends a row again whenever its figures change: the last record of a `cost_id` in the log is the truth.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from stream_app.domain import money
from stream_app.domain.errors import Refused
from stream_app.domain.events import (
    Amount,
    Id,
    OptionalId,
    Text,
    money_of,
    read_record,
)
from stream_app.domain.sources.model import Source
from stream_app.domain.sources.resolver import SourceResolver

MAX_SEEN = 128
"""Event ids by which records of one `cost_id` that come again are known: the latest so many."""
_SEEN_BYTES = 8
_EPOCH = dt.date(1970, 1, 1)
_MOST = 10**15

Number = Annotated[int, Meta(ge=0, le=_MOST)]


class Cost(msgspec.Struct, gc=False):
    """A row of an advertising report. Topic `costs`, key `cost_id`; a later record replaces the earlier one."""

    event_id: Annotated[Id, Meta(description="Idempotency key of the record.")]
    cost_id: Annotated[Id, Meta(description="The row: the same when its figures are sent again.")]
    day: Annotated[dt.date, Meta(description="YYYY-MM-DD, on the property's calendar.")]
    source: Annotated[Text, Meta(description="As in the tags of the campaign's links.")]
    medium: Text
    campaign: Text
    cost: Amount
    currency: Annotated[str, Meta(description="ISO 4217.")]
    clicks: Annotated[Number | None, Meta(description="Clicks that the ad system charged for.")] = None
    impressions: Number | None = None
    term: Text | None = None
    content: Text | None = None
    account: Annotated[Text | None, Meta(description="Chooses the multiplier of the settings.")] = None
    campaign_id: Annotated[OptionalId | None, Meta(description="As `utm_id` of the campaign's links.")] = None


class CostRules(msgspec.Struct, frozen=True):
    """`[costs]`: exchange rates and factors."""

    base_currency: str
    rates: Mapping[str, Decimal] = {}
    """How much of the base currency one unit of another is worth."""
    multipliers: Mapping[str, Decimal] = {}
    """Factor on the costs of an account; clicks and impressions stay as they are (semantics 37)."""


class Spend(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a row counts: on its day and in total."""

    day: int
    """Days since 1 January 1970, on the property's calendar."""
    source: Source
    cost: Decimal
    """With its account's factor; exact, in `currency`."""
    currency: str
    """The base currency, or another for which there is no rate."""
    ad_clicks: int = 0
    impressions: int = 0


class Row(msgspec.Struct, gc=False, array_like=True):
    """What is saved of a row."""

    spend: Spend
    seen: bytes
    """Eight bytes of each event id, the latest last."""


class CostEvent(msgspec.Struct, frozen=True, gc=False):
    """A record of `costs`, resolved."""

    seen: bytes
    spend: Spend
    cost_id: str


_decode: Callable[[bytes], Cost] = msgspec.json.Decoder(Cost).decode
_IDS = ("event_id", "cost_id", "campaign_id")
_TEXTS = ("source", "medium", "campaign", "term", "content", "account")


def read_cost(value: bytes | None) -> Cost:
    """A checked row; its amount is left to `spend_of`. Raises Refused, and nothing else, whatever the bytes."""
    cost = read_record(_decode, value, _IDS, _TEXTS)
    if cost.day < _EPOCH:
        raise Refused("bad_field", "day: expected a day between 1970 and 9999")
    return cost


def spend_of(cost: Cost, rules: CostRules, resolver: SourceResolver) -> Spend:
    """What a row counts: source and medium as `classify` puts them, the account's factor applied, in the base currency
    where there is a rate. Raises Refused (`bad_money`, `missing_field`)."""
    given = money_of(cost.cost, cost.currency, "", "cost")
    if given is None:
        raise Refused("missing_field", "cost: required")
    if not given.currency:
        raise Refused("bad_money", "currency: not an ISO 4217 currency")
    amount, currency = given.amount, given.currency
    factor = rules.multipliers.get(cost.account) if cost.account else None
    if factor is not None:
        amount = money.multiply(amount, factor)
    if currency != rules.base_currency:
        rate = rules.rates.get(currency)
        if rate is not None:
            amount, currency = money.multiply(amount, rate), rules.base_currency
    source = resolver.of_fields(
        cost.source, cost.medium, cost.campaign, term=cost.term or "", content=cost.content or ""
    )
    if cost.campaign_id:
        source = msgspec.structs.replace(source, campaign_id=cost.campaign_id)
    return Spend(
        (cost.day - _EPOCH).days,
        source,
        amount,
        currency,
        cost.clicks or 0,
        cost.impressions or 0,
    )


def seen_as(event_id: str) -> bytes:
    """The eight bytes by which a record is known when it comes again."""
    return blake2b(event_id.encode(), digest_size=_SEEN_BYTES).digest()


def was_seen(row: Row, event: bytes) -> bool:
    """True if a record with this event id was taken before."""
    seen = row.seen
    return any(seen[start : start + _SEEN_BYTES] == event for start in range(0, len(seen), _SEEN_BYTES))


def replaced(row: Row | None, event: CostEvent) -> Row:
    """The row as the record says it; the record's id is remembered."""
    seen = row.seen if row is not None else b""
    return Row(event.spend, (seen + event.seen)[-MAX_SEEN * _SEEN_BYTES :])
