"""Channel groups: from a source to one of twenty-odd names that a marketing plan is made of.

`ga4` is Google Analytics' default channel group, rule by rule (support.google.com/analytics/answer/9756891, with the
AI Assistant channel of 2026). `extended` adds channels that Google's group has no name for and never changes what it
says of explicit tags: there it speaks only where Google's group says Unassigned. The one exception is AI assistants,
whose own tags (`utm_source=chatgpt.com`) are theirs to recognise.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

Profile = Literal["ga4", "extended"]
Category = Literal["search", "social", "shopping", "video", "ai", "messenger", "mail"]
"""What a site is to the channel rules. Google Analytics knows the first four."""

DIRECT: Final = "Direct"
CROSS_NETWORK: Final = "Cross-network"
PAID_SHOPPING: Final = "Paid Shopping"
PAID_SEARCH: Final = "Paid Search"
PAID_SOCIAL: Final = "Paid Social"
PAID_VIDEO: Final = "Paid Video"
DISPLAY: Final = "Display"
PAID_OTHER: Final = "Paid Other"
ORGANIC_SHOPPING: Final = "Organic Shopping"
ORGANIC_SOCIAL: Final = "Organic Social"
ORGANIC_VIDEO: Final = "Organic Video"
ORGANIC_SEARCH: Final = "Organic Search"
AI_ASSISTANT: Final = "AI Assistant"
REFERRAL: Final = "Referral"
EMAIL: Final = "Email"
AFFILIATES: Final = "Affiliates"
AUDIO: Final = "Audio"
SMS: Final = "SMS"
MOBILE_PUSH: Final = "Mobile Push Notifications"
UNASSIGNED: Final = "Unassigned"

AI_ASSISTANTS: Final = "AI Assistants"
MESSENGERS: Final = "Messengers"
REFERRAL_PROGRAMME: Final = "Referral Programme"
OFFLINE: Final = "Offline"

GA4_CHANNELS: Final = (
    DIRECT, CROSS_NETWORK, PAID_SHOPPING, PAID_SEARCH, PAID_SOCIAL, PAID_VIDEO, DISPLAY, PAID_OTHER, ORGANIC_SHOPPING,
    ORGANIC_SOCIAL, ORGANIC_VIDEO, ORGANIC_SEARCH, AI_ASSISTANT, REFERRAL, EMAIL, AFFILIATES, AUDIO, SMS, MOBILE_PUSH,
    UNASSIGNED,
)  # fmt: skip
EXTENDED_CHANNELS: Final = (
    *(AI_ASSISTANTS if name == AI_ASSISTANT else name for name in GA4_CHANNELS),
    MESSENGERS,
    REFERRAL_PROGRAMME,
    OFFLINE,
)

_SHOP = re.compile(r"(?:[^a-df-z]|^)shop|shopping")
_DISPLAY_MEDIA = frozenset(("display", "banner", "expandable", "interstitial", "cpm"))
_SOCIAL_MEDIA = frozenset(("social", "social-network", "social-media", "sm", "social network", "social media"))
_REFERRAL_MEDIA = frozenset(("referral", "app", "link"))
_EMAIL_NAMES = frozenset(("email", "e-mail", "e_mail", "e mail"))

REFERRAL_PROGRAMME_MEDIUM: Final = "referral-programme"

_MEDIA_OF_EXTENDED: Final = {
    **dict.fromkeys(("messenger", "messengers", "telegram", "whatsapp", "viber", "chat", "im"), MESSENGERS),
    **dict.fromkeys((REFERRAL_PROGRAMME_MEDIUM, "referral-program", "refprogram"), REFERRAL_PROGRAMME),
    **dict.fromkeys(
        ("offline", "call", "calls", "phone", "letter", "visit", "office", "event", "fair", "exhibition", "print",
         "newspaper", "magazine", "flyer", "leaflet", "catalogue", "catalog", "poster", "billboard", "outdoor", "ooh",
         "radio", "tv", "qr", "qr-code", "qrcode", "qr_code", "packaging", "walk-in"),
        OFFLINE,
    ),
    **dict.fromkeys(("mail", "mailing", "newsletter", "emailing", "webmail", "email-newsletter"), EMAIL),
    **dict.fromkeys(("partner", "partners", "affiliates", "partnership"), AFFILIATES),
    **dict.fromkeys(("podcast", "podcasts"), AUDIO),
    **dict.fromkeys(("smm", "post", "posts", "story", "stories", "reels", "bio", "feed"), ORGANIC_SOCIAL),
    **dict.fromkeys(("seo",), ORGANIC_SEARCH),
    **dict.fromkeys(("shop", "shopping", "marketplace"), ORGANIC_SHOPPING),
    **dict.fromkeys(("text", "text-message"), SMS),
    **dict.fromkeys(("native",), DISPLAY),
}  # fmt: skip

_CHANNEL_OF_CATEGORY: Final[dict[Category, str]] = {
    "search": ORGANIC_SEARCH,
    "social": ORGANIC_SOCIAL,
    "shopping": ORGANIC_SHOPPING,
    "video": ORGANIC_VIDEO,
    "messenger": MESSENGERS,
    "mail": EMAIL,
    "ai": AI_ASSISTANTS,
}


_RESOLVED_MEDIA: Final = {
    "ai-assistant": AI_ASSISTANTS,
    "messenger": MESSENGERS,
    "email": EMAIL,
    "affiliate": AFFILIATES,
    REFERRAL_PROGRAMME_MEDIUM: REFERRAL_PROGRAMME,
}
"""Media that only our own resolution gives, which say it all."""


class Facts(NamedTuple):
    """What the channel rules look at. Texts in lower case.

    `ga_category` is Google's category of the source, or the one a click id carries; `category` is ours. `resolved`:
    source and medium come from a click id or referrer, not from anybody's explicit tags.
    """

    source: str
    medium: str
    campaign: str
    ga_category: Category | None
    category: Category | None
    resolved: bool


def is_paid(medium: str) -> bool:
    """Google's `^(.*cp.*|ppc|retargeting|paid.*)$`."""
    return "cp" in medium or medium in {"ppc", "retargeting"} or medium.startswith("paid")


