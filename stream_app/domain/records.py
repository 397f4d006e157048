"""What the journeys processor publishes: the records of `attributed-sessions` and `attributed-conversions`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_app.domain.journey import SplitReason
from stream_app.domain.sources.model import ArrivedBy

SESSIONS = "attributed-sessions"
CONVERSIONS = "attributed-conversions"

Timestamp = Annotated[
    str, Meta(description="RFC 3339, UTC, milliseconds, `Z`.", extra_json_schema={"format": "date-time"})
]
Money = Annotated[
    str, Meta(description="Decimal string with all digits of the currency's minor unit.", pattern=r"^-?\d+(\.\d+)?$")
]
Share = Annotated[str, Meta(description="Decimal string with at most 12 decimals.", pattern=r"^[01](\.\d{1,12})?$")]
Revision = Annotated[int, Meta(ge=0, description="Grows with each record of an id; the highest wins.")]
RecordId = Annotated[
    str, Meta(description="Sixteen hex digits, derived from the ids of the events behind it.", pattern="^[0-9a-f]{16}$")
]


class AttributedTo(msgspec.Struct, frozen=True, gc=False):
    """The last non-direct touchpoint at a session's start."""

    source: str
    medium: str
    campaign: str
    channel: str
    from_session: Annotated[str | None, Meta(description="The session in which it was; null for an offline one.")]
    age_s: Annotated[int, Meta(ge=0, description="Seconds from it to the session's start.")]


class AttributedSession(msgspec.Struct, gc=False):
    """A visit with its source. Topic `attributed-sessions`, key `client_id`; the last of an `id` is true."""

    id: RecordId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="True in a retraction; it ends at `client_id`.")]
    truncated: Annotated[bool, Meta(description="A bound was hit: something of this client was left out.")]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    client_id: str
    user_id: Annotated[str | None, Meta(description="The first known user in it, else the client's latest before it.")]
    session_number: Annotated[int, Meta(ge=1, description="1 for the client's first session.")]
    status: Annotated[
        Literal["open", "closed"],
        Meta(description="Open ones show what was so at the start or last change of source, user, conversions."),
    ]
    started_at: Timestamp
    ended_at: Annotated[Timestamp, Meta(description="Time of its last event.")]
    duration_s: Annotated[int, Meta(ge=0)]
    page_views: Annotated[int, Meta(ge=0, description="Page and screen views.")]
    events: Annotated[int, Meta(ge=1, description="Everything that extended it, conversions included.")]
    engaged: Annotated[bool, Meta(description="Longer than 10 seconds, two page views or more, or a conversion.")]
    is_new_client: Annotated[bool, Meta(description="The first session ever seen of this client.")]
    landing_url: Annotated[str | None, Meta(description="First page, without query; null as long as there is none.")]
    exit_url: Annotated[str | None, Meta(description="Last page, without query.")]
    split_reason: Annotated[SplitReason, Meta(description="Why it is a session of its own.")]
    source: str
    medium: str
    campaign: str
    term: str
    content: str
    source_platform: str
    channel: str
    click_id_type: str
    arrival: Annotated[ArrivedBy, Meta(description="What named the source.")]
    attributed: Annotated[AttributedTo, Meta(description="Last non-direct touchpoint.")]
    ignored_referrals: Annotated[tuple[str, ...], Meta(description="Hosts of detours (payment, login), not sources.")]
    conversions: Annotated[int, Meta(ge=0)]
    conversion_value: Annotated[dict[str, Money], Meta(description="Gross value of its conversions by currency.")]


class TouchpointRecord(msgspec.Struct, frozen=True, gc=False):
    """One touchpoint on a conversion's path."""

    session_id: Annotated[str | None, Meta(description="Null for an offline touchpoint outside any session.")]
    occurred_at: Timestamp
    source: str
    medium: str
    campaign: str
    channel: str
    age_s: Annotated[int, Meta(ge=0, description="Seconds from it to the conversion.")]


class Credit(msgspec.Struct, frozen=True, gc=False):
    """One touchpoint's share of a conversion."""

    source: str
    medium: str
    campaign: str
    channel: str
    credit: Share
    value: Annotated[Money | None, Meta(description="Null when the conversion has no value.")]


class RefundRecord(msgspec.Struct, frozen=True, gc=False):
    """A refund of a conversion's order."""

    event_id: str
    occurred_at: Timestamp
    value: Annotated[Money, Meta(description="What was refunded; what exceeds the order is cut off.")]


class AttributedConversion(msgspec.Struct, gc=False):
    """A conversion with its path and credit. Topic `attributed-conversions`, key `client_id`; the last record of an
    `id` is the truth."""

    id: RecordId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="True in a retraction; it ends at `client_id`.")]
    truncated: Annotated[bool, Meta(description="A bound was hit: something of this client was left out.")]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    client_id: str
    event_id: str
    order_id: str | None
    user_id: str | None
    session_id: Annotated[str | None, Meta(description="The session that contained it, if known.")]
    lead_id: str | None
    goal: str
    occurred_at: Timestamp
    value: Annotated[Money | None, Meta(description="Gross; null when none was given.")]
    currency: str | None
    bot: Annotated[bool, Meta(description="Sent by a program: counted and paid nowhere.")]
    touchpoints: Annotated[tuple[TouchpointRecord, ...], Meta(description="Within the lookback, oldest first.")]
    path: Annotated[str, Meta(description="Channels of the touchpoints: `Paid Search > Direct`.")]
    days_to_convert: Annotated[int | None, Meta(description="Whole days since the first touchpoint.")]
    credits: Annotated[
        dict[str, tuple[Credit, ...]], Meta(description="By model; credit sums to 1, value to the value.")
    ]
    assisting_channels: tuple[str, ...]
    source_determined: Annotated[bool, Meta(description="False when there is no touchpoint at all.")]
    refunds: tuple[RefundRecord, ...]
    refunded_value: Money | None


class Retraction(msgspec.Struct, gc=False):
    """A record that turned out not to exist: a session that a late event dissolved, for one."""

    id: RecordId
    revision: Revision
    retracted: Literal[True]
    truncated: bool
    rules_version: str
    client_id: str
