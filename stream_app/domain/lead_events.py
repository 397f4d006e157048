"""What is told of a lead: updates from a CRM as they are sent and as they are kept, and facts from journeys."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_app.domain.errors import Refused
from stream_app.domain.events import (
    Amount,
    Id,
    OptionalId,
    Text,
    Time,
    moment,
    read_record,
)
from stream_app.domain.money import check_currency, parse_amount
from stream_app.domain.sources.model import Source
from stream_app.domain.sources.resolver import SourceResolver

Status = Literal["new", "contacted", "qualified", "proposal", "won", "refused", "reopened"]
Qualification = Literal["mql", "sql"]
STATUSES: tuple[Status, ...] = ("new", "contacted", "qualified", "proposal", "won", "refused", "reopened")


class LeadUpdate(msgspec.Struct, gc=False):
    """What a CRM says of a lead at one moment. Topic `lead-updates`, key `lead_id`."""

    event_id: Annotated[Id, Meta(description="Idempotency key of the event.")]
    lead_id: Annotated[Id, Meta(description="The lead.")]
    occurred_at: Annotated[int | Time, Meta(description="RFC 3339 with an offset, or epoch milliseconds.")]
    status: Annotated[Status, Meta(description="In any order; the latest by `occurred_at` is the current one.")]
    qualification: Annotated[Qualification | None, Meta(description="Counted at its first mention.")] = None
    reason: Annotated[Text | None, Meta(description="Why the lead was refused.")] = None
    owner: Annotated[Text | None, Meta(description="Who works on the lead.")] = None
    revenue: Annotated[Amount, Meta(description="Absolute; the latest by `occurred_at` counts. Not negative.")] = (
        msgspec.field(default_factory=msgspec.Raw)
    )
    profit: Annotated[Amount, Meta(description="As revenue; a loss is negative.")] = msgspec.field(
        default_factory=msgspec.Raw
    )
    currency: Annotated[str | None, Meta(description="ISO 4217; default from the settings.")] = None
    contact_id: Annotated[OptionalId | None, Meta(description="The client record that this lead became.")] = None
    client_id: Annotated[OptionalId | None, Meta(description="The browser or device of a lead without a goal.")] = None
    source: Annotated[Text | None, Meta(description="For a lead born offline: where it came from.")] = None
    medium: Text | None = None
    campaign: Text | None = None


class Update(msgspec.Struct, gc=False, array_like=True):
    """An update as it is kept: resolved and small."""

    at: int
    id: str
    status: Status
    late: bool = False
    """Arrived later than grace."""
    qualification: str = ""
    reason: str = ""
    owner: str = ""
    revenue: Decimal | None = None
    profit: Decimal | None = None
    currency: str = ""
    """Of the amounts; empty when there are none."""
    contact_id: str = ""
    client_id: str = ""
    source: Source | None = None
    """Where the lead came from, if this update names it."""
    lead: str = ""
    """The lead's id, only as long as the record's key does not say it."""


class LeadFact(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What journeys tells of a lead: a conversion that makes or touches it, or the answer to a question."""

    at: int
    event_id: str
    client_id: str
    goal: str
    source: Source
    """Its attribution: last non-direct; `(not determined)` without any touchpoint."""
    segment: tuple[tuple[str, str], ...] = ()
    user_id: str = ""
    grounds: bytes = b""
    """What referral programmes must know of the conversion, as they encode it; empty where none asks for leads."""


class Question(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A lead without a conversion asks for its client's attribution at the moment of its creation."""

    client_id: str
    at: int


_decode: Callable[[bytes], LeadUpdate] = msgspec.json.Decoder(LeadUpdate).decode
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_IDS = ("event_id", "lead_id", "contact_id", "client_id")
_TEXTS = ("reason", "owner", "source", "medium", "campaign")


def read_lead_update(value: bytes | None) -> LeadUpdate:
    """A checked update; amounts are left to `compact`. Raises Refused, and nothing else, whatever the bytes."""
    return read_record(_decode, value, _IDS, _TEXTS)


def compact(update: LeadUpdate, currency: str, resolver: SourceResolver, *, late: bool = False) -> Update:
    """The update as it is kept; `currency` is that of amounts given without one. Raises Refused (`bad_money`)."""
    code = check_currency(update.currency) if update.currency else currency
    revenue = _amount(update.revenue, "revenue")
    if revenue is not None and revenue < 0:
        raise Refused("bad_money", "revenue: may not be negative")
    profit = _amount(update.profit, "profit")
    source, medium, campaign = update.source or "", update.medium or "", update.campaign or ""
    named = bool(source.strip() or medium.strip() or campaign.strip())
    return Update(
        moment(update.occurred_at),
        update.event_id,
        update.status,
        late,
        update.qualification or "",
        (update.reason or "").strip(),
        (update.owner or "").strip(),
        revenue,
        profit,
        code if revenue is not None or profit is not None else "",
        update.contact_id or "",
        update.client_id or "",
        resolver.of_fields(source, medium, campaign) if named else None,
        update.lead_id,
    )


def order(update: Update) -> tuple[int, str]:
    """Updates are folded in this order: time, then event id."""
    return update.at, update.id


def precedence(update: Update) -> tuple[bool, int, bytes]:
    """Of updates with one event id the smallest by this stands: one that came within grace before one that did not,
    then the earlier, then the smaller content (semantics 23). All of it is a property of the record, so that the
    winner does not depend on which came first."""
    return update.late, update.at, _encode(update)


def weight(update: Update) -> int:
    """About how many bytes the update takes."""
    size = 64 + len(update.reason) + len(update.owner)
    source = update.source
    return size if source is None else size + len(source.source) + len(source.medium) + len(source.campaign)


def _amount(raw: msgspec.Raw, field: str) -> Decimal | None:
    text = bytes(raw).strip()
    return None if not text or text == b"null" else parse_amount(text, field)
