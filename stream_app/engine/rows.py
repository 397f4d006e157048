"""How state is laid out in the store and in the changelog: the one place that knows the bytes.

| row | key | value | in the changelog |
|---|---|---|---|
| head | `s` tag key | version (1 byte), due (8 bytes, ms), payload | yes |
| part | `p` tag key number (4 bytes) | payload | yes |
| meta | `m` | msgpack `Meta` | yes, last of every commit |
| timer | `t` due (8 bytes) tag key | empty | no: rebuilt from the heads |
| position | `z` | msgpack `Position` | no |
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgspec

META = b"m"
POSITION = b"z"
TIMERS_UNTIL = b"u"

_HEADER = Struct(">BQ")
HEADER_SIZE = _HEADER.size
_DUE = Struct(">Q")
_NUMBER = Struct(">I")
_NEVER = _DUE.pack(0)

pack_header = _HEADER.pack
"""(version, due) → the first nine bytes of a head row's value."""
unpack_header = _HEADER.unpack_from


def head_key(tag: bytes, key: bytes) -> bytes:
    return b"s" + tag + key


def part_key(tag: bytes, key: bytes, number: int) -> bytes:
    return b"p" + tag + key + _NUMBER.pack(number)


def part_number(row: bytes, tag: bytes, key: bytes) -> int | None:
    """The number of a part of this very key; None for any other row: keys may begin with each other."""
    head = b"p" + tag + key
    if len(row) != len(head) + _NUMBER.size or not row.startswith(head):
        return None
    return int(_NUMBER.unpack_from(row, len(head))[0])


def timer_key(due: int, tag: bytes, key: bytes) -> bytes:
    return b"t" + _DUE.pack(due) + tag + key


def timers_from(due: int) -> bytes:
    """Where a scan over the timers from `due` on starts."""
    return b"t" + _DUE.pack(due)


def timers_until(due: int) -> bytes:
    """The exclusive end of a scan over all timers at or before `due`."""
    return b"t" + _DUE.pack(due + 1)


def split_timer(row: bytes) -> tuple[int, bytes, bytes]:
    """(due, tag, key) of a timer row."""
    return _DUE.unpack_from(row, 1)[0], row[9:10], row[10:]


def timer_of_head(row: bytes, value: bytes) -> bytes | None:
    """The timer row that a head row calls for, if any: how recovery rebuilds the index."""
    due = value[1:9]
    return b"t" + due + row[1:] if due != _NEVER else None


class Meta(msgspec.Struct, frozen=True):
    """What every commit says of itself, the last of its changelog records (semantics 7)."""

    seq: int
    offsets: dict[str, int]
    stream_time: int
    newest: dict[str, int]
    partitions: int
    incarnation: str
    format: int = 1


class Position(msgspec.Struct, frozen=True):
    """Up to which changelog record the store has everything: that record's offset, key and checksum.

    The record itself is looked at again when the store is opened: a topic that was deleted and made anew
    has another record there, or none.
    """

    offset: int
    key: bytes
    checksum: int
    written_at: int
    """Wall clock, epoch ms: a store that lay idle too long may have missed tombstones."""
    changelog: str = ""
    """The topic. A store made from another one is of another deployment."""

    def matches(self, key: bytes | None, value: bytes | None) -> bool:
        return key == self.key and crc32(value or b"") == self.checksum


def position_after(changelog: str, offset: int, key: bytes, value: bytes | None, written_at: int) -> bytes:
    return encode_position(Position(offset, key, crc32(value or b""), written_at, changelog))


encode_meta = msgspec.msgpack.Encoder(order="deterministic").encode
decode_meta = msgspec.msgpack.Decoder(Meta).decode
encode_position = msgspec.msgpack.Encoder().encode
decode_position = msgspec.msgpack.Decoder(Position).decode
