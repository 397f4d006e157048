"""Up to where a client may settle."""

from __future__ import annotations

import msgspec

from stream_app.domain import client as clients
from stream_app.domain.client import Client, Stored
from stream_app.domain.times import LATEST_MS


def cap(client: Client) -> int:
    """Where a client with too many events within grace settles early; its outputs say so (semantics 6)."""
    client.stored.cap_horizon = client.recents[len(client.recents) - clients.MAX_RECENT + clients.TAIL - 1].at + 1
    return client.stored.cap_horizon


def hold(stored: Stored, horizon: int, revision: int) -> int:
    """Up to where a client may settle: not beyond a conversion with a code of which word may still be on its way, as
    long as that of other clients is waited for. Commits count from the one that found time to be over: a backlog may
    leap over all of it."""
    until = horizon
    found = []
    for promo in stored.promos:
        if not promo.overdue and promo.at < horizon - clients.HOLD_MS:
            promo = msgspec.structs.replace(promo, overdue=revision)
        if not promo.overdue or revision < promo.overdue + clients.HOLD_COMMITS:
            until = min(until, promo.at)
        found.append(promo)
    stored.promos = tuple(found)
    return until


def held_from(stored: Stored) -> int:
    """From when on nothing has settled because of that."""
    return min((promo.at for promo in stored.promos), default=LATEST_MS)
