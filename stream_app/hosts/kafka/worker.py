"""One worker process: a Faust app whose consumer is ours.

Faust gives the app, the worker with its signals and service life cycle, the agents and their channels, and the sticky
co-partitioning assignor. Its own consumer, producer, conductor and tables stay off (docs/decisions).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import faust
import uvloop
from aiokafka.errors import KafkaConnectionError
from faust.app.base import BootStrategy
from mode import Service
from yarl import URL

from stream_app.engine.ports import Observer, Probe
from stream_app.engine.recovery import CannotOpen, RecoverySettings, World
from stream_app.engine.task import Phase, TaskSettings
from stream_app.engine.tasks import Tasks, TasksSettings
from stream_app.engine.topology import Topology
from stream_app.engine.work import Chunk
from stream_app.hosts.clock import SystemClock
from stream_app.hosts.collector import calm
from stream_app.hosts.kafka import lean
from stream_app.hosts.kafka.assignor import Assignor
from stream_app.hosts.kafka.intake import KafkaIntake
from stream_app.hosts.kafka.log import KafkaLog
from stream_app.hosts.stores import RocksStores, hold

log = logging.getLogger(__name__)

NotReadyReason = Literal["ok", "rebalancing", "recovering", "failing", "hung_transaction", "stalled"]

EXIT_FAILED = 70
"""The worker cannot go on; its supervisor may start it anew."""
EXIT_DEADLINE = 75
"""Shutdown took longer than its deadline. Always safe: what is not committed is not there."""
_STALLED_S = 60.0
_FULL_COLLECTION_EVERY = 60
"""Rounds of housekeeping, ten seconds each, between two full garbage collections."""
_ANSWERS_UNDER_WAY = 2
"""Of one topic, given to its agent and not yet fed to the tasks: they take them at once."""
_HUNG_COMMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """Everything the Kafka host must be told."""

    app_id: str
    client_options: Mapping[str, Any]
    """Common to all aiokafka clients: addresses, TLS, log-in."""
    state_directory: Path
    session_timeout_ms: int = 15_000
    heartbeat_interval_ms: int = 3_000
    rebalance_timeout_ms: int = 60_000
    transaction_timeout_ms: int = 30_000
    commit_deadline_s: float = 10.0
    shutdown_deadline_s: float = 30.0
    group_instance_id: str = ""
    max_failures: int = 8
    block_cache_mb: int = 128
    write_buffer_mb: int = 128
    task: TaskSettings = field(default_factory=TaskSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)


class KafkaWorker:
    """The parts of one worker and how they hang together.

    `serve(worker)`, if given, starts the web server and returns the URL under which others reach it; `stop_serving`
    ends it. They come from above: hosts know no pages.
    """

    def __init__(
        self,
        topology: Topology,
        options: KafkaOptions,
        observer: Observer,
        on_lag: Callable[[str, int, int], None],
        *,
        probe: Probe = lambda _: None,
        serve: Callable[[KafkaWorker], Awaitable[str]] | None = None,
        stop_serving: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.topology = topology
        self.options = options
        self.started_at = time.monotonic()
        self._serve = serve
        self._stop_serving = stop_serving
        lean.install()
        self.log = KafkaLog(
            options=options.client_options,
            app_id=options.app_id,
            changelog=topology.changelog,
            transaction_timeout_ms=options.transaction_timeout_ms,
        )
        self.faust = _app(options)
        self._channels: dict[str, Any] = {}
        self.intake = KafkaIntake(
            topics=topology.input_topics,
            consumer_options={
                **options.client_options,
                "group_id": options.app_id,
                "group_instance_id": options.group_instance_id or None,
                "session_timeout_ms": options.session_timeout_ms,
                "heartbeat_interval_ms": options.heartbeat_interval_ms,
                "rebalance_timeout_ms": options.rebalance_timeout_ms,
                "partition_assignment_strategy": [self.faust.assignor],
            },
            deliver=self._deliver,
            on_lag=on_lag,
        )
        self.stores = RocksStores(options.state_directory, options.block_cache_mb, options.write_buffer_mb)
        world = World(self.log, self.stores, SystemClock(), observer, probe, options.recovery)
        self.tasks = self.intake.tasks = Tasks(
            topology,
            world,
            self.intake,
            TasksSettings(max_failures=options.max_failures, drain_deadline_s=options.commit_deadline_s),
            options.task,
            self.die,
        )
        self._observer = observer
        for topic in topology.input_topics:
            self._add_agent(topic)
        self.faust.service(_service(self))

    # -- agents ---------------------------------------------------------------------------------------
    def _add_agent(self, topic: str) -> None:
        """One Faust agent an input topic, fed with whole chunks."""
        channel = self._channels[topic] = self.faust.channel(maxsize=_ANSWERS_UNDER_WAY)

        async def feed(stream: Any) -> None:
            async for chunks in stream:
                self.intake.feed(chunks)

        feed.__name__ = feed.__qualname__ = f"feed_{topic}"
        self.faust.agent(channel, name=f"feed-{topic}")(feed)

    async def _deliver(self, topic: str, chunks: list[Chunk]) -> None:
        await self._channels[topic].send(value=chunks)

    # -- life -----------------------------------------------------------------------------------------
    async def start(self) -> None:
        try:
            url = await self._serve(self) if self._serve else "http://127.0.0.1:6066"
        except OSError as exc:
            self.die(CannotOpen(exc.strerror or str(exc)))
        self.faust.conf.canonical_url = URL(url)  # the assignor tells the others by it where this worker is
        self.faust.flow_control.resume()  # Faust's own recovery does this; channels are shut until then
        try:
            await self.log.check_partitions(self.topology)
        except CannotOpen as exc:
            self.die(exc)
        except KafkaConnectionError as exc:
            addresses = ", ".join(self.options.client_options["bootstrap_servers"])
            self.die(CannotOpen(f"no broker answers at {addresses} (kafka.bootstrap): {exc}"))
        await self.intake.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        _calm_collector()

    async def stop(self) -> None:
        began = time.monotonic()
        await self.intake.stop()
        try:
            await self.log.close()
        except Exception as exc:  # noqa: BLE001  # nobody needs these clients any more
            log.info("closing clients: %r", exc)
        if self._stop_serving:
            await self._stop_serving()
        log.info("stopped in %.2f s", time.monotonic() - began)

    async def housekeeping(self) -> None:
        """Now and then: processed repartition records are deleted, store sizes told."""
        deleted: dict[int, int] = {}
        topic = self.topology.repartition
        rounds = 0
        while True:
            await asyncio.sleep(10)
            rounds += 1
            if not rounds % _FULL_COLLECTION_EVERY:
                gc.collect()
            offsets = {}
            for partition, task in list(self.tasks.tasks.items()):
                if task.phase is Phase.RUNNING and task.store is not None:
                    self._observer.store_bytes(partition, task.store.size())
                    done = task.committed_offset(topic)
                    if done > deleted.get(partition, 0):
                        offsets[partition] = done
            if offsets:
                try:
                    await self.log.delete_before(topic, offsets)
                    deleted.update(offsets)
                except Exception as exc:  # noqa: BLE001  # they stay a little longer; the topic's retention is unlimited on purpose
                    log.info("deleting processed repartition records: %r", exc)

    def die(self, exc: BaseException) -> None:
        """Ends the process at once, with the reason on the log. Nothing that is not committed is lost by it."""
        known = isinstance(exc, CannotOpen)  # its text is all that an operator needs
        log.critical("cannot go on: %s", exc if known else repr(exc), exc_info=None if known else exc)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(EXIT_FAILED)

    def _watch(self) -> None:
        """A thread of its own: a loop that stands still cannot watch itself. The supervisor starts it anew."""
        while True:
            time.sleep(5)
            still = time.monotonic() - self.intake.polled_at
            if still > _STALLED_S:
                log.critical("the event loop has stood still for %.0f s", still)
                logging.shutdown()
                os._exit(EXIT_FAILED)

    # -- what health tells ----------------------------------------------------------------------------
    def not_ready(self) -> tuple[NotReadyReason, str]:
        """("ok", "") if this worker processes all that it is assigned; else why not, with a detail for people."""
        if not self.intake.assigned:
            return "rebalancing", "waiting for the group to assign partitions"
        phases = self.tasks.states()
        failed = [p for p, phase in phases.items() if phase is Phase.FAILED]
        if failed:
            return "failing", f"tasks {failed} failed and are being opened again"
        opening = [p for p, phase in phases.items() if phase is not Phase.RUNNING]
        if opening:
            return "recovering", f"tasks {opening} of {sorted(phases)} are not running yet"
        if self.hung_commit_s() > _HUNG_COMMIT_S:
            return (
                "hung_transaction",
                f"a commit has taken {self.hung_commit_s():.0f} s so far; readers of its topics wait",
            )
        if self.stalled_s() > _HUNG_COMMIT_S:
            return "stalled", f"the intake has not polled for {self.stalled_s():.0f} s"
        return "ok", ""

    def stalled_s(self) -> float:
        """How long ago the poll loop last went round, once longer than a tick."""
        still = time.monotonic() - self.intake.polled_at
        return still if still > 1 else 0.0

    def hung_commit_s(self) -> float:
        """Age of the oldest commit in flight."""
        now = time.monotonic()
        return max(
            (now - t.committing_since for t in self.tasks.tasks.values() if t.committing_since is not None), default=0.0
        )

    def owner_of(self, partition: int) -> str | None:
        """URL of the worker that owns a task, as the assignor has told everyone."""
        topic = self.topology.input_topics[0]
        assignor = self.faust.assignor
        for url, topics in assignor.external_topic_distribution.items():
            if partition in topics.get(topic, ()):
                return str(url)
        return None

    def others(self) -> list[str]:
        """URLs of the other workers, as the assignor has told everyone."""
        return [
            str(url)
            for url, topics in self.faust.assignor.external_topic_distribution.items()
            if any(topics.values()) and str(url).rstrip("/") != str(self.faust.conf.canonical_url).rstrip("/")
        ]

    # -- running --------------------------------------------------------------------------------------
    def run(self) -> None:
        """Runs until a signal ends it; exits the process."""
        try:
            held = hold(self.options.state_directory)
        except BlockingIOError as exc:
            log.critical("cannot start: %s", exc)
            logging.shutdown()
            raise SystemExit(EXIT_FAILED) from exc
        self._held = held  # for as long as this process lives
        uvloop.install()
        worker = _Process(self.faust, deadline_s=self.options.shutdown_deadline_s)
        worker.execute_from_commandline()


def _calm_collector() -> None:
    """What the start has left is looked at once and never again. `housekeeping` does a full collection now and then."""
    gc.collect()
    gc.freeze()
    calm()


def _app(options: KafkaOptions) -> Any:
    class Boot(BootStrategy):  # type: ignore[misc]  # faust ships no usable types
        """Faust without a Kafka client of its own: ours is the only one."""

        enable_kafka = False
        enable_web = False

    app = faust.App(
        options.app_id,
        broker="kafka://" + ";kafka://".join(options.client_options["bootstrap_servers"]),
        datadir=str(options.state_directory),
        web_enabled=False,
        topic_disable_leader=True,
        autodiscover=False,
        PartitionAssignor=Assignor,
    )
    app.boot_strategy = Boot(app)
    return app


def _service(worker: KafkaWorker) -> type[Service]:
    class Engine(Service):  # type: ignore[misc]  # mode ships no usable types
        """Starts last and stops first of all services of the app."""

        async def on_start(self) -> None:
            await worker.start()

        @Service.task  # type: ignore[untyped-decorator]
        async def _poll(self) -> None:
            try:
                await worker.intake.poll_forever()
            except asyncio.CancelledError:
                raise
            except BaseException as exc:  # noqa: BLE001  # whatever it is, the worker ends
                worker.die(exc)

        @Service.task  # type: ignore[untyped-decorator]
        async def _housekeeping(self) -> None:
            await worker.housekeeping()

        async def on_stop(self) -> None:
            await worker.stop()

    return Engine


class _Process(faust.Worker):  # type: ignore[misc]  # faust ships no usable types
    """A Faust worker that has ended by its deadline, whatever hangs."""

    def __init__(self, app: Any, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        super().__init__(app, loglevel=None, logfile=None, redirect_stdouts=False, quiet=True)
        self.spinner = None  # it would write control characters into the log

    def _on_sigterm(self) -> None:
        self._arm()
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        self._arm()
        super()._on_sigint()

    def _arm(self) -> None:
        timer = threading.Timer(self._deadline_s, self._deadline)
        timer.daemon = True
        timer.start()

    def _deadline(self) -> None:
        log.critical("shutdown took longer than %g s", self._deadline_s)
        logging.shutdown()
        os._exit(EXIT_DEADLINE)

    def _setup_logging(self) -> None:
        """Logging is set up already, by the command."""
