"""Whole deployments on the local host: several tasks, real hops between them, deaths at any step."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from stream_app.app.topology import build_topology, source_rules
from stream_app.domain.sources import SourceResolver
from stream_app.engine.commit import STEPS
from stream_app.engine.partitioning import partition_of
from stream_app.engine.task import TaskSettings
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import MemoryStores
from stream_app.reference import load as load_tables
from stream_app.settings import Settings, load
from stream_app.topics import KEYS, LIVE, OUTPUTS
from tests.counters.recount import LIVES, Recount, parse, read, shown
from tests.engine.watching import OPENING_STEPS, Kill, Watcher

GOALS = {
    "purchase": "purchase",
    "lead_form": "lead",
    "signup": "signup",
    "tried": "activation",
    "survey": "nps",
    "joined": "join",
    "left": "leave",
}
RATES = {"USD": "0.9"}


def settings(directory: Path, *, zone: str = "Europe/Riga", more: str = "") -> Settings:
    """Settings with a goal of each kind."""
    goals = "".join(f'[[goals]]\nname = "{name}"\nkind = "{kind}"\n' for name, kind in GOALS.items())
    rates = "".join(f'{currency} = "{rate}"\n' for currency, rate in RATES.items())
    path = directory / "settings.toml"
    path.write_text(
        f'[kafka]\npartitions = 2\n[site]\nown_domains = ["shop.example.com"]\ntimezone = "{zone}"\n'
        f'currency = "EUR"\n{goals}[costs.rates]\n{rates}{more}',
        encoding="utf-8",
    )
    return load(path, environ={})


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Arrival = tuple[str, dict[str, Any], int]
"""(topic, record, timestamp)"""


class World:
    """A log, stores, and one process after the other."""

    def __init__(self, chosen: Settings, partitions: int = 2, start_ms: int = 0) -> None:
        self.settings = chosen
        self.partitions = partitions
        self.clock = ManualClock(start_ms)
        self.log = LocalLog(partitions, self.clock)
        self.stores = MemoryStores()
        self.topology = build_topology(chosen, partitions=partitions)
        self.deaths = 0
        self.watcher = Watcher()

    def live(
        self,
        portions: Sequence[Sequence[Arrival]],
        *,
        step: str = "",
        nth: int = 1,
        commit_records: int = 1_000,
        cache: int = 1_000,
        idle_ms: int = 0,
    ) -> None:
        """One process, which dies at a step, or ends orderly once all is settled."""
        asyncio.run(self._live(portions, step, nth, commit_records, cache, idle_ms))

    async def _live(
        self, portions: Sequence[Sequence[Arrival]], step: str, nth: int, commit_records: int, cache: int, idle_ms: int
    ) -> None:
        self.log.changed = asyncio.Event()
        kill = Kill(step, nth)
        host = LocalHost(
            self.topology,
            self.log,
            self.stores,
            self.clock,
            self.watcher,
            task_settings=TaskSettings(commit_interval_ms=0, commit_records=commit_records, cache_entries=cache),
            probe=kill,
            max_failures=3,
        )
        await host.start()
        for portion in portions:
            self.arrive(portion)
            if not await self._settle(host, kill):
                self.deaths += 1
        if not kill.dead and idle_ms:
            self.clock.advance(idle_ms)
            await self._settle(host, kill)
        if kill.dead:
            return
        await host.stop()

    async def _settle(self, host: LocalHost, kill: Kill) -> bool:
        deadline = time.monotonic() + 60
        quiet = 0
        while quiet < 2:
            assert time.monotonic() < deadline, "never settles"
            if kill.dead:
                return False
            if host.failed is not None:
                raise host.failed
            host.tick()
            for _ in range(40):
                await asyncio.sleep(0)
                if host._is_settled():
                    break
            else:
                await asyncio.sleep(0.0005)
            quiet = quiet + 1 if host._is_settled() else 0
        return True

    def arrive(self, portion: Iterable[Arrival]) -> None:
        for topic, record, ts in portion:
            key = record[KEYS[topic]].encode()
            value = msgspec.json.encode(record)
            self.log.topic(self.topology.topics[topic])[partition_of(key, self.partitions)].append(ts, key, value)
        self.log.changed.set()

    def first(self, ts: int) -> list[Arrival]:
        """A program's click and conversion in every partition: all tasks have a stream time from then on."""
        found: list[Arrival] = []
        for number in range(self.partitions):
            client = next(c for c in map(str, range(99)) if partition_of(c.encode(), self.partitions) == number)
            bot = {"event_id": f"first{ts}", "client_id": client, "occurred_at": ts, "user_agent": "Googlebot/2.1"}
            found.append(("clicks", bot | {"url": "https://shop.example.com/"}, ts))
            found.append(("conversions", bot | {"goal": "purchase"}, ts))
            lead = next(
                k for k in (f"first{i}" for i in range(99)) if partition_of(k.encode(), self.partitions) == number
            )
            found.append(("lead-updates", bot | {"lead_id": lead, "status": "new", "currency": "EUR"}, ts))
            day = (EPOCH + timedelta(milliseconds=ts)).date().isoformat()
            cost = {
                "event_id": f"first{ts}",
                "cost_id": lead,
                "day": day,
                "source": "x",
                "medium": "y",
                "campaign": "z",
            }
            found.append(
                ("costs", cost | {"cost": "1", "currency": "EUR", "clicks": 0, "impressions": 0, "occurred_at": ts}, ts)
            )
        return found

    def last(self, topic: str) -> dict[str, dict[str, Any]]:
        """The last record of each id that is not taken back."""
        found: dict[str, dict[str, Any]] = {}
        for partition in self.log.topic(self.topology.topics[topic]):
            for record in partition.read(0)[0]:
                if record.value is None:
                    found.pop((record.key or b"").decode(), None)
                    continue
                value = msgspec.json.decode(record.value)
                assert value["revision"] >= found.get(value["id"], {"revision": 0})["revision"]
                found[value["id"]] = value
        return {name: value for name, value in found.items() if not value["retracted"]}

    def counters(self) -> list[dict[str, Any]]:
        return list(self.last("lead-counters").values())


