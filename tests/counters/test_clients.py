"""A client counts once per window and key, by its memory alone (semantics 38, 41)."""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.domain.counters import clients, lines
from stream_app.domain.counters.clients import ACQUIRED, PAID, RETURNED, VISITED, answered, prune, touch
from stream_app.domain.counters.dimensions import Addresses
from stream_app.domain.counters.facts import Facts
from stream_app.domain.counters.figures import (
    ACQUISITION,
    ANSWERS,
    CLIENTS,
    DETRACTORS,
    PROMOTERS,
    RETENTION,
    REVENUE_CLIENTS,
    SESSIONS,
)
from stream_app.domain.counters.lines import CAMPAIGN, Contribution, Line, Where
from stream_app.domain.counters.rules import CounterRules
from stream_app.domain.counters.windows import DAYS, FOREVER, Windows
from stream_app.domain.times import DAY_MS
from stream_app.processors.counters.contributing import JourneyCounter

A = Where("google", "cpc", "spring", "Paid Search", "Google")
B = Where("google", "cpc", "autumn", "Paid Search", "Google")
C = Where("news", "email", "letter", "Email", "")
A_BY_ID = A._replace(campaign_id="7")
RENAMED = A._replace(campaign="summer", campaign_id="7")
ANOTHER_ID = A._replace(campaign_id="8")
DAY = 1_440
ADDRESSES = Addresses()


def by_counter(gathered: dict[Any, Any], count: int) -> dict[tuple[bytes, str], int]:
    """(state key of a counter, window) → clients."""
    found: dict[tuple[bytes, str], int] = defaultdict(int)
    for (minute, where, dimensions, windows, *_), (counts, _) in gathered.items():
        for key, *_ in ADDRESSES(where, dimensions, "", ()):
            if windows & DAYS:
                found[key, f"day {minute // DAY}"] += counts.get(count, 0)
            if windows & FOREVER:
                found[key, "total"] += counts.get(count, 0)
    return {key: n for key, n in found.items() if n}


def counted(gathered: dict[Any, Any], count: int = CLIENTS) -> dict[tuple[str, tuple[str, ...], str], int]:
    """(dimension, keys, window) → clients."""
    found: dict[tuple[str, tuple[str, ...], str], int] = defaultdict(int)
    for (minute, where, dimensions, windows, *_), (counts, _) in gathered.items():
        for _, dimension, keys, _ in ADDRESSES(where, dimensions, "", ()):
            if windows & DAYS:
                found[dimension, keys, f"day {minute // DAY}"] += counts.get(count, 0)
            if windows & FOREVER:
                found[dimension, keys, "total"] += counts.get(count, 0)
    return {key: n for key, n in found.items() if n}


