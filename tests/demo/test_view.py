from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from stream_app import metrics
from stream_app.demo.view import EMPTY, Scene, frame, line
from stream_app.devtools import scrape
from stream_app.devtools.scrape import Reading
from stream_app.metrics import Exporter, WorkerStats


def read(stats: WorkerStats, at: float) -> Reading:
    """What is scraped from a worker with these numbers."""
    return msgspec.structs.replace(scrape.parse(Exporter(stats).render()[0].decode()), at=at)


@pytest.fixture
def stats() -> WorkerStats:
    stats = WorkerStats()
    stats.record_in("clicks", "accepted", 1_000)
    stats.record_in("repartition", "accepted", 700)  # letters between keys are no events
    stats.outputs("attributed-sessions", 300)
    stats.commit(0.02, 100, 5_000)
    stats.business("sessions", "Paid Search", 40)
    stats.business("sessions", "Direct", 10)
    stats.business("conversions", "Direct", 3)
    stats.business("leads", "won", 4)
    stats.business("leads", "new", 9)
    stats.dead_letter("bad_json", 2)
    stats.lag("clicks", 0, 7)
    return stats


def test_a_line_says_what_goes_on(stats: WorkerStats) -> None:
    before = read(stats, 10.0)
    stats.record_in("conversions", "accepted", 500)
    text = line(read(stats, 12.0), before, 12.0)
    assert "250 events/s" in text
    assert "1,500 events" in text
    assert "lag 7" in text
    assert "sessions 50 opened" in text
    assert "dead letters 2" in text


def test_a_line_says_what_is_wrong() -> None:
    assert line(EMPTY, EMPTY, 3.0, "recovering: 40 %") == "3 s: not ready: recovering: 40 %"


def test_the_frame_shows_channels_dead_letters_and_where_to_look(stats: WorkerStats) -> None:
    console = Console(record=True, width=120)
    scene = Scene(title="Kafka at host:1", url="http://127.0.0.1:1", hints=["kcat -C -b host:1"])
    console.print(frame(scene, read(stats, 1.0), EMPTY, 5.0))
    text = console.export_text()
    for expected in (
        "Paid Search",
        "40",
        "new 9, won 4",
        "bad_json 2",
        "http://127.0.0.1:1/metrics",
        "kcat -C -b host:1",
        "Ctrl-C",
    ):
        assert expected in text
    assert text.index("Paid Search") < text.index("Direct"), "most sessions first"


@pytest.mark.parametrize(("height", "shown"), [(40, 22), (24, 9), (16, 1)])
def test_a_low_terminal_has_fewer_channels(stats: WorkerStats, height: int, shown: int) -> None:
    """Never more lines than fit, and the commands stay."""
    for number in range(20):
        stats.business("sessions", f"Channel {number:02}", 39 - number)
    console = Console(record=True, width=100, height=height)
    console.print(frame(Scene(title="t", url="http://h:1", hints=["kcat 1"]), read(stats, 1.0), EMPTY, 5.0))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert "kcat 1" in lines
    assert lines[-1] == "Ctrl-C ends everything"
    assert sum("█" in text for text in lines) == shown
    assert any(f"and {22 - shown} more" in text for text in lines) == (shown < 22)


def test_the_first_frame_has_no_figures_yet() -> None:
    console = Console(record=True, width=100)
    console.print(frame(Scene(title="t"), EMPTY, EMPTY, 0.0, "starting"))
    assert "not ready: starting" in console.export_text()


def test_quantiles_are_of_what_was_observed_between_two_readings() -> None:
    stats = WorkerStats()
    for _ in range(100):
        stats.commit(5.0, 1, 0)
    before = read(stats, 0.0)
    for _ in range(100):
        stats.commit(0.015, 10, 0)
    now = read(stats, 1.0)
    median = scrape.quantile(metrics.COMMIT_SECONDS, 0.5, now, before)
    assert median is not None
    assert 0.01 < median <= 0.02
    assert scrape.mean(metrics.COMMIT_RECORDS, now, before) == 10
    assert scrape.quantile(metrics.COMMIT_SECONDS, 0.5, before, before) is None
