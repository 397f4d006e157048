"""Rows of the conformance files; resolvers in both profiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.domain.sources import ReferenceTables, SourceResolver, SourceRules
from stream_app.reference import load


@pytest.fixture(scope="session")
def tables() -> ReferenceTables:
    return load()


@pytest.fixture(scope="session")
def ga4(tables: ReferenceTables) -> SourceResolver:
    return SourceResolver(SourceRules(profile="ga4"), tables)


@pytest.fixture(scope="session")
def extended(tables: ReferenceTables) -> SourceResolver:
    return SourceResolver(SourceRules(), tables)


@pytest.fixture(scope="session")
def rows(shared_dir: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Reads a file of JSON Lines whole."""

    def read(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (shared_dir / name).read_text(encoding="utf-8").splitlines()]

    return read


@pytest.fixture(scope="session")
def lists(shared_dir: Path) -> Callable[[str], Any]:
    """Reads a YAML list whole."""

    def read(name: str) -> Any:
        return yaml.safe_load((shared_dir / name).read_text(encoding="utf-8"))

    return read
