"""A cache of bounded size for the hot path."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TwoGenerations(Generic[K, V]):
    """A dict that forgets: when the young generation is full it becomes the old one and the old one is dropped.

    A hit in the young generation costs one dict lookup; nothing is moved around per hit as an LRU would. What was
    used in the last `size` insertions is still there. Holds at most `2 * size` entries.
    """

    __slots__ = ("_old", "_young", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value kept for the key, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value; the least recently inserted half goes when there is no room."""
        young = self._young
        if len(young) >= self.size:
            self._old = young
            self._young = young = {}
        young[key] = value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
