"""Tables of referral programmes since they began: what can be asked, and in which order rows are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from stream_app.domain.counters.questions import CannotAsk
from stream_app.domain.errors import Refused
from stream_app.domain.money import check_currency
from stream_app.domain.referral.counting import FIELDS, SUMS, Cohorts, ReferralCounts, ReferralRates

COUNTS: Final = ReferralCounts.__struct_fields__
MOST_ROWS = 10_000


class Row(msgspec.Struct):
    """One programme, or one code, kind of advocate or level in it."""

    dimension: str
    keys: dict[str, str]
    counts: ReferralCounts
    sums: dict[str, dict[str, str]]
    """By currency."""
    rates: ReferralRates
    cohorts: dict[str, Cohorts]
    """By currency; of programmes only."""


class Question(NamedTuple):
    """A checked question."""

    dimension: str = "program"
    program: str = ""
    """Only this one; empty: all."""
    currency: str = ""
    """Of the amounts that are sorted by."""
    sort: str = "earned"
    """A count or an amount: the largest first."""
    limit: int = 100


def ask(parameters: Iterable[tuple[str, str]], currency: str) -> Question:
    """What the parameters of an address ask for; `currency` is the base currency. Raises `CannotAsk`."""
    question = Question(currency=currency)
    for name, value in parameters:
        match name:
            case "dimension" if value in FIELDS:
                question = question._replace(dimension=value)
            case "dimension":
                raise CannotAsk(f'dimension: "{value[:100]}" is not one of {", ".join(FIELDS)}')
            case "program":
                question = question._replace(program=value)
            case "currency":
                try:
                    question = question._replace(currency=check_currency(value))
                except Refused as refused:
                    raise CannotAsk(refused.detail) from None
            case "sort" if value.removeprefix("-") in (*COUNTS, *SUMS):
                question = question._replace(sort=value.removeprefix("-"))
            case "sort":
                raise CannotAsk(f'sort: "{value[:100]}" is not one of {", ".join((*COUNTS, *SUMS))}')
            case "limit":
                if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST_ROWS):
                    raise CannotAsk(f'limit: "{value[:100]}" is no whole number from 1 to {MOST_ROWS}')
                question = question._replace(limit=int(value))
            case _:
                known = "dimension, program, currency, sort, limit"
                raise CannotAsk(f'"{name[:100]}" is not known; allowed: {known}')
    return question


def in_order(rows: Iterable[Row], question: Question) -> Sequence[Row]:
    """The largest first, cut off as asked; equal ones by their keys."""

    def place(row: Row) -> tuple[Decimal, list[str]]:
        if question.sort in COUNTS:
            figure = Decimal(getattr(row.counts, question.sort))
        else:
            figure = Decimal(row.sums.get(question.currency, {}).get(question.sort, 0))
        return -figure, list(row.keys.values())

    return sorted(rows, key=place)[: question.limit]
