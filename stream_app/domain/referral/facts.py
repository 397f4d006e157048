"""What journeys, codes and people tell each other about referrals. Bodies of facts (decisions 0012 and 0018): compact,
without anything personal but keyed hashes."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from stream_app.domain.contacts import NO_CONTACT, Contact
from stream_app.domain.ids import SEPARATOR, content_digest
from stream_app.domain.referral.codes import Claim

_encode = msgspec.msgpack.Encoder().encode

CONVERSION = "referral-conversion"
CAPTURED = "referral-captured"
CLAIM = "referral-claim"
VISIT = "referral-visit"
QUESTION = "referral-question"
ANSWER = "referral-answer"
ARRIVAL = "referral-arrival"
CONTACT = "referral-contact"
KNOWN = "referral-known"
ALIAS = "referral-alias"
INHERITED = "referral-inherited"
BOUND = "referral-bound"
WALK = "referral-walk"
LAP = "referral-lap"
ROUND = "referral-round"
BEHIND = "referral-behind"
ABREAST = "referral-abreast"
ERASED = "referral-erased"
FORGOTTEN = "referral-forgotten"
MOVED = "referral-moved"
RENAMED = "referral-renamed"
OWNER = "referral-owner"
LEAD = "referral-lead"
LEAD_OWNER = "referral-lead-owner"

PAID_AD = 1
"""The visit also bore a paid advertisement's click id."""
COUPON_SITE = 2
"""The visit came from a coupon site."""

CLIENT = "\x1f"
"""Begins the person key of a client who is nobody known: no id holds a control character."""

ASKING_CLIENT = "\x1e"
"""Begins the name of a client whose journey asks about a code: it is told less than people are."""

Moment = tuple[int, str]
"""(occurred_at, event_id): the order in which everything is ranked."""


def person_of(user: str, client: str) -> str:
    """The person behind an event: the user if known, else the client (semantics 42)."""
    return user or CLIENT + client


