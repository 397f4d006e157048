"""One client's events within grace, and how they settle.

The state of a client is a settled snapshot plus the events within grace, sorted. The head, the fold of both, is what
is published; it is kept decoded and never stored. An event in order is folded onto the head; any other has the head
folded anew from the snapshot. So the head never depends on the order in which events arrived.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Literal

import msgspec

from stream_app.domain import hits, ids, promos
from stream_app.domain.hits import CONVERSION, Hit
from stream_app.domain.journey import Captured, Converted, Fold, Journey, Touchpoint, capture
from stream_app.domain.orders import Ruling
from stream_app.domain.persons import Others
from stream_app.domain.promos import Arrivals, Promo
from stream_app.domain.refunds import MAX_REFUNDS, Refund
from stream_app.domain.times import DAY_MS, LATEST_MS

MAX_RECENT = 5_000
"""Events within grace per client."""
TAIL = 64
"""So many of the newest are stored with the client; older ones in rows of as many."""
MAX_KEPT = MAX_RECENT // TAIL
"""Rows of settled events that are kept for their ids."""
MAX_REMEMBERED = 4_096
"""Conversions' event ids per client."""
MAX_ORDERS = 200
"""Settled orders per client that refunds can still find."""

MAX_ASKED = 50
"""Leads' open questions per client: the latest."""

OPEN = 0
CLOSED = 1
UNSETTLED = 2

HOLD_MS = DAY_MS
"""What other clients can change is kept so much longer than grace, for what is on its way from them."""
HOLD_COMMITS = 4
"""And so many commits: time may jump over everything in one, when a backlog is read. There and back takes two."""
MAX_HELD = 20
"""Sessions per client that are kept for this: the latest."""

_NO_ORDERS: frozenset[int] = frozenset()
"""One for all: every further empty one would take 216 bytes."""

Admission = Literal["in_order", "out_of_order", "duplicate"]


