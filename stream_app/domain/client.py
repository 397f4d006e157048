"""The state of one client: a settled snapshot, the events within grace, sorted, and what was published of them.

The head, the fold of both, is kept decoded and never stored.
"""

from __future__ import annotations

import msgspec

from stream_app.domain import promos
from stream_app.domain.hits import Hit
from stream_app.domain.journey import Captured, Journey, Touchpoint
from stream_app.domain.orders import Ruling
from stream_app.domain.persons import Others
from stream_app.domain.promos import Arrivals, Promo
from stream_app.domain.refunds import Refund
from stream_app.domain.times import DAY_MS

MAX_RECENT = 5_000
"""Events within grace per client."""
TAIL = 64
"""So many of the newest are stored with the client; older ones in rows of as many."""
MAX_KEPT = MAX_RECENT // TAIL
"""Rows of settled events that are kept for their ids."""
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

NO_ORDERS: frozenset[int] = frozenset()
"""One for all: every further empty one would take 216 bytes."""


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
    orders: frozenset[int] = NO_ORDERS
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
