"""Tags in the landing page (domain rules 1.3, semantics 28)."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from stream_app.domain.sources import Source

Resolve = Callable[..., Source]


def triple(source: Source) -> tuple[str, str, str]:
    return source.source, source.medium, source.campaign


@pytest.mark.parametrize(
    ("landing", "expected"),
    [
        ("?utm_source=Google&utm_medium=CPC&utm_campaign=Spring%20Sale", ("google", "cpc", "Spring Sale")),
        ("?UTM_Source=a&Utm_Medium=b&UTM_CAMPAIGN=C", ("a", "b", "C")),
        ("#utm_source=a&utm_medium=b&utm_campaign=c", ("a", "b", "c")),
        ("#/landing?utm_source=a&utm_medium=b", ("a", "b", "(not set)")),
        ("?x=1#!/offer?utm_source=a", ("a", "(not set)", "(not set)")),
        ("?utm_source=&utm_source=b", ("b", "(not set)", "(not set)")),
        ("?utm_source={source}&utm_source=b", ("b", "(not set)", "(not set)")),
        ("?utm_source=a&utm_source=b", ("a", "(not set)", "(not set)")),
        ("?utm_source=+a+&utm_medium=%20b%09", ("a", "b", "(not set)")),
        ("?utm_source=a&utm_campaign=50%2525", ("a", "(not set)", "50%25")),
        ("?utm_campaign=only", ("(not set)", "(not set)", "only")),
        ("?utm_id=77", ("(not set)", "(not set)", "(not set)")),
        ("?mtm_source=a&mtm_medium=b&mtm_campaign=c", ("a", "b", "c")),
        ("?pk_campaign=c&pk_source=a", ("a", "(not set)", "c")),
        ("?matomo_cpn=c&piwik_source=a", ("a", "(not set)", "c")),
        ("?a=1&amp;utm_source=a&amp;utm_medium=b", ("a", "b", "(not set)")),
        ("?utm%5Fsource=a", ("a", "(not set)", "(not set)")),
        ("?utm_source%3Da%26utm_medium%3Db", ("a", "b", "(not set)")),
        ("?utm_source=рассылка&utm_medium=email", ("рассылка", "email", "(not set)")),
        ("?utm_source=a&utm_campaign=%E2%E5%F1%ED%E0", ("a", "(not set)", "весна")),
        ("?utm_source=a&utm_campaign=caf%E9", ("a", "(not set)", "café")),
        ("?utm_source=a&utm_campaign=two%0Alines", ("a", "(not set)", "two lines")),
    ],
)
def test_tags_are_read(source: Resolve, landing: str, expected: tuple[str, str, str]) -> None:
    """Names without case, values decoded once and trimmed, source and medium in lower case."""
    found = source(landing)
    assert triple(found) == expected
    assert found.arrival == "tagged"


@pytest.mark.parametrize(
    "landing",
    [
        "?utm_source=",
        "?utm_source=NULL&utm_medium=Undefined&utm_campaign=(Not%20Set)",
        "?utm_source=null&utm_medium=undefined&utm_campaign=(not%20set)",
        "?utm_source={campaignid}&utm_campaign=%7Badgroupid%7D",
        "?utm_campaign=${campaign}&utm_source=[[source]]&utm_medium={{medium}}",
        "?utm_campaign=__CAMPAIGN_NAME__",
        "?utm_campaign={campaignid}|{adgroupid}",
        "?utm_source[]=a&utm_medium[0]=b&utm_campaign%5B%5D=c",
        "?utm_term=shoes&utm_content=blue",
        "?xutm_source=a&utm_source_=b&utmsource=c",
        "?utm_source",
    ],
)
def test_what_is_missing_is_missing(source: Resolve, landing: str) -> None:
    """Empty values, macros nobody expanded and arrays are no tags; term alone is none, either."""
    assert source(landing).source == "(direct)"


def test_a_macro_beside_text_leaves_the_text(source: Resolve) -> None:
    """Only a value that is nothing but macros says nothing."""
    assert source("?utm_source=a&utm_campaign=spring_{adgroupid}").campaign == "spring_{adgroupid}"


def test_a_set_is_taken_whole(source: Resolve) -> None:
    """Medium of one set never joins the source of another."""
    assert triple(source("?utm_source=a&mtm_medium=b&mtm_campaign=c")) == ("a", "(not set)", "(not set)")
    assert triple(source("?mtm_source=a#utm_source=x&utm_medium=y")) == ("a", "(not set)", "(not set)")
    assert triple(source("?utm_term=t#utm_source=x&utm_medium=y")) == ("x", "y", "(not set)")


def test_tags_beat_the_referrer_whole(source: Resolve) -> None:
    """What tags leave open never comes from the referrer."""
    assert triple(source("?utm_source=news", "https://www.google.com/")) == ("news", "(not set)", "(not set)")


def test_all_fields(source: Resolve) -> None:
    """Term, content, id and the platform of the tags are kept."""
    found = source("?utm_source=a&utm_medium=b&utm_term=T&utm_content=C&utm_id=7&utm_source_platform=SA360")
    assert (found.term, found.content, found.campaign_id, found.source_platform) == ("T", "C", "7", "SA360")


@pytest.mark.parametrize(
    "value",
    [
        "direct.yandex.ru;12345;67890;yandex.ru:premium",
        "direct.yandex.ru%3B12345%3B67890%3Byandex.ru%3Apremium",
        base64.b64encode(b"direct.yandex.ru;12345;67890;yandex.ru:premium").decode(),
        base64.urlsafe_b64encode(b"direct.yandex.ru;12345;67890;yandex.ru:premium").decode().rstrip("="),
    ],
)
def test_openstat(source: Resolve, value: str) -> None:
    """Four fields, plain or in base64; a service that is an advertising network was paid for."""
    found = source(f"?_openstat={value}")
    assert triple(found) == ("direct.yandex.ru", "cpc", "12345")
    assert (found.content, found.term, found.channel) == ("67890", "yandex.ru:premium", "Paid Search")
    assert found.source_platform == "Yandex Direct"


@pytest.mark.parametrize("value", ["%00%FF", "====", "YQ", "a", ";;;", "%F0%9F%98%80", "x" * 3000])
def test_openstat_that_is_none(source: Resolve, value: str) -> None:
    """What is no Openstat mark says nothing."""
    assert source(f"?_openstat={value}").source == "(direct)"
