"""Generated histories of a client or two: ties, duplicates, detours, changes of user, refunds, late conversions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.processors.harness import DAY, ENROLMENTS, HOUR, MINUTE, T0

Record = tuple[str, dict[str, Any], int]

GAPS = (0, 0, 1, 5_000, 11_000, MINUTE, 10 * MINUTE, 30 * MINUTE - 1, 30 * MINUTE, 45 * MINUTE, 60 * MINUTE,
        61 * MINUTE, 3 * HOUR, DAY, 29 * DAY, 31 * DAY, 89 * DAY, 91 * DAY)  # fmt: skip
SPAN = 390 * DAY
"""No client is silent for so long that it is forgotten: the reference forgets nobody."""
DELAYS = (0, 0, 1, MINUTE, 20 * MINUTE, 59 * MINUTE, 60 * MINUTE)
LATE = (60 * MINUTE + 1, 5 * HOUR, 20 * DAY)
PAGES = (
    {"url": "https://shop.example.com/"},
    {"url": "https://shop.example.com/p/1", "referrer": "https://shop.example.com/"},
    {"url": "https://shop.example.com/p/2", "referrer": "https://shop.example.com/"},
    {"url": "https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign=spring"},
    {"url": "https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign=autumn"},
    {"url": "https://shop.example.com/?utm_source=google&utm_medium=cpc"},
    {"url": "https://shop.example.com/?gclid=abc"},
    {"url": "https://shop.example.com/n?utm_source=news&utm_medium=email"},
    {"url": "https://shop.example.com/", "referrer": "https://www.google.com/"},
    {"url": "https://shop.example.com/", "referrer": "https://blog.example.org/post"},
    {"url": "https://shop.example.com/ok", "referrer": "https://www.paypal.com/checkout"},
    {"url": "https://shop.example.com/go", "kind": "link_click"},
    {"url": "app://com.example.shop/home", "kind": "screen_view"},
    {"url": "https://shop.example.com/", "user_agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"},
)
USERS = (None, None, None, None, "u1", "u2")
ORDERS = (None, None, "o1", "o2")
MONEY = ({}, {"value": "10.50"}, {"value": 3}, {"value": 7, "currency": "USD"}, {"value": "1000", "currency": "JPY"})
CODES = ({}, {}, {"promo_code": "Anna"}, {"promo_code": "anna"}, {"promo_code": "sale20", "invite_code": "ANNA"})
OFFLINE = ({}, {}, {}, {"source": "fair", "medium": "offline"}, {"called_number": "+37120000001"})


@st.composite
def histories(draw: st.DrawFn, max_events: int = 14) -> list[tuple[str, dict[str, Any], bool]]:
    """(topic, record, late): events with their times. A late conversion's id is its own."""
    count = draw(st.integers(1, max_events))
    clients = draw(st.sampled_from((("c1",), ("c1", "c2"), ("c1", "c2", "c3"))))
    at, result = 0, []
    for index in range(count):
        at += min(draw(st.sampled_from(GAPS)), max(SPAN - at, 0))
        kind = draw(st.sampled_from(("click",) * 6 + ("conversion",) * 3 + ("refund", "late")))
        fresh = f"{draw(st.integers(0, 9))}{index}"
        record: dict[str, Any] = {
            "event_id": draw(st.sampled_from((fresh, fresh, fresh, "same"))) if kind != "late" else f"late{index}",
            "client_id": draw(st.sampled_from(clients)),
            "occurred_at": T0 + at,
        }
        user = draw(st.sampled_from(USERS))
        if user:
            record["user_id"] = user
        if kind == "click":
            result.append(("clicks", record | draw(st.sampled_from(PAGES)), False))
            continue
        record["goal"] = draw(st.sampled_from(("purchase", "lead_form", "signup")))
        if kind == "refund":
            value = draw(st.sampled_from(({}, {"value": "4"}, {"value": "100"})))
            record |= {"kind": "refund", "order_id": draw(st.sampled_from(("o1", "o2", "o3"))), **value}
        else:
            order = draw(st.sampled_from(ORDERS))
            if kind == "late":  # in one client a late claim and one within grace would depend on what has settled
                order = "o3" if record["client_id"] == "c1" else None
            elif record["client_id"] != "c1":
                order = draw(st.sampled_from((order, "o3")))
            record |= draw(st.sampled_from(MONEY)) | draw(st.sampled_from(OFFLINE)) | draw(st.sampled_from(CODES))
            record |= {"order_id": order} if order else {}
            record |= draw(st.sampled_from(({}, {}, {}, {"user_agent": "Googlebot/2.1"})))
        result.append(("conversions", record, kind == "late"))
    return result


@st.composite
def enrolments(
    draw: st.DrawFn, history: list[tuple[str, dict[str, Any], bool]]
) -> list[tuple[str, dict[str, Any], bool]]:
    """Who enrolled with the codes of a history and left again, around the times of its conversions."""
    sales = [record["occurred_at"] for topic, record, _ in history if topic == "conversions"]
    if not sales:
        return []
    nearby = st.builds(lambda at, off: at + off, st.sampled_from(sales), st.sampled_from((-DAY, -MINUTE, 0, 1, DAY)))
    result = []
    for user, code in draw(st.lists(st.sampled_from((("u1", "anna"), ("u2", "anna"), ("u1", "sale20"))), max_size=4)):
        name, at = f"enrolled{len(result)}", min(draw(nearby), draw(nearby))
        record = {"event_id": name, "type": "enrolled", "user_id": user, "code": code, "occurred_at": at}
        program = draw(st.sampled_from(("friends", "friends", "spring")))
        result.append((ENROLMENTS, record | {"program": program}, False))
        if draw(st.booleans()):
            end = max(at + 1, draw(nearby))
            result.append((ENROLMENTS, {"event_id": name, "type": "left", "occurred_at": end}, False))
    return result


@st.composite
def arrivals(draw: st.DrawFn, history: list[tuple[str, dict[str, Any], bool]]) -> list[Record]:
    """The history as it arrives: each event late by something within grace, the late ones by more."""
    records = [
        (topic, record, record["occurred_at"] + draw(st.sampled_from(LATE if late else DELAYS)))
        for topic, record, late in history
    ]
    records = draw(st.permutations(records))
    return sorted(records, key=lambda record: record[2])


def in_order(history: list[tuple[str, dict[str, Any], bool]]) -> list[Record]:
    """The history as it arrives when nothing is delayed, but what has to be late."""
    records = [(topic, record, record["occurred_at"] + (LATE[0] if late else 0)) for topic, record, late in history]
    return sorted(records, key=lambda record: record[2])


@st.composite
def commits(draw: st.DrawFn, records: list[Record]) -> list[list[Record]]:
    """Any split of the records into commits."""
    result: list[list[Record]] = [[]]
    for record in records:
        if draw(st.booleans()):
            result.append([])
        result[-1].append(record)
    return result
