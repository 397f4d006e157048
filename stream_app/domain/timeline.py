"""How events come into a client, in order of time, and how they settle.

An event in order is folded onto the head; any other has the head folded anew from the snapshot. So the head never
depends on the order in which events arrived.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from stream_app.domain import client as clients
from stream_app.domain import duplicates, hits, ids, promos
from stream_app.domain.captures import capture
from stream_app.domain.client import Client, Stored
from stream_app.domain.hits import CONVERSION, Hit
from stream_app.domain.journey import Converted, Journey
from stream_app.domain.refunds import MAX_REFUNDS, Refund
from stream_app.domain.sessionization import Fold

Admission = Literal["in_order", "out_of_order", "duplicate"]


class Timeline:
    """Takes events into a client and lets them settle."""

    def __init__(self, fold: Fold, grace_ms: int) -> None:
        self._fold = fold
        self._grace_ms = grace_ms

    def admit(self, client: Client, hit: Hit) -> Admission:
        """Puts an event in its place among those within grace. It is not folded yet."""
        if hit.kind >= CONVERSION and duplicates.is_remembered(client.stored.remembered, hit.id):
            return "duplicate"
        recents = client.recents
        if duplicates.is_known(client, hit):
            return self._admit_known(client, hit)
        if client.ids is not None:
            client.ids.add(duplicates.topic_id(hit))
        if not recents:
            recents.append(hit)
            return "in_order"
        last = recents[-1]
        if hit.at > last.at or (hit.at == last.at and hits.order(hit) > hits.order(last)):
            recents.append(hit)
            return "in_order"
        self._insert(client, hit)
        return "out_of_order"

    def refold(self, client: Client, client_id: str) -> None:
        """Folds the head anew from the snapshot."""
        head = client.snapshot.branch()
        apply, orders, arrivals = self._fold.apply, client.orders, client.arrivals
        for hit in duplicates.accepted(client, self._grace_ms):
            apply(head, hit, client_id, orders, arrivals)
        client.head = head

    def settle(self, client: Client, horizon: int, client_id: str) -> tuple[Converted, ...]:
        """Moves what is before the horizon into the snapshot; gives the conversions among it. They and settled refunds
        leave the head."""
        recents = client.recents
        if not recents or recents[0].at >= horizon:
            return ()
        stored = client.stored
        count = len(recents)
        settling = 1
        while settling < count and recents[settling].at < horizon:
            settling += 1
        front = duplicates.accepted(client, self._grace_ms, horizon) if stored.has_duplicates else recents[:settling]
        if settling == count:
            snapshot = client.head.branch()
        else:
            snapshot = client.snapshot
            apply, orders, arrivals = self._fold.apply, client.orders, client.arrivals
            for hit in front:
                apply(snapshot, hit, client_id, orders, arrivals)
        duplicates.remember_settled(client, front, horizon, self._grace_ms)
        self._forget_front(client, settling)
        client.snapshot = snapshot
        client.snapshot_changed = True
        stored.horizon = horizon
        head = client.head
        converted = snapshot.converted
        if converted:
            snapshot.converted = ()
            head.converted = tuple(other for other in head.converted if other.hit.at >= horizon)
        if snapshot.refunds:
            settled_refunds = tuple(Refund.kept(refund) for refund in snapshot.refunds)
            stored.refunds = (*stored.refunds, *settled_refunds)[-MAX_REFUNDS:]
            snapshot.refunds = ()
            head.refunds = tuple(refund for refund in head.refunds if refund.at >= horizon)
        if stored.has_duplicates:
            stored.has_duplicates = duplicates.shares_ids(client)
        if stored.promos:
            stored.promos = tuple(promo for promo in stored.promos if promo.at >= horizon)
            client.arrivals = promos.arrivals(stored.promos)
        return converted

    def load(self, stored: Stored, snapshot: Journey, older: list[list[Hit]], client_id: str) -> Client:
        """A client from what was saved; `older` are the contents of its rows of events, kept ones first."""
        recents = stored.tail
        lengths = None
        row_seen: dict[str, int] = {}
        if older:
            recents = []
            lengths = []
            for row in older:
                live = [hit for hit in row if hit.at >= stored.horizon]
                lengths.append(len(live))
                recents.extend(live)
                duplicates.remember_clicks(row_seen, row[: len(row) - len(live)], self._grace_ms)
            del lengths[: len(stored.kept)]
            recents.extend(stored.tail)
        client = Client(
            stored,
            snapshot,
            snapshot,
            recents,
            orders=frozenset(order.key for order in stored.orders) if stored.orders else clients.NO_ORDERS,
            lengths=lengths or None,
            row_seen=row_seen or None,
            arrivals=promos.arrivals(stored.promos) if stored.promos else promos.NONE,
        )
        self.refold(client, client_id)
        return client

    def extends_quietly(self, client: Client, hit: Hit) -> bool:
        """Folds a page view of the most usual kind: next in time, of the open session, bringing nothing that is worth
        publishing. False, and nothing done, for any other event; those go the long way, which comes to the same."""
        recents = client.recents
        session = client.head.open
        if (
            hit.kind >= CONVERSION
            or session is None
            or hit.source is not None
            or hit.referral
            or (hit.code and hit.code[0] != ids.SEPARATOR)
            or hit.at <= recents[-1].at
            or len(recents) >= clients.TAIL
            or client.ids is not None
            or client.shows_closed
            or (hit.user and hit.user != session.user)
            or not session.landing_url
            or self._fold.split_reason(session, hit) is not None
            or duplicates.is_known(client, hit)
        ):
            return False
        hit.client = ""
        recents.append(hit)
        self._fold.extend(client.head, session, hit)
        client.head.last_at = hit.at
        if hit.code:
            capture(client.head, hit)
        return True

    def _admit_known(self, client: Client, hit: Hit) -> Admission:
        """The smallest (time, id, content) wins. Of clicks at different times the loser is kept as well: were a still
        earlier one to come, it might be no duplicate any more."""
        recents = client.recents
        is_click = hit.kind < CONVERSION
        for index, other in enumerate(recents):
            if other.id != hit.id or not hits.same_topic(other, hit):
                continue
            if is_click and other.at != hit.at:
                continue
            if (other.at, hits.content(other)) <= (hit.at, hits.content(hit)):
                return "duplicate"
            self._remove(client, index)
            self._insert(client, hit)
            return "out_of_order"
        settled_at = duplicates.settled_at(client, hit.id)
        if settled_at is not None and hit.at - settled_at <= self._grace_ms:
            return "duplicate"
        client.stored.has_duplicates = True
        self._insert(client, hit)
        return "out_of_order"

    @staticmethod
    def _insert(client: Client, hit: Hit) -> None:
        recents = client.recents
        index = bisect_left(recents, hits.order(hit), key=hits.order)
        recents.insert(index, hit)
        if client.lengths:
            _row_changed(client, index, hit)

    @staticmethod
    def _remove(client: Client, index: int) -> None:
        del client.recents[index]
        if client.lengths:
            _row_changed(client, index, None)

    @staticmethod
    def _forget_front(client: Client, count: int) -> None:
        recents = client.recents
        if client.ids is not None:
            if client.stored.has_duplicates:
                client.ids = None
            else:
                client.ids.difference_update(duplicates.topic_id(hit) for hit in recents[:count])
        if count == len(recents) and not client.lengths:
            client.recents = client.stored.tail = []
            return
        del recents[:count]
        lengths = client.lengths
        if lengths:
            for index, length in enumerate(lengths):
                taken = min(length, count)
                lengths[index] -= taken
                count -= taken
                if not count:
                    break


def _row_changed(client: Client, index: int, inserted: Hit | None) -> None:
    """An event came into one of the rows, or one went (None), if the place is in a row at all."""
    lengths = client.lengths
    assert lengths is not None
    for position, length in enumerate(lengths):
        if index < length:
            lengths[position] += 1 if inserted is not None else -1
            if client.changed_rows is None:
                client.changed_rows = {}
            changes = client.changed_rows.setdefault(client.stored.rows[position], [])
            if inserted is not None:
                changes.append(inserted)
            return
        index -= length
