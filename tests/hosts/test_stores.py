"""Stores: RocksDB and memory are the same to the engine; damage is noticed; a directory has one owner."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stream_app.engine.ports import Store, StoreDamaged
from stream_app.hosts import stores as stores_module
from stream_app.hosts.stores import MemoryStore, MemoryStores, RocksStore, RocksStores, hold

keys = st.binary(min_size=1, max_size=3).map(lambda k: b"tspm"[k[0] % 4 : k[0] % 4 + 1] + k[1:])
rows = st.lists(st.tuples(keys, st.none() | st.binary(max_size=5)), max_size=6)


class BothStores(RuleBasedStateMachine):
    """The same calls to both must give the same answers, also across reopening."""

    @initialize(bulk_rows=st.sampled_from([1, 3, stores_module.BULK_ROWS]))
    def begin(self, bulk_rows: int) -> None:
        self.bulk_rows, stores_module.BULK_ROWS = stores_module.BULK_ROWS, bulk_rows
        self.directory = Path(tempfile.mkdtemp())
        self.rocks_stores = RocksStores(self.directory, 8, 8)
        self.rocks = self.rocks_stores.open(0)
        self.memory = MemoryStore()

    @rule(rows=rows)
    def write(self, rows: list[tuple[bytes, bytes | None]]) -> None:
        self.rocks.write(rows)
        self.memory.write(rows)

    @rule(rows=rows)
    def write_bulk(self, rows: list[tuple[bytes, bytes | None]]) -> None:
        for store in (self.rocks, self.memory):
            store.write_bulk(rows)
            store.write_bulk(rows[:2])
        for key, _ in rows:
            assert self.rocks.get(key) == self.memory.get(key)
        for store in (self.rocks, self.memory):
            store.flush()

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        assert self.rocks.get(key) == self.memory.get(key)

    @rule(start=keys, stop=keys, limit=st.integers(1, 10))
    def scan(self, start: bytes, stop: bytes, limit: int) -> None:
        if start[:1] == stop[:1]:  # the engine scans one kind of row at a time
            assert self.rocks.scan(start, stop, limit) == self.memory.scan(start, stop, limit)

    @rule()
    def reopen(self) -> None:
        self.rocks.close()
        self.rocks = self.rocks_stores.open(0)

    @rule()
    def wipe(self) -> None:
        self.rocks.close()
        self.rocks_stores.wipe(0)
        self.rocks = self.rocks_stores.open(0)
        self.memory = MemoryStore()

    @invariant()
    def all_timers_are_the_same(self) -> None:
        if hasattr(self, "rocks"):
            assert self.rocks.scan(b"t", b"u", 1_000) == self.memory.scan(b"t", b"u", 1_000)

    def teardown(self) -> None:
        if hasattr(self, "rocks"):
            stores_module.BULK_ROWS = self.bulk_rows
            self.rocks.close()
            shutil.rmtree(self.directory)


BothStores.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_rocksdb_and_memory_are_the_same_to_the_engine = BothStores.TestCase


@pytest.fixture
def stores(tmp_path: Path) -> RocksStores:
    return RocksStores(tmp_path, 8, 8)


def test_what_was_written_survives_the_process(tmp_path: Path) -> None:
    """A write that has returned is there after SIGKILL; one in bulk is whole or gone, and there once flushed."""
    program = """
