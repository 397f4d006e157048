"""Percent-encoded text back into text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MISSING = frozenset(("", "null", "undefined", "(not set)"))
_MACRO = re.compile(r"\$?\{\{[^{}]*\}\}|\$?\{[^{}]*\}|\[\[[^\[\]]*\]\]|%%[^%]+%%|__[A-Z0-9_]+__")
_WORD = re.compile(r"\w")


def decode(value: str, charsets: Iterable[str] = ()) -> str:
    """Decode a query value once, `+` as space. UTF-8, else the first charset that fits, else a guess between Cyrillic
    and Western. Control characters become spaces."""
    if "%" in value or "+" in value or not value.isascii():
        # Half of a surrogate pair is no text; what decoders of other languages leave of broken bytes becomes "?".
        raw = unquote_to_bytes(value.replace("+", " ").encode("utf-8", errors="replace"))
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            value = _decode_legacy(raw, charsets)
    if _CONTROL.search(value):
        value = _CONTROL.sub(" ", value)
    return value


def decode_keyword(value: str, charsets: Iterable[str] = ()) -> str:
    """As `decode`, and once more if what came out is percent-encoded throughout, as some redirectors leave it."""
    text = decode(value, charsets)
    if "%" in text and text.isascii() and _ESCAPE.search(text) and " " not in text:
        return decode(text, charsets)
    return text


def _decode_legacy(raw: bytes, charsets: Iterable[str]) -> str:
    for charset in charsets:
        try:
            return raw.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
    high = sum(byte >= 0xC0 for byte in raw)
    letters = high + sum(0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A for byte in raw)
    return raw.decode("windows-1251" if high * 2 > letters else "windows-1252", errors="replace")


def tag_value(raw: str) -> str:
    """A tag's value: decoded once, trimmed; empty if it is missing.

    `null`, `undefined`, `(not set)` and macros that no ad system expanded (`{campaignid}`) are missing.
    """
    value = decode(raw).strip()
    if value.lower() in _MISSING:
        return ""
    if _MACRO.search(value) and not _WORD.search(_MACRO.sub("", value)):
        return ""
    return value
