"""The tests tested: broken on purpose, the engine is found out. All mutations: `python -m tests.chaos.mutations`."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.devtools.broker import Broker
from tests.chaos.mutations import outcome

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "scenario"), [("timers-lost", "plain"), ("fence-last", "race")])
def test_a_broken_engine_is_found_out(broker: Broker, tmp_path: Path, seed: int, name: str, scenario: str) -> None:
    """Each of these must turn its scenario red."""
    colour, seen = outcome(name, broker.bootstrap, tmp_path, seed, scenario)
    print(f"seed {seed}: {name}: {colour}: {seen}")
    assert colour == "red"
