"""What must hold for every life of a lead: late, repeated, reopened, contradictory; facts that come, go and move."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.domain import lead_life, leads
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.lead_events import STATUSES, LeadFact
from stream_app.domain.sources.model import Source
from tests.processors.lead_harness import GRACE, LeadRun, Sent, answer, cells, fact, update
from tests.processors.lead_reference import comparable, lead_of

pytestmark = pytest.mark.slow

T0 = 1_700_000_000_000
HISTORIES = int(os.environ.get("HISTORIES", "300"))
"""How many lives to try: HISTORIES=10000 for a thorough run."""
MINUTE = 60_000
TIMES = (0, 0, 1, 500, MINUTE, 2 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE, 400 * 24 * 60 * MINUTE)
LEADS = ("a", "b")
SOURCES = (
    Source("google", "cpc", "Lenses", channel="Paid Search", arrival="tagged"),
    Source("news", "email", "weekly", channel="Email", arrival="tagged"),
    NOT_DETERMINED,
)


def came_from(client: str, at: int) -> Source | None:
    """What journeys would say: a client that came once, from one campaign."""
    return SOURCES[0] if client == "c1" and at >= T0 + 2 * MINUTE else None


@st.composite
def updates(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of a CRM, with the time they take to arrive in `delay`; some come twice, some contradict themselves."""
    result: list[dict[str, Any]] = []
    for index in range(draw(st.integers(0, 9))):
        record: dict[str, Any] = {
            "event_id": f"{draw(st.integers(0, 9))}{index}",
            "occurred_at": T0 + draw(st.sampled_from(TIMES)),
            "status": draw(st.sampled_from((*STATUSES, "won", "refused", "won"))),
        }
        for name, values in FIELDS.items():
            value = draw(st.sampled_from(values))
            if value is not None:
                record[name] = value
        delay = draw(st.sampled_from((0, 0, GRACE, GRACE + 1, 90 * 24 * GRACE)))
        result.append({**record, "delay": delay, "late": delay > GRACE, "lead": draw(st.sampled_from(LEADS))})
        again = draw(st.sampled_from(("", "", "", "same", "other time")))
        if again == "same":
            result.append(result[-1])
        elif again:
            later = draw(st.sampled_from((0, GRACE + 1)))
            moved = record["occurred_at"] + draw(st.sampled_from((-7, 7)))
            result.append(
                {**result[-1], "occurred_at": moved, "status": "refused", "delay": later, "late": later > GRACE}
            )
    return result


FIELDS: dict[str, tuple[Any, ...]] = {
    "qualification": (None, None, "mql", "sql"),
    "owner": (None, None, "Ann", "Bob"),
    "reason": (None, None, None, "price", "no answer"),
    "revenue": (None, None, None, "100.10", 250, "0"),
    "profit": (None, None, None, "40", "-3.5"),
    "currency": (None, None, "USD"),
    "contact_id": (None, None, "k1", "k2"),
    "client_id": (None, None, "c1", "c2"),
    "source": (None, None, None, "fair"),
}


@st.composite
def told(draw: st.DrawFn) -> list[list[tuple[str, LeadFact | None]]]:
    """For each conversion what is told of it, in this order: (lead, fact), again with another source, taken back, or
    taken back there and told to another lead."""
    result = []
    for index in range(draw(st.integers(0, 3))):
        at = T0 + draw(st.sampled_from(TIMES))
        letters: list[tuple[str, LeadFact | None]] = []
        lead = draw(st.sampled_from(LEADS))
        for step in draw(st.lists(st.sampled_from(("tell", "back", "move")), min_size=1, max_size=3)):
            source = draw(st.sampled_from(SOURCES))
            body = LeadFact(at, f"v{index}", f"c{index}", "lead_form", source, (("geo", "LV"),) if index else ())
            if step == "tell":
                letters.append((lead, body))
            elif step == "back":
                letters.append((lead, None))
            else:
                letters.append((lead, None))
                lead = "b" if lead == "a" else "a"
                letters.append((lead, body))
        result.append(letters)
    return result


def sent(one: dict[str, Any]) -> Sent:
    record = {name: value for name, value in one.items() if name not in {"delay", "late", "lead"}}
    return update(one["lead"], record, one["occurred_at"] + one["delay"])


@st.composite
def arrivals(draw: st.DrawFn, crm: list[dict[str, Any]], facts: list[list[tuple[str, LeadFact | None]]]) -> list[Sent]:
    """Any order at all, but that letters about one conversion come as they were sent."""
    queues = [[sent(one)] for one in crm]
    queues += [[fact(lead, f"f{index}", body) for lead, body in letters] for index, letters in enumerate(facts)]
    result = []
    while queues:
        queue = draw(st.sampled_from(queues))
        result.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return result


def run(batches: list[list[Sent]], *, drop_cache: bool = False) -> LeadRun:
    """The commits, then answers to what is asked, until nothing new is. As journeys does, not to say that it does not
    know."""
    result = LeadRun(drop_cache=drop_cache)
    for batch in batches:
        result.commit(batch)
    for _ in range(3):
        replies = []
        for lead_id, question in result.open_questions().items():
            source = came_from(question.client_id, question.at)
            if source is not None:
                replies.append(answer(lead_id, LeadFact(question.at, "", question.client_id, "", source)))
        result.commit(replies)
    return result


def expected(crm: list[dict[str, Any]], facts: list[list[tuple[str, LeadFact | None]]]) -> tuple[Any, Any]:
    records, counts = {}, {}
    for lead_id in LEADS:
        mine = [
            body
            for letters in facts
            if (body := next((body for lead, body in reversed(letters) if lead == lead_id), None)) is not None
        ]
        found = lead_of(lead_id, [one for one in crm if one["lead"] == lead_id], mine, came_from)
        if found is not None:
            records[lead_id] = found[0]
            for cell, amount in found[1].items():
                counts[cell] = counts.get(cell, Decimal(0)) + amount
    return records, {cell: amount for cell, amount in counts.items() if amount}


