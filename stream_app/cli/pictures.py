"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from stream_app.domain.counters.dimensions import fields_of
from stream_app.domain.counters.questions import Question
from stream_app.domain.counters.records import Rates
from stream_app.domain.counters.tables import Row, value_of
from stream_app.domain.counters.windows import DAY, Windows
from stream_app.domain.times import MINUTE_MS, parse_rfc3339

USUAL = (
    "sessions", "clients", "conversions", "leads", "won", "value", "revenue", "cost", "cpl", "cpa", "cr", "romi",
)  # fmt: skip
_PRICES = {"cpc", "cpl", "cpa", "arpu"}
_MULTIPLES = {"roas", "growth"}
_SHARES = set(Rates.__struct_fields__) - _PRICES - _MULTIPLES
_NOTHING = "–"


def table(question: Question, rows: Sequence[Row], windows: Windows, names: Sequence[str] = ()) -> Table:
    """The rows as a table: rates in percent, money with its currency beside it, windows on the property's clock."""
    keys = fields_of(question.dimension)
    figures = names or USUAL
    picture = Table(title=_title(question), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    if question.by_window:
        picture.add_column("window", no_wrap=True)
    for key in keys:
        picture.add_column(key, overflow="fold")
    picture.add_column("", no_wrap=True)
    for name in figures:
        picture.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in rows:
        cells = [_when(row, question, windows)] if question.by_window else []
        cells += [plain(row.keys[key]) for key in keys]
        picture.add_row(*cells, row.currency, *(shown(row, name) for name in figures))
    if not rows:
        picture.caption = "nothing is counted there"
    return picture


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
    """A name as it is: no markup, no control characters; names come from whoever writes links."""
    return "".join(c if c.isprintable() else "�" for c in text).replace("[", "\\[")


def _when(row: Row, question: Question, windows: Windows) -> str:
    if row.window_start is None:
        return ""
    local = windows.local(parse_rfc3339(row.window_start) // MINUTE_MS)
    return f"{local:%Y-%m-%d}" if question.kind == DAY else f"{local:%Y-%m-%d %H:%M%z}"


def _title(question: Question) -> str:
    return f"{question.dimension}, window {question.window}"
