"""Figures of referral programmes, one commit after another."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, cast

from stream_app.domain.counters.windows import Windows
from stream_app.domain.referral.counting import Change, Delta, Figures
from stream_app.processors.referral_counters import ReferralCountersProcessor
from tests.processors.harness import T0, DictRows


class Commit:
    """What a fold sees of a commit, and what it wrote."""

    now = T0
    revision = 1

    def __init__(self, rows: DictRows) -> None:
        self.rows = rows
        self.written: dict[str, dict[str, Any]] = {}

    def emit(self, _topic: str, _key: bytes, value: bytes | None) -> None:
        record = json.loads(value or b"{}")
        self.written[record["currency"]] = record


def test_a_new_customer_changes_what_one_has_brought_in_every_currency() -> None:
    counters = ReferralCountersProcessor(Windows("UTC"), base_currency="EUR", rules_version="test")
    rows = DictRows()
    state = None
    for counts, sums in (
        ({"customers": 1}, {"USD": {"revenue": Decimal("90.01")}}),
        ({"customers": 1}, {"EUR": {"revenue": Decimal(5)}}),
    ):
        commit = Commit(rows)
        delta = Delta("program", ("friends",), (Change(0, Figures(dict(counts), dict(sums))),))
        state = counters.fold(counters.key_of(delta), state, [delta], cast(Any, commit))
    assert commit.written.keys() == {"EUR", "USD"}
    other = commit.written["USD"]["cohorts"]["other"]
    assert (other["customers"], other["revenue"], other["revenue_per_customer"]) == (2, "90.01", "45.01")
    assert not rows.rows, "customers stand in the total only"
