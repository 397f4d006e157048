"""Referrers: own, excluded, spam, known sites, plain (domain rules 1.2, 1.5, 1.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream_app.domain.sources import Source, SourceResolver

Resolve = Callable[..., Source]
SHOP = "https://shop.example.com/"


@pytest.mark.parametrize(
    ("referrer", "source_name", "medium", "platform", "channel"),
    [
        # search, over country domains, verticals, apps
        ("https://www.google.com/", "google", "organic", "Google", "Organic Search"),
        ("https://www.google.co.uk/url?q=x", "google", "organic", "Google", "Organic Search"),
        ("https://google.lv", "google", "organic", "Google", "Organic Search"),
        ("https://news.google.com/", "google", "organic", "Google News", "Organic Search"),
        ("https://yandex.ru/search/?text=a", "yandex", "organic", "Yandex", "Organic Search"),
        ("https://yandex.com.tr/", "yandex", "organic", "Yandex", "Organic Search"),
        ("https://ya.ru/", "yandex", "organic", "Yandex", "Organic Search"),
        ("https://yandex.lv/images/search?text=a", "yandex", "organic", "Yandex Images", "Organic Search"),
        ("https://yandex.ru/video/search?text=a", "yandex", "organic", "Yandex Video", "Organic Video"),
        ("https://www.bing.com/", "bing", "organic", "Bing", "Organic Search"),
        ("https://search.yahoo.com/", "yahoo", "organic", "Yahoo!", "Organic Search"),
        ("https://search.yahoo.co.jp/", "yahoo", "organic", "Yahoo! Japan", "Organic Search"),
        ("https://go.mail.ru/search?q=a", "go.mail.ru", "organic", "Mail.ru", "Organic Search"),
        ("https://nova.rambler.ru/search?query=a", "rambler", "organic", "Rambler", "Organic Search"),
        ("https://duckduckgo.com/", "duckduckgo", "organic", "DuckDuckGo", "Organic Search"),
        ("android-app://com.google.android.googlequicksearchbox/https/www.google.com", "google", "organic", "Google",
         "Organic Search"),
        ("android-app://ru.yandex.searchplugin/", "yandex", "organic", "Yandex", "Organic Search"),
        # mail before engines
        ("https://mail.google.com/", "mail.google.com", "email", "Gmail", "Email"),
        ("https://mail.yandex.ru/", "mail.yandex.ru", "email", "Yandex Mail", "Email"),
        ("https://e.mail.ru/inbox/", "e.mail.ru", "email", "Mail.ru Mail", "Email"),
        ("https://mail.rambler.ru/", "mail.rambler.ru", "email", "Rambler Mail", "Email"),
        ("https://www.inbox.lv/", "inbox.lv", "email", "inbox.lv", "Email"),
        ("https://outlook.live.com/", "outlook.live.com", "email", "Outlook.com", "Email"),
        ("https://webmail.some-company.example/", "webmail.some-company.example", "email",
         "webmail.some-company.example", "Email"),
        ("android-app://com.google.android.gm", "mail.google.com", "email", "Gmail", "Email"),
        # assistants
        ("https://chatgpt.com/", "chatgpt.com", "ai-assistant", "ChatGPT", "AI Assistants"),
        ("https://gemini.google.com/app", "gemini.google.com", "ai-assistant", "Gemini", "AI Assistants"),
        ("https://x.com/i/grok", "x.com", "ai-assistant", "Grok", "AI Assistants"),
        ("https://alice.yandex.ru/", "alice.yandex.ru", "ai-assistant", "Alice", "AI Assistants"),
        ("https://giga.chat/", "giga.chat", "ai-assistant", "GigaChat", "AI Assistants"),
        # social; aliases of one platform merge in the platform
        ("https://www.facebook.com/", "facebook.com", "social", "Facebook", "Organic Social"),
        ("https://l.facebook.com/l.php?u=x", "l.facebook.com", "social", "Facebook", "Organic Social"),
        ("https://lm.facebook.com/", "lm.facebook.com", "social", "Facebook", "Organic Social"),
        ("https://t.co/abc", "t.co", "social", "X", "Organic Social"),
        ("https://lnkd.in/x", "lnkd.in", "social", "LinkedIn", "Organic Social"),
        ("https://away.vk.com/away.php?to=x", "away.vk.com", "social", "VK", "Organic Social"),
        ("https://vk.cc/x", "vk.cc", "social", "VK", "Organic Social"),
        ("https://m.ok.ru/", "m.ok.ru", "social", "Odnoklassniki", "Organic Social"),
        ("https://my.mail.ru/", "my.mail.ru", "social", "My World", "Organic Social"),
        ("https://dzen.ru/a/x", "dzen.ru", "social", "Dzen", "Organic Social"),
        ("https://www.draugiem.lv/", "draugiem.lv", "social", "Draugiem.lv", "Organic Social"),
        ("android-app://com.facebook.katana", "facebook.com", "social", "Facebook", "Organic Social"),
        ("https://www.goodreads.com/", "goodreads.com", "social", "Goodreads", "Organic Social"),
        ("https://photobucket.com/", "photobucket.com", "social", "photobucket.com", "Organic Social"),
        # messengers, video, shopping
        ("https://t.me/channel", "t.me", "messenger", "Telegram", "Messengers"),
        ("https://web.telegram.org/", "web.telegram.org", "messenger", "Telegram", "Messengers"),
        ("https://wa.me/1", "wa.me", "messenger", "WhatsApp", "Messengers"),
        ("android-app://com.viber.voip", "viber.com", "messenger", "Viber", "Messengers"),
        ("https://youtu.be/x", "youtu.be", "video", "YouTube", "Organic Video"),
        ("https://vk.com/video-1", "vk.com", "video", "VK Video", "Organic Video"),
        ("https://rutube.ru/", "rutube.ru", "video", "Rutube", "Organic Video"),
        ("https://www.avito.ru/", "avito.ru", "shopping", "Avito", "Organic Shopping"),
        ("https://www.ozon.ru/", "ozon.ru", "shopping", "Ozon", "Organic Shopping"),
        ("https://www.wildberries.ru/", "wildberries.ru", "shopping", "Wildberries", "Organic Shopping"),
        ("https://market.yandex.ru/", "market.yandex.ru", "shopping", "Yandex Market", "Organic Shopping"),
        ("https://www.ss.lv/", "ss.lv", "shopping", "SS.LV", "Organic Shopping"),
        ("https://www.amazon.de/", "amazon.de", "shopping", "Amazon", "Organic Shopping"),
        # paid networks without a tag
        ("https://googleads.g.doubleclick.net/", "googleads.g.doubleclick.net", "display", "Google Display Network",
         "Display"),
        ("https://ad.admitad.com/g/x", "ad.admitad.com", "affiliate", "Admitad", "Affiliates"),
        # plain
        ("https://docs.google.com/", "docs.google.com", "referral", "Google Docs", "Referral"),
        ("https://www.delfi.lv/", "delfi.lv", "referral", "Delfi", "Referral"),
        ("https://bit.ly/x", "bit.ly", "referral", "Bitly", "Referral"),
        ("https://www.some-blog.example/post", "some-blog.example", "referral", "some-blog.example", "Referral"),
        ("https://m.some-shop.lv/", "m.some-shop.lv", "referral", "some-shop.lv", "Referral"),
        ("android-app://com.unknown.app", "com.unknown.app", "referral", "com.unknown.app", "Referral"),
    ],
)  # fmt: skip
def test_known_and_plain_referrers(
    source: Resolve, referrer: str, source_name: str, medium: str, platform: str, channel: str
) -> None:
    """Source in GA's form, platform by its canonical name, medium and channel of the extended profile."""
    found = source("", referrer)
    assert (found.source, found.medium, found.source_platform, found.channel) == (
        source_name,
        medium,
        platform,
        channel,
    )
    assert found.arrival == "referrer"


