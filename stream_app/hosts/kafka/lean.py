"""Hands over fetched records as the client's own parser makes them, without building an object of eleven fields each;
and fills batches to be sent without two calls and a look at the clock for each record.

aiokafka wraps every parsed record in a ConsumerRecord, one Python call and one dataclass a record: about a tenth of a
worker's time (docs/decisions). The parser's records have all that the engine reads (offset, timestamp, key, value,
headers). Only consumers that ask for it, by `key_deserializer=as_parsed`, are given them: others in the process go on
as before. The classes replaced or filled here are private to aiokafka; its version is pinned, and `tests/hosts` hold
the replacement against the original, record by record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder

from stream_app.engine.ports import Outgoing

_READ_COMMITTED = fetcher.READ_COMMITTED
_NO_HEADERS: list[tuple[str, bytes]] = []


def as_parsed(key: bytes | None) -> bytes | None:
    """Given to a consumer as its `key_deserializer`, says that it wants records as they are parsed."""
    return key


class LeanPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka ships no types
    """The records of one partition in one fetch response, batch by batch."""

    next_fetch_offset: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # Made with every response, it would hold the response, and be held by it: megabytes each that only the garbage
        # collector would free, which comes rarely here.
        self._records_iterator: Any = None

    def __next__(self) -> Any:
        if self._records_iterator is None:
            self._records_iterator = self._unpack_records()
        return super().__next__()

    def _unpack_records(self) -> Iterator[Any]:
        """One by one, for those who ask so: positions move with each record."""
        for batch in self.batches():
            behind: int = self.next_fetch_offset
            for record in batch:
                self.next_fetch_offset = record.offset + 1
                yield record
            self.next_fetch_offset = behind

    def batches(self) -> Iterator[list[Any]]:
        """Lists of records, batch by batch; `next_fetch_offset` is behind each when it is handed out."""
        records = self._records
        while records.has_next():
            batch = records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._isolation_level == _READ_COMMITTED and batch.producer_id is not None:
                self._consume_aborted_up_to(batch.base_offset)
                if batch.is_control_batch and self._contains_abort_marker(batch):
                    self._aborted_producers.discard(batch.producer_id)
                if batch.is_transactional and batch.producer_id in self._aborted_producers:
                    self.next_fetch_offset = batch.next_offset
                    continue
            if batch.is_control_batch:
                self.next_fetch_offset = batch.next_offset
                continue
            found = list(batch)
            start = self.next_fetch_offset
            if found and found[0].offset < start:  # the position lies inside this batch
                found = [record for record in found if record.offset >= start]
            self.next_fetch_offset = batch.next_offset
            if found:
                yield found


class LeanFetchResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka ships no types
    """A fetch response waiting to be taken."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Everything there is at once; with `max_records`, and for consumers that did not ask, as aiokafka does it."""
        if max_records is not None or not isinstance(self._partition_records, LeanPartitionRecords):
            return list(super().getall(max_records))
        if not self.check_assignment(self._topic_partition):
            return []
        taken: list[Any] = []
        for batch in self._partition_records.batches():
            taken += batch
        self._update_position()
        self._partition_records = None
        return taken


class LeanBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka ships no types
    """A batch of records to be sent, filled at once."""

    def fill(self, records: Sequence[Outgoing], start: int, timestamp_ms: int) -> int:
        """Takes records from `start` on, as many as find room, and closes the batch; how many. The first always finds
        room: whether it is too large is for the broker to say."""
        append = self._builder.append
        count = 0
        for index in range(start, len(records)):
            key, value, headers = records[index]
            if append(count, timestamp_ms, key, value, list(headers) if headers else _NO_HEADERS) is None:
                break
            count += 1
        self._relative_offset = count
        self.close()
        return count


_Plain: Any = fetcher.PartitionRecords


def _records(tp: Any, records: Any, aborted: Any, offset: int, key_deserializer: Any, *others: Any) -> Any:
    """The records of a fetch response, lean if the consumer asked for it."""
    kind = LeanPartitionRecords if key_deserializer is as_parsed else _Plain
    return kind(tp, records, aborted, offset, key_deserializer, *others)


def install() -> None:
    """From now on consumers of this process can ask for lean records."""
    fetcher.PartitionRecords = _records
    fetcher.FetchResult = LeanFetchResult
