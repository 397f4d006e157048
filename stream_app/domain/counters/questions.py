"""What can be asked of counters: a dimension, a window, a stretch of time, filters, an order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fnmatch import translate
from typing import Any, Final, Literal, NamedTuple

from stream_app.domain.counters.dimensions import SHOWN, fields_of, is_shown
from stream_app.domain.counters.figures import AMOUNTS
from stream_app.domain.counters.records import SHOWN_COUNTS, Rates, Sums
from stream_app.domain.counters.windows import NAMES, Windows
from stream_app.domain.errors import Refused
from stream_app.domain.money import check_currency
from stream_app.domain.times import MINUTE_MS

Format = Literal["json", "csv"]
FIGURES: Final = (*SHOWN_COUNTS, *Sums.__struct_fields__, *Rates.__struct_fields__, "client_days", "windows", "nps")
"""By what can be sorted, and compared with a number."""
OPEN_END: Final = 2**30
"""In minutes since 1970: never."""
MAX_FILTERS = 50
MAX_TEXT = 1_000

_SYNTAX = re.compile(r"([A-Za-z0-9_.]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": 1, "h": 60, "d": 1_440}
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_BOUNDS = (">=", "<=", ">", "<")


class CannotAsk(ValueError):
    """A question that makes no sense; the text names the parameter and what is allowed."""


class Filter(NamedTuple):
    """One condition: a key that matches a pattern, or a figure beyond a number."""

    field: str
    operator: str
    wanted: str

    def number(self) -> Decimal:
        """What a figure is compared with."""
        return Decimal(self.wanted)


class Question(NamedTuple):
    """A checked question."""

    window: str = "1d"
    dimension: str = "channel"
    since: int = 0
    """Windows that start at or after this minute since 1970 …"""
    until: int = OPEN_END
    """… and before this one."""
    currency: str = ""
    """Empty: every currency."""
    filters: tuple[Filter, ...] = ()
    by_window: bool = False
    """One row for each window, instead of all summed up."""
    sort: str = ""
    descending: bool = False
    limit: int = 0
    """0: all."""
    format: Format = "json"

    @property
    def kind(self) -> int:
        """The window's number."""
        return NAMES.index(self.window)

    def admits(self, keys: Mapping[str, str]) -> bool:
        """Whether a counter's keys pass the filters on keys: any of several of one field, all fields."""
        wanted: dict[str, bool] = {}
        for condition in self.filters:
            if condition.field not in keys or condition.operator in _BOUNDS:
                continue
            matches = _matches(condition.wanted, keys[condition.field])
            if condition.operator == "!=":
                if matches:
                    return False
            else:
                wanted[condition.field] = wanted.get(condition.field, False) or matches
        return all(wanted.values())

    @property
    def bounds(self) -> tuple[Filter, ...]:
        """The filters on figures."""
        return tuple(condition for condition in self.filters if condition.operator in _BOUNDS)


def ask(parameters: Iterable[tuple[str, str]], windows: Windows, now_minute: int) -> Question:
    """The question that parameters put: window, dimension, from, to, currency, by=window, sort, limit, format, filter
    (any number), and a name of the dimension's keys for a filter by it. `from` and `to` are a day of the property's
    zone, an RFC 3339 time, or so long before `now_minute` (`90m`, `24h`, `7d`). Raises CannotAsk."""
    plain: dict[str, str] = {}
    filters: list[str] = []
    for name, value in parameters:
        if len(value) > MAX_TEXT:
            raise CannotAsk(f"{name}: at most {MAX_TEXT} characters")
        if name == "filter":
            filters.append(value)
        elif name in {"window", "dimension", "from", "to", "currency", "by", "sort", "limit", "format"}:
            plain[name] = value
        else:
            filters.append(f"{name}={value}")
    if len(filters) > MAX_FILTERS:
        raise CannotAsk(f"filter: at most {MAX_FILTERS}")
    window = _one_of("window", plain.get("window", "1d"), NAMES)
    dimension = plain.get("dimension", "channel")
    if not is_shown(dimension):
        raise CannotAsk(f"dimension: allowed are {', '.join(SHOWN)}")
    since = _moment("from", plain.get("from", ""), windows, now_minute, 0)
    until = _moment("to", plain.get("to", ""), windows, now_minute, OPEN_END)
    if since >= until:
        raise CannotAsk("to: must be after from")
    sort = plain.get("sort", "")
    checked = tuple(_filter(text, dimension) for text in filters)
    return Question(
        window,
        dimension,
        since,
        until,
        _currency(plain.get("currency", "")),
        checked,
        _one_of("by", plain.get("by", ""), ("", "window")) == "window",
        _one_of("sort", sort.removeprefix("-"), ("", "window_start", "currency", *fields_of(dimension), *FIGURES)),
        sort.startswith("-"),
        _limit(plain.get("limit", "0")),
        "csv" if _one_of("format", plain.get("format", "json"), ("json", "csv")) == "csv" else "json",
    )


def _filter(text: str, dimension: str) -> Filter:
    found = _SYNTAX.fullmatch(text)
    if found is None:
        raise CannotAsk(f"filter: {_shown(text)} is not as channel=Paid*, channel!=Direct or leads>=5")
    condition = Filter(*found.groups())
    names = fields_of(dimension)
    if condition.operator in _BOUNDS:
        if condition.field not in FIGURES:
            raise CannotAsk(f"filter: {condition.field} is no figure; there are {', '.join(FIGURES)}")
        try:
            if condition.number().is_finite():
                return condition
        except InvalidOperation:
            pass
        raise CannotAsk(f"filter: {condition.field} is compared with a number")
    if condition.field not in names:
        known = f"its keys are {', '.join(names)}" if names else "it has no keys"
        raise CannotAsk(f"filter: {condition.field} is no key of the dimension {dimension}; {known}")
    return condition


def _moment(name: str, text: str, windows: Windows, now_minute: int, default: int) -> int:
    text = text.strip()
    if not text:
        return default
    if ago := _AGO.fullmatch(text):
        return max(0, now_minute - int(ago[1]) * _UNITS[ago[2]])
    try:
        if date := _DATE.fullmatch(text):
            return windows.of_day(int(date[1]), int(date[2]), int(date[3]))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp() * 1_000) // MINUTE_MS
    except (ValueError, OverflowError):
        pass
    raise CannotAsk(f"{name}: {_shown(text)} is no time; allowed: 2026-01-31, 2026-01-31T12:00:00Z, 90m, 24h or 7d ago")


def _one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise CannotAsk(f"{name}: {_shown(value)} is not one of {', '.join(a for a in allowed if a)}")
    return value


def _currency(code: str) -> str:
    try:
        return check_currency(code.strip()) if code.strip() else ""
    except Refused as refused:
        raise CannotAsk(refused.detail) from None


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise CannotAsk(f"limit: {_shown(text)} is no whole number")
    return int(text)


def _shown(text: str) -> str:
    return f'"{text[:100]}"'


_patterns: dict[str, Any] = {}


def _matches(pattern: str, text: str) -> bool:
    """Letter case does not matter; `*` stands for anything."""
    found = _patterns.get(pattern)
    if found is None:
        if len(_patterns) >= 1_000:
            _patterns.clear()
        escaped = re.sub(r"[\[?]", lambda special: f"[{special[0]}]", pattern)
        found = _patterns[pattern] = re.compile(translate(escaped), re.IGNORECASE)
    return found.match(text) is not None


__all__ = ["AMOUNTS", "FIGURES", "CannotAsk", "Filter", "Format", "Question", "ask"]
