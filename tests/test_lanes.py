from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TEST = """
import time
import pytest

@pytest.mark.parametrize("n", range(3))
def test_it(n):
    time.sleep(0.05)
"""


def test_of_those_under_fire_never_two_run_at_once_and_others_run_beside_them(tmp_path: Path) -> None:
    """What pytest and its plugin do with lanes has changed before, without a word."""
    for name in ("chaos/test_a", "chaos/test_b", "kafka/test_c", "cli/test_d"):
        file = tmp_path / "tests" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TEST)
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import pytest_collection_modifyitems, pytest_configure, pytest_xdist_make_scheduler"
    )
    command = [sys.executable, "-m", "pytest", "-n", "2", "-v", "--import-mode=importlib", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    runners: dict[str, set[str]] = {}
    passed = re.findall(r"\[(gw\d)\] .* PASSED tests/(\w+)/", ran.stdout)
    for runner, directory in passed:
        runners.setdefault(directory, set()).add(runner)
    assert len(passed) == 12
    assert len(runners["chaos"] | runners["kafka"]) == 1
    assert runners["cli"].isdisjoint(runners["chaos"]), "they need not wait"
