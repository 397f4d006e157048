"""A cache of bounded size for the hot path."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A dict that holds at most `size` entries: a new one takes the place of the oldest.

    A hit costs one dict lookup, and nothing is moved around as an LRU would; a key in steady use is worked out anew
    once in `size` insertions. Every insertion costs the same: no call pays for dropping many entries at once.
    `entries` is always the same dict: the hottest callers look there by themselves.
    """

    __slots__ = ("_keys", "_next", "entries", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: dict[K, V] = {}
        self._keys: list[K] = []
        self._next = 0

    def get(self, key: K) -> V | None:
        """The value kept for the key, or None."""
        return self.entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the oldest entry goes when there is no room."""
        keys = self._keys
        if key in self.entries:
            self.entries[key] = value
            return
        if len(keys) < self.size:
            keys.append(key)
        else:
            place = self._next
            del self.entries[keys[place]]
            keys[place] = key
            self._next = place + 1 if place + 1 < self.size else 0
        self.entries[key] = value

    def __len__(self) -> int:
        return len(self.entries)
