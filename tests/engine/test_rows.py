"""The bytes of the store and of the changelog: what is written today must be read in years."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.engine.rows import (
    HEADER_SIZE,
    META,
    POSITION,
    Meta,
    decode_meta,
    decode_position,
    encode_meta,
    head_key,
    pack_header,
    part_key,
    position_after,
    split_timer,
    timer_key,
    timer_of_head,
    timers_until,
    unpack_header,
)

tags = st.binary(min_size=1, max_size=1)
keys = st.binary(max_size=20)
times = st.integers(1, 2**62)


def test_the_layout_is_what_the_module_says() -> None:
    """Changing any of these bytes makes every existing store and changelog unreadable."""
    assert head_key(b"J", b"key") == b"sJkey"
    assert part_key(b"J", b"key", 258) == b"pJkey\x00\x00\x01\x02"
    assert timer_key(1, b"J", b"key") == b"t\x00\x00\x00\x00\x00\x00\x00\x01Jkey"
    assert pack_header(2, 1) == b"\x02\x00\x00\x00\x00\x00\x00\x00\x01"
    assert HEADER_SIZE == 9
    assert (META, POSITION) == (b"m", b"z")
    meta = Meta(7, {"b": 2, "a": 1}, 3, {}, 4, "x")
    assert msgspec.msgpack.decode(encode_meta(meta)) == {
        "seq": 7,
        "offsets": {"a": 1, "b": 2},
        "stream_time": 3,
        "newest": {},
        "partitions": 4,
        "incarnation": "x",
        "format": 1,
    }


@given(tags, keys, times, st.binary())
def test_the_timer_of_a_head_row_is_the_one_its_due_time_calls_for(
    tag: bytes, key: bytes, due: int, rest: bytes
) -> None:
    """Recovery rebuilds the index from the heads alone."""
    row = timer_of_head(head_key(tag, key), pack_header(1, due) + rest)
    assert row == timer_key(due, tag, key)
    assert split_timer(timer_key(due, tag, key)) == (due, tag, key)
    assert unpack_header(pack_header(1, due) + rest) == (1, due)
    assert timer_of_head(head_key(tag, key), pack_header(1, 0) + rest) is None


@given(tags, keys, times, times)
def test_a_scan_until_a_time_finds_all_timers_due_by_then_and_no_other(
    tag: bytes, key: bytes, due: int, now: int
) -> None:
    """Big-endian times sort as numbers do, whatever tag and key follow."""
    assert (timer_key(due, tag, key) < timers_until(now)) == (due <= now)


@given(st.lists(st.tuples(tags, keys, st.integers(0, 2**32 - 1)), unique=True, max_size=50))
def test_rows_of_different_keys_never_meet(rows: list[tuple[bytes, bytes, int]]) -> None:
    """Also where one key is the beginning of another."""
    assert len({part_key(*row) for row in rows}) == len(rows)
    assert len({head_key(tag, key) for tag, key, _ in rows}) == len({(tag, key) for tag, key, _ in rows})


def test_a_meta_record_of_a_newer_format_with_further_fields_is_still_read() -> None:
    """A field more does no harm to an older program."""
    meta = Meta(7, {"a": 1}, 3, {"a": 2}, 4, "x")
    more = msgspec.msgpack.encode({**msgspec.to_builtins(meta), "later": True})
    assert decode_meta(more) == meta


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        (b"m", b"value", True),
        (b"m", b"Value", False),
        (b"s", b"value", False),
        (None, b"value", False),
        (b"m", None, False),
    ],
)
def test_a_position_knows_the_record_it_stands_on(key: bytes | None, value: bytes | None, same: bool) -> None:
    """By key and checksum: a topic made anew has another record there."""
    position = decode_position(position_after("topic", 5, b"m", b"value", 123))
    assert (position.changelog, position.offset, position.written_at) == ("topic", 5, 123)
    assert position.matches(key, value) is same
