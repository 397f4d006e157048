"""Programs told from people."""

from __future__ import annotations

import time

import pytest

from stream_app.domain.bots import BotDetector
from stream_app.domain.sources import ReferenceTables

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"


@pytest.fixture
def bots(tables: ReferenceTables) -> BotDetector:
    return BotDetector(tables.ai_crawlers)


@pytest.mark.parametrize(
    ("user_agent", "kind", "crawler"),
    [
        ("", "", ""),
        ("-", "", ""),
        (CHROME, "", ""),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot", ""),
        ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "bot", ""),
        ("curl/8.5.0", "bot", ""),
        ("python-requests/2.32", "bot", ""),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)", "ai_crawler", "OpenAI GPTBot"),
        ("Mozilla/5.0 (compatible; ClaudeBot/1.0)", "ai_crawler", "Anthropic ClaudeBot"),
        ("Mozilla/5.0 (compatible; PerplexityBot/1.0)", "ai_crawler", "Perplexity"),
        ("CCBot/2.0 (https://commoncrawl.org/faq/)", "ai_crawler", "Common Crawl"),
        (CHROME + " CUBOT/1", "", ""),
    ],
)
def test_kinds(bots: BotDetector, user_agent: str, kind: str, crawler: str) -> None:
    """People, bots, and AI crawlers apart; again from the cache."""
    for _ in range(2):
        assert bots.kind(user_agent) == kind
        assert bots.is_bot(user_agent) == bool(kind)
    assert bots.ai_crawler(user_agent) == crawler


def test_the_data_centre_hook(tables: ReferenceTables) -> None:
    """Asked for people with an address only."""
    bots = BotDetector(tables.ai_crawlers, is_data_centre=lambda ip: ip.startswith("192.0.2."))
    assert bots.kind(CHROME, "192.0.2.1") == "data_centre"
    assert bots.kind(CHROME, "198.51.100.1") == ""
    assert bots.kind(CHROME) == ""
    assert bots.kind("curl/8.5.0", "192.0.2.1") == "bot"


@pytest.mark.parametrize("user_agent", ["a" * 8_000, "(" * 8_000, "a-" * 4_000, "Mozilla/5.0 (" * 600, "1" * 8_000])
def test_hostile_user_agents_are_bounded_in_time(bots: BotDetector, user_agent: str) -> None:
    """Only the beginning is looked at."""
    bots.is_bot("")
    bots.is_bot("warm up")
    started = time.process_time()
    bots.is_bot(user_agent)
    assert time.process_time() - started < 0.1
