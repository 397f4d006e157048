"""Many small things of one key, in rows by hash of their id: each is found with one read, whatever their number."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from stream_app.domain.ids import content_digest
from stream_app.engine.processor import Rows
from stream_app.processors.people.state import ROWS_OF_A_KIND


class Named(Protocol):
    """What a shelf holds."""

    id: str


T = TypeVar("T", bound=Named)
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


class Shelf(Generic[T]):
    """One fold's view of a kind of things: what was read is kept until `write` puts back what changed."""

    def __init__(self, kind: type[T], first_row: int, key: bytes, rows: Rows) -> None:
        self._decode: Any = _decoder(kind)
        self._first = first_row
        self._key = key
        self._rows = rows
        self._read: dict[int, dict[str, T]] = {}
        self._bytes: dict[int, bytes | None] = {}

    def get(self, name: str) -> T | None:
        """The thing of that id."""
        return self._row(self._number(name)).get(name)

    def put(self, thing: T) -> None:
        """A new one."""
        self._row(self._number(thing.id))[thing.id] = thing

    def drop(self, name: str) -> None:
        """Without it."""
        self._row(self._number(name)).pop(name, None)

    def write(self) -> None:
        """Rows that changed."""
        for number, row in self._read.items():
            payload = _encode(list(row.values())) if row else None
            if payload != self._bytes[number]:
                self._rows.put(self._key, number, payload)
                self._bytes[number] = payload

    def _row(self, number: int) -> dict[str, T]:
        row = self._read.get(number)
        if row is None:
            payload = self._rows.get(self._key, number)
            self._bytes[number] = payload
            row = {thing.id: thing for thing in self._decode(payload)} if payload is not None else {}
            self._read[number] = row
        return row

    def _number(self, name: str) -> int:
        return self._first + content_digest(name.encode()) % ROWS_OF_A_KIND


_decoders: dict[type, Any] = {}


def _decoder(kind: type) -> Any:
    found = _decoders.get(kind)
    if found is None:
        found = _decoders[kind] = msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
    return found
