"""From one click to the source of the visit: the rules of resolution in their order."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from stream_app.domain import channels
from stream_app.domain.bots import BotDetector
from stream_app.domain.cache import BoundedCache
from stream_app.domain.channels import Category
from stream_app.domain.sources.custom import CustomRules, RuleInput
from stream_app.domain.sources.drafts import Draft
from stream_app.domain.sources.hosts import (
    MAX_URL,
    Place,
    name_suffixes,
    registrable_domain,
    split_url,
    without_alias_prefixes,
    without_www,
)
from stream_app.domain.sources.matching import Match, SiteMatcher, split_pattern
from stream_app.domain.sources.model import DIRECT, NOT_SET, Arrival, Explanation, Source, Step
from stream_app.domain.sources.offline import OfflineSources
from stream_app.domain.sources.referrers import NO_SOURCE, OWN_EXCLUSION, Referrer, Referrers
from stream_app.domain.sources.rules import SourceRules
from stream_app.domain.sources.tables import ClickId, Kind, ReferenceTables, Site
from stream_app.domain.sources.tags import CROSS_DOMAIN, REFERRAL_LINK, Found, TagScanner, TagSet, tag_sets
from stream_app.domain.sources.text import decode_keyword

DIRECT_ARRIVAL: Final = Arrival("direct", DIRECT)

_LONGEST_CACHED: Final = 512
"""Characters of a cache key; what is longer is worked out anew, so that memory stays bounded."""

_MEDIUM_OF_KIND: Final[dict[Kind, str]] = {
    "search": "organic",
    "social": "social",
    "ai": "ai-assistant",
    "mail": "email",
    "messenger": "messenger",
    "shopping": "shopping",
    "video": "video",
    "ads": "display",
    "service": "referral",
    "excluded": "referral",
}
_SAME_IN_GA4: Final = frozenset(("search", "ai", "mail"))
_CATEGORY_OF_KIND: Final[dict[Kind, Category]] = {
    "search": "search",
    "social": "social",
    "ai": "ai",
    "mail": "mail",
    "messenger": "messenger",
    "shopping": "shopping",
    "video": "video",
}


class SourceResolver:
    """Resolves clicks to sources by the rules of one site's settings and the reference tables.

    What repeats is cached: referrers by host, tags by their set, so that most clicks cost a few dict lookups.
    Arrivals and sources are shared between clicks. Not thread-safe.
    """

    def __init__(self, rules: SourceRules, tables: ReferenceTables, *, cache_size: int = 8_192) -> None:
        self._rules = rules
        self._ga4 = rules.profile == "ga4"
        self._custom = CustomRules(rules.rules)
        self._matcher = SiteMatcher(tables.sites)
        self._click_ids = {click_id.name.lower(): click_id for click_id in tables.click_ids}
        self._ga_categories = tables.ga_categories
        self._referrers = Referrers(rules, self._matcher, tables.spam, tables.ga_categories, cache_size)
        self._lately = self._referrers.lately.get
        parameters, prefixes = ((), ()) if self._ga4 else (rules.referral_parameters, rules.referral_prefixes)
        self._scanner = TagScanner(self._click_ids, parameters, prefixes)
        self._has_paths = bool(prefixes)
        self._offline = OfflineSources(rules.phone_numbers)
        self._bots = BotDetector(tables.ai_crawlers, cache_size=1_024)
        self._pages: BoundedCache[str, str] = BoundedCache(cache_size)
        self._arrivals: BoundedCache[tuple[Found | None, str, str], Arrival] = BoundedCache(cache_size)
        self._shared: BoundedCache[Arrival, Arrival] = BoundedCache(cache_size)
        self.bad_referrers = 0
        """How many referrers could not be read and were taken as none."""

    # --- one click -----------------------------------------------------------------------------------

    def resolve(self, url: str, referrer: str = "") -> Arrival:
        """What a click brings. Never raises: what cannot be read is taken as not there."""
        if referrer:
            cut = referrer.find("/", 8)
            origin = referrer if cut < 0 else referrer[:cut]
            known = self._lately(origin)
            if known is None:
                known = self._referrers.judge(referrer, origin)
            if known.final is not None:
                return known.final
            if known.bad:
                self.bad_referrers += 1
            elif known.registrable and known.registrable == self._page_domain(url):
                return NO_SOURCE
        else:
            cut = -1
            known = self._referrers.none
        if "?" in url or "#" in url or (self._has_paths and self._scanner.is_referral_path(url)):
            landed = self._by_landing(known, url)
            if landed is not None:
                return landed
        if self._custom.needs_landing:
            return self._cached((None, referrer, _without_query(url)), known, url, referrer)
        if known.by_path and cut >= 0 and cut + 1 != len(referrer):
            return self._cached((None, referrer, ""), known, url, referrer)
        if known.bare is None:
            known.bare = self._from_referrer(known, url, "" if cut >= 0 else referrer, None)
        return known.bare

    def _by_landing(self, known: Referrer, url: str) -> Arrival | None:
        """What the landing page's parameters say; None if nothing."""
        found = self._scanner.scan(url)
        if found is None:
            return None
        key = (found, known.host, _without_query(url) if self._custom.needs_landing else "")
        arrival = self._arrivals.get(key)
        if arrival is None:
            arrival = self._from_landing(found, known, url, None)
            if arrival is not None and sum(len(value) for _, value in found) + len(key[2]) <= _LONGEST_CACHED:
                self._arrivals.put(key, arrival)
        return arrival

    def _cached(self, key: tuple[Found | None, str, str], known: Referrer, url: str, referrer: str) -> Arrival:
        arrival = self._arrivals.get(key)
        if arrival is None:
            arrival = self._from_referrer(known, url, referrer, None)
            if len(key[1]) + len(key[2]) <= _LONGEST_CACHED:
                self._arrivals.put(key, arrival)
        return arrival

    def explain(self, url: str, referrer: str = "", user_agent: str = "") -> Explanation:
        """The same as `resolve`, with every rule that was looked at."""
        trace: list[Step] = []
        kind = self._bots.kind(user_agent)
        name = self._bots.ai_crawler(user_agent)
        bot = f"{kind}: {name}" if name else kind
        trace.append(Step("bot", f"yes, {bot}: counted apart, no session" if bot else "no"))
        known = self._referrers.judge(referrer, trace=trace) if referrer else self._referrers.none
        if not referrer:
            trace.append(Step("referrer", "none"))
        if known.final is not None:
            arrival = known.final
        elif known.registrable and known.registrable == self._page_domain(url):
            trace.append(Step("internal", f"{known.host} is on the page's own domain"))
            arrival = NO_SOURCE
        else:
            found = self._scanner.scan(url)
            landed = self._from_landing(found, known, url, trace) if found else None
            arrival = landed or self._from_referrer(known, url, referrer, trace)
        decisive = [step for step in trace if step.rule != "channel"][: 1 if bot else None]
        channel_rule = next((step.verdict for step in reversed(trace) if step.rule == "channel"), "")
        return Explanation(arrival, decisive[-1].rule if decisive else "direct", channel_rule, bot, tuple(trace))

    def cache_sizes(self) -> dict[str, int]:
        """How many entries each cache holds."""
        return {
            "referrers": len(self._referrers),
            "pages": len(self._pages),
            "arrivals": len(self._arrivals),
            "shared": len(self._shared),
        }

    # --- sources that come without a click -----------------------------------------------------------

    def of_call(self, called_number: str = "", called_email: str = "") -> Source | None:
        """The source that a tracking number or address stands for; None if it is not ours."""
        entry = self._offline.find(called_number, called_email)
        if entry is None:
            return None
        return self.of_fields(entry.source, entry.medium, entry.campaign, term=entry.term, content=entry.content)

    def of_programme(self) -> Source | None:
        """What a conversion with a referral programme's code arrived by: the same as a visit through its link. None
        where such a visit is no arrival either: in `ga4`, or by a custom rule."""
        return None if self._ga4 else self._finish(_programme(TagSet()), "", "", None).source

    def of_fields(
        self, source: str, medium: str = "", campaign: str = "", *, term: str = "", content: str = ""
    ) -> Source:
        """The source that explicit fields name: an offline conversion, a lead born in a CRM, a cost."""
        tags = TagSet(source.strip().lower(), medium.strip().lower(), campaign.strip(), term.strip(), content.strip())
        arrival = self._finish(Draft(tags.source, tags.medium, tags, arrival="tagged"), "", "", None)
        return arrival.source if arrival.source is not None else DIRECT

    def explain_fields(self, source: str, medium: str = "", campaign: str = "") -> Explanation:
        """The same as `of_fields`, with the rule that gave the channel."""
        trace = [Step("fields", "source, medium and campaign are given")]
        tags = TagSet(source.strip().lower(), medium.strip().lower(), campaign.strip())
        arrival = self._finish(Draft(tags.source, tags.medium, tags, arrival="tagged"), "", "", trace)
        return Explanation(arrival, "fields", trace[-1].verdict, "", tuple(trace))

    def assign_channel(
        self,
        source: str,
        medium: str,
        campaign: str = "",
        *,
        term: str = "",
        content: str = "",
        platform: str = "",
    ) -> str:
        """The channel of explicit tags in the profile of the settings, custom rules first."""
        source, medium = source.strip().lower(), medium.strip().lower()
        site = self._matcher.of_name(source) if source else None
        facts = RuleInput(source, medium, campaign, term, content, platform or (site.site.name if site else ""))
        custom = self._custom.first(facts) if self._custom else None
        if custom is not None and custom[1].channel:
            return custom[1].channel
        if not source and not medium and not campaign.strip():
            return channels.DIRECT
        category = site.site.category or _CATEGORY_OF_KIND.get(site.kind) if site else None
        return self._channel(source, medium, campaign, None, category, resolved=False)

    def _page_domain(self, url: str) -> str:
        """The registrable domain of a landing page."""
        cut = url.find("/", 8)
        origin = url[:MAX_URL] if cut < 0 else url[:cut]
        domain = self._pages.entries.get(origin)
        if domain is None:
            place = split_url(origin)
            domain = registrable_domain(place.host) if place else ""
            if len(origin) <= 512:
                self._pages.put(origin, domain)
        return domain

    # --- decisions -----------------------------------------------------------------------------------

    def _from_landing(self, found: Found, known: Referrer, url: str, trace: list[Step] | None) -> Arrival | None:
        """The rules that the landing page's parameters decide, in their order: cross-domain link, tags, click ids,
        referral link. None if they say nothing."""
        names = {name for name, _ in found}
        if CROSS_DOMAIN in names:
            _note(trace, "cross-domain", f"{CROSS_DOMAIN} is in the link: the visit goes on")
            return NO_SOURCE
        draft = self._from_tags(found, names, known, trace)
        return None if draft is None else self._finish(draft, url, known.host, trace)

    def _from_tags(self, found: Found, names: set[str], known: Referrer, trace: list[Step] | None) -> Draft | None:
        tags = tag_sets(found)
        click_id = next((entry for name, entry in self._click_ids.items() if name in names), None)
        draft = self._from_click_id(click_id, known) if click_id else None
        if tags.given:
            google = click_id is not None and click_id.google
            if draft is not None and google and self._rules.auto_tag_wins:
                _note(trace, "click id", f"{draft.click_id} wins over tags (auto_tag_wins): {draft.platform}")
                return draft.with_tags(tags)
            _note(trace, "tags", f"{tags.family} tags: {_show(tags)}")
            return self._tagged(tags, draft, trace)
        if draft is not None:
            _note(trace, "click id", f"{draft.click_id}: {draft.platform}")
            return draft.with_tags(tags)
        if REFERRAL_LINK in names:
            _note(trace, "referral link", "the link carries a code of a referral programme")
            return _programme(tags)
        return None

    def _tagged(self, tags: TagSet, draft: Draft | None, trace: list[Step] | None) -> Draft:
        source, medium, click_id = tags.source, tags.medium, ""
        carried = None
        if draft is not None:
            carried = None if source else draft.carried
            source, medium, click_id = source or draft.source, medium or draft.medium, draft.click_id
            _note(trace, "tags", f"{click_id} is kept as evidence and fills in what the tags left open")
        if tags.family == "openstat" and (match := self._matcher.of_name(source)) and match.kind == "ads":
            # Openstat has no field for the medium; an advertising network says it by its name, and what it sells.
            medium, carried = medium or "cpc", match.site.category
        return Draft(
            source, medium, tags, arrival="tagged", click_id=click_id, platform=tags.source_platform, carried=carried
        )

    def _from_click_id(self, click_id: ClickId, known: Referrer) -> Draft:
        source, platform, medium, category = click_id.source, click_id.platform, click_id.medium, click_id.category
        for case in click_id.by_referrer:
            if known.host and case.host in name_suffixes(known.host) and not (self._ga4 and case.extended_only):
                source, platform = case.source or source, case.platform or platform
                medium, category = case.medium or medium, case.category or category
                break
        if not medium:
            medium = "referral" if self._ga4 else category or "referral"
        return Draft(
            source, medium, TagSet(), arrival="auto_tagged", click_id=click_id.name, platform=platform, carried=category
        )

    def _from_referrer(self, known: Referrer, url: str, referrer: str, trace: list[Step] | None) -> Arrival:
        """The rules about the referrer, in their order: excluded, known sites, plain referral, direct. Without a
        `referrer` nothing stands behind the host."""
        host = known.host
        if not host:
            _note(trace, "direct", "nothing names a source")
            return self._finish(_DIRECT_DRAFT, url, "", trace) if self._custom else DIRECT_ARRIVAL
        if known.package is not None:
            return self._from_package(known.package, host, url, trace)
        place = (split_url(referrer) if known.by_path and referrer else None) or Place("", host, "", "", "")
        path = place.path or "/"
        portal: Match | None = None
        for match in known.matches:
            if match.path and not path.startswith(match.path):
                continue
            if match.kind == "excluded":
                if match.site is not OWN_EXCLUSION and not self._rules.known_exclusions:
                    continue
                _note(trace, "excluded referrer", f"{match.pattern}{match.path} ({match.site.name}): the visit goes on")
                return Arrival("none", None, without_www(host))
            keyword = ""
            if match.kind == "search":
                keyword = _keyword(place, match.site)
                if match.site.portal and not keyword:
                    portal = portal or match
                    continue
            return self._from_site(match, host, keyword, url, trace)
        if portal is not None:
            _note(trace, "referral", f"{portal.pattern} is a portal with a search, and there is no keyword")
        else:
            _note(trace, "referral", f"a link on {host}, which is in no table")
        platform = without_alias_prefixes(host, known.registrable)
        kind: Kind | None = None if portal is None else "service"
        draft = Draft(without_www(host), "referral", TagSet(), platform=platform, kind=kind, referral=True)
        return self._finish(draft, url, host, trace)

    def _from_site(self, match: Match, host: str, keyword: str, url: str, trace: list[Step] | None) -> Arrival:
        site, kind = match.site, match.kind
        source = without_www(host) if kind == "service" else site.source or without_www(host)
        _note(trace, _RULE_OF_KIND[kind], f"{match.pattern}{match.path} is {site.name}")
        return self._finish(
            Draft(source, self._medium(kind, site), TagSet(), platform=site.name, keyword=keyword, kind=kind,
                   category=site.category, referral=kind == "service"),
            url, host, trace,
        )  # fmt: skip

    def _from_package(self, match: Match, package: str, url: str, trace: list[Step] | None) -> Arrival:
        site, kind = match.site, match.kind
        if kind == "excluded":
            _note(trace, "excluded referrer", f"the app {package} ({site.name}): the visit goes on")
            return Arrival("none", None, package)
        if not site.name:
            _note(trace, "referral", f"the app {package}, which is in no table")
        else:
            _note(trace, _RULE_OF_KIND[kind], f"the app {package} is {site.name}")
        source = site.source or (split_pattern(site.hosts[0])[0] if site.hosts and site.name else package)
        return self._finish(
            Draft(without_www(source), self._medium(kind, site), TagSet(), platform=site.name or package, kind=kind,
                   referral=kind == "service"),
            url, package, trace,
        )  # fmt: skip

    def _medium(self, kind: Kind, site: Site) -> str:
        if self._ga4 and kind not in _SAME_IN_GA4:
            return "referral"
        return site.medium or _MEDIUM_OF_KIND[kind]

    def _finish(self, draft: Draft, url: str, referrer_host: str, trace: list[Step] | None) -> Arrival:
        """Complete a draft: platform by name, custom rules, channel; shared with equal ones."""
        tags = draft.tags
        source, medium = draft.source or NOT_SET, draft.medium or NOT_SET
        kind, platform = draft.kind, draft.platform
        if draft.arrival == "tagged" and draft.source:
            match = self._matcher.of_name(draft.source)
            if match is not None:
                kind = match.kind
                platform = platform or match.site.name
        custom = None
        if self._custom:
            custom = self._custom.first(self._rule_input(source, medium, draft, platform, url, referrer_host))
        if custom is not None and custom[1].exclude:
            _note(trace, "custom rule", f"rule {custom[0]} excludes this source: the visit goes on")
            return Arrival("none", None, referrer_host)
        if custom is not None:
            channel = custom[1].channel
            _note(trace, "channel", f"custom rule {custom[0]}: {channel}")
        else:
            resolved = draft.arrival != "tagged"
            category = draft.category or (_CATEGORY_OF_KIND.get(kind) if kind else None)
            listed = self._ga4 or kind not in _NOT_IN_CATEGORIES
            channel = self._channel(
                source, medium, tags.campaign, draft.carried, category, resolved=resolved, listed=listed
            )
            _note(trace, "channel", f"{self._rules.profile}: {channel}")
        result = Source(
            source=source,
            medium=medium,
            campaign=tags.campaign or NOT_SET,
            term=tags.term,
            content=tags.content,
            source_platform=platform,
            channel=channel,
            click_id_type=draft.click_id,
            arrival=draft.arrival,
            campaign_id=tags.id,
            keyword=draft.keyword,
        )
        if draft is _DIRECT_DRAFT:
            arrival = Arrival("direct", result)
        else:
            arrival = Arrival(
                "referral" if draft.referral else "source", result, referrer_host if draft.referral else ""
            )
        shared = self._shared.get(arrival)
        if shared is None:
            shared = arrival
            self._shared.put(arrival, arrival)
        return shared

    def _rule_input(
        self, source: str, medium: str, draft: Draft, platform: str, url: str, referrer_host: str
    ) -> RuleInput:
        landing = split_url(url) if self._custom.needs_landing else None
        return RuleInput(
            source,
            medium,
            draft.tags.campaign,
            draft.tags.term or draft.keyword,
            draft.tags.content,
            platform,
            landing.host if landing else "",
            landing.path if landing else "",
            referrer_host,
            draft.click_id,
        )

    def _channel(
        self,
        source: str,
        medium: str,
        campaign: str,
        carried: Category | None,
        category: Category | None,
        *,
        resolved: bool,
        listed: bool = True,
    ) -> str:
        name = source.lower()
        ga_category = self._ga_categories.get(name) if listed or not resolved else None
        facts = channels.Facts(
            source=name,
            medium=medium.lower(),
            campaign=campaign.lower(),
            ga_category=carried or ga_category,
            category=carried or category,
            resolved=resolved,
        )
        return channels.ga4_channel(facts) if self._ga4 else channels.extended_channel(facts)


