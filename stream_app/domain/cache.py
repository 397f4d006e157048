"""A cache of bounded size for the hot path."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TwoGenerations(Generic[K, V]):
    """A dict that forgets: when the young generation is full it becomes the old one and the old one is dropped.

    A hit in the young generation costs one dict lookup; nothing is moved around per hit as an LRU would. What was
    used in the last `size` insertions is still there. Holds at most `2 * size` entries. `young` is always the same
    dict: the hottest callers look there first by themselves.
    """

    __slots__ = ("_old", "size", "young")

    def __init__(self, size: int) -> None:
        self.size = size
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value kept for the key, or None."""
        found = self.young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value; the least recently inserted half goes when there is no room."""
        if len(self.young) >= self.size:
            self._old = self.young.copy()
            self.young.clear()
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
