"""`docs/configuration.md`, made from the types of the settings.

`python -m stream_app.settings.reference write` renews it; `check` ends with status 1 if it differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stream_app.settings.describe import allowed_values, is_secret, plain, struct_item, text, unit
from stream_app.settings.model import Settings
from stream_app.settings.show import inline

FILE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"

_HEAD = """\
# Configuration

<!-- Made by `python -m stream_app.settings.reference write` from the types in stream_app/settings/model.py. -->

Settings come from a TOML file (`--config FILE`, or the variable `STREAM_APP_CONFIG`) and from the environment, which
wins: `STREAM_APP_SECTION__KEY`, for instance `STREAM_APP_KAFKA__BOOTSTRAP` or
`STREAM_APP_KAFKA__SECURITY__PASSWORD`. Lists are comma-separated or JSON there; tables are JSON; an empty variable
says nothing. Without any, `KAFKA_BOOTSTRAP` names the brokers.

A key that is not known, or a value that is not allowed, ends the program before it does anything, with a message that
names the key, the value and what is allowed. `stream-app config check FILE` does only that; `stream-app config show`
prints what counts in the end, secrets masked.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_sections(Settings, "")]).rstrip() + "\n"


def _sections(cls: type[msgspec.Struct], path: str) -> Iterator[str]:
    """A table of the plain keys of a struct, then its sub-structs, each under a heading."""
    fields = msgspec.structs.fields(cls)
    rows, later = [], []
    for info in fields:
        inner, _ = plain(info.type)
        container, item = struct_item(inner)
        name = f"{path}.{info.encode_name}" if path else info.encode_name
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            later.append((f"[{name}]", name, inner, text(info.type)))
        elif container is tuple:
            later.append((f"[[{name}]]", name, item, text(info.type)))
        elif container is dict:
            later.append((f"[{name}]", f"{name}.*", item, f"{text(info.type)} A table per key."))
        else:
            rows.append(_row(info))
    if rows:
        yield "| key | default | allowed | |"
        yield "|---|---|---|---|"
        yield from rows
        yield ""
    for heading, name, inner, words in later:
        yield f"{'#' * min(4, 2 + name.replace('.*', '').count('.'))} `{heading}`"
        yield ""
        about = " ".join((inner.__doc__ or "").split())
        yield " ".join(dict.fromkeys(part for part in (words, about) if part))
        yield ""
        yield from _sections(inner, name)


def _row(info: Any) -> str:
    allowed = _cell(allowed_values(info.type))
    words = _cell(text(info.type) + (" Secret: never shown." if is_secret(info.type) else ""))
    return f"| `{info.encode_name}` | {_default(info)} | {allowed} | {words} |"


def _default(info: Any) -> str:
    if info.required:
        return "required"
    value = info.default_factory() if info.default is msgspec.NODEFAULT else info.default
    if value is None:
        return ""
    measure = unit(info.type)
    return f"`{inline(value)}`" + (f" {measure}" if measure and value != "" else "")


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    """The command; status 2 for wrong use."""
    match arguments:
        case ["write"]:
            FILE.parent.mkdir(exist_ok=True)
            FILE.write_text(render(), encoding="utf-8")
            return 0
        case ["check"]:
            if FILE.is_file() and FILE.read_text(encoding="utf-8") == render():
                return 0
            sys.stderr.write(
                "docs/configuration.md is not what the types say: python -m stream_app.settings.reference write\n"
            )
            return 1
        case _:
            sys.stderr.write("usage: python -m stream_app.settings.reference write|check\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
