"""Stores: RocksDB on disk, or a sorted dictionary in memory."""

from __future__ import annotations

import fcntl
import re
import shutil
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar, cast

import rocksdict

from stream_app.engine.ports import Store, StoreDamaged

T = TypeVar("T")

BULK_ROWS = 1_000
"""So many rows in one bulk write are the begin of a long recovery, and worth opening the database twice."""


class RocksStores:
    """One RocksDB per task under `directory`; block cache and write buffers are shared, so that a worker's memory is
    bounded by these two numbers and not by partitions × defaults."""

    def __init__(self, directory: Path, block_cache_mb: int = 128, write_buffer_mb: int = 128) -> None:
        self._directory = directory
        self._cache = rocksdict.Cache(block_cache_mb << 20)
        self._buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_mb << 20, False, self._cache
        )
        self._write_buffer = write_buffer_mb << 20
        directory.mkdir(parents=True, exist_ok=True)

    def open(self, partition: int) -> Store:
        return RocksStore(self._path(partition), self._options(), self._bulk_options())

    def wipe(self, partition: int) -> None:
        shutil.rmtree(self._path(partition), ignore_errors=True)

    def _path(self, partition: int) -> Path:
        return self._directory / str(partition)

    def _options(self) -> rocksdict.Options:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(max(4 << 20, self._write_buffer // 4))
        options.set_max_write_buffer_number(2)
        options.set_max_background_jobs(2)
        options.set_allow_concurrent_memtable_write(False)  # one writer: no locks and no atomics for others
        options.set_memtable_prefix_bloom_ratio(0.05)
        options.set_memtable_whole_key_filtering(True)  # half of all look-ups are for keys that were never there
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_max_open_files(256)
        options.set_keep_log_file_num(2)
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        # Filters and indexes stay at hand, two to three bytes a row: in the block cache, which memtables fill as well,
        # they were read anew for every look-up once a worker held millions of clients.
        table.set_cache_index_and_filter_blocks(False)
        table.set_bloom_filter(10, False)
        table.set_block_size(8 << 10)
        options.set_block_based_table_factory(table)
        return options

    def _bulk_options(self) -> rocksdict.Options:
        """For many rows at once: taken as they come, sorted when they go to disk, merged later."""
        options = self._options()
        options.set_memtable_prefix_bloom_ratio(0)
        options.set_memtable_whole_key_filtering(False)
        options.set_memtable_factory(rocksdict.MemtableFactory.vector())
        options.set_disable_auto_compactions(True)
        options.set_level_zero_slowdown_writes_trigger(1 << 20)
        options.set_level_zero_stop_writes_trigger(1 << 20)
        return options


class RocksStore:
    """A RocksDB instance. Writes reach the operating system before they return, so they survive the process."""

    def __init__(self, path: Path, options: rocksdict.Options, bulk_options: rocksdict.Options) -> None:
        self._path = path
        self._options = options
        self._bulk_options = bulk_options
        self._in_bulk = False
        self.get: Callable[[bytes], bytes | None]
        self._open(options)
        self._logged = rocksdict.WriteOptions()
        self._unlogged = rocksdict.WriteOptions()
        setattr(self._unlogged, "disable_wal", True)  # noqa: B010  # a property, declared as a method

    def _open(self, options: rocksdict.Options) -> None:
        path = self._path
        try:
            # Named once more for the column family: an existing database would take them from its first opening.
            self._db = rocksdict.Rdict(str(path), options, {"default": options})
        except Exception as exc:  # the binding raises plain Exception
            if re.search("lock.*(Resource temporarily unavailable|No locks available)", str(exc), re.DOTALL):
                raise _in_use(path) from exc
            raise StoreDamaged(str(exc)) from exc
        self.get = self._guarded(self._db.get)

    def _guarded(self, read: Callable[[bytes], T]) -> Callable[[bytes], T]:
        def get(key: bytes) -> T:
            try:
                return read(key)
            except Exception as exc:
                raise StoreDamaged(str(exc)) from exc

        return get

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._write(rows, self._logged)

    def write_bulk(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Leaves out the write-ahead log: the changelog is there to write it again. Once there are many rows, the
        database is opened in another way until they are flushed."""
        if not self._in_bulk and len(rows) >= BULK_ROWS:
            self._db.close()
            self._open(self._bulk_options)
            self._in_bulk = True
        self._write(rows, self._unlogged)

    def flush(self) -> None:
        """Memtables to disk."""
        try:
            self._db.flush()
        except Exception as exc:
            raise StoreDamaged(str(exc)) from exc
        if self._in_bulk:
            self._db.close()
            self._open(self._options)
            self._in_bulk = False

    def _write(self, rows: Sequence[tuple[bytes, bytes | None]], options: rocksdict.WriteOptions) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in rows:
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._db.write(batch, options)
        except Exception as exc:
            raise StoreDamaged(str(exc)) from exc

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        found: list[bytes] = []
        try:
            # Not `keys()`: that ends at a damaged block as if there were nothing more.
            rows = self._db.iter()
            rows.seek(start)
            while len(found) < limit and rows.valid():
                key = cast("bytes", rows.key())  # raw mode: bytes only
                if key >= stop:
                    break
                found.append(key)
                rows.next()
            rows.status()
        except Exception as exc:
            raise StoreDamaged(str(exc)) from exc
        return found

    def size(self) -> int:
        """Live files and memtables, estimated by RocksDB."""
        names = ("rocksdb.live-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(int(self._db.property_int_value(name) or 0) for name in names)

    def close(self) -> None:
        self._db.close()


def hold(directory: Path) -> IO[bytes]:
    """Takes a state directory for this process, until the file returned is closed or the process ends.

    Raises BlockingIOError, with a text for operators, if another one has it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / "in-use").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise _in_use(directory) from exc
    return file


def _in_use(path: Path) -> BlockingIOError:
    return BlockingIOError(
        f"{path} is in use by another worker: every worker needs a state directory of its own (engine.state_directory)"
    )


class MemoryStores:
    """Stores that live as long as this object: for replay and tests."""

    def __init__(self) -> None:
        self._stores: dict[int, MemoryStore] = {}

    def open(self, partition: int) -> Store:
        return self._stores.setdefault(partition, MemoryStore())

    def wipe(self, partition: int) -> None:
        self._stores.pop(partition, None)


class MemoryStore:
    """A dictionary, with the keys of timers in order as well."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._timers: list[bytes] = []
        self.get: Callable[[bytes], bytes | None] = self._rows.get

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        for key, value in rows:
            timer = key[0] == _TIMER
            if value is None:
                if self._rows.pop(key, None) is not None and timer:
                    del self._timers[bisect_left(self._timers, key)]
            else:
                if timer and key not in self._rows:
                    insort(self._timers, key)
                self._rows[key] = value

    write_bulk = write

    def flush(self) -> None:
        """Nothing to make sure of."""

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        if start[0] == _TIMER:
            at = bisect_left(self._timers, start)
            keys: Sequence[bytes] = self._timers[at : at + limit]
            return [k for k in keys if k < stop]
        return sorted(k for k in self._rows if start <= k < stop)[:limit]

    def size(self) -> int:
        return sum(len(k) + len(v) for k, v in self._rows.items())

    def close(self) -> None:
        pass


_TIMER = b"t"[0]
