"""From a TOML file and the environment to checked settings, with every problem named at once."""

from __future__ import annotations

import datetime as dt
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stream_app.settings.describe import allowed_values, is_secret, plain, struct_item
from stream_app.settings.errors import Problem, SettingsError
from stream_app.settings.model import Settings

ENV_PREFIX = "STREAM_APP_"
_DELIMITER = "__"


class _Text(str):
    """A value from the environment: text that may mean a number, and the variable it came from."""

    __slots__ = ("variable",)
    variable: str


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from a TOML file (none: defaults only) with the environment on top.

    Raises `SettingsError` with everything that is wrong, also when the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as exc:
            raise SettingsError([Problem("", f"cannot be read: {exc.strerror}")], str(path)) from exc
        except UnicodeDecodeError as exc:
            raise SettingsError([Problem("", f"is not UTF-8: {exc}")], str(path)) from exc
        except tomllib.TOMLDecodeError as exc:
            raise SettingsError([Problem("", f"is not TOML: {exc}")], str(path)) from exc
    return parse(raw, environ, source=str(path) if path is not None else "settings")


def parse(raw: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, source: str = "settings") -> Settings:
    """The settings from parsed TOML, with variables of `environ` on top. Raises `SettingsError`."""
    problems: list[Problem] = []
    merged = _copy(raw)
    environ = environ or {}
    if fallback := environ.get("KAFKA_BOOTSTRAP"):
        kafka = merged.setdefault("kafka", {})
        if isinstance(kafka, dict):
            kafka.setdefault("bootstrap", _text(fallback, "KAFKA_BOOTSTRAP"))
    _overlay(merged, environ, problems)
    settings = _build(merged, Settings, "", problems)
    if problems or settings is None:
        raise SettingsError(problems, source)
    assert isinstance(settings, Settings)
    return settings


# --- the environment -----------------------------------------------------------------------------------


def _text(value: str, variable: str) -> _Text:
    text = _Text(value)
    text.variable = variable
    return text


def _overlay(raw: dict[str, Any], environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Puts `STREAM_APP_SECTION__KEY` variables over the file's values. An empty variable says nothing."""
    for variable in sorted(environ):
        value = environ[variable]
        if not variable.startswith(ENV_PREFIX) or not value:
            continue
        name = variable[len(ENV_PREFIX) :].lower()
        if _DELIMITER in name or name in {"goals", "programs", "phone_numbers", "email_addresses"}:
            _put(raw, name.split(_DELIMITER), _text(value, variable), problems)
        elif meant := _meant(name):
            problems.append(Problem(variable, f"is not a variable of this program; did you mean {meant}?"))


def _meant(name: str) -> str:
    """The variable that a name with a missing underscore stands for."""
    for section in msgspec.structs.fields(Settings):
        inner, _ = plain(section.type)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            for key in msgspec.structs.fields(inner):
                if name == f"{section.name}_{key.encode_name}":
                    return f"{ENV_PREFIX}{section.name}__{key.encode_name}".upper()
    return ""


def _put(raw: dict[str, Any], path: list[str], value: _Text, problems: list[Problem]) -> None:
    place = raw
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            problems.append(Problem(".".join(path), f"cannot be set by {value.variable}: {part} is not a section"))
            return
        place = inner
    place[path[-1]] = value


def _copy(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return {key: _copy(value) for key, value in raw.items()}
    return [_copy(value) for value in raw] if isinstance(raw, list) else raw


# --- checking ------------------------------------------------------------------------------------------


def _build(value: Any, hint: Any, path: str, problems: list[Problem]) -> Any:
    """The typed value, or None with at least one problem added."""
    inner, _ = plain(hint)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _build_struct(_parsed(value), inner, path, problems)
    container, item = struct_item(inner)
    if item is not None:
        value = _parsed(value)
        if container is tuple and isinstance(value, list):
            return tuple(_build(part, item, f"{path}[{number}]", problems) for number, part in enumerate(value))
        if container is dict and isinstance(value, dict):
            return {key: _build(part, item, f'{path}."{key}"', problems) for key, part in value.items()}
        what = "a list of tables" if container is tuple else "a table of tables"
        problems.append(Problem(path, f"= {_quote(value)} is not {what}"))
        return None
    return _build_leaf(value, hint, path, problems)


def _build_struct(value: Any, cls: type[msgspec.Struct], path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        problems.append(Problem(path, f"= {_quote(value)} is not a section with keys"))
        return None
    before = len(problems)
    fields = {info.encode_name: info for info in msgspec.structs.fields(cls)}
    for key, given in value.items():
        if key not in fields:
            problems.append(Problem(_join(path, key), _unknown(key, given, list(fields), section=not path)))
    values: dict[str, Any] = {}
    for key, info in fields.items():
        if key in value:
            values[info.name] = _build(value[key], info.type, _join(path, key), problems)
        elif info.required:
            problems.append(Problem(_join(path, key), f"is missing; needed: {allowed_values(info.type)}"))
    if len(problems) > before:
        return None
    built = cls(**values)
    for key, message in built.problems():  # type: ignore[attr-defined]  # every section has it
        problems.append(Problem(_join(path, key), message))
    return built


def _unknown(key: str, given: Any, known: list[str], *, section: bool) -> str:
    what = "section" if section else "key"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    origin = f" (from {given.variable})" if isinstance(given, _Text) else ""
    return f"is not a known {what}{origin}; {hint}"


def _build_leaf(value: Any, hint: Any, path: str, problems: list[Problem]) -> Any:
    inner, _ = plain(hint)
    given = value
    origin = ""
    if isinstance(value, _Text):
        origin = f" (from {value.variable})"
        container = getattr(inner, "__origin__", None)
        if container in {tuple, dict}:
            given = _parsed(value)
            if container is tuple and isinstance(given, str):
                given = [part.strip() for part in given.split(",") if part.strip()]
        else:
            given = str(value)
    elif isinstance(value, dt.datetime) and inner is str:
        given = value.isoformat()  # TOML has times of its own
    try:
        return msgspec.convert(given, hint, strict=not isinstance(value, _Text))
    except msgspec.ValidationError as exc:
        shown = "(secret)" if is_secret(hint) else _quote(given)
        detail = ""
        if " - at `" in str(exc) and isinstance(given, list | dict):
            detail = f" ({exc})"
        problems.append(Problem(path, f"= {shown}{origin} is wrong; allowed: {allowed_values(hint)}{detail}"))
        return None


def _parsed(value: Any) -> Any:
    """JSON from a variable, where a table or a list is wanted."""
    if isinstance(value, _Text):
        try:
            return msgspec.json.decode(value.encode())
        except msgspec.DecodeError:
            return value
    return value


def _quote(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 100 else f'"{value[:100]}…"'
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _join(path: str, key: str) -> str:
    if not key:
        return path
    return f"{path}.{key}" if path else key
