"""Which task owns a key.

The canonical partition of a key is Java's default, `(murmur2(key) & 0x7fffffff) mod n`, in every topic
(semantics 16). Trackers whose client library partitions otherwise still work: their records are forwarded.
"""

from __future__ import annotations

from struct import unpack_from

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """MurmurHash2 as in Kafka's Java client (32 bits, unsigned); source: Austin Appleby, seed 0x9747b28c."""
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    for k in unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ (((k ^ (k >> 24)) * _M) & _MASK)
    tail = length & 3
    if tail:
        h ^= int.from_bytes(data[-tail:], "little")
        h = (h * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The canonical partition of a key among `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
