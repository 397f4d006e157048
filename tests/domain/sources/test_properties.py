"""What must hold for any URL."""

from __future__ import annotations

import random
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.domain.sources import ReferenceTables, SourceResolver, SourceRules
from stream_app.domain.sources.hosts import name_suffixes, normalize_host, public_suffix, split_url
from stream_app.domain.sources.matching import SiteMatcher, split_pattern

SHOP = "https://shop.example.com/"

NAMES = ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id", "mtm_source", "pk_campaign",
         "gclid", "fbclid", "yclid", "srsltid", "_openstat", "_gl", "ref", "q", "id", "page"]  # fmt: skip
HOSTS = ["www.google.com", "yandex.ru", "l.facebook.com", "t.co", "mail.ru", "shop.example.com", "paypal.com",
         "semalt.com", "blog.example", "mail.some.example", "", "vk.com", "chatgpt.com",
         "xn--d1abbgf6aiiy.xn--p1ai"]  # fmt: skip
values = st.one_of(
    st.sampled_from(["", "a", "CPC", "null", "{x}", "google", "%20", "spring sale", "a;b;c;d", "shop"]),
    st.text(max_size=20),
)
pairs = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8, unique_by=lambda pair: pair[0])
referrers = st.one_of(
    st.text(max_size=60),
    st.builds(
        "https://{}/{}".format, st.sampled_from(HOSTS), st.sampled_from(["", "search?q=a+b", "login", "x?text=%EE"])
    ),
    st.builds("{}://{}".format, st.sampled_from(["http", "https", "android-app", "ftp", ""]), st.text(max_size=40)),
)
urls = st.one_of(
    st.text(max_size=80),
    st.builds(lambda path, query: SHOP + path + "?" + query, st.text(max_size=20), st.text(max_size=80)),
    pairs.map(lambda found: SHOP + "?" + "&".join(f"{name}={quote_plus(value)}" for name, value in found)),
)


@given(url=urls, referrer=referrers)
@example(url="?", referrer="https://[")
@example(url="https://shop.example.com?#=", referrer="//")
@example(url=SHOP + "?utm_source=%FF%FE&utm_campaign=\ud800a", referrer="https://www.google.com/search?q=\udfff")
@example(url=SHOP + "?utm_source=%FF%FE", referrer="http://\ud800.com/")
def test_any_input_gets_the_same_answer_again(extended: SourceResolver, url: str, referrer: str) -> None:
    """Never an error; the same when asked again and when explained, which looks into no cache."""
    first = extended.resolve(url, referrer)
    assert extended.resolve(url, referrer) == first
    assert extended.explain(url, referrer).arrival == first
    assert (first.source is None) == (first.kind in {"none", "spam"})


@given(found=pairs, referrer=referrers, seed=st.integers(0, 1_000))
def test_order_of_parameters_does_not_matter(
    extended: SourceResolver, found: list[tuple[str, str]], referrer: str, seed: int
) -> None:
    """Any permutation of different parameters is the same landing."""
    shuffled = found[:]
    random.Random(seed).shuffle(shuffled)
    one, other = (
        SHOP + "?" + "&".join(f"{name}={quote(value)}" for name, value in order) for order in (found, shuffled)
    )
    assert extended.resolve(one, referrer) == extended.resolve(other, referrer)


@given(found=pairs)
def test_case_of_names_does_not_matter(extended: SourceResolver, found: list[tuple[str, str]]) -> None:
    """UTM_Source is utm_source."""
    one, other = (
        SHOP + "?" + "&".join(f"{change(name)}={quote(value)}" for name, value in found)
        for change in (str.lower, str.title)
    )
    assert extended.resolve(one) == extended.resolve(other)


