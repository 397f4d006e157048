"""Reads the figures of referral programmes of one task as committed: what `/referrals` stands on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from heapq import nsmallest
from typing import Protocol

from stream_app.domain.counters.windows import TOTAL
from stream_app.domain.money import shown
from stream_app.domain.referral.counting import SUMS, cohorts_of, key_of, record_of
from stream_app.domain.referral.tables import COUNTS, Question, Row
from stream_app.engine.rows import HEADER_SIZE, head_key
from stream_app.processors.referral_counters import Head, ReferralCountersProcessor, decode_head

_PAGE = 1_000


class CommittedRows(Protocol):
    """The part of a task's store that is needed."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[bytes]: ...


def find(store: CommittedRows, dimension: str, program: str = "") -> Iterator[Head]:
    """All keys of a dimension, of one programme or of all; in no particular order."""
    prefix = head_key(ReferralCountersProcessor.tag, key_of(dimension, ("",)))  # ends in the separator
    start, stop = prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
    while keys := store.scan(start, stop, _PAGE):
        for key in keys:
            raw = store.get(key)
            if raw is not None:
                head = decode_head(raw[HEADER_SIZE:])
                if not program or head.keys[0] == program:
                    yield head
        start = keys[-1] + b"\x00"


def first_rows(heads: Iterable[Head], question: Question) -> list[Row]:
    """The rows of a task that may be among the first of the table: only they are worth being written out."""
    return [row_of(head) for head in nsmallest(question.limit, heads, key=lambda head: _place(head, question))]


def _place(head: Head, question: Question) -> tuple[Decimal, tuple[str, ...]]:
    name, total = question.sort, head.total
    if name == "users":
        figure = Decimal(sum(head.joined.values()))
    elif name in COUNTS:
        figure = Decimal(total.counts.get(name, 0))
    else:
        figure = total.sums.get(question.currency, {}).get(name, Decimal(0))
    return -figure, head.keys


def row_of(head: Head) -> Row:
    """The figures of one key, since the programme began."""
    users = sum(head.joined.values())
    place = (head.dimension, head.keys)
    record = record_of(place, TOTAL, 0, "", head.total, users, base=True, revision=0, rules_version="")
    assert record.counts is not None  # base
    sums = {
        currency: {name: shown(amounts.get(name, Decimal(0)), currency) for name in SUMS}
        for currency, amounts in sorted(head.total.sums.items())
    }
    cohorts = {currency: cohorts_of(head.total, currency) for currency in sums if head.dimension == "program"}
    return Row(head.dimension, record.keys, record.counts, sums, record.rates, cohorts)
