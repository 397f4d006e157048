"""What the leads processor publishes: the records of the topic `leads`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_app.domain.lead_events import Qualification, Status
from stream_app.domain.records import Money, Revision, Timestamp

LEADS = "leads"

Seconds = Annotated[int, Meta(ge=0)]
LeadId = Annotated[str, Meta(description="The lead: the record's key.")]


class StatusEntry(msgspec.Struct, frozen=True, gc=False):
    """A status that the lead entered."""

    status: Status
    at: Timestamp
    owner: Annotated[str | None, Meta(description="Who worked on the lead then.")]
    reason: Annotated[str | None, Meta(description="Why, above all for refusals.")]


class LeadSource(msgspec.Struct, frozen=True, gc=False):
    """Where a lead came from."""

    source: str
    medium: str
    campaign: str
    term: str
    content: str
    source_platform: str
    channel: str


class Lead(msgspec.Struct, gc=False):
    """A lead with its life so far. Topic `leads`, key `lead_id`; the last record of an `id` is the truth."""

    id: LeadId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="True in a retraction; it ends at `lead_id`.")]
    truncated: Annotated[bool, Meta(description="A bound was hit: something of this lead's past was left out.")]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    lead_id: str
    status: Annotated[Status, Meta(description="The latest by time.")]
    qualification: Annotated[Qualification | None, Meta(description="The latest one mentioned.")]
    created_at: Annotated[Timestamp, Meta(description="The earliest of its goals and CRM records.")]
    first_status_at: Annotated[Timestamp, Meta(description="When it entered its first status.")]
    status_since: Annotated[Timestamp, Meta(description="When it entered its current status.")]
    history: Annotated[tuple[StatusEntry, ...], Meta(description="Statuses entered, oldest first.")]
    owner: Annotated[str | None, Meta(description="Who works on it.")]
    client_id: Annotated[str | None, Meta(description="Of its first goal, else as the CRM says.")]
    contact_id: Annotated[str | None, Meta(description="The client record that it became.")]
    goal: Annotated[str | None, Meta(description="Its first goal; null for a lead known from the CRM only.")]
    segment: dict[str, str]
    attributed: Annotated[LeadSource, Meta(description="From its creation; never from what came later.")]
    source_determined: Annotated[bool, Meta(description="False when nothing says where it came from.")]
    revenue: Annotated[Money | None, Meta(description="The latest named; counted while the lead is won.")]
    profit: Money | None
    currency: Annotated[str | None, Meta(description="Of revenue and profit; null when there are none.")]
    refusals: Annotated[int, Meta(ge=0, description="How often it was refused.")]
    reopened: Annotated[int, Meta(ge=0, description="How often it got a second chance.")]
    time_to_contact_s: Annotated[Seconds | None, Meta(description="From creation to the first contact.")]
    time_to_close_s: Annotated[Seconds | None, Meta(description="From creation to the deal, while it is won.")]


class LeadRetraction(msgspec.Struct, gc=False):
    """A lead of which nothing is left: its only conversion was taken back, for one."""

    id: LeadId
    revision: Revision
    retracted: Literal[True]
    truncated: bool
    rules_version: str
    lead_id: str
