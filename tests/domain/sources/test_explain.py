"""Explanations name the rule that decided."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream_app.domain.sources import SourceResolver

SHOP = "https://shop.example.com/"


@pytest.mark.parametrize(
    ("landing", "referrer", "rule"),
    [
        ("", "https://shop.example.com/", "internal"),
        ("", "https://semalt.com/", "referrer spam"),
        ("?_gl=1*x", "https://partner.example/", "cross-domain"),
        ("?utm_source=a", "https://www.google.com/", "tags"),
        ("?gclid=1", "", "click id"),
        ("", "https://www.paypal.com/", "excluded referrer"),
        ("", "https://www.google.com/", "search engine"),
        ("", "https://chatgpt.com/", "AI assistant"),
        ("", "https://t.co/x", "social network"),
        ("", "https://mail.ru/", "webmail"),
        ("", "https://t.me/x", "messenger"),
        ("", "https://ozon.ru/", "shopping"),
        ("", "https://youtu.be/", "video"),
        ("", "https://doubleclick.net/", "advertising network"),
        ("", "https://blog.example/", "referral"),
        ("", "file:///x", "direct"),
        ("", "", "direct"),
    ],
)
def test_the_deciding_rule(extended: SourceResolver, landing: str, referrer: str, rule: str) -> None:
    """One name per rule of section 1."""
    told = extended.explain(SHOP + landing, referrer)
    assert told.decided_by == rule
    assert told.arrival == extended.resolve(SHOP + landing, referrer)


def test_bots_are_told(extended: SourceResolver) -> None:
    """Kind and, for AI crawlers, whose."""
    assert extended.explain(SHOP, "", "Mozilla/5.0 (compatible; Googlebot/2.1)").bot == "bot"
    assert extended.explain(SHOP, "", "Mozilla/5.0 (compatible; GPTBot/1.2)").bot == "ai_crawler: OpenAI GPTBot"
    assert extended.explain(SHOP, "", "curl/8.5.0").decided_by == "bot"
    assert extended.explain(SHOP, "", "").bot == ""


def test_the_channel_rule_is_told(make: Callable[..., SourceResolver], extended: SourceResolver) -> None:
    """A custom rule by its number."""
    assert extended.explain(SHOP + "?gclid=1").channel_rule == "extended: Paid Search"
    assert extended.explain_fields("google", "cpc").channel_rule == "extended: Paid Search"