@given(st.data())
@settings(max_examples=HISTORIES, deadline=None)
def test_any_order_and_any_split_give_what_one_look_at_everything_gives(data: st.DataObject) -> None:
    """Records and every counter's sum, to the second and the cent, with or without a warm cache."""
    crm, facts = data.draw(updates()), data.draw(told())
    arrived = data.draw(arrivals(crm, facts))
    batches: list[list[Sent]] = [[]]
    for one in arrived:
        if data.draw(st.booleans()):
            batches.append([])
        batches[-1].append(one)
    result = run(batches, drop_cache=data.draw(st.booleans()))
    records, counts = expected(crm, facts)
    assert {name: comparable(record) for name, record in result.truth.items()} == records
    assert result.counted == counts
    assert result.rejected == []
    by_status = {label: n for (name, label), n in result.counts.items() if name == "leads" and n}
    statuses = [record["status"] for record in records.values()]
    assert by_status == {status: statuses.count(status) for status in set(statuses)}


@given(st.data())
@settings(max_examples=HISTORIES // 3, deadline=None)
def test_an_answer_may_come_at_any_time_and_be_revised(data: st.DataObject) -> None:
    """Early, late, wrong at first, or for a question that is not asked any more: the last one asked for counts."""
    crm = data.draw(updates())
    arrived = data.draw(arrivals(crm, []))
    result = LeadRun()
    misled: dict[str, Any] = {}
    for one in arrived:
        result.commit([one])
        for lead_id, question in result.open_questions().items():
            if data.draw(st.booleans()):
                wrong = LeadFact(question.at, "", question.client_id, "", data.draw(st.sampled_from(SOURCES)))
                result.commit([answer(lead_id, wrong)])
                misled[lead_id] = question
    for lead_id, question in result.open_questions().items():
        source = came_from(question.client_id, question.at)
        if source is None and misled.get(lead_id) != question:
            continue  # an answer to an earlier question, if any, must not count
        body = None if source is None else LeadFact(question.at, "", question.client_id, "", source)
        result.commit([answer(lead_id, body)])
    records, counts = expected(crm, [])
    assert {name: comparable(record) for name, record in result.truth.items()} == records
    assert result.counted == counts


@given(st.data())
@settings(max_examples=HISTORIES // 3, deadline=None)
def test_a_crowded_lead_is_bounded_says_so_and_counts_what_it_shows(data: st.DataObject) -> None:
    """With room for three updates and four statuses: in order, nothing is lost but old history; what was counted and
    has settled stays counted."""
    crm = [one for one in data.draw(updates()) if not one["late"]]
    crm = sorted({one["event_id"]: one for one in crm}.values(), key=lambda one: (one["occurred_at"], one["event_id"]))
    with _bounds(updates=3, settle=2, history=4):
        result = run([[sent(one)] for one in crm], drop_cache=data.draw(st.booleans()))
        records, counts = expected(crm, [])
        for lead_id, record in result.truth.items():
            wanted = records[lead_id]
            mine = [one for one in crm if one["lead"] == lead_id]
            assert record["truncated"] == (len(mine) > 3 or len(wanted["history"]) > 4)
            assert len(record["history"]) <= 4
            assert record["history"][-3:] == wanted["history"][-3:]
            same = ("status", "revenue", "profit", "currency", "refusals", "reopened", "created_at", "owner",
                    "qualification", "time_to_contact_s", "time_to_close_s", "contact_id")  # fmt: skip
            assert {name: record[name] for name in same} == {name: wanted[name] for name in same}
            state = result.processor.load(b"", 1, result.saved[lead_id.encode()], result.rows)
            assert len(state.updates) <= 3
            assert len(state.settled.entries if state.settled else ()) <= 4
        assert _without_places(result.counted) == _without_places(counts)


@given(st.data())
@settings(max_examples=HISTORIES // 3, deadline=None)
def test_what_is_remembered_as_counted_is_what_was_counted(data: st.DataObject) -> None:
    """The sum of all differences is what the state says it has counted, at every moment."""
    result = LeadRun(drop_cache=True)
    for one in data.draw(arrivals(data.draw(updates()), data.draw(told()))):
        result.commit([one])
        remembered: dict[Any, Decimal] = {}
        for payload in result.saved.values():
            for cell, amount in cells(result.processor.load(b"", 1, payload, result.rows).counted).items():
                remembered[cell] = remembered.get(cell, Decimal(0)) + amount
        assert result.counted == {cell: amount for cell, amount in remembered.items() if amount}


def _without_places(counts: dict[Any, Decimal]) -> dict[Any, Decimal]:
    """By name, currency and minute only: a crowded lead's source, owner and reasons are frozen as they were."""
    found: dict[Any, Decimal] = {}
    for (_, _, _, minute, name, currency, _, _), amount in counts.items():
        found[minute, name, currency] = found.get((minute, name, currency), Decimal(0)) + amount
    return {key: amount for key, amount in found.items() if amount}


class _bounds:  # noqa: N801  # reads as a function
    def __init__(self, *, updates: int, settle: int, history: int) -> None:
        self._values = {
            (leads, "MAX_UPDATES"): updates,
            (leads, "SETTLE"): settle,
            (lead_life, "MAX_HISTORY"): history,
        }

    def __enter__(self) -> None:
        self._before = {(module, name): getattr(module, name) for module, name in self._values}
        for (module, name), value in self._values.items():
            setattr(module, name, value)

    def __exit__(self, *_: object) -> None:
        for (module, name), value in self._before.items():
            setattr(module, name, value)
