"""The worked story of docs/journeys.md, as written there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stream_app.app.replay import ReplayRequest, run_replay
from stream_app.settings import load

PAGE = Path(__file__).parents[2] / "docs" / "journeys.md"
BLOCKS = {name: text for _, name, text in re.findall(r"```(\w+) ([\w-]+)\n(.*?)```", PAGE.read_text(), re.DOTALL)}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("shuffle", [None, 1, 2])
def test_the_story_in_the_docs_is_what_replay_writes(tmp_path: Path, shuffle: int | None) -> None:
    """Each record on the page, with the fields shown; no record more. In any order of arrival."""
    files = {}
    for name in ("settings", "clicks", "conversions"):
        files[name] = tmp_path / f"{name}.{'toml' if name == 'settings' else 'jsonl'}"
        files[name].write_text(BLOCKS[name])
    request = ReplayRequest(out=tmp_path, clicks=files["clicks"], conversions=files["conversions"], shuffle=shuffle)
    run_replay(load(files["settings"], {}), request)
    for topic, key in (("attributed-sessions", "started_at"), ("attributed-conversions", "occurred_at")):
        found = lines((tmp_path / f"{topic}.jsonl").read_text())
        written = sorted((record for record in found if not record["retracted"]), key=lambda record: record[key])
        shown = lines(BLOCKS[topic])
        assert len(written) == len(shown)
        for record, told in zip(written, shown, strict=True):
            assert {name: record[name] for name in told} == told
    assert (tmp_path / "dead-letters.jsonl").read_text() == ""
