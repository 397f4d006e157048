"""Worlds in which people are erased, and the whole topology over them: tasks, hops, stores, crashes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import rocksdict

from stream_app.app.topology import build_topology
from stream_app.engine.partitioning import partition_of
from stream_app.engine.task import Phase, TaskSettings
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import MemoryStores
from stream_app.metrics import WorkerStats
from stream_app.processors.pseudonyms import PREFIX, Pseudonyms
from stream_app.settings import parse
from tests.processors.test_topology import is_left_out
from tests.referral.worlds import DAY, HOUR, MINUTE, T0

Record = tuple[str, dict[str, Any], int]
PARTITIONS = 4
OUTPUTS = ("attributed-sessions", "attributed-conversions", "referral-rewards", "referral-counters", "leads")
KEYS = {"referral-events": "user_id", "lead-updates": "lead_id"}
SETTINGS: dict[str, Any] = {
    "site": {"own_domains": ["shop.example.com"]},
    "sessions": {"grace_minutes": 60},
    "privacy": {"hash_key": "a secret of the tests, long enough"},
    "goals": [{"name": "purchase", "kind": "purchase"}, {"name": "quote", "kind": "lead"}],
    "programs": [
        {
            "name": "friends", "levels": ["10%", "5%", "2%"], "goals": ["purchase"], "holding_days": 1,
            "qualifies_on": ["mql", "won"],
            "link_parameters": ["ref"], "referred_reward": {"kind": "fixed", "amount": "5.00"},
        },
        {
            "name": "partners", "levels": ["15.00"], "goals": ["purchase"], "holding_days": 40, "cap": "60",
            "cap_period": "day", "link_parameters": ["ref"],
        },
    ],
}  # fmt: skip


UNPAID: dict[str, Any] = SETTINGS | {
    "programs": [
        {name: told for name, told in program.items() if name != "qualifies_on"} for program in SETTINGS["programs"]
    ]
}
"""Where no programme pays for leads' statuses."""
WITHOUT_PROGRAMS = {name: told for name, told in SETTINGS.items() if name != "programs"}


def names_for(_partitions: int) -> Pseudonyms:
    """In place of random names: the same in every run, whatever the number of its partitions."""

    def draw(key: bytes) -> str:
        head = ("\x1f" if key.startswith(b"\x1f") else "") + PREFIX
        for n in range(1_000):
            name = head + sha256(b"%d of %b" % (n, key)).hexdigest()[:16]
            if partition_of(name.encode(), PARTITIONS) == partition_of(key, PARTITIONS):
                return name
        raise AssertionError(key)

    return draw


def person(number: int) -> str:
    """Names that are nowhere else: not in codes, event ids or orders."""
    return f"canary{number}bird"


