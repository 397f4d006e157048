"""How long partitions wait when workers come and go: two workers, a steady feed, the commits of every partition.

The pause of a partition is the longest time between two of its commits that ends after the event; the figure is that
of the partition that waited longest, counted from the event on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from stream_app import topics
from stream_app.bench.lab import READY_TIMEOUT_S, BenchFailed, Committed, Deployment, Lab
from stream_app.devtools import scrape
from stream_app.devtools.child import Child, module

_RATE = 2_000.0
_POLL_S = 0.03
_QUIET_S = 4.0
"""So long every partition must go on without a pause of a second: then it is over."""
_TIMEOUT_S = 120.0
_FEED_S = 900.0


class Watch:
    """When each partition last moved on, and the longest pauses since the event."""

    def __init__(self, event_at: float, partitions: int) -> None:
        self._event_at = event_at
        self._partitions = partitions
        self._offsets: dict[int, int] = {}
        self._moved: dict[int, float] = {}
        self._longest: dict[int, float] = {}

    def saw(self, at: float, offsets: dict[int, int]) -> None:
        """The committed offsets of one topic at a moment."""
        for partition, offset in offsets.items():
            before = self._offsets.get(partition)
            if before is None:
                self._moved[partition] = at
            elif offset > before:
                pause = at - max(self._event_at, self._moved[partition])
                self._longest[partition] = max(self._longest.get(partition, 0.0), pause)
                self._moved[partition] = at
            self._offsets[partition] = max(offset, before or 0)

    def over(self, now: float) -> bool:
        """Whether all go on again, and have done so for a while."""
        return (
            len(self._longest) == self._partitions
            and now - self._event_at > _QUIET_S
            and all(now - moved < 1.0 for moved in self._moved.values())
        )

    @property
    def pause_s(self) -> float:
        return max(self._longest.values())


async def measure(lab: Lab) -> dict[str, Any]:
    """Seconds for each way in which a worker comes or goes."""
    deployment = await lab.deploy("pauses", "append")
    result: dict[str, Any] = {"rate": _RATE}
    async with _Stage(deployment, static=False) as stage:
        result["join_s"] = await stage.pause("join", stage.start_second)
        result["leave_s"] = await stage.pause("leave", stage.second_leaves)
        await stage.pause("join again", stage.start_second)
        result["kill_s"] = await stage.pause("kill", stage.kill_second)
    deployment = await lab.deploy("pauses-static", "append")
    async with _Stage(deployment, static=True) as stage:
        await stage.pause("join", stage.start_second)
        result["static_restart_s"] = await stage.pause("static restart", stage.restart_second)
    result["session_timeout_s"] = 15.0
    return result


class _Stage:
    """A worker and a feed; the second worker comes and goes."""

    def __init__(self, deployment: Deployment, *, static: bool) -> None:
        self._deployment = deployment
        self._static = static
        self._children: list[Child] = []
        self._second: Child | None = None
        self._committed = Committed.of(deployment)

    async def __aenter__(self) -> _Stage:
        await self._committed.__aenter__()
        try:
            first = self._worker(0)
            async with scrape.client() as session:
                await scrape.await_ready(session, self._deployment.url(0), READY_TIMEOUT_S, first.check)
            feed = module("stream_app.bench.pacer", str(self._deployment.config(9)), f"{_RATE}", f"{_FEED_S}", "1")
            self._children.append(Child("pacer", feed, self._deployment.directory / "pacer.log"))
            await self._flowing()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self._children):
            await asyncio.to_thread(child.stop)
        await self._committed.__aexit__()

    def _worker(self, number: int) -> Child:
        options: dict[str, object] = {"group_instance_id": f"bench-{number}"} if self._static else {}
        child = self._deployment.worker(number, **options)
        self._children.append(child)
        return child

    # -- what happens to the second worker -------------------------------------------------------------
    def start_second(self) -> None:
        self._second = self._worker(1)

    def second_leaves(self) -> None:
        self._second_signal("SIGTERM")

    def kill_second(self) -> None:
        self._second_signal("SIGKILL")

    def restart_second(self) -> None:
        """Killed, and started again at once, as a supervisor would."""
        assert self._second is not None
        self._second.kill()
        self.start_second()

    def _second_signal(self, name: str) -> None:
        import signal

        assert self._second is not None
        self._second.signal(getattr(signal, name))

    # -- measuring -------------------------------------------------------------------------------------
    async def _flowing(self) -> None:
        """Waits until every partition of the clicks has been committed."""
        deadline = time.monotonic() + _TIMEOUT_S
        while len(await self._clicks()) < self._deployment.kafka.partitions:
            if time.monotonic() > deadline:
                raise BenchFailed(f"{self._deployment.name}: nothing flows; {self._children[0].log_tail()}")
            await asyncio.sleep(0.1)

    async def _clicks(self) -> dict[int, int]:
        name = topics.topic_name(topics.CLICKS, self._deployment.kafka)
        return {p: o for (topic, p), o in (await self._committed.offsets()).items() if topic == name}

    async def pause(self, name: str, act: Callable[[], None]) -> float:
        """Does something and gives the pause that follows, in seconds."""
        before = await self._clicks()
        event_at = time.monotonic()
        watch = Watch(event_at, self._deployment.kafka.partitions)
        watch.saw(event_at, before)
        await asyncio.to_thread(act)
        while not watch.over(time.monotonic()):
            watch.saw(time.monotonic(), await self._clicks())
            if time.monotonic() - event_at > _TIMEOUT_S:
                raise BenchFailed(f"{self._deployment.name}, {name}: some partition is not processed any more")
            await asyncio.sleep(_POLL_S)
        self._deployment.say(f"{self._deployment.name}: {name}: {watch.pause_s:.2f} s")
        return round(watch.pause_s, 2)
