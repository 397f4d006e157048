"""What journeys tells people of referral programmes: conversions that matter, and visits with a code."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from stream_app.domain.captures import codes_of
from stream_app.domain.client import Client, Frozen
from stream_app.domain.contacts import unpacked
from stream_app.domain.journey import Session
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.domain.referral import facts
from stream_app.domain.referral.facts import Purchase, RefundLine, Visits, person_of
from stream_app.domain.referral.links import read_capture
from stream_app.domain.referral.programs import Programs
from stream_app.domain.times import to_ms
from stream_app.processors.facts import Fact, Teller, encode_body


class ReferralTeller(Teller):
    """Conversions that some programme pays for, or that make a customer; not those of programs (semantics 26)."""

    def __init__(self, programs: Programs, paid_goals: frozenset[str]) -> None:
        self._programs = programs
        self._paid = paid_goals

    def session(self, client_id: str, client: Client, session: Session, record: AttributedSession) -> Iterable[Fact]:
        """Codes that bind whoever it is should they enrol: those that its visits brought, and for a user those
        that the client had brought before, as nobody known."""
        if not self._programs:
            return
        captured = codes_of(client.head, session, record.user_id)
        visits = tuple(v for c in captured if c.at >= session.started_at for v in read_capture(c.code, c.at).visits)
        if visits:
            yield Fact(facts.CAPTURED, person_of("", client_id).encode(), encode_body(Visits(visits)))
        if captured and record.user_id:
            since = session.started_at
            before = (v for c in captured if c.at < since for v in read_capture(c.code, c.at).visits)
            visits = (*(msgspec.structs.replace(visit, since=since) for visit in before), *visits)
            yield Fact(facts.CAPTURED, record.user_id.encode(), encode_body(Visits(visits)))

    def conversion(
        self, client_id: str, _client: Client, frozen: Frozen, record: AttributedConversion
    ) -> Iterable[Fact]:
        """One fact for the person who converted."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        paid = sale.goal in self._paid
        if record.bot or not self._programs or not (paid or sale.goal in self._programs.goals):
            return
        purchase = self.purchase(client_id, frozen, record)
        yield Fact(facts.CONVERSION, person_of(purchase.user, client_id).encode(), encode_body(purchase))

    def purchase(self, client_id: str, frozen: Frozen, record: AttributedConversion) -> Purchase:
        """A conversion with all that decides about rewards for it."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        captures = [read_capture(captured.code, captured.at) for captured in frozen.codes if captured.at <= hit.at]
        contact = unpacked(sale.contact)
        if not contact.ip:
            ip = next((capture.ip for capture in reversed(captures) if capture.ip), b"")
            contact = msgspec.structs.replace(contact, ip=ip)
        return Purchase(
            hit.at,
            hit.id,
            sale.goal,
            value=sale.value,
            currency=sale.currency,
            profit=sale.profit,
            paid=sale.goal in self._paid,
            client=client_id,
            user=record.user_id or "",
            codes=tuple(code for code in (sale.promo_code, sale.invite_code) if code),
            visits=tuple(visit for capture in captures for visit in capture.visits),
            contact=contact,
            refunds=tuple(
                RefundLine(r.event_id, _ms(r.occurred_at), Decimal(r.value))
                for r in record.refunds
                if Decimal(r.value) or not sale.value
            ),
        )


def _ms(timestamp: str) -> int:
    return to_ms(msgspec.convert(timestamp, datetime))
