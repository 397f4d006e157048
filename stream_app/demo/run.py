"""Starts the parts one after the other, shows what they do, and ends them in the opposite order.

1. A broker (`stream_app.devtools.broker`). Without any, the local host runs the same topology in this process.
2. The topics.
3. A worker, and the wait until it is ready.
4. The simulator.
5. The view, until Ctrl-C, the time asked for, or the end of one of the parts, which is a failure.
6. Simulator, worker (which commits what it holds), broker.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from stream_app import topics
from stream_app.demo.view import EMPTY, Scene, frame, line
from stream_app.devtools import scrape
from stream_app.devtools.broker import Broker, NoBroker
from stream_app.devtools.child import Child, ChildFailed, stop_all, stream_app
from stream_app.devtools.ports import free_ports, is_free
from stream_app.devtools.scrape import Reading
from stream_app.metrics import Exporter
from stream_app.settings import Settings, load
from stream_app.simulator.business import live_business
from stream_app.simulator.faults import Faults
from stream_app.simulator.payouts import manager_of
from stream_app.simulator.records import Record
from stream_app.simulator.referrals import Referrals
from stream_app.simulator.traffic import Traffic, TrafficConfig

if TYPE_CHECKING:
    from stream_app.demo.local import LocalDemo

READY_TIMEOUT_S = 120.0
_HISTORY_MS = 45 * 60_000

Say = Callable[[str], None]


class DemoFailed(Exception):
    """The demo cannot go on; the message says which part and why."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    config: Path | None = None
    directory: Path = Path(".run")
    rate: float = 200.0
    seed: int | None = None
    faults: str = "bad=0.0005,too_late=0.0002"
    seconds: float | None = None
    plain: bool = False
    """Lines in place of a picture."""
    every_s: float = 1.0
    """Between two looks at the worker."""


def run(plan: Plan, say: Say) -> None:
    """Runs the demo to its end. Raises DemoFailed; when it returns or raises, nothing that it started is left."""
    Faults.parse(plan.faults)
    try:
        broker = Broker.start(directory=plan.directory / "broker", say=say)
    except NoBroker as error:
        say(str(error))
        _run_until_signal(_local(plan, say))
        return
    with broker:
        _run_until_signal(_on_broker(plan, broker.bootstrap, say))
        say("stopping the broker" if broker.origin != "given" else "leaving the broker as it is")


def _run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            await main
        except asyncio.CancelledError:
            task.uncancel()

    asyncio.run(guarded())


def example_settings() -> Path | None:
    """The settings that a checkout brings; None in an installation without them."""
    path = Path(__file__).resolve().parents[2] / "deploy" / "stream-app.toml"
    return path if path.is_file() else None


# --- with a broker -------------------------------------------------------------------------------------


async def _on_broker(plan: Plan, bootstrap: str, say: Say) -> None:
    config = plan.config or example_settings()
    settings = load(config)
    port = settings.web.port if settings.web.port and is_free(settings.web.port) else free_ports(1)[0]
    home = plan.directory / "demo"
    environment = {
        "STREAM_APP_KAFKA__BOOTSTRAP": bootstrap,
        "STREAM_APP_WEB__PORT": str(port),
        "STREAM_APP_ENGINE__STATE_DIRECTORY": str(home / "state"),
    }
    kafka = msgspec.structs.replace(settings.kafka, bootstrap=bootstrap)
    await _topics(kafka, say)
    common = ["--config", str(config)] if config else []
    children: list[Child] = []
    with ExitStack() as stack:
        # The simulator ends before the worker, so that the worker can take the last of it.
        stack.callback(lambda: stop_all(children[::-1], settings.engine.shutdown_deadline_s + 5))
        stack.callback(lambda: say("stopping simulator and worker"))
        try:
            children.append(Child("worker", stream_app("worker", *common), home / "worker.log", environment))
            url = f"http://127.0.0.1:{port}"
            async with scrape.client() as session:
                say(f"worker: process {children[0].pid}, log {children[0].log}; waiting until it is ready")
                await scrape.await_ready(session, url, READY_TIMEOUT_S, children[0].check)
                arguments = ["simulate", *common, "--rate", f"{plan.rate:g}", "--faults", plan.faults]
                arguments += ["--seed", str(plan.seed)] if plan.seed is not None else []
                arguments += ["--program", settings.programs[0].name] if settings.programs else []
                children.append(Child("simulator", stream_app(*arguments), home / "simulator.log", environment))
                say(f"simulator: process {children[1].pid}, {plan.rate:g} events/s, log {children[1].log}")
                scene = Scene(title=f"Kafka at {bootstrap}", url=url, hints=_hints(kafka.topic_prefix, bootstrap))
                await _watch(plan, scene, _worker_readings(session, url, children), say)
        except (ChildFailed, TimeoutError) as error:
            raise DemoFailed(str(error)) from error


