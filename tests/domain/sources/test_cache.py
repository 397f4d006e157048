"""The bounded cache."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_app.domain.cache import BoundedCache


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 9), st.integers())))
def test_the_last_insertions_are_kept_and_no_more(size: int, puts: list[tuple[int, int]]) -> None:
    """As many as there is room for, each with its latest value."""
    cache: BoundedCache[int, int] = BoundedCache(size)
    inserted: list[int] = []
    latest: dict[int, int] = {}
    for key, value in puts:
        if cache.get(key) is None:
            inserted.append(key)
        cache.put(key, value)
        latest[key] = value
        assert len(cache) <= size
        assert cache.get(key) == value
    kept = set(inserted[-size:])
    assert cache.entries == {key: latest[key] for key in kept}
