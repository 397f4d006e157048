"""Tables of counters: windows summed up, rates worked out from the sums, filtered and sorted.

Distinct clients, the funnel and the NPS cannot be added up over windows (semantics 38): where a row covers several,
they are null, and `client_days` tells the sum of what they would have been.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stream_app.domain.counters.dimensions import BY_CLIENT, GOALS, fields_of
from stream_app.domain.counters.figures import (
    AMOUNTS,
    CLIENTS,
    COUNTS,
    Figures,
)
from stream_app.domain.counters.questions import Question
from stream_app.domain.counters.records import (
    FUNNEL,
    SHOWN_COUNTS,
    Funnel,
    LeadCounter,
    Rates,
    Renderer,
    Sums,
    keys_json,
    with_all,
)
from stream_app.domain.counters.windows import DAY, TOTAL
from stream_app.domain.times import MINUTE_MS, rfc3339

Keys = tuple[str, ...]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One line of a table."""

    keys: dict[str, str]
    currency: str
    window_start: Annotated[str | None, Meta(description="Null where windows are summed up.")]
    windows: Annotated[int, Meta(description="How many windows of the period have anything in them.")]
    counts: Annotated[dict[str, int | None], Meta(description="In rows of the base currency; empty in others.")]
    client_days: Annotated[int | None, Meta(description="Sum of the windows' distinct clients.")]
    sums: Sums
    rates: Rates
    funnel: Funnel | None
    nps: str | None


class _Sum:
    __slots__ = ("figures", "keys", "nps", "start", "windows")

    def __init__(self, keys: Keys, start: int, nps: str | None) -> None:
        self.keys = keys
        self.start = start
        self.windows = 0
        self.figures = Figures([], {})
        self.nps = nps


class Table:
    """Sums up counters as they come, of any window of the question, in any order."""

    def __init__(self, question: Question, renderer: Renderer) -> None:
        self.question = question
        self._renderer = renderer
        self._sums: dict[tuple[Keys, str, int], _Sum] = {}
        self._everything: dict[tuple[str, int], Figures] = {}

    def add(self, keys: Keys, currency: str, start: int, figures: Figures, nps: str | None = None) -> None:
        """One counter of the dimension. `nps`: as its record tells it, where the answers behind it are not known."""
        question = self.question
        if question.currency and currency != question.currency:
            return
        if question.filters and not question.admits(dict(zip(fields_of(question.dimension), keys, strict=True))):
            return
        at = start if question.by_window else 0
        folded = (*keys[:-1], keys[-1].casefold()) if question.dimension == "campaign" else keys
        found = self._sums.get((folded, currency, at))
        if found is None:
            found = self._sums[folded, currency, at] = _Sum(keys, start, nps)
        found.windows += 1
        _add(found.figures, figures)

    def add_everything(self, currency: str, start: int, figures: Figures) -> None:
        """One counter of the dimension `all`: goals take their sessions and cost from there (semantics 39), also those
        of windows in which the goal was not reached."""
        at = start if self.question.by_window else 0
        _add(self._everything.setdefault((currency, at), Figures([], {})), figures)

    def rows(self) -> list[Row]:
        """All rows, in no particular order; filters on figures are applied."""
        bounds = self.question.bounds
        found = [self._row(currency, at, one) for (_, currency, at), one in self._sums.items() if one.figures.settle()]
        if not bounds:
            return found
        return [row for row in found if all(_within(row, *condition) for condition in bounds)]

    def _row(self, currency: str, at: int, one: _Sum) -> Row:
        question, figures = self.question, one.figures
        if question.dimension == GOALS:
            figures = with_all(figures, self._everything.get((currency, at)))
        single = one.windows == 1
        client_days = figures.count(CLIENTS)
        if client_days and not single:
            counts = figures.counts[:]
            counts[CLIENTS] = 0  # nothing by client can be told
            figures = Figures(counts, figures.amounts)
        record = _record(
            self._renderer.record(
                "0" * 16,
                0,
                question.kind,
                one.start,
                question.dimension,
                keys_json(question.dimension, one.keys),
                currency,
                figures,
            )
        )
        has_counts = bool(record.counts)
        shown: dict[str, int | None] = dict(record.counts)
        by_client = has_counts and question.kind >= DAY and question.dimension in BY_CLIENT
        if has_counts and not (single and by_client):
            shown["clients"] = None
        return Row(
            record.keys,
            currency,
            rfc3339(one.start * MINUTE_MS) if question.by_window and question.kind != TOTAL else None,
            one.windows,
            shown,
            client_days if by_client else None,
            record.sums,
            record.rates,
            record.funnel if single and by_client else None,
            (record.nps or one.nps) if single else None,
        )


