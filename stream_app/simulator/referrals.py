"""A referral programme among the traffic: customers who enrol, invite, whose links their friends come by, and who are
paid for it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from stream_app.engine.partitioning import murmur2
from stream_app.simulator.payouts import Manager
from stream_app.simulator.records import Record

_PURCHASE = b'"goal":"purchase"'
_FIELDS = re.compile(rb'"(user_id|client_id|email|phone|name|ip)":"([^"\\]*)"')
_LANDING = re.compile(rb'"url":"(https?://[^"?#\\]+)"')
_SHOP = b"://shop.example.com/"
_KINDS = ("customer", "customer", "customer", "friend", "family", "influencer", "partner", "employee")
_MINUTE = 60_000
ENROLS = 0.4
"""Share of customers who enrol after a purchase."""
REFERRED = 0.08
"""Share of arrivals without tags that come by somebody's link, once there are links."""


class Referrals:
    """The records of `traffic` in their order, with the life of `program` among them."""

    def __init__(self, traffic: Iterable[Record], seed: int, program: str, manager: Manager | None = None) -> None:
        self._traffic = traffic
        self._rng = random.Random(f"{seed}/{program}")
        self._program = program
        self._manager = manager
        """Pays; without one nobody does."""
        self._codes: dict[str, str] = {}
        self._joins: dict[str, int] = {}
        self._queue: list[tuple[int, int, Record]] = []
        self._pushed = 0

    def __iter__(self) -> Iterator[Record]:
        queue = self._queue
        for record in self._traffic:
            while queue and queue[0][0] <= record.ts:
                yield heappop(queue)[2]
            if self._manager is not None:
                for user, at, said in self._manager.payouts(record.ts):
                    self._push(user, at, said)
            if record.topic == "clicks":
                yield self._visit(record)
                continue
            if record.topic == "conversions" and _PURCHASE in record.value:
                if self._manager is not None:
                    for user, at, said in self._manager.purchase(record):
                        self._push(user, max(at, record.ts), said)
                self._customer(record)
            yield record

    def _visit(self, record: Record) -> Record:
        """Some arrivals without tags come by a link: from a messenger, a friend's page, or typed in."""
        value = record.value
        if not self._codes or value.count(_SHOP) > 1 or b"bot" in value.lower() or self._rng.random() > REFERRED:
            return record
        user, code = self._rng.choice(list(self._codes.items()))
        linked = _LANDING.sub(rb'"url":"\1?ref=%b"' % code.encode(), value, count=1)
        arrives = linked != value and record.key is not None and record.occurred_at >= self._joins[user]
        if self._manager is not None and arrives:
            self._manager.visit((record.key or b"").decode("utf-8", "replace"), user)
        return replace(record, value=linked)

    def _customer(self, record: Record) -> None:
        """Somebody has bought: enrols, with their account or a new one, and invites."""
        said = {name.decode(): text.decode("utf-8", "replace") for name, text in _FIELDS.findall(record.value)}
        user = said.get("user_id") or f"member-{said.get('client_id')}"
        if user in self._codes or self._rng.random() > ENROLS:
            return
        code = self._codes[user] = f"FRIEND-{user.upper()}"
        self._joins[user] = record.ts + _MINUTE
        kind = self._rng.choice(_KINDS)
        self._push(user, record.ts + _MINUTE, {"type": "enrolled", "code": code, "advocate_kind": kind, **said})
        for number in range(self._rng.randrange(4)):
            at = record.ts + (number + 2) * _MINUTE * 5
            self._push(user, at, {"type": "invited", "channel": "email", "count": self._rng.randrange(1, 6)})

    def _push(self, user: str, at: int, value: dict[str, Any]) -> None:
        self._pushed += 1
        event = {"event_id": f"{self._program}-{user}-{self._pushed}", "occurred_at": at, "program": self._program}
        body = json.dumps({**event, **value, "user_id": user}, separators=(",", ":")).encode()
        key = user.encode()
        record = Record("referral-events", key, body, at, at, murmur2(key) & 0x7FFFFFFF)
        heappush(self._queue, (at, self._pushed, record))
