"""The member's side: who is enrolled in what, since when, with which codes; and referral events as they come in."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from stream_app.domain.contacts import NO_CONTACT, Contact
from stream_app.domain.errors import Refused
from stream_app.domain.events import (
    Amount,
    Id,
    OptionalId,
    Text,
    Time,
    read_record,
)
from stream_app.domain.referral.codes import Claim, Form, marks_of, normal_code
from stream_app.domain.referral.facts import Moment
from stream_app.domain.referral.programs import AdvocateKind

MAX_ALIASES = 20
MAX_MEMBERSHIPS = 200
"""Enrolments and departures kept of one person: the latest."""

_Aliases = Annotated[tuple[Text, ...], Meta(max_length=MAX_ALIASES)]
_RewardIds = Annotated[tuple[Id, ...], Meta(max_length=10_000)]


class ReferralEvent(msgspec.Struct, gc=False):
    """The life of a referral programme. Topic `referral-events`, key `user_id`."""

    event_id: Annotated[Id, Meta(description="Idempotency key of the event.")]
    user_id: Annotated[Id, Meta(description="Whom it is about: the person who refers.")]
    occurred_at: Annotated[int | Time, Meta(description="RFC 3339 with an offset, or epoch milliseconds.")]
    type: Annotated[
        Literal["enrolled", "invited", "left", "payout", "approve", "reject", "erased"],
        Meta(description="What happened. erased: the person is to be forgotten; concerns all programmes."),
    ]
    program: Annotated[Text, Meta(min_length=1, description="A programme of the settings; not for erased.")] = ""
    code: Annotated[Text | None, Meta(description="enrolled: the code in links.")] = None
    promo_code: Annotated[Text | None, Meta(description="enrolled: a code to type in.")] = None
    aliases: Annotated[_Aliases | None, Meta(description="enrolled: short and masked links.")] = None
    advocate_kind: Annotated[AdvocateKind | None, Meta(description="enrolled: what they are to the business.")] = None
    email: Annotated[Text | None, Meta(description="enrolled: kept only as a keyed hash.")] = None
    phone: Annotated[Text | None, Meta(description="enrolled: kept only as a keyed hash.")] = None
    name: Annotated[Text | None, Meta(description="enrolled: kept only as a keyed hash.")] = None
    ip: Annotated[Text | None, Meta(description="enrolled: kept only as a keyed hash.")] = None
    client_id: Annotated[OptionalId | None, Meta(description="enrolled: the browser or device they did it on.")] = None
    channel: Annotated[Text | None, Meta(description="invited: by mail, messenger …")] = None
    count: Annotated[Annotated[int, Meta(ge=1, le=1_000_000)] | None, Meta(description="invited: how many.")] = None
    amount: Amount = msgspec.field(default_factory=Raw)
    currency: Annotated[str | None, Meta(description="payout: ISO 4217; default from the settings.")] = None
    reward_ids: Annotated[_RewardIds | None, Meta(description="payout: which rewards; else the oldest.")] = None
    reward_id: Annotated[OptionalId | None, Meta(description="approve, reject: which reward.")] = None


NOT_OF_ERASURES = tuple(
    field
    for field in ReferralEvent.__struct_fields__
    if field not in {"event_id", "user_id", "occurred_at", "type", "program", "amount"}
)
_decode = msgspec.json.Decoder(ReferralEvent).decode
_IDS = ("event_id", "user_id", "client_id", "reward_id")
_NO_AMOUNT = (b"", b"null")
_TEXTS = ("program", "code", "promo_code", "email", "phone", "name", "ip", "channel")


def read_referral_event(value: bytes | None) -> ReferralEvent:
    """A checked event; the programme is left to who knows them. Raises Refused, and nothing else."""
    event = read_record(_decode, value, _IDS, _TEXTS)
    if event.type != "erased" and not event.program:
        raise Refused("missing_field", "program: only an erasure concerns them all")
    match event.type:
        case "enrolled":
            _check_codes(event)
        case "erased":
            _check_bare(event)
        case "approve" | "reject" if not event.reward_id:
            raise Refused("missing_field", f"reward_id: required to {event.type}")
        case "payout" if bytes(event.amount).strip() in _NO_AMOUNT:
            raise Refused("missing_field", "amount: a payout says how much was paid")
        case "invited" if event.count is None:
            raise Refused("missing_field", "count: how many were invited")
        case _:
            pass
    return event


def _check_bare(event: ReferralEvent) -> None:
    """An erasure that named a programme would be understood as one of that programme only; and what is to be forgotten
    should not be told once more."""
    given = [field for field in NOT_OF_ERASURES if getattr(event, field) is not None]
    if bytes(event.amount).strip() not in _NO_AMOUNT:
        given.append("amount")
    if event.program or given:
        field = "program" if event.program else given[0]
        raise Refused("bad_field", f"{field}: an erasure says who and when, and nothing else")


def _check_codes(event: ReferralEvent) -> None:
    if event.code is None:
        raise Refused("missing_field", "code: somebody who enrols gets one")
    for field, text in (("code", event.code), ("promo_code", event.promo_code)):
        if text is not None and not normal_code(text):
            raise Refused("bad_field", f"{field}: expected 1–128 bytes without control characters")
    for alias in event.aliases or ():
        if not normal_code(alias):
            raise Refused("bad_field", "aliases: expected 1–128 bytes without control characters each")


class Membership(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An enrolment or a departure, as it is kept."""

    at: int
    event_id: str
    program: str
    joined: bool
    codes: tuple[tuple[Form, str], ...] = ()
    advocate_kind: str = "customer"
    client: str = ""
    contact: Contact = NO_CONTACT
    origin: tuple[int, ...] = ()
    """Where the record lies, for the dead letter that follows if its code is taken."""

    @property
    def moment(self) -> Moment:
        """Where it stands in time."""
        return (self.at, self.event_id)


