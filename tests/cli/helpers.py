"""Runs commands in this process, with an environment of their own."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from stream_app.cli.main import main

CLEAN = {"KAFKA_BOOTSTRAP": None, "STREAM_APP_CONFIG": None, "STREAM_APP_LOG_LEVEL": None}


def run(*arguments: str, **environ: str) -> Result:
    """`stream-app ARGUMENTS`; an unexpected exception is raised here."""
    result = CliRunner().invoke(main, list(arguments), env={**CLEAN, **environ})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def json_lines(text: str) -> list[dict[str, Any]]:
    """Standard output as objects."""
    return [json.loads(line) for line in text.splitlines()]
