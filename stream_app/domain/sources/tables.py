"""The reference tables as plain data. `stream_app.reference.load()` builds them from TOML."""

from __future__ import annotations

from typing import Literal

import msgspec

from stream_app.domain.channels import Category

Kind = Literal["search", "social", "ai", "mail", "messenger", "shopping", "video", "ads", "excluded", "service"]
"""What a known site is to an arrival. `ads`: hosts of paid networks. `excluded`: payment, login and confirmation
hosts, which never are a source. `service`: known by name and otherwise a plain referral (Google Docs)."""


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One platform, engine or service.

    `hosts` are host patterns, each with an optional path prefix: `facebook.com` (and every subdomain),
    `x.com/i/grok`, `google.*` (over every public suffix). The longest host wins, then the longest path.
    `packages` are the names of its apps (`android-app://…`). `aliases` are names it has in tags (`fb`).
    `source` is the short name under which it shows (engines); without it the host shows.
    """

    name: str
    hosts: tuple[str, ...] = ()
    source: str = ""
    packages: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    charsets: tuple[str, ...] = ()
    portal: bool = False
    """A portal with other pages as well: a search only when there is a keyword."""
    medium: str = ""
    category: Category | None = None
    """What it sells, where that is not what its kind of table says (a video search)."""
    over: tuple[Kind, ...] = ()
    """Kinds of tables that may hold the same host and lose it to this entry."""
    origin: str = ""


class ReferrerCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a click id says when the referrer is on a certain host."""

    host: str
    source: str = ""
    platform: str = ""
    category: Category | None = None
    medium: str = ""
    extended_only: bool = False
    """Google Analytics makes no such difference; its profile skips the case."""


class ClickId(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A click id: the platform that adds it to links, and what it proves.

    Without a `medium` it names the platform only (Meta adds `fbclid` to organic links too): the visit is then what a
    referrer of that platform would make it.
    """

    name: str
    platform: str
    source: str
    medium: str = ""
    category: Category | None = None
    by_referrer: tuple[ReferrerCase, ...] = ()
    google: bool = False
    """One of those that `auto_tag_wins` is about."""
    origin: str = ""


class ReferenceTables(msgspec.Struct, frozen=True):
    """All tables. `click_ids` stand in order of precedence; `ga_categories` maps lower-case sources."""

    sites: dict[Kind, tuple[Site, ...]] = {}
    click_ids: tuple[ClickId, ...] = ()
    spam: frozenset[str] = frozenset()
    ga_categories: dict[str, Category] = {}
    ai_crawlers: dict[str, str] = {}
