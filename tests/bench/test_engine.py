"""The small job does what it does on other engines: a plain fold over the log, written by others, gives the same."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_app.bench import small
from stream_app.devtools.broker import Broker

EVENTS = 30_000


class Heard:
    """A commit, as far as the job needs one."""

    def __init__(self) -> None:
        self.results: list[tuple[bytes, Any]] = []

    def emit(self, topic: str, key: bytes, value: bytes) -> None:
        assert topic == small.OUTPUT
        self.results.append((key, msgspec.json.decode(value)))


@pytest.fixture(scope="module")
def plain(shared_dir: Path) -> Any:
    """The job as other engines are given it."""
    path = shared_dir.parent / "bench" / "python" / "dom.py"
    spec = importlib.util.spec_from_file_location("dom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(results: list[tuple[bytes, Any]]) -> Counter[str]:
    return Counter(f"{key!r} {json.dumps(value, sort_keys=True)}" for key, value in results)


def test_results_are_those_of_a_plain_fold(plain: Any, seed: int) -> None:
    """In commits of any size, with states written and read again in between."""
    log = list(small.events(EVENTS, 1_000, seed))
    states: dict[bytes, Any] = {}
    wanted = []
    for key, value, _ in log:
        states[key], out = plain.step(states.get(key), json.loads(value))
        if out is not None:
            wanted.append((key, json.loads(json.dumps(out[1]))))
    job, heard = small.SmallJob(), Heard()
    decode = job.decoder(small.INPUT)
    stored: dict[bytes, bytes] = {}
    rng = random.Random(seed)
    at = 0
    while at < EVENTS:
        commit = log[at : (at := at + rng.randint(1, 2_000))]
        by_key = defaultdict(list)
        for key, value, ts in commit:
            by_key[key].append(decode(key, value, ts))
        for key, events in by_key.items():
            before = stored.get(key)
            state = job.load(key, 1, before, None) if before is not None else None  # type: ignore[arg-type]
            after = job.fold(key, state, events, heard)  # type: ignore[arg-type]
            assert after is not None
            stored[key] = job.save(key, after, None)  # type: ignore[arg-type]
    assert len(wanted) > EVENTS // 2
    assert counted(heard.results) == counted(wanted)


def test_the_engine_is_measured_on_a_real_broker(broker: Broker) -> None:
    """All events are committed, and the figures come out as one object."""
    done = subprocess.run(
        [sys.executable, "-m", "stream_app.cli.main", "bench", "engine", "--events", "20000", "--clients", "2000"],
        env={**os.environ, "KAFKA_BOOTSTRAP": broker.bootstrap},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["events"] == 20_000
    assert 0 < figures["measured_events"] <= 17_000
    assert figures["events_per_cpu_second"] > 0
