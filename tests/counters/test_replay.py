"""Counters of a replay do not depend on the order in which events arrive (semantics 20)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from stream_app.app import ReplayRequest, run_replay
from stream_app.settings import Settings
from tests.counters.histories import history
from tests.counters.world import at, settings


def replayed(chosen: Settings, files: dict[str, Path], out: Path, shuffle: int | None) -> dict[str, Any]:
    request = ReplayRequest(
        out=out,
        clicks=files["clicks"],
        conversions=files["conversions"],
        lead_updates=files["lead-updates"],
        costs=files["costs"],
        shuffle=shuffle,
    )
    run_replay(chosen, request)
    found = {}
    for line in (out / "lead-counters.jsonl").read_text().splitlines():
        record = json.loads(line)
        del record["revision"]
        record["keys"] = {name: value.casefold() for name, value in record["keys"].items()}  # shown as first seen
        assert record["id"] not in found
        found[record["id"]] = record
    return found


def test_a_shuffled_replay_gives_the_same_counters_expired_windows_included(tmp_path: Path) -> None:
    """Over some days, so that minutes expire: what is left is a function of the stream time."""
    start, chosen = at("2026-03-26T18:00:00Z"), settings(tmp_path)
    events = history(random.Random(11), start, events=150)
    files = {}
    for name in ("clicks", "conversions", "lead-updates", "costs"):
        files[name] = tmp_path / f"{name}.jsonl"
        lines = [json.dumps(record | {"received_at": ts}) + "\n" for topic, record, ts in events if topic == name]
        files[name].write_text("".join(lines))
    straight = replayed(chosen, files, tmp_path / "straight", None)
    shuffled = replayed(chosen, files, tmp_path / "shuffled", 7)
    assert shuffled == straight
    oldest = min(record["window_start"] for record in straight.values() if record["window"] == "1d")
    assert oldest < min(record["window_start"] for record in straight.values() if record["window"] == "1m")
    assert len(straight) > 500
