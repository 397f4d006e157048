"""Fakes of what the engine only tells things to: an observer that remembers, probes that stop a task or a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from stream_app.engine.commit import STEPS

OPENING_STEPS = ("open.start", "open.fenced", "open.offsets", "open.store", "open.replayed", "open.recovered")
ALL_STEPS = (*OPENING_STEPS, *STEPS)


class Killed(BaseException):
    """The process is gone: whatever it does from here on, it must not do."""


class Injected(Exception):
    """A failure that the test asked for."""


class Kill:
    """A probe that ends the process the `nth` time a step is reached. From then on every step ends it again."""

    def __init__(self, step: str = "", nth: int = 1) -> None:
        self._step = step
        self._left = nth
        self.dead = False
        self.heard: Counter[str] = Counter()

    def __call__(self, step: str) -> None:
        self.heard[step] += 1
        if step == self._step and not self.dead:
            self._left -= 1
            self.dead = not self._left
        if self.dead:
            raise Killed(step)


class Fail:
    """A probe that does something once, or `times` in a row, at a step: raise, by default."""

    def __init__(self, step: str, times: int = 1, act: Callable[[], None] | None = None) -> None:
        self._step = step
        self._left = times
        self._act = act

    def __call__(self, step: str) -> None:
        if step == self._step and self._left:
            self._left -= 1
            if self._act is None:
                raise Injected(step)
            self._act()


class Watcher:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.aborts: list[str] = []
        self.commits = 0
        self.inputs: Counter[tuple[str, str]] = Counter()
        self.written: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.misplaced_records = 0
        self.recoveries: dict[int, tuple[int, int]] = {}
        self.tally: Counter[tuple[str, str]] = Counter()

    def record_in(self, topic: str, outcome: str, n: int) -> None:
        self.inputs[topic, outcome] += n

    def outputs(self, topic: str, n: int) -> None:
        self.written[topic] += n

    def commit(self, seconds: float, records: int, changelog_bytes: int) -> None:
        self.commits += 1

    def latency(self, seconds: float, n: int) -> None: ...

    def processing(self, processor: str, seconds: float) -> None: ...

    def dead_letter(self, reason: str, n: int) -> None:
        self.reasons[reason] += n

    def misplaced(self, n: int) -> None:
        self.misplaced_records += n

    def abort(self, cause: str) -> None:
        self.aborts.append(cause)

    def rebalance(self) -> None: ...

    def recovery(self, partition: int, done: int, total: int, seconds: float) -> None:
        self.recoveries[partition] = done, total

    def business(self, name: str, label: str, n: int) -> None:
        self.tally[name, label] += n

    def cache(self, hits: int, misses: int) -> None: ...

    def store_bytes(self, partition: int, n: int) -> None: ...
