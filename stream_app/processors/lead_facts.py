"""What journeys and leads tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from stream_app.domain.client import HOLD_COMMITS, MAX_ASKED, Asked, Client, Frozen
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.ids import content_digest
from stream_app.domain.lead_events import LeadFact, Question
from stream_app.domain.paths import source_of
from stream_app.domain.records import AttributedConversion
from stream_app.domain.views import Views
from stream_app.engine.processor import Context
from stream_app.processors.facts import Fact, Letter, Teller, encode_body, encode_letter, read

LEAD_FACT = "lead-fact"
LEAD_QUESTION = "lead-question"
ANSWER = "?"
"""The id of a fact that answers a question, in place of a conversion's."""


Grounds = Callable[[str, Frozen, AttributedConversion], bytes]
"""(client, conversion, its record) → what referral programmes must know of it (`LeadFact.grounds`)."""


class LeadTeller(Teller):
    """A conversion that makes a lead or touches one, with its last non-direct source (semantics 35). A program's
    conversion makes none (semantics 26)."""

    def __init__(self, grounds: Grounds | None = None) -> None:
        self._grounds = grounds

    def conversion(
        self,
        client_id: str,
        _client: Client,
        frozen: Frozen,
        record: AttributedConversion,
    ) -> Iterable[Fact]:
        """One fact for its lead, if it has one."""
        hit = frozen.hit
        sale = hit.sale
        assert sale is not None
        if not sale.lead_id or record.bot:
            return
        source = source_of(frozen.touchpoints, record.credits["last_non_direct"][0]) or NOT_DETERMINED
        grounds = self._grounds(client_id, frozen, record) if self._grounds is not None else b""
        fact = LeadFact(hit.at, hit.id, client_id, sale.goal, source, sale.segment, record.user_id or "", grounds)
        yield Fact(LEAD_FACT, sale.lead_id.encode(), encode_body(fact))


class Asking(msgspec.Struct, frozen=True, gc=False):
    """A lead's question as it arrives; None: it does not want to know any more."""

    lead_id: str
    question: Question | None


_decode_question = msgspec.msgpack.Decoder(Letter[Question]).decode


def read_question(_key: bytes | None, value: bytes | None, _ts: int) -> Asking:
    """The decoder of `lead-question`."""
    letter = read(_decode_question, value, LEAD_QUESTION)
    return Asking(letter.id, letter.body)


class LeadAnswers:
    """Answers leads that have no conversion: where their client came from when they were created. As long as an
    admissible click may still change it, or word of the person's other clients may be on its way, the question stays
    with the client and the answer is revised."""

    def __init__(self, views: Views) -> None:
        self._views = views

    @staticmethod
    def take(client: Client, asking: Sequence[Asking]) -> None:
        """Puts questions with the client."""
        asked = {question.lead_id: question for question in client.stored.asked}
        for ask in asking:
            before = asked.pop(ask.lead_id, None)
            if ask.question is not None:
                told = before.told if before is not None and before.at == ask.question.at else 0
                asked[ask.lead_id] = Asked(ask.lead_id, ask.question.at, told)
        client.stored.asked = tuple(asked.values())[-MAX_ASKED:]

    def answer(self, client_id: str, client: Client, horizon: int, context: Context[Any]) -> None:
        """Tells what differs from what was told; forgets questions about what is settled."""
        still = []
        for asked in client.stored.asked:
            source = self._views.source_at(client.head, client.others, asked.at)
            body = encode_body(None if source is None else LeadFact(asked.at, "", client_id, "", source))
            told = 0 if source is None else content_digest(body)
            if told != asked.told:
                context.forward(LEAD_FACT, asked.lead_id.encode(), encode_letter(ANSWER, body))
            settled = 0 if asked.at >= horizon else asked.settled or context.revision
            if not settled or (client.head.owners and context.revision < settled + HOLD_COMMITS):
                still.append(msgspec.structs.replace(asked, told=told, settled=settled))
        client.stored.asked = tuple(still)
