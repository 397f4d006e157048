from __future__ import annotations

from collections import Counter
from itertools import islice

import orjson
import pytest

from stream_app.engine.partitioning import partition_of
from stream_app.simulator.faults import Faults
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig

START = 1_767_000_000_000
GRACE = 3_600_000


def make(seed: int, n: int, faults: str) -> list[Record]:
    return list(islice(Traffic(seed, TrafficConfig(start_ms=START, rate=500.0, faults=Faults.parse(faults))), n))


def test_a_list_of_shares_is_read() -> None:
    assert Faults.parse("bad=0.001, too-late=0.2") == Faults(bad=0.001, too_late=0.2)
    assert Faults.parse("") == Faults()
    assert Faults.parse("none").total == 0
    assert Faults.parse("bad=0.1,none").total == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [("wrong=0.1", "unknown fault 'wrong'"), ("bad=x", "number"), ("bad=1.5", "between 0 and 1"),
     ("bad=0.6,late=0.6", "add up")],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Faults.parse(text)


def test_without_faults_every_event_comes_once_and_in_time(seed: int) -> None:
    records = make(seed, 20_000, "none")
    assert all(record.ts - record.occurred_at < 1_000 for record in records)
    assert len({orjson.loads(record.value)["event_id"] for record in records}) == len(records)


def test_duplicates_are_byte_for_byte_the_same(seed: int) -> None:
    records = make(seed, 40_000, "none,duplicates=0.05")
    times = Counter(record.value for record in records)
    assert set(times.values()) == {1, 2}
    assert 1_000 < sum(n == 2 for n in times.values()) < 2_200  # those of the last 30 s are still under way


def test_late_records_stay_within_grace_and_too_late_ones_do_not(seed: int) -> None:
    for fault, low, high in (("late", 60_000, GRACE), ("too_late", 2 * GRACE, 13 * GRACE)):
        delays = [r.ts - r.occurred_at for r in make(seed, 40_000, f"none,{fault}=0.3")]
        held_back = [delay for delay in delays if delay > 1_000]
        assert all(low <= delay < high for delay in held_back)
        assert held_back or fault == "too_late"  # hours of stream would have to pass first


def test_skewed_clocks_are_ahead_by_more_than_is_allowed(seed: int) -> None:
    records = make(seed, 10_000, "none,skew=0.1")
    ahead = [record for record in records if record.occurred_at > record.ts]
    assert len(ahead) == pytest.approx(1_000, rel=0.3)
    assert all(record.occurred_at - record.ts > 5 * 60_000 for record in ahead)


def test_misplaced_records_are_elsewhere_or_without_a_key(seed: int) -> None:
    records = make(seed, 10_000, "none,misplaced=0.1")
    elsewhere = [r for r in records if r.key is None or r.place % 8 != partition_of(r.key, 8)]
    assert len(elsewhere) == pytest.approx(1_000, rel=0.3)
    assert {record.key is None for record in elsewhere} == {True, False}


def test_bad_records_come_on_top_of_the_good_ones(seed: int) -> None:
    """Every kind of bad record turns up, and taking them out leaves a stream that is as good as any."""
    records = make(seed, 20_000, "none,bad=0.05")
    bad = [r for r in records if b'"bad-' in r.value or not r.value.startswith(b"{") or r.key == b"someone-else"]
    assert len(bad) == pytest.approx(1_000, rel=0.3)
    good = [record for record in records if record not in bad]
    assert all(orjson.loads(record.value)["client_id"].encode() == record.key for record in good)
