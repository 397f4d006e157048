"""Facts that a processor tells other keys, and how they are corrected (decision 0012).

A fact has a kind, the key of who is told, the id of the record it follows from, and a body. The receiver keeps the
last body per id; one that is gone is taken back by a letter without a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from stream_app.domain.client import Client, Frozen, Told
from stream_app.domain.ids import content_digest
from stream_app.domain.journey import Session
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.engine.processor import Context, Rejected

Body = TypeVar("Body")
Read = TypeVar("Read")

encode_body = msgspec.msgpack.Encoder(decimal_format="string").encode
"""How bodies are encoded: msgpack, structs as arrays."""


class Fact(NamedTuple):
    """Something another key should know."""

    kind: str
    key: bytes
    body: bytes
    """As `encode_body` writes it."""


class Letter(msgspec.Struct, Generic[Body], frozen=True, gc=False, array_like=True):
    """A fact on its way. Receivers decode it with `msgspec.msgpack.Decoder(Letter[TheBody])`."""

    id: str
    """Of the record it follows from."""
    body: Body | None
    """None: taken back."""


def read(decode: Callable[[bytes], Read], value: bytes | None, kind: str) -> Read:
    """What another key has told. Raises Rejected for what some other version wrote in another form."""
    try:
        return decode(value or b"")
    except msgspec.DecodeError as error:
        raise Rejected("bad_json", f"a {kind} that this version cannot read") from error


class Teller:
    """Says which facts follow from what journeys publishes. Both answers must be functions of their arguments alone:
    they are compared with what was told before. At most one fact per kind and key."""

    def session(
        self,
        client_id: str,  # noqa: ARG002
        client: Client,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        record: AttributedSession,  # noqa: ARG002
    ) -> Iterable[Fact]:
        """Facts of a session as published. `client.head` is the folded journey."""
        return ()

    def conversion(
        self,
        client_id: str,  # noqa: ARG002
        client: Client,  # noqa: ARG002
        frozen: Frozen,  # noqa: ARG002
        record: AttributedConversion,  # noqa: ARG002
    ) -> Iterable[Fact]:
        """Facts of a conversion as published, refunds included; `record.bot` marks those that count nowhere."""
        return ()


def tellers_of(tellers: Sequence[Teller], what: str) -> tuple[Any, ...]:
    """The bound methods named `what` of those tellers that have something to say about it."""
    return tuple(
        getattr(teller, what) for teller in tellers if getattr(type(teller), what) is not getattr(Teller, what)
    )


def tell(told: tuple[Told, ...], facts: Iterable[Fact], record_id: str, context: Context[Any]) -> tuple[Told, ...]:
    """Forwards the facts that differ from what was told of this record, and takes back those that are gone; gives what
    is told now."""
    before = {(fact.kind, fact.key): fact for fact in told}
    now = []
    for kind, key, body in facts:
        digest = content_digest(body)
        earlier = before.pop((kind, key), None)
        if earlier is None or earlier.digest != digest:
            context.forward(kind, key, encode_letter(record_id, body))
        now.append(Told(kind, key, digest))
    for gone in before.values():
        context.forward(gone.kind, gone.key, encode_letter(record_id, _NOTHING))
    return tuple(now)


_NOTHING = encode_body(None)


def encode_letter(record_id: str, body: bytes) -> bytes:
    """Bytes of a `Letter` around a body that is encoded already: an array of two."""
    return b"\x92" + encode_body(record_id) + body


__all__ = ["Fact", "Letter", "Teller", "encode_body", "encode_letter", "tell", "tellers_of"]
