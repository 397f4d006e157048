"""Leads without a conversion ask journeys where their client came from; journeys answers, and corrects itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.domain import client as clients
from stream_app.domain.journey import Touchpoint
from stream_app.domain.lead_events import LeadFact, Question
from stream_app.domain.persons import Linked, Others
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import SourceRules
from stream_app.engine.processor import Rejected
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.lead_facts import ANSWER, LeadTeller
from stream_app.processors.links import OthersTold
from tests.processors.harness import DAY, HOUR, MINUTE, T0, TABLES, Run, click, conversion, processor
from tests.processors.histories import arrivals, histories

pytestmark = pytest.mark.slow

ADS = "https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign=Lenses"
MAIL = "https://shop.example.com/?utm_source=news&utm_medium=email&utm_campaign=weekly"


def asking(run: Run, lead_id: str, at: int | None, client_id: str = "c1", now: int = 0) -> None:
    """A commit with one question; None: it is taken back."""
    question = None if at is None else Question(client_id, T0 + at)
    ask(run, [(lead_id, client_id, question)], now=now)


def ask(run: Run, questions: list[tuple[str, str, Question | None]], now: int = 0) -> None:
    decode = run.processor.decoder("lead-question")
    told = [
        (client_id.encode(), decode(client_id.encode(), encode_body(Letter(lead_id, question)), 0))
        for lead_id, client_id, question in questions
    ]
    run.commit([], now=now, told=told)


def answers(run: Run) -> dict[str, LeadFact | None]:
    """The last answer each lead got."""
    found: dict[str, LeadFact | None] = {}
    for kind, key, value in run.forwards:
        if kind != "lead-fact":
            continue
        letter = msgspec.msgpack.decode(value, type=Letter[LeadFact])
        if letter.id == ANSWER:
            found[key.decode()] = letter.body
    return found


def campaigns(run: Run) -> dict[str, str | None]:
    return {lead: None if fact is None else fact.source.campaign for lead, fact in answers(run).items()}


def test_the_answer_is_the_last_source_that_is_not_direct_at_that_moment() -> None:
    """Not what came later."""
    run = Run(processor())
    run.commit([click(0, "e1", url=ADS), click(40 * MINUTE, "e2"), click(90 * MINUTE, "e3", url=MAIL)])
    asking(run, "a", 50 * MINUTE)
    asking(run, "b", 90 * MINUTE)
    asking(run, "c", -1)
    assert campaigns(run) == {"a": "Lenses", "b": "weekly"}
    fact = answers(run)["a"]
    assert fact is not None
    assert (fact.at, fact.client_id) == (T0 + 50 * MINUTE, "c1")


def test_a_question_may_come_before_anything_is_known_of_the_client() -> None:
    """The answer follows when the click arrives, and is corrected by one that arrives later still."""
    run = Run(processor(), drop_cache=True)
    asking(run, "a", 10 * MINUTE, now=T0 + 10 * MINUTE)
    assert answers(run) == {}
    run.commit([("clicks", click(5 * MINUTE, "e1", url=ADS)[1], T0 + 20 * MINUTE)])
    assert campaigns(run) == {"a": "Lenses"}
    run.commit([("clicks", click(8 * MINUTE, "e2", url=MAIL)[1], T0 + 30 * MINUTE)])
    assert campaigns(run) == {"a": "weekly"}
    before = len(run.forwards)
    run.commit([click(40 * MINUTE, "e3", url=ADS)])
    assert len(run.forwards) == before


def test_an_answer_changes_when_its_ground_is_gone() -> None:
    """A click that turns out to be a later duplicate of an earlier one."""
    run = Run(processor())
    asking(run, "a", 10 * MINUTE, now=T0 + 10 * MINUTE)
    run.commit([click(9 * MINUTE, "e1", url=ADS)])
    assert campaigns(run) == {"a": "Lenses"}
    run.commit([("clicks", click(8 * MINUTE, "e1", url="https://shop.example.com/")[1], T0 + 12 * MINUTE)])
    fact = answers(run)["a"]
    assert fact is not None
    assert fact.source.is_direct


def test_after_grace_a_question_is_answered_once_and_forgotten() -> None:
    """Nothing admissible can change the answer any more."""
    run = Run(processor())
    run.commit([click(0, "e1", url=ADS)])
    run.commit([], now=T0 + 3 * HOUR)
    asking(run, "a", MINUTE)
    assert campaigns(run) == {"a": "Lenses"}
    assert state(run).stored.asked == ()


def test_a_question_taken_back_is_not_answered_again() -> None:
    """The lead found a conversion, say."""
    run = Run(processor())
    asking(run, "a", 10 * MINUTE, now=T0)
    asking(run, "a", None)
    run.commit([click(5 * MINUTE, "e1", url=ADS)])
    assert answers(run) == {}


def test_a_client_known_from_questions_only_is_forgotten_with_them() -> None:
    """Its state goes when no click can matter any more."""
    run = Run(processor(), drop_cache=True)
    asking(run, "a", 0, now=T0)
    assert list(run.saved) == [b"c1"]
    run.commit([], now=T0 + HOUR)
    assert list(run.saved) == [b"c1"]
    run.commit([], now=T0 + HOUR + 1)
    assert run.saved == {}
    asking(run, "b", -5 * DAY)
    assert run.saved == {}


def test_questions_are_bounded() -> None:
    """Per client, the latest."""
    run = Run(processor(), drop_cache=True)
    ask(run, [(f"l{index}", "c1", Question("c1", T0)) for index in range(500)], now=T0)
    assert len(state(run).stored.asked) == clients.MAX_ASKED


def test_word_of_the_persons_other_clients_corrects_an_answer_that_no_click_could() -> None:
    """It may still be on its way when grace is over: the question stays for a few commits more."""
    run = Run(processor(), drop_cache=True)
    run.commit([click(0, "e1", user_id="u")])
    run.commit([], now=T0 + 3 * HOUR)
    asking(run, "a", MINUTE)
    fact = answers(run)["a"]
    assert fact is not None
    assert fact.source.is_direct
    ads = SourceResolver(SourceRules(), TABLES).of_fields("google", "cpc", "Lenses")
    touch = Linked(Touchpoint(T0 - MINUTE, "other", ads), T0 - MINUTE)
    run.commit([], told=[(b"c1", OthersTold("u", Others((touch,))))])
    assert campaigns(run) == {"a": "Lenses"}
    for _ in range(clients.HOLD_COMMITS):
        run.commit([click(3 * HOUR, f"e{run.revision}")])
    assert state(run).stored.asked == ()


def test_what_is_no_question_is_refused() -> None:
    """A record of another release, say."""
    with pytest.raises(Rejected):
        processor().decoder("lead-question")(b"c1", b"\x90\x90", 0)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_last_answer_does_not_depend_on_when_it_was_asked(data: st.DataObject) -> None:
    """Before the first click, and corrected all the way; or at the end."""
    arrived = data.draw(arrivals(data.draw(histories(max_events=8))))
    first = arrived[0][2]
    moments = data.draw(st.lists(st.sampled_from([record["occurred_at"] for _, record, _ in arrived]), max_size=3))
    questions = [(f"l{index}", "c1", Question("c1", at)) for index, at in enumerate(moments) if at >= first - HOUR]
    early, late = Run(processor(), drop_cache=data.draw(st.booleans())), Run(processor())
    ask(early, questions, now=first)
    for record in arrived:
        early.commit([record])
        late.commit([record])
    ask(late, questions)
    assert {lead: told for lead, told in answers(early).items() if told} == {
        lead: told for lead, told in answers(late).items() if told
    }


def test_a_conversion_tells_its_lead() -> None:
    """With its source, goal and segment; a program's tells nothing; a retracted one is taken back."""
    run = Run(processor(tellers=[LeadTeller()]))
    run.commit([click(0, "e1", url=ADS)])
    run.commit([conversion(MINUTE, "v1", goal="lead_form", lead_id="a", segment={"geo": "LV", "device": "phone"})])
    kind, key, value = run.forwards[-1]
    letter = msgspec.msgpack.decode(value, type=Letter[LeadFact])
    assert (kind, key) == ("lead-fact", b"a")
    assert letter.body is not None
    assert letter.body.source.campaign == "Lenses"
    assert letter.body.segment == (("device", "phone"), ("geo", "LV"))
    told = len(run.forwards)
    run.commit([conversion(2 * MINUTE, "v2", lead_id="a", user_agent="Googlebot/2.1")])
    run.commit([conversion(3 * MINUTE, "v3")])
    assert len(run.forwards) == told


def state(run: Run) -> Any:
    return run.processor.load(b"c1", 1, run.saved[b"c1"], run.rows)
