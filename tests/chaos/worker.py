"""A real worker that dies, fails or stops where a test wants it to: `python -m tests.chaos.worker SPEC.json`."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stream_app.app import run_worker
from stream_app.engine import recovery, task
from stream_app.engine.ports import StoreDamaged
from stream_app.engine.task import TaskSettings
from stream_app.engine.topology import Topology
from stream_app.engine.work import Commit
from stream_app.hosts.kafka.intake import KafkaIntake
from stream_app.hosts.kafka.worker import KafkaOptions, KafkaWorker
from stream_app.settings import load
from tests.chaos import mutations
from tests.chaos.spec import OPENING, TIMERS, WorkerSpec
from tests.chaos.tally import Tally


class Injected(Exception):
    """A failure that a test asked for."""


class Failpoints:
    """The probe: hears every step by name and does what the test asked for."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._points = spec.failpoints
        self._hits: dict[str, int] = {}
        self._random = random.Random(f"{spec.seed}{spec.instance}{os.getpid()}")

    def __call__(self, step: str) -> None:
        hits = self._hits[step] = self._hits.get(step, 0) + 1
        for point in self._points:
            if point.step != step or (point.armed_by and not Path(point.armed_by).exists()):
                continue
            if hits == point.nth or self._random.random() < point.probability:
                self._act(point.action, step)

    @staticmethod
    def _act(action: str, step: str) -> None:
        logging.getLogger("failpoint").warning("%s at %s", action, step)
        match action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "damage":
                raise StoreDamaged(f"as asked at {step}")
            case _:
                raise Injected(step)


class Quiet:
    """An observer that looks away."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def topology_of(spec: WorkerSpec) -> Topology:
    return Topology(
        processors=[Tally(spec.idle_ms, spec.forget_ms)],
        topics={name: spec.prefix + name for name in ("left", "right", "counts", "idles")},
        repartition=f"{spec.prefix}{spec.app_id}-repartition",
        changelog=f"{spec.prefix}{spec.app_id}-changelog",
        dead_letters=f"{spec.prefix}dead-letters",
        partitions=spec.partitions,
    )


def add_steps() -> None:
    """Further steps for the probe: in commits of timers only or made while opening, before feeding, around closing."""

    def named(commit: Any, prefix_of: Callable[[Commit], str]) -> Any:
        async def wrapped(batch: Commit, **given: Any) -> int:
            prefix, probe = prefix_of(batch), given.pop("probe")
            return await commit(batch, probe=lambda step: probe(prefix + step), **given)

        return wrapped

    task.commit_protocol = named(task.commit_protocol, lambda batch: "" if batch.records else TIMERS)
    recovery.commit_protocol = named(recovery.commit_protocol, lambda _: OPENING)
    feed, close = KafkaIntake.feed, task.Task._close

    def feeding(self: Any, chunks: Any) -> None:
        self.tasks._world.probe("intake.feed")
        feed(self, chunks)

    async def closing(self: Any, drain: bool, deadline_s: float) -> None:
        self._probe("close.begin")
        await close(self, drain, deadline_s)
        self._probe("close.end")

    KafkaIntake.feed = feeding  # type: ignore[method-assign]
    task.Task._close = closing  # type: ignore[method-assign]


def worker_of(spec: WorkerSpec) -> KafkaWorker:
    options = KafkaOptions(
        app_id=spec.app_id,
        client_options={"bootstrap_servers": spec.bootstrap.split(","), "request_timeout_ms": 10_000},
        state_directory=Path(spec.state_directory),
        session_timeout_ms=spec.session_ms,
        heartbeat_interval_ms=spec.session_ms // 10,
        rebalance_timeout_ms=20_000,
        transaction_timeout_ms=spec.transaction_timeout_ms,
        commit_deadline_s=spec.commit_deadline_s,
        group_instance_id=spec.instance,
        max_failures=spec.max_failures,
        block_cache_mb=8,
        write_buffer_mb=8,
        task=TaskSettings(
            commit_deadline_s=spec.commit_deadline_s,
            cache_entries=spec.cache_entries,
            max_record_bytes=spec.max_record_bytes,
        ),
    )
    return KafkaWorker(topology_of(spec), options, Quiet(), lambda *_: None, probe=Failpoints(spec))


def main() -> None:
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerSpec)
    logging.basicConfig(
        level=logging.INFO, format="%(created).3f %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for noisy in ("faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for name in spec.mutations:
        mutations.apply(name)
    add_steps()
    logging.getLogger("worker").info("pid %d", os.getpid())
    if spec.topology == "journeys":
        settings = load(spec.config, {})
        engine = msgspec.structs.replace(
            settings.engine, state_directory=spec.state_directory, group_instance_id=spec.instance
        )
        run_worker(msgspec.structs.replace(settings, engine=engine), probe=Failpoints(spec))
    else:
        worker_of(spec).run()


if __name__ == "__main__":
    main()
