"""The settings we ship as examples are settings."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from stream_app.settings import Settings, load
from tests.conftest import ROOT

EXAMPLES = sorted([ROOT / "deploy" / "stream-app.toml", *(ROOT / "deploy" / "examples").glob("*.toml")])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    """No unknown key, no wrong value."""
    assert load(path, {}) != Settings()


def test_the_main_example_shows_defaults() -> None:
    """Engine, sessions and attribution in it say what happens without them: nobody copies a surprise."""
    shown = tomllib.loads((ROOT / "deploy" / "stream-app.toml").read_text())
    for section in ("kafka", "engine", "web", "sessions", "attribution"):
        default = msgspec.to_builtins(getattr(load(None, {}), section))
        for key, value in shown[section].items():
            if key not in {"custom_models", "campaign_timeout_days"}:
                assert value == default[key], f"{section}.{key}"
