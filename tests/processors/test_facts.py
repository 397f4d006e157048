"""What others are told of journeys, and what counters count of them, follows the truth (decision 0012)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.domain.client import Client, Frozen
from stream_app.domain.hits import Hit
from stream_app.domain.journey import Session
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.domain.rules import Goal, JourneyRules
from stream_app.engine.processor import Context
from stream_app.processors.facts import Fact, Letter, Teller, encode_body
from tests.processors.harness import DAY, MINUTE, T0, Run, click, conversion, processor
from tests.processors.histories import arrivals, commits, histories
from tests.processors.test_journeys_properties import HISTORIES

decode = msgspec.msgpack.Decoder(Letter[Any]).decode


class Leads(Teller):
    """Tells the lead of a conversion, and the user of a session, what they are about."""

    def session(self, client_id: str, client: Client, session: Session, record: AttributedSession) -> Iterable[Fact]:
        if record.user_id is not None:
            yield Fact("visit", record.user_id.encode(), encode_body([client_id, record.status, record.channel]))

    def conversion(
        self, client_id: str, client: Client, frozen: Frozen, record: AttributedConversion
    ) -> Iterable[Fact]:
        if record.lead_id is not None:
            yield Fact("lead", record.lead_id.encode(), encode_body([record.path, record.refunded_value]))
        yield Fact("goal", record.goal.encode(), encode_body([record.event_id, record.refunded_value]))


class Sums:
    """Counts records by kind, and remembers with the client how many it has."""

    def session(self, client_id: str, client: Client, session: Session, record: AttributedSession) -> bytes:
        return f"session {record.channel} {record.status}".encode()

    def conversion(self, client_id: str, client: Client, frozen: Frozen, record: AttributedConversion) -> bytes:
        return f"conversion {record.goal} {record.path} {record.refunded_value}".encode()

    def move(self, before: bytes, after: bytes, counts: bytes, context: Context[Hit], held: int = 0) -> bytes:
        sums = context.gather("sums")
        for what, sign in ((before, -1), (after, 1)):
            if what:
                sums[what] = sums.get(what, 0) + sign
        return b"%d" % (int(counts or b"0") + bool(after) - bool(before))

    def bot(self, hit: Hit, context: Context[Hit]) -> None:
        context.gather("sums")["bot"] = context.gather("sums").get("bot", 0) + 1


RULES = JourneyRules(goals=(Goal("lead_form", kind="lead"),))
PROCESSOR = processor(RULES, tellers=[Leads()], counter=Sums())


def letters(run: Run) -> dict[tuple[str, str, str], Any]:
    """What all receivers know in the end."""
    known = {}
    for kind, key, value in run.forwards:
        letter = decode(value)
        if kind in {"visit", "lead", "goal"}:
            known[kind, key.decode(), letter.id] = letter.body
    return {address: body for address, body in known.items() if body is not None}


def facts(run: Run) -> dict[tuple[str, str, str], Any]:
    """What they should know, from the records."""
    found: dict[tuple[str, str, str], Any] = {}
    for record in run.sessions:
        if record["user_id"]:
            found["visit", record["user_id"], record["id"]] = [
                record["client_id"], record["status"], record["channel"],
            ]  # fmt: skip
    for record in run.conversions:
        if record["lead_id"]:
            found["lead", record["lead_id"], record["id"]] = [record["path"], record["refunded_value"]]
        found["goal", record["goal"], record["id"]] = [record["event_id"], record["refunded_value"]]
    return found


def sums(run: Run) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for record in run.sessions:
        what = f"session {record['channel']} {record['status']}".encode()
        found[what] = found.get(what, 0) + 1
    for record in run.conversions:
        what = f"conversion {record['goal']} {record['path']} {record['refunded_value']}".encode()
        found[what] = found.get(what, 0) + 1
    return found


@given(st.data())
@settings(max_examples=HISTORIES, deadline=None)
def test_what_is_told_and_counted_is_what_is_published(data: st.DataObject) -> None:
    """For any history in any order and any commits: facts at old addresses are taken back, sums are those of the last
    revisions; refunds of settled orders included."""
    result = Run(PROCESSOR, drop_cache=data.draw(st.booleans()))
    for batch in data.draw(commits(data.draw(arrivals(data.draw(histories()))))):
        result.commit(batch)
    result.finish()
    assert letters(result) == facts(result)
    counted = {what: n for what, n in result.gathered.get("sums", {}).items() if n and what != "bot"}
    assert counted == sums(result)


def told(run: Run) -> list[tuple[str, bytes, Any]]:
    return [(kind, key, decode(value).body) for kind, key, value in run.forwards if kind in {"lead", "goal"}]


def test_a_fact_is_told_once_and_told_again_when_it_changes() -> None:
    """A refund months later changes it; the same record twice does not."""
    result = Run(PROCESSOR, drop_cache=True)
    result.commit([click(0, "a"), conversion(1, "b", goal="lead_form", value=9, order_id="o", lead_id="l")])
    assert [(kind, key) for kind, key, _ in told(result)] == [("lead", b"l"), ("goal", b"lead_form")]
    result.commit([click(DAY, "c"), conversion(1, "b", goal="lead_form", value=9, order_id="o", lead_id="l")])
    assert len(told(result)) == 2
    result.commit([conversion(90 * DAY, "r", goal="lead_form", kind="refund", order_id="o", value=4)])
    assert [body for _, _, body in told(result)[2:]] == [["Direct", "4.00"], ["b", "4.00"]]


def test_a_fact_that_moves_to_another_key_is_taken_back_at_the_old_one() -> None:
    """An earlier claim to the conversion's id names another lead."""
    result = Run(PROCESSOR)
    result.commit([conversion(5 * MINUTE, "b", lead_id="l1")])
    topic, record, _ = conversion(0, "b", lead_id="l2")
    result.commit([(topic, record, T0 + 6 * MINUTE)])
    assert [(key, decode(value).body) for kind, key, value in result.forwards if kind == "lead"] == [
        (b"l1", ["", None]),
        (b"l2", ["", None]),
        (b"l1", None),
    ]


