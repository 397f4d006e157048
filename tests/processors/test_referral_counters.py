"""Figures of referral programmes, one commit after another."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any, cast

from stream_app.domain.counters.windows import Windows
from stream_app.domain.referral.counting import Change, Delta, Figures
from stream_app.processors.referral_counters import ReferralCountersProcessor, combine
from tests.processors.harness import MINUTE, T0, DictRows


class Commit:
    """What a fold sees of a commit, and what it wrote."""

    now = T0
    revision = 1

    def __init__(self, rows: DictRows) -> None:
        self.rows = rows
        self.written: dict[str, dict[str, Any]] = {}
        self.gathered: dict[Any, Any] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.forwarded: list[tuple[bytes, bytes]] = []

    def emit(self, _topic: str, _key: bytes, value: bytes | None) -> None:
        record = json.loads(value or b"{}")
        self.written[record["currency"]] = record

    def gather(self, _kind: str) -> dict[Any, Any]:
        return self.gathered

    def forward(self, _kind: str, key: bytes, value: bytes) -> None:
        self.forwarded.append((key, value))

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.counts[name, label] += n


def test_codes_that_find_no_place_count_together_for_ever() -> None:
    """Four values on two partitions: a task takes two of a dimension, and of programmes whatever there are."""
    counters = ReferralCountersProcessor(
        Windows("UTC"), base_currency="EUR", rules_version="test", values=4, partitions=2
    )
    rows = DictRows()
    states: dict[bytes, Any] = {}
    invites: Counter[tuple[str, ...]] = Counter()
    overflows = 0
    codes = [("code", ("friends", code)) for code in ("a", "b", "c", "d", "a", "c")]
    for place in [*codes, *(("program", (name,)) for name in ("friends", "p", "q"))]:
        arriving = [Delta(*place, (Change(T0 // MINUTE, Figures({"invites": 1}, {"EUR": {"paid": Decimal(2)}})),))]
        for _ in range(2):
            commit = Commit(rows)
            for delta in arriving:
                key = counters.key_of(delta)
                states[key] = counters.fold(key, states.get(key), [delta], cast(Any, commit))
            combine(commit.gathered, cast(Any, commit))
            arriving = [counters.decoder("")(key, value, 0) for key, value in commit.forwarded]
            overflows += commit.counts["referral_overflow", "code"]
        assert not arriving, "what was sent on has a place"
    for state in states.values():
        if state is not None:
            invites[state.keys] = state.total.counts["invites"]
            assert state.total.sums["EUR"]["paid"] == 2 * invites[state.keys]
    assert invites == {
        ("friends", "a"): 2, ("friends", "b"): 1, ("friends", "(other)"): 3, ("friends",): 1, ("p",): 1, ("q",): 1,
    }  # fmt: skip
    assert overflows == 3


def test_a_new_customer_changes_what_one_has_brought_in_every_currency() -> None:
    counters = ReferralCountersProcessor(
        Windows("UTC"), base_currency="EUR", rules_version="test", values=4, partitions=2
    )
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


def test_a_window_that_came_to_nothing_is_gone_whoever_is_enrolled() -> None:
    """Users stand in what is there already: they keep no window alive, else it would depend on the order of arrival
    which windows there are (semantics 20)."""

    class Topic(Commit):
        def emit(self, _topic: str, key: bytes, value: bytes | None) -> None:
            if value is None:
                topic.pop(key, None)
            else:
                topic[key] = json.loads(value)

    topic: dict[bytes, dict[str, Any]] = {}
    counters = ReferralCountersProcessor(
        Windows("UTC"), base_currency="EUR", rules_version="test", values=4, partitions=2
    )
    rows, state = DictRows(), None
    minute = T0 // MINUTE
    for name, n, at in (("users", 1, minute), ("referred", 1, minute + 3), ("visits", 1, minute + 9)):
        delta = Delta("program", ("friends",), (Change(at, Figures({name: n})),))
        state = counters.fold(counters.key_of(delta), state, [delta], cast(Any, Topic(rows)))
    delta = Delta("program", ("friends",), (Change(minute + 3, Figures({"referred": -1})),))
    state = counters.fold(counters.key_of(delta), state, [delta], cast(Any, Topic(rows)))
    assert [record["counts"]["visits"] for record in topic.values()] == [1, 1, 1, 1]
    delta = Delta("program", ("friends",), (Change(minute + 9, Figures({"visits": -1})),))
    state = counters.fold(counters.key_of(delta), state, [delta], cast(Any, Topic(rows)))
    assert [(record["window"], record["counts"]["users"]) for record in topic.values()] == [("total", 1)]
    delta = Delta("program", ("friends",), (Change(minute, Figures({"users": -1})),))
    counters.fold(counters.key_of(delta), state, [delta], cast(Any, Topic(rows)))
    assert not topic
