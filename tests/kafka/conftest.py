"""A broker that compacts at once, and an arena on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.chaos.arena import Arena


@pytest.fixture(scope="session")
def eager_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of its own whose log cleaner never rests."""
    properties = {"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "1000"}
    with Broker.start(directory=tmp_path_factory.mktemp("eager"), properties=properties, own=True) as started:
        yield started


@pytest.fixture
def arena(eager_broker: Broker, tmp_path: Path, topic_prefix: str, seed: int) -> Iterator[Callable[..., Arena]]:
    """Makes an arena whose changelog is compacted within seconds."""
    compacted = {
        "segment.ms": "500",
        "min.cleanable.dirty.ratio": "0.001",
        "max.compaction.lag.ms": "500",
        "delete.retention.ms": "100",
    }
    with ExitStack() as opened:

        def make(**options: object) -> Arena:
            given = {"directory": tmp_path, "prefix": topic_prefix, "seed": seed, "changelog": compacted, **options}
            return opened.enter_context(Arena(eager_broker.bootstrap, **given))

        yield make