def test_what_only_others_see_makes_a_revision_too() -> None:
    """Two claims to one conversion that differ in their profit: the smaller content stands, whoever came first."""
    claims = [conversion(0, "b", value=5, profit=profit, segment={"geo": "LV"}) for profit in ("1", "2")]
    told = []
    for first, second in (claims, claims[::-1]):
        seen: list[Any] = []

        class Profits(Teller):
            def conversion(
                self, client_id: str, client: Client, frozen: Frozen, record: AttributedConversion
            ) -> Iterable[Fact]:
                sale = frozen.hit.sale
                assert sale is not None
                seen.append((sale.profit, sale.segment))  # noqa: B023
                return ()

        result = Run(processor(RULES, tellers=[Profits()]))
        result.commit([first])
        result.commit([second])
        told.append(seen[-1])
    assert told[0] == told[1]
    assert told[0][1] == (("geo", "LV"),)


def test_clicks_of_programs_reach_the_counter() -> None:
    """They leave nothing else behind."""
    result = Run(PROCESSOR)
    result.commit([click(0, "a", user_agent="Googlebot/2.1"), click(0, "b", user_agent="Googlebot/2.1")])
    assert result.gathered == {"sums": {"bot": 2}}
    assert result.saved == {}


def test_what_a_counter_remembers_of_a_client_is_saved_with_it() -> None:
    """And comes back to it when the client does."""
    result = Run(PROCESSOR, drop_cache=True)
    result.commit([click(0, "a"), conversion(1, "b")])
    result.commit([click(DAY, "c")])
    assert PROCESSOR.load(b"c1", 1, result.saved[b"c1"], result.rows).stored.counts == b"3"
