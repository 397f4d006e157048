"""Whatever bytes come for leads and costs: a record that can be worked on, or a reason."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.domain.costs import Cost
from stream_app.domain.lead_events import LeadUpdate
from stream_app.engine.processor import Rejected
from stream_app.processors.readable import cost_document, lead_document
from tests.domain.test_events import JSON
from tests.processors.lead_harness import LeadRun, Sent
from tests.processors.test_costs import COST, Spending

TS = 1_700_000_000_000
UPDATE = {
    "event_id": "u1", "lead_id": "a", "occurred_at": TS, "status": "won", "qualification": "mql", "reason": "price",
    "owner": "Ann", "revenue": "1.5", "profit": -2, "currency": "EUR", "contact_id": "k", "client_id": "c",
    "source": "fair", "medium": "offline", "campaign": "riga",
}  # fmt: skip


@st.composite
def nearly(draw: st.DrawFn, valid: dict[str, Any], fields: tuple[str, ...]) -> bytes:
    """A valid record with something changed: a value, a field left out, a byte."""
    record = dict(valid)
    for field in draw(st.lists(st.sampled_from(fields), max_size=3)):
        record[field] = draw(JSON)
    for field in draw(st.lists(st.sampled_from(fields), max_size=1)):
        record.pop(field, None)
    value = bytearray(json.dumps(record).encode())
    for _ in range(draw(st.integers(0, 2))):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
    return bytes(value)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=100),
            nearly(UPDATE, LeadUpdate.__struct_fields__),
            JSON.map(lambda value: json.dumps(value).encode()),
        ),
        max_size=4,
    )
)
@example([b'{"event_id":"a","lead_id":"a","occurred_at":' + b"9" * 5_000 + b',"status":"won"}'])
@example([json.dumps({**UPDATE, "owner": "\\ud800"}).encode()])
def test_an_update_is_worked_on_or_refused(values: list[bytes]) -> None:
    """What is taken can be folded, saved, loaded, written and shown to people."""
    run = LeadRun(drop_cache=True)
    for value in values:
        try:
            key = run.processor.key_of(run.processor.decoder("lead-updates")(None, value, TS))
        except Rejected:
            continue
        sent: Sent = ("lead-updates", key.decode(), value, TS)
        run.commit([sent])
        shown = lead_document(key, run.processor.load(key, 1, run.saved[key], run.rows))
        assert json.loads(json.dumps(shown))["status"] == run.records[key.decode()]["status"]


@given(
    st.one_of(
        st.binary(max_size=100),
        nearly(COST, Cost.__struct_fields__),
        JSON.map(lambda value: json.dumps(value).encode()),
    )
)
def test_a_row_of_costs_is_worked_on_or_refused(value: bytes) -> None:
    """The same."""
    run = Spending()
    try:
        event = run.processor.decoder("costs")(None, value, TS)
    except Rejected:
        return
    row = run.processor.fold(b"k", None, [event], run)  # type: ignore[arg-type]
    assert row is not None
    loaded = run.processor.load(b"k", 1, run.processor.save(b"k", row, None), None)  # type: ignore[arg-type]
    assert loaded.spend == row.spend == run.counted[0]
    assert json.dumps(cost_document(b"k", loaded))
