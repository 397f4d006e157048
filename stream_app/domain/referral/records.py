"""The record of topic `referral-rewards`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_app.domain.money import shown
from stream_app.domain.records import Money, Revision, Timestamp
from stream_app.domain.referral.buyer import shown_person
from stream_app.domain.referral.ledger import APPROVED, PAID, STATUSES, Clawback, Entry
from stream_app.domain.referral.programs import RewardKind
from stream_app.domain.times import rfc3339

REWARDS = "referral-rewards"

RewardId = Annotated[
    str,
    Meta(
        description="Of programme, conversion and level; what a refund, or an amended deal, changes after payment adds "
        "`-r{event_id}`.",
        min_length=1,
    ),
]


Level = Annotated[int, Meta(ge=1, le=3)]


class Reward(msgspec.Struct, gc=False):
    """What somebody is owed for a referral. Topic `referral-rewards`, key `user_id`; the last of an `id` is true."""

    id: RewardId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="True in a retraction; it ends at `user_id`.")]
    truncated: Annotated[bool, Meta(description="Ranked early: the referrer had too many conversions within grace.")]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    user_id: Annotated[str, Meta(description="Who is rewarded; for somebody never known as a user, their client.")]
    program: str
    role: Literal["referrer", "referred"]
    level: Annotated[Level | None, Meta(description="1–3 up from the buyer; null for the referred person.")]
    code: Annotated[str, Meta(description="The code that bound the referred person.")]
    referred_user: Annotated[str, Meta(description="Whose conversion it is.")]
    conversion_id: str
    kind: RewardKind
    basis: Annotated[Money | None, Meta(description="What the rate applies to: amended, but before refunds.")]
    rate: Annotated[str, Meta(description='As in the programme: "10%" or "15.00".')]
    amount: Annotated[Money, Meta(description="Negative where a refund takes back what was paid; see `id`.")]
    currency: str
    status: Literal["pending", "on_hold", "approved", "paid", "refunded", "rejected"]
    reasons: Annotated[tuple[str, ...], Meta(description="Why it is held or rejected; what else was noted.")]
    due_at: Annotated[
        Timestamp | None,
        Meta(description="pending: when it is approved; on_hold: when the review ends; else when it was."),
    ]
    occurred_at: Annotated[Timestamp, Meta(description="Of the conversion, or the refund.")]
    paid_at: Timestamp | None
    payout: Annotated[str | None, Meta(description="Event id of the payout that paid it.")]


class RewardRetraction(msgspec.Struct, gc=False):
    """A reward that turned out not to exist."""

    id: RewardId
    revision: Revision
    retracted: Literal[True]
    truncated: bool
    rules_version: str
    user_id: str


def reward_of(entry: Entry, person: str, rules_version: str, *, truncated: bool = False) -> Reward:
    """The record of an entry, revision 0."""
    walk = entry.walk
    return Reward(
        entry.id,
        0,
        False,
        truncated,
        rules_version,
        shown_person(person),
        walk.program,
        "referrer" if walk.level else "referred",
        walk.level or None,
        walk.code,
        shown_person(walk.buyer),
        walk.conversion_id,
        entry.kind,
        _basis(entry, entry.basis_now),
        str(entry.rate),
        shown(entry.amount, entry.currency),
        entry.currency,
        STATUSES[entry.shown_status],
        (*entry.reasons, "withdrawn") if entry.withdrawn else entry.reasons,
        rfc3339(entry.due) if entry.due else None,
        rfc3339(walk.purchase.at),
        rfc3339(entry.paid_at) if entry.paid_at else None,
        entry.payout or None,
    )


def clawback_of(entry: Entry, clawback: Clawback, person: str, rules_version: str) -> Reward:
    """The record of a difference to what was paid, revision 0."""
    record = reward_of(entry, person, rules_version)
    record.id = f"{entry.id}-r{clawback.event_id}"
    record.amount = shown(clawback.amount, entry.currency)
    line = clawback.refund
    if line is not None and line.amended is not None:
        record.basis = _basis(entry, entry.basis_of(line.amended))
    record.status = "paid" if clawback.paid_at else "approved"
    record.reasons = ("withdrawn",) if line is None else ("refund",) if line.amended is None else ("amended",)
    record.due_at = record.occurred_at = rfc3339(clawback.at)
    record.paid_at = rfc3339(clawback.paid_at) if clawback.paid_at else None
    record.payout = clawback.payout or None
    return record


def _basis(entry: Entry, basis: Decimal | None) -> str | None:
    return shown(basis, entry.walk.purchase.currency or entry.currency) if basis is not None else None


__all__ = ["APPROVED", "PAID", "REWARDS", "Reward", "RewardRetraction", "clawback_of", "reward_of"]