@pytest.mark.parametrize(
    ("referrer", "medium", "channel"),
    [
        ("https://www.google.com/", "organic", "Organic Search"),
        ("https://chatgpt.com/", "ai-assistant", "AI Assistant"),
        ("https://mail.google.com/", "email", "Email"),
        ("https://l.facebook.com/", "referral", "Organic Social"),
        ("https://t.me/x", "referral", "Organic Social"),
        ("https://www.youtube.com/", "referral", "Organic Video"),
        ("https://ok.ru/", "referral", "Referral"),  # Google's list of categories does not have it
        ("https://www.ozon.ru/", "referral", "Referral"),
    ],
)
def test_the_ga4_profile(source: Resolve, ga4: SourceResolver, referrer: str, medium: str, channel: str) -> None:
    """Social, shopping, video and messenger referrers are referrals; categories are Google's."""
    found = source("", referrer, resolver=ga4)
    assert (found.medium, found.channel) == (medium, channel)


@pytest.mark.parametrize(
    ("referrer", "keyword"),
    [
        ("https://www.google.com/search?q=blue+shoes&hl=en", "blue shoes"),
        ("https://yandex.ru/search/?text=%D0%BE%D1%87%D0%BA%D0%B8", "очки"),
        ("https://yandex.ru/yandsearch?text=%EE%F7%EA%E8", "очки"),
        ("https://go.mail.ru/search?q=%EE%F7%EA%E8", "очки"),
        ("http://www.baidu.com/s?wd=%D1%DB%BE%B5", "眼镜"),
        ("http://search.yahoo.co.jp/search?p=%A5%E1%A5%AC%A5%CD", "メガネ"),
        ("https://www.google.com/search?q=blue%2520shoes", "blue shoes"),
        ("https://www.google.com/search?q=50%25", "50%"),
        ("https://www.google.com/#q=blue+shoes", "blue shoes"),
        ("http://1.cz/s/bryle/", "bryle"),
        ("https://www.google.com/", ""),
        ("https://www.google.com/search?q=", ""),
    ],
)  # fmt: skip
def test_keywords(source: Resolve, referrer: str, keyword: str) -> None:
    """In the engine's own charset, from query, fragment or path, encoded once or twice."""
    assert source("", referrer).keyword == keyword