_DIRECT_DRAFT: Final = Draft("(direct)", "(none)", TagSet(), arrival="direct")


def _programme(tags: TagSet) -> Draft:
    name = channels.REFERRAL_PROGRAMME_MEDIUM
    return Draft(name, name, tags, arrival="auto_tagged", platform="Referral programme")


_NOT_IN_CATEGORIES: Final = frozenset(("service", "ads"))
"""Kinds of our own tables that say better than Google's categories what a host is (link shorteners are not social)."""

_RULE_OF_KIND: Final[dict[Kind, str]] = {
    "search": "search engine",
    "social": "social network",
    "ai": "AI assistant",
    "mail": "webmail",
    "messenger": "messenger",
    "shopping": "shopping",
    "video": "video",
    "ads": "advertising network",
    "service": "referral",
    "excluded": "excluded referrer",
}


def _note(trace: list[Step] | None, rule: str, verdict: str) -> None:
    if trace is not None:
        trace.append(Step(rule, verdict))


def _show(tags: TagSet) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in tags._asdict().items() if value and name != "family")


def _without_query(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]


def _keyword(place: Place, site: Site) -> str:
    """What was searched for, by the engine's parameters; the path segment behind a parameter that starts with `/`."""
    if not site.keywords:
        return ""
    if place.query or place.fragment:
        values: dict[str, str] = {}
        for part in (place.query or place.fragment).split("&"):
            name, _, value = part.partition("=")
            if value and name not in values:
                values[name] = value
        for name in site.keywords:
            if name in values:
                return decode_keyword(values[name], site.charsets)
    for name in site.keywords:
        if name.startswith("/") and name in place.path:
            segment = place.path.partition(name)[2].partition("/")[0]
            if segment:
                return decode_keyword(unquote(segment) if "%25" in segment else segment, site.charsets)
    return ""
