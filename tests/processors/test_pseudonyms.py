"""Random names: nothing of the old one but its partition."""

from __future__ import annotations

import pytest

from stream_app.engine.partitioning import partition_of
from stream_app.processors.pseudonyms import random_names


@pytest.mark.parametrize("key", [b"anna", "Ānna".encode(), b"\x1fc-anna"])
@pytest.mark.parametrize("partitions", [1, 3, 48])
def test_a_name_says_nothing_and_lies_where_the_old_one_lay(key: bytes, partitions: int) -> None:
    names = random_names(partitions)
    drawn = {names(key) for _ in range(20)}
    assert len(drawn) == 20
    for name in drawn:
        assert partition_of(name.encode(), partitions) == partition_of(key, partitions)
        assert name.startswith("\x1f") == key.startswith(b"\x1f")
        assert name.lstrip("\x1f").startswith("erased-")
        assert "nna" not in name
