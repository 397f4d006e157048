"""What people hear: referral events as programmes send them, and facts."""

from __future__ import annotations

from typing import Any

import msgspec

from stream_app.domain.contacts import ContactHasher
from stream_app.domain.errors import Refused
from stream_app.domain.events import moment, money_of
from stream_app.domain.referral import facts
from stream_app.domain.referral.member import (
    Erasure,
    Invited,
    Membership,
    effective,
    membership_of,
    read_referral_event,
)
from stream_app.domain.referral.programs import Programs
from stream_app.domain.times import LATEST_MS, MINUTE_MS
from stream_app.engine.processor import Decoder, Rejected
from stream_app.processors.facts import Letter, read
from stream_app.processors.people.state import Turn

CLOCK_SKEW_MS = 5 * MINUTE_MS

BODIES: dict[str, Any] = {
    facts.CONVERSION: facts.Purchase,
    facts.CAPTURED: facts.Visits,
    facts.ANSWER: facts.Answer,
    facts.KNOWN: facts.Known,
    facts.ALIAS: facts.Alias,
    facts.INHERITED: facts.Inherited,
    facts.BOUND: facts.Binding,
    facts.WALK: facts.Walk,
    facts.ROUND: facts.Round,
    facts.BEHIND: facts.Abreast,
    facts.ABREAST: facts.Abreast,
    facts.ERASED: facts.Erased,
    facts.FORGOTTEN: facts.Forgotten,
    facts.MOVED: facts.Moved,
    facts.RENAMED: facts.Renamed,
    facts.LEAD: facts.Mine,
}


class Heard(msgspec.Struct, gc=False):
    """A fact as it came."""

    kind: str
    id: str
    body: Any


class Happened(msgspec.Struct, gc=False):
    """A referral event: what it is, and the key if its record had none."""

    event_id: str
    what: Membership | Invited | Turn | Erasure
    user: str


Event = Heard | Happened


def fact_decoder(kind: str) -> Decoder[Event]:
    """The decoder of one kind of fact."""
    decode_letter = msgspec.msgpack.Decoder(Letter[BODIES[kind]]).decode  # type: ignore[valid-type]

    def decode(_key: bytes | None, value: bytes | None, _ts: int) -> Event:
        letter: Letter[Any] = read(decode_letter, value, kind)
        return Heard(kind, letter.id, letter.body)

    return decode


class EventDecoder:
    """A referral event's bytes → what is kept of it: contacts only as hashes."""

    def __init__(self, programs: Programs, hasher: ContactHasher, *, grace_ms: int, currency: str) -> None:
        self._programs = programs
        self._hasher = hasher
        self._grace_ms = grace_ms
        self._currency = currency

    def __call__(self, key: bytes | None, value: bytes | None, ts: int) -> Event:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            return self._read(key, value, ts)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None

    def _read(self, key: bytes | None, value: bytes | None, ts: int) -> Happened:
        event = read_referral_event(value)
        if key is not None and key != event.user_id.encode():
            raise Rejected("key_mismatch", "user_id: the record's key is another")
        if event.type != "erased" and event.program not in self._programs.by_name:
            raise Rejected("unknown_program", "program: not in the settings")
        at = moment(event.occurred_at)
        if not 0 <= at <= LATEST_MS:
            raise Rejected("bad_field", "occurred_at: expected a time between 1970 and 9999")
        if at - ts > CLOCK_SKEW_MS:
            raise Rejected("clock_skew", "occurred_at: more than 5 min after it arrived")
        at = effective(at, ts, self._grace_ms)
        match event.type:
            case "enrolled" | "left":
                contact = self._hasher.contact(event.email, event.phone, event.name, event.ip)
                return Happened(event.event_id, membership_of(event, at, contact), event.user_id)
            case "invited":
                return Happened(
                    event.event_id, Invited(at, event.event_id, event.program, event.count or 0), event.user_id
                )
            case "erased":
                return Happened(event.event_id, Erasure(at, event.event_id), event.user_id)
            case _:
                money_of(event.amount, event.currency, self._currency, "amount")
                return Happened(event.event_id, Turn(at, event.event_id, value or b""), event.user_id)
