"""From a host, app package or tag to the site it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stream_app.domain.sources.hosts import name_suffixes, normalize_host, registrable_domain, without_www
from stream_app.domain.sources.tables import Kind, Site

_MAIL_HOST = re.compile(
    r"(?:(?:web|e-?)?mail|poczta|posta|pochta|pasts|correo|roundcube|horde|owa|zimbra)\d*[a-z]?\.", re.ASCII
)
_ABOVE_MAIL = frozenset(("excluded", "mail", "ads", "messenger", "ai"))


class Match(NamedTuple):
    """A site that a host pattern names, for paths that start with `path`."""

    kind: Kind
    site: Site
    pattern: str
    path: str


def split_pattern(pattern: str) -> tuple[str, str]:
    """`host/path` as (normalised host pattern, path prefix).

    Raises:
        ValueError: it holds no host.
    """
    host, slash, path = pattern.strip().partition("/")
    wildcard = host.endswith(".*")
    plain = normalize_host(host[:-2] if wildcard else host.removeprefix("."))
    if plain is None:
        raise ValueError(f"no host in {pattern!r}")
    return (plain + ".*" if wildcard else plain), (slash + path if path else "")


def _place(text: str) -> tuple[str, str]:
    """A pattern without `www.`, which says nothing about a site."""
    pattern, path = split_pattern(text)
    return without_www(pattern), path


class SiteMatcher:
    """Matches hosts by label suffix (`google.com` holds `news.google.com`, never `notgoogle.com`) and country domains
    by registrable name (`google.*`). The most specific host wins, then the longest path."""

    def __init__(self, sites: Mapping[Kind, tuple[Site, ...]]) -> None:
        self._hosts: dict[str, list[Match]] = {}
        self._packages: dict[str, Match] = {}
        self._aliases: dict[str, Match] = {}
        overruled = {
            (_place(text), kind)
            for group in sites.values()
            for site in group
            for text in site.hosts
            for kind in site.over
        }
        for kind, group in sites.items():
            for site in group:
                self._add(kind, site, overruled)
        for matches in self._hosts.values():
            matches.sort(key=lambda match: -len(match.path))

    def _add(self, kind: Kind, site: Site, overruled: set[tuple[tuple[str, str], Kind]]) -> None:
        for text in site.hosts:
            pattern, path = _place(text)
            if ((pattern, path), kind) not in overruled:
                self._hosts.setdefault(pattern, []).append(Match(kind, site, pattern, path))
        site_match = Match(kind, site, site.hosts[0] if site.hosts else "", "")
        for package in site.packages:
            self._packages[package.lower()] = site_match
        for alias in (*site.aliases, site.name, site.source):
            if alias:
                self._aliases.setdefault(alias.lower(), site_match)

    def of_host(self, host: str, names: list[str] | None = None) -> tuple[Match, ...]:
        """All that may match a host, in the order in which they are tried.

        A host that says itself that it is for mail (`webmail.example.com`) is webmail, unless it stands in a table
        whole or belongs to a table of hosts that never are a source. `names` are the host's `name_suffixes`, if known.
        """
        matches = tuple(self._of_names(names or name_suffixes(host)))
        if _MAIL_HOST.match(host) and host != registrable_domain(host):
            named = any(match.pattern == without_www(host) or match.kind in _ABOVE_MAIL for match in matches)
            if not named:
                return (Match("mail", Site(host), host, ""), *matches)
        return matches

    def _of_names(self, names: list[str]) -> Iterator[Match]:
        for name in names:
            if name in self._hosts:
                yield from self._hosts[name]

    def of_package(self, package: str) -> Match | None:
        """The site whose app has this package name."""
        return self._packages.get(package.lower())

    def of_name(self, name: str) -> Match | None:
        """The site that a tag's source means: an alias (`fb`), a short name (`google`) or a host."""
        name = name.lower()
        found = self._aliases.get(name)
        if found is not None:
            return found
        if "." in name:
            pattern, _, path = name.partition("/")
            host = normalize_host(pattern)
            if host:
                path = "/" + path
                return next(
                    (m for m in self._of_names(name_suffixes(host)) if path.startswith(m.path) and not m.site.portal),
                    None,
                )
        return None