def test_a_portal_is_a_search_only_with_a_keyword(source: Resolve) -> None:
    """Portals have other pages as well."""
    assert source("", "http://www.cnn.com/search?query=a").medium == "organic"
    assert source("", "https://www.cnn.com/2026/news").medium == "referral"


@pytest.mark.parametrize(
    "referrer",
    [
        "https://www.shop.example.com/x",
        "http://shop.example.com:8443/",
        "HTTPS://SHOP.EXAMPLE.COM/",
        "https://blog.example.com/",
        "https://example.com",
        "https://shop.example.com./",
    ],
)
def test_own_domains_bring_no_source(extended: SourceResolver, referrer: str) -> None:
    """The registrable domain with all subdomains; whatever the landing page carries."""
    for landing in (SHOP, SHOP + "?utm_source=a", SHOP + "?gclid=1"):
        assert extended.resolve(landing, referrer).kind == "none"


def test_own_domains_are_internal_to_each_other(make: Callable[..., SourceResolver]) -> None:
    """Any subdomain of any of them, on a page of any of them."""
    resolver = make(own_domains=("shop.example.com", "www.other.co.uk", "очки.рф"))
    for referrer in (
        "https://other.co.uk/",
        "https://blog.other.co.uk/",
        "https://xn--h1adl0b.xn--p1ai/",
        "https://м.очки.рф/",
    ):
        assert resolver.resolve(SHOP, referrer).kind == "none", referrer
    for referrer in ("https://another.co.uk/", "https://co.uk/", "https://notother.co.uk/"):
        assert resolver.resolve(SHOP, referrer).kind == "referral", referrer