def recounted(world: World, arrivals: Sequence[Arrival], *, zone: str = "Europe/Riga") -> Recount:
    """The recount of a world's outputs; what arrived tells of what no output shows."""
    recount = Recount(zone=zone, goals=GOALS, rates=RATES)
    events = {(r["client_id"], r["event_id"]): r for topic, r, _ in arrivals if topic == "conversions"}
    for topic, record, _ in arrivals:
        if topic == "clicks" and "Googlebot" in record.get("user_agent", ""):
            recount.count(EPOCH + timedelta(milliseconds=record["occurred_at"]), [("all", ())], "bots")
    sessions, conversions = world.last("attributed-sessions"), world.last("attributed-conversions")
    platforms = {(s["source"], s["medium"], s["campaign"]): s["source_platform"] for s in sessions.values()}
    resolver = SourceResolver(source_rules(world.settings), load_tables())
    for topic, record, _ in arrivals:
        if topic == "clicks" and (source := resolver.resolve(record["url"], record.get("referrer", "")).source):
            platforms[source.source, source.medium, source.campaign] = source.source_platform
    for record in sessions.values():
        recount.session(record, platforms)
    for record in conversions.values():
        recount.conversion(record, events[record["client_id"], record["event_id"]], platforms)
    updates = [r for topic, r, _ in arrivals if topic == "lead-updates"]
    updates.sort(key=lambda r: (r["occurred_at"], r["event_id"]))
    for lead, record in world.last("leads").items():
        recount.lead(record, [update for update in updates if update["lead_id"] == lead])
    for row in {r["cost_id"]: r for topic, r, _ in arrivals if topic == "costs"}.values():
        source = resolver.of_fields(row["source"], row["medium"], row["campaign"])
        recount.cost(row, source.channel, source.source_platform)
    return recount


def compare(found: Iterable[Mapping[str, Any]], wanted: Recount, now: datetime, *, settled: bool = False) -> int:
    """Asserts that counters are what the recount says, as far as their windows live at `now`; gives how many are.

    A window that has expired must not be wrong, it may be gone: its tombstone comes when its block is over."""
    have = read(found)
    want = {key: shown(counter, key[4]) for key, counter in wanted.result().items()}
    live = 0
    for key in sorted({*have, *want}, key=repr):
        if key[1] is not None and now >= parse(key[1]) + LIVES[key[0]]:
            assert not settled or key not in have, f"expired: {key}"
            continue
        live += 1
        assert have.get(key) == want.get(key), f"{key}\n have {have.get(key)}\n want {want.get(key)}"
    return live


def at(text: str) -> int:
    """Epoch ms of an RFC 3339 moment."""
    return int((datetime.fromisoformat(text) - EPOCH) / timedelta(milliseconds=1))


def steps() -> list[str]:
    """Where a process may die."""
    return [*STEPS, *OPENING_STEPS]


def live_outputs() -> list[str]:
    return [name for name in OUTPUTS if name in LIVE]


def shuffled(records: Sequence[Arrival], rng: random.Random, grace_ms: int) -> list[Arrival]:
    """As they arrive, each late by something within grace; what is later than that stays so."""
    moved = [
        (topic, record, max(ts, record["occurred_at"] + rng.choice((0, 0, 1_000, grace_ms // 3, grace_ms))))
        for topic, record, ts in records
    ]
    rng.shuffle(moved)
    return sorted(moved, key=lambda arrival: arrival[2])
