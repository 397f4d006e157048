"""What a worker measures: the one list of metrics, the plain numbers behind them, and their exposition.

`WorkerStats` is what the engine and its host count into: dictionaries and lists of numbers, touched once per commit,
no label lookups of a client library. `Exporter` turns them into Prometheus' text format when somebody asks.
"""

from __future__ import annotations

import platform
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Literal, get_args

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stream_app.engine.processor import DeadLetterReason
from stream_app.topics import INPUTS, LIVE, OUTPUTS

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "stream_app_"
OTHER = "(other)"
"""Takes the place of label values beyond a metric's limit."""
MAX_VALUES = 64
"""Distinct values of a label that is not closed by its type: custom channels, processors."""

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Metric(msgspec.Struct, frozen=True):
    """One metric as operators see it."""

    name: str
    """Without the prefix; base units; counters end in `_total`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


# --- the list ------------------------------------------------------------------------------------------

RECORDS_IN = Metric(
    "records_in_total",
    "counter",
    "Input records whose commit is through, by topic and what became of them (accepted, dead).",
    ("topic", "outcome"),
)
OUTPUT_RECORDS = Metric("outputs_total", "counter", "Committed output records by topic.", ("topic",))
COMMIT_SECONDS = Metric(
    "commit_duration_seconds", "histogram", "From the begin of a transaction until its state is in the store."
)
COMMIT_RECORDS = Metric("commit_records", "histogram", "Input records in one commit.")
CHANGELOG_BYTES = Metric("changelog_bytes_total", "counter", "Bytes of keys and values written to the changelog.")
LATENCY = Metric(
    "end_to_end_latency_seconds",
    "histogram",
    "From the broker's timestamp of an input record until the commit of what it caused.",
)
PROCESSING_SECONDS = Metric(
    "processing_seconds_total", "counter", "Seconds of work, by processor or part of the engine.", ("processor",)
)
LAG = Metric("lag_records", "gauge", "Records of an input that are not taken yet.", ("topic", "partition"))
RECOVERY_PROGRESS = Metric(
    "recovery_progress_ratio", "gauge", "Part of the changelogs that is replayed; 1 when no recovery runs."
)
RECOVERY_SECONDS = Metric("recovery_seconds", "gauge", "Duration of the last recovery, or of the one that runs.")
RECOVERY_RECORDS = Metric("recovery_records_total", "counter", "Changelog records (offsets) replayed.")
STORE_BYTES = Metric("store_bytes", "gauge", "Size of the state on disk, estimated.", ("partition",))
CACHE_HITS = Metric("cache_hits_total", "counter", "Keys whose state was in memory.")
CACHE_MISSES = Metric("cache_misses_total", "counter", "Keys whose state had to be read or made.")
DEAD_LETTER_RECORDS = Metric("dead_letters_total", "counter", "Records written to dead letters.", ("reason",))
LATE = Metric("late_total", "counter", "Records that came later than the grace period allows.")
MISPLACED = Metric("misplaced_total", "counter", "Records found in another partition than their key's, and forwarded.")
REBALANCES = Metric("rebalances_total", "counter", "Assignments received from the consumer group.")
ABORTS = Metric(
    "transaction_aborts_total", "counter", "Tasks that failed and threw their open transaction away.", ("cause",)
)
TASKS = Metric("tasks", "gauge", "Tasks of this worker by state.", ("state",))
STALLED = Metric("stalled_seconds", "gauge", "How long a task has had input without finishing a commit; 0: none does.")
HUNG_TRANSACTION = Metric(
    "hung_transaction_seconds",
    "gauge",
    "How long an open transaction of somebody has kept a task from reading on; 0: none does.",
)
STREAM_TIME = Metric("stream_time_seconds", "gauge", "Stream time of a task, seconds since 1970.", ("partition",))
READY = Metric("ready", "gauge", "1 while /health/ready says yes.")
BUILD_INFO = Metric("build_info", "gauge", "Always 1; the release is in the labels.", ("version", "python"))
RULES_INFO = Metric("rules_info", "gauge", "Always 1; the version of the rules is in the label.", ("rules_version",))
START_TIME = Metric("start_time_seconds", "gauge", "When the worker started, seconds since 1970.")
# Business: what processors count by `Context.count`.
SESSIONS_OPEN = Metric("sessions_open", "gauge", "Sessions opened less sessions closed since the worker started.")
SESSIONS = Metric("sessions_total", "counter", "Sessions opened, by channel.", ("channel",))
SESSIONS_CLOSED = Metric("sessions_closed_total", "counter", "Sessions closed, by channel.", ("channel",))
CONVERSIONS = Metric("conversions_total", "counter", "Conversions attributed, by channel.", ("channel",))
REFUNDS = Metric("refunds_total", "counter", "Refunds taken.")
REFUNDS_CUT = Metric("refunds_cut_total", "counter", "Refunds that asked for more than was left of their order.")
BOTS = Metric("bots_total", "counter", "Clicks and conversions of bots.")
SPAM = Metric("spam_total", "counter", "Clicks with a referrer that is spam.")
DUPLICATES = Metric("duplicates_total", "counter", "Records with an event id that was there already.")
DUPLICATE_ORDERS = Metric("duplicate_orders_total", "counter", "Conversions whose order was there already.")
CLIENT_CAPS = Metric(
    "client_caps_total", "counter", "Times that a client's events were settled early: there were too many."
)
RETRACTIONS = Metric("retractions_total", "counter", "Outputs taken back, by topic.", ("topic",))
LEADS = Metric(
    "leads", "gauge", "Leads by status: those that entered it less those that left it since the worker started.",
    ("status",),
)  # fmt: skip
REWARDS = Metric(
    "rewards", "gauge", "Rewards by status: those that entered it less those that left it since the worker started.",
    ("status",),
)  # fmt: skip
CODES_DISPLACED = Metric(
    "codes_displaced_total", "counter", "Codes that an earlier enrolment, arriving later, took from somebody."
)
REFERRAL_CAPS = Metric(
    "referral_caps_total", "counter", "Times that a referrer's oldest rewards were ranked early: there were too many."
)
ERASURES = Metric("erasures_total", "counter", "People, and clients of theirs, who go by a pseudonym now.")
LEAD_CAPS = Metric(
    "lead_caps_total", "counter", "Times that a lead's oldest updates were settled: there were too many."
)
COUNTER_DELTAS = Metric(
    "counter_deltas_total", "counter", "Records sent to counters: one for each key that a commit touched."
)
COUNTER_DELTAS_EXPIRED = Metric(
    "counter_deltas_expired_total", "counter", "Changes of counters that were dropped: their window had expired."
)
COUNTER_OVERFLOW = Metric(
    "counter_overflow_total", "counter",
    "Changes counted under `(other)`: their window had taken as many values of the dimension as it may.", ("window",),
)  # fmt: skip
REFERRAL_OVERFLOW = Metric(
    "referral_overflow_total", "counter",
    "Changes of referral programmes' figures counted under `(other)`: the dimension had all the values it may.",
    ("dimension",),
)  # fmt: skip
COUNTERS_LIVE = Metric(
    "counters_live", "gauge", "Windows of counter keys opened less those expired since the worker started.",
    ("window",),
)  # fmt: skip
DOMAIN_EVENTS = Metric(
    "domain_events_total", "counter", "Whatever else processors count, by name and label.", ("name", "label")
)

METRICS: tuple[Metric, ...] = tuple(value for value in globals().values() if isinstance(value, Metric))
"""All of them."""

BUSINESS: Mapping[str, Metric] = {
    "sessions_open": SESSIONS_OPEN,
    "sessions": SESSIONS,
    "sessions_closed": SESSIONS_CLOSED,
    "conversions": CONVERSIONS,
    "refunds": REFUNDS,
    "refunds_cut": REFUNDS_CUT,
    "bots": BOTS,
    "spam": SPAM,
    "duplicates": DUPLICATES,
    "duplicate_orders": DUPLICATE_ORDERS,
    "client_caps": CLIENT_CAPS,
    "leads": LEADS,
    "lead_caps": LEAD_CAPS,
    "rewards": REWARDS,
    "codes_displaced": CODES_DISPLACED,
    "referral_caps": REFERRAL_CAPS,
    "erasures": ERASURES,
    "referral_overflow": REFERRAL_OVERFLOW,
    "retractions": RETRACTIONS,
    "counter_deltas": COUNTER_DELTAS,
    "counter_deltas_expired": COUNTER_DELTAS_EXPIRED,
    "counter_overflow": COUNTER_OVERFLOW,
    "counters_live": COUNTERS_LIVE,
}
"""Metrics by the names that processors use in `Context.count`."""

REASONS: tuple[str, ...] = get_args(DeadLetterReason)
CAUSES = ("fenced", "timeout", "chain", "store", "error")
OUTCOMES = ("accepted", "dead")

COMMIT_SECONDS_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10)
COMMIT_RECORDS_BOUNDS = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
LATENCY_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 3600)


class Histogram:
    """Counts per bucket; `bounds` are upper limits, inclusive, the last bucket takes the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        """Adds n observations of a value."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.total += value * n

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """The upper limit of the bucket in which the quantile lies; 0 without observations."""
        wanted = q * self.count
        if not wanted:
            return 0.0
        seen = 0
        for bound, n in zip(self.bounds, self.counts, strict=False):
            seen += n
            if seen >= wanted:
                return bound
        return float("inf")

    def buckets(self) -> list[tuple[str, float]]:
        """(upper limit, cumulated count), as Prometheus wants them."""
        seen, result = 0, []
        for bound, n in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += n
            result.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(seen)))
        return result


class _Recovery(msgspec.Struct):
    done: int = 0
    total: int = 0
    seconds: float = 0.0


class WorkerStats:
    """Everything one worker counts. Implements the engine's `Observer`; not thread-safe, read by the exporter.

    `names` maps topics on the broker to logical names, so that labels don't depend on a prefix.
    """

    __slots__ = (
        "business_counts",
        "cache_hits",
        "cache_misses",
        "changelog_bytes",
        "commit_records",
        "commit_seconds",
        "dead_letters",
        "hung_transaction_s",
        "lags",
        "latencies",
        "misplaced_count",
        "names",
        "output_counts",
        "processing_seconds",
        "ready",
        "rebalances",
        "records",
        "recoveries",
        "recovery_records",
        "rules_version",
        "stalled_s",
        "started_at",
        "store_sizes",
        "stream_times",
        "task_states",
        "transaction_aborts",
    )

    def __init__(self, names: Mapping[str, str] | None = None, *, rules_version: str = "") -> None:
        self.names = dict(names or {})
        self.rules_version = rules_version
        self.started_at = time.time()
        self.records: dict[tuple[str, str], int] = {
            (topic, outcome): 0 for topic in INPUTS if topic in LIVE for outcome in OUTCOMES
        }
        self.output_counts: dict[str, int] = {topic: 0 for topic in OUTPUTS if topic in LIVE}
        self.commit_seconds = Histogram(COMMIT_SECONDS_BOUNDS)
        self.commit_records = Histogram(COMMIT_RECORDS_BOUNDS)
        self.latencies = Histogram(LATENCY_BOUNDS)
        self.changelog_bytes = 0
        self.processing_seconds: dict[str, float] = {}
        self.dead_letters: dict[str, int] = dict.fromkeys(REASONS, 0)
        self.transaction_aborts: dict[str, int] = dict.fromkeys(CAUSES, 0)
        self.misplaced_count = 0
        self.rebalances = 0
        self.cache_hits = 0
        self.cache_misses = 0
        self.recoveries: dict[int, _Recovery] = {}
        self.recovery_records = 0
        self.store_sizes: dict[int, int] = {}
        self.stream_times: dict[int, int] = {}
        self.lags: dict[tuple[str, int], int] = {}
        self.task_states: dict[str, int] = {}
        self.business_counts: dict[tuple[str, str], int] = {}
        self.stalled_s = 0.0
        self.hung_transaction_s = 0.0
        self.ready = False

    # -- the engine's Observer ------------------------------------------------------------------------

    def record_in(self, topic: str, outcome: str, n: int) -> None:
        """N input records of a topic were committed with this outcome."""
        key = self.names.get(topic, topic), outcome
        self.records[key] = self.records.get(key, 0) + n

    def outputs(self, topic: str, n: int) -> None:
        """N output records were committed."""
        name = self.names.get(topic, topic)
        self.output_counts[name] = self.output_counts.get(name, 0) + n

    def commit(self, seconds: float, records: int, changelog_bytes: int) -> None:
        """One commit is through."""
        self.commit_seconds.observe(seconds)
        self.commit_records.observe(records)
        self.changelog_bytes += changelog_bytes

    def latency(self, seconds: float, n: int) -> None:
        """N records took so long from their broker timestamp to their commit. Clocks apart may make it negative: 0."""
        self.latencies.observe(max(0.0, seconds), n)

    def processing(self, processor: str, seconds: float) -> None:
        """Seconds of work."""
        self.processing_seconds[processor] = self.processing_seconds.get(processor, 0.0) + seconds

    def dead_letter(self, reason: str, n: int) -> None:
        """N dead letters were committed."""
        self.dead_letters[reason] = self.dead_letters.get(reason, 0) + n

    def misplaced(self, n: int) -> None:
        """N records were forwarded to their right partition."""
        self.misplaced_count += n

    def abort(self, cause: str) -> None:
        """A task failed; its transaction is void."""
        self.transaction_aborts[cause] = self.transaction_aborts.get(cause, 0) + 1

    def rebalance(self) -> None:
        """The group assigned partitions to this worker. What it had before counts no more."""
        self.rebalances += 1
        self.recoveries.clear()
        self.store_sizes.clear()
        self.stream_times.clear()
        self.lags.clear()

    def recovery(self, partition: int, done: int, total: int, seconds: float) -> None:
        """How far the replay of one changelog partition is, in offsets; done = total: it is over."""
        state = self.recoveries.get(partition)
        if state is None or done < state.done or total != state.total:
            state = self.recoveries[partition] = _Recovery(0, total)
        self.recovery_records += done - state.done
        state.done, state.seconds = done, seconds

    def business(self, name: str, label: str, n: int) -> None:
        """What a processor counted."""
        key = name, label
        if key not in self.business_counts and sum(known == name for known, _ in self.business_counts) >= MAX_VALUES:
            key = name, OTHER
        self.business_counts[key] = self.business_counts.get(key, 0) + n

    def cache(self, hits: int, misses: int) -> None:
        """Lookups of states since the last call."""
        self.cache_hits += hits
        self.cache_misses += misses

    def store_bytes(self, partition: int, n: int) -> None:
        """Size of one task's store."""
        self.store_sizes[partition] = n

    # -- the host's part ------------------------------------------------------------------------------

    def lag(self, topic: str, partition: int, n: int) -> None:
        """Records of an input partition that are not taken yet."""
        self.lags[self.names.get(topic, topic), partition] = n

    def stream_time(self, partition: int, ms: int) -> None:
        """Stream time of one task, epoch ms."""
        self.stream_times[partition] = ms

    def tasks(self, states: Mapping[str, int]) -> None:
        """How many tasks are in which state."""
        self.task_states = {**dict.fromkeys(self.task_states, 0), **states}

    def stalled(self, seconds: float) -> None:
        """How long a task has had input without a finished commit; 0: none."""
        self.stalled_s = seconds

    def hung_transaction(self, seconds: float) -> None:
        """How long somebody's open transaction has kept a task from reading on; 0: none."""
        self.hung_transaction_s = seconds

    # -- sums for people ------------------------------------------------------------------------------

    @property
    def events_total(self) -> int:
        """All events committed: records of the inputs, without what keys tell each other."""
        return sum(n for (topic, _), n in self.records.items() if topic in INPUTS)

    @property
    def lag_total(self) -> int:
        """All records not taken yet."""
        return sum(self.lags.values())

    def recovery_progress(self) -> float:
        """Part of the changelogs replayed, 0 to 1."""
        total = sum(state.total for state in self.recoveries.values())
        return sum(state.done for state in self.recoveries.values()) / total if total else 1.0

    def counted(self, name: str) -> dict[str, int]:
        """What processors counted under a name, by label."""
        return {label: n for (known, label), n in self.business_counts.items() if known == name}


