"""What other keys tell a client: of its users' other clients, of orders, codes and leads, and that it is erased."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_app.domain import client as clients
from stream_app.domain.client import Client
from stream_app.domain.hits import Hit
from stream_app.domain.owners import MAX_OWNERS
from stream_app.domain.persons import changed_since
from stream_app.domain.referral.facts import FORGOTTEN, Forgotten
from stream_app.domain.times import LATEST_MS
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.journeys import codec, erasing
from stream_app.processors.journeys.promos import PromoCodes, Told
from stream_app.processors.journeys.writing import Writer
from stream_app.processors.lead_facts import Asking, LeadAnswers
from stream_app.processors.links import ClientErased, OthersTold, Ruled
from stream_app.processors.pseudonyms import Pseudonyms

Word = Asking | OthersTold | Ruled | Told
Letters = Word | ClientErased


@dataclass(slots=True)
class Heard:
    """What other keys have told in this commit."""

    orders: set[int] = field(default_factory=set)
    """Orders with another ruling."""
    since: int = LATEST_MS
    """The earliest conversion, by its time, that may see other touchpoints of its user's other clients."""
    refold: bool = False
    """A conversion has turned out to be an arrival, or to be none."""


class Hearing:
    """Takes letters."""

    def __init__(self, writer: Writer, answers: LeadAnswers, promos: PromoCodes | None, pseudonyms: Pseudonyms) -> None:
        self._writer = writer
        self._answers = answers
        self._promos = promos
        self._pseudonyms = pseudonyms

    def first_of_all(
        self, key: bytes, client_id: str, state: Client | None, letters: list[Letters], context: Context[Hit]
    ) -> tuple[Client | None, list[Word]]:
        """A client that is erased is forgotten before anything else; what is taken back of one that is not known is
        nothing new, nor what a code is that it asked for. What is left of all that."""
        for letter in letters:
            if isinstance(letter, ClientErased):
                new = self._pseudonyms(key)
                erasing.take_back(key, client_id, state, new, letter.conversions, self._writer, context)
                if state is not None:
                    codec.forget(key, state, context.rows)
                    state = None
                body = encode_body(Letter(letter.user, Forgotten((client_id,), done=True)))
                context.forward(FORGOTTEN, letter.user.encode(), body)
        left = [letter for letter in letters if not isinstance(letter, ClientErased)]
        if state is None:
            left = [letter for letter in left if not _takes_back(letter)]
        return state, left

    def hear(self, client: Client, letters: list[Word]) -> Heard:
        """Takes what others tell of the client."""
        heard = Heard()
        stored = client.stored
        asking = []
        for letter in letters:
            match letter:
                case OthersTold(user, others):
                    before = client.others.pop(user, None)
                    if others is not None:
                        client.others[user] = others
                        if len(client.others) > MAX_OWNERS:
                            del client.others[next(iter(client.others))]
                    client.others_changed = True
                    heard.since = min(heard.since, changed_since(before, others))
                case Ruled(order, ruling):
                    stored.rulings.pop(order, None)
                    if ruling is not None:
                        stored.rulings[order] = ruling
                        if len(stored.rulings) > clients.MAX_ORDERS:
                            del stored.rulings[next(iter(stored.rulings))]
                    heard.orders.add(order)
                case Told(code, spans):
                    if self._promos is not None and self._promos.hear(client, code, spans):
                        heard.refold = True
                case Asking():
                    asking.append(letter)
        if asking:
            self._answers.take(client, asking)
        return heard


def _takes_back(word: Word) -> bool:
    match word:
        case OthersTold(_, others):
            return others is None
        case Ruled(_, ruling):
            return ruling is None
        case Asking(_, question):
            return question is None
        case Told():
            return True
