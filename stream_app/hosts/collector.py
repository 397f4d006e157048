"""How the garbage collector is set where millions of small objects live that form no cycles (decision 0011)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_CALM = (1_000_000, 10, 1_000_000)


def calm() -> None:
    """It looks at young objects only, and rarely: states live in reference-counted structs and bytes, and a full
    collection over millions of them stops the process for long. Whoever runs on and on does a full one now and then,
    for the cycles that exceptions leave."""
    gc.set_threshold(*_CALM)


@contextmanager
def calmed() -> Iterator[None]:
    """As `calm`, for a while."""
    before = gc.get_threshold()
    calm()
    try:
        yield
    finally:
        gc.set_threshold(*before)