_record = msgspec.json.Decoder(LeadCounter).decode


def _add(total: Figures, figures: Figures) -> None:
    total.add(((index, n) for index, n in enumerate(figures.counts) if n), figures.amounts.items())


def figures_of(record: LeadCounter) -> Figures:
    """The figures that a record of the topic shows. What stands behind its NPS is not told."""
    counts = [0] * len(COUNTS)
    for name, n in record.counts.items():
        if name in _NUMBERS:
            counts[_NUMBERS[name]] = n
    if record.funnel is not None:
        for stage, name in FUNNEL.items():
            counts[_NUMBERS[name]] = getattr(record.funnel, stage)
    for name in ("ad_clicks", "impressions", "time_to_contact_s", "time_to_close_s"):
        counts[_NUMBERS[name]] = getattr(record.sums, name)
    amounts = {index: Decimal(getattr(record.sums, name)) for index, name in enumerate(AMOUNTS)}
    figures = Figures(counts, amounts)
    figures.settle()
    return figures


_NUMBERS = {name: number for number, name in enumerate(COUNTS)}


# -- order and shape --------------------------------------------------------------------------------------


def in_order(rows: Iterable[Row], question: Question) -> list[Row]:
    """Sorted and cut off as asked. Without being asked: by window, then the most sessions, conversions and cost first.
    What has no value comes last, whichever way it is sorted."""
    found = sorted(rows, key=lambda row: (tuple(row.keys.values()), row.currency))
    found.sort(key=lambda row: [_number(row, name) for name in ("sessions", "conversions", "cost")], reverse=True)
    found.sort(key=lambda row: row.window_start or "")
    if question.sort:
        known = [row for row in found if value_of(row, question.sort) is not None]
        known.sort(key=lambda row: _sortable(value_of(row, question.sort)), reverse=question.descending)
        found = known + [row for row in found if value_of(row, question.sort) is None]
    return found[: question.limit] if question.limit else found


def value_of(row: Row, name: str) -> str | int | None:
    """A key, count, sum, rate or other field by its name."""
    if name in row.keys:
        return row.keys[name]
    if name in row.counts:
        return row.counts[name]
    for part in (row.sums, row.rates, row):
        value = getattr(part, name, None)
        if value is not None:
            return value if isinstance(value, int) else str(value)
    return None


def _number(row: Row, name: str) -> Decimal:
    value = value_of(row, name)
    return Decimal(0) if value is None else Decimal(value)


def _sortable(value: str | int | None) -> tuple[int, Any]:
    """Numbers before texts, texts without regard to letter case."""
    text = str(value)
    return (0, Decimal(text)) if text.lstrip("-").replace(".", "", 1).isdecimal() else (1, text.casefold())


def _within(row: Row, name: str, operator: str, wanted: str) -> bool:
    value = value_of(row, name)
    if value is None:
        return False
    mine, limit = Decimal(value), Decimal(wanted)
    match operator:
        case ">":
            return mine > limit
        case ">=":
            return mine >= limit
        case "<":
            return mine < limit
        case _:
            return mine <= limit


def columns(question: Question) -> tuple[str, ...]:
    """Names of a table's columns."""
    when = ("window_start",) if question.by_window else ()
    return (
        *when,
        *fields_of(question.dimension),
        "currency",
        "windows",
        *SHOWN_COUNTS,
        "client_days",
        *Sums.__struct_fields__,
        *Rates.__struct_fields__,
        "nps",
    )


def to_csv(rows: Sequence[Row], question: Question) -> str:
    """Comma-separated, with a header line. What has no value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = columns(question)
    writer.writerow(names)
    for row in rows:
        writer.writerow([cell(value_of(row, name)) for name in names])
    return out.getvalue()


def cell(value: str | int | None) -> str | int:
    """What may stand in a spreadsheet: names come from whoever writes links, and must not be taken for formulas."""
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()
