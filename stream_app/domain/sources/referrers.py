"""What a referrer's host says, before any landing page is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stream_app.domain.cache import BoundedCache
from stream_app.domain.channels import Category
from stream_app.domain.sources.hosts import name_suffixes, registrable_domain, split_url, without_www
from stream_app.domain.sources.matching import Match, SiteMatcher, split_pattern
from stream_app.domain.sources.model import Arrival, Step
from stream_app.domain.sources.rules import SourceRules
from stream_app.domain.sources.tables import Site

NO_SOURCE: Final = Arrival("none", None)
OWN_EXCLUSION: Final = Site("in the settings")

_NONE_TEXTS: Final = frozenset(("", "-", "null", "undefined", "none", "(direct)", "about:blank", "about:client"))
_WEB_SCHEMES: Final = frozenset(("", "http", "https"))
_APP_SCHEMES: Final = frozenset(("android-app", "ios-app", "app"))
_LONGEST_CACHED: Final = 512


class Referrer:
    """A referrer's host and what is known of it, worked out once per host.

    `final` is set where the host alone decides, whatever the landing page carries. `bare` is the arrival of an
    untagged visit, kept by the resolver; with `by_path` it holds only when nothing stands behind the host.
    """

    __slots__ = ("bad", "bare", "by_path", "final", "host", "matches", "package", "registrable")

    def __init__(
        self,
        host: str = "",
        registrable: str = "",
        *,
        final: Arrival | None = None,
        bad: bool = False,
        package: Match | None = None,
    ) -> None:
        self.host = host
        self.registrable = registrable
        self.final = final
        self.bad = bad
        self.matches: tuple[Match, ...] = ()
        self.package = package
        self.bare: Arrival | None = None
        self.by_path = False

    def by_itself(self) -> Referrer:
        """The same knowledge for one referrer only, path and query included."""
        copy = Referrer(self.host, self.registrable, final=self.final, bad=self.bad, package=self.package)
        copy.matches, copy.by_path = self.matches, self.by_path
        return copy


class Referrers:
    """Judges referrers by their hosts: own, spam, excluded, known sites, apps; keeps what it found by origin."""

    def __init__(
        self,
        rules: SourceRules,
        matcher: SiteMatcher,
        spam: frozenset[str],
        ga_categories: Mapping[str, Category],
        cache_size: int,
    ) -> None:
        self._matcher = matcher
        self._spam = spam
        self._ga_categories = ga_categories
        self._excluded = _excluded_patterns(rules.excluded_referrers)
        self._own_domains = frozenset(_own_domain(domain) for domain in rules.own_domains)
        self._own_names = frozenset(name.lower() for name in rules.own_domains)
        self._origins: BoundedCache[str, Referrer] = BoundedCache(cache_size)
        self.none = Referrer()
        self.bad = Referrer(bad=True)
        self.lately = self._origins.entries
        """What is known of the origins (`https://host`) that came lately."""

    def __len__(self) -> int:
        return len(self._origins)

    def judge(self, referrer: str, origin: str = "", trace: list[Step] | None = None) -> Referrer:
        """What is known of a referrer's host; kept under the origin when that says it all."""
        if origin and (kept := self._origins.get(origin)) is not None:
            return kept
        known = self._judge(referrer)
        if trace is not None:
            trace.append(self._step(known, referrer))
        if origin and len(origin) <= _LONGEST_CACHED:
            # An origin with more than scheme and host in it ("google.com?q=a") must not speak for others.
            scheme, separator, rest = origin.partition("://")
            clean = bool(separator and rest) and "%" not in scheme and not any(mark in rest for mark in "/?#\\%")
            if clean:
                self._origins.put(origin, known)
            elif len(origin) == len(referrer):
                self._origins.put(origin, known.by_itself())
        return known

    def _judge(self, referrer: str) -> Referrer:
        if referrer.strip().lower() in _NONE_TEXTS:
            return self.none
        place = split_url(referrer)
        if place is None:
            return self.bad
        if place.scheme in _WEB_SCHEMES:
            return self._judge_host(place.host)
        if place.scheme in _APP_SCHEMES:
            return self._judge_package(place.host)
        return self.bad

    def _judge_host(self, host: str) -> Referrer:
        registrable = registrable_domain(host)
        if registrable in self._own_domains:
            return Referrer(host, final=NO_SOURCE)
        names = name_suffixes(host)
        if any(name in self._spam for name in names):
            return Referrer(host, final=Arrival("spam", None, host))
        known = Referrer(host, registrable)
        own_exclusions = (
            Match("excluded", OWN_EXCLUSION, name, path) for name in names for path in self._excluded.get(name, ())
        )
        known.matches = (*own_exclusions, *self._matcher.of_host(host, names), *self._by_category(host))
        known.by_path = any(match.path or match.site.keywords for match in known.matches)
        return known

    def _by_category(self, host: str) -> tuple[Match, ...]:
        """A host that only Google's list of categories has: social, shopping or video, but not search, where that list
        means portals as well."""
        name = without_www(host)
        match self._ga_categories.get(name):
            case "social" | "shopping" | "video" as kind:
                return (Match(kind, Site(name), name, ""),)
            case _:
                return ()

    def _judge_package(self, package: str) -> Referrer:
        if package in self._own_names:
            return Referrer(package, final=NO_SOURCE)
        return Referrer(package, package=self._matcher.of_package(package) or Match("service", Site(""), package, ""))

    def _step(self, known: Referrer, referrer: str) -> Step:
        if known is self.none:
            return Step("referrer", "none")
        if known.bad:
            return Step("referrer", f"{referrer[:80]!r} cannot be read as one: taken as none")
        if known.final is not None and known.final.kind == "spam":
            return Step("referrer spam", f"{known.host} is on the list: no session, counted apart")
        if known.final is not None:
            return Step("internal", f"{known.host} is one of your own domains: no new source")
        return Step("referrer", f"{'app' if known.package else 'host'} {known.host}")


def _own_domain(domain: str) -> str:
    place = split_url(domain.strip().lstrip("."))
    return registrable_domain(place.host) if place else domain.strip().lower()


def _excluded_patterns(patterns: tuple[str, ...]) -> dict[str, list[str]]:
    """Host pattern → path prefixes, the longest first."""
    excluded: dict[str, list[str]] = {}
    for text in patterns:
        host, path = split_pattern(text.partition("://")[2] or text)
        excluded.setdefault(without_www(host), []).append(path)
    for paths in excluded.values():
        paths.sort(key=len, reverse=True)
    return excluded
