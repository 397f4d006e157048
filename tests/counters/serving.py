"""A small shop's counters, and workers that answer for them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stream_app.app.counters import TaskCounters
from stream_app.app.referrals import TaskReferrals
from stream_app.engine.task import Phase
from stream_app.metrics import WorkerStats
from stream_app.web import Readiness, WebServer, create_web
from tests.counters.histories import history
from tests.counters.world import World, settings

DAY = 86_400_000


class Running:
    """A task as far as queries look at it."""

    phase = Phase.RUNNING

    def __init__(self, store: Any) -> None:
        self.store = store


class Status:
    """A worker that is well."""

    def trouble(self) -> str:
        return ""

    def readiness(self) -> Readiness:
        return Readiness(ready=True, reason="ok")


def three_days(directory: Path, start_ms: int) -> World:
    """Three days of a small shop."""
    world = World(settings(directory), start_ms=start_ms)
    rng = random.Random(11)
    events = []
    for day in range(3):
        events += history(rng, start_ms + day * DAY, events=60)
    world.live([[*world.first(start_ms), *sorted(events, key=lambda event: event[2])]], idle_ms=10_800_000)
    return world


@asynccontextmanager
async def workers(world: World, *, silent: bool = False, token: str = "") -> AsyncIterator[list[str]]:
    """Two workers with one task each, who know of each other; `silent`: the second one is gone."""
    servers: list[WebServer] = []
    urls: list[str] = []
    try:
        for partition in range(world.partitions):
            tasks = {partition: Running(world.stores.open(partition))}
            answers = TaskCounters(
                world.settings, world.partitions, lambda tasks=tasks: tasks, lambda own=partition: others(own)
            )
            programmes = TaskReferrals(world.settings, world.partitions, answers._tasks, answers.others)
            web = create_web(
                Status(),
                WorkerStats(),
                counters=answers,
                referrals=programmes,
                counters_need_token=bool(token),
                token=token,
            )
            servers.append(WebServer(web, "127.0.0.1", 0))
            urls.append(await servers[-1].start())

        def others(own: int) -> list[str]:
            return ["http://127.0.0.1:9"] if silent else [url for n, url in enumerate(urls) if n != own]

        yield urls
    finally:
        for server in servers:
            await server.stop()
