"""What goes on behind the site: the CRM in which leads live, and the reports of the ad systems that brought them.

Watches the traffic go by. Each lead form gets a lead id and a life: somebody calls back, or nobody does; the lead is
qualified, offered something, won or refused, and now and then reopened. Some leads come from a fair or over the phone
and have no form. Each campaign that people arrive from has its costs, reported again and again with the day's clicks so
far; one spends and brings nobody.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from stream_app.engine.partitioning import murmur2
from stream_app.simulator.records import Record, Topic
from stream_app.simulator.traffic import Traffic

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

OWNERS = ("Anna", "Janis", "Liga")
REASONS = ("price", "no answer", "not a fit", "chose another", "spam")
CLICK_CENTS = {
    "cpc": 62, "paid_social": 21, "cpv": 9, "display": 12, "retargeting": 30, "cross-network": 44, "affiliate": 0,
}  # fmt: skip
"""What a click costs by medium, in cents."""
CURRENCIES = {"bing": "USD", "tiktok": "USD"}
ACCOUNTS = {"facebook": "agency-account", "instagram": "agency-account"}
FAIR = {"source": "home-fair", "medium": "offline", "campaign": "riga"}
BILLBOARD = ("billboard", "offline", "ring-road")
"""Spends every day and brings no visit that says so."""

_LEAD_FORM = b'"goal":"lead_form"'
_EVENT_ID = re.compile(rb'"event_id":"([0-9a-f]{16,64})"')
_CAMPAIGN = re.compile(rb'utm_source=([^&"#]+)&utm_medium=([^&"#]+)&utm_campaign=([^&"#]+)')


class Business:
    """The traffic's records, in their order, with those of the CRM and the ad systems among them.

    `tempo` scales the time that leads take: 1 is human, 0.01 shows a deal within the hour. `report_ms` is the time
    between two reports of costs."""

    def __init__(self, traffic: Iterable[Record], seed: int, *, tempo: float = 1.0, report_ms: int = _HOUR) -> None:
        self._traffic = traffic
        self._seed = seed
        self._tempo = tempo
        self._report_ms = report_ms
        self._queue: list[tuple[int, int, Record]] = []
        self._pushed = 0
        self._clicks: dict[tuple[int, tuple[str, str, str]], int] = {}
        """By day and campaign."""

    def __iter__(self) -> Iterator[Record]:
        queue = self._queue
        report = 0
        for record in self._traffic:
            now = record.ts
            if now >= report:
                if report:
                    self._report(now)
                report = now - now % self._report_ms + self._report_ms
            while queue and queue[0][0] <= now:
                yield heappop(queue)[2]
            if record.topic == "clicks":
                self._landing(record)
                yield record
            elif _LEAD_FORM in record.value:
                yield self._lead(record)
            else:
                yield record

    def _push(self, topic: Topic, name: str, value: dict[str, Any], occurred_at: int, ts: int) -> None:
        key = name.encode()
        self._pushed += 1
        body = json.dumps(value, separators=(",", ":")).encode()
        record = Record(topic, key, body, occurred_at, ts, murmur2(key) & 0x7FFFFFFF)
        heappush(self._queue, (ts, self._pushed, record))

    # --- leads ---------------------------------------------------------------------------------------

    def _lead(self, record: Record) -> Record:
        """A form as it is sent on, with its lead's id. The form sent twice is the same lead, told twice."""
        found = _EVENT_ID.search(record.value)
        if found is None or not record.value.endswith(b"}"):
            return record
        lead_id = f"lead-{found[1].decode()}"
        rng = random.Random(f"{self._seed}/{lead_id}")
        self._live(lead_id, record.occurred_at, record.ts, rng)
        chance = rng.random()
        if chance < 0.12:
            self._live(f"fair-{lead_id[-12:]}", record.occurred_at, record.ts, rng, born=FAIR)
        elif chance < 0.2 and record.key is not None:
            born = {"client_id": record.key.decode("utf-8", "replace")}
            self._live(f"call-{lead_id[-12:]}", record.occurred_at + _MINUTE, record.ts, rng, born=born)
        return replace(record, value=record.value[:-1] + b',"lead_id":"%b"}' % lead_id.encode())

    def _live(self, lead_id: str, at: int, seen: int, rng: random.Random, born: dict[str, str] | None = None) -> None:
        """All that the CRM will ever say of a lead."""
        owner = rng.choice(OWNERS)
        story: list[tuple[float, dict[str, Any]]] = [(0, {"status": "new", **born})] if born else []
        minutes = rng.lognormvariate(3.7, 1.0)
        if rng.random() > 0.08:
            mql = {"qualification": "mql"} if rng.random() < 0.6 else {}
            story.append((minutes, {"status": "contacted", **mql}))
            story += _sale(rng, minutes, lead_id)
        for number, (after, said) in enumerate(story):
            moment = at + int(after * _MINUTE * self._tempo)
            delay = rng.randrange(200, 3_000)
            if rng.random() < 0.04:
                delay += int(rng.uniform(10, 600) * _MINUTE * self._tempo)
            value = {"event_id": f"{lead_id}-{number}", "lead_id": lead_id, "occurred_at": _rfc3339(moment), **said}
            if said["status"] != "new":
                value["owner"] = owner
            ts = max(seen, moment + delay)
            self._push("lead-updates", lead_id, value, moment, ts)
            if rng.random() < 0.03:
                self._push("lead-updates", lead_id, value, moment, ts + 1_500)

    # --- costs ---------------------------------------------------------------------------------------

    def _landing(self, record: Record) -> None:
        found = _CAMPAIGN.search(record.value)
        if found is not None:
            source, medium, campaign = (part.decode("ascii", "replace") for part in found.groups())
            if medium in CLICK_CENTS:
                place = record.ts // _DAY, (source, medium, campaign)
                self._clicks[place] = self._clicks.get(place, 0) + 1

    def _report(self, now: int) -> None:
        """What each campaign has spent today; of yesterday for the last time, with what came in after midnight."""
        today = now // _DAY
        self._clicks[today, BILLBOARD] = 0
        for (day, campaign), clicks in sorted(self._clicks.items()):
            source, medium, name = campaign
            stamp = datetime.fromtimestamp(day * _DAY / 1000, UTC).strftime("%Y-%m-%d")
            cost_id = f"{source}/{medium}/{name}/{stamp}"
            charged = clicks + clicks // 20  # some leave before the page is there
            cents = charged * CLICK_CENTS.get(medium, 0) if campaign != BILLBOARD else 4_000
            value: dict[str, Any] = {
                "event_id": f"{cost_id}@{now // self._report_ms}",
                "cost_id": cost_id,
                "day": stamp,
                "source": source,
                "medium": medium,
                "campaign": name,
                "cost": f"{cents // 100}.{cents % 100:02d}",
                "currency": CURRENCIES.get(source, "EUR"),
                "clicks": charged,
                "impressions": charged * 37,
            }
            if source in ACCOUNTS:
                value["account"] = ACCOUNTS[source]
            self._push("costs", cost_id, value, now, now)
        self._clicks = {place: n for place, n in self._clicks.items() if place[0] == today}


