"""Referrers as other projects know them: Snowplow's cases, Matomo's lists."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_app.domain.bots import BotDetector
from stream_app.domain.sources import Arrival, ReferenceTables, SourceResolver, SourceRules

from .scores import Score

Rows = Callable[[str], list[dict[str, Any]]]
Lists = Callable[[str], Any]

PAGE = "https://shop.example.org/"
SNOWPLOW_MEDIUM = {"organic": "search", "social": "social", "email": "email"}
# What has been renamed since those cases were written.
RENAMED = {"X": "Twitter", "Orange": "Voila"}


def test_snowplow_cases(rows: Rows, tables: ReferenceTables) -> None:
    """Medium, source and keyword of each referrer, with the page's own hosts."""
    score = Score("referers.jsonl (extended)")
    for row in rows("referers.jsonl"):
        resolver = SourceResolver(SourceRules(own_domains=(row["page_host"], *row["internal_hosts"])), tables)
        arrival = resolver.resolve(f"http://{row['page_host']}/", row["referrer"])
        if arrival.source is None:
            got = {"medium": "internal", "source": None, "term": None}
        else:
            source = arrival.source
            name = RENAMED.get(source.source_platform, source.source_platform)
            got = {"medium": SNOWPLOW_MEDIUM.get(source.medium), "source": name, "term": source.keyword or None}
        score.row(row["name"], got, row["expected"])
    score.settle()


def _arrival(resolver: SourceResolver, entry: str, query: str = "") -> Arrival:
    address = entry.replace("{}", "de")
    if address.startswith("android-app//"):
        return resolver.resolve(PAGE, address)
    is_package = address.startswith(("com.", "org.")) or address == "linkedin.android"
    scheme = "android-app" if is_package else "https"
    return resolver.resolve(PAGE, f"{scheme}://{address}{'' if '/' in address else '/'}{query}")


def _medium(arrival: Arrival) -> str:
    return arrival.source.medium if arrival.source else arrival.kind


def test_every_search_engine_of_matomo_is_known(lists: Lists, extended: SourceResolver) -> None:
    """Each entry, with a keyword where the list names a parameter, is a search with that keyword."""
    accepted = {
        "Baidu zhidao.baidu.com": "questions and answers: a community, as Google's categories have such sites",
        "Baidu tieba.baidu.com": "a forum: social",
        "Digg digg.com": "a social news site; Google's category is social",
        "Facebook www.facebook.com": "a social network, whatever is looked for in it",
        "FriendFeed friendfeed.com": "was a social network; Google's category is social",
        "InfoSpace search.fbdownloader.com": "on Matomo's own list of referrer spam",
        "InfoSpace search.iminent.com": "on Matomo's own list of referrer spam",
        "Yandex yabs.yandex.{}": "the click counter of Yandex Direct: advertising",
    }
    score = Score("SearchEngines.yml, entries (extended)", accepted)
    known: dict[str, bool] = {}
    for name, blocks in lists("SearchEngines.yml").items():
        for block in blocks:
            parameters = [p for p in map(str, block.get("params") or ()) if p.strip() and not p.startswith("/")]
            for entry in block["urls"]:
                arrival = _arrival(extended, entry, f"?{parameters[0]}=two+words" if parameters else "")
                medium = _medium(arrival)
                known[name] = known.get(name, False) or medium in {"organic", "ai-assistant", "social"}
                keyword = arrival.source.keyword if arrival.source else ""
                got: object = (medium, keyword)
                if medium == "ai-assistant" or (medium == "organic" and ("android" in entry or not parameters)):
                    # Apps, and assistants that Matomo lists as engines, too, send no keyword.
                    got = ("organic", "two words")
                score.row(f"{name} {entry}", got, ("organic", "two words"))
    score.settle()
    assert all(known.values()), [name for name, found in known.items() if not found]