class Told(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A fact that another key was told, and may have to be told differently."""

    kind: str
    key: bytes
    digest: int


class Published(msgspec.Struct, gc=False, array_like=True):
    """What was last published under an id that may still change."""

    digest: int
    """0: nothing visible."""
    status: int
    """OPEN or CLOSED session, or UNSETTLED conversion."""
    told: tuple[Told, ...] = ()
    """Facts that follow from it, as last told."""
    counted: bytes = b""
    """What counters have of it, as they encode it."""


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A lead that asked for the client's attribution at a moment which is not settled yet."""

    lead_id: str
    at: int
    told: int = 0
    """Digest of the answer it has; 0: none, as the source is not determined."""
    settled: int = 0
    """The commit from which on no click of this client can change the answer; 0: one still can."""


class Kept(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row whose events have all settled, kept for their ids: duplicates of them may still come."""

    row: int
    settled: int
    """The horizon at which the last of them settled."""


class Order(msgspec.Struct, gc=False, array_like=True):
    """A settled conversion that can still change, and the row that holds it: by refunds and rulings if it has an order,
    and for a while by what its user's other clients turn out to have seen."""

    key: int
    """Of (goal, order_id); 0: it has no order."""
    row: int
    digest: int
    """Of what was last published; 0: nothing visible, as another client holds the order."""
    at: int = 0
    """Time of the conversion as long as touchpoints of other clients may still come; then 0."""


class Frozen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A settled conversion with its credit's grounds: all that a later refund needs to revise it."""

    hit: Hit
    session_id: str
    user: str
    touchpoints: tuple[Touchpoint, ...]
    truncated: bool
    codes: tuple[Captured, ...] = ()
    """Referral codes captured before it or with it, oldest first; last the ip of the last click before it."""
    told: tuple[Told, ...] = ()
    """Of a settled one with an order: as in `Published`."""
    counted: bytes = b""
    foreign: tuple[int, ...] = ()
    """Which of the touchpoints were on other clients of its user."""


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
    kept: tuple[Kept, ...] = ()
    next_row: int = 0
    seen: dict[str, int] = {}
    """Settled clicks whose duplicates may still come, with their times, oldest first; but those in rows."""
    remembered: bytes = b""
    """Eight bytes of each conversion's event id."""
    orders: tuple[Order, ...] = ()
    refunds: tuple[Refund, ...] = ()
    """Settled refunds, those without their order included."""
    counts: bytes = b""
    """What counters remember of the client itself, as they encode it."""
    asked: tuple[Asked, ...] = ()
    """Leads' questions that may still get another answer."""
    linked: tuple[Told, ...] = ()
    """What the client's users were told of its touchpoints."""
    refunding: dict[str, tuple[Told, ...]] = {}
    """What orders were told of refunds that have not settled."""
    held: tuple[Order, ...] = ()
    """Settled conversions without an order that may still see more of their user's other clients."""
    rulings: dict[int, Ruling] = {}
    """By order: what other clients have to do with it. Most orders have none."""
    has_others: bool = False
    """There is a row with the touchpoints of its users' other clients."""
    life: int = 0
    """Which of its lives the client's users were last told of."""
    revision: int = 0
    """Of the last commit in which events were folded that are worth publishing."""
    promos: tuple[Promo, ...] = ()
    """Its conversions with a code that have not settled, where programmes are set up."""


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
    orders: frozenset[int] = _NO_ORDERS
    """Keys of settled orders."""
    lengths: list[int] | None = None
    """How many of `recents` are in each of `stored.rows`."""
    changed_rows: dict[int, list[Hit]] | None = None
    """Rows in which events were inserted or replaced since the client was saved, with the inserted ones."""
    row_seen: dict[str, int] | None = None
    """As `stored.seen`, of settled clicks in rows."""
    ids: set[str] | None = None
    """Event ids in `recents`, when they are many."""
    others: dict[str, Others] = {}
    """By user: what is known of their other clients."""
    others_changed: bool = False
    anew: bool = False
    """Everything that has not settled is published again: others were not told of it."""
    arrivals: Arrivals = promos.NONE
    """Which of `stored.promos` are arrivals."""
    linked_from: tuple[object, object, object] | None = None
    """The touchpoints, owners and guests of which users were last told."""


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
        apply, orders, arrivals = self._fold.apply, client.orders, client.arrivals
        for hit in self._accepted(client):
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
        front = self._accepted(client, horizon) if stored.has_duplicates else recents[:settling]
        if settling == count:
            snapshot = client.head.branch()
        else:
            snapshot = client.snapshot
            apply, orders, arrivals = self._fold.apply, client.orders, client.arrivals
            for hit in front:
                apply(snapshot, hit, client_id, orders, arrivals)
        self._remember(client, front, horizon)
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
            settled_refunds = tuple(Refund.of(refund) for refund in snapshot.refunds)
            stored.refunds = (*stored.refunds, *settled_refunds)[-MAX_REFUNDS:]
            snapshot.refunds = ()
            head.refunds = tuple(refund for refund in head.refunds if refund.at >= horizon)
        if stored.has_duplicates:
            stored.has_duplicates = _shares_ids(client)
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
                self._remember_clicks(row_seen, row[: len(row) - len(live)])
            del lengths[: len(stored.kept)]
            recents.extend(stored.tail)
        client = Client(
            stored,
            snapshot,
            snapshot,
            recents,
            orders=frozenset(order.key for order in stored.orders) if stored.orders else _NO_ORDERS,
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
            or len(recents) >= TAIL
            or client.ids is not None
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
        if hit.code:
            capture(client.head, hit)
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
        return hit.kind < CONVERSION and _settled_at(client, event_id) is not None

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
        settled_at = _settled_at(client, hit.id)
        if settled_at is not None and hit.at - settled_at <= self._grace_ms:
            return "duplicate"
        client.stored.has_duplicates = True
        self._insert(client, hit)
        return "out_of_order"

    def _accepted(self, client: Client, before: int | None = None) -> list[Hit]:
        """The events within grace that count: of clicks with one id no further one up to a grace later."""
        recents = client.recents
        if not client.stored.has_duplicates:
            return recents
        counted = {**(client.row_seen or {}), **client.stored.seen}
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

    def _remember(self, client: Client, settled: list[Hit], horizon: int) -> None:
        """Ids of what settles: of clicks for another grace, of conversions as long as the client."""
        stored = client.stored
        since = horizon - self._grace_ms
        in_rows = 0
        if client.lengths:
            boundary = hits.order(client.recents[sum(client.lengths) - 1])
            in_rows = bisect_right(settled, boundary, key=hits.order)
            if client.row_seen is None:
                client.row_seen = {}
            self._remember_clicks(client.row_seen, settled[:in_rows])
        if client.row_seen:
            _prune(client.row_seen, since)
        if settled and settled[-1].at >= since:
            self._remember_clicks(stored.seen, settled[in_rows:])
        if stored.seen:
            _prune(stored.seen, since)
        for hit in settled:
            if hit.kind >= CONVERSION:
                remember(stored, hit.id)

    def _remember_clicks(self, seen: dict[str, int], settled: list[Hit]) -> None:
        for hit in settled:
            if hit.kind < CONVERSION:
                earlier = seen.get(hit.id)
                if earlier is None or hit.at - earlier > self._grace_ms:
                    seen.pop(hit.id, None)  # so that the oldest still come first
                    seen[hit.id] = hit.at

    # --- places --------------------------------------------------------------------------------------

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


def hold(stored: Stored, horizon: int, revision: int) -> int:
    """Up to where a client may settle: not beyond a conversion with a code of which word may still be on its way, as
    long as that of other clients is waited for. Commits count from the one that found time to be over: a backlog may
    leap over all of it."""
    until = horizon
    found = []
    for promo in stored.promos:
        if not promo.overdue and promo.at < horizon - HOLD_MS:
            promo = msgspec.structs.replace(promo, overdue=revision)
        if not promo.overdue or revision < promo.overdue + HOLD_COMMITS:
            until = min(until, promo.at)
        found.append(promo)
    stored.promos = tuple(found)
    return until


def held_from(stored: Stored) -> int:
    """From when on nothing has settled because of that."""
    return min((promo.at for promo in stored.promos), default=LATEST_MS)


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


def _topic_id(hit: Hit) -> str:
    return hit.id if hit.kind < CONVERSION else hit.id + ids.SEPARATOR


def _shares_ids(client: Client) -> bool:
    clicks = [hit.id for hit in client.recents if hit.kind < CONVERSION]
    return len(set(clicks)) < len(clicks) or any(_settled_at(client, event_id) is not None for event_id in clicks)


def _settled_at(client: Client, event_id: str) -> int | None:
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
