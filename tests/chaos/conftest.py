"""The arena of a chaos test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.chaos.arena import Arena


@pytest.fixture
def arena(broker: Broker, tmp_path: Path, topic_prefix: str, seed: int) -> Iterator[Callable[..., Arena]]:
    """Makes an arena on the broker of the run."""
    with ExitStack() as opened:

        def make(bootstrap: str = "", **options: object) -> Arena:
            given = {"directory": tmp_path, "prefix": topic_prefix, "seed": seed, **options}
            return opened.enter_context(Arena(bootstrap or broker.bootstrap, **given))

        yield make