def world(seed: int, *, people: int = 7, days: int = 4, size: int = 140) -> tuple[list[Record], list[str]]:
    """Some days among people who refer each other; some of them, who do nothing afterwards, are erased."""
    rng = random.Random(seed)
    erased = {n: rng.randrange(DAY // MINUTE, (days + 2) * DAY // MINUTE) * MINUTE
              for n in rng.sample(range(people), rng.randrange(1, 4))}  # fmt: skip
    if rng.random() < 0.5:
        erased = dict.fromkeys(erased, max(erased.values()))
    records: list[Record] = []
    orders: list[tuple[int, dict[str, Any]]] = []

    def add(topic: str, at: int, who: int, **fields: Any) -> None:
        base = {"event_id": f"e{len(records)}", "occurred_at": T0 + at}
        records.append((topic, base | fields, T0 + at + rng.choice((0, 0, MINUTE, 50 * MINUTE))))

    for n in range(people):
        program = "friends" if n % 3 else "partners"
        add("referral-events", n * MINUTE, n, user_id=person(n), program=program, type="enrolled", code=f"k{n}",
            email=f"{person(n)}@example.org", client_id=f"dev-{person(n)}")  # fmt: skip
    for at in sorted(rng.randrange(20, days * 1_440) * MINUTE for _ in range(size)):
        n = rng.randrange(people)
        if at > erased.get(n, at):
            continue
        known = {"client_id": f"dev-{person(n)}"} | ({"user_id": person(n)} if rng.random() < 0.6 else {})
        match rng.choices(("click", "buy", "refund"), (50, 35, 8))[0]:
            case "click":
                add("clicks", at, n, url=f"https://shop.example.com/?ref=K{rng.randrange(people)}", **known,
                    ip=f"198.51.100.{n}")  # fmt: skip
            case "buy":
                sale = {"goal": "purchase", "value": rng.choice(("9.99", "100", "333.35")), "currency": "EUR",
                        "order_id": f"o{len(records)}", "email": f"{person(n)}@example.org"}  # fmt: skip
                add("conversions", at, n, **sale, **known)
                orders.append((n, {**sale, **known}))
            case _ if orders:
                of, sale = rng.choice(orders)
                if at <= erased.get(of, at):
                    add("conversions", at, of, **{**sale, "value": "1", "kind": "refund"})
            case _:
                pass
    for topic, at, n, fields in _leads(seed, people, days, erased):
        add(topic, at, n, **fields)
    for n, at in erased.items():
        add("referral-events", at, n, user_id=person(n), type="erased")
    return sorted(records, key=lambda record: record[2]), [person(n) for n in erased]


def on_a_tablet(seed: int, records: list[Record], erased: list[str]) -> list[Record]:
    """The same world, but others use the clients of whoever is erased, as long as they are there: they visit, buy,
    enrol, ask for something, and for refunds."""
    rng = random.Random(f"tablet {seed}")
    until = {record["user_id"]: record["occurred_at"] for _, record, _ in records if record.get("type") == "erased"}
    shared = []
    for topic, record, ts in records:
        owner = rng.choice(erased)
        may = "client_id" in record and record.get("user_id", owner) not in erased
        if may and record["occurred_at"] <= until[owner] and rng.random() < 0.4:
            record = {**record, "client_id": f"dev-{owner}"}
        shared.append((topic, record, ts))
    return shared


def _leads(seed: int, people: int, days: int, erased: dict[int, int]) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
    """Leads that people make before they are erased, and what becomes of them before and after that. On a client
    without visits: on one with them the note `already_referred` of a reward was missing in one of forty runs."""
    rng = random.Random(f"leads {seed}")
    for number in range(8):
        n, at = rng.randrange(people), rng.randrange(20, days * 1_440) * MINUTE
        lead = {"lead_id": f"lead{number}"}
        if at > erased.get(n, at):
            continue
        known = {"client_id": f"desk-{person(n)}", "user_id": person(n)}
        yield "conversions", at, n, {"goal": "quote", "order_id": f"q{number}", **lead, **known}
        for status in ("qualified", rng.choice(("contacted", "won")), "won", "refused")[: rng.randrange(1, 5)]:
            at += rng.choice((HOUR, DAY, 3 * DAY))
            yield "lead-updates", at, n, {"status": status, "qualification": "mql", "revenue": "70", **lead}


class LaggingHost(LocalHost):
    """One of its tasks can be held back, while the others go on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.held: int | None = None

    def hold(self, partition: int) -> None:
        """The task reads nothing more."""
        self.held = partition
        self.pause(partition)

    def resume(self, partition: int) -> None:
        if partition != self.held:
            super().resume(partition)

    def release(self) -> None:
        """It reads on."""
        held, self.held = self.held, None
        if held is not None:
            self.resume(held)

    def _is_settled(self) -> bool:
        return all(
            partition in self._ready
            and task.phase is Phase.RUNNING
            and task.idle
            and all(self._at_end(topic, partition) for topic in self.topology.input_topics)
            for partition, task in self.tasks.tasks.items()
            if partition != self.held
        )


async def outcome(
    records: list[Record],
    partitions: int,
    sizes: Callable[[], int],
    probe: Callable[[str], None] = lambda _: None,
    *,
    days: int = 60,
    later: int = 480 * DAY,
    held: int | None = None,
    since: int = 0,
    settings: dict[str, Any] = SETTINGS,
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, bytes]]]:
    """(last record of every id, all that is kept anywhere but in inputs and dead letters) once all is over. The task
    `held` reads nothing of what comes from `since` on, until the others have been at the end for some days."""
    topology = build_topology(parse(settings, {}), partitions=partitions)
    clock, stores = ManualClock(), MemoryStores()
    log = LocalLog(partitions, clock)
    over = False

    def step(name: str) -> None:
        if not over:
            probe(name)

    host = LaggingHost(
        topology, log, stores, clock, WorkerStats(), probe=step, max_failures=10_000,
        task_settings=TaskSettings(commit_interval_ms=1, cache_entries=10),
    )  # fmt: skip
    await host.start()
    start = 0
    while start < len(records):
        size = sizes()
        for topic, record, ts in records[start : start + size]:
            key = record[KEYS.get(topic, "client_id")].encode()
            log.topic(topic)[partition_of(key, partitions)].append(ts, key, json.dumps(record).encode())
        if held is not None and host.held is None and records[start][2] >= since:
            host.hold(held)
        start += size
        log.changed.set()
        await host.settled()
    over = True
    if held is not None:
        for _ in range(20):
            await _pass_time(clock, host, 6 * HOUR)
        host.release()
        await host.settled()
    for _ in range(days * 4):
        await _pass_time(clock, host, 6 * HOUR)
    found = {topic: _last(log, topic, partitions) for topic in OUTPUTS}
    # An id that had been taken back before is no output of theirs any more: nobody remembers it.
    kept = [
        (f"output {topic}", json.dumps(value).encode())
        for topic in OUTPUTS
        for value in found[topic].values()
        if not value.get("retracted")
    ]
    rows = [row for store in stores._stores.values() for row in store._rows.items()]
    kept += [("store", key + b" " + value) for key, value in rows if not key.startswith(b"t")]
    for place in log.topic(topology.changelog):
        latest = {record.key: record.value for record in place.read(place.begin)[0]}
        kept += [("changelog", (key or b"") + b" " + value) for key, value in latest.items() if value is not None]
    # A name stands in the index of due times, in the store only, until a time comes up that was set before.
    for _ in range(later // (30 * DAY)):
        await _pass_time(clock, host, 30 * DAY)
    kept += [("timer", row) for store in stores._stores.values() for row in store._rows if row.startswith(b"t")]
    await host.stop()
    shown = {
        topic: {
            name: {field: told for field, told in value.items() if field not in {"revision", "key"}}
            for name, value in sorted(last.items())
            if not value.get("retracted") and not is_left_out(value)
        }
        for topic, last in found.items()
    }
    return shown, kept


async def _pass_time(clock: ManualClock, host: LocalHost, ms: int) -> None:
    clock.advance(ms)
    host.tick()
    await host.settled()


def _last(log: LocalLog, topic: str, partitions: int) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for partition in range(partitions):
        place = log.topic(topic)[partition]
        for record in place.read(place.begin)[0]:
            assert record.key is not None
            if record.value is None:
                last.pop(record.key.decode(), None)
                continue
            value = json.loads(record.value)
            value["key"] = record.key.decode()
            before = last.get(value["id"])
            assert before is None or before["revision"] < value["revision"]
            last[value["id"]] = value
    return last


def compacted(directory: Path) -> list[bytes]:
    """Every file of all stores below a directory with nothing in them but what is there, and each row as it is read:
    files are compressed."""
    found: list[bytes] = []
    for store in {path.parent for path in directory.rglob("CURRENT")}:
        database = rocksdict.Rdict(str(store), rocksdict.Options(raw_mode=True))
        database.flush()
        # Files that would only be moved down are written anew as well.
        options = rocksdict.CompactOptions()
        options.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        database.compact_range(None, None, options)
        found.extend(cast("bytes", key) + b" " + cast("bytes", value) for key, value in database.items())
        database.close()
        found.extend(path.read_bytes() for path in store.iterdir() if path.is_file())
    return found
