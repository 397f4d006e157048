"""The imaginary shop: its pages, its campaigns, and the ways people come to it.

Everything is bytes that need no JSON escaping, so that events can be put together without an encoder.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = b"https://shop.example.com"
APP = b"app://com.example.shop"


class Arrival(NamedTuple):
    """One way of coming to the site.

    `newcomers` and `returning` are weights among first and later visits. In `query`, `%id` stands for a click id of
    its own. `buys` multiplies the odds of a conversion.
    """

    name: str
    newcomers: float
    returning: float
    query: bytes
    referrer: bytes
    buys: float = 1.0


def _utm(source: str, medium: str, campaign: str, more: str = "") -> bytes:
    return f"utm_source={source}&utm_medium={medium}&utm_campaign={campaign}{more and '&' + more}".encode()


_GOOGLE, _BING, _YANDEX = b"https://www.google.com/", b"https://www.bing.com/", b"https://yandex.ru/"
_FACEBOOK, _INSTAGRAM, _LINKEDIN = b"https://l.facebook.com/", b"https://l.instagram.com/", b"https://www.linkedin.com/"
_YOUTUBE, _GMAIL, _DEALS = b"https://www.youtube.com/", b"https://mail.google.com/", b"https://deals.example.net/"
_GCLID = "gclid=Cj0KCQ%id"

ARRIVALS: tuple[Arrival, ...] = (
    # paid
    Arrival("google-ads", 14, 5, _utm("google", "cpc", "spring-sale", f"utm_term=shoes&{_GCLID}"), _GOOGLE, 1.6),
    Arrival("google-ads-auto", 7, 3, b"gad_source=1&gclid=EAIaIQ%id", _GOOGLE, 1.5),
    Arrival("google-brand", 2, 6, _utm("google", "cpc", "Brand", _GCLID), b"https://www.google.lv/", 3),
    Arrival("google-shopping", 5, 2, _utm("google", "cpc", "shopping-all", _GCLID), _GOOGLE, 2),
    Arrival("google-pmax", 2, 1, _utm("google", "cross-network", "cross-network-q4", "gbraid=0AAAA%id"), b""),
    Arrival("bing-ads", 3, 1, _utm("bing", "cpc", "spring-sale", "msclkid=%id"), _BING, 1.4),
    Arrival("yandex-direct", 2, 1, _utm("yandex", "cpc", "baltics", "yclid=%id"), _YANDEX),
    Arrival("meta-ads", 9, 4, _utm("facebook", "paid_social", "lookalike-2", "fbclid=IwAR%id"), _FACEBOOK, 0.6),
    Arrival("instagram-ads", 5, 2, _utm("instagram", "paid_social", "stories", "fbclid=PAAa%id"), _INSTAGRAM, 0.6),
    Arrival("tiktok-ads", 4, 1, _utm("tiktok", "cpc", "creators", "ttclid=%id"), b"", 0.4),
    Arrival("linkedin-ads", 1, 0.5, _utm("linkedin", "cpc", "b2b", "li_fat_id=%id"), _LINKEDIN, 1.2),
    Arrival("youtube-ads", 1.5, 0.5, _utm("youtube", "cpv", "how-to", _GCLID), _YOUTUBE, 0.5),
    Arrival("display", 3, 1, _utm("dv360", "display", "awareness", "dclid=%id"), b"https://www.delfi.lv/", 0.2),
    Arrival("retargeting", 0.5, 5, _utm("criteo", "retargeting", "basket"), b"https://www.tvnet.lv/", 2),
    # organic
    Arrival("google", 15, 9, b"", _GOOGLE, 1.1),
    Arrival("bing", 2, 1, b"", _BING),
    Arrival("duckduckgo", 1.5, 1, b"", b"https://duckduckgo.com/"),
    Arrival("yandex", 1, 0.5, b"ysclid=%id", _YANDEX),
    Arrival("google-app", 1, 1, b"", b"android-app://com.google.android.googlequicksearchbox/"),
    Arrival("merchant", 1, 0.5, b"srsltid=AfmB%id", _GOOGLE, 1.5),
    Arrival("chatgpt", 2, 1, b"utm_source=chatgpt.com", b"https://chatgpt.com/", 1.5),
    Arrival("perplexity", 0.8, 0.4, b"", b"https://www.perplexity.ai/", 1.3),
    Arrival("facebook", 3, 2, b"fbclid=IwZX%id", b"https://m.facebook.com/", 0.5),
    Arrival("twitter", 1.5, 1, b"", b"https://t.co/9xYz", 0.4),
    Arrival("reddit", 1, 0.5, b"", b"https://www.reddit.com/", 0.5),
    Arrival("youtube", 1, 0.5, b"", _YOUTUBE, 0.5),
    Arrival("telegram", 0.6, 0.6, b"", b"https://t.me/", 0.8),
    # mail, partners, referrals, direct
    Arrival("newsletter", 0.5, 9, _utm("newsletter", "email", "weekly-48"), b"", 1.8),
    Arrival("mailchimp", 0.2, 2, _utm("mailchimp", "email", "winback", "mc_cid=%id"), _GMAIL, 1.6),
    Arrival("affiliate", 2, 1, _utm("dealsite", "affiliate", "coupons", "irclickid=%id"), _DEALS, 2),
    Arrival("blog", 3, 1, b"", b"https://blog.example.org/best-shoes"),
    Arrival("price-comparison", 1.5, 1, b"", b"https://www.salidzini.lv/", 1.7),
    Arrival("direct", 9, 30, b"", b"", 1.3),
)

PAGES: tuple[bytes, ...] = (
    b"/",
    b"/sale",
    b"/about",
    b"/delivery",
    *(b"/c/" + name for name in (b"shoes", b"jackets", b"bags", b"watches", b"sunglasses", b"lenses", b"outlet")),
    *(b"/p/%d-%b" % (1000 + i, b"item-%d" % (i * 7 % 90)) for i in range(180)),
)
LANDINGS: tuple[bytes, ...] = (b"/", b"/sale", *PAGES[4:40])
SCREENS: tuple[bytes, ...] = (b"/home", b"/catalogue", b"/product/1017", b"/product/1042", b"/cart", b"/profile")

# A payment or a login leaves the site and comes back: those referrers are detours, not sources.
PAYMENTS: tuple[bytes, ...] = (
    b"https://www.paypal.com/",
    b"https://acs.bank.example/3ds/challenge",
    b"https://checkout.stripe.com/",
)
LOGINS: tuple[bytes, ...] = (b"https://accounts.google.com/", b"https://appleid.apple.com/")

_WINDOWS = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64"
_MAC = b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "
_IPHONE = b"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
_CHROME = b"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 %bSafari/537.36"
_SAMSUNG = b"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) "
DESKTOPS: tuple[bytes, ...] = (
    _WINDOWS + b") " + _CHROME % (141, b""),
    _WINDOWS + b") " + _CHROME % (140, b"") + b" Edg/140.0.0.0",
    _WINDOWS + b"; rv:143.0) Gecko/20100101 Firefox/143.0",
    _MAC + _CHROME % (141, b""),
    _MAC + b"AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    b"Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
)
PHONES: tuple[bytes, ...] = (
    _IPHONE + b"Version/18.5 Mobile/15E148 Safari/604.1",
    _IPHONE + b"CriOS/141.0.7390.41 Mobile/15E148 Safari/604.1",
    b"Mozilla/5.0 (Linux; Android 10; K) " + _CHROME % (141, b"Mobile "),
    _SAMSUNG + b"SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
)
BOTS: tuple[bytes, ...] = (
    b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    b"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    b"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    b"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    b"python-requests/2.32.3",
)
SPAMMERS: tuple[bytes, ...] = (
    b"http://1-99seo.com/",
    b"http://100dollars-seo.com/",
    b"https://semalt.com/",
    b"http://buttons-for-website.com/",
)

FIRST_NAMES: tuple[bytes, ...] = (
    b"Anna",
    b"Misha",
    b"Olga",
    b"Petr",
    b"Liga",
    b"Janis",
    b"Maria",
    b"Karl",
    b"Eva",
    b"Tom",
)
LAST_NAMES: tuple[bytes, ...] = (
    b"Ozola",
    b"Berzins",
    b"Kalnina",
    b"Ivanov",
    b"Tamm",
    b"Novak",
    b"Smith",
    b"Weber",
    b"Rossi",
)
