"""Writes settings as TOML, without their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from stream_app.settings.describe import is_secret
from stream_app.settings.model import Settings

MASK = "********"


def show(settings: Settings) -> str:
    """The effective settings as TOML that `load` reads again; secrets are masked."""
    return "\n".join(_table(settings, "")).strip() + "\n"


def _table(struct: msgspec.Struct, path: str) -> Iterator[str]:
    """The keys of a struct, then its tables. Keys that are None are left out: TOML has no null."""
    later: list[tuple[str, Any]] = []
    for info in msgspec.structs.fields(struct):
        value = getattr(struct, info.name)
        if value is None:
            continue
        if _is_table(value):
            later.append((info.encode_name, value))
        elif is_secret(info.type) and value:
            yield f"{_bare(info.encode_name)} = {inline(MASK)}"
        else:
            yield f"{_bare(info.encode_name)} = {inline(value)}"
    for name, value in later:
        full = f"{path}.{_bare(name)}" if path else _bare(name)
        if isinstance(value, msgspec.Struct):
            yield ""
            yield f"[{full}]"
            yield from _table(value, full)
        else:
            for item in value:
                yield ""
                yield f"[[{full}]]"
                yield from _table(item, full)


def _is_table(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return True
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], msgspec.Struct)


def inline(value: Any) -> str:
    """One value as it stands in TOML, tables in braces."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case Decimal():
            return f'"{value}"'
        case str():
            return _string(value)
        case dict():
            inner = ", ".join(f"{_bare(key)} = {inline(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case tuple() | list():
            return f"[{', '.join(inline(item) for item in value)}]"
        case msgspec.Struct():
            pairs = ((info, getattr(value, info.name)) for info in msgspec.structs.fields(value))
            return inline({info.encode_name: item for info, item in pairs if item is not None})
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")


def _bare(key: str) -> str:
    return key if key and all(char.isascii() and (char.isalnum() or char in "_-") for char in key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
