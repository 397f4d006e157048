"""Click ids: which platform, and whether it was paid (domain rules, the table in section 1; semantics 28)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream_app.domain.sources import Source, SourceResolver

Resolve = Callable[..., Source]


@pytest.mark.parametrize(
    ("name", "source_name", "medium", "ga4_medium", "channel", "ga4_channel"),
    [
        *((name, "google", "cpc", "cpc", "Paid Search", "Paid Search")
          for name in ("gclid", "gbraid", "wbraid", "gad_source", "gad_campaignid", "gclsrc")),
        ("dclid", "google", "display", "display", "Display", "Display"),
        ("msclkid", "bing", "cpc", "cpc", "Paid Search", "Paid Search"),
        ("yclid", "yandex", "cpc", "cpc", "Paid Search", "Paid Search"),
        ("ysclid", "yandex", "organic", "organic", "Organic Search", "Organic Search"),
        ("ymclid", "market.yandex.ru", "cpc", "cpc", "Paid Shopping", "Paid Shopping"),
        ("srsltid", "google", "organic", "organic", "Organic Shopping", "Organic Shopping"),
        ("fbclid", "facebook.com", "social", "referral", "Organic Social", "Organic Social"),
        ("igshid", "instagram.com", "social", "referral", "Organic Social", "Organic Social"),
        *((name, "vk.com", "cpc", "cpc", "Paid Social", "Paid Social") for name in ("rb_clickid", "vk_ref", "vkclid")),
        ("twclid", "x.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("ttclid", "tiktok.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("li_fat_id", "linkedin.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("ScCid", "snapchat.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("rdt_cid", "reddit.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("epik", "pinterest.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("qclid", "quora.com", "cpc", "cpc", "Paid Social", "Paid Social"),
        ("irclickid", "impact.com", "affiliate", "affiliate", "Affiliates", "Affiliates"),
        ("ob_click_id", "outbrain.com", "display", "display", "Display", "Display"),
        ("tblci", "taboola.com", "display", "display", "Display", "Display"),
        *((name, None, "email", "email", "Email", "Email")
          for name in ("mc_cid", "mc_eid", "mkt_tok", "_hsenc", "vero_id", "ml_subscriber", "_kx")),
    ],
)  # fmt: skip
def test_each_click_id(
    source: Resolve,
    ga4: SourceResolver,
    name: str,
    source_name: str | None,
    medium: str,
    ga4_medium: str,
    channel: str,
    ga4_channel: str,
) -> None:
    """Alone, in any case of letters, in both profiles."""
    for spelling in (name, name.upper()):
        found = source(f"?{spelling}=AbC123_-xyz")
        assert source_name in {None, found.source}
        assert (found.medium, found.channel, found.arrival) == (medium, channel, "auto_tagged")
        assert (found.click_id_type, found.campaign) == (name, "(not set)")
        assert found.source_platform
    found = source(f"?{name}=AbC123_-xyz", resolver=ga4)
    assert (found.medium, found.channel) == (ga4_medium, ga4_channel)


@pytest.mark.parametrize("value", ["", "%20", "{gclid}", "null", "undefined"])
def test_an_empty_click_id_is_none(source: Resolve, value: str) -> None:
    """A click id needs a value."""
    assert source(f"?gclid={value}").source == "(direct)"


def test_tags_win_and_the_click_id_fills_in(source: Resolve) -> None:
    """Explicit tags win; what they leave open comes from the click id, which is kept as evidence."""
    found = source("?utm_source=Partner&utm_medium=cpm&gclid=1")
    assert (found.source, found.medium, found.arrival, found.click_id_type) == ("partner", "cpm", "tagged", "gclid")
    found = source("?utm_campaign=Spring&gclid=1")
    assert (found.source, found.medium, found.campaign, found.channel) == ("google", "cpc", "Spring", "Paid Search")
    found = source("?utm_campaign=Spring&twclid=1")
    assert (found.source, found.medium, found.channel) == ("x.com", "cpc", "Paid Social")
    found = source("?utm_term=shoes&gclid=1")
    assert (found.source, found.term, found.arrival) == ("google", "shoes", "auto_tagged")


def test_auto_tag_wins(source: Resolve, make: Callable[..., SourceResolver]) -> None:
    """Google's own order, by setting, and for Google's ids only; campaign and the rest stay as tagged."""
    resolver = make(auto_tag_wins=True)
    found = source("?utm_source=partner&utm_medium=email&utm_campaign=Spring&gclid=1", resolver=resolver)
    assert (found.source, found.medium, found.campaign, found.arrival) == ("google", "cpc", "Spring", "auto_tagged")
    found = source("?utm_source=partner&utm_medium=email&msclkid=1", resolver=resolver)
    assert (found.source, found.medium, found.arrival) == ("partner", "email", "tagged")


@pytest.mark.parametrize(
    ("landing", "referrer", "expected"),
    [
        ("?gclid=1&fbclid=2", "", ("google", "cpc")),
        ("?yclid=1&ysclid=2", "", ("yandex", "cpc")),
        ("?gclid=1&srsltid=2", "", ("google", "cpc")),
        ("?fbclid=1&mc_cid=2", "", ("mailchimp.com", "email")),
        ("?fbclid=1", "https://l.instagram.com/", ("instagram.com", "social")),
        ("?fbclid=1", "https://l.facebook.com/", ("facebook.com", "social")),
        ("?yclid=1", "https://search.yahoo.co.jp/", ("yahoo", "cpc")),
        ("?yclid=1", "https://yandex.ru/", ("yandex", "cpc")),
        ("?gclid=1", "https://www.google.com/", ("google", "cpc")),
    ],
)
def test_several_ids_and_referrers(source: Resolve, landing: str, referrer: str, expected: tuple[str, str]) -> None:
    """Paid ids come first; the referrer refines a few."""
    found = source(landing, referrer)
    assert (found.source, found.medium) == expected


def test_yahoo_japan(source: Resolve) -> None:
    """The id yclid is also Yahoo! JAPAN's; its referrer tells."""
    assert source("?yclid=1", "https://search.yahoo.co.jp/").source_platform == "Yahoo! JAPAN Ads"


def test_google_ads_on_youtube(source: Resolve, ga4: SourceResolver) -> None:
    """Known otherwise than search by the referrer; Google Analytics makes no such difference."""
    assert source("?gclid=1", "https://www.youtube.com/").channel == "Paid Video"
    assert source("?gclid=1", "https://www.youtube.com/", resolver=ga4).channel == "Paid Search"
