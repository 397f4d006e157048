"""Counters of a replay do not depend on the order in which events arrive (semantics 20)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("time", ["occurred_at", "received_at", "nothing"])
@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
def test_a_row_of_costs_keeps_its_order_whatever_its_lines_tell_of_time(
    time: str, shuffle: int | None, tmp_path: Path
) -> None:
    """Of one `cost_id` the last record counts, disorder or not (semantics 21)."""
    lines = []
    for number in range(6):
        row = {"event_id": f"k{number}", "cost_id": "K", "day": "2026-03-02", "source": "g", "medium": "cpc"}
        row |= {"campaign": "x", "cost": str(10 + number), "currency": "EUR"}
        lines.append(row | ({} if time == "nothing" else {time: at("2026-03-02T10:00:00Z") + number * 60_000}))
    file = tmp_path / "costs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_replay(settings(tmp_path), ReplayRequest(out=tmp_path / "out", costs=file, shuffle=shuffle))
    records = [json.loads(line) for line in (tmp_path / "out" / "lead-counters.jsonl").read_text().splitlines()]
    assert {record["sums"]["cost"] for record in records} == {"15.00"}


def test_a_row_of_costs_that_tells_its_time_has_it(tmp_path: Path) -> None:
    """As any line of a replay: the one with the later time replaces the other, wherever it stands in the file."""
    file = tmp_path / "costs.jsonl"
    row = {"cost_id": "K", "day": "2026-03-02", "source": "g", "medium": "cpc", "campaign": "x", "currency": "EUR"}
    later = row | {"event_id": "k2", "cost": "20", "occurred_at": "2026-03-02T11:00:00Z"}
    earlier = row | {"event_id": "k1", "cost": "10", "occurred_at": "2026-03-02T10:00:00Z"}
    file.write_text("".join(json.dumps(line) + "\n" for line in (later, earlier)))
    run_replay(settings(tmp_path), ReplayRequest(out=tmp_path / "out", costs=file))
    records = [json.loads(line) for line in (tmp_path / "out" / "lead-counters.jsonl").read_text().splitlines()]
    assert {record["sums"]["cost"] for record in records} == {"20.00"}


def test_a_line_has_its_time_to_the_millisecond(tmp_path: Path) -> None:
    """A click is too late one millisecond after grace, not at its end; no binary fraction decides."""
    file = tmp_path / "clicks.jsonl"
    click = {"client_id": "c", "occurred_at": "2004-02-22T15:44:23.053Z", "url": "https://shop.example.com/"}
    late = click | {"event_id": "late", "received_at": "2004-02-22T16:44:23.054Z"}
    timely = click | {"event_id": "timely", "received_at": "2004-02-22T16:44:23.053Z"}
    file.write_text("".join(json.dumps(line) + "\n" for line in (late, timely)))
    run_replay(settings(tmp_path), ReplayRequest(out=tmp_path / "out", clicks=file))
    letters = [json.loads(line) for line in (tmp_path / "out" / "dead-letters.jsonl").read_text().splitlines()]
    assert [(letter["reason"], json.loads(letter["value"])["event_id"]) for letter in letters] == [("too_late", "late")]


def test_the_last_of_all_revisions_are_what_is_left(tmp_path: Path) -> None:
    """In every file: whoever keeps the last record of each id, without retracted ones, has the truth. Minutes expire,
    and other counters come to nothing."""
    start, chosen = at("2026-03-26T18:00:00Z"), settings(tmp_path)
    events = history(random.Random(11), start, events=150)
    files = {}
    for name in ("clicks", "conversions", "lead-updates", "costs"):
        files[name.replace("-", "_")] = file = tmp_path / f"{name}.jsonl"
        lines = [json.dumps(record | {"received_at": ts}) + "\n" for topic, record, ts in events if topic == name]
        file.write_text("".join(lines))
    ended = 0
    for all_revisions in (False, True):
        run_replay(chosen, ReplayRequest(out=tmp_path / str(all_revisions), all_revisions=all_revisions, **files))
    for file in (tmp_path / "True").glob("*.jsonl"):
        if file.name == "dead-letters.jsonl":
            continue
        last: dict[str, dict[str, Any]] = {}
        for line in file.read_text().splitlines():
            record = json.loads(line)
            assert record["id"] not in last or record["revision"] > last[record["id"]]["revision"]
            last[record["id"]] = record
        left = {name: record for name, record in last.items() if not record["retracted"]}
        ended += (len(last) - len(left)) * (file.name == "lead-counters.jsonl")
        final = [json.loads(line) for line in (tmp_path / "False" / file.name).read_text().splitlines()]
        assert left == {record["id"]: record for record in final if not record["retracted"]}
    assert ended > 100
