"""Tags and click ids in the query and fragment of a landing page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from stream_app.domain.sources.hosts import MAX_URL
from stream_app.domain.sources.text import tag_value

CROSS_DOMAIN = "_gl"
OPENSTAT = "_openstat"
REFERRAL_LINK = "referral link"

_LONGEST_MISSING = len("%28not%20set%29")
_MACRO_STARTS = frozenset("{[$%_")

_FIELDS = ("source", "medium", "campaign", "term", "content", "id", "source_platform")
_UTM = {f"utm_{field}": f"utm_{field}" for field in _FIELDS}
_MATOMO_SPELLINGS = {
    "source": ("source",),
    "medium": ("medium",),
    "campaign": ("campaign", "cpn"),
    "term": ("kwd", "keyword"),
    "content": ("content",),
    "id": ("cid",),
}
_MATOMO = {
    f"{prefix}_{spelling}": f"mtm_{field}"
    for prefix in ("mtm", "matomo", "pk", "piwik")
    for field, spellings in _MATOMO_SPELLINGS.items()
    for spelling in spellings
}

Found = frozenset[tuple[str, str]]
"""What a landing page carries: canonical names with their raw values, click ids with an empty one."""


class TagSet(NamedTuple):
    """One atomic set of tags. Missing values are empty. Source and medium are in lower case."""

    source: str = ""
    medium: str = ""
    campaign: str = ""
    term: str = ""
    content: str = ""
    id: str = ""
    source_platform: str = ""
    family: str = ""

    @property
    def given(self) -> bool:
        """Tags exist when source, medium, campaign or id is given (semantics 28)."""
        return bool(self.source or self.medium or self.campaign or self.id)


class TagScanner:
    """Finds what matters in a landing page's query and fragment, in one pass over the parameters."""

    def __init__(
        self,
        click_ids: Iterable[str],
        referral_parameters: Iterable[str] = (),
        referral_prefixes: Iterable[str] = (),
    ) -> None:
        self._prefixes = tuple(prefix.lower().rstrip("/") + "/" for prefix in referral_prefixes)
        self._click_ids = frozenset(name.lower() for name in click_ids)
        self._marks = self._click_ids | {CROSS_DOMAIN, REFERRAL_LINK}
        self._names = {name.lower(): REFERRAL_LINK for name in referral_parameters}
        self._names.update({name: name for name in self._click_ids})
        self._names.update(_UTM)
        self._names.update(_MATOMO)
        self._names.update({CROSS_DOMAIN: CROSS_DOMAIN, OPENSTAT: OPENSTAT})

    def is_referral_path(self, url: str) -> bool:
        """Whether the path is a referral link's: one of the prefixes, and something behind it."""
        if not self._prefixes:
            return False
        start = url.find("/", url.find("//") + 2)
        path = url[start:].partition("?")[0].partition("#")[0].lower() if start > 0 else ""
        return any(path.startswith(prefix) and len(path) > len(prefix) for prefix in self._prefixes)

    def scan(self, url: str) -> Found | None:
        """What matters in query and fragment; None if nothing does. Names compare without case, the first value that
        is not missing counts, the query goes before the fragment."""
        if len(url) > MAX_URL:
            url = url[:MAX_URL]
        found: dict[str, str] = {REFERRAL_LINK: ""} if self.is_referral_path(url) else {}
        url, _, fragment = url.partition("#")
        query = url.partition("?")[2]
        if query:
            self._collect(query, found, "")
        if fragment and "=" in fragment:
            # Routers of single-page sites put a query into the fragment: #/landing?utm_source=…
            self._collect(fragment.partition("?")[2] or fragment, found, "#")
        return frozenset(found.items()) if found else None

    def _collect(self, text: str, found: dict[str, str], prefix: str) -> None:
        if "=" not in text:
            if "%3d" not in text.lower():
                return
            text = unquote(text, errors="replace")
        if "amp;" in text:
            text = text.replace("&amp;", "&")
        if "%5F" in text or "%5f" in text:
            text = text.replace("%5F", "_").replace("%5f", "_")
        names, marks = self._names, self._marks
        for part in text.split("&"):
            name, _, value = part.partition("=")
            canonical = names.get(name.lower())
            if canonical is None or not value:
                continue
            if canonical in marks:
                # A long value that starts like no macro needs no second look.
                if (len(value) > _LONGEST_MISSING and value[0] not in _MACRO_STARTS) or tag_value(value):
                    found[canonical] = ""
                continue
            if prefix:
                canonical = prefix + canonical
            if canonical not in found or not tag_value(found[canonical]):
                found[canonical] = value


def tag_sets(found: Found) -> TagSet:
    """The one set of tags that counts: utm in the query, Matomo's there, then the same in the fragment, then Openstat.
    A set is taken whole; values of different sets never mix. Without a complete one, what there is of term and content
    in the first."""
    values = dict(found)
    first = TagSet()
    for prefix in ("", "#"):
        for family in ("utm", "mtm"):
            tags = _read(values, prefix, family)
            if tags.given:
                return tags
            first = first if any(first[:6]) else tags
        openstat = values.get(prefix + OPENSTAT)
        if openstat:
            tags = read_openstat(openstat)
            if tags.given:
                return tags
    return first


def _read(values: dict[str, str], prefix: str, family: str) -> TagSet:
    read = {field: tag_value(values.get(f"{prefix}{family}_{field}", "")) for field in _FIELDS}
    read["source"] = read["source"].lower()
    read["medium"] = read["medium"].lower()
    return TagSet(**read, family=family)


def read_openstat(raw: str) -> TagSet:
    """Openstat's mark: `service;campaign;ad;place`, plain or in base64. Service becomes source, ad content, place
    term."""
    text = unquote(raw, errors="replace").strip()
    if ";" not in text:
        padded = text.replace("-", "+").replace("_", "/")
        padded += "=" * (-len(padded) % 4)
        try:
            text = base64.b64decode(padded, validate=True).decode("utf-8", errors="replace")
        except (binascii.Error, ValueError):
            return TagSet()
    if ";" not in text:
        return TagSet()
    service, campaign, ad, place, *_ = [*(tag_value(part.replace("+", "%2B")) for part in text.split(";")), "", "", ""]
    return TagSet(source=service.lower(), campaign=campaign, content=ad, term=place, family="openstat")
