"""What is kept of an event while it is within grace: small, resolved, complete for folding again."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from stream_app.domain.sources.model import Source

PAGE_VIEW = 0
SCREEN_VIEW = 1
LINK_CLICK = 2
CONVERSION = 3
REFUND = 4
BOT = 5
"""A program's click: counted, never kept."""
SPAM = 6
"""A click with a spam referrer: counted, never kept."""

KIND_OF_CLICK = {"page_view": PAGE_VIEW, "screen_view": SCREEN_VIEW, "link_click": LINK_CLICK}


class Sale(msgspec.Struct, gc=False, array_like=True):
    """What a conversion or refund says besides when and who."""

    goal: str
    value: Decimal | None = None
    currency: str = ""
    order_id: str = ""
    order: int = 0
    """64 bits of (goal, order_id); 0: no order."""
    lead_id: str = ""
    offline: bool = False
    """Happened off the site: never starts, extends or splits a session."""
    late: bool = False
    """Arrived later than grace: as offline, and leaves the session's figures alone."""
    bot: bool = False
    """Sent by a program: flagged, counted nowhere."""
    profit: Decimal | None = None
    """In `currency`; for goals that know it."""
    segment: tuple[tuple[str, str], ...] = ()
    """Names with their values, sorted."""
    score: int | None = None
    """0–10, of a goal of kind `nps`."""
    suspicious: bool = False
    """A community join that the sender doubts."""
    promo_code: str = ""
    invite_code: str = ""
    contact: tuple[bytes, ...] = ()
    """Keyed hashes of e-mail, phone and the like: never the things themselves."""
    origin: tuple[int, ...] = ()
    """Of a refund whose order is not known here: partition, offset and timestamp of its record, by which it can become
    a dead letter long after (semantics 24)."""

    @property
    def apart(self) -> tuple[object, ...]:
        """What no record of `attributed-conversions` shows, but others are told: it makes a revision as well."""
        return (self.profit, self.segment, self.score, self.suspicious, self.promo_code, self.invite_code, self.contact)


class Hit(msgspec.Struct, gc=False, array_like=True):
    """One event of a client. The resolved source is kept, not the URL's query: a change of rules never resolves the
    past again (semantics 13)."""

    at: int
    id: str
    kind: int
    source: Source | None = None
    """Where the visit came from; None for direct, internal and excluded arrivals. For offline conversions: the
    touchpoint they are themselves."""
    referral: str = ""
    """Host of a plain referral, which is no source inside an open session, or of an excluded one, which is none
    anywhere."""
    user: str = ""
    url: str = ""
    """Without query and fragment."""
    sale: Sale | None = None
    client: str = ""
    """The client id, only as long as the record's key does not say it."""
    code: str = ""
    """A referral programme's code that the visit brought, or the click's ip alone; of a settled conversion, the ip of
    the last click before it. Only where programmes are set up."""


_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


def order(hit: Hit) -> tuple[int, str, int]:
    """Events are folded in this order: time, then event id (domain rules, section 3)."""
    return (hit.at, hit.id, hit.kind)


def content(hit: Hit) -> bytes:
    """Decides between two events that claim the same time and id, whatever came first (semantics 23)."""
    sale = hit.sale
    if sale is not None and sale.origin:
        hit = msgspec.structs.replace(hit, sale=msgspec.structs.replace(sale, origin=()))
    return _encode(hit)


def same_topic(left: Hit, right: Hit) -> bool:
    """Event ids are unique per topic: a click and a conversion may share one."""
    return (left.kind >= CONVERSION) == (right.kind >= CONVERSION)
