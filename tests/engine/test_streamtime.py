"""Stream time: the smallest of the newest timestamps of the inputs that have something left (semantics 3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_app.engine.streamtime import StreamTime

INPUTS = ("left", "right", "third")


def test_the_slowest_input_that_has_something_left_holds_time_back() -> None:
    """The minimum over the inputs, once each of them has said something."""
    time = StreamTime(INPUTS)
    time.took("left", 500)
    time.took("right", 300)
    assert time.advance(0) == 0, "the third has something left that nobody has seen"
    time.took("third", 400)
    assert time.advance(0) == 300
    time.took("right", 900)
    assert time.advance(0) == 400


def test_an_input_at_its_end_holds_nobody_back() -> None:
    """It counts again as soon as it has something left."""
    time = StreamTime(("left", "right"))
    time.took("left", 500)
    time.took("right", 300)
    time.at_end("right", True)
    assert time.advance(0) == 500
    time.at_end("right", False)
    time.took("left", 900)
    assert time.advance(0) == 500, "and then time stands still, it doesn't go back"
    time.took("right", 700)
    assert time.advance(0) == 700


def test_it_has_caught_up_when_every_input_is_at_its_end() -> None:
    """Nothing is known of one that was not looked at."""
    time = StreamTime(("left", "right"))
    assert not time.caught_up
    time.at_end("left", True)
    assert not time.caught_up
    time.at_end("right", True)
    assert time.caught_up
    time.at_end("left", False)
    assert not time.caught_up


def test_older_records_do_not_turn_time_back() -> None:
    """Timestamps that run backwards leave it where it is."""
    time = StreamTime(("left",))
    time.took("left", 500)
    assert time.advance(0) == 500
    time.took("left", 100)
    assert time.advance(0) == 500


def test_when_all_are_at_their_end_time_goes_on_by_the_monotonic_clock() -> None:
    """From the newest timestamp of all, by what has elapsed since; the calendar has no say."""
    time = StreamTime(("left", "right"))
    time.took("left", 500)
    time.took("right", 300)
    time.at_end("left", True)
    time.at_end("right", True)
    assert time.advance(10_000) == 500
    assert time.advance(10_250) == 750
    time.took("left", 600)
    assert time.advance(10_300) == 750, "a record counts from its own time; meanwhile time stands, it never goes back"
    assert time.advance(10_500) == 800
    time.took("right", 5_000)
    assert time.advance(10_400) == 5_000
    assert time.advance(10_500) == 5_100


def test_idle_time_stops_when_an_input_has_something_left() -> None:
    """It starts anew, from where it stood, once all are at their end again."""
    time = StreamTime(("left",))
    time.took("left", 500)
    time.at_end("left", True)
    time.advance(0)
    assert time.advance(100) == 600
    time.at_end("left", False)
    assert time.advance(50_000) == 600
    time.at_end("left", True)
    assert time.advance(60_000) == 600
    assert time.advance(60_010) == 610


def test_without_any_record_there_is_no_time() -> None:
    """A new task on empty inputs waits with its timers for the first record, however long that takes."""
    time = StreamTime(("left", "right"))
    for source in ("left", "right"):
        time.at_end(source, True)
    assert time.advance(0) == 0
    assert time.advance(3_600_000) == 0


def test_time_is_restored_with_what_was_taken_of_each_input() -> None:
    """A restart neither forgets how far each input was nor lets the slower one be skipped."""
    time = StreamTime(("left", "right"), 300, {"left": 500, "right": 300, "gone": 1})
    assert (time.advance(0), time.lead("left")) == (300, 200)
    time.took("right", 450)
    assert time.advance(0) == 450


def test_the_lead_is_over_the_slowest_that_has_something_left() -> None:
    """An input that is at its end cannot be waited for."""
    time = StreamTime(("left", "right"))
    time.took("left", 100_000)
    assert time.lead("left") == 100_000
    assert time.lead("right") == 0
    time.at_end("right", True)
    assert time.lead("left") == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(INPUTS),
            st.integers(0, 10**6),
            st.booleans(),
            st.integers(0, 10_000),
        )
    ),
    st.integers(0, 60),
)
def test_time_only_grows_and_never_passes_what_was_seen_and_elapsed(
    steps: list[tuple[str, int, bool, int]], restart: int
) -> None:
    """Also across a restart, which carries the value and what was taken of each input."""
    time, clock, value, idle = StreamTime(INPUTS), 0, 0, 0
    for number, (source, ts, ended, elapsed) in enumerate(steps):
        if number == restart:
            time = StreamTime(INPUTS, time.value, time.newest)
        time.took(source, ts)
        time.at_end(source, ended)
        clock += elapsed
        idle += elapsed
        assert time.advance(clock) >= value
        value = time.value
        assert value <= max(time.newest.values()) + idle
