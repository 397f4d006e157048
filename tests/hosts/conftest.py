"""Both hosts, by the same name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.hosts.kafka_rig import KafkaRig
from tests.hosts.rig import LocalRig, Rig


@pytest.fixture
def local(tmp_path: Path) -> LocalRig:
    return LocalRig(tmp_path, "")


@pytest.fixture
async def kafka(tmp_path: Path, broker: Broker, topic_prefix: str) -> AsyncIterator[KafkaRig]:
    rig = KafkaRig(tmp_path, topic_prefix, broker.bootstrap)
    yield rig
    await rig.close()


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.broker)])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A worker on each of the hosts in turn; what is said here of one must hold of the other."""
    return request.getfixturevalue(request.param)
