"""From settings to a worker process on Kafka."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stream_app.app.counters import TaskCounters
from stream_app.app.referrals import TaskReferrals
from stream_app.app.topology import build_topology
from stream_app.engine.partitioning import partition_of
from stream_app.engine.ports import Probe
from stream_app.engine.recovery import RecoverySettings
from stream_app.engine.task import Phase, TaskSettings
from stream_app.engine.topology import Topology
from stream_app.hosts.kafka.worker import KafkaOptions, KafkaWorker
from stream_app.metrics import WorkerStats
from stream_app.processors.people.reading import entries_of, referrer_document
from stream_app.processors.readable import client_document, cost_document, lead_document, person_document
from stream_app.processors.referral_tables import row_of
from stream_app.settings import Settings
from stream_app.settings.security import client_options
from stream_app.topics import TOMBSTONE_RETENTION_MS, Catalogue
from stream_app.web import NotReady, Readiness, WebServer, create_web

log = logging.getLogger(__name__)


def run_worker(settings: Settings, *, probe: Probe = lambda _: None, topology: Topology | None = None) -> None:
    """Runs a worker until a signal ends it; exits the process. `probe` and `topology` are for tests."""
    topology = topology or build_topology(settings)
    catalogue = Catalogue.of(settings)
    stats = WorkerStats({t.name: t.logical for t in catalogue.topics.values()}, rules_version=_rules_version(topology))
    server: WebServer | None = None

    async def serve(worker: KafkaWorker) -> str:
        nonlocal server
        status = WorkerStatus(worker)
        queries = StateQueries(worker)
        application = create_web(
            status,
            stats,
            queries,
            counters=_counters(settings, worker),
            referrals=TaskReferrals(settings, worker.topology.partitions, lambda: worker.tasks.tasks, worker.others),
            counters_need_token=not settings.web.is_local,
            token=settings.web.read_token(),
            refresh=lambda: _refresh(worker, stats),
        )
        server = WebServer(application, settings.web.host, settings.web.port)
        url = await server.start()
        log.info("listening on %s (/health/ready, /metrics)", url)
        return settings.web.advertised_url or url

    async def stop_serving() -> None:
        if server is not None:
            await server.stop()

    KafkaWorker(
        topology, kafka_options(settings), stats, stats.lag, probe=probe, serve=serve, stop_serving=stop_serving
    ).run()


def _counters(settings: Settings, worker: KafkaWorker) -> TaskCounters | None:
    if not settings.counters.enabled:
        return None
    return TaskCounters(settings, worker.topology.partitions, lambda: worker.tasks.tasks, worker.others)


def kafka_options(settings: Settings) -> KafkaOptions:
    """What the Kafka host is told."""
    engine, kafka = settings.engine, settings.kafka
    return KafkaOptions(
        app_id=kafka.app_id,
        client_options={**client_options(kafka), "client_id": f"{kafka.app_id}-{os.getpid()}"},
        state_directory=Path(engine.state_directory),
        session_timeout_ms=engine.session_timeout_ms,
        heartbeat_interval_ms=engine.heartbeat_interval_ms,
        rebalance_timeout_ms=engine.rebalance_timeout_ms,
        transaction_timeout_ms=engine.transaction_timeout_ms,
        commit_deadline_s=engine.commit_deadline_ms / 1000,
        shutdown_deadline_s=engine.shutdown_deadline_s,
        group_instance_id=engine.group_instance_id,
        max_failures=engine.max_failures,
        block_cache_mb=engine.block_cache_mb,
        write_buffer_mb=engine.write_buffer_mb,
        task=TaskSettings(
            commit_interval_ms=engine.commit_interval_ms,
            commit_records=engine.commit_records,
            commit_deadline_s=engine.commit_deadline_ms / 1000,
            cache_entries=max(1, engine.cache_entries // kafka.partitions),
            max_record_bytes=engine.max_record_bytes,
        ),
        recovery=RecoverySettings(max_idle_ms=TOMBSTONE_RETENTION_MS // 2),
    )


def _rules_version(topology: Topology) -> str:
    return "-".join(str(v) for p in topology.processors if (v := getattr(p, "rules_version", "")))


def _refresh(worker: KafkaWorker, stats: WorkerStats) -> None:
    """Gauges that are looked up when somebody asks."""
    states: dict[str, int] = {phase.value: 0 for phase in Phase}
    for partition, task in worker.tasks.tasks.items():
        states[task.phase.value] += 1
        if task.phase is Phase.RUNNING:
            stats.stream_time(partition, task.bench.time.value)
    stats.tasks(states)
    stats.stalled(worker.stalled_s())
    stats.hung_transaction(worker.hung_commit_s())
    stats.ready = worker.not_ready()[0] == "ok"


class WorkerStatus:
    """Health of a Kafka worker. Implements the web's `StatusSource`."""

    def __init__(self, worker: KafkaWorker) -> None:
        self._worker = worker

    def trouble(self) -> str:
        """Why the process should be restarted; empty: it lives."""
        stalled = self._worker.stalled_s()
        return f"the intake has stood still for {stalled:.0f} s" if stalled > 30 else ""

    def readiness(self) -> Readiness:
        """Whether it processes what it is assigned."""
        reason, detail = self._worker.not_ready()
        states: dict[str, int] = {}
        for phase in self._worker.tasks.states().values():
            states[phase.value] = states.get(phase.value, 0) + 1
        return Readiness(ready=reason == "ok", reason=reason, detail=detail, tasks=states)


_READABLE: Mapping[str, tuple[str, Callable[[bytes, Any], dict[str, object]]]] = {
    "client": ("journeys", lambda key, client: client_document(key, client, None)),
    "person": ("persons", person_document),
    "lead": ("leads", lead_document),
    "cost": ("costs", cost_document),
    "referrer": ("people", lambda _key, _state: {}),
    "referrals": ("referral-counters", lambda _key, head: msgspec.to_builtins(row_of(head))),
}
"""What can be asked for: the processor that keeps it, and how its state is told to people."""


class StateQueries:
    """Committed states of this worker's tasks. Implements the web's `Queries`."""

    def __init__(self, worker: KafkaWorker) -> None:
        self._worker = worker

    def kinds(self) -> Collection[str]:
        """What can be asked for."""
        return _READABLE.keys()

    def owner(self, kind: str, key: bytes) -> str | None:  # noqa: ARG002  # every kind is partitioned alike
        """Base URL of the worker that owns the key; None: this one."""
        partition = partition_of(key, self._worker.topology.partitions)
        task = self._worker.tasks.tasks.get(partition)
        if task is not None:
            if task.phase is Phase.RUNNING:
                return None
            raise NotReady(f"task {partition}, which holds it, is {task.phase.value}")
        url = self._worker.owner_of(partition)
        if url is None:
            raise NotReady(f"nobody is known to own task {partition}, which holds it")
        return url

    async def state(self, kind: str, key: bytes) -> bytes | None:
        """The committed state as JSON."""
        processor, readable = _READABLE[kind]
        task = self._worker.tasks.tasks.get(partition_of(key, self._worker.topology.partitions))
        if task is None or task.phase is not Phase.RUNNING:
            raise NotReady("its task is not running here")
        states = task.bench.states[processor]
        found = states.committed(key)
        if found is None:
            return None
        if kind == "client":
            return msgspec.json.encode(client_document(key, found, states.committed_rows))  # type: ignore[arg-type]
        if kind == "referrer":
            assert task.store is not None  # it is running
            return msgspec.json.encode(referrer_document(key, found, entries_of(task.store, states.tag, key)))  # type: ignore[arg-type]
        return msgspec.json.encode(readable(key, found))