import os, signal, sys
from pathlib import Path
from stream_app.hosts.stores import RocksStores
store = RocksStores(Path(sys.argv[1]), 8, 8).open(0)
store.write_bulk([(b"s%d" % n, b"flushed") for n in range(100)])
store.flush()
store.write([(b"s%d" % n, b"logged") for n in range(100, 200)])
store.write_bulk([(b"s%d" % n, b"bulk") for n in range(200, 300)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert died.returncode == -9
    store = RocksStores(tmp_path, 8, 8).open(0)
    found = [store.get(b"s%d" % n) for n in range(300)]
    assert found[:200] == [b"flushed"] * 100 + [b"logged"] * 100
    assert len(set(found[200:])) == 1
    store.close()


def test_a_store_that_exists_takes_the_settings_of_today(tmp_path: Path) -> None:
    """RocksDB remembers the options of its first opening; a worker's memory is bounded by those of this one."""
    for megabytes in (8, 24):
        store = cast("RocksStore", RocksStores(tmp_path, megabytes, 8).open(0))
        assert store._db.property_int_value("rocksdb.block-cache-capacity") == megabytes << 20
        store.close()


def test_a_process_that_dies_in_bulk_leaves_a_store_like_any_other(tmp_path: Path) -> None:
    """What had been written out of many rows is the beginning of them, and the store is not left in its bulk form."""
    program = """
import os, signal, sys
from pathlib import Path
from stream_app.hosts.stores import RocksStores
store = RocksStores(Path(sys.argv[1]), 8, 8).open(0)
for part in range(40):
    store.write_bulk([(b"s%06d" % n, b"bulk" * 100) for n in range(part * 2_000, part * 2_000 + 2_000)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert died.returncode == -9
    store = cast("RocksStore", RocksStores(tmp_path, 8, 8).open(0))
    found = [store.get(b"s%06d" % n) is not None for n in range(80_000)]
    assert found == sorted(found, reverse=True), "a beginning"
    assert any(found)
    store.write([(b"sx", b"logged")])
    assert store.get(b"sx") == b"logged"
    log = max(tmp_path.glob("0/LOG"), key=lambda file: file.stat().st_mtime).read_text()
    assert "VectorRepFactory" not in log
    store.close()


def _spoil(file: Path) -> None:
    file.write_bytes(b"\xa5" * file.stat().st_size)


def _filled(stores: RocksStores) -> Store:
    store = stores.open(0)
    store.write([(b"s%05d" % n, b"%d" % n * 50) for n in range(5_000)])
    store.flush()
    return store


@pytest.mark.parametrize("kind", ["CURRENT", "MANIFEST-*"])
def test_a_store_that_cannot_be_opened_is_damaged(stores: RocksStores, tmp_path: Path, kind: str) -> None:
    """Not in use, not an error of the program: to be wiped and rebuilt."""
    _filled(stores).close()
    (file,) = (tmp_path / "0").glob(kind)
    _spoil(file)
    with pytest.raises(StoreDamaged):
        stores.open(0)
    stores.wipe(0)
    fresh = stores.open(0)
    assert fresh.get(b"s00001") is None
    fresh.close()


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get(b"s02500"),
        lambda store: store.scan(b"s", b"t", 10_000),
    ],
    ids=["get", "scan"],
)
def test_a_damaged_block_is_an_error_and_not_an_absent_key(
    stores: RocksStores, tmp_path: Path, read: Callable[[Store], object]
) -> None:
    """A key that cannot be read must not look like a new client, nor a scan that breaks off like the end."""
    _filled(stores).close()
    for file in (tmp_path / "0").glob("*.sst"):
        data = bytearray(file.read_bytes())
        middle = len(data) // 2
        for at in range(200, middle + 5_000):  # data blocks; index, filter and footer stay
            data[at] ^= 0xFF
        file.write_bytes(data)
    store = None
    try:
        with pytest.raises(StoreDamaged):  # noqa: PT012  # opening may notice it, or the first read
            store = stores.open(0)
            read(store)
    finally:
        if store is not None:
            store.close()


def test_a_store_in_use_says_so_and_is_not_taken_for_damaged(stores: RocksStores) -> None:
    """Wiping what another worker has open would be a disaster."""
    store = stores.open(0)
    with pytest.raises(BlockingIOError, match=r"is in use by another worker: every worker needs a state directory"):
        stores.open(0)
    store.close()
    stores.open(0).close()


def test_a_state_directory_has_one_owner(tmp_path: Path) -> None:
    """The second worker is told what to change; the first one's end sets the directory free."""
    directory = tmp_path / "state"
    held = hold(directory)
    with pytest.raises(BlockingIOError, match=r"engine\.state_directory"):
        hold(directory)
    held.close()
    hold(directory).close()


def test_stores_of_different_tasks_share_nothing(stores: RocksStores) -> None:
    """Neither on disk nor in memory; wiping one leaves the others."""
    for kind in (stores, MemoryStores()):
        one, two = kind.open(0), kind.open(1)
        one.write([(b"s1", b"one")])
        assert two.get(b"s1") is None
        two.write([(b"s1", b"two")])
        two.close()
        kind.wipe(1)
        assert one.get(b"s1") == b"one"
        two = kind.open(1)
        assert two.get(b"s1") is None
        one.close()
        two.close()


def test_the_size_of_a_store_grows_with_what_is_in_it(stores: RocksStores) -> None:
    """A figure for operators."""
    store = stores.open(0)
    empty = store.size()
    store.write([(b"s%d" % n, b"x" * 1_000) for n in range(1_000)])
    assert store.size() - empty > 500_000
    store.close()
    memory = MemoryStore()
    memory.write([(b"s1", b"12345")])
    assert memory.size() == 7
