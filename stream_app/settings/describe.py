"""Reads the types of the settings for people: what a key allows, its unit, default and meaning."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta


def plain(hint: Any) -> tuple[Any, list[Meta]]:
    """The bare type (without `Annotated` and `| None`) and its annotations."""
    metas: list[Meta] = []
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint, *found = get_args(hint)
            metas.extend(meta for meta in found if isinstance(meta, Meta))
        elif origin is Union or type(hint).__name__ == "UnionType":
            options = [arg for arg in get_args(hint) if arg is not type(None)]
            if len(options) != 1:
                return hint, metas
            hint = options[0]
        else:
            return hint, metas


def struct_item(inner: Any) -> tuple[type | None, Any]:
    """(tuple or dict, item type) of a container of structs, else (None, None)."""
    origin, args = get_origin(inner), get_args(inner)
    if origin not in {tuple, dict} or not args:
        return None, None
    item = args[0] if origin is tuple else args[1]
    bare, _ = plain(item)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return (tuple if origin is tuple else dict), bare
    return None, None


def _extra(metas: list[Meta], name: str) -> Any:
    for meta in metas:
        if meta.extra and meta.extra.get(name):
            return meta.extra[name]
    return ""


def is_secret(hint: Any) -> bool:
    """Whether values of this key must never be shown."""
    return bool(_extra(plain(hint)[1], "secret"))


def unit(hint: Any) -> str:
    """The unit of the key, or an empty text."""
    return str(_extra(plain(hint)[1], "unit"))


def text(hint: Any) -> str:
    """What the key means."""
    return next((meta.description for meta in plain(hint)[1] if meta.description), "")


def allowed_values(hint: Any) -> str:
    """What a key allows, in words: `a whole number from 1 to 60000 (ms)`."""
    inner, metas = plain(hint)
    words = str(_extra(metas, "allowed")) or _by_type(inner, metas)
    measure = unit(hint)
    return f"{words} ({measure})" if measure else words


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    Decimal: "a number, best as text",
    str: "text",
    bool: "true or false",
}


def _by_type(inner: Any, metas: list[Meta]) -> str:
    origin, args = get_origin(inner), get_args(inner)
    if origin is Literal:
        return "one of " + ", ".join(f'"{arg}"' for arg in args)
    if origin is tuple:
        return f"a list, each {allowed_values(args[0])}{_range(metas, length='entries')}"
    if origin is dict:
        return f"a table, each value {allowed_values(args[1])}"
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return "a table"
    name = _NAMES.get(inner, str(inner))
    return name + _range(metas, length="characters")


def _range(metas: list[Meta], *, length: str) -> str:
    def first(name: str) -> Any:
        return next((getattr(meta, name) for meta in metas if getattr(meta, name) is not None), None)

    words = ""
    low, high, above, below = first("ge"), first("le"), first("gt"), first("lt")
    if low is not None and high is not None:
        words += f" from {low} to {high}"
    elif low is not None:
        words += f", {low} or more"
    elif above is not None:
        words += f" above {above}" + (f" up to {high}" if high is not None else "")
    elif high is not None:
        words += f" up to {high}"
    if below is not None:
        words += f" below {below}"
    least, most = first("min_length"), first("max_length")
    if least is not None and most is not None:
        words += f" of {least} to {most} {length}"
    elif least == 1:
        words += " that is not empty"
    elif least is not None:
        words += f" of at least {least} {length}"
    elif most is not None:
        words += f" of up to {most} {length}"
    return words
