"""One client's events within grace, and how they settle.

The state of a client is a settled snapshot plus the events within grace, sorted. The head, the fold of both, is what
is published; it is kept decoded and never stored. An event in order is folded onto the head; any other has the head
folded anew from the snapshot. So the head never depends on the order in which events arrived.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

import msgspec

from stream_app.domain import hits, ids
from stream_app.domain.hits import CONVERSION, Hit
from stream_app.domain.journey import Converted, Fold, Journey, Touchpoint
from stream_app.domain.refunds import MAX_REFUNDS, Refund

MAX_RECENT = 5_000
"""Events within grace per client."""
TAIL = 64
"""So many of the newest are stored with the client; older ones in rows of as many."""
MAX_REMEMBERED = 4_096
"""Conversions' event ids per client."""
MAX_ORDERS = 200
"""Settled orders per client that refunds can still find."""

OPEN = 0
CLOSED = 1
UNSETTLED = 2

Admission = Literal["in_order", "out_of_order", "duplicate"]


class Published(msgspec.Struct, gc=False, array_like=True):
    """What was last published under an id that may still change."""

    digest: int
    status: int
    """OPEN or CLOSED session, or UNSETTLED conversion."""


class Seen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A settled click whose duplicate may still come."""

    id: str
    at: int


class Order(msgspec.Struct, gc=False, array_like=True):
    """A settled conversion with an order, and the row that holds it."""

    key: int
    row: int
    digest: int
    """Of what was last published."""


class Frozen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A settled conversion with its credit's grounds: all that a later refund needs to revise it."""

    hit: Hit
    session_id: str
    user: str
    touchpoints: tuple[Touchpoint, ...]
    truncated: bool


class Stored(msgspec.Struct, gc=False, array_like=True):
    """What is saved of a client."""

    snapshot: Journey | None
    """The fold of all that is settled; None: it has a row of its own."""
    tail: list[Hit]
    """The newest events within grace."""
    published: dict[str, Published]
    horizon: int = 0
    """Everything before is settled; what comes late to that is refused."""
    cap_horizon: int = 0
    """As far as the bound on events within grace made it settle early; 0: never."""
    has_duplicates: bool = False
    """Clicks within grace share an event id at different times: the fold must look."""
    rows: tuple[int, ...] = ()
    """Rows of older events within grace, oldest first."""
    next_row: int = 0
    seen: tuple[Seen, ...] = ()
    remembered: bytes = b""
    """Eight bytes of each conversion's event id."""
    orders: tuple[Order, ...] = ()
    refunds: tuple[Refund, ...] = ()
    """Settled refunds, those without their order included."""


class Client(msgspec.Struct, gc=False):
    """A client in memory."""

    stored: Stored
    snapshot: Journey
    """The fold of all that is settled."""
    head: Journey
    """The fold of everything."""
    recents: list[Hit]
    """All events within grace. The same list as `stored.tail` while no rows are needed."""
    snapshot_changed: bool = False
    """Since it was last saved."""
    due: int = 0
    shows_closed: bool = False
    """The latest session was published as closed: whatever extends it now changes what is visible."""
    orders: frozenset[int] = frozenset()
    """Keys of settled orders."""
    lengths: list[int] | None = None
    """How many of `recents` are in each of `stored.rows`."""
    changed_rows: set[int] | None = None
    ids: set[str] | None = None
    """Event ids in `recents`, when they are many."""


def new_client() -> Client:
    """A client never seen."""
    recents: list[Hit] = []
    snapshot = Journey()
    return Client(Stored(snapshot, recents, {}), snapshot, Journey(), recents)


