"""What the engine needs of the world: a log with transactions, a store, a clock, an observer, a probe.

`hosts/kafka` and `hosts/local` implement these; one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """One consumed record, as little of it as the engine needs. `timestamp` in epoch ms."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


Outgoing = tuple[bytes | None, bytes | None, Headers]
"""One record to be written: key, value, headers. A value of None is a tombstone. Plain tuples: there are many."""


class Committed(NamedTuple):
    """A committed input offset, with the metadata string that was committed with it."""

    offset: int
    metadata: str


class Fenced(Exception):
    """Another producer with this task's id has started, or the transaction timed out (both look the same)."""


class StoreDamaged(Exception):
    """The store cannot be opened or read: wipe it and rebuild from the changelog."""


class Writer(Protocol):
    """The transactional producer of one task. Opening it fences every earlier one and settles what they left open."""

    async def begin(self) -> None: ...

    async def send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        """Hands the records over, in order; `flush` tells whether they arrived."""

    async def flush(self) -> Mapping[tuple[str, int], int]:
        """Waits for every delivery and raises if one failed; the last offset sent to each (topic, partition)."""

    async def send_offsets(self, offsets: Mapping[str, int], metadata: str) -> None:
        """Adds the input offsets of this task (topic → next offset) to the transaction."""

    async def commit(self) -> None: ...

    async def close(self) -> None:
        """Lets go of it, within a deadline of its own; an open transaction stays open until fenced or timed out."""


class ChangelogReader(Protocol):
    """Reads changelog partitions as committed."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        """(first offset still there, position of the read_committed end)."""

    def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Record], int]]:
        """(partition, records, position after them) until every partition's position has reached its end.

        Control records mean that the last offset may never arrive as a record: the position says when it is over,
        so `records` may be empty.
        """


class Log(Protocol):
    """The log, as tasks see it. Topics by their real names."""

    async def open_writer(self, partition: int) -> Writer: ...

    async def committed(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, Committed | None]]:
        """Committed offsets of the group by partition and topic; None where there is none. Never a partial answer."""

    async def input_bounds(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, tuple[int, int]]]:
        """(first offset, end offset) of each input."""

    def changelog_reader(self, partitions: Sequence[int]) -> AbstractAsyncContextManager[ChangelogReader]: ...


class Intake(Protocol):
    """The side of the host that feeds tasks."""

    async def seek(self, partition: int, offsets: Mapping[str, int], epoch: int) -> None:
        """Sets where reading starts; batches fetched from then on carry `epoch`. Feeding starts with `resume`."""

    def resume(self, partition: int) -> None: ...

    def pause(self, partition: int) -> None:
        """Feeds this task no more until it is resumed."""

    async def still_member(self) -> None:
        """Returns once the group has confirmed this member in its current generation; may wait for ever otherwise."""


class Store(Protocol):
    """One task's key-value store: raw bytes, ordered by key. Not shared between tasks. Raises StoreDamaged."""

    def get(self, key: bytes) -> bytes | None: ...

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """All of it or nothing; None deletes."""

    def write_bulk(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """As `write`, but it may be lost (all of it since the last `flush`, never some) if the process ends."""

    def flush(self) -> None:
        """Makes sure of everything written in bulk."""

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        """The first `limit` keys in [start, stop)."""

    def size(self) -> int:
        """Bytes on disk, estimated."""

    def close(self) -> None: ...


class Stores(Protocol):
    """Where the stores of this worker are."""

    def open(self, partition: int) -> Store: ...

    def wipe(self, partition: int) -> None: ...


class Clock(Protocol):
    """Time in epoch ms (wall) and for durations (monotonic, from no point in particular)."""

    def monotonic_ms(self) -> int: ...

    def wall_ms(self) -> int: ...


class Probe(Protocol):
    """Called between every two steps that matter, by name; tests stop or kill the process there."""

    def __call__(self, step: str) -> None: ...


class Observer(Protocol):
    """What operators get to see. Calls are per commit or rarer, never per record."""

    def record_in(self, topic: str, outcome: str, n: int) -> None: ...
    def outputs(self, topic: str, n: int) -> None: ...
    def commit(self, seconds: float, records: int, changelog_bytes: int) -> None: ...
    def latency(self, seconds: float, n: int) -> None: ...
    def processing(self, processor: str, seconds: float) -> None: ...
    def dead_letter(self, reason: str, n: int) -> None: ...
    def misplaced(self, n: int) -> None: ...
    def abort(self, cause: str) -> None: ...
    def rebalance(self) -> None: ...
    def recovery(self, partition: int, done: int, total: int, seconds: float) -> None: ...
    def business(self, name: str, label: str, n: int) -> None: ...
    def cache(self, hits: int, misses: int) -> None: ...
    def store_bytes(self, partition: int, n: int) -> None: ...
