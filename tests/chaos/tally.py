"""A processor whose final state is the same for any order of events, so that an outside program can recompute it.

It uses everything the engine offers: two inputs, several rows a key, records for other keys, timers that publish and
timers that delete, rejections while folding. Events are JSON {"id", "key", "to"?, "reject"?}; the time of an event is
its record's timestamp.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from stream_app.engine.processor import Context, Decoder, Rejected, Rows

SLOTS = 4
TRANSIENT = b"x"
"""Keys that begin like this are forgotten once they have been silent for long."""


class Event(msgspec.Struct):
    id: str
    key: str
    to: str = ""
    reject: bool = False
    at: int = 0
    nudge: bool = False


class State(msgspec.Struct, array_like=True):
    n: int = 0
    total: int = 0
    """Sum of the checksums of all ids."""
    last: int = 0
    idle: bool = False
    nudges: int = 0
    nudged: int = 0
    transient: bool = False


def checksum(event_id: str) -> int:
    return zlib.crc32(event_id.encode())


class Tally:
    name = "tally"
    tag = b"T"
    inputs = ("left", "right")
    kinds = ("nudge",)
    state_version = 1

    def __init__(self, idle_ms: int, forget_ms: int) -> None:
        self._idle_ms = idle_ms
        self._forget_ms = forget_ms
        self._decode = msgspec.json.Decoder(Event).decode
        self._load = msgspec.msgpack.Decoder(State).decode
        self._save = msgspec.msgpack.Encoder().encode

    def decoder(self, source: str) -> Decoder[Event]:
        def decode(key: bytes | None, value: bytes | None, timestamp: int) -> Event:
            assert value is not None
            try:
                event = self._decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise Rejected("bad_json", str(exc)) from None
            if key is not None and key != event.key.encode():
                raise Rejected("key_mismatch", "key")
            event.at = timestamp
            event.nudge = source == "nudge"
            return event

        return decode

    def key_of(self, event: Event) -> bytes:
        return event.key.encode()

    def fold(self, key: bytes, state: State | None, events: list[Event], context: Context[Event]) -> State | None:
        taken = [e for e in events if not e.reject]
        for event in events:
            if event.reject:
                context.reject(event, "too_late", "as the event asks")
        if not taken:
            return state
        state = state or State(transient=key.startswith(TRANSIENT))
        for event in taken:
            if event.nudge:
                state.nudges += 1
                state.nudged += checksum(event.id)
                continue
            state.n += 1
            state.total += checksum(event.id)
            state.last = max(state.last, event.at)
            state.idle = False
            slot = checksum(event.id) % SLOTS
            context.rows.put(key, slot, b"%d" % (int(context.rows.get(key, slot) or 0) + 1))
            if event.to:
                context.forward("nudge", event.to.encode(), msgspec.json.encode({"id": event.id, "key": event.to}))
        self._emit(context, "counts", key, state)
        return state

    def wake(self, key: bytes, state: State, context: Context[Event]) -> State | None:
        if state.idle:
            for slot in range(SLOTS):
                context.rows.put(key, slot, None)
            return None
        state.idle = True
        self._emit(context, "idles", key, state)
        return state

    def due(self, state: State) -> int:
        if not state.last:
            return 0
        if not state.idle:
            return state.last + self._idle_ms
        return state.last + self._forget_ms if state.transient else 0

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> State:
        return self._load(payload)

    def save(self, key: bytes, state: State, rows: Rows) -> bytes:
        return self._save(state)

    def _emit(self, context: Context[Event], topic: str, key: bytes, state: State) -> None:
        record: dict[str, Any] = {
            "id": key.decode(),
            "revision": context.revision,
            "n": state.n,
            "total": state.total,
            "last": state.last,
            "nudges": state.nudges,
            "nudged": state.nudged,
        }
        context.emit(topic, key, msgspec.json.encode(record))
