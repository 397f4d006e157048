"""What is kept of one person: as a buyer, as a member, and their books."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from stream_app.domain.referral.buyer import Decided, Settled
from stream_app.domain.referral.codes import Claim
from stream_app.domain.referral.counting import Standing
from stream_app.domain.referral.facts import (
    Answer,
    Binding,
    FirstPaid,
    Inherited,
    Known,
    Moment,
    Purchase,
    Sales,
    Visit,
)
from stream_app.domain.referral.ledger import Open, OpenMoment, Ranks, Sums
from stream_app.domain.referral.member import Membership

MAX_OPEN = 5_000
"""Open entries, and purchases within grace, of one person; beyond that the oldest are settled early (semantics 6)."""
LAPS = 6
"""When the stream time leaps (a backlog, a backfill), what others tell of the time before is still on its way, over up
to six keys. So a letter to a person whose time has come by a leap first goes round so often: it comes behind whatever
was on its way."""
MAX_CLIENTS = 64
MAX_CONTACTS = 32
MAX_CAPTURED = 50
MAX_SEEN = 8 * 4_096
IDS_A_ROW = 256
OPEN_A_ROW = 64
"""Open entries in a row, at least; up to twice as many, and of the newest with the person."""

# Rows: entries and sold purchases by hash of their id, then ips by hash, pages of ids and of open entries, and referred
# people and leads by hash.
ENTRY_ROWS = 0
ROWS_OF_A_KIND = 1 << 29
SOLD_ROWS = 1 * ROWS_OF_A_KIND
IP_ROWS = 2 * ROWS_OF_A_KIND
PAGE_ROWS = 3 * ROWS_OF_A_KIND
BOUND_ROWS = 4 * ROWS_OF_A_KIND
LEAD_ROWS = 5 * ROWS_OF_A_KIND


class WalkTold(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A walk that was sent, or booked here (key empty)."""

    id: str
    key: str
    digest: int


class Held(msgspec.Struct, gc=False, array_like=True):
    """A purchase that may still be decided otherwise."""

    purchase: Purchase
    settles: int
    told: tuple[WalkTold, ...] = ()


class Sold(msgspec.Struct, gc=False, array_like=True):
    """A purchase that was decided for good, and concerned somebody or made a customer."""

    id: str
    purchase: Purchase
    decided: tuple[Decided, ...]
    told: tuple[WalkTold, ...]


class Referred(msgspec.Struct, gc=False, array_like=True):
    """Somebody this person referred."""

    id: str
    binding: Binding


class Led(msgspec.Struct, gc=False, array_like=True):
    """A lead that names this person."""

    id: str
    clients: dict[str, Moment] = {}  # msgspec copies it for each struct
    """Of theirs, that it names as well, and since when it says so."""


class IpCount(msgspec.Struct, gc=False, array_like=True):
    """Conversions from one ip, in one programme."""

    id: str
    count: int
    """Settled ones."""
    open: list[OpenMoment] = []  # msgspec copies it for each struct
    """In order."""


class DuePage(msgspec.Struct, gc=False, array_like=True):
    """A row of entries that wait for a time, of one day."""

    day: int
    first: int
    row: int
    count: int


class OpenPage(msgspec.Struct, gc=False, array_like=True):
    """A row of open entries."""

    first: OpenMoment
    settles: int
    """When the first of them can change no more."""
    row: int
    count: int


