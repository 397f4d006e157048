"""How many clicks a second are classified on one core: sources, channels and bots."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from stream_app.domain.bots import BotDetector
from stream_app.domain.sources import SourceResolver, SourceRules
from stream_app.reference import load

CLICKS = 200_000
COLD_CLICKS = 20_000
ROUNDS = 3

Click = tuple[str, str, str]

_SHOP = "https://shop.example.com"
_BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{}.1 "
    "Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{}.4 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
    "Mozilla/5.0 (compatible; Googlebot/2.{}; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.{}; +https://openai.com/gptbot)",
)  # fmt: skip
_SEARCH = ("www.google.com", "www.google.lv", "www.google.de", "yandex.ru", "www.bing.com", "duckduckgo.com", "ya.ru")
_SITES = ("l.facebook.com", "t.co", "www.instagram.com", "vk.com", "ok.ru", "www.youtube.com", "t.me", "chatgpt.com",
          "mail.google.com", "e.mail.ru", "www.draugiem.lv", "www.ss.lv", "www.avito.ru", "dzen.ru", "www.linkedin.com",
          "perplexity.ai", "www.paypal.com", "checkout.stripe.com", "www.delfi.lv", "out.reddit.com")  # fmt: skip
_TAGS = (
    "utm_source=google&utm_medium=cpc&utm_campaign=spring_{}",
    "utm_source=newsletter&utm_medium=email&utm_campaign=w{}",
    "utm_source=facebook&utm_medium=paid_social&utm_campaign=c{}&utm_content=blue",
    "utm_source=vk&utm_medium=cpc&utm_term=t{}",
)


def clicks(number: int, seed: int = 1) -> list[Click]:
    """Clicks as a shop sees them: more than half within a visit, a good deal direct, the rest from everywhere, a third
    of those tagged; click ids are different in each."""
    rng = random.Random(seed)
    pick, below = rng.choice, rng.randrange

    def arrival() -> tuple[str, str]:
        page = f"{_SHOP}/p/{below(500)}"
        share = rng.random()
        if share < 0.30:
            return page, f"https://{pick(_SEARCH)}/"
        if share < 0.34:
            return page, f"https://{pick(_SEARCH)}/search?q=blue+shoes+{below(5_000)}&hl=lv&text=a{below(5_000)}"
        if share < 0.55:
            return page, f"https://{pick(_SITES)}/"
        if share < 0.62:
            return page, f"https://www.blog{below(3_000)}.example/post/{below(1_000)}"
        if share < 0.80:
            return (
                f"{page}?{pick(_TAGS).format(below(50))}&yclid={below(10**12)}&ref={below(10**6)}",
                f"https://{pick(_SEARCH)}/",
            )
        if share < 0.90:
            return f"{page}?gclid=Cj0{below(10**15):x}&gad_source=1&color=blue", "https://www.google.com/"
        return f"{page}?fbclid=IwAR{below(10**15):x}", "https://l.facebook.com/"

    found: list[Click] = []
    for _ in range(number):
        browser = pick(_BROWSERS[:5] if rng.random() < 0.97 else _BROWSERS[5:]).format(100 + below(40))
        share = rng.random()
        if share < 0.55:
            query = f"?page={below(9)}&sort=price" if rng.random() < 0.3 else ""
            found.append((f"{_SHOP}/p/{below(500)}{query}", f"{_SHOP}/c/{below(100)}", browser))
        elif share < 0.72:
            found.append((f"{_SHOP}/p/{below(500)}", "", browser))
        else:
            found.append((*arrival(), browser))
    return found


def different_clicks(number: int, seed: int = 2) -> list[Click]:
    """Clicks of which no cache knows anything: each with a referrer host, a campaign or a keyword of its own. User
    agents repeat as they do in life."""
    rng = random.Random(seed)
    found: list[Click] = []
    for count in range(number):
        browser = rng.choice(_BROWSERS).format(100 + rng.randrange(40))
        match count % 4:
            case 0:
                found.append((f"{_SHOP}/{count}", f"https://www.blog{count}.example/post", browser))
            case 1:
                found.append((f"{_SHOP}/?utm_source=s{count}&utm_medium=cpc&utm_campaign=c{count}", "", browser))
            case 2:
                found.append((f"{_SHOP}/", f"https://www.google.com/search?q=words+{count}&hl=lv", browser))
            case _:
                found.append((f"{_SHOP}/", f"https://m{count}.vk.com/", browser))
    return found


def _rate(classify: Callable[[Click], object], given: list[Click]) -> int:
    started = time.process_time()
    for click in given:
        classify(click)
    return round(len(given) / (time.process_time() - started))


def _classifier(resolver: SourceResolver, bots: BotDetector) -> Callable[[Click], object]:
    resolve, is_bot = resolver.resolve, bots.is_bot

    def classify(click: Click) -> object:
        url, referrer, user_agent = click
        return is_bot(user_agent), resolve(url, referrer)

    return classify


def run() -> dict[str, Any]:
    """Clicks per second of CPU time: warm, the best and the worst of a few rounds over realistic clicks; cold, clicks
    that all differ, with empty caches; and single parts of the warm ones."""
    tables = load()
    rules = SourceRules(own_domains=("shop.example.com",))
    given = clicks(CLICKS)
    classify = _classifier(SourceResolver(rules, tables), BotDetector(tables.ai_crawlers))
    _rate(classify, given)
    warm = [_rate(classify, given) for _ in range(ROUNDS)]
    fresh = different_clicks(COLD_CLICKS)
    BotDetector(tables.ai_crawlers).is_bot("compiles the patterns")
    cold = [
        _rate(_classifier(SourceResolver(rules, tables), BotDetector(tables.ai_crawlers)), fresh) for _ in range(ROUNDS)
    ]
    inner = [click for click in given if click[1].startswith(_SHOP)]
    tagged = [click for click in given if "utm_" in click[0] or "clid=" in click[0]]
    return {
        "classify": {
            "clicks": CLICKS,
            "warm_per_cpu_second": max(warm),
            "warm_per_cpu_second_worst": min(warm),
            "cold_clicks": COLD_CLICKS,
            "cold_per_cpu_second": max(cold),
            "cold_per_cpu_second_worst": min(cold),
            "internal_per_cpu_second": _rate(classify, inner),
            "tagged_per_cpu_second": _rate(classify, tagged),
        }
    }
