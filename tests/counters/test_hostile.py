"""A million hostile campaign names, in small: `python -m tests.counters.hostile` is the whole."""

from __future__ import annotations

from pathlib import Path

from tests.counters.hostile import RATE, run

NAMES, PLACES = 6_000, 200


def test_state_topic_and_metrics_are_bounded_and_sums_right_whatever_names_come(tmp_path: Path) -> None:
    """As many counters as there are places and one more, in every window; together they are all sessions."""
    found = run(NAMES, PLACES, tmp_path)
    assert set(found["sessions"].values()) == {NAMES}
    for name, keys in found["keys_in_the_largest_window"].items():
        assert keys == (PLACES + 1 if name.startswith("campaign") else 1), name
    minutes = NAMES // (60 * RATE) + 1
    assert found["records_in_the_compacted_topic"] <= (minutes + 3) * (PLACES + 1 + 4)
    assert sum(found["overflow"].values()) >= 4 * (NAMES - PLACES)
    assert found["metric_series"] < 60
