"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from stream_app.domain.counters.dimensions import BY_CLIENT, COSTLESS, fields_of
from stream_app.domain.counters.questions import Question
from stream_app.domain.counters.records import Rates
from stream_app.domain.counters.rules import SEGMENT
from stream_app.domain.counters.tables import Row, value_of
from stream_app.domain.counters.windows import DAY, Windows
from stream_app.domain.times import MINUTE_MS, parse_rfc3339

USUAL: Final = (
    "sessions", "clients", "conversions", "leads", "won", "value", "revenue", "cost", "cpl", "cpa", "cr", "romi",
)  # fmt: skip
_OF_COST = ("cost", "cpl", "cpa", "romi")
_PRICES = {"cpc", "cpl", "cpa", "arpu"}
_MULTIPLES = {"roas", "growth"}
_SHARES = set(Rates.__struct_fields__) - _PRICES - _MULTIPLES
_NOTHING = "–"
_WIDEST_KEY = 32
"""Longer names are folded."""
_GAP = 3


def table(
    question: Question, rows: Sequence[Row], windows: Windows, names: Sequence[str] = (), width: int = 200
) -> Table:
    """The rows as a table: rates in percent, money with its currency beside it, windows on the property's clock. Names
    come first: figures for which `width` characters leave no room are left out, and the caption says which."""
    heads = [_Column("window", [_when(row, question, windows) for row in rows])] if question.by_window else []
    heads += [
        _Column(key, [plain(row.keys[key]) for row in rows], _WIDEST_KEY) for key in fields_of(question.dimension)
    ]
    heads.append(_Column("", [row.currency for row in rows]))
    room = width - sum(column.width for column in heads)
    figures: list[_Column] = []
    left_out: list[str] = []
    for name in names or usual(question):
        column = _Column(name.replace("_", " "), [shown(row, name) for row in rows])
        if column.width <= room and not left_out:
            figures.append(column)
            room -= column.width
        else:
            left_out.append(name)
    picture = Table(title=_title(question), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in heads:
        picture.add_column(column.head, overflow="fold", min_width=column.width - _GAP, max_width=column.width - _GAP)
    for column in figures:
        picture.add_column(column.head, justify="right", no_wrap=True)
    for cells in zip(*(column.cells for column in (*heads, *figures)), strict=True):
        picture.add_row(*map(Text, cells))
    if not rows:
        picture.caption = "nothing is counted there"
    elif left_out:
        picture.caption = f"no room for {', '.join(left_out)}; --columns chooses"
    return picture


def usual(question: Question) -> Sequence[str]:
    """The usual figures, but for those that are not counted in this dimension and window."""
    dimension, long = question.dimension, question.kind >= DAY
    absent = set() if long and dimension in BY_CLIENT else {"clients"}
    if not long or dimension in COSTLESS or dimension.startswith(SEGMENT):
        absent.update(_OF_COST)
    return [name for name in USUAL if name not in absent]


class _Column:
    """Texts one below the other, and how many characters they take with what is between columns."""

    def __init__(self, head: str, cells: list[str], widest: int = 1_000) -> None:
        self.head = head
        self.cells = cells
        self.width = min(widest, max(map(cell_len, (head, *cells)))) + _GAP


def shown(row: Row, name: str) -> str:
    """A figure for people."""
    value = value_of(row, name)
    if value is None:
        return _NOTHING
    if name in _SHARES:
        return f"{100 * float(value):,.1f} %"
    if isinstance(value, int):
        return f"{value:,}"
    whole, point, rest = value.partition(".")
    digits = whole.lstrip("-")
    return f"{'-' if whole.startswith('-') else ''}{int(digits):,}{point}{rest}" if digits.isdecimal() else plain(value)


def plain(text: str) -> str:
    """A name without control characters: names come from whoever writes links."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _when(row: Row, question: Question, windows: Windows) -> str:
    if row.window_start is None:
        return ""
    local = windows.local(parse_rfc3339(row.window_start) // MINUTE_MS)
    return f"{local:%Y-%m-%d}" if question.kind == DAY else f"{local:%Y-%m-%d %H:%M%z}"


def _title(question: Question) -> str:
    return f"{question.dimension}, window {question.window}"
