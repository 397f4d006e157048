"""Conversions with a code: whose it is, codes know (decision 0022)."""

from __future__ import annotations

import msgspec

from stream_app.domain import promos
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.promos import MAX_PROMOS, Promo
from stream_app.domain.referral.facts import ARRIVAL, ASKING_CLIENT, QUESTION, Question, Spans
from stream_app.domain.referral.programs import Programs
from stream_app.domain.sources.model import Source
from stream_app.engine.processor import Context
from stream_app.processors.codes import CODE_KEY
from stream_app.processors.facts import Letter, encode_body, read


class Told(msgspec.Struct, frozen=True, gc=False):
    """To a client: when a code could be used."""

    code: str
    spans: Spans


_decode = msgspec.msgpack.Decoder(Letter[Spans]).decode


def read_arrival(_key: bytes | None, value: bytes | None, _ts: int) -> Told:
    """The decoder of `referral-arrival`."""
    letter = read(_decode, value, ARRIVAL)
    return Told(letter.id, letter.body or Spans(()))


class PromoCodes:
    """Asks whose codes are, and takes the answers."""

    def __init__(self, programs: Programs, source: Source) -> None:
        self._programs = programs.by_name
        self._source = source

    def ask(self, client: Client, client_id: str, hit: Hit, context: Context[Hit]) -> None:
        """Asks for the codes of a conversion that was just taken in. It is an ordinary one until there is an answer."""
        sale = hit.sale
        assert sale is not None
        if not (sale.promo_code or sale.invite_code) or sale.late or sale.bot:
            return
        stored = client.stored
        for code in promos.codes_of(sale):
            if len(stored.promos) < MAX_PROMOS:
                stored.promos += (Promo(hit.at, code, self._source),)
                question = encode_body(Letter(ASKING_CLIENT + client_id, Question(hit.at)))
                context.forward(QUESTION, CODE_KEY + code.encode(), question)

    def hear(self, client: Client, code: str, spans: Spans) -> bool:
        """Takes an answer; True if a conversion has become an arrival by it, or is none any more."""
        stored = client.stored
        stored.promos = tuple(
            msgspec.structs.replace(promo, is_arrival=self._is_active(spans, promo.at)) if promo.code == code else promo
            for promo in stored.promos
        )
        before, client.arrivals = client.arrivals, promos.arrivals(stored.promos)
        return client.arrivals != before

    def _is_active(self, spans: Spans, at: int) -> bool:
        program = self._programs.get(spans.program_at(at))
        return program is not None and program.runs_at(at)