class Turn(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A review or payout whose turn has not come."""

    at: int
    event_id: str
    record: bytes
    origin: tuple[int, ...] = ()
    """Where the record lies, for the dead letter that it may become."""


class Books(msgspec.Struct, gc=False, array_like=True):
    """A person's rewards; the entries themselves are in rows."""

    open: list[Open] = []  # msgspec copies it for each struct
    """The newest, in order; older ones are in `pages`."""
    ranks: Ranks = msgspec.field(default_factory=Ranks)
    sums: dict[str, Sums] = {}
    """By currency."""
    due: list[DuePage] = []
    approved: list[int] = []
    """Rows of ids that were approved, in order, and of those with something to claw back."""
    approved_last: int = 0
    """Ids in the last of them."""
    next_row: int = 0
    turns: list[Turn] = []
    """In order of time."""
    entries: int = 0
    grounds: int = 0
    """Digest of bindings and memberships that open entries were last assessed on."""
    pages: list[OpenPage] = []
    """Of open entries, oldest first."""

    def new_row(self) -> int:
        """Number of a page that is free."""
        row = self.next_row
        self.next_row = (row + 1) % ROWS_OF_A_KIND
        return row


class Erasing(msgspec.Struct, gc=False, array_like=True):
    """Somebody is to be forgotten, and that is not done yet."""

    at: int
    event_id: str
    due: int
    """When it is tried next; 0: others are forgetting their clients."""
    listed: bool = False
    """Their clients are known."""
    clients: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    """Clients of which is not known whether they are forgotten."""


class Behind(msgspec.Struct, gc=False, array_like=True):
    """Tasks that have not come to some time, as far as they have said."""

    tasks: tuple[int, ...]
    due: int
    """When they are asked again."""


class Linked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Since when a client is a user's, as it was told."""

    since: Moment
    settled: Moment | None = None
    """By what can be taken back no more."""


class Heir(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A user of this client."""

    since: Moment
    told: int = 0
    """Digest of what they inherit."""


class Person(msgspec.Struct, gc=False, array_like=True):
    """One person."""

    held: dict[str, Held] = {}
    settled: Settled = msgspec.field(default_factory=Settled)
    enrolling: dict[str, int] = {}
    """Enrolments that may still bind: event id → when that is over."""
    asked: dict[str, int] = {}
    """Code → until when answers are wanted."""
    answers: dict[str, Answer] = {}
    paid_by: dict[str, Moment] = {}
    """Contact → first settled paid purchase with it."""
    contacts: dict[str, FirstPaid] = {}
    """Contact → what it was told."""
    known: dict[str, Known] = {}
    """Contact → first purchase of anybody else with it."""
    clients: dict[str, Linked] = {}
    """Clients told that they are this user's."""
    inherited: dict[str, Inherited] = {}
    users: dict[str, Heir] = {}
    """Users this client was told to belong to."""
    captured: dict[str, tuple[Visit, ...]] = {}
    memberships: tuple[Membership, ...] = ()
    claimed: dict[str, Claim] = {}
    """Code and enrolment → the claim as told."""
    invites: dict[str, int] = {}
    """Programme → invitations sent."""
    bound: dict[str, int] = {}
    """Programme → people this person referred."""
    bound_told: dict[str, WalkTold] = {}
    """Programme → the binding as told to the referrer."""
    waits: bool = False
    """For a letter that goes round, before time goes on; see `LAPS`."""
    counted: Standing = msgspec.field(default_factory=Standing)
    """What counters have of the person."""
    seen: bytes = b""
    books: Books = msgspec.field(default_factory=Books)
    sales: Sales = msgspec.field(default_factory=Sales)
    """Of settled purchases."""
    erasing: Erasing | None = None
    erased: int = 0
    """This is a pseudonym: the time as of which the person was erased."""
    moved: str = ""
    """The pseudonym of whoever had this name before, as long as letters to them may be on their way."""
    moved_until: int = 0
    leads: int = 0
    """How many leads tell this person of their statuses; which, is in rows."""
    behind: dict[int, Behind] = {}
    """Time that all tasks must have come to → which have not."""


def is_nobody(person: Person) -> bool:
    """Whether there is nothing to keep of a person: which events were seen, and what is known of nothing, is not."""
    books = msgspec.structs.replace(person.books, grounds=0)
    return msgspec.structs.replace(person, seen=b"", books=books) == Person()


encode_person = msgspec.msgpack.Encoder(decimal_format="string").encode
decode_person = msgspec.msgpack.Decoder(Person).decode

__all__ = ["Books", "Decimal", "DuePage", "Erasing", "Held", "IpCount", "Open", "Person", "Sold", "Turn", "WalkTold"]