async def _topics(kafka: Any, say: Say) -> None:
    catalogue = topics.Catalogue(kafka)
    try:
        async with topics.admin(kafka) as client:
            created = await topics.create(catalogue, client)
            differences = await topics.check(catalogue, client, live_only=True)
    except topics.TopicError as error:
        raise DemoFailed(str(error)) from error
    if fatal := [str(d) for d in differences if d.what in {"partitions", "cleanup.policy", "missing"}]:
        raise DemoFailed("the topics on this broker are not those of the settings:\n" + "\n".join(fatal))
    say(f"topics: {len(created)} created, {len(catalogue.topics) - len(created)} were there")


def _hints(prefix: str, bootstrap: str) -> list[str]:
    read = "kcat -C -b {} -t {}{} -o end -X isolation.level=read_committed"
    return [read.format(bootstrap, prefix, name) for name in ("attributed-sessions", "attributed-conversions")]


async def _worker_readings(
    session: aiohttp.ClientSession, url: str, children: list[Child]
) -> AsyncIterator[tuple[Reading | None, str]]:
    """(reading, trouble), as often as asked for. Raises ChildFailed when a part has ended."""
    while True:
        for child in children:
            child.check()
        ready, why = await scrape.readiness(session, url)
        yield await scrape.read(session, url), "" if ready else why


# --- without a broker ----------------------------------------------------------------------------------


async def _local(plan: Plan, say: Say) -> None:
    """The same topology over an in-memory log, in this process."""
    from stream_app.demo import local

    directory = plan.directory / "demo" / "local"
    say(
        "Running without Kafka: the same topology on the local host. It lacks what a broker gives: the log is in "
        f"memory, so that a restart begins anew, and outputs go to files in {directory}, not to topics."
    )
    settings = load(plan.config or example_settings())
    web = settings.web
    async with (
        local.running(settings, directory, _live(plan, settings)) as demo,
        local.served(demo, web, web.port if web.port and is_free(web.port) else 0) as url,
    ):
        scene = Scene(title="local host, no Kafka", url=url, hints=[f"tail -f {directory}/attributed-sessions.jsonl"])
        await _watch(plan, scene, _local_readings(demo), say)
        say("stopping")


async def _local_readings(demo: LocalDemo) -> AsyncIterator[tuple[Reading, str]]:
    exporter = Exporter(demo.stats)
    while True:
        demo.drain()
        readiness = demo.readiness()
        yield scrape.parse(exporter.render()[0].decode()), "" if readiness.ready else readiness.reason


async def _live(plan: Plan, settings: Settings) -> AsyncIterator[Record]:
    """Records when their time has come."""
    start_ms = time.time_ns() // 1_000_000
    history_ms = min(_HISTORY_MS, settings.sessions.grace_minutes * 60_000 * 3 // 4)
    config = TrafficConfig(
        start_ms=start_ms,
        rate=plan.rate,
        history_ms=history_ms,
        history_events=12_000,
        faults=Faults.parse(plan.faults),
    )
    traffic = Traffic(plan.seed if plan.seed is not None else start_ms // 1000 % 1_000_000, config)
    records: Iterable[Record] = live_business(traffic)
    if settings.programs:
        records = Referrals(records, traffic.seed, settings.programs[0].name, manager_of(settings, traffic.seed))
    for number, record in enumerate(records):
        ahead_ms = record.ts - time.time_ns() // 1_000_000
        if ahead_ms > 0:
            await asyncio.sleep(ahead_ms / 1000)
        elif number % 200 == 0:
            await asyncio.sleep(0.005)  # the burst of the beginning lets others have their turn
        yield record


# --- the view ------------------------------------------------------------------------------------------


async def _watch(plan: Plan, scene: Scene, readings: AsyncIterator[tuple[Reading | None, str]], say: Say) -> None:
    """Shows readings until the time asked for is over; forever without one."""
    began = time.monotonic()
    before = now = EMPTY
    if plan.plain:
        say(f"open {scene.url}/, metrics {scene.url}/metrics, health {scene.url}/health/ready")
        for hint in scene.hints:
            say(hint)
    with ExitStack() as stack:
        live = None if plan.plain else _screen(stack)
        while True:
            reading, trouble = await anext(readings)
            elapsed = time.monotonic() - began
            before, now = (now, reading) if reading is not None else (before, now)
            if live is None:
                sys.stdout.write(line(now, before, elapsed, trouble) + "\n")
                sys.stdout.flush()
            else:
                live.update(frame(scene, now, before, elapsed, trouble), refresh=True)
            if plan.seconds is not None and elapsed >= plan.seconds:
                return
            await asyncio.sleep(plan.every_s)


def _screen(stack: ExitStack) -> Any:
    from rich.console import Console
    from rich.live import Live

    return stack.enter_context(Live(console=Console(file=sys.stdout), auto_refresh=False, screen=False))