def live_business(traffic: Traffic) -> Business:
    """For people who watch: a lead's day takes a quarter of an hour, costs come every ten seconds."""
    return Business(traffic, traffic.seed, tempo=0.01, report_ms=10_000)


def _sale(rng: random.Random, minutes: float, lead_id: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """(minutes after the lead was born, what the CRM says then), from the first contact on."""
    day = 24 * 60.0
    at = minutes
    if rng.random() < 0.25:
        at += rng.uniform(0.2, 2) * day
        yield at, {"status": "refused", "reason": rng.choice(REASONS)}
        if rng.random() > 0.12:
            return
        at += rng.uniform(1, 5) * day
        yield at, {"status": "reopened"}
    at += rng.uniform(0.1, 2) * day
    yield at, {"status": "qualified", "qualification": "sql"}
    at += rng.uniform(0.5, 3) * day
    yield at, {"status": "proposal"}
    at += rng.uniform(0.5, 6) * day
    if rng.random() > 0.45:
        yield at, {"status": "refused", "reason": rng.choice(REASONS)}
        return
    cents = int(rng.lognormvariate(10.8, 0.8))
    profit = cents * rng.randrange(12, 40) // 100
    deal = {"revenue": f"{cents // 100}.{cents % 100:02d}", "profit": f"{profit // 100}.{profit % 100:02d}"}
    yield at, {"status": "won", "contact_id": f"client-{lead_id[-12:]}", "currency": "EUR", **deal}
    if rng.random() < 0.1:
        at += rng.uniform(0.1, 2) * day
        yield at, {"status": "won", "revenue": f"{cents // 110}.00", "currency": "EUR"}
    if rng.random() < 0.05:
        at += rng.uniform(1, 7) * day
        yield at, {"status": "refused", "reason": "sent back"}


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03d}Z")
