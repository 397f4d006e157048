"""A period report: tables beside those of the period before, and the deals with their chains; as CSV and as XLSX."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stream_app.app.outputs import decoded
from stream_app.app.tables import Tables
from stream_app.domain.counters.comparing import COMPARED, Pair, Period, pairs, question
from stream_app.domain.counters.dimensions import fields_of
from stream_app.domain.counters.records import COUNTERS, LeadCounter, Rates
from stream_app.domain.counters.tables import cell
from stream_app.domain.deals import Deal, deals
from stream_app.domain.lead_records import LEADS, Lead
from stream_app.domain.records import CONVERSIONS, AttributedConversion
from stream_app.domain.times import MINUTE_MS, rfc3339
from stream_app.settings import Settings

DIMENSIONS = ("all", "channel", "source_medium", "campaign", "goal")
"""Tables of a report, unless others are asked for."""

Read = Callable[[str], list[bytes]]
"""The last records of a topic by its logical name."""
_PRICES = {"cpc", "cpl", "cpa", "arpu"}
_MULTIPLES = {"roas", "growth"}
_SHARES = set(Rates.__struct_fields__) - _PRICES - _MULTIPLES
_MONEY = {"value", "refunded", "revenue", "profit", "cost"} | _PRICES


class Sheet(NamedTuple):
    """A table with its header."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | None]]


class Report(NamedTuple):
    """What was found."""

    now: Period
    before: Period
    sheets: list[Sheet]
    """One for each dimension, then the deals."""


def make_report(settings: Settings, read: Read, now: Period, dimensions: Sequence[str] = DIMENSIONS) -> Report:
    """Reads the outputs and makes the tables. Raises CannotRead."""
    tables = Tables(settings, decoded(read(COUNTERS), LeadCounter))
    before = now.before()
    sheets = [
        Sheet(dimension, comparison_columns(dimension), [_comparison(pair) for pair in compared])
        for dimension in dimensions
        for compared in [
            pairs(
                tables.rows(question(dimension, now, tables.windows)),
                tables.rows(question(dimension, before, tables.windows)),
            )
        ]
    ]
    since, until = (minute * MINUTE_MS for minute in now.minutes(tables.windows))
    found = deals(decoded(read(CONVERSIONS), AttributedConversion), decoded(read(LEADS), Lead), since, until)
    sheets.append(Sheet("deals", Deal.__struct_fields__, [_deal(deal) for deal in found]))
    return Report(now, before, sheets)


def comparison_columns(dimension: str) -> list[str]:
    """Keys, currency, and three columns for each figure."""
    figures = [column for name in COMPARED for column in (name, f"{name}_before", f"{name}_change")]
    return [*fields_of(dimension), "currency", *figures]


def _comparison(pair: Pair) -> list[str | int | None]:
    values = [value for name in COMPARED for value in pair.values(name)]
    return [*pair.keys.values(), pair.currency, *values]


def _deal(deal: Deal) -> list[str | int | None]:
    values = msgspec.structs.astuple(deal)
    return [
        rfc3339(value) if name == "at" else value for name, value in zip(Deal.__struct_fields__, values, strict=True)
    ]


# -- files ------------------------------------------------------------------------------------------------


def write_csv(report: Report, directory: Path) -> list[Path]:
    """One file a sheet."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for sheet in report.sheets:
        path = directory / f"{sheet.name}.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as file:  # with the mark by which Excel knows UTF-8
            writer = csv.writer(file)
            writer.writerow(sheet.columns)
            writer.writerows([cell(value) for value in row] for row in sheet.rows)
        written.append(path)
    return written


def write_xlsx(report: Report, path: Path) -> Path:
    """One workbook: numbers as numbers, rates in percent, headers that stay, filters."""
    import xlsxwriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with xlsxwriter.Workbook(str(path)) as book:
        formats = {
            "head": book.add_format({"bold": True, "bottom": 1}),
            "money": book.add_format({"num_format": "#,##0.00"}),
            "share": book.add_format({"num_format": "0.0%"}),
            "change": book.add_format({"num_format": "+0.0%;[Red]-0.0%;0.0%"}),
            "multiple": book.add_format({"num_format": "0.00"}),
            "plain": book.add_format({}),
        }
        for sheet in report.sheets:
            _sheet(book.add_worksheet(sheet.name[:31]), sheet, formats)
        about = book.add_worksheet("about")
        about.set_column(0, 1, 24)
        for number, (name, value) in enumerate(_about(report)):
            about.write_string(number, 0, name)
            about.write_string(number, 1, value)
    return path


def _sheet(page: Any, sheet: Sheet, formats: dict[str, Any]) -> None:
    for number, name in enumerate(sheet.columns):
        page.write_string(0, number, name, formats["head"])
    for line, row in enumerate(sheet.rows, 1):
        for number, (name, value) in enumerate(zip(sheet.columns, row, strict=True)):
            kind = _kind(name)
            if value is None:
                continue
            # Names come from whoever writes links: written as texts, none is a formula or an address.
            if isinstance(value, int) or kind != "plain":
                page.write_number(line, number, float(Decimal(value)), formats[kind])
            else:
                page.write_string(line, number, value[:_LONGEST_CELL])
    page.freeze_panes(1, 0)
    page.autofilter(0, 0, max(1, len(sheet.rows)), len(sheet.columns) - 1)
    page.set_column(0, len(sheet.columns) - 1, 14)


_LONGEST_CELL = 32_767


def _kind(column: str) -> str:
    if column.endswith("_change"):
        return "change"
    name = column.removesuffix("_before")
    if name in _MONEY:
        return "money"
    if name in _MULTIPLES:
        return "multiple"
    return "share" if name in _SHARES else "plain"


def _about(report: Report) -> Iterable[tuple[str, str]]:
    yield "period", f"{report.now.since} – {report.now.until} (the last day is not in it)"
    yield "compared with", f"{report.before.since} – {report.before.until}"
    yield "money", "gross; refunds are in `refunded`; revenue is net of them"
    yield "client_days", "sum of each day's distinct clients"
    yield "conversions", "under the last source that is not direct; leads under their own"
    yield "rates", "worked out from the period's sums"
