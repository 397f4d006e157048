"""What leads tell referral programmes: statuses that earn a reward (`qualifies_on`, semantics 48)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from stream_app.domain import leads
from stream_app.domain.client import Frozen
from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.ids import conversion_id
from stream_app.domain.lead_events import LeadFact
from stream_app.domain.lead_life import Entry, Life, Mention, Worth
from stream_app.domain.leads import Lead
from stream_app.domain.records import AttributedConversion
from stream_app.domain.referral.facts import (
    CLIENT,
    CONVERSION,
    LEAD,
    Amended,
    Mine,
    Moment,
    Purchase,
    RefundLine,
    person_of,
)
from stream_app.domain.referral.programs import Exchange, Programs, half_up
from stream_app.processors.facts import Fact, encode_body
from stream_app.processors.referral_facts import ReferralTeller

_decode_purchase = msgspec.msgpack.Decoder(Purchase).decode


class LeadReferrals:
    """Turns a lead's statuses into purchases of the person behind it: MQL and SQL at their first mention, each deal
    with the lead's revenue at that time as its value, amended as often as the revenue is, and withdrawn when the lead
    leaves it."""

    def __init__(self, programs: Programs, teller: ReferralTeller) -> None:
        self._statuses = programs.statuses
        self._exchange = programs.exchange
        self._teller = teller

    def grounds(self, client_id: str, frozen: Frozen, record: AttributedConversion) -> bytes:
        """What must be known of the conversion that made the lead: codes, visits, contact."""
        return encode_body(self._teller.purchase(client_id, frozen, record)) if self._statuses else b""

    def facts(self, lead_id: str, lead: Lead, life: Life) -> Iterable[tuple[str, Fact]]:
        """(id of the record it follows from, fact) for each status that some programme pays for. Everybody whom the
        lead names hears of it before, also if nothing is paid: they say if they go by another name one day."""
        for person, theirs in _named_by(lead).items():
            yield lead_id, Fact(LEAD, person.encode(), encode_body(Mine(theirs)))
        fact = leads.first_fact(lead)
        made = _made_by(fact) if fact is not None else Purchase(0, "", "", client=life.client_id)
        if not (made.user or made.client):
            return
        key = person_of(made.user, made.client).encode()
        for status, moment in (("mql", life.mql), ("sql", life.sql), *_deals(life)):
            if moment is None or status not in self._statuses:
                continue
            purchase = msgspec.structs.replace(
                made,
                at=moment.at,
                event_id=moment.event_id,
                status=status,
                value=None,
                profit=None,
                currency="",
                paid=False,
                refunds=(),
                lead=lead_id,
                made=made.moment,
            )
            if isinstance(moment, Entry):
                purchase = self._deal(purchase, moment)
            record_id = conversion_id(lead_id, f"{status}\x1f{moment.event_id}")
            yield record_id, Fact(CONVERSION, key, encode_body(purchase))

    def _deal(self, purchase: Purchase, deal: Entry) -> Purchase:
        """With what the deal is worth, and was when it was won: that may be heard of as late as any amendment. One that
        was won without a revenue has the currency of the reports."""
        first = deal.worths[0]
        currency = first.currency or self._exchange.base
        amended = ((worth, _in_currency(worth, currency, self._exchange)) for worth in deal.worths)
        return msgspec.structs.replace(
            purchase,
            value=first.revenue,
            profit=first.profit,
            currency=currency,
            refunds=tuple(RefundLine(w.event_id, w.at, Decimal(0), now) for w, now in amended if now is not None),
            withdrawn=deal.left_by,
            withdrawn_at=deal.left_at,
        )

    @staticmethod
    def rename(lead: Lead, old: str, new: str) -> None:
        """A person was erased: their new name stands for them, and nothing else says who they are. Of somebody else's
        conversion on a client that was erased only the client goes."""
        user, client = ("", new.removeprefix(CLIENT)) if new.startswith(CLIENT) else (new, "")
        for name, fact in lead.facts.items():
            made = _made_by(fact)
            if person_of(made.user, made.client) == old:
                grounds = msgspec.structs.replace(made, user=user, client=client, contact=NO_CONTACT)
                bare = msgspec.structs.replace(fact, client_id="", user_id="", grounds=encode_body(grounds))
                lead.facts[name] = bare
            elif CLIENT + made.client == old:
                grounds = msgspec.structs.replace(made, client=client)
                lead.facts[name] = msgspec.structs.replace(fact, client_id="", grounds=encode_body(grounds))
        if client:
            leads.rename_client(lead, old.removeprefix(CLIENT), client)


def _made_by(fact: LeadFact) -> Purchase:
    """The conversion that made the lead, as far as it is known."""
    if fact.grounds:
        return _decode_purchase(fact.grounds)
    return Purchase(0, "", fact.goal, client=fact.client_id, user=fact.user_id)


def _in_currency(worth: Worth, currency: str, exchange: Exchange) -> Amended | None:
    """What a deal is worth in a currency; None: that has no rate, and so says nothing."""
    amounts: list[Decimal | None] = []
    for amount in (worth.revenue, worth.profit):
        if amount is not None and worth.currency != currency:
            converted = exchange.convert(amount, worth.currency, currency)
            if converted is None:
                return None
            amount = half_up(converted, currency)
        amounts.append(amount)
    return Amended(*amounts)


def _named_by(lead: Lead) -> dict[str, dict[str, Moment]]:
    """Person → their clients, if they are known as a user, and since when: of conversions, and clients as the CRM says.
    A client whose user is known is named as well: it may be erased with another of its users."""
    people: dict[str, dict[str, Moment]] = {CLIENT + client: {} for client in leads.clients_of(lead)}
    for _, fact in sorted(lead.facts.items(), key=lambda item: (item[1].at, item[1].event_id, item[0])):
        made = _made_by(fact)
        theirs = people.setdefault(person_of(made.user, made.client), {})
        if made.client:
            people.setdefault(CLIENT + made.client, {})
        if made.client and made.user:
            theirs.setdefault(made.client, (fact.at, fact.event_id))
    return people


def _deals(life: Life) -> Iterable[tuple[str, Entry | Mention]]:
    return (("won", entry) for entry in life.entries if entry.status == "won")
