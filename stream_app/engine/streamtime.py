"""Stream time of one task (semantics A3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class StreamTime:
    """The smallest, over the inputs that still have something to read, of the newest timestamp taken from each.

    An input read to its end doesn't hold the others back. When all are at their end, time goes on by elapsed
    monotonic time. It only grows. All values in epoch ms; 0 means that nothing was ever taken.
    """

    __slots__ = ("_at_end", "_idle_base", "_idle_since", "newest", "value")

    def __init__(self, inputs: Iterable[str], value: int = 0, newest: Mapping[str, int] | None = None) -> None:
        self.newest = dict.fromkeys(inputs, 0)
        if newest:
            self.newest.update((name, ts) for name, ts in newest.items() if name in self.newest)
        self.value = value
        self._at_end = dict.fromkeys(self.newest, False)
        self._idle_since: int | None = None
        self._idle_base = 0

    def took(self, source: str, newest: int) -> None:
        """Records up to timestamp `newest` were taken from an input."""
        self.newest[source] = max(self.newest[source], newest)

    def at_end(self, source: str, ended: bool) -> None:
        """Whether an input was read to its end when last looked at."""
        self._at_end[source] = ended

    @property
    def caught_up(self) -> bool:
        """Whether every input was at its end when last looked at."""
        return all(self._at_end.values())

    def advance(self, monotonic_ms: int) -> int:
        """Brings the stream time up to date and returns it."""
        behind = [ts for source, ts in self.newest.items() if not self._at_end[source]]
        if behind:
            self._idle_since = None
            self._grow(min(behind))
        else:
            if self._idle_since is None:
                self._idle_since = monotonic_ms
                self._grow(max(self.newest.values(), default=0))
                self._idle_base = self.value
            newest = max(self.newest.values(), default=0)
            if newest > self._idle_base:
                self._idle_base, self._idle_since = newest, monotonic_ms
            if self._idle_base:
                self._grow(self._idle_base + monotonic_ms - self._idle_since)
        return self.value

    def lead(self, source: str) -> int:
        """How far an input is ahead of the slowest one that has something left to read; 0 if none has."""
        behind = [ts for name, ts in self.newest.items() if name != source and not self._at_end[name]]
        return max(0, self.newest[source] - min(behind)) if behind else 0

    def _grow(self, value: int) -> None:
        self.value = max(self.value, value)