def names_shopping(campaign: str) -> bool:
    """Google's `^(.*(([^a-df-z]|^)shop|shopping).*)$`: shop, but not in bishop or workshop; e-shop and eshop count."""
    return _SHOP.search(campaign) is not None


def ga4_channel(facts: Facts) -> str:
    """The channel in Google Analytics' default group."""
    return _paid_channel(facts, facts.ga_category) or _free_channel(facts, facts.ga_category, AI_ASSISTANT)


def extended_channel(facts: Facts) -> str:
    """The channel in our group: Google's word on explicit tags, our own tables for what we resolved."""
    if not facts.resolved:
        paid = _paid_channel(facts, facts.ga_category)
        if paid is not None:
            return paid
        if facts.medium == "ai-assistant" or facts.category == "ai":
            return AI_ASSISTANTS
        channel = _free_channel(facts, facts.ga_category, AI_ASSISTANTS)
        if channel != UNASSIGNED:
            return channel
        return _MEDIA_OF_EXTENDED.get(facts.medium) or (
            _CHANNEL_OF_CATEGORY[facts.category]
            if facts.category and facts.medium in {"", "(not set)", "(none)"}
            else UNASSIGNED
        )
    category = facts.category or facts.ga_category
    paid = _paid_channel(facts, category)
    if paid is not None:
        return paid
    return _RESOLVED_MEDIA.get(facts.medium) or _free_channel(facts, category, AI_ASSISTANTS)


def _paid_channel(facts: Facts, category: Category | None) -> str | None:
    """Rules 1 to 8: direct, cross-network and everything paid."""
    medium = facts.medium
    if facts.source == "(direct)" and medium in {"(none)", "(not set)"}:
        return DIRECT
    if "cross-network" in facts.campaign:
        return CROSS_NETWORK
    paid = is_paid(medium)
    if paid:
        if category == "shopping" or names_shopping(facts.campaign):
            return PAID_SHOPPING
        if category == "search":
            return PAID_SEARCH
        if category == "social":
            return PAID_SOCIAL
        if category == "video":
            return PAID_VIDEO
    if medium in _DISPLAY_MEDIA:
        return DISPLAY
    return PAID_OTHER if paid else None


def _free_channel(facts: Facts, category: Category | None, ai_channel: str) -> str:
    """Rules 9 to 19: everything that nobody paid for."""
    source, medium = facts.source, facts.medium
    if category == "shopping" or names_shopping(facts.campaign):
        return ORGANIC_SHOPPING
    if category == "social" or medium in _SOCIAL_MEDIA:
        return ORGANIC_SOCIAL
    if category == "video" or "video" in medium:
        return ORGANIC_VIDEO
    if category == "search" or medium == "organic":
        return ORGANIC_SEARCH
    if medium == "ai-assistant":
        return ai_channel
    if medium in _REFERRAL_MEDIA:
        return REFERRAL
    if source in _EMAIL_NAMES or medium in _EMAIL_NAMES:
        return EMAIL
    if medium == "affiliate":
        return AFFILIATES
    if medium == "audio":
        return AUDIO
    if source == "sms" or medium == "sms":
        return SMS
    if medium.endswith("push") or "mobile" in medium or "notification" in medium or source == "firebase":
        return MOBILE_PUSH
    return UNASSIGNED