class Timeline:
    """Takes events into a client and lets them settle."""

    def __init__(self, fold: Fold, grace_ms: int) -> None:
        self._fold = fold
        self._grace_ms = grace_ms

    def admit(self, client: Client, hit: Hit) -> Admission:
        """Puts an event in its place among those within grace. It is not folded yet."""
        if hit.kind >= CONVERSION and is_remembered(client.stored.remembered, hit.id):
            return "duplicate"
        recents = client.recents
        if self._is_known(client, hit):
            return self._admit_known(client, hit)
        if client.ids is not None:
            client.ids.add(_topic_id(hit))
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
        apply, orders = self._fold.apply, client.orders
        for hit in self._accepted(client):
            apply(head, hit, client_id, orders)
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
        front = self._accepted(client, horizon) if stored.has_duplicates else recents[:settling]
        if settling == count:
            snapshot = client.head.branch()
        else:
            snapshot = client.snapshot
            apply, orders = self._fold.apply, client.orders
            for hit in front:
                apply(snapshot, hit, client_id, orders)
        self._forget_front(client, settling)
        self._remember(stored, front, horizon)
        client.snapshot = snapshot
        client.snapshot_changed = True
        stored.horizon = horizon
        head = client.head
        converted = snapshot.converted
        if converted:
            snapshot.converted = ()
            head.converted = tuple(other for other in head.converted if other.hit.at >= horizon)
        if snapshot.refunds:
            settled_refunds = tuple(Refund.of(refund) for refund in snapshot.refunds)
            stored.refunds = (*stored.refunds, *settled_refunds)[-MAX_REFUNDS:]
            snapshot.refunds = ()
            head.refunds = tuple(refund for refund in head.refunds if refund.at >= horizon)
        if stored.has_duplicates:
            stored.has_duplicates = _shares_ids(client)
        return converted

    def load(self, stored: Stored, snapshot: Journey, older: list[list[Hit]], client_id: str) -> Client:
        """A client from what was saved; `older` are the contents of its rows of events."""
        recents = stored.tail
        lengths = None
        if older:
            recents = []
            lengths = []
            for row in older:
                live = [hit for hit in row if hit.at >= stored.horizon]
                lengths.append(len(live))
                recents.extend(live)
            recents.extend(stored.tail)
        client = Client(
            stored,
            snapshot,
            snapshot,
            recents,
            orders=frozenset(order.key for order in stored.orders),
            lengths=lengths,
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
            or hit.at <= recents[-1].at
            or len(recents) >= TAIL
            or client.shows_closed
            or (hit.user and hit.user != session.user)
            or not session.landing_url
            or self._fold.split_reason(session, hit) is not None
            or self._is_known(client, hit)
        ):
            return False
        hit.client = ""
        recents.append(hit)
        self._fold.extend(client.head, session, hit)
        client.head.last_at = hit.at
        return True

    # --- duplicates ----------------------------------------------------------------------------------

    def _is_known(self, client: Client, hit: Hit) -> bool:
        """True if an event of the same topic and id is within grace, or was until a grace ago."""
        recents = client.recents
        event_id = hit.id
        if len(recents) <= TAIL:
            for other in recents:
                if other.id == event_id and hits.same_topic(other, hit):
                    return True
        else:
            if client.ids is None:
                client.ids = {_topic_id(other) for other in recents}
            if _topic_id(hit) in client.ids:
                return True
        if client.stored.seen and hit.kind < CONVERSION:
            return any(seen.id == event_id for seen in client.stored.seen)
        return False

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
        if any(seen.id == hit.id and 0 <= hit.at - seen.at <= self._grace_ms for seen in client.stored.seen):
            return "duplicate"
        client.stored.has_duplicates = True
        self._insert(client, hit)
        return "out_of_order"

    def _accepted(self, client: Client, before: int | None = None) -> list[Hit]:
        """The events within grace that count: of clicks with one id no further one up to a grace later."""
        recents = client.recents
        if not client.stored.has_duplicates:
            return recents
        counted = {seen.id: seen.at for seen in client.stored.seen}
        accepted = []
        for hit in recents:
            if before is not None and hit.at >= before:
                break
            if hit.kind < CONVERSION:
                earlier = counted.get(hit.id)
                if earlier is not None and hit.at - earlier <= self._grace_ms:
                    continue
                counted[hit.id] = hit.at
            accepted.append(hit)
        return accepted

    def _remember(self, stored: Stored, settled: list[Hit], horizon: int) -> None:
        since = horizon - self._grace_ms
        fresh = tuple(Seen(hit.id, hit.at) for hit in settled if hit.at >= since and hit.kind < CONVERSION)
        if fresh or stored.seen:
            stored.seen = tuple(seen for seen in stored.seen if seen.at >= since) + fresh
        for hit in settled:
            if hit.kind >= CONVERSION:
                remember(stored, hit.id)

    # --- places --------------------------------------------------------------------------------------

    @staticmethod
    def _insert(client: Client, hit: Hit) -> None:
        recents = client.recents
        index = bisect_left(recents, hits.order(hit), key=hits.order)
        recents.insert(index, hit)
        if client.lengths:
            _resize(client, index, 1)

    @staticmethod
    def _remove(client: Client, index: int) -> None:
        del client.recents[index]
        if client.lengths:
            _resize(client, index, -1)

    @staticmethod
    def _forget_front(client: Client, count: int) -> None:
        recents = client.recents
        if client.ids is not None:
            if client.stored.has_duplicates:
                client.ids = None
            else:
                client.ids.difference_update(_topic_id(hit) for hit in recents[:count])
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


def cap(client: Client) -> int:
    """Where a client with too many events within grace settles early; its outputs say so (semantics 6)."""
    client.stored.cap_horizon = client.recents[len(client.recents) - MAX_RECENT + TAIL - 1].at + 1
    return client.stored.cap_horizon


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


def _resize(client: Client, index: int, by: int) -> None:
    """An event came into or went from one of the rows."""
    lengths = client.lengths
    assert lengths is not None
    for position, length in enumerate(lengths):
        if index < length:
            lengths[position] += by
            if client.changed_rows is None:
                client.changed_rows = set()
            client.changed_rows.add(client.stored.rows[position])
            return
        index -= length


def _topic_id(hit: Hit) -> str:
    return hit.id if hit.kind < CONVERSION else hit.id + ids.SEPARATOR


def _shares_ids(client: Client) -> bool:
    clicks = [hit.id for hit in client.recents if hit.kind < CONVERSION]
    return len(set(clicks)) < len(clicks) or any(seen.id in clicks for seen in client.stored.seen)
