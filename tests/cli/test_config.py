"""`stream-app config`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tests.cli.helpers import run


def test_check_says_good_or_names_every_problem(tmp_path: Path) -> None:
    """Status 0 for good, 1 for problems, 2 for no such file."""
    path = tmp_path / "app.toml"
    path.write_text("[kafka]\npartitions = 12\n")
    assert run("config", "check", str(path)).exit_code == 0
    assert run("--config", str(path), "config", "check").exit_code == 0
    path.write_text("[kafka]\npartitions = 0\n[web]\nport = -1\n")
    result = run("config", "check", str(path))
    assert result.exit_code == 1
    assert "kafka.partitions" in result.stderr
    assert "web.port" in result.stderr
    assert run("config", "check", str(tmp_path / "none.toml")).exit_code == 2


def test_show_gives_the_effective_settings_without_secrets() -> None:
    """TOML or JSON, variables included."""
    environ = {"STREAM_APP_WEB__TOKEN": "geheim", "STREAM_APP_KAFKA__PARTITIONS": "3"}
    toml = run("config", "show", **environ)
    assert tomllib.loads(toml.stdout)["kafka"]["partitions"] == 3
    as_json = run("config", "show", "--format", "json", **environ)
    assert json.loads(as_json.stdout)["kafka"]["partitions"] == 3
    assert "geheim" not in toml.stdout + as_json.stdout
