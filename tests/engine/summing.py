"""A processor whose final answers depend neither on the order of events nor on how they are split into commits.

So a run with crashes can be compared with a run without, and both with a few lines of arithmetic. It uses everything
the engine offers: two inputs, rows read and written within a commit, records for other keys, timers that publish and
timers that delete, rejections while decoding and while folding.

Events are JSON {"id", "key", "to"?, "reject"?}; the time of an event is its record's timestamp.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgspec

from stream_app.engine.processor import Context, Decoder, Rejected, Rows

SLOTS = 3
PASSING = b"x"
"""Keys that begin like this are forgotten once they have been idle for long."""


class Event(msgspec.Struct):
    id: str
    key: str
    to: str = ""
    reject: bool = False
    at: int = 0
    nudge: bool = False


class Sum(msgspec.Struct, array_like=True):
    n: int = 0
    total: int = 0
    """Sum of the checksums of all ids."""
    last: int = 0
    idle: bool = False
    nudges: int = 0
    nudged: int = 0
    passing: bool = False


def checksum(event_id: str) -> int:
    return zlib.crc32(event_id.encode())


class Summing:
    name = "summing"
    tag = b"S"
    inputs = ("left", "right")
    kinds = ("nudge",)

    def __init__(
        self,
        idle_ms: int = 1_000,
        forget_ms: int = 5_000,
        *,
        state_version: int = 1,
        on_fold: Callable[[bytes, list[Event]], None] = lambda *_: None,
    ) -> None:
        self.state_version = state_version
        self._idle_ms = idle_ms
        self._forget_ms = forget_ms
        self._on_fold = on_fold
        self._decode = msgspec.json.Decoder(Event).decode
        self._load = msgspec.msgpack.Decoder(Sum).decode
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

    def fold(self, key: bytes, state: Sum | None, events: list[Event], context: Context[Event]) -> Sum | None:
        self._on_fold(key, events)
        for event in events:
            if event.reject:
                context.reject(event, "too_late", "as the event asks")
                continue
            state = state or Sum(passing=key.startswith(PASSING))
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
            context.count("events")
            if event.to:
                context.forward("nudge", event.to.encode(), msgspec.json.encode({"id": event.id, "key": event.to}))
        if state is not None:
            shown = {"id": key.decode(), "n": state.n, "total": state.total, "last": state.last}
            nudged = {"nudges": state.nudges, "nudged": state.nudged}
            context.emit("counts", key, msgspec.json.encode({**shown, **nudged, "revision": context.revision}))
        return state

    def wake(self, key: bytes, state: Sum, context: Context[Event]) -> Sum | None:
        if state.idle:
            for slot in range(SLOTS):
                context.rows.put(key, slot, None)
            return None
        state.idle = True
        shown = {"id": key.decode(), "n": state.n, "total": state.total, "last": state.last}
        context.emit("idles", key, msgspec.json.encode({**shown, "revision": context.revision}))
        return state

    def due(self, state: Sum) -> int:
        if not state.last:
            return 0
        if not state.idle:
            return state.last + self._idle_ms
        return state.last + self._forget_ms if state.passing else 0

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> Sum:
        return self._load(payload)

    def save(self, key: bytes, state: Sum, rows: Rows) -> bytes:
        return self._save(state)
