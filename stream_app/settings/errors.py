"""What is wrong with a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One wrong thing in a configuration."""

    key: str
    """Dotted key: `engine.commit_interval_ms`."""
    message: str
    """What is wrong, the value (unless secret) and what is allowed."""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds every reason."""

    def __init__(self, problems: Iterable[Problem], source: str = "settings") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join([f"{source}: {len(self.problems)} problem(s)", *(f"  {p}" for p in self.problems)]))


def unusable(key: str, path: str, exc: Exception) -> SettingsError:
    """A file named in the settings cannot be used."""
    return SettingsError([Problem(key, f'= "{path}" cannot be used: {getattr(exc, "strerror", None) or exc}')])


def read_secret(key: str, path: str) -> str:
    """A secret from its file, without white space around it. Raises `SettingsError`, also for an empty file."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise unusable(key, path, exc) from exc
    if not text:
        raise SettingsError([Problem(key, f'= "{path}" cannot be used: the file is empty')])
    return text
