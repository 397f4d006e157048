"""Read and validate the tables."""

from __future__ import annotations

import datetime as dt
import functools
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TypeVar, cast, get_args

import msgspec

from stream_app.domain.channels import Category
from stream_app.domain.sources.hosts import name_suffixes, normalize_host
from stream_app.domain.sources.matching import split_pattern
from stream_app.domain.sources.tables import ClickId, Kind, ReferenceTables, Site

KINDS: tuple[Kind, ...] = cast("tuple[Kind, ...]", get_args(Kind))
T = TypeVar("T")
_CATEGORIES: tuple[Category, ...] = ("search", "social", "shopping", "video")


class TableError(ValueError):
    """A table that cannot be right; the text names file, entry and what is wrong."""


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where facts come from, and as of when."""

    title: str
    date: dt.date


class SiteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of sites of one kind."""

    about: str
    origins: dict[str, Origin]
    site: tuple[Site, ...]


class ClickIdFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The click ids, in order of precedence."""

    about: str
    origins: dict[str, Origin]
    click_id: tuple[ClickId, ...]


class NamesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plain names under headings, all of one origin each."""

    about: str
    origins: dict[str, Origin]
    names: dict[str, tuple[str, ...]]


class Crawler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that reads pages for an AI: a part of its user agent, and whose it is."""

    part: str
    name: str
    origin: str


class CrawlerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The AI crawlers."""

    about: str
    origins: dict[str, Origin]
    crawler: tuple[Crawler, ...]


@functools.cache
def load() -> ReferenceTables:
    """The tables that come with the program.

    Raises:
        TableError: a table is wrong.
    """
    return load_from(resources.files(__package__) / "tables")


def load_from(folder: Traversable) -> ReferenceTables:
    """The tables in a folder, one file per kind of site and one each for click ids, spam, GA's source categories and
    AI crawlers.

    Raises:
        TableError: a file is missing or malformed, an entry names no origin, a host cannot be one, or stands in two
            tables (or twice in one) without an `over` that settles which wins.
    """
    sites: dict[Kind, tuple[Site, ...]] = {}
    for kind in KINDS:
        name = f"{kind}.toml"
        table = _read(folder, name, SiteFile)
        for site in table.site:
            _check_site(name, site, table.origins)
        sites[kind] = table.site
    _check_unique(sites)
    spam = _spam(folder)
    _check_not_spam(sites, spam)
    clicks = _read(folder, "click_ids.toml", ClickIdFile)
    for click_id in clicks.click_id:
        _check_origin("click_ids.toml", click_id.name, click_id.origin, clicks.origins)
    if len({click_id.name.lower() for click_id in clicks.click_id}) != len(clicks.click_id):
        raise TableError("click_ids.toml: a click id stands twice")
    return ReferenceTables(
        sites=sites,
        click_ids=clicks.click_id,
        spam=spam,
        ga_categories=_ga_categories(folder),
        ai_crawlers=_crawlers(folder),
    )


def _read(folder: Traversable, name: str, kind: type[T]) -> T:
    try:
        return msgspec.toml.decode((folder / name).read_bytes(), type=kind)
    except OSError as error:
        raise TableError(f"{name}: cannot be read: {error}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise TableError(f"{name}: {error}") from error


def _check_origin(name: str, entry: str, origin: str, origins: dict[str, Origin]) -> None:
    if origin not in origins:
        raise TableError(f"{name}: {entry}: origin {origin!r} is none of {', '.join(origins)}")


def _check_site(name: str, site: Site, origins: dict[str, Origin]) -> None:
    _check_origin(name, site.name, site.origin, origins)
    if not (site.hosts or site.packages or site.aliases):
        raise TableError(f"{name}: {site.name}: names no host, package or alias")
    for host in site.hosts:
        try:
            split_pattern(host)
        except ValueError as error:
            raise TableError(f"{name}: {site.name}: {error}") from error
        if host != host.lower() or "://" in host:
            raise TableError(f"{name}: {site.name}: {host!r}: write hosts in lower case without a scheme")


def _check_unique(sites: dict[Kind, tuple[Site, ...]]) -> None:
    holders: dict[str, list[tuple[Kind, Site]]] = {}
    packages: dict[str, str] = {}
    for kind, group in sites.items():
        for site in group:
            for host in site.hosts:
                holders.setdefault(host.removeprefix("www."), []).append((kind, site))
            for package in site.packages:
                if package.lower() in packages:
                    raise TableError(f"{kind}.toml: {site.name}: package {package} also of {packages[package.lower()]}")
                packages[package.lower()] = site.name
    for host, entries in holders.items():
        if len(entries) == 1:
            continue
        winners = [
            (kind, site) for kind, site in entries if all(other in site.over or other == kind for other, _ in entries)
        ]
        same_table = len({kind for kind, _ in entries}) < len(entries)
        if len(winners) != 1 or same_table:
            places = ", ".join(f"{kind}.toml ({site.name})" for kind, site in entries)
            raise TableError(f"{host} stands in {places}: say with `over` which one wins")


def _check_not_spam(sites: dict[Kind, tuple[Site, ...]], spam: frozenset[str]) -> None:
    for kind, group in sites.items():
        for site in group:
            for text in site.hosts:
                pattern, _ = split_pattern(text)
                if any(name in spam for name in name_suffixes(pattern)):
                    raise TableError(f"{text} stands in {kind}.toml ({site.name}) and is referrer spam by spam.toml")


def _spam(folder: Traversable) -> frozenset[str]:
    table = _read(folder, "spam.toml", NamesFile)
    hosts = [host for group in table.names.values() for host in group]
    for host in hosts:
        if normalize_host(host) is None:
            raise TableError(f"spam.toml: {host!r} is no host")
    return frozenset(normalize_host(host) or host for host in hosts)


def _ga_categories(folder: Traversable) -> dict[str, Category]:
    table = _read(folder, "ga_categories.toml", NamesFile)
    categories: dict[str, Category] = {}
    for heading, names in table.names.items():
        category = next((known for known in _CATEGORIES if known == heading), None)
        if category is None:
            raise TableError(f"ga_categories.toml: {heading!r} is none of {', '.join(_CATEGORIES)}")
        for name in names:
            if name.lower() in categories:
                raise TableError(f"ga_categories.toml: {name!r} stands twice")
            categories[name.lower()] = category
    return categories


def _crawlers(folder: Traversable) -> dict[str, str]:
    table = _read(folder, "ai_crawlers.toml", CrawlerFile)
    for crawler in table.crawler:
        _check_origin("ai_crawlers.toml", crawler.name, crawler.origin, table.origins)
    return {crawler.part: crawler.name for crawler in table.crawler}
