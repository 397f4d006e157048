"""Channel groups (domain rules, section 2; semantics 28, 29)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.domain import channels
from stream_app.domain.sources import Source, SourceResolver

Resolve = Callable[..., Source]

# Source, medium, campaign → channel in Google Analytics' group. One line or more for each rule, in its order.
GOLDEN = [
    ("(direct)", "(none)", "", "Direct"),
    ("(direct)", "(not set)", "", "Direct"),
    ("google", "cpc", "Cross-Network sale", "Cross-network"),
    ("ebay", "cpc", "", "Paid Shopping"),
    ("x", "cpc", "Eshop", "Paid Shopping"),
    ("x", "cpc", "e-shop sale", "Paid Shopping"),
    ("x", "cpc", "bishop", "Paid Other"),
    ("x", "cpc", "Workshop", "Paid Other"),
    ("google", "CPC", "", "Paid Search"),
    ("google", "paidsearch", "", "Paid Search"),
    ("facebook", "paid_social", "", "Paid Social"),
    ("facebook", "cpm", "", "Paid Social"),
    ("youtube", "cpv-cp", "", "Paid Video"),
    ("newspaper", "cpm", "", "Display"),
    ("google", "banner", "", "Display"),
    ("x", "cpa", "", "Paid Other"),
    ("x", "retargeting", "", "Paid Other"),
    ("amazon", "", "", "Organic Shopping"),
    ("x", "y", "shopping days", "Organic Shopping"),
    ("vk.com", "anything", "", "Organic Social"),
    ("x", "social network", "", "Organic Social"),
    ("x", "sm", "", "Organic Social"),
    ("vimeo", "", "", "Organic Video"),
    ("x", "promo-video", "", "Organic Video"),
    ("bing", "x", "", "Organic Search"),
    ("x", "organic", "", "Organic Search"),
    ("x", "ai-assistant", "", "AI Assistant"),
    ("x", "referral", "", "Referral"),
    ("x", "app", "", "Referral"),
    ("e_mail", "x", "", "Email"),
    ("x", "E-Mail", "", "Email"),
    ("x", "affiliate", "", "Affiliates"),
    ("x", "audio", "", "Audio"),
    ("sms", "x", "", "SMS"),
    ("x", "web-push", "", "Mobile Push Notifications"),
    ("x", "mobile", "", "Mobile Push Notifications"),
    ("x", "notification", "", "Mobile Push Notifications"),
    ("firebase", "x", "", "Mobile Push Notifications"),
    ("x", "newsletter", "", "Unassigned"),
    ("x", "", "sale", "Unassigned"),
]


@pytest.mark.parametrize(("source_name", "medium", "campaign", "channel"), GOLDEN)
def test_golden_table(ga4: SourceResolver, source_name: str, medium: str, campaign: str, channel: str) -> None:
    """Google's rules in their order, without regard to case."""
    assert ga4.assign_channel(source_name, medium, campaign) == channel
    assert ga4.assign_channel(source_name.upper(), medium.upper(), campaign.upper()) == channel


@pytest.mark.parametrize(
    ("source_name", "medium", "channel"),
    [
        ("chatgpt.com", "(not set)", "AI Assistants"),
        ("chatgpt.com", "referral", "AI Assistants"),
        ("perplexity", "organic", "AI Assistants"),
        ("chatgpt.com", "cpc", "Paid Other"),
        ("x", "ai-assistant", "AI Assistants"),
        ("telegram", "messenger", "Messengers"),
        ("telegram", "", "Messengers"),
        ("newspaper", "offline", "Offline"),
        ("flyer", "qr", "Offline"),
        ("anna", "referral-programme", "Referral Programme"),
        ("october", "newsletter", "Email"),
        ("vk", "", "Organic Social"),
        ("vk", "post", "Organic Social"),
        ("ozon", "", "Organic Shopping"),
        ("mystery", "mystery", "Unassigned"),
    ],
)
def test_extended_speaks_where_google_says_unassigned(
    extended: SourceResolver, source_name: str, medium: str, channel: str
) -> None:
    """New channels for explicit tags; paid media stay paid."""
    assert extended.assign_channel(source_name, medium) == channel


@given(
    source_name=st.sampled_from(
        [
            "google",
            "vk.com",
            "vk",
            "ok.ru",
            "t.me",
            "telegram",
            "ebay",
            "youtube",
            "mail.yandex.ru",
            "x",
            "(direct)",
            "sms",
        ]
    ),
    medium=st.sampled_from(
        [line[1] for line in GOLDEN] + ["messenger", "offline", "display", "email", "shopping", "video"]
    ),
    campaign=st.sampled_from(["", "shop", "cross-network", "brand"]),
)
def test_extended_never_changes_googles_word_on_tags(
    ga4: SourceResolver, extended: SourceResolver, source_name: str, medium: str, campaign: str
) -> None:
    """Except for assistants, which Google's group has under another name."""
    googles = ga4.assign_channel(source_name, medium, campaign)
    ours = extended.assign_channel(source_name, medium, campaign)
    # Our channel of assistants comes before the free ones; Google's stands behind them.
    assert googles in {ours, channels.UNASSIGNED} or ours == channels.AI_ASSISTANTS


def test_resolved_mail_and_native_are_not_tags(source: Resolve) -> None:
    """Webmail is Email in spite of Google's categories, which have Yandex Mail under search; tags go by those."""
    assert source("", "https://mail.yandex.ru/").channel == "Email"
    assert source("?utm_source=mail.yandex.ru&utm_medium=email").channel == "Organic Search"


def test_every_channel_is_in_its_group(ga4: SourceResolver, extended: SourceResolver) -> None:
    """The lists that outputs and dashboards rely on are complete."""
    for source_name, medium, campaign, _ in GOLDEN:
        assert ga4.assign_channel(source_name, medium, campaign) in channels.GA4_CHANNELS
        assert extended.assign_channel(source_name, medium, campaign) in channels.EXTENDED_CHANNELS


def test_nothing_at_all_is_direct(ga4: SourceResolver) -> None:
    """A line without any field."""
    assert ga4.assign_channel("", "") == "Direct"
