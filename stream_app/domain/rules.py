"""What a site's owner settles about sessions, attribution and goals."""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_app.domain.sources.rules import Condition
from stream_app.domain.times import DAY_MS, HOUR_MS, MINUTE_MS

GoalKind = Literal["lead", "purchase", "signup", "activation", "nps", "join", "leave", "other"]
PathTransform = Literal["none", "exposure", "unique", "first"]

CLIENT_LIFE_DAYS = 400
"""A client is remembered at least this long after its last event (semantics 25)."""


class SessionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[sessions]`: when a visit ends and how long a campaign is remembered."""

    profile: Literal["ga4", "ua"] = "ga4"
    """`ua` also splits at midnight and on a change of campaign."""
    timeout_minutes: Annotated[int, Meta(ge=1, le=475)] = 30
    """Inactivity that ends a session, 1 minute to 7 h 55 min."""
    grace_minutes: Annotated[int, Meta(ge=1, le=72 * 60)] = 60
    """How late a click may arrive."""
    campaign_timeout_days: Annotated[int, Meta(ge=1, le=730)] | None = None
    """How long a direct session is attributed to the last non-direct touchpoint. Default: 90, in `ua` 183."""
    max_events: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    max_age_hours: Annotated[int, Meta(ge=1, le=720)] = 24

    @property
    def timeout_ms(self) -> int:
        """Inactivity that ends a session."""
        return self.timeout_minutes * MINUTE_MS

    @property
    def grace_ms(self) -> int:
        """How late a click may arrive."""
        return self.grace_minutes * MINUTE_MS

    @property
    def max_age_ms(self) -> int:
        """How long a session may last."""
        return self.max_age_hours * HOUR_MS

    @property
    def campaign_timeout_ms(self) -> int:
        """How long a direct session is attributed to the last non-direct touchpoint, inclusive."""
        days = self.campaign_timeout_days
        return (days if days is not None else 183 if self.profile == "ua" else 90) * DAY_MS


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights by position on the path. With two touchpoints there is nothing between them."""

    first: Decimal
    middle: Decimal
    """Shared by all between the first and the last."""
    last: Decimal


class FactorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor for touchpoints that meet all of `all` and, if given, one of `any`."""

    factor: Decimal
    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()


class CustomModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[attribution.custom_models]]`: weight = position × factor × decay, normalised (semantics 33)."""

    name: str
    position: Position | None = None
    """None: all alike."""
    multipliers: dict[str, Decimal] = {}
    """Factor by channel."""
    rules: tuple[FactorRule, ...] = ()
    """The first that matches gives the factor, in place of the channel's."""
    half_life_days: Decimal | None = None
    count_direct: bool = False
    lookback_days: int | None = None
    """Shorter than a conversion's own; None: as long."""


class AttributionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[attribution]`: how far a conversion looks back."""

    lookback_days: Annotated[int, Meta(ge=1, le=400)] = 90
    acquisition_lookback_days: Annotated[int, Meta(ge=1, le=400)] = 30
    """For goals marked `acquisition`."""
    count_direct: bool = False
    path_transform: PathTransform = "none"
    custom_models: tuple[CustomModel, ...] = ()
    persons: bool = True
    """A conversion sees the touchpoints of its user on all clients; else those of its own client, whoever used it."""


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[goals]]`: what a conversion's goal means. Goals that are not listed are plain."""

    name: str
    kind: GoalKind = "other"
    acquisition: bool = False
    """Wins a new client: looks back 30 days instead of 90."""
    offline: bool = False
    """Happens off the site: never starts or extends a session."""


class JourneyRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that shapes sessions and conversions, besides the source rules."""

    sessions: SessionRules = SessionRules()
    attribution: AttributionRules = AttributionRules()
    goals: tuple[Goal, ...] = ()
    currency: str = "EUR"
    timezone: str = "UTC"
    referral_lookback_days: int = 0
    """The longest lookback of a referral programme."""

    @property
    def client_life_ms(self) -> int:
        """How long after its last event a client is remembered, grace apart (semantics 25)."""
        attribution = self.attribution
        lookback = max(attribution.lookback_days, attribution.acquisition_lookback_days, self.referral_lookback_days)
        return max(CLIENT_LIFE_DAYS * DAY_MS, lookback * DAY_MS, self.sessions.campaign_timeout_ms)

    def digest(self) -> str:
        """A short name of these rules, for `rules_version`."""
        return blake2b(msgspec.json.encode(self, order="sorted"), digest_size=6).hexdigest()
