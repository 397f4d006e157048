"""What is counted comes out in Prometheus' formats, under the names of the list."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from stream_app.engine.ports import Observer
from stream_app.metrics import METRICS, PREFIX, Exporter, Histogram, WorkerStats
from stream_app.web.ports import Readiness


def exposed(stats: WorkerStats) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name without prefix, labels) → value."""
    body, _ = Exporter(stats).render()
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def test_every_metric_of_the_list_is_exposed_and_no_other() -> None:
    """The list is complete and without leftovers; the process' own come beside it."""
    stats = WorkerStats(rules_version="r1")
    stats.business("sessions", "Direct", 1)
    body, _ = Exporter(stats).render()
    families = {family.name for family in parse_text(body.decode())}
    listed = {PREFIX + metric.name.removesuffix("_total") for metric in METRICS}
    assert {name for name in families if not name.startswith(f"{PREFIX}process_")} == listed
    assert f"{PREFIX}process_resident_memory_bytes" in families


def test_openmetrics_is_given_when_asked_for() -> None:
    """And it parses by the strict parser."""
    stats = WorkerStats()
    stats.latency(0.2, 5)
    body, content_type = Exporter(stats).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert list(parse_openmetrics(body.decode()))


def test_topics_are_labelled_by_logical_name() -> None:
    """A prefix does not change labels."""
    stats = WorkerStats({"p.clicks": "clicks", "p.attributed-sessions": "attributed-sessions"})
    observer: Observer = stats
    observer.record_in("p.clicks", "accepted", 3)
    observer.outputs("p.attributed-sessions", 2)
    stats.lag("p.clicks", 4, 7)
    values = exposed(stats)
    assert values["records_in_total", frozenset({("topic", "clicks"), ("outcome", "accepted")})] == 3
    assert values["outputs_total", frozenset({("topic", "attributed-sessions")})] == 2
    assert values["lag_records", frozenset({("topic", "clicks"), ("partition", "4")})] == 7


def test_known_label_values_start_at_zero() -> None:
    """So that a rate exists before the first event."""
    values = exposed(WorkerStats())
    assert values["dead_letters_total", frozenset({("reason", "bad_json")})] == 0
    assert values["transaction_aborts_total", frozenset({("cause", "fenced")})] == 0
    assert values["records_in_total", frozenset({("topic", "clicks"), ("outcome", "dead")})] == 0


def test_histograms_count_into_inclusive_buckets() -> None:
    """A value on a limit belongs below it; n observations weigh n times."""
    histogram = Histogram((1, 2, 5))
    histogram.observe(1)
    histogram.observe(1.5, 3)
    histogram.observe(99)
    assert histogram.buckets() == [("1.0", 1.0), ("2.0", 4.0), ("5.0", 4.0), ("+Inf", 5.0)]
    assert histogram.count == 5
    assert histogram.quantile(0.5) == 2
    assert histogram.quantile(1.0) == float("inf")
    assert Histogram((1,)).quantile(0.5) == 0


def test_recovery_progress_goes_from_zero_to_one() -> None:
    """Over all tasks together, and records are counted once."""
    stats = WorkerStats()
    assert stats.recovery_progress() == 1.0
    stats.recovery(0, 0, 100, 0.0)
    stats.recovery(1, 50, 100, 1.0)
    assert stats.recovery_progress() == 0.25
    stats.recovery(0, 100, 100, 1.5)
    stats.recovery(1, 100, 100, 2.0)
    assert stats.recovery_progress() == 1.0
    assert stats.recovery_records == 200
    stats.recovery(0, 30, 30, 0.1)  # opened again, from where it was
    assert stats.recovery_records == 230


def test_a_rebalance_forgets_what_was_of_the_old_partitions() -> None:
    """No gauge of a partition that another worker owns now."""
    stats = WorkerStats()
    stats.lag("clicks", 0, 5)
    stats.store_bytes(0, 10)
    stats.stream_time(0, 1)
    stats.rebalance()
    assert not stats.lags
    assert not stats.store_sizes
    assert not stats.stream_times


def test_label_values_are_bounded() -> None:
    """However many channels somebody invents."""
    stats = WorkerStats()
    for number in range(500):
        stats.business("sessions", f"Channel {number}", 1)
    counted = stats.counted("sessions")
    assert len(counted) <= 65
    assert sum(counted.values()) == 500
    assert counted["(other)"] > 400


def test_what_no_metric_is_made_for_is_counted_all_the_same() -> None:
    """Under its name and label."""
    stats = WorkerStats()
    stats.business("zebra", "striped", 2)
    assert exposed(stats)["domain_events_total", frozenset({("name", "zebra"), ("label", "striped")})] == 2


def test_latency_of_a_clock_that_is_behind_is_zero() -> None:
    """Clocks apart must not take away from the sum."""
    stats = WorkerStats()
    stats.latency(-5, 2)
    assert stats.latencies.total == 0
    assert stats.latencies.count == 2


def test_readiness_is_small() -> None:
    """Fields with their default are left out of the document."""
    import msgspec

    assert msgspec.json.decode(msgspec.json.encode(Readiness(ready=True, reason="ok"))) == {
        "ready": True,
        "reason": "ok",
    }
