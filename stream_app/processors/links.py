"""What journeys, persons and orders tell each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stream_app.domain.ids import order_hash
from stream_app.domain.orders import Asked, Claim, Ruling
from stream_app.domain.persons import Link, Others
from stream_app.engine.processor import Decoder
from stream_app.processors.facts import Letter, read

PERSON_LINK = "person-link"
PERSON_TOUCHPOINTS = "person-touchpoints"
ORDER_CLAIM = "order-claim"
ORDER_REFUND = "order-refund"
ORDER_RULING = "order-ruling"
PERSON_ERASED = "person-erased"
CLIENT_ERASED = "client-erased"


class Linking(msgspec.Struct, frozen=True, gc=False):
    """To a person: what a client says of its touchpoints."""

    id: str
    link: Link | None


class OthersTold(msgspec.Struct, frozen=True, gc=False):
    """To a client: what a user's other clients have seen."""

    user: str
    others: Others | None


class PersonErased(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """To a person: they are to be forgotten. Clients that people know of, and conversions on them."""

    clients: dict[str, tuple[str, ...]]


class ClientErased(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """To a client: it is to be forgotten, with these conversions if it does not know them any more; the user asks to
    hear of it."""

    user: str
    conversions: tuple[str, ...]


class Claiming(msgspec.Struct, frozen=True, gc=False):
    """To an order: a conversion that claims it."""

    id: str
    claim: Claim | None


class Refunding(msgspec.Struct, frozen=True, gc=False):
    """To an order: a refund."""

    id: str
    asked: Asked | None


class Ruled(msgspec.Struct, frozen=True, gc=False):
    """To a client: what others have to do with an order that it claims."""

    order: int
    ruling: Ruling | None


def decoder(kind: str) -> Decoder[Any]:
    """The decoder of one of these kinds."""
    decoders: dict[str, tuple[Callable[[bytes], Letter[Any]], Callable[[str, Any], object]]] = {
        PERSON_LINK: (_link, Linking),
        PERSON_TOUCHPOINTS: (_others, OthersTold),
        ORDER_CLAIM: (_claim, Claiming),
        ORDER_REFUND: (_refund, Refunding),
        ORDER_RULING: (_ruling, _ruled),
        PERSON_ERASED: (_person_erased, _body),
        CLIENT_ERASED: (_client_erased, _body),
    }
    decode_letter, event = decoders[kind]

    def decode(_key: bytes | None, value: bytes | None, _ts: int) -> object:
        letter = read(decode_letter, value, kind)
        return event(letter.id, letter.body)

    return decode


def _ruled(order: str, ruling: Ruling | None) -> Ruled:
    return Ruled(order_hash(order.encode()), ruling)


def _body(_id: str, body: object) -> object:
    return body


_link = msgspec.msgpack.Decoder(Letter[Link]).decode
_others = msgspec.msgpack.Decoder(Letter[Others]).decode
_claim = msgspec.msgpack.Decoder(Letter[Claim]).decode
_refund = msgspec.msgpack.Decoder(Letter[Asked]).decode
_ruling = msgspec.msgpack.Decoder(Letter[Ruling]).decode
_person_erased = msgspec.msgpack.Decoder(Letter[PersonErased]).decode
_client_erased = msgspec.msgpack.Decoder(Letter[ClientErased]).decode
