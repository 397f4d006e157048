"""Where a client lies in the store: a head, and rows for what changes more rarely (decision 0010)."""

from __future__ import annotations

import msgspec

from stream_app.domain import client as clients
from stream_app.domain import hits
from stream_app.domain.client import Client, Frozen, Kept, Stored
from stream_app.domain.hits import Hit
from stream_app.domain.journey import Journey, Owner
from stream_app.domain.persons import Others
from stream_app.domain.timeline import Timeline
from stream_app.engine.processor import Rows

FIRST_ORDER_ROW = 1 << 31
"""Rows below hold events within grace, rows from here on settled conversions with an order."""
SNAPSHOT_ROW = FIRST_ORDER_ROW - 1
FIRST_HELD_ROW = 3 << 30
"""From here on settled conversions without an order, for as long as their user's other clients may change them."""
OTHERS_ROW = SNAPSHOT_ROW - 1
INLINE_SNAPSHOT = 200
"""A settled part of up to so many bytes stays with the rest."""

_NO_HITS = b"\x90"
_SHORT_ARRAY = 0x90
"""The first release wrote clients of thirteen fields: a msgpack array of up to fifteen."""
_OTHER_DIGEST = 1
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode_stored = msgspec.msgpack.Decoder(Stored).decode
_decode_snapshot = msgspec.msgpack.Decoder(Journey).decode
_decode_hits = msgspec.msgpack.Decoder(list[Hit]).decode
_decode_frozen = msgspec.msgpack.Decoder(Frozen).decode
_decode_others = msgspec.msgpack.Decoder(dict[str, Others]).decode


def load(key: bytes, payload: bytes, rows: Rows, timeline: Timeline) -> Client:
    """A client as it was when saved; the head is folded anew. What the first release wrote, which told nobody and
    counted nothing, is published again as far as it has not settled."""
    stored = _decode_stored(payload)
    older = [_decode_hits(_needed(key, row, rows)) for row in (*(kept.row for kept in stored.kept), *stored.rows)]
    snapshot = stored.snapshot
    if snapshot is None:
        snapshot = _decode_snapshot(_needed(key, SNAPSHOT_ROW, rows))
    is_old = payload[0] & 0xF0 == _SHORT_ARRAY
    if is_old and snapshot.user:
        snapshot.owners = (Owner(0, snapshot.user, snapshot.last_at),)
    client = timeline.load(stored, snapshot, older, key.decode())
    if is_old:
        client.anew = client.snapshot_changed = True
        for entry in stored.published.values():
            entry.digest = _OTHER_DIGEST
    if stored.has_others:
        client.others = _decode_others(_needed(key, OTHERS_ROW, rows))
    return client


def save(key: bytes, client: Client, rows: Rows, grace_ms: int) -> bytes:
    """The client's bytes. The settled part, which changes once a visit, and older events within grace go to rows, of
    which only changed ones are written."""
    if client.snapshot_changed:
        _save_snapshot(key, client, rows)
    if client.lengths is not None or len(client.recents) > clients.TAIL or client.stored.kept:
        _save_rows(key, client, rows, grace_ms)
    if client.others_changed:
        client.stored.has_others = bool(client.others)
        rows.put(key, OTHERS_ROW, _encode(client.others) if client.others else None)
        client.others_changed = False
    return _encode(client.stored)


def forget(key: bytes, client: Client, rows: Rows) -> None:
    """Removes all rows of a client."""
    stored = client.stored
    for row in (*(kept.row for kept in stored.kept), *stored.rows):
        rows.put(key, row, None)
    if stored.snapshot is None:
        rows.put(key, SNAPSHOT_ROW, None)
    if stored.has_others:
        rows.put(key, OTHERS_ROW, None)
    for order in (*stored.orders, *stored.held):
        rows.put(key, order.row, None)


def frozen(key: bytes, row: int, rows: Rows) -> Frozen:
    """A settled conversion with an order."""
    return _decode_frozen(_needed(key, row, rows))


def put_frozen(key: bytes, row: int, conversion: Frozen, rows: Rows) -> None:
    """Keeps a settled conversion with an order."""
    rows.put(key, row, _encode(conversion))


def _needed(key: bytes, row: int, rows: Rows) -> bytes:
    """A row that must be there: a state with a hole must not be folded on."""
    content = rows.get(key, row)
    if content is None:
        raise ValueError(f"journeys state of a client lacks row {row}")
    return content


def _save_snapshot(key: bytes, client: Client, rows: Rows) -> None:
    payload = _encode(client.snapshot)
    if len(payload) > INLINE_SNAPSHOT:
        rows.put(key, SNAPSHOT_ROW, payload)
        client.stored.snapshot = None
    else:
        if client.stored.snapshot is None:
            rows.put(key, SNAPSHOT_ROW, None)
        client.stored.snapshot = client.snapshot
    client.snapshot_changed = False


def _save_rows(key: bytes, client: Client, rows: Rows, grace_ms: int) -> None:
    stored, recents = client.stored, client.recents
    numbers = list(stored.rows)
    lengths = client.lengths if client.lengths is not None else []
    start = 0
    for number, length in zip(numbers, lengths, strict=True):
        if client.changed_rows is not None and number in client.changed_rows:
            # What has settled stays in the row for its ids, also what came and settled within this commit.
            before = _decode_hits(rows.get(key, number) or _NO_HITS) + client.changed_rows[number]
            settled = sorted((hit for hit in before if hit.at < stored.horizon), key=hits.order)
            rows.put(key, number, _encode(settled + recents[start : start + length]))
        if length == 0:
            stored.kept = (*stored.kept, Kept(number, stored.horizon))
        start += length
    kept = [(number, length) for number, length in zip(numbers, lengths, strict=True) if length]
    while len(recents) - start > clients.TAIL:
        rows.put(key, stored.next_row, _encode(recents[start : start + clients.TAIL]))
        kept.append((stored.next_row, clients.TAIL))
        stored.next_row = (stored.next_row + 1) % OTHERS_ROW
        start += clients.TAIL
    old = [kept for kept in stored.kept if kept.settled < stored.horizon - grace_ms]
    old += stored.kept[len(old) : max(len(old), len(stored.kept) - clients.MAX_KEPT)]
    for kept_row in old:
        rows.put(key, kept_row.row, None)
    stored.kept = stored.kept[len(old) :]
    client.changed_rows = None
    stored.rows = tuple(number for number, _ in kept)
    if kept:
        client.lengths = [length for _, length in kept]
        stored.tail = recents[start:]
    else:
        client.lengths = None
        stored.tail = client.recents