class Erasure(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody is to be forgotten."""

    at: int
    event_id: str


class Invited(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Invitations sent."""

    at: int
    event_id: str
    program: str
    count: int


class Review(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody has looked at a reward."""

    at: int
    event_id: str
    reward_id: str
    approve: bool


class Payout(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Money was paid out: these rewards, or the oldest approved ones."""

    at: int
    event_id: str
    program: str
    amount: Decimal
    currency: str
    reward_ids: tuple[str, ...] = ()
    record: bytes = b""
    """The event as it came: it has to be there again if it becomes a dead letter. A payout says nothing personal."""


def membership_of(event: ReferralEvent, at: int, contact: Contact) -> Membership:
    """What `enrolled` or `left` means."""
    codes: list[tuple[Form, str]] = []
    if event.type == "enrolled":
        codes.append(("code", normal_code(event.code or "")))
        if event.promo_code:
            codes.append(("promo", normal_code(event.promo_code)))
        codes.extend(("alias", normal_code(alias)) for alias in event.aliases or ())
    unique = {code: form for form, code in reversed(codes)}
    return Membership(
        at,
        event.event_id,
        event.program,
        event.type == "enrolled",
        tuple((form, code) for code, form in reversed(unique.items())),
        event.advocate_kind or "customer",
        event.client_id or "",
        contact,
    )


def until(memberships: Iterable[Membership], joined: Membership) -> int:
    """When somebody who enrolled left that programme again; 0: they have not."""
    return min(
        (m.at for m in memberships if not m.joined and m.program == joined.program and m.moment > joined.moment),
        default=0,
    )


def enrolled_at(memberships: Iterable[Membership], program: str, at: int) -> Membership | None:
    """The enrolment under which somebody is in a programme at a time: the latest before it that was not left."""
    kept = tuple(memberships)
    found = [m for m in kept if m.joined and m.program == program and m.at <= at]
    if not found:
        return None
    latest = max(found, key=lambda m: m.moment)
    left = until(kept, latest)
    return latest if not left or at < left else None


def claims_of(memberships: Iterable[Membership], user: str) -> dict[tuple[str, str], Claim]:
    """(code, enrolment's event id) → the claim that follows from it."""
    kept = tuple(memberships)
    return {
        (code, m.event_id): Claim(
            user, m.program, m.at, m.event_id, form, m.advocate_kind, until(kept, m), marks_of(m.contact, m.client)
        )
        for m in kept
        if m.joined
        for form, code in m.codes
    }


def effective(at: int, ts: int, grace_ms: int) -> int:
    """From when an event counts: from its time, but a record that is more than grace late from ts − grace on."""
    return max(at, ts - grace_ms)


__all__ = [
    "MAX_MEMBERSHIPS",
    "Erasure",
    "Invited",
    "Membership",
    "Payout",
    "ReferralEvent",
    "Review",
    "claims_of",
    "effective",
    "enrolled_at",
    "membership_of",
    "read_referral_event",
]
