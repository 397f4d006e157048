"""Custom channel rules of the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stream_app.domain.sources import ChannelRule, Source, SourceResolver, SourceRules

Make = Callable[..., SourceResolver]
Resolve = Callable[..., Source]
SHOP = "https://shop.example.com/"


def rules(*given: dict[str, Any]) -> tuple[ChannelRule, ...]:
    """As the settings hold them."""
    return msgspec.convert(given, tuple[ChannelRule, ...])


@pytest.mark.parametrize(
    ("condition", "landing", "referrer"),
    [
        ({"field": "campaign", "contains": "BRAND"}, "?utm_campaign=my-Brand-1", ""),
        ({"field": "source", "equals": "Partner"}, "?utm_source=PARTNER", ""),
        ({"field": "medium", "starts": "cp"}, "?utm_source=a&utm_medium=cpv", ""),
        ({"field": "term", "ends": "shoes"}, "?utm_source=a&utm_term=Blue%20Shoes", ""),
        ({"field": "term", "equals": "shoes"}, "", "https://www.google.com/search?q=Shoes"),
        ({"field": "content", "regex": "^(red|blue)-\\d+$"}, "?utm_source=a&utm_content=BLUE-7", ""),
        ({"field": "platform", "one_of": ["VK", "Telegram"]}, "", "https://t.me/x"),
        ({"field": "platform", "equals": "vk"}, "?utm_source=vkontakte&utm_medium=cpc", ""),
        ({"field": "landing_host", "equals": "shop.example.com"}, "", ""),
        ({"field": "landing_path", "starts": "/promo/"}, "promo/x?a=1", ""),
        ({"field": "referrer_host", "ends": "partner.example"}, "", "https://www.partner.example/x"),
        ({"field": "click_id_type", "equals": "gclid"}, "?gclid=1", ""),
        ({"field": "medium", "equals": "cpc", "not": True}, "?utm_source=a&utm_medium=email", ""),
    ],
)
def test_each_field_and_test(
    make: Make, source: Resolve, condition: dict[str, Any], landing: str, referrer: str
) -> None:
    """Without regard to case, over every field."""
    resolver = make(rules=rules({"channel": "Ours", "all": [condition]}))
    assert source(landing, referrer, resolver=resolver).channel == "Ours"
    turned = make(rules=rules({"channel": "Ours", "all": [{**condition, "not": not condition.get("not", False)}]}))
    assert source(landing, referrer, resolver=turned).channel != "Ours"


def test_all_any_and_order(make: Make, source: Resolve) -> None:
    """All of `all` and one of `any`; the first rule wins; then the built-in channels."""
    resolver = make(
        rules=rules(
            {
                "channel": "First",
                "all": [{"field": "source", "equals": "a"}],
                "any": [{"field": "medium", "equals": "x"}, {"field": "medium", "equals": "y"}],
            },
            {"channel": "Second", "all": [{"field": "source", "equals": "a"}]},
        )
    )
    assert source("?utm_source=a&utm_medium=y", resolver=resolver).channel == "First"
    assert source("?utm_source=a&utm_medium=z", resolver=resolver).channel == "Second"
    assert source("?utm_source=b&utm_medium=email", resolver=resolver).channel == "Email"


def test_landing_pages_are_told_apart(make: Make, source: Resolve) -> None:
    """A rule on the path is not answered from the cache of another path."""
    resolver = make(rules=rules({"channel": "Promo", "all": [{"field": "landing_path", "starts": "/promo"}]}))
    for _ in range(2):
        assert source("promo?utm_source=a", resolver=resolver).channel == "Promo"
        assert source("other?utm_source=a", resolver=resolver).channel != "Promo"
        assert source("promo", "https://www.google.com/", resolver=resolver).channel == "Promo"
        assert source("other", "https://www.google.com/", resolver=resolver).channel == "Organic Search"
        assert source("promo", resolver=resolver).channel == "Promo"
        assert source("other", resolver=resolver).channel == "Direct"


def test_technical_sources_can_be_excluded(make: Make) -> None:
    """Monitoring and the like bring no source."""
    resolver = make(
        rules=rules({"exclude": True, "all": [{"field": "source", "one_of": ["uptime", "monitor.example"]}]})
    )
    assert resolver.resolve(SHOP + "?utm_source=Uptime&utm_medium=x").kind == "none"
    assert resolver.resolve(SHOP, "https://monitor.example/").kind == "none"
    assert resolver.resolve(SHOP + "?utm_source=news").kind == "source"


def test_explicit_tags_meet_custom_rules(make: Make) -> None:
    """Costs and offline conversions too."""
    resolver = make(rules=rules({"channel": "Brand", "all": [{"field": "campaign", "contains": "brand"}]}))
    assert resolver.assign_channel("google", "cpc", "Brand LV") == "Brand"
    assert resolver.of_fields("google", "cpc", "Brand LV").channel == "Brand"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"channel": "A"}, "no conditions"),
        ({"all": [{"field": "source", "equals": "a"}]}, "either a channel or exclude"),
        ({"channel": "A", "exclude": True, "all": [{"field": "source", "equals": "a"}]}, "either a channel or exclude"),
        ({"channel": "A", "all": [{"field": "source"}]}, "exactly one of"),
        ({"channel": "A", "all": [{"field": "source", "equals": "a", "ends": "b"}]}, "exactly one of"),
        ({"channel": "A", "all": [{"field": "source", "regex": "(a"}]}, "does not compile"),
        ({"channel": "A", "all": [{"field": "source", "regex": "a" * 2_000}]}, "at most"),
    ],
)
def test_a_rule_that_cannot_work_is_named(make: Make, rule: dict[str, Any], problem: str) -> None:
    """At start, with its number."""
    with pytest.raises(ValueError, match=rf"rule 1.*{problem}"):
        make(rules=rules(rule))


def test_a_hostile_pattern_takes_linear_time(make: Make) -> None:
    """Nested quantifiers on a text made for them: a backtracking engine would take for ever."""
    resolver = make(
        rules=rules({"channel": "A", "all": [{"field": "campaign", "regex": "(a+)+$|(a|aa)+$|(.*a){20}$"}]})
    )
    url = SHOP + "?utm_source=x&utm_campaign=" + "a" * 7_000 + "b"
    started = time.process_time()
    resolver.resolve(url)
    assert time.process_time() - started < 1


def test_field_names_are_those_of_the_settings() -> None:
    """The settings convert without renaming."""
    converted = msgspec.convert(
        {
            "own_domains": ["shop.example.com"],
            "profile": "ga4",
            "auto_tag_wins": False,
            "excluded_referrers": ["paypal.com", ".bank.example/3ds"],
            "rules": [{"channel": "Brand", "all": [{"field": "campaign", "contains": "brand"}]}],
            "phone_numbers": {"+37120000001": {"source": "newspaper", "medium": "offline", "campaign": "spring"}},
        },
        SourceRules,
    )
    assert converted.rules[0].all[0].contains == "brand"
