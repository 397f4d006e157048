"""Hosts as they stand in URLs of the real world, brought into one form."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from publicsuffixlist import PublicSuffixList

MAX_URL = 8_192
"""Longer texts are cut: nothing that names a source stands so far behind, and time stays bounded."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,31}(?=:)")
_ENCODED_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,31}%(?:25)?3A%(?:25)?2F", re.IGNORECASE)
_HOST_END = re.compile(r"[/?#\\]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_IPV6 = re.compile(r"[0-9a-f:.]{2,45}(?:%[0-9a-z]{1,16})?")

_icann = PublicSuffixList(only_icann=True, accept_unknown=False)
_all_suffixes = PublicSuffixList()


class Place(NamedTuple):
    """A URL taken apart. `host` is normalised; the rest is as given, without its separators."""

    scheme: str
    host: str
    path: str
    query: str
    fragment: str


def split_url(text: str) -> Place | None:
    """Take a URL apart; None if no host can be made out.

    Accepts what referrers really look like: no scheme, a scheme percent-encoded once or twice, upper case, user
    information, ports, trailing dots, IPv6, international names, white space around.
    """
    text = text[:MAX_URL].strip()
    if not text:
        return None
    for _ in range(2):
        if _ENCODED_SCHEME.match(text):
            text = unquote(text, errors="replace")
    if text.startswith("android-app//"):
        text = text.replace("//", "://", 1)
    scheme = ""
    if (found := _SCHEME.match(text)) and text.startswith("//", found.end() + 1):
        scheme = found[0].lower()
        rest = text[found.end() + 3 :]
    elif text.startswith("//"):
        rest = text[2:]
    else:
        rest = text
    end = _HOST_END.search(rest)
    cut = end.start() if end else len(rest)
    authority, rest = rest[:cut], rest[cut:].replace("\\", "/", 1)
    host = normalize_host(authority)
    if host is None or (not scheme and not text.startswith("//") and not _is_public(host)):
        return None
    rest, _, fragment = rest.partition("#")
    path, _, query = rest.partition("?")
    return Place(scheme, host, path, query, fragment)


def normalize_host(authority: str) -> str | None:
    """The host of `user@host:port` in lower-case ASCII without port and trailing dot; None if it is none.

    International names become their `xn--` form, which is what browsers send.
    """
    host = authority.rpartition("@")[2].strip()
    if host.startswith("["):
        host, closed, _ = host[1:].lower().partition("]")
        return f"[{host}]" if closed and _IPV6.fullmatch(host) else None
    host = host.partition(":")[0]
    if "%" in host:
        host = unquote(host, errors="replace")
    if len(host) > 253:
        return None
    host = host.lower() if host.isascii() else _to_ascii(host)
    host = host.rstrip(".")
    if not host or len(host) > 253:
        return None
    return host if _HOST.fullmatch(host) else None


def _to_ascii(host: str) -> str:
    """The `xn--` form; empty if there is none."""
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        pass
    labels = host.lower().replace("\u3002", ".").split(".")
    try:
        return ".".join(x if x.isascii() else "xn--" + x.encode("punycode").decode("ascii") for x in labels)
    except UnicodeError:
        return ""


def is_address(host: str) -> bool:
    """True for an IPv4 or (bracketed) IPv6 address."""
    return host.startswith("[") or (host[-1:].isdigit() and _IPV4.fullmatch(host) is not None)


def public_suffix(host: str) -> str:
    """The public suffix by the ICANN part of the public suffix list (`co.uk`); empty for addresses and unknown ones.

    Hosting services (`github.io`) do not count here: `google.github.io` is not Google.
    """
    if is_address(host):
        return ""
    return _icann.publicsuffix(host) or ""


def _is_public(host: str) -> bool:
    """True for a name below a public suffix, which may stand without a scheme; `index.html` may not."""
    return public_suffix(host) not in {"", host}


def registrable_domain(host: str) -> str:
    """The domain that somebody registered, hosting services included (`me.github.io`); the host itself if none."""
    if is_address(host):
        return host
    return _all_suffixes.privatesuffix(host) or host


def name_suffixes(host: str) -> list[str]:
    """The patterns that match a host, the most specific first: `news.google.co.uk`, `news.google.*`,
    `google.co.uk`, `google.*`."""
    if is_address(host):
        return [host]
    suffix = public_suffix(host)
    labels = host.split(".")[-16:]
    stem = len(labels) - (suffix.count(".") + 1 if suffix else 0)
    names = []
    for start in range(len(labels)):
        names.append(".".join(labels[start:]))
        if suffix and start < stem:
            names.append(".".join(labels[start:stem]) + ".*")
    return names


def without_www(host: str) -> str:
    """The host without a leading `www.`, if something with a dot is left."""
    if host.startswith("www.") and "." in host[4:]:
        return host[4:]
    return host


_ALIAS_PREFIXES = frozenset(("www", "m", "l", "lm", "mobile", "touch", "away", "out", "amp", "wap", "mbasic"))


def without_alias_prefixes(host: str, registrable: str) -> str:
    """The host under which the mobile, redirect and AMP variants of a site merge: `m.example.com` → `example.com`."""
    while host != registrable:
        first, _, rest = host.partition(".")
        if first not in _ALIAS_PREFIXES or len(rest) < len(registrable):
            break
        host = rest
    return host