# --- exposition ----------------------------------------------------------------------------------------


class Exporter(Collector):
    """Gives the numbers of a worker to prometheus-client. `refresh` is called before each reading."""

    def __init__(self, stats: WorkerStats, refresh: Callable[[], None] | None = None) -> None:
        self._stats = stats
        self._refresh = refresh
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """(body, content type): OpenMetrics when `accept` asks for it, else Prometheus' text."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Family]:
        """All families, in the order of the list."""
        if self._refresh is not None:
            self._refresh()
        stats = self._stats
        yield _counter(RECORDS_IN, stats.records.items())
        yield _counter(OUTPUT_RECORDS, _single(stats.output_counts))
        yield _histogram(COMMIT_SECONDS, stats.commit_seconds)
        yield _histogram(COMMIT_RECORDS, stats.commit_records)
        yield _counter(CHANGELOG_BYTES, _plain(stats.changelog_bytes))
        yield _histogram(LATENCY, stats.latencies)
        yield _counter(PROCESSING_SECONDS, _single(stats.processing_seconds))
        yield _gauge(LAG, (((topic, str(partition)), n) for (topic, partition), n in stats.lags.items()))
        yield _gauge(RECOVERY_PROGRESS, _plain(stats.recovery_progress()))
        longest = max((state.seconds for state in stats.recoveries.values()), default=0.0)
        yield _gauge(RECOVERY_SECONDS, _plain(longest))
        yield _counter(RECOVERY_RECORDS, _plain(stats.recovery_records))
        yield _gauge(STORE_BYTES, _single(stats.store_sizes))
        yield _counter(CACHE_HITS, _plain(stats.cache_hits))
        yield _counter(CACHE_MISSES, _plain(stats.cache_misses))
        yield _counter(DEAD_LETTER_RECORDS, _single(stats.dead_letters))
        yield _counter(LATE, _plain(stats.dead_letters["too_late"]))
        yield _counter(MISPLACED, _plain(stats.misplaced_count))
        yield _counter(REBALANCES, _plain(stats.rebalances))
        yield _counter(ABORTS, _single(stats.transaction_aborts))
        yield _gauge(TASKS, _single(stats.task_states))
        yield _gauge(STALLED, _plain(stats.stalled_s))
        yield _gauge(HUNG_TRANSACTION, _plain(stats.hung_transaction_s))
        yield _gauge(STREAM_TIME, (((str(p),), ms / 1000) for p, ms in stats.stream_times.items()))
        yield _gauge(READY, _plain(int(stats.ready)))
        yield _gauge(BUILD_INFO, [((version(), platform.python_version()), 1)])
        yield _gauge(RULES_INFO, [((stats.rules_version,), 1)])
        yield _gauge(START_TIME, _plain(stats.started_at))
        yield from self._business()

    def _business(self) -> Iterator[Family]:
        stats = self._stats
        for name, metric in BUSINESS.items():
            counted = stats.counted(name)
            if metric is SESSIONS_OPEN and not counted:
                counted = {"": _still_open(stats)}
            if not metric.labels:
                counted = {"": sum(counted.values())}
            make = _gauge if metric.kind == "gauge" else _counter
            yield make(metric, _single(counted) if metric.labels else _plain(counted[""]))
        others = [(key, n) for key, n in stats.business_counts.items() if key[0] not in BUSINESS]
        yield _counter(DOMAIN_EVENTS, others)


Samples = Iterable[tuple[tuple[str, ...], float]]


def _still_open(stats: WorkerStats) -> int:
    """Sessions that this worker has opened and neither closed nor withdrawn since it started."""
    total = {name: sum(stats.counted(name).values()) for name in _OPENING}
    return sum(sign * total[name] for name, sign in _OPENING.items())


_OPENING = {"sessions": 1, "sessions_reopened": 1, "sessions_closed": -1, "sessions_withdrawn": -1}


def _single(values: Mapping[str, float] | Mapping[int, float]) -> Samples:
    return [((str(label),), n) for label, n in values.items()]


def _plain(value: float) -> Samples:
    return [((), value)]


def _counter(metric: Metric, samples: Samples) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _gauge(metric: Metric, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, histogram: Histogram) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + metric.name, metric.help)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family


def version() -> str:
    """The release that runs; `0` when it was never installed."""
    try:
        return metadata.version("stream-app")
    except metadata.PackageNotFoundError:
        return "0"


def resident_bytes() -> int:
    """Memory of this process in RAM; 0 where it cannot be known."""
    if sys.platform != "linux":
        return 0
    import resource
    from pathlib import Path

    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