def test_every_social_network_of_matomo_is_known(lists: Lists, extended: SourceResolver) -> None:
    """Each entry is social; some are video platforms or messengers, which have channels of their own."""
    accepted = {
        "Windows Live Spaces login.live.com": "Microsoft's sign-in page: excluded; Live Spaces closed in 2011 and is "
        "known by spaces.live.com",
    }
    score = Score("Socials.yml, entries (extended)", accepted)
    known: dict[str, bool] = {}
    for name, entries in lists("Socials.yml").items():
        for entry in entries:
            found = _medium(_arrival(extended, entry)) in {"social", "video", "messenger"}
            known[name] = known.get(name, False) or found
            score.row(f"{name} {entry}", found, expected=True)
    score.settle()
    assert _medium(_arrival(extended, "spaces.live.com")) == "social"
    assert [name for name, found in known.items() if not found] == ["Windows Live Spaces"]


def test_every_assistant_of_matomo_is_known(lists: Lists, extended: SourceResolver, ga4: SourceResolver) -> None:
    """Each entry has medium ai-assistant, in both profiles."""
    score = Score("AIAssistants.yml, entries (both)")
    for name, entries in lists("AIAssistants.yml").items():
        for entry in entries:
            got = (_medium(_arrival(extended, entry)), _medium(_arrival(ga4, entry)))
            score.row(f"{name} {entry}", got, ("ai-assistant", "ai-assistant"))
    score.settle(least=1)


def test_every_spammer_is_spam_and_no_look_alike_is(shared_dir: Path, extended: SourceResolver) -> None:
    """Hosts of the list with and without subdomains; a host that only ends in the same letters is none."""
    score = Score("spammers.txt")
    spammers = (shared_dir / "spammers.txt").read_text(encoding="utf-8").split()
    listed = {host.lower() for host in spammers}
    for host in spammers:
        hosts = (host, f"www.{host}", f"sub.{host}")
        score.row(host, [extended.resolve(PAGE, f"http://{name}/").kind for name in hosts], ["spam"] * 3)
        look_alike = f"not{host}".lower()
        if not any(look_alike == other or look_alike.endswith(f".{other}") for other in listed):
            assert extended.resolve(PAGE, f"http://{look_alike}/").kind != "spam", look_alike
    score.settle(least=1)


def test_bots_of_isbot(lists: Lists, tables: ReferenceTables) -> None:
    """Crawlers are bots and browsers are not. (The library we use was made with these very lists.)"""
    accepted = dict.fromkeys(
        (
            "amazon-kendra-customer-id-<AccountID>",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Amzn-User/0.1) "
            "Chrome/119.0.6045.214 Safari/537.36",
        ),
        "a fetch by an AI service of Amazon, on a user's demand: no visit by a person",
    )
    bots = BotDetector(tables.ai_crawlers)
    score = Score("isbot_crawlers.yml, isbot_browsers.yml", accepted)
    for file, expected in (("isbot_crawlers.yml", True), ("isbot_browsers.yml", False)):
        for user_agents in lists(file).values():
            for user_agent in user_agents:
                score.row(user_agent, bots.is_bot(user_agent), expected)
    score.settle()


def test_a_real_log_of_a_site_makes_sense(shared_dir: Path, tables: ReferenceTables) -> None:
    """Page views of semicomplete.com: own pages are internal, all of Google is Google, no referrer is direct."""
    resolver = SourceResolver(SourceRules(own_domains=("semicomplete.com",)), tables)
    with gzip.open(shared_dir / "apache_pageviews.jsonl.gz", "rt", encoding="utf-8") as file:
        views = [json.loads(line) for line in file]
    kinds: dict[str, int] = {}
    for view in views:
        arrival = resolver.resolve("http://www.semicomplete.com" + view["path"], view["referrer"])
        kinds[arrival.kind] = kinds.get(arrival.kind, 0) + 1
        host = view["referrer"].partition("://")[2].partition("/")[0]
        if host.removeprefix("www.") == "semicomplete.com":
            assert arrival.kind == "none"
        elif "utm_source=" in view["path"]:
            assert arrival.source is not None
            assert arrival.source.arrival == "tagged"
        elif host.startswith("www.google."):
            assert arrival.source is not None
            assert (arrival.source.source, arrival.source.medium) == ("google", "organic")
        elif not view["referrer"]:
            assert arrival.kind == "direct"
    print(f"\napache_pageviews.jsonl.gz: {len(views)} views: {kinds}")
    assert sum(kinds.values()) == len(views) == 2872
