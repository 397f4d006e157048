"""States that the release before wrote are read by this one (semantics 14)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream_app.domain.client import Stored
from tests.processors.harness import DAY, MINUTE, T0, Run, click, conversion, processor
from tests.processors.reference import reference
from tests.processors.test_facts import Leads, told

WRITTEN = json.loads((Path(__file__).parent / "states" / "v1.json").read_text())
"""States as the first release wrote them, in the middle of visits (`states/write.py`)."""
SHOP = "https://shop.example.com/"
NOW = 40 * DAY


def upgraded(**given: Any) -> Run:
    """A run that begins with these states."""
    run = Run(processor(**given), drop_cache=True)
    part = run.parts[0]
    part.version = 1
    part.saved = {key.encode(): bytes.fromhex(payload) for key, payload in WRITTEN["heads"].items()}
    part.rows.rows = {(key.encode(), number): bytes.fromhex(value) for key, number, value in WRITTEN["rows"]}
    run.now, run.revision = WRITTEN["now"], WRITTEN["revision"]
    return run


def after() -> list[tuple[str, dict[str, Any], int]]:
    """What happens once the new program runs: late events, refunds of old orders, a purchase on another client."""
    late, record, _ = click(NOW - 35 * MINUTE, "late", "anna", url=SHOP + "?gclid=1")
    busy, more, _ = click(NOW - 49 * MINUTE - 5_000, "late", "busy", referrer=SHOP)
    return [
        click(NOW + 1, "d1000", "busy", referrer=SHOP),
        (late, record, T0 + NOW + 2),
        (busy, more, T0 + NOW + 3),
        conversion(NOW + MINUTE, "a9", "anna", kind="refund", order_id="o1", value="15"),
        conversion(NOW + MINUTE, "b2", "cleo", kind="refund", order_id="o2"),
        conversion(NOW + 2 * MINUTE, "b3", "ben", kind="refund", order_id="o2", value="1"),
        conversion(NOW + 3 * MINUTE, "c3", "cleo", value="99", order_id="o4"),
        conversion(NOW + 4 * MINUTE, "d2000", "busy", order_id="o3", value="5"),
        click(NOW + 10 * DAY, "a10", "anna"),
    ]


def test_states_of_the_first_release_are_folded_on_as_if_this_one_had_written_them() -> None:
    """Settled parts, events in rows, open sessions, orders: what comes of them is what the whole history gives."""
    run = upgraded()
    for record in after():
        run.commit([record])
    run.finish()
    history = [(topic, record, ts) for topic, record, ts in WRITTEN["records"]] + after()
    truth, expected = run.truth, reference(run.processor, history)
    assert len(truth["sessions"]) >= 4
    assert len(truth["conversions"]) >= 5
    for topic, records in truth.items():
        for record_id, record in records.items():
            assert record == expected[topic].get(record_id), record_id
    (order,) = [record for record in run.conversions if record["order_id"] == "o1"]
    assert order["refunded_value"] == "15.00"


def test_what_nobody_was_told_is_told_now() -> None:
    """The first release told nobody: what has not settled is told at the client's next event."""
    run = upgraded(tellers=[Leads()])
    run.commit(after()[1:2])
    assert ("goal", b"signup") in [(kind, key) for kind, key, _ in told(run)]
    assert ("goal", b"purchase") in [(kind, key) for kind, key, _ in told(run)]
    kinds = {kind for kind, _, _ in run.forwards}
    assert {"order-claim", "person-link"} <= kinds


@pytest.mark.parametrize("key", sorted(WRITTEN["heads"]))
def test_a_state_that_is_read_and_written_is_not_taken_for_an_old_one_again(key: str) -> None:
    """What this release writes as the version before says by its length that others were told."""
    run = upgraded()
    client = run.parts[0].state(key.encode())
    assert client.anew
    run.saved[key.encode()] = run.processor.save(key.encode(), client, run.rows)
    again = run.parts[0].state(key.encode())
    assert not again.anew
    assert again.stored == client.stored
    assert isinstance(again.stored, Stored)
