"""Whoever looks after a referral programme: pays partners what has become due, and now and then looks at a reward.

Knows what such a person could know from the shop's orders, and nothing of what the system has made of them. So most
payouts fit the books, and some do not: somebody was a customer before, or bought three times from one address.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from stream_app.domain.ids import conversion_id
from stream_app.domain.referral.ledger import reward_id
from stream_app.domain.referral.programs import Program, offered
from stream_app.domain.times import DAY_MS, MINUTE_MS
from stream_app.settings import Settings
from stream_app.settings.programs import programs_of
from stream_app.simulator.records import Record

REVIEWED = 0.06
"""Share of rewards that somebody looks at: two of three are approved at once, the third is rejected."""
_EVERY_MS = DAY_MS // 4
"""Between two looks at what is due."""


class _Due(NamedTuple):
    at: int
    reward: str
    amount: Decimal
    order: str


class Manager:
    """Sees visits through links and purchases go by; says what to send to `referral-events`: (user, time, fields)."""

    def __init__(self, program: Program, grace_ms: int, seed: int) -> None:
        self._program = program
        self._grace_ms = grace_ms
        self._slack_ms = grace_ms + MINUTE_MS
        self._rng = random.Random(f"{seed}/{program.name}/payouts")
        self._came_by: dict[str, str] = {}
        """Client → whose link they came by."""
        self._referrers: dict[str, str] = {}
        """Customer → who referred them; empty: nobody."""
        self._seen: set[str] = set()
        self._due: dict[str, list[_Due]] = {}
        self._next = 0

    def visit(self, client: str, user: str) -> None:
        """Somebody came by a user's link."""
        if client not in self._referrers:
            self._came_by.setdefault(client, user)

    def purchase(self, record: Record) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """A purchase or a refund; reviews that follow."""
        try:
            said = json.loads(record.value)
        except ValueError:
            return
        event, client, order = said.get("event_id"), said.get("client_id"), said.get("order_id")
        if not (event and client and order) or event in self._seen or record.ts - record.occurred_at > self._grace_ms:
            return
        self._seen.add(event)
        if said.get("kind") == "refund":
            for user, due in self._due.items():
                self._due[user] = [one for one in due if one.order != order]
            return
        buyer = said.get("user_id") or client
        referrer = self._referrers.setdefault(buyer, self._came_by.get(client, ""))
        self._referrers.setdefault(client, referrer)
        if not referrer or referrer in {buyer, f"member-{client}"} or said.get("currency") != self._program.currency:
            return
        offer = offered(self._program.levels[0], Decimal(said["value"]), said["currency"], self._program.currency)
        if offer is None:
            return
        reward = reward_id(self._program.name, conversion_id(client, event), 1, referrer)
        at = record.occurred_at + max(self._program.holding_ms, self._slack_ms)
        chance = self._rng.random()
        if chance < REVIEWED:
            looked_at = record.occurred_at + self._slack_ms + self._rng.randrange(DAY_MS // 2)
            approves = chance < REVIEWED * 2 / 3
            yield referrer, looked_at, {"type": "approve" if approves else "reject", "reward_id": reward}
            if not approves:
                return
        self._due.setdefault(referrer, []).append(_Due(at, reward, offer.amount, order))

    def payouts(self, now: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """What is paid by now."""
        if now < self._next:
            return
        self._next = now - now % _EVERY_MS + _EVERY_MS
        for user, due in self._due.items():
            ready = [one for one in due if one.at < now]
            total = sum((one.amount for one in ready), Decimal(0))
            if not ready or total < self._program.minimum_payout:
                continue
            self._due[user] = [one for one in due if one.at >= now]
            said = {"type": "payout", "amount": f"{total:f}", "currency": self._program.currency}
            yield user, now, {**said, "reward_ids": [one.reward for one in ready]}


def manager_of(settings: Settings, seed: int, program: str = "") -> Manager | None:
    """Who looks after a programme (the first) of the settings; None if they do not know it."""
    programs = programs_of(settings).by_name
    found = programs.get(program or next(iter(programs), ""))
    return Manager(found, settings.sessions.grace_minutes * MINUTE_MS, seed) if found is not None else None
