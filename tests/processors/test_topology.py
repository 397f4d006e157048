"""The whole topology on tasks of its own: every processor, every hop, several partitions, crashes at any step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stream_app.app.topology import build_topology
from stream_app.engine.partitioning import partition_of
from stream_app.engine.task import TaskSettings
from stream_app.hosts.local.host import LocalHost, ManualClock
from stream_app.hosts.local.log import LocalLog
from stream_app.hosts.stores import MemoryStores
from stream_app.metrics import WorkerStats
from stream_app.settings import parse
from stream_app.topics import KEYS
from tests.processors.harness import DAY, HOUR, MINUTE, T0

pytestmark = pytest.mark.slow

Record = tuple[str, dict[str, Any], int]

SETTINGS = {
    "site": {"own_domains": ["shop.example.com"], "timezone": "Europe/Riga"},
    "goals": [{"name": "purchase", "kind": "purchase"}, {"name": "lead_form", "kind": "lead"}],
    "phone_numbers": {"+37120000001": {"source": "newspaper", "medium": "offline"}},
}
PROGRAMME = {"name": "friends", "levels": ["10%", "5%"], "goals": ["purchase"], "link_parameters": ["ref"]}
WITH_PROGRAMME = {**SETTINGS, "programs": [PROGRAMME], "privacy": {"hash_key": "a secret of thirty-two characters"}}
OUTPUTS = ("attributed-sessions", "attributed-conversions", "leads", "lead-counters")
PAGES = (
    {"url": "https://shop.example.com/?utm_source=google&utm_medium=cpc&utm_campaign=spring"},
    {"url": "https://shop.example.com/?utm_source=news&utm_medium=email"},
    {"url": "https://shop.example.com/", "referrer": "https://www.google.com/"},
    {"url": "https://shop.example.com/", "referrer": "https://blog.example.org/"},
    {"url": "https://shop.example.com/p/1", "referrer": "https://shop.example.com/"},
    {"url": "https://shop.example.com/p/2", "referrer": "https://shop.example.com/"},
)
SEEDS = max(2, int(os.environ.get("HISTORIES", "0")) // 500)
STEPS = (1, 1_000, 20_000, 5 * MINUTE, 31 * MINUTE, 2 * HOUR, 3 * DAY)


def history(random: Random, events: int) -> list[Record]:
    """A dozen clients of five people who share devices and orders; a third of the events late, within grace."""
    at, records = 0, []
    for n in range(events):
        at += random.choice(STEPS)
        client = f"c{random.randrange(12)}"
        record: dict[str, Any] = {"event_id": f"e{n}", "client_id": client, "occurred_at": T0 + at}
        if random.random() < 0.3:
            record["user_id"] = f"u{random.randrange(5)}"
        if random.random() < 0.7:
            topic = "clicks"
            record |= random.choice(PAGES)
        else:
            topic = "conversions"
            record |= {
                "goal": random.choice(("purchase", "purchase", "lead_form")),
                "value": str(random.randrange(1, 90)),
            }
            if random.random() < 0.6:
                record["order_id"] = f"o{random.randrange(events // 8)}"
                record |= {"kind": "refund"} if random.random() < 0.3 else {}
            record |= random.choice(({}, {}, {}, {"called_number": "+37120000001"}))
            record |= {"promo_code": random.choice(("Anna", "BEN", "sale20"))} if random.random() < 0.4 else {}
        records.append((topic, record, T0 + at + random.choice((0, 0, 1, MINUTE, 45 * MINUTE, 59 * MINUTE))))
    return sorted(records, key=lambda record: record[2])


def enrolments(random: Random, records: list[Record]) -> list[Record]:
    """Who takes part with two of the three codes, a few minutes around a sale with it, and leaves again."""
    made = []
    for user in ("anna", "ben"):
        sales = [r["occurred_at"] for _, r, _ in records if r.get("promo_code", "").casefold() == user]
        first, last = sales[len(sales) // 4], sales[len(sales) * 3 // 4]
        for kind, at in (("enrolled", first), ("left", last)):
            at += random.choice((-MINUTE, 0, MINUTE))
            record = {"event_id": f"{user} {kind}", "user_id": user, "occurred_at": at, "program": "friends"}
            record |= {"type": kind} | ({"code": user} if kind == "enrolled" else {})
            made.append(("referral-events", record, at + random.choice((0, MINUTE, 45 * MINUTE, 59 * MINUTE))))
    return sorted([*records, *made], key=lambda record: record[2])


async def outcome(
    records: list[Record],
    partitions: int,
    sizes: Callable[[], int],
    probe: Callable[[str], None] = lambda _: None,
    given: dict[str, Any] = SETTINGS,
) -> dict[str, dict[str, Any]]:
    """The last record of every id once all is over, semantics 20."""
    topology = build_topology(parse(given, {}), partitions=partitions)
    clock = ManualClock()
    log = LocalLog(partitions, clock)
    settings = TaskSettings(commit_interval_ms=1, cache_entries=10)
    over = False

    def step(name: str) -> None:
        if not over:  # time that a task spends dying does not count, and at the end only time goes on
            probe(name)

    host = LocalHost(
        topology, log, MemoryStores(), clock, WorkerStats(), task_settings=settings, probe=step, max_failures=10_000
    )
    await host.start()
    start = 0
    while start < len(records):
        size = sizes()
        for topic, record, ts in records[start : start + size]:
            key = record[KEYS[topic]].encode()
            log.topic(topic)[partition_of(key, partitions)].append(ts, key, json.dumps(record).encode())
        start += size
        log.changed.set()
        await host.settled()
    over = True
    for _ in range(3):
        clock.advance(DAY)
        host.tick()
        await host.settled()
    await host.stop()
    found: dict[str, dict[str, Any]] = {}
    for topic in OUTPUTS:
        last: dict[str, Any] = {}
        for partition in range(partitions):
            place = log.topic(topic)[partition]
            for record in place.read(place.begin)[0]:
                if record.value is None:
                    last.pop(record.key.decode(), None)
                    continue
                value = json.loads(record.value)
                assert value["id"] not in last or last[value["id"]]["revision"] < value["revision"]
                last[value["id"]] = value
        found[topic] = {
            name: {field: told for field, told in value.items() if field != "revision"}
            for name, value in sorted(last.items())
            if not value["retracted"] and not is_left_out(value)
        }
    return found


def is_left_out(value: dict[str, Any]) -> bool:
    """A counter of nothing (semantics 20), or of a window that is soon too old: that depends on each task's time."""
    if "window" not in value:
        return False
    counts, sums = value["counts"], value["sums"]
    return value["window"] not in {"1d", "total"} or not (any(counts.values()) or any(map(float, sums.values())))


