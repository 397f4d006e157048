"""What is committed can be cloned anywhere: no paths of one machine, nothing huge; and make explains itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = sorted(ROOT.glob("requirements*.lock"))
LARGEST_FILE = 1_000_000


def _committed() -> list[Path]:
    """Files under version control (as they are now)."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_versions_and_hashes_and_no_host(lock: Path) -> None:
    """It installs the same everywhere, from whatever index the machine uses."""
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option: index, find-links, editable"
    requirements = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", requirement), requirement[:60]
        assert "--hash=sha256:" in requirement, requirement[:60]


def test_every_dependency_is_locked() -> None:
    """pyproject.toml and the locks have not drifted apart by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def locked(name: str) -> set[str]:
        return set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE))

    def wanted(requirements: list[str | dict[str, str]]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9_-]", text)[0].lower() for text in requirements if isinstance(text, str)}

    assert wanted(project["project"]["dependencies"]) <= locked("requirements.lock")
    assert wanted(project["dependency-groups"]["dev"]) <= locked("requirements-dev.lock")
    assert wanted(project["dependency-groups"]["build"]) <= locked("requirements-build.lock")
    assert locked("requirements.lock") <= locked("requirements-dev.lock")


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    """Nothing refers to a home directory or to where the project lay while it was written."""
    # Written in pieces, or this file would be found.
    pattern = re.compile(
        "(?<![A-Za-z0-9_.$}-])/(?:"
        + "|".join(["ho" + "me/[a-z]", "Use" + "rs/[A-Za-z]", "wo" + "rk/", "ro" + "ot/"])
        + ")"
    )
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in _committed() if (match := pattern.search(_text(path)))]
    assert not found


def test_no_file_is_huge() -> None:
    """Data and build products don't belong into the history."""
    found = [str(path.relative_to(ROOT)) for path in _committed() if path.stat().st_size > LARGEST_FILE]
    assert not found


def test_scripts_can_be_executed() -> None:
    """What starts with #! has its executable bit, so that a fresh clone can run it."""
    found = [
        str(path.relative_to(ROOT))
        for path in _committed()
        if _text(path).startswith("#!") and not os.access(path, os.X_OK)
    ]
    assert not found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Just enough of a fresh clone for make."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def _make(directory: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    make = shutil.which("make") or "make"
    environment = {"PATH": path, "HOME": str(directory)}
    return subprocess.run(
        [make, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with what make's recipes need, and a python3 that is too old."""
    directory = tmp_path_factory.mktemp("tools")
    for name in ("bash", "sh", "head", "grep", "sed", "expand", "test", "echo"):
        found = shutil.which(name)
        if found:
            (directory / name).symlink_to(found)
    old = directory / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    return directory


@pytest.mark.parametrize("target", ["setup", "run", "test"])
def test_make_says_in_one_line_that_python_is_too_old(clone: Path, tools: Path, target: str) -> None:
    """What is needed, what was found, what to do; and nothing is left half made."""
    result = _make(clone, target, path=str(tools))
    assert result.returncode != 0
    line = result.stderr.splitlines()[0]
    for word in ("Python 3.11", "found: Python 3.9.2", "apt-get install", f"make {target} PYTHON="):
        assert word in line
    assert not (clone / ".venv").exists()


def test_make_without_a_target_lists_them(clone: Path, tools: Path) -> None:
    """A newcomer who types `make` sees what there is, and nothing happens."""
    shown = _make(clone, path=str(tools)).stdout
    for target in ("setup", "run", "check", "test", "bench", "soak", "lock", "clean"):
        assert f"make {target} " in shown


def test_make_setup_does_nothing_when_it_is_done(clone: Path, tools: Path) -> None:
    """Every target depends on it, so it has to be free."""
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".installed").touch()
    result = _make(clone, "setup", path=str(tools))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
