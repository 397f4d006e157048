from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, pairwise
from typing import Any

import orjson
import pytest

from stream_app.engine.partitioning import partition_of
from stream_app.simulator.faults import Faults
from stream_app.simulator.records import Record
from stream_app.simulator.site import ARRIVALS, BOTS
from stream_app.simulator.traffic import Traffic, TrafficConfig
from stream_app.simulator.visit import Behaviour

START = 1_767_000_000_000
HOUR = 3_600_000
NO_FAULTS = Faults.parse("none")


def make(seed: int, n: int, **options: Any) -> list[Record]:
    return list(islice(Traffic(seed, TrafficConfig(start_ms=START, **options)), n))


def values(records: list[Record]) -> list[dict[str, Any]]:
    return [orjson.loads(record.value) for record in records]


def test_the_same_seed_and_start_give_the_same_bytes(seed: int) -> None:
    assert make(seed, 5_000) == make(seed, 5_000)
    assert make(seed, 100) != make(seed + 1, 100)


def test_another_start_gives_other_event_ids_for_the_same_people(seed: int) -> None:
    """A second run against the same broker brings returning people, not duplicates."""
    first = make(seed, 20_000)
    second = list(islice(Traffic(seed, TrafficConfig(start_ms=START + HOUR)), 20_000))
    ids = [{value["event_id"] for value in values(records)} for records in (first, second)]
    orders = [{value.get("order_id") for value in values(records)} - {None} for records in (first, second)]
    people = [{record.key for record in records} for records in (first, second)]
    assert not ids[0] & ids[1]
    assert not orders[0] & orders[1]
    assert people[0] & people[1]


def test_records_reach_the_broker_in_order_and_after_they_happened(seed: int) -> None:
    records = make(seed, 20_000)
    assert all(a.ts <= b.ts for a, b in pairwise(records))
    assert all(record.occurred_at < record.ts for record in records)


def test_every_record_lies_on_the_canonical_partition_of_its_client(seed: int) -> None:
    for record, value in zip(records := make(seed, 3_000), values(records), strict=True):
        assert record.key == value["client_id"].encode()
        assert record.place % 8 == partition_of(record.key, 8)


def test_the_rate_of_event_time_is_the_one_asked_for(seed: int) -> None:
    """Once visits that began at the start have ended, after some minutes."""
    records = make(seed, 60_000, rate=40.0)
    later = [record for record in records if START + 600_000 < record.ts <= START + 1_200_000]
    assert len(later) == pytest.approx(24_000, rel=0.12)


def test_an_event_has_about_350_bytes(seed: int) -> None:
    records = make(seed, 10_000)
    assert 320 < sum(len(record.value) for record in records) / len(records) < 400


def test_people_come_in_all_the_ways_there_are(seed: int) -> None:
    seen = b"\n".join(record.value for record in make(seed, 60_000))
    for arrival in ARRIVALS:
        query, _, _ = arrival.query.partition(b"%id")
        assert query in seen, arrival.name
        assert arrival.referrer in seen, arrival.name
    assert any(bot in seen for bot in BOTS)
    assert b"app://" in seen
    assert b"paypal.com" in seen


def test_people_come_back_use_two_devices_and_log_in(seed: int) -> None:
    clients = defaultdict(set)
    agents = defaultdict(set)
    for value in values(make(seed, 60_000, newcomers=0.4)):
        agents[value["client_id"]].add(value["user_agent"])
        if "user_id" in value:
            clients[value["user_id"]].add(value["client_id"])
    assert any(len(devices) > 1 for devices in clients.values())
    people = [agent for client, agent in agents.items() if not agent & {bot.decode() for bot in BOTS}]
    assert all(len(agent) == 1 for agent in people), "a client is one browser"


def test_orders_are_unique_and_refunds_follow_their_order(seed: int) -> None:
    bought: dict[str, float] = {}
    refunds = 0
    for value in values(make(seed, 150_000, rate=75.0, faults=NO_FAULTS)):
        if value.get("goal") != "purchase":
            continue
        if value.get("kind") == "refund":
            refunds += 1
            assert float(value.get("value", 0)) <= bought[value["order_id"]]
        else:
            assert value["order_id"] not in bought
            bought[value["order_id"]] = float(value["value"])
    assert len(bought) > 100
    assert refunds


def test_conversions_are_a_believable_share(seed: int) -> None:
    traffic = Traffic(seed, TrafficConfig(start_ms=START))
    topics = Counter(record.topic for record in islice(traffic, 60_000))
    assert 0.01 < topics["conversions"] / 60_000 < 0.04
    assert traffic.conversions == pytest.approx(topics["conversions"], abs=100)
    assert 2.5 < 60_000 / traffic.visits < 4.5


def test_history_comes_first_as_one_burst_of_whole_visits_within_grace(seed: int) -> None:
    records = make(seed, 30_000, rate=20.0, history_ms=45 * 60_000, history_events=20_000, faults=NO_FAULTS)
    burst = [record for record in records if record.ts == START]
    assert 8_000 < len(burst) < 30_000
    assert records[: len(burst)] == burst
    assert all(0 <= record.ts - record.occurred_at < HOUR for record in burst)
    assert min(record.occurred_at for record in burst) < START - 40 * 60_000


def test_the_stream_runs_at_its_full_rate_from_the_first_minute_when_there_is_history(seed: int) -> None:
    records = make(seed, 60_000, rate=50.0, history_ms=45 * 60_000)
    first = [record for record in records if START < record.ts <= START + 60_000]
    assert len(first) == pytest.approx(3_000, rel=0.25)


def test_a_crowd_of_one_page_visitors_makes_a_client_each(seed: int) -> None:
    """What fills a store with as many keys as wanted."""
    behaviour = Behaviour(pages=1, purchase=0, lead=0, signup=0)
    records = make(seed, 10_000, newcomers=1.0, known=0, faults=NO_FAULTS, behaviour=behaviour)
    assert len({record.key for record in records}) > 9_500


def test_days_have_busy_evenings_and_quiet_nights(seed: int) -> None:
    records = make(seed, 60_000, rate=0.5, daily_curve=True)
    by_hour = Counter(record.ts // HOUR % 24 for record in records)
    assert by_hour[18] > 2 * by_hour[5]