@pytest.mark.parametrize("given", [SETTINGS, WITH_PROGRAMME], ids=("plain", "programme"))
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_partitions_batches_and_crashes_change_nothing(seed: int, given: dict[str, Any]) -> None:
    """One task and one batch, or four tasks that die at random steps and take what comes in random portions."""
    random = Random(seed)
    records = history(random, 250)
    if "programs" in given:
        records = enrolments(random, records)
    whole = await outcome(records, 1, lambda: len(records), given=given)

    def dies(step: str) -> None:
        if random.random() < 0.01:
            raise RuntimeError(f"dies at {step}")

    parts = await outcome(records, 4, lambda: random.choice((1, 3, 10, 40)), dies, given)
    for topic in OUTPUTS:
        assert whole[topic].keys() == parts[topic].keys()
        for name, record in whole[topic].items():
            assert record == parts[topic][name]
    sales = whole[OUTPUTS[1]].values()
    assert sum(len(sale["touchpoints"]) > 2 for sale in sales) > 5
    by_code = [sale for sale in sales if "Referral Programme" in sale["path"]]
    assert len(by_code) > 3 if "programs" in given else not by_code


async def test_a_refund_that_waited_in_vain_is_a_dead_letter_with_the_place_where_it_lay() -> None:
    """Although it had reached the wrong partition and was forwarded: the headers tell of the record as it was sent."""
    partitions = 4
    topology = build_topology(parse(SETTINGS, {}), partitions=partitions)
    clock, stores = ManualClock(), MemoryStores()
    log = LocalLog(partitions, clock)
    host = LocalHost(topology, log, stores, clock, WorkerStats())
    await host.start()
    wrong = (partition_of(b"c1", partitions) + 1) % partitions
    record = {"event_id": "r", "client_id": "c1", "occurred_at": T0, "goal": "purchase", "kind": "refund"}
    record |= {"order_id": "o1", "value": "4", "email": "anna@example.com", "name": "Anna", "ip": "192.0.2.7"}
    log.topic("conversions")[wrong].append(T0, b"other", b"{}")
    log.topic("conversions")[wrong].append(T0 + 5, b"c1", json.dumps(record).encode())
    log.changed.set()
    await host.settled()
    for partition in range(partitions):  # every task has a time of its own
        name = next(f"t{n}" for n in range(100) if partition_of(f"t{n}".encode(), partitions) == partition)
        later = {"event_id": "e", "client_id": name, "occurred_at": T0 + 400 * DAY, "goal": "end"}
        log.topic("conversions")[partition].append(T0 + 400 * DAY, name.encode(), json.dumps(later).encode())
    log.changed.set()
    await host.settled()
    await host.stop()
    letters = [letter for place in log.topic("dead-letters") for letter in place.read(0)[0]]
    (buried,) = [letter for letter in letters if dict(letter.headers)["dlq.reason"] == b"unknown_order"]
    headers = dict(buried.headers)
    assert headers["dlq.topic"] == b"conversions"
    assert (headers["dlq.partition"], headers["dlq.offset"]) == (b"%d" % wrong, b"1")
    assert headers["dlq.timestamp"] == b"%d" % (T0 + 5)
    assert buried.key == b"c1"
    assert json.loads(buried.value or b"")["order_id"] == "o1"
    stored = b"".join(value for store in stores._stores.values() for value in store._rows.values())
    for secret in (b"anna@example.com", b"Anna", b"192.0.2.7"):
        assert secret not in (buried.value or b"")
        assert secret not in stored


@pytest.mark.parametrize(("key", "said"), [("", 1), ("a secret of thirty-two characters", 0)])
def test_a_hash_key_that_everybody_knows_is_warned_of_once(
    key: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With the setting that ends it; however many processors hash."""
    program = {"name": "friends", "levels": ["10%"], "goals": ["purchase"]}
    build_topology(parse({**SETTINGS, "programs": [program], "privacy": {"hash_key": key}}))
    assert sum("STREAM_APP_PRIVACY__HASH_KEY" in record.getMessage() for record in caplog.records) == said
