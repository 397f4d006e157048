"""Conversions with their paths, from anywhere, credited by the rules of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from stream_app import reference
from stream_app.app.topology import journey_rules, source_rules
from stream_app.domain import paths
from stream_app.domain.cache import BoundedCache
from stream_app.domain.credit import CreditModels
from stream_app.domain.errors import Refused
from stream_app.domain.events import Amount, Text, Time, moment, money_of, refusal
from stream_app.domain.journey import Touchpoint
from stream_app.domain.records import Credit
from stream_app.domain.sources import SourceResolver
from stream_app.domain.sources.model import DIRECT, NOT_SET, Source
from stream_app.domain.times import DAY_MS, to_ms
from stream_app.domain.views import Views
from stream_app.settings import Settings

MAX_TOUCHPOINTS = 10_000
_MAX_CACHED_SOURCES = 50_000

_Name = tuple[str, str, str, str]
"""Channel, source, medium, campaign."""


class Visit(msgspec.Struct, gc=False):
    """A touchpoint of the path. Without a channel it gets that of its source, medium and campaign."""

    occurred_at: int | Time
    channel: Text = ""
    source: Text = ""
    medium: Text = ""
    campaign: Text = ""


class Converted(msgspec.Struct, gc=False):
    """A conversion and what led to it, in any order."""

    touchpoints: Annotated[list[Visit], Meta(max_length=MAX_TOUCHPOINTS)]
    occurred_at: int | Time
    value: Amount = msgspec.field(default_factory=msgspec.Raw)
    currency: str | None = None
    goal: Text = ""


class Credited(msgspec.Struct, gc=False):
    """The fields of `attributed-conversions` that follow from the path."""

    credits: dict[str, tuple[Credit, ...]]
    path: str
    days_to_convert: int | None
    assisting_channels: tuple[str, ...]
    source_determined: bool


class Crediting:
    """Credits one conversion after another, each a JSON object in bytes."""

    def __init__(self, settings: Settings) -> None:
        rules = journey_rules(settings)
        self._models = CreditModels(rules.attribution)
        self._lookback_ms = Views(rules, "").lookback_ms
        self._currency = rules.currency
        self._source_rules = source_rules(settings)
        self._resolver: SourceResolver | None = None
        self._sources: BoundedCache[_Name, Source] = BoundedCache(_MAX_CACHED_SOURCES)
        self._decode = msgspec.json.Decoder(Converted).decode
        self._encode = msgspec.json.Encoder().encode

    def answer(self, line: bytes) -> bytes:
        """The credits of the conversion in a line. Raises Refused."""
        try:
            asked = self._decode(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise refusal(line, error) from None
        return self._encode(self.credit(asked))

    def credit(self, asked: Converted) -> Credited:
        """Looks back, and divides. Raises Refused(bad_money)."""
        money = money_of(asked.value, asked.currency, self._currency, "value")
        value, currency = (None, self._currency) if money is None else (money.amount, money.currency)
        at = moment(asked.occurred_at)
        oldest = at - self._lookback_ms(asked.goal)
        path = []
        latest, ordered = oldest, True
        sources = self._sources.entries
        for visit in asked.touchpoints:
            when = visit.occurred_at
            if not isinstance(when, int):
                when = to_ms(when)
            if oldest <= when <= at:
                if when < latest:
                    ordered = False
                latest = when
                name = (visit.channel, visit.source, visit.medium, visit.campaign)
                source = sources.get(name)
                path.append(Touchpoint(when, "", source if source is not None else self._source(name)))
        if not ordered:
            path.sort(key=lambda touchpoint: touchpoint.at)
        shares = self._models.credits(path, at, value, currency)
        return Credited(
            shares,
            paths.shown(path),
            (at - path[0].at) // DAY_MS if path else None,
            paths.assisting_channels(path, shares["last_non_direct"][0].channel),
            bool(path),
        )

    def _source(self, name: _Name) -> Source:
        source = self._find_source(*name)
        self._sources.put(name, source)
        return source

    def _find_source(self, channel: str, source: str, medium: str, campaign: str) -> Source:
        if not channel:
            if not source and not medium and not campaign:
                raise Refused("missing_field", "touchpoints: each needs a channel, or a source, medium or campaign")
            if self._resolver is None:
                self._resolver = SourceResolver(self._source_rules, reference.load())
            return self._resolver.of_fields(source, medium, campaign)
        if channel == DIRECT.channel and not source:
            return DIRECT
        return Source(source or NOT_SET, medium or NOT_SET, campaign or NOT_SET, channel=channel, arrival="tagged")
