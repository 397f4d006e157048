"""What a site's owner settles about sources: the part of the settings that resolution reads."""

from __future__ import annotations

from typing import Literal

import msgspec

Field = Literal[
    "source",
    "medium",
    "campaign",
    "term",
    "content",
    "platform",
    "landing_host",
    "landing_path",
    "referrer_host",
    "click_id_type",
]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One test of one field, without regard to case. Exactly one of the tests is given; `not` turns it round."""

    field: Field
    equals: str | None = None
    contains: str | None = None
    starts: str | None = None
    ends: str | None = None
    regex: str | None = None
    one_of: tuple[str, ...] | None = None
    negate: bool = msgspec.field(name="not", default=False)


class ChannelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A custom rule: a channel for what meets all of `all` and, if given, one of `any`; or, with `exclude`, a
    technical source that is no source at all."""

    channel: str = ""
    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()
    exclude: bool = False


class OfflineSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a tracking number or address stands for."""

    source: str
    medium: str = "offline"
    campaign: str = "(not set)"
    term: str = ""
    content: str = ""


class SourceRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings of `[site]`, `[sources]`, `[phone_numbers]` and `[[programs]]` that decide about sources."""

    own_domains: tuple[str, ...] = ()
    """Your sites. A referrer on their registrable domains or any subdomain is internal."""
    profile: Literal["ga4", "extended"] = "extended"
    auto_tag_wins: bool = False
    """Google's order: a Google click id wins over tags in source and medium."""
    excluded_referrers: tuple[str, ...] = ()
    """`host` or `host/path`, besides the built-in payment and login hosts. A leading dot is allowed."""
    known_exclusions: bool = True
    """Whether the built-in payment and login hosts are excluded."""
    rules: tuple[ChannelRule, ...] = ()
    phone_numbers: dict[str, OfflineSource] = {}
    """Tracking numbers, and e-mail addresses, with what they stand for."""
    referral_parameters: tuple[str, ...] = ()
    """Query parameters that carry a referral code (`link_parameters` of the programmes)."""
    referral_prefixes: tuple[str, ...] = ()
    """Beginnings of paths that a referral code follows (`path_prefixes` of the programmes)."""
