"""Records that cannot be used, each with the reason that it must be given: written from the contract, not the code."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

Value = dict[str, Any]


class Bad(NamedTuple):
    """One bad record and the reasons that are right for it."""

    topic: str
    key: bytes | None
    value: bytes | None
    reasons: frozenset[str]


def _encoded(value: Value) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _cut(rng: random.Random, value: Value) -> bytes:
    whole = _encoded(value)
    return whole[: rng.randrange(1, len(whole))]


def _not_utf8(rng: random.Random, value: Value) -> bytes:
    value["ignored"] = "~~~~"
    return _encoded(value).replace(b"~~~~", rng.choice((b"\xff\xfe\x80\x81", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8")))


def _not_an_object(rng: random.Random, _: Value) -> bytes:
    return rng.choice((b"[]", b"17", b'"text"', b"null", b"true", b"[" * 5_000, b"{" * 40, b"", b"\x00\x01", b"NaN"))


def _with(field: str, *wrong: Any) -> Callable[[random.Random, Value], bytes]:
    def change(rng: random.Random, value: Value) -> bytes:
        value[field] = rng.choice(wrong)
        return _encoded(value)

    return change


def _raw(field: str, *wrong: bytes) -> Callable[[random.Random, Value], bytes]:
    """A value that no JSON encoder would write."""

    def change(rng: random.Random, value: Value) -> bytes:
        value[field] = "@@@@"
        return _encoded(value).replace(b'"@@@@"', rng.choice(wrong))

    return change


def _without(*fields: str) -> Callable[[random.Random, Value], bytes]:
    def change(rng: random.Random, value: Value) -> bytes:
        del value[rng.choice(fields)]
        return _encoded(value)

    return change


def _shifted(*offsets_ms: int) -> Callable[[random.Random, Value], bytes]:
    def change(rng: random.Random, value: Value) -> bytes:
        value["occurred_at"] += rng.choice(offsets_ms)
        return _encoded(value)

    return change


DAY_MS = 86_400_000
NO_TIMES = ("yesterday", "2026-11-27", "2026-11-27T10:00:00", "", True, {}, [])
BOTH: tuple[tuple[Callable[[random.Random, Value], bytes], tuple[str, ...]], ...] = (
    (_cut, ("bad_json",)),
    (_not_utf8, ("bad_json",)),
    (_not_an_object, ("bad_json",)),
    (_without("event_id", "client_id", "occurred_at"), ("missing_field",)),
    (_with("event_id", 17, "", "with\u0001control", "\u0085", ["a"], {"a": 1}, None, True), ("bad_field",)),
    (_with("event_id", "x" * 129, "é" * 65), ("too_large",)),
    (_with("user_id", "u" * 129), ("too_large",)),
    (_with("user_id", 5, "a\u007fb", []), ("bad_field",)),
    (_with("kind", "purchase", 1, "PAGE_VIEW", [], {}), ("bad_field",)),
    (_with("occurred_at", *NO_TIMES), ("bad_field",)),
    (_raw("occurred_at", b"NaN", b"Infinity", b"-Infinity"), ("bad_json",)),
    (_raw("occurred_at", b"1e400", b"1.5", b"9" * 400), ("bad_field", "bad_json", "clock_skew")),
    (_with("occurred_at", 10**18, 253_402_300_800_000 + DAY_MS), ("clock_skew", "bad_field")),
    (_with("occurred_at", -1, -(10**15)), ("bad_field", "too_late")),
    (_shifted(20 * 60_000, DAY_MS, 3_650 * DAY_MS), ("clock_skew",)),
    (_with("user_agent", "m" * 2_049, "é" * 1_025), ("too_large",)),
)
CLICKS = (
    (_without("url"), ("missing_field",)),
    (_with("url", "", "/relative", "ftp://shop.example.com/", "https://", "shop.example.com", 5, None), ("bad_field",)),
    (_with("url", "https://shop.example.com/" + "a" * 8_192), ("too_large",)),
    (_with("referrer", "https://a.example/" + "a" * 8_192), ("too_large",)),
    (_shifted(-2 * 3_600_000, -DAY_MS, -500 * DAY_MS), ("too_late",)),
)
CONVERSIONS = (
    (_without("goal"), ("missing_field",)),
    (_with("goal", "g" * 2_049), ("too_large",)),
    (_with("value", "ten", "1,50", "-5", "1e16", "0.1234567891", True, {}, [], ""), ("bad_money",)),
    (_raw("value", b"NaN", b"-Infinity"), ("bad_json", "bad_money")),
    (_with("currency", "XXY", "EURO", "€", "E"), ("bad_money",)),
    (_with("score", 11, -1, "ten", 5.5), ("bad_field",)),
    (_with("suspicious", "yes", 1), ("bad_field",)),
    (_with("segment", [], {"a": 1}, "geo"), ("bad_field",)),
    (_with("segment", {str(n): "x" for n in range(9)}), ("too_large",)),
    (_shifted(-500 * DAY_MS, -5_000 * DAY_MS), ("too_late",)),
)


def good(rng: random.Random, number: int, now_ms: int) -> tuple[str, Value]:
    """A record that can be used."""
    value: Value = {
        "event_id": f"e{number}",
        "client_id": f"c{rng.randrange(2_000)}",
        "occurred_at": now_ms - rng.randrange(600_000),
    }
    if rng.random() < 0.7:
        return "clicks", value | {"url": f"https://shop.example.com/p/{number}?utm_source=news&utm_medium=email"}
    return "conversions", value | {"goal": "purchase", "value": f"{rng.randrange(10_000)}.{rng.randrange(100):02}"}


def bad(rng: random.Random, number: int, now_ms: int) -> Bad:
    """A good record with one thing wrong."""
    topic, value = good(rng, number, now_ms)
    key = value["client_id"].encode()
    if rng.random() < 0.05:
        return Bad(
            topic, rng.choice((b"another", key + b" ", b"\xff\xfe")), _encoded(value), frozenset({"key_mismatch"})
        )
    if rng.random() < 0.02:
        return Bad(topic, key, None, frozenset({"bad_json"}))
    change, reasons = rng.choice(BOTH + (CLICKS if topic == "clicks" else CONVERSIONS))
    return Bad(topic, key, change(rng, value), frozenset(reasons))