def test_a_page_of_an_unlisted_domain_is_its_own(extended: SourceResolver) -> None:
    """Without settings, too, a site is no source of itself; tenants of one hosting service are strangers."""
    assert extended.resolve("https://www.other.example/a", "https://other.example/b").kind == "none"
    assert extended.resolve("https://a.github.io/", "https://b.github.io/").kind == "referral"


def test_a_cross_domain_link_brings_no_source(extended: SourceResolver) -> None:
    """The linker parameter says that the visit began on another own domain."""
    assert extended.resolve(SHOP + "?_gl=1*abc*_ga*MTIz", "https://partner.example/").kind == "none"
    assert extended.resolve(SHOP + "?_gl=", "https://partner.example/").kind == "referral"


@pytest.mark.parametrize(
    "referrer",
    [
        "https://www.paypal.com/checkout",
        "https://accounts.google.com/",
        "https://checkout.stripe.com/pay",
        "https://ib.swedbank.lv/",
        "https://klix.app/",
        "https://securepay.tinkoff.ru/",
        "https://oauth.vk.com/authorize",
        "https://passport.yandex.ru/auth",
        "https://www.facebook.com/login/?next=x",
        "https://esia.gosuslugi.ru/",
    ],
)
def test_payment_and_login_hosts_are_excluded(extended: SourceResolver, ga4: SourceResolver, referrer: str) -> None:
    """They bring no source, and their host is told; with tags the tags count."""
    for resolver in (extended, ga4):
        arrival = resolver.resolve(SHOP, referrer)
        assert arrival.kind == "none"
        assert arrival.referrer_host
        tagged = resolver.resolve(SHOP + "?utm_source=a&utm_medium=b", referrer)
        assert tagged.source is not None
        assert tagged.source.source == "a"


def test_excluded_referrers_of_the_settings(make: Callable[..., SourceResolver]) -> None:
    """Label suffixes with an optional path prefix; a leading dot is allowed."""
    resolver = make(excluded_referrers=("pay.example", ".bank.example/3ds", "https://confirm.example/"))
    for referrer in ("https://pay.example/", "https://a.pay.example/x", "https://www.bank.example/3ds/step",
                     "https://confirm.example/x"):  # fmt: skip
        assert resolver.resolve(SHOP, referrer).kind == "none", referrer
    for referrer in ("https://notpay.example/", "https://bank.example/", "https://bank.example/offers"):
        assert resolver.resolve(SHOP, referrer).kind == "referral", referrer


def test_known_exclusions_can_be_turned_off(make: Callable[..., SourceResolver]) -> None:
    """A payment host is a referral then."""
    assert make(known_exclusions=False).resolve(SHOP, "https://www.paypal.com/").kind == "referral"


def test_spam_is_spam_whatever_it_carries(extended: SourceResolver) -> None:
    """Tags do not make a visit of it; the host is told."""
    arrival = extended.resolve(SHOP + "?utm_source=a", "https://site7.semalt.com/x")
    assert (arrival.kind, arrival.source, arrival.referrer_host) == ("spam", None, "site7.semalt.com")