class Book:
    """One client, whose memory is saved and loaded at every step."""

    def __init__(self) -> None:
        self.gathered: dict[Any, Any] = {}
        self.kept = b""

    def touch(self, where: Where, minute: int, sign: int, stages: int = VISITED) -> None:
        memory = clients.decode(self.kept)
        touch(self.gathered, memory, where, minute // DAY * DAY, stages, sign)
        self.kept = clients.encode(memory)

    def answer(self, where: Where, answer: tuple[int, str, int], sign: int) -> None:
        memory = clients.decode(self.kept)
        answered(self.gathered, memory, where, answer, answer[0] // 60_000 // DAY * DAY, sign)
        self.kept = clients.encode(memory)


def test_the_first_visit_under_a_key_counts_and_further_ones_do_not() -> None:
    """Two campaigns of one channel are one client of the channel and one of each campaign."""
    book = Book()
    for where, minute in ((A, 5), (A, 9), (B, 11), (B, DAY + 1)):
        book.touch(where, minute, 1)
    found = counted(book.gathered)
    assert found["all", (), "total"] == found["all", (), "day 0"] == found["all", (), "day 1"] == 1
    assert found["channel", ("Paid Search",), "total"] == 1
    assert found["campaign", ("google", "cpc", "spring"), "total"] == 1
    assert found["campaign", ("google", "cpc", "autumn"), "day 1"] == 1
    assert ("campaign", ("google", "cpc", "spring"), "day 1") not in found


def test_the_last_visit_that_is_taken_back_takes_the_client_back() -> None:
    """And nothing is remembered of it."""
    book = Book()
    book.touch(A, 5, 1)
    book.touch(B, 6, 1)
    book.touch(A, 5, -1)
    found = counted(book.gathered)
    assert ("campaign", ("google", "cpc", "spring"), "total") not in found
    assert found["channel", ("Paid Search",), "total"] == 1
    book.touch(B, 6, -1)
    assert counted(book.gathered) == {}
    assert clients.decode(book.kept).reached == []


@pytest.mark.parametrize("seed", range(100))
def test_any_visits_coming_and_going_are_counted_as_sets_count_them(seed: int) -> None:
    """Against plain sets of counters, over days, attributions and stages. What counts under a campaign's id goes to one
    campaign, whatever it was called at the visit."""
    rng = random.Random(seed)
    book, live = Book(), []
    for _ in range(30):
        if live and rng.random() < 0.45:
            book.touch(*live[(chosen := rng.randrange(len(live)))][:2], -1, live[chosen][2])
            del live[chosen]
        else:
            where = rng.choice((A, B, C, A_BY_ID, RENAMED, ANOTHER_ID))
            visit = where, rng.randrange(3 * DAY), rng.choice((VISITED, VISITED | ACQUIRED, PAID))
            live.append(visit)
            book.touch(*visit[:2], 1, visit[2])
        for stage, count in ((VISITED, CLIENTS), (PAID, REVENUE_CLIENTS)):
            wanted = set()
            for where, minute, stages in live:
                if stages & stage:
                    for key, *_ in ADDRESSES(where, clients._EVERYWHERE, "", ()):
                        wanted |= {(key, "total"), (key, f"day {minute // DAY}")}
            assert by_counter(book.gathered, count) == dict.fromkeys(wanted, 1)


def test_a_campaign_that_was_renamed_has_a_client_once() -> None:
    """Its id says that it is one (semantics 37)."""
    book = Book()
    book.touch(A_BY_ID, 5, 1)
    book.touch(RENAMED, 9, 1)
    (campaign, *_) = next(place for place in ADDRESSES(RENAMED, CAMPAIGN, "", ()))
    assert by_counter(book.gathered, CLIENTS)[campaign, "total"] == 1
    assert by_counter(book.gathered, CLIENTS)[campaign, "day 0"] == 1


def test_a_client_is_counted_under_a_hundred_attributions_at_most() -> None:
    """Its memory is bounded (semantics 38)."""
    book = Book()
    for number in range(150):
        book.touch(A._replace(campaign=f"c{number}"), 5, 1)
    found = counted(book.gathered)
    assert sum(dimension == "campaign" and window == "total" for dimension, _, window in found) == 100
    assert len(book.kept) < 6_000


def test_days_that_cannot_change_any_more_are_forgotten_but_for_those_with_purchases() -> None:
    """One commit later at the earliest: the events of a commit may be older than its stream time."""
    memory = clients.Memory([], ())
    gathered: dict[Any, Any] = {}
    prune(memory, 1, 10 * DAY * 60_000)
    touch(gathered, memory, A, 0, VISITED, 1)
    touch(gathered, memory, A, DAY, VISITED | PAID, 1)
    touch(gathered, memory, A, 9 * DAY, VISITED | RETURNED, 1)
    prune(memory, 1, 10 * DAY * 60_000)
    assert set(memory.reached[0].days) == {0, DAY, 9 * DAY}
    prune(memory, 2, 10 * DAY * 60_000)
    assert set(memory.reached[0].days) == {DAY, 9 * DAY}
    touch(gathered, memory, A, DAY, PAID, -1)
    assert ("channel", ("Paid Search",), "day 1") not in counted(gathered, REVENUE_CLIENTS)


@pytest.mark.parametrize("stages", [VISITED, VISITED | ACQUIRED, PAID])
def test_the_short_way_of_a_first_record_is_the_long_one(stages: int) -> None:
    """In what it counts and in what it remembers, whatever came the same way before."""
    for where, day, revision, settled_ms in (
        (A, DAY, 1, 0),
        (B, DAY, 1, 0),
        (B, 0, 1, 0),
        (B, 0, 2, 0),
        (B, 0, 2, DAY_MS),
    ):
        memory = clients.decode(b"")
        long: dict[Any, Any] = {}
        prune(memory, revision, settled_ms)
        touch(long, memory, where, day, stages, 1)
        for _ in range(2):
            short: dict[Any, Any] = {}
            kept = clients.first(short, where, day, stages, revision, settled_ms)
            assert (kept, short) == (clients.encode(memory), long)


def test_a_session_that_is_no_longer_the_first_moves_its_client_from_acquisition_to_retention() -> None:
    """It stays where it was, but an earlier one was found."""
    counter = JourneyCounter(Facts(CounterRules()), Windows("UTC"), 0)
    line = Line(5, ((SESSIONS, 1),), where=A)
    first, later = (lines.encode(Contribution((line,), VISITED | stage)) for stage in (ACQUIRED, RETURNED))
    gathered: dict[Any, Any] = {}
    context: Any = SimpleNamespace(gather=lambda _: gathered, revision=1, now=0)
    kept = counter.move(b"", first, b"", context)
    assert counted(gathered, ACQUISITION)["all", (), "total"] == 1
    counter.move(first, later, kept, context)
    assert counted(gathered, ACQUISITION) == {}
    assert counted(gathered, RETENTION)["all", (), "total"] == counted(gathered)["all", (), "total"] == 1


def test_a_day_that_is_held_is_remembered_when_time_leaps() -> None:
    """A session of long ago turns out to owe itself to something else: its client leaves one key for the other."""
    counter = JourneyCounter(Facts(CounterRules()), Windows("UTC"), 0)
    gathered: dict[Any, Any] = {}
    sessions = [
        lines.encode(Contribution((Line(minute, ((SESSIONS, 1),), where=where),), VISITED))
        for minute, where in ((5, A), (20 * DAY, C), (5, B))
    ]
    kept, held = b"", 4 * 60_000
    for revision, (before, after) in enumerate([(b"", sessions[0]), (b"", sessions[1]), (sessions[0], sessions[2])]):
        context: Any = SimpleNamespace(gather=lambda _: gathered, revision=revision + 1, now=20 * DAY_MS)
        kept = counter.move(before, after, kept, context, held)
    found = counted(gathered)
    assert found["all", (), "day 0"] == found["campaign", ("google", "cpc", "autumn"), "day 0"] == 1
    assert ("campaign", ("google", "cpc", "spring"), "day 0") not in found


def test_the_latest_score_of_a_client_counts_under_each_key_and_on_each_day() -> None:
    """9–10 promote, 0–6 detract; an answer taken back gives way to the one before (semantics 41)."""
    book = Book()
    book.answer(A, (60_000, "e1", 3), 1)
    book.answer(B, (120_000, "e2", 10), 1)
    assert counted(book.gathered, DETRACTORS) == {
        ("campaign", ("google", "cpc", "spring"), "day 0"): 1,
        ("campaign", ("google", "cpc", "spring"), "total"): 1,
    }
    assert counted(book.gathered, PROMOTERS)["all", (), "total"] == 1
    assert counted(book.gathered, ANSWERS)["all", (), "total"] == 1
    book.answer(B, (120_000, "e2", 10), -1)
    assert counted(book.gathered, DETRACTORS)["all", (), "day 0"] == 1
    book.answer(A, (60_000, "e1", 3), -1)
    assert counted(book.gathered, ANSWERS) == {}


def test_answers_are_bounded() -> None:
    """The latest stay."""
    book = Book()
    for number in range(100):
        book.answer(A, (number * 60_000, f"e{number}", number % 11), 1)
    assert len(clients.decode(book.kept).answers) == clients.MAX_ANSWERS
    assert counted(book.gathered, ANSWERS)["all", (), "total"] == 1
