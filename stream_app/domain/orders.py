"""One order in the whole system: who holds it, and what is refunded of it (semantics 24).

The smallest claim by (time, event id, client) holds the order; of several claims of one client its smallest counts.
Every client that claims it is told of its smallest rival and decides by itself, so that no ruling is ever out of date
for a claim that it did not know of yet. The holder is told of refunds that came from other clients.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from stream_app.domain import refunds
from stream_app.domain.hits import Sale
from stream_app.domain.refunds import Refund
from stream_app.domain.times import DAY_MS

WAIT_MS = 396 * DAY_MS
"""Thirteen months: how long a refund waits for its order."""
MAX_CLAIMS = 50
"""Claims of one order that are remembered: the smallest."""
MAX_ASKED = 100
"""Refunds of one order that are remembered: the earliest."""

Place = tuple[int, str, str]
"""(time, event id, client id): what decides between claims."""


class Claim(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A conversion that claims the order."""

    client_id: str
    """Empty: the client was erased. The order stays theirs; nobody is told any more."""
    event_id: str
    at: int
    value: Decimal | None
    currency: str
    late: bool = False
    """Came later than grace: it can win the order, but the sessions of its rivals are history."""

    @property
    def place(self) -> Place:
        """What decides between claims."""
        return (self.at, self.event_id, self.client_id)


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A refund that was asked for, by whatever client."""

    client_id: str
    refund: Refund
    origin: tuple[int, ...] = ()
    """Partition, offset and timestamp of its record; empty: nothing is to become a dead letter."""


class Ruling(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a client must know of an order from others."""

    rival: Place | None = None
    """The smallest claim of any other client."""
    timely: Place | None = None
    """The smallest of those that came within grace: only they change what sessions show."""
    refunds: tuple[Refund, ...] = ()
    """Refunds from other clients, if it holds the order."""

    def beats(self, place: Place, *, in_session: bool = False) -> bool:
        """Whether another client holds the order instead of this claim."""
        rival = self.timely if in_session else self.rival
        return rival is not None and rival < place


class Order(msgspec.Struct, gc=False, array_like=True):
    """All that is known of an order."""

    claims: dict[str, Claim] = {}
    """By the id of their record."""
    asked: dict[str, Asked] = {}
    """By the id of the refund."""
    cut: int = 0
    """Refunds that were found to exceed what was left."""


def holder(order: Order) -> Claim | None:
    """The claim that keeps the order."""
    return min(order.claims.values(), key=_place, default=None)


def rulings(order: Order) -> dict[str, Ruling]:
    """What each claiming client must be told; those without a rival or foreign refund are left out."""
    held = holder(order)
    if held is None:
        return {}
    told = {}
    for client_id in sorted({claim.client_id for claim in order.claims.values()} - {""}):
        rivals = [claim for claim in order.claims.values() if claim.client_id != client_id]
        foreign: tuple[Refund, ...] = ()
        if client_id == held.client_id:
            foreign = tuple(
                sorted((a.refund for a in order.asked.values() if a.client_id != client_id), key=refunds.refund_order)
            )
        if rivals or foreign:
            told[client_id] = Ruling(_smallest(rivals), _smallest(c for c in rivals if not c.late), foreign)
    return told


def shorten(order: Order) -> set[str]:
    """Forgets what is beyond the bounds; gives the clients that are not remembered any more."""
    before = {claim.client_id for claim in order.claims.values()}
    if len(order.claims) > MAX_CLAIMS:
        order.claims = dict(sorted(order.claims.items(), key=lambda item: item[1].place)[:MAX_CLAIMS])
    if len(order.asked) > MAX_ASKED:
        order.asked = dict(
            sorted(order.asked.items(), key=lambda item: refunds.refund_order(item[1].refund))[:MAX_ASKED]
        )
    return before - {claim.client_id for claim in order.claims.values()}


def in_other_money(order: Order) -> list[str]:
    """Ids of refunds in another currency than the order's; they take nothing."""
    held = holder(order)
    if held is None or held.value is None:
        return []
    return [
        name
        for name, asked in order.asked.items()
        if asked.refund.value is not None and asked.refund.currency != held.currency
    ]


def waited_too_long(order: Order, now: int) -> list[str]:
    """Ids of refunds whose order never came."""
    if order.claims:
        return []
    return [name for name, asked in order.asked.items() if asked.refund.at + WAIT_MS <= now]


def exceeding(order: Order) -> int:
    """How many refunds asked for more than was left."""
    held = holder(order)
    if held is None:
        return 0
    asked = {asked.refund.id: asked.refund.value for asked in order.asked.values()}
    granted = refunds.granted(
        Sale("", value=held.value, currency=held.currency), (asked.refund for asked in order.asked.values())
    )
    return sum(1 for given in granted if (wanted := asked[given.id]) is not None and wanted > given.value)


def until(order: Order, life_ms: int) -> int:
    """When there is something to do: a refund has waited long enough, or nothing can concern the order any more."""
    times = [asked.refund.at for asked in order.asked.values()]
    if not order.claims:
        return min(times, default=0) + WAIT_MS
    return max(*(claim.at for claim in order.claims.values()), *times, 0) + life_ms + WAIT_MS


def _smallest(claims: Iterable[Claim]) -> Place | None:
    return min((claim.place for claim in claims), default=None)


def _place(claim: Claim) -> Place:
    return claim.place
