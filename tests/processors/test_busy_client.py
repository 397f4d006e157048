"""A client with 100,000 events in a day: a program that nobody recognised as one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.processors.harness import DAY, T0, Run, processor

EVENTS = 100_000
SIZE = 100
"""Events a commit: at the default hundred milliseconds that would be a thousand a second."""


def batches() -> Iterator[list[tuple[str, bytes, int]]]:
    """Page views every 864 ms, with a user, a tagged one now and then, some late by minutes, a purchase an hour."""
    batch: list[tuple[str, bytes, int]] = []
    for n in range(EVENTS):
        at = T0 + n * DAY // EVENTS
        late = 300_000 if n % 50 == 0 else 0
        record = {"event_id": f"e{n}", "client_id": "busy", "occurred_at": at - late, "user_id": "u"}
        if n % 4_000 == 0:
            record |= {"goal": "purchase", "value": "9.90", "order_id": f"o{n}"}
            batch.append(("conversions", json.dumps(record).encode(), at))
        else:
            tags = f"?utm_source=s{n // 500}&utm_medium=cpc" if n % 500 == 0 else ""
            record |= {"url": f"https://shop.example.com/p{n % 9}{tags}", "referrer": "https://shop.example.com/"}
            batch.append(("clicks", json.dumps(record).encode(), at))
        if len(batch) == SIZE:
            yield batch
            batch = []


@pytest.mark.slow
def test_a_client_with_100_000_events_in_a_day_stays_bounded(record_property: pytest.RecordProperty) -> None:
    """Its state, what a commit writes of it, and what its person and orders keep. Times are shown, not judged."""
    run = Run(processor())
    largest = written = heads = 0
    began = time.process_time()
    for batch in batches():
        before = run.rows.written
        run.commit(batch, hops=run.pending)
        written = max(written, run.rows.written - before + len(run.saved[b"busy"]))
        heads += len(run.saved[b"busy"])
        if run.revision % 50 == 0:
            rows = sum(len(value) for value in run.rows.rows.values())
            largest = max(largest, rows + len(run.saved[b"busy"]))
    spent = time.process_time() - began
    run.finish()
    figures = {
        "state_bytes_at_most": largest,
        "bytes_a_commit_at_most": written,
        "bytes_an_event": (run.rows.written + heads) // EVENTS,
        "person_bytes": len(run.parts[1].saved[b"u"]),
        "us_an_event": round(spent / EVENTS * 1e6, 1),
    }
    for name, figure in figures.items():
        record_property(name, figure)
    print(figures)
    assert largest < 1_500_000
    assert written < 80_000
    assert figures["bytes_an_event"] < 600
    assert figures["person_bytes"] < 20_000
    assert len(run.conversions) == EVENTS // 4_000
    assert sum(session["events"] for session in run.sessions) == EVENTS
    assert max(session["events"] for session in run.sessions) == 1_000
    assert run.counts["client_caps"] == 0
