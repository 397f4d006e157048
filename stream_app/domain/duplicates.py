"""Events that came before: by their ids, within grace and for another grace; a conversion's as long as its client."""

from __future__ import annotations

from bisect import bisect_right

from stream_app.domain import client as clients
from stream_app.domain import hits, ids
from stream_app.domain.client import Client, Stored
from stream_app.domain.hits import CONVERSION, Hit

MAX_REMEMBERED = 4_096
"""Conversions' event ids per client."""


def is_known(client: Client, hit: Hit) -> bool:
    """True if an event of the same topic and id is within grace, or was until a grace ago."""
    recents = client.recents
    event_id = hit.id
    if len(recents) <= clients.TAIL:
        for other in recents:
            if other.id == event_id and hits.same_topic(other, hit):
                return True
    else:
        if client.ids is None:
            client.ids = {topic_id(other) for other in recents}
        if topic_id(hit) in client.ids:
            return True
    return hit.kind < CONVERSION and settled_at(client, event_id) is not None


def accepted(client: Client, grace_ms: int, before: int | None = None) -> list[Hit]:
    """The events within grace that count: of clicks with one id no further one up to a grace later."""
    recents = client.recents
    if not client.stored.has_duplicates:
        return recents
    last_at = {**(client.row_seen or {}), **client.stored.seen}
    counted = []
    for hit in recents:
        if before is not None and hit.at >= before:
            break
        if hit.kind < CONVERSION:
            earlier = last_at.get(hit.id)
            if earlier is not None and hit.at - earlier <= grace_ms:
                continue
            last_at[hit.id] = hit.at
        counted.append(hit)
    return counted


def remember_settled(client: Client, settled: list[Hit], horizon: int, grace_ms: int) -> None:
    """Ids of what settles: of clicks for another grace, of conversions as long as the client."""
    stored = client.stored
    since = horizon - grace_ms
    in_rows = 0
    if client.lengths:
        boundary = hits.order(client.recents[sum(client.lengths) - 1])
        in_rows = bisect_right(settled, boundary, key=hits.order)
        if client.row_seen is None:
            client.row_seen = {}
        remember_clicks(client.row_seen, settled[:in_rows], grace_ms)
    if client.row_seen:
        _prune(client.row_seen, since)
    if settled and settled[-1].at >= since:
        remember_clicks(stored.seen, settled[in_rows:], grace_ms)
    if stored.seen:
        _prune(stored.seen, since)
    for hit in settled:
        if hit.kind >= CONVERSION:
            remember(stored, hit.id)


def remember_clicks(seen: dict[str, int], settled: list[Hit], grace_ms: int) -> None:
    """Adds clicks that have settled, but further ones of the same id within a grace."""
    for hit in settled:
        if hit.kind < CONVERSION:
            earlier = seen.get(hit.id)
            if earlier is None or hit.at - earlier > grace_ms:
                seen.pop(hit.id, None)  # so that the oldest still come first
                seen[hit.id] = hit.at


def is_remembered(remembered: bytes, event_id: str) -> bool:
    """True if the conversion was taken before."""
    if not remembered:
        return False
    wanted = ids.remembered(event_id)
    index = remembered.find(wanted)
    while index >= 0 and index % 8:
        index = remembered.find(wanted, index + 1)
    return index >= 0


def remember(stored: Stored, event_id: str) -> None:
    """Keeps a conversion's id as long as its client; of very many the latest."""
    stored.remembered = (stored.remembered + ids.remembered(event_id))[-8 * MAX_REMEMBERED :]


def topic_id(hit: Hit) -> str:
    """The event's id, with its topic told."""
    return hit.id if hit.kind < CONVERSION else hit.id + ids.SEPARATOR


def shares_ids(client: Client) -> bool:
    """True if clicks within grace share an id, among them or with one that has settled."""
    clicks = [hit.id for hit in client.recents if hit.kind < CONVERSION]
    return len(set(clicks)) < len(clicks) or any(settled_at(client, event_id) is not None for event_id in clicks)


def settled_at(client: Client, event_id: str) -> int | None:
    """When a click with this id was, if it has settled less than a grace ago."""
    at = client.stored.seen.get(event_id)
    if at is None and client.row_seen is not None:
        return client.row_seen.get(event_id)
    return at


def _prune(seen: dict[str, int], since: int) -> None:
    """Forgets what is older; the oldest come first."""
    old = []
    for event_id, at in seen.items():
        if at >= since:
            break
        old.append(event_id)
    for event_id in old:
        del seen[event_id]
