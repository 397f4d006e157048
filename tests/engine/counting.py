"""A small processor that uses everything the engine offers, so that its guarantees can be tested without a domain.

Events: JSON {"id": str, "key": str, "at": ms, "to": optional key}. State per key: how many events, a checksum over their
ids in order, and the time of the last. Emits one `counts` record per commit and key, one `idles` record when stream time
passes the last event by `idle_ms`, forgets the key after ten times that, and sends a `nudge` to the key in `to`.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from stream_app.engine.processor import Context, Decoder, Rejected, Rows


class Event(msgspec.Struct):
    id: str
    key: str
    at: int
    to: str = ""


class State(msgspec.Struct, array_like=True):
    n: int = 0
    checksum: int = 0
    last: int = 0
    idle: bool = False
    nudges: int = 0


class Counting:
    name = "counting"
    tag = b"C"
    inputs = ("left", "right")
    kinds = ("nudge",)
    state_version = 1

    def __init__(self, idle_ms: int = 1_000, parts: bool = True) -> None:
        self._idle_ms = idle_ms
        self._parts = parts
        self._decode = msgspec.json.Decoder(Event).decode
        self._load = msgspec.msgpack.Decoder(State).decode
        self._save = msgspec.msgpack.Encoder().encode

    def decoder(self, source: str) -> Decoder[Event]:
        def decode(key: bytes | None, value: bytes, timestamp: int) -> Event:
            try:
                event = self._decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise Rejected("bad_json", str(exc)) from None
            if key is not None and key != event.key.encode():
                raise Rejected("key_mismatch", "key")
            event.at = timestamp
            if source == "nudge":
                event.to = "nudge"
            return event

        return decode

    def key_of(self, event: Event) -> bytes:
        return event.key.encode()

    def fold(self, key: bytes, state: State | None, events: list[Event], context: Context[Event]) -> State | None:
        state = state or State()
        for event in events:
            if event.to == "nudge":
                state.nudges += 1
                continue
            state.n += 1
            state.checksum = zlib.crc32(event.id.encode(), state.checksum)
            state.last = max(state.last, event.at)
            state.idle = False
            if event.to:
                nudge = {"id": event.id, "key": event.to, "at": event.at}
                context.forward("nudge", event.to.encode(), msgspec.json.encode(nudge))
            context.count("events")
        if self._parts:
            context.rows.put(key, state.n % 7, b"%d" % state.n)
        self._emit(context, "counts", key, state)
        return state

    def wake(self, key: bytes, state: State, context: Context[Event]) -> State | None:
        if context.now >= state.last + 10 * self._idle_ms:
            for number in range(7):
                context.rows.put(key, number, None)
            return None
        state.idle = True
        self._emit(context, "idles", key, state)
        return state

    def due(self, state: State) -> int:
        if not state.last:
            return 0
        return state.last + (10 * self._idle_ms if state.idle else self._idle_ms)

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> State:
        return self._load(payload)

    def save(self, key: bytes, state: State, rows: Rows) -> bytes:
        return self._save(state)

    def _emit(self, context: Context[Event], topic: str, key: bytes, state: State) -> None:
        record: dict[str, Any] = {
            "id": key.decode(),
            "revision": context.revision,
            "n": state.n,
            "checksum": state.checksum,
            "last": state.last,
            "nudges": state.nudges,
        }
        context.emit(topic, key, msgspec.json.encode(record))