@given(found=pairs, referrer=referrers)
def test_explicit_fields_of_a_tagged_arrival_give_its_channel(
    extended: SourceResolver, ga4: SourceResolver, found: list[tuple[str, str]], referrer: str
) -> None:
    """Classifying what was classified changes nothing: a cost with these tags gets the same channel."""
    url = SHOP + "?" + "&".join(f"{name}={quote(value)}" for name, value in found)
    for resolver in (extended, ga4):
        source = resolver.resolve(url, referrer).source
        if source is None or source.arrival != "tagged" or source.click_id_type:
            continue
        campaign = "" if source.campaign == "(not set)" else source.campaign
        again = resolver.of_fields(source.source, source.medium, campaign)
        assert (again.source, again.medium, again.channel) == (source.source, source.medium, source.channel)


def _concrete(pattern: str) -> str:
    return pattern.replace(".*", ".com")


def test_no_look_alike_of_any_table_matches(tables: ReferenceTables) -> None:
    """For every host of every table: neither letters before it, nor a domain behind it, nor a hyphen make it match."""
    matcher = SiteMatcher(tables.sites)
    for group in tables.sites.values():
        for site in group:
            for text in site.hosts:
                pattern, _ = split_pattern(text)
                host = _concrete(pattern)
                for look_alike in (
                    f"not{host}",
                    f"x-{host}",
                    f"{host}.evil.example",
                    f"{host.replace('.', '-')}.example",
                ):
                    matched = {match.pattern for match in matcher.of_host(look_alike)}
                    assert pattern.removeprefix("www.") not in matched, (pattern, look_alike)


@given(label=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True))
def test_a_host_matches_itself_and_below_only(label: str) -> None:
    """Suffixes go by labels."""
    assert "google.com" in name_suffixes(f"{label}.google.com")
    assert "google.com" not in name_suffixes(f"{label}google.com")
    assert "google.*" not in name_suffixes(f"google.{label}.com")
    assert "t.co" not in name_suffixes(f"{label}t.co")


@given(text=st.text(max_size=300))
def test_hosts_normalise_once(text: str) -> None:
    """A normalised host is its own normal form, short and plain."""
    host = normalize_host(text)
    if host is not None:
        assert normalize_host(host) == host
        assert host.isascii()
        assert len(host) <= 255
        assert public_suffix(host) == "" or host.endswith(public_suffix(host))
    split_url(text)


@pytest.mark.parametrize(
    ("url", "referrer"),
    [
        (SHOP + "?" + "&".join(f"p{n}={n}" for n in range(10_000)), ""),
        (SHOP + "?" + "utm_source=&" * 10_000, ""),
        (SHOP + "?utm_source=" + "%7Bx%7D" * 2_000, ""),
        (SHOP + "?utm_source=" + "{" * 8_000, ""),
        (SHOP + "?utm_source=" + "%25" * 2_700, ""),
        (SHOP + "?_openstat=" + "A" * 8_000, ""),
        (SHOP + "#" + "?" * 8_000 + "=", ""),
        (SHOP, "https://" + "a." * 4_000 + "com/"),
        (SHOP, "https://" + "а." * 4_000 + "рф/"),
        (SHOP, "https://www.google.com/search?q=" + "%EE" * 2_600),
        (SHOP, "https://www.google.com/search?" + "q&" * 4_000),
        (SHOP, "https%25" * 1_000),
        (SHOP, "[" * 8_000),
        (SHOP, "@" * 8_000),
        (SHOP + "?utm_source=" + "_" * 8_000, "https://x/" + "/" * 8_000),
    ],
)
def test_hostile_input_is_bounded_in_time(extended: SourceResolver, url: str, referrer: str) -> None:
    """Far from a stall even on a slow machine; what it really takes is for the fuzzer and the benchmark to say."""
    started = time.process_time()
    extended.resolve(url, referrer)
    assert time.process_time() - started < 0.1


def test_caches_are_bounded(tables: ReferenceTables) -> None:
    """However many different clicks come, each cache keeps to its size."""
    resolver = SourceResolver(SourceRules(), tables, cache_size=100)
    for number in range(2_000):
        resolver.resolve(f"https://a{number}.example/?utm_source=s{number}", f"https://r{number}.example/{number}")
        resolver.resolve(f"https://a{number}.example/", f"https://www.google.com/search?q={number}")
    assert max(resolver.cache_sizes().values()) <= 100
