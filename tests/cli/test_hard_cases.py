"""The hard cases of docs/sources.md are what `classify --explain` says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream_app.cli.main import main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sources.md"
CASE = re.compile(
    r"^### (?P<title>.+?)$.*?"
    r"^```sh\nstream-app (?P<command>.+?) <<'END'\n(?P<line>.+?)\nEND\n```\n"
    r"```json\n(?P<answer>.+?)\n```$",
    re.MULTILINE | re.DOTALL,
)
CASES = [match.groupdict() for match in CASE.finditer(DOCUMENT.read_text(encoding="utf-8"))]


def test_there_are_twenty_and_more() -> None:
    """None is lost by a slip of the pen."""
    assert len(CASES) >= 20


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_the_document_tells_the_truth(case: dict[str, str]) -> None:
    """The fields shown are those printed."""
    result = CliRunner().invoke(main, shlex.split(case["command"]), input=case["line"])
    assert result.exit_code == 0, result.stderr
    shown = json.loads(case["answer"])
    printed = json.loads(result.stdout)
    assert {name: printed[name] for name in shown} == shown
