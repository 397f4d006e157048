"""Codes in links, and what else a visit through one says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral.codes import normal_code
from stream_app.domain.referral.facts import COUPON_SITE, PAID_AD, Visit

NO_CODE = SEPARATOR * 2
"""What `LinkReader.captured` would be of a visit without a code, where its ip's hash follows."""
_BETWEEN = "\x1e"
"""Between the codes of one link: no code holds a control character."""
PAID_CLICK_IDS = frozenset(
    [
        "gclid",
        "gbraid",
        "wbraid",
        "gad_source",
        "gad_campaignid",
        "gclsrc",
        "dclid",
        "msclkid",
        "yclid",
        "ymclid",
        "rb_clickid",
        "vk_ref",
        "vkclid",
        "twclid",
        "ttclid",
        "li_fat_id",
        "sccid",
        "rdt_cid",
        "epik",
        "qclid",
        "ob_click_id",
        "tblci",
    ]
)
"""Click ids that only paid advertisements bear."""


class LinkReader:
    """Finds a programme's codes in a landing page: in parameters, in the fragment's parameters, or behind a prefix of
    the path. Names compare without letter case. Other things than codes are called `ref` as well, so all that may be
    one is kept, in this order: whose it is, others know."""

    def __init__(
        self, parameters: Iterable[str], prefixes: Iterable[str] = (), coupon_sites: Iterable[str] = ()
    ) -> None:
        self._parameters = frozenset(name.lower() for name in parameters)
        self._prefixes = tuple(sorted({p.lower().rstrip("/") + "/" for p in prefixes}, key=len, reverse=True))
        self._coupons = tuple(host.lower() for host in coupon_sites)

    def __bool__(self) -> bool:
        return bool(self._parameters or self._prefixes)

    def codes(self, url: str) -> tuple[str, ...]:
        """Codes as they are compared, one for each parameter at most."""
        address, _, fragment = url.partition("#")
        found: dict[str, str] = {}
        for text in (address.partition("?")[2], fragment.partition("?")[2] or fragment):
            if "=" in text:
                for part in text.replace("&amp;", "&").split("&"):
                    name, _, value = part.partition("=")
                    if value and (name := name.lower()) in self._parameters and not found.get(name):
                        found[name] = normal_code(unquote_plus(value))
        if self._prefixes:
            found[""] = self._in_path(address)
        return tuple(dict.fromkeys(filter(None, found.values()))) if found else ()

    def _in_path(self, address: str) -> str:
        try:
            path = urlsplit(address).path
        except ValueError:
            return ""
        lowered = path.lower()
        for prefix in self._prefixes:
            if lowered.startswith(prefix):
                return normal_code(unquote(path[len(prefix) :].partition("/")[0]))
        return ""

    def captured(self, url: str, referrer: str, click_id: str) -> str:
        """What is kept of a visit with a code: its codes and what speaks against it, in one text that the ip's hash may
        follow; empty for a visit without a code."""
        codes = self.codes(url)
        if not codes:
            return ""
        flags = PAID_AD if click_id.lower() in PAID_CLICK_IDS else 0
        if self._coupons and referrer and self._is_coupon_site(referrer):
            flags |= COUPON_SITE
        return f"{_BETWEEN.join(codes)}{SEPARATOR}{flags or ''}{SEPARATOR}"

    def _is_coupon_site(self, referrer: str) -> bool:
        try:
            host = (urlsplit(referrer).hostname or "").rstrip(".")
        except ValueError:
            return False
        return any(host == site or host.endswith("." + site) for site in self._coupons)


class Capture(NamedTuple):
    """A captured visit, read back: once for each of its codes."""

    visits: tuple[Visit, ...]
    ip: bytes


def read_capture(text: str, at: int) -> Capture:
    """What `LinkReader.captured` wrote."""
    codes, flags, ip = (*text.split(SEPARATOR), "", "")[:3]
    found = codes.split(_BETWEEN) if codes else ()
    visits = tuple(Visit(code, at, int(flags or 0), place=place) for place, code in enumerate(found))
    return Capture(visits, bytes.fromhex(ip))
