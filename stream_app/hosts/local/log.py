"""An in-memory log with Kafka's transactions: fencing by epoch, open, committed and aborted records, control records.

Readers see committed records only, up to the first one whose transaction is still open. Offsets have gaps where control
records stand, as on Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum

from stream_app.engine.ports import ChangelogReader, Clock, Committed, Fenced, Headers, Outgoing, Record, Writer

_NO_HEADERS: Headers = ()


class Outcome(Enum):
    """What became of a transaction."""

    OPEN = 0
    COMMITTED = 1
    ABORTED = 2


class Transaction:
    """What one writer did between begin and commit."""

    __slots__ = ("offsets", "outcome", "partitions")

    def __init__(self) -> None:
        self.outcome = Outcome.OPEN
        self.partitions: set[LocalPartition] = set()
        self.offsets: dict[tuple[str, int], Committed] = {}


class LocalRecord:
    """A record in the log."""

    __slots__ = ("control", "headers", "key", "offset", "timestamp", "transaction", "value")

    def __init__(
        self,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        transaction: Transaction | None,
        control: bool = False,
    ) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
        self.transaction = transaction
        self.control = control


class LocalPartition:
    """One partition: records from `begin` on, the oldest perhaps deleted."""

    __slots__ = ("_records", "begin")

    def __init__(self) -> None:
        self._records: list[LocalRecord] = []
        self.begin = 0

    @property
    def end(self) -> int:
        return self.begin + len(self._records)

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = _NO_HEADERS,
        transaction: Transaction | None = None,
        *,
        control: bool = False,
    ) -> int:
        """The new record's offset."""
        offset = self.end
        self._records.append(LocalRecord(offset, timestamp, key, value, headers, transaction, control))
        return offset

    def read(self, start: int, limit: int | None = None) -> tuple[list[LocalRecord], int]:
        """Committed records from `start` on, and the position after what was looked at."""
        found: list[LocalRecord] = []
        position = max(start, self.begin)
        records = self._records
        for index in range(position - self.begin, len(records)):
            record = records[index]
            transaction = record.transaction
            if transaction is not None and transaction.outcome is Outcome.OPEN:
                break
            position = record.offset + 1
            if not record.control and (transaction is None or transaction.outcome is Outcome.COMMITTED):
                found.append(record)
                if limit is not None and len(found) == limit:
                    break
        return found, position

    def delete_before(self, offset: int) -> None:
        keep = min(max(offset, self.begin), self.end)
        del self._records[: keep - self.begin]
        self.begin = keep


class LocalLog:
    """Topics by name, one consumer group, transactional writers. Implements the engine's `Log` port."""

    def __init__(self, partitions: int, clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock
        self._topics: dict[str, list[LocalPartition]] = {}
        self._committed: dict[tuple[str, int], Committed] = {}
        self._epochs: dict[int, int] = {}
        self._open: dict[int, Transaction] = {}
        self.changed = asyncio.Event()
        """Set whenever something new can be read."""
        self.changelog = ""

    def topic(self, name: str) -> list[LocalPartition]:
        """The partitions of a topic, made when first asked for."""
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = [LocalPartition() for _ in range(self._partitions)]
        return found

    def forget_offsets(self) -> None:
        """As when a group's offsets expire."""
        self._committed.clear()

    def delete_topic(self, name: str) -> None:
        self._topics.pop(name, None)

    # -- the engine's port ----------------------------------------------------------------------------
    async def open_writer(self, partition: int) -> Writer:
        await asyncio.sleep(0)
        epoch = self._epochs[partition] = self._epochs.get(partition, 0) + 1
        left = self._open.pop(partition, None)
        if left is not None:
            self.settle(left, Outcome.ABORTED)
        return LocalWriter(self, partition, epoch)

    async def committed(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, Committed | None]]:
        await asyncio.sleep(0)
        return {p: {t: self._committed.get((t, p)) for t in topics} for p in partitions}

    async def input_bounds(
        self, topics: Sequence[str], partitions: Sequence[int]
    ) -> Mapping[int, Mapping[str, tuple[int, int]]]:
        await asyncio.sleep(0)
        return {p: {t: (self.topic(t)[p].begin, self.topic(t)[p].end) for t in topics} for p in partitions}

    @asynccontextmanager
    async def changelog_reader(self, partitions: Sequence[int]) -> AsyncIterator[ChangelogReader]:  # noqa: ARG002
        yield LocalChangelogReader(self.topic(self.changelog))

    # -- the writers' side ----------------------------------------------------------------------------
    def begin(self, partition: int, epoch: int) -> Transaction:
        self.check(partition, epoch)
        transaction = self._open[partition] = Transaction()
        return transaction

    def check(self, partition: int, epoch: int) -> None:
        if self._epochs.get(partition) != epoch:
            raise Fenced(f"task {partition} has a newer writer")

    def append(self, transaction: Transaction, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        target = self.topic(topic)[partition]
        transaction.partitions.add(target)
        now = self._clock.wall_ms()
        last = -1
        for key, value, headers in records:
            last = target.append(now, key, value, headers, transaction)
        return last

    def settle(self, transaction: Transaction, outcome: Outcome) -> None:
        transaction.outcome = outcome
        for partition in transaction.partitions:
            partition.append(self._clock.wall_ms(), None, None, transaction=transaction, control=True)
        if outcome is Outcome.COMMITTED:
            self._committed.update(transaction.offsets)
            self.changed.set()

    def close(self, partition: int, transaction: Transaction) -> None:
        self._open.pop(partition, None)
        self.settle(transaction, Outcome.COMMITTED)


class LocalWriter:
    """A transactional producer. Closing it leaves an open transaction open, as on Kafka, until it is fenced."""

    def __init__(self, log: LocalLog, partition: int, epoch: int) -> None:
        self._log = log
        self._partition = partition
        self._epoch = epoch
        self._transaction: Transaction | None = None
        self._last: dict[tuple[str, int], int] = {}

    async def begin(self) -> None:
        self._transaction = self._log.begin(self._partition, self._epoch)
        self._last = {}

    async def send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        transaction = self._current()
        if records:
            self._last[topic, partition] = self._log.append(transaction, topic, partition, records)

    async def flush(self) -> Mapping[tuple[str, int], int]:
        self._current()
        await asyncio.sleep(0)
        return self._last

    async def send_offsets(self, offsets: Mapping[str, int], metadata: str) -> None:
        transaction = self._current()
        transaction.offsets = {(t, self._partition): Committed(o, metadata) for t, o in offsets.items()}

    async def commit(self) -> None:
        transaction = self._current()
        self._transaction = None
        self._log.close(self._partition, transaction)

    async def close(self) -> None:
        self._transaction = None

    def _current(self) -> Transaction:
        self._log.check(self._partition, self._epoch)
        if self._transaction is None:
            raise RuntimeError("not in a transaction")
        return self._transaction


class LocalChangelogReader:
    """Reads changelog partitions of a local log."""

    def __init__(self, partitions: list[LocalPartition]) -> None:
        self._partitions = partitions

    async def bounds(self, partition: int) -> tuple[int, int]:
        target = self._partitions[partition]
        return target.begin, target.end

    async def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Record], int]]:
        for partition, start in starts.items():
            position = start
            while position < ends[partition]:
                records, after = self._partitions[partition].read(position, 10_000)
                if after == position:
                    break
                position = after
                yield partition, records, position
