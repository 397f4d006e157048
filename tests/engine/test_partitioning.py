"""The canonical partition of a key is Java's, whatever client wrote the record (semantics 16)."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from stream_app.engine.partitioning import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hashes_are_those_of_the_java_client(key: bytes, hashed: int) -> None:
    """Vectors of UtilsTest.testMurmur2 in Apache Kafka."""
    assert murmur2(key) == hashed & 0xFFFFFFFF


@given(st.binary(max_size=80))
def test_hashes_equal_those_of_another_client(key: bytes) -> None:
    """Every length, every byte."""
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 200))
def test_partitions_equal_those_of_another_client(key: bytes, partitions: int) -> None:
    """As a producer with Java's default partitioner chooses them."""
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)


@given(st.binary(max_size=40), st.integers(1, 1_000))
def test_every_key_has_one_of_the_partitions(key: bytes, partitions: int) -> None:
    """Negative hashes too."""
    assert 0 <= partition_of(key, partitions) < partitions
