from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.bench import credit, latency, profiling
from stream_app.bench.lab import percentiles
from stream_app.bench.pauses import Watch
from stream_app.devtools.broker import Broker


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentiles(values, 0.5, 0.99) == [51.0, 100.0]
    assert percentiles([], 0.5) == []


def test_a_pause_is_counted_from_the_event_and_is_that_of_the_slowest_partition() -> None:
    watch = Watch(event_at=10.0, partitions=2)
    watch.saw(10.0, {0: 100, 1: 100})
    watch.saw(10.1, {0: 110, 1: 100})
    watch.saw(13.0, {0: 110, 1: 105})
    watch.saw(14.5, {0: 120, 1: 110})
    assert watch.pause_s == pytest.approx(4.4)
    assert watch.over(14.6)
    assert not watch.over(16.0), "nothing has moved for more than a second"


def test_a_partition_that_has_not_moved_yet_keeps_the_measurement_going() -> None:
    watch = Watch(event_at=0.0, partitions=2)
    watch.saw(0.0, {0: 1, 1: 1})
    watch.saw(20.0, {0: 2, 1: 1})
    assert not watch.over(20.1)


def test_latency_is_from_append_to_first_sight_and_tells_what_is_missing(tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    stamps.write_text("c early 900\nc a 1000\nc b 1010\ns k 999 1020\ns k 1000 1030\nc a 2000\n")
    found = latency._match(stamps, {"a": 1100, "k 999": 1120, "early": 1000}, since_ms=950)
    assert found == {"c": [100.0, None], "s": [100.0]}
    assert latency._summary(found["c"])["missing"] == 1


def test_a_counted_conversion_is_fresh_once_the_total_of_its_goal_has_so_many(tmp_path: Path) -> None:
    """The first appended is taken for the first counted; what never shows is told."""
    stamps = tmp_path / "stamps"
    stamps.write_text("c a 90\nl a 90\nl c 1200\nc c 1200\nl b 1000\ns k 999 1005\nl d 1300\n", encoding="ascii")
    assert latency._counted(stamps, [(1, 150), (3, 1250)], since_ms=950) == [250.0, 50.0, None]
    assert latency._match(stamps, {"a": 95, "c": 1210}, since_ms=0)["c"] == [5.0, 10.0]


def test_a_profile_names_functions_by_their_share() -> None:
    raw = (
        "main (a/b/cli.py:1);work (a/engine/task.py:7);fold (a/p/j.py:3) 60\nmain (a/b/cli.py:1);idle (x/y/z.py:2) 40\n"
    )
    found = profiling.summary(raw)
    assert found["samples"] == 100
    assert found["self"] == {"fold (p/j.py)": 0.6, "idle (y/z.py)": 0.4}
    assert found["total"] == {"work (engine/task.py)": 0.6, "fold (p/j.py)": 0.6, "idle (y/z.py)": 0.4}


@pytest.mark.slow
def test_every_part_gives_figures_on_a_real_broker(broker: Broker, tmp_path: Path) -> None:
    """Small sizes: that it measures, not what."""
    sizes = ["--events", "20000", "--clients", "5000", "--directory", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-m", "stream_app.cli.main", "bench", "--only", "throughput,memory,recovery", *sizes],
        env={**os.environ, "KAFKA_BOOTSTRAP": broker.bootstrap},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["throughput"]["events"] == 20_000
    assert figures["throughput"]["events_per_cpu_second"] > 0
    assert figures["throughput"]["dead_letters"] == 0
    assert figures["throughput"]["outputs"]["attributed-sessions"] > 0
    assert figures["memory"]["rss_peak_mib"] > 10
    assert figures["recovery"]["records"] >= 5_000


def test_an_unknown_part_is_wrong_use() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "stream_app.cli.main", "bench", "--only", "speed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "not a part" in result.stderr


def test_credit_is_measured_in_its_parts() -> None:
    """Whole lines and each part of them; how fast is nobody's promise."""
    figures = credit.run(conversions=50, rounds=1)["credit"]
    assert (figures["conversions"], figures["touchpoints"]) == (50, 8)
    for part in ("lines", "decoding", "crediting", "encoding", "models_alone", "models_alone_30_touchpoints"):
        assert figures[f"{part}_per_cpu_second"] > 0, part
    assert figures["bytes_out"] > figures["bytes_in"]