@pytest.mark.parametrize(
    "referrer",
    ["", "-", "null", "about:blank", "file:///etc/passwd", "http://", "https://///", "::::", "http://[::1",
     "javascript:1", "data:text/html,x", "chrome-extension://abc/page", "just words", "http://exa mple.com/", "http://-bad-.com/",
     "http://" + "a" * 300 + ".com/", "\x00\x01", "http://a..b/", "/relative/path", "index.html"],
)  # fmt: skip
def test_a_bad_referrer_is_no_referrer(make: Callable[..., SourceResolver], referrer: str) -> None:
    """Never an error; counted, unless it merely says that there is none."""
    resolver = make()
    assert resolver.resolve(SHOP, referrer).kind == "direct"
    absent = referrer in {"", "-", "null", "about:blank"}
    assert resolver.bad_referrers == (0 if absent else 1)
    resolver.resolve(SHOP, referrer)
    assert resolver.bad_referrers == (0 if absent else 2)


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("google.com", "google"),
        ("//www.google.com/search", "google"),
        ("www.google.com/search?q=a", "google"),
        ("https://www.google.com:443/", "google"),
        ("https://user:pass@www.google.com/", "google"),
        ("https%3A%2F%2Fwww.google.com%2F", "google"),
        ("https%253A%252F%252Fwww.google.com%252F", "google"),
        (" https://www.google.com/ ", "google"),
        ("https://WWW.GOOGLE.COM", "google"),
        ("https://www.google.com.", "google"),
        ("https://www.google.com?q=a", "google"),
        ("https:\\\\x", None),
        ("https://президент.рф/", "xn--d1abbgf6aiiy.xn--p1ai"),
        ("https://xn--d1abbgf6aiiy.xn--p1ai/", "xn--d1abbgf6aiiy.xn--p1ai"),
        ("https://mākslas.lv/", "xn--mkslas-3za.lv"),
        ("http://192.0.2.7:8080/x", "192.0.2.7"),
        ("http://[2001:db8::1]:8080/x", "[2001:db8::1]"),
        ("http://intranet/x", "intranet"),
    ],
)
def test_hosts_in_every_spelling(source: Resolve, referrer: str, host: str | None) -> None:
    """No scheme, encoded, ports, user information, upper case, international names, addresses."""
    assert source("", referrer).source == (host or "(direct)")


@pytest.mark.parametrize(
    "referrer",
    [
        "https://notgoogle.com/", "https://google.com.evil.example/", "https://googlecom.lv/", "https://google.github.io/",
        "https://reddit.community/", "https://xt.co/", "https://docs.google.com.phish.example/",
        "https://fakefacebook.com/", "https://yandex.ru.example/", "https://wt.me/", "https://evil.example/google.com",
        "https://google.com@evil.example/", "https://evil.example?google.com", "https://my-t.me/",
    ],
)  # fmt: skip
def test_look_alikes_are_plain_referrals(source: Resolve, referrer: str) -> None:
    """Labels match, never letters: t.co is not in reddit.com."""
    assert source("", referrer).medium == "referral"


def test_only_plain_referrals_are_referrals(extended: SourceResolver) -> None:
    """Kind `referral` is what an open session ignores; it tells the host."""
    plain = extended.resolve(SHOP, "https://www.blog.example/")
    assert (plain.kind, plain.referrer_host) == ("referral", "www.blog.example")
    for referrer in ("https://www.google.com/", "https://t.me/x", "https://chatgpt.com/", "https://mail.google.com/",
                     "https://www.facebook.com/", "https://ozon.ru/", "https://youtu.be/x"):  # fmt: skip
        assert extended.resolve(SHOP, referrer).kind == "source", referrer


def test_app_screens_can_be_landings(source: Resolve) -> None:
    """`app://package/screen` carries tags as a page does."""
    assert source("app://com.example.shop/offer?utm_source=push&utm_medium=push").channel == "Mobile Push Notifications"


def test_referral_links(make: Callable[..., SourceResolver], source: Resolve) -> None:
    """A programme's link is a source of its own unless somebody tagged or paid for it; not in the ga4 profile."""
    resolver = make(referral_parameters=("ref", "via"))
    found = source("?ref=ANNA", "https://www.facebook.com/", resolver=resolver)
    assert (found.source, found.medium, found.channel) == (
        "referral-programme",
        "referral-programme",
        "Referral Programme",
    )
    assert source("?ref=ANNA&utm_source=a", resolver=resolver).source == "a"
    assert source("?ref=ANNA&gclid=1", resolver=resolver).source == "google"
    assert source("?ref=ANNA", resolver=make(profile="ga4", referral_parameters=("ref",))).source == "(direct)"