class Visit(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A visit that brought a code."""

    code: str
    at: int
    flags: int = 0
    since: int = 0
    """From when on it is that of whoever is told: a client had brought the code before it was a user's."""
    place: int = 0
    """Among the codes of its link: the first that can be used counts."""


class Visits(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-captured`."""

    visits: tuple[Visit, ...]


class Amended(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a deal is worth after an amendment, in its currency."""

    value: Decimal | None
    profit: Decimal | None


class RefundLine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A refund of a conversion's order, cut to what was left of it; or an amendment of a deal."""

    event_id: str
    at: int
    value: Decimal
    amended: Amended | None = None


class Purchase(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-conversion`: a goal reached, or a lead's status entered, by somebody."""

    at: int
    event_id: str
    goal: str
    status: str = ""
    """mql, sql or won: the lead's status that qualifies; `goal` is then the lead's."""
    value: Decimal | None = None
    """Gross value, or the lead's revenue when it was won."""
    currency: str = ""
    profit: Decimal | None = None
    paid: bool = False
    """Its goal is paid: it makes a customer."""
    client: str = ""
    user: str = ""
    codes: tuple[str, ...] = ()
    """Codes given with the conversion: promo code, then invite code."""
    visits: tuple[Visit, ...] = ()
    contact: Contact = NO_CONTACT
    refunds: tuple[RefundLine, ...] = ()
    """In order of time; of a deal what it is worth since when."""
    withdrawn: str = ""
    """Event that took it back: a lead's status that was left. What followed from it before that stands, binding and
    rank: only the money goes."""
    withdrawn_at: int = 0
    lead: str = ""
    """Whose status it is; only on the way to its person."""
    made: Moment | None = None
    """Of a lead's status: the conversion that made the lead. What its person visited later did not bring it."""

    @property
    def moment(self) -> Moment:
        """Where it stands in time."""
        return (self.at, self.event_id)

    @property
    def is_deal(self) -> bool:
        """Whether it is a lead that was won: its value may be amended at any time."""
        return self.status == "won"


class Question(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-question`: whose is this code? Corrections are wanted for uses up to `until`. The letter's id
    says who asks."""

    until: int
    known: int = 0
    """Digest of the answer that the person has; 0: none."""


class Answer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-answer`: the owner's claims, oldest first."""

    claims: tuple[Claim, ...]

    @property
    def digest(self) -> int:
        """Tells whether it is the same answer."""
        return content_digest(_encode(self))


class Spans(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-arrival`: the programmes in which a code could be used, since when and until when (0: still).
    Of overlapping ones the earlier."""

    spans: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, claims: tuple[Claim, ...]) -> Spans:
        """What journeys need to know of a code's claims: not whose it is."""
        return cls(tuple((claim.program, claim.at, claim.until) for claim in claims))

    def program_at(self, at: int) -> str:
        """The programme in which the code could be used at that time; empty: in none."""
        return next((name for name, since, until in self.spans if since <= at and (not until or at < until)), "")


class FirstPaid(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-contact`: when this person first paid (`at` 0: never), and whether they need to hear of others
    with the same contact."""

    at: int = 0
    event_id: str = ""
    asks: bool = False


class Known(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-known`: the first paid conversion of anybody else with this contact."""

    at: int
    event_id: str


class Binding(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who referred a person, in which programme, since when. It never changes."""

    program: str
    referrer: str
    code: str
    at: int
    event_id: str
    advocate_kind: str = ""
    """As which the referrer was enrolled then."""

    @property
    def moment(self) -> Moment:
        """When it was made."""
        return (self.at, self.event_id)


class Alias(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-alias`: the client is the teller's."""

    since: Moment
    """Of the first event that says so."""


class Sales(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody's paid conversions as cohorts count them: the first two, and what is left of all after refunds."""

    first: Moment | None = None
    second: Moment | None = None
    revenue: dict[str, Decimal] = {}  # msgspec copies it for each struct
    """By currency, without zeros."""


class Inherited(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-inherited`: what the client did as nobody known. It is the user's `since` the first event that
    says whose the client is, and of nothing before."""

    since: Moment
    bindings: tuple[Binding, ...] = ()
    first_paid: Moment | None = None
    visits: tuple[Visit, ...] = ()
    sales: Sales = msgspec.field(default_factory=Sales)
    """For one of the client's users only: a customer is counted once."""


class Mine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-lead`: the lead of the letter's id names this person, and hears if their name changes."""

    clients: dict[str, Moment] = {}  # msgspec copies it for each struct
    """Of theirs, if they are a user, each with the lead's first conversion that says so."""


class Round(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-round`: a letter that goes round before these people of one task get theirs."""

    left: int
    """How many times more."""
    people: tuple[bytes, ...]


class Abreast(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-behind`, which asks whether a task has come to that time, and of `referral-abreast`: it has."""

    at: int
    task: int


class Walk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-walk`: a conversion as it concerns one ancestor."""

    program: str
    level: int
    """1 to 3; 0: the referred person's own reward."""
    conversion_id: str
    purchase: Purchase
    """Without codes and visits."""
    buyer: str
    """The referred person's key."""
    code: str
    referrer: str
    """The referrer at level 1."""
    bound_at: int
    first: bool
    chain: tuple[str, ...] = ()
    """Referrers already on the way, level 1 first."""
    blocks: tuple[str, ...] = ()
    """Why nobody is paid; reasons known at the buyer."""
    holds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    erased: bool = False
    """The buyer goes by a pseudonym, and nothing else is said of them."""
    is_alone: bool = False
    """The teller goes by a pseudonym: nobody else tells of it any more."""

    @property
    def moment(self) -> Moment:
        """When the conversion was."""
        return self.purchase.moment

    @property
    def teller(self) -> str:
        """Who tells of it: the referrer of the level before, or the buyer."""
        return self.chain[-1] if self.chain else self.buyer


def taken_back(reward: str, teller: str, *, erased: bool) -> str:
    """Name of the letter that takes a walk back: it says whose, for somebody else may tell of it, too. Nobody does
    behind a pseudonym, whose old name is what others know."""
    return reward if erased else f"{reward}{SEPARATOR}{teller}"


class Erased(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-erased`: the user of this client goes by another name now; the client follows."""

    at: int
    old: str
    new: str


class Forgotten(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-forgotten`: these clients are being forgotten by journeys or, if `done`, have been."""

    clients: tuple[str, ...]
    done: bool = False


class Moved(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-moved`: something of an erased person, for their pseudonym; the letter's id says what."""

    erased: int
    """The time as of which they are erased."""
    content: bytes


class Renamed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Body of `referral-renamed`, `referral-owner` and `referral-lead-owner`: a person goes by another name. With a
    conversion: whoever told them of it tells the new name instead."""

    old: str
    new: str
    program: str = ""
    conversion_id: str = ""
    level: int = 0


def without_traces(purchase: Purchase) -> Purchase:
    """With nothing that says whose it was."""
    return msgspec.structs.replace(purchase, client="", user="", codes=(), visits=(), contact=NO_CONTACT, made=None)


def renamed(bindings: tuple[Binding, ...], old: str, new: str) -> tuple[Binding, ...]:
    """Bindings to the same people under their new name."""
    return tuple(msgspec.structs.replace(b, referrer=new) if b.referrer == old else b for b in bindings)
