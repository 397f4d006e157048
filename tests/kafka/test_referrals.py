"""Referral programmes through real Kafka: a year between click and purchase, a worker killed on the way, nothing
personal left in any topic, store or log."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_app.devtools.broker import Broker
from stream_app.devtools.child import Child, stream_app
from stream_app.devtools.ports import free_ports
from stream_app.engine.partitioning import partition_of
from stream_app.topics import KEYS
from tests.chaos.arena import wait_until
from tests.chaos.logs import QUIET, read
from tests.cli.helpers import json_lines, run
from tests.referral.erasing import compacted
from tests.referral.worlds import CANARIES, CONFIG, DAY, HOUR, T0, TRACES, anna, bought, click, joined, write
from tests.referral.worlds import read as read_files

pytestmark = pytest.mark.slow

PARTITIONS = 3
YEAR = 365 * DAY
INPUTS = ("clicks", "conversions", "referral-events")
OUTPUTS = ("attributed-sessions", "attributed-conversions", "referral-rewards")


class Shop:
    """Topics of its own with the producer's timestamps, and a worker on them."""

    def __init__(self, broker: Broker, prefix: str, directory: Path) -> None:
        self.bootstrap, self.prefix, self.directory = broker.bootstrap, prefix, directory
        self.port = free_ports(1)[0]
        config = directory / "settings.toml"
        config.write_text(CONFIG)
        self.environ = {
            "STREAM_APP_CONFIG": str(config),
            "STREAM_APP_KAFKA__BOOTSTRAP": broker.bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}app",
            "STREAM_APP_KAFKA__PARTITIONS": str(PARTITIONS),
            "STREAM_APP_ENGINE__STATE_DIRECTORY": str(directory / "state"),
            "STREAM_APP_WEB__PORT": str(self.port),
            "STREAM_APP_WEB__TOKEN": "secret",
        }
        made = run("topics", "create", "--timestamps", "create", **self.environ)
        assert made.exit_code == 0, made.output

    def worker(self) -> Child:
        return Child("worker", stream_app("worker"), self.directory / "worker.log", self.environ)

    def send(self, made: dict[str, list[dict[str, Any]]]) -> None:
        """In order of time, with the event's time as the record's."""
        producer = Producer({**QUIET, "bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        failed: list[object] = []
        records = sorted(
            ((r["occurred_at"], topic, r) for topic, values in made.items() for r in values), key=lambda r: r[:2]
        )
        for at, topic, value in records:
            key = value[KEYS[topic]].encode()
            place = partition_of(key, PARTITIONS)
            producer.produce(
                self.prefix + topic,
                json.dumps(value).encode(),
                key,
                partition=place,
                timestamp=at,
                on_delivery=lambda error, _: failed.append(error) if error is not None else None,
            )
        assert producer.flush(60) == 0
        assert failed == []

    def go_on(self, until: int) -> None:
        """Time goes on everywhere: each partition of each input has a record of that time."""
        names = [
            next(n for n in (f"t{number}" for number in range(99)) if partition_of(n.encode(), PARTITIONS) == place)
            for place in range(PARTITIONS)
        ]
        made: dict[str, list[dict[str, Any]]] = {
            "clicks": [click(until, name, "https://shop.example.com/") for name in names],
            "conversions": [{**bought(until, name, "1"), "goal": "nothing"} for name in names],
            "referral-events": [
                {"event_id": f"{name}-{until}", "user_id": name, "occurred_at": T0 + until, "program": "friends",
                 "type": "invited", "count": 1}
                for name in names
            ],
        }  # fmt: skip
        self.send(made)

    def rewards(self) -> list[tuple[str, int, str]]:
        last: dict[str, dict[str, Any]] = {}
        for record in read(self.bootstrap, self.prefix + "referral-rewards", PARTITIONS):
            value = json.loads(record.value or b"{}")
            before = last.get(value["id"])
            if before is None or before["revision"] < value["revision"]:
                last[value["id"]] = value
        return sorted((r["user_id"], r["level"], r["amount"]) for r in last.values() if not r["retracted"])

    def ask(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": "Bearer secret"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]


PAID = [("anna", 3, "20.00"), ("misha", 2, "50.00"), ("olga", 1, "100.00")]


def test_a_year_after_the_click_three_levels_are_paid_and_a_day_later_nobody(
    broker: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    """100, 50 and 20 on a purchase of 1,000, with a kill between click and purchase; then the searches."""
    shop = Shop(broker, topic_prefix, tmp_path)
    story = anna(YEAR - DAY)
    sale = story.pop("conversions")
    worker = shop.worker()
    try:
        shop.send(story)
        wait_until("the codes are enrolled", lambda: worker.check() or _users(shop) == 3, 60, every_s=0.3)
        worker.kill()
    finally:
        worker.stop(10)
    worker = shop.worker()
    try:
        shop.send({"conversions": sale})
        wait_until("three levels are paid", lambda: worker.check() or shop.rewards() == PAID, 60, every_s=0.3)
        late = bought(sale[0]["occurred_at"] - T0 + 2 * DAY, "c-late", "1000", order_id="late", **CANARIES)
        shop.send({"conversions": [late]})  # nobody's referral; it carries personal data
        wait_until("the last purchase is through", lambda: worker.check() or _is_through(shop), 60, every_s=0.3)
        (found,) = json_lines(run("rewards", "--user", "olga", **shop.environ).stdout)
        assert [r["amount"] for r in found["rewards"] if r["conversion_id"]][:1] == ["100.00"]
        assert shop.ask("/rewards/misha")["balances"]["EUR"]["earned"] == "50.00"
        assert shop.ask("/referrals/program/friends")["counts"]["users"] == 3
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()
    assert _traces(shop) == []


@pytest.mark.parametrize(("since", "paid"), [(YEAR - DAY, PAID), (YEAR + DAY, [])])
def test_a_backlog_of_a_year_comes_to_the_same(
    broker: Broker, tmp_path: Path, topic_prefix: str, since: int, paid: list[object]
) -> None:
    """All of it is there before the worker: paid within a year of the click, and not a day after that."""
    shop = Shop(broker, topic_prefix, tmp_path)
    shop.send(anna(since))
    worker = shop.worker()
    try:
        wait_until("the purchase is through", lambda: worker.check() or _is_through(shop, 1), 60, every_s=0.3)
        if paid:
            wait_until("three levels are paid", lambda: worker.check() or shop.rewards() == paid, 60, every_s=0.3)
        else:
            time.sleep(2)  # for what must not come
            assert shop.rewards() == []
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()


def test_a_partners_code_is_where_the_sale_came_from(broker: Broker, tmp_path: Path, topic_prefix: str) -> None:
    """Anna enrols before the sale with her code, and is heard of last, after a kill: the sale, and the visit a day
    later, owe themselves to the programme, as in a replay of the same records."""
    shop = Shop(broker, topic_prefix, tmp_path)
    advert = "https://shop.example.com/?utm_source=google&utm_medium=cpc"
    story: dict[str, list[dict[str, Any]]] = {
        "clicks": [click(HOUR + n, f"c-{n}", advert) for n in range(6)],
        "conversions": [bought(2 * HOUR, f"c-{n}", "100", promo_code=("ANNA", "SALE20")[n % 2]) for n in range(6)],
        "referral-events": [joined(2 * HOUR - 1, "anna", "anna")],
    }
    later = [click(DAY + n, f"c-{n}", "https://shop.example.com/") for n in range(6)]
    worker = shop.worker()
    try:
        shop.send({topic: story[topic] for topic in ("clicks", "conversions")})
        wait_until("the sales are through", lambda: worker.check() or _is_through(shop, 6), 60, every_s=0.3)
        worker.kill()
    finally:
        worker.stop(10)
    worker = shop.worker()
    try:
        shop.send({"referral-events": story["referral-events"]})
        by_code = ["Paid Search > Referral Programme", "Paid Search"] * 3
        wait_until("sales are by code", lambda: worker.check() or _paths(shop) == by_code, 60, every_s=0.3)
        shop.send({"clicks": later})
        shop.go_on(DAY + 3 * HOUR)
        story["clicks"] += later
        done = run("replay", *write(tmp_path / "in", story), "--out", str(tmp_path / "out"))
        assert done.exit_code == 0, done.output
        expected = [read_files(tmp_path / "out" / f"{topic}.jsonl") for topic in OUTPUTS[:2]]
        wait_until("all is as in a replay", lambda: worker.check() or _journeys(shop) == expected, 60, every_s=0.3)
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()
    late = [s["attributed"]["channel"] for s in expected[0].values() if s["session_number"] == 3]
    assert sorted(late) == ["Paid Search"] * 3 + ["Referral Programme"] * 3


def test_whoever_is_erased_is_paid_no_more_and_found_nowhere(broker: Broker, tmp_path: Path, topic_prefix: str) -> None:
    """Misha, between Anna and Olga, with a kill while it is carried out: the others are paid as before, and a refund
    still reaches Anna through whoever Misha is now."""
    shop = Shop(broker, topic_prefix, tmp_path)
    story = anna(DAY)
    for number, record in enumerate([r for records in story.values() for r in records]):
        record["event_id"] = f"e{number}"
        for field in {"user_id", "client_id"} & record.keys():
            record[field] = record[field].replace("misha", "canarybird")
    start = 2 * DAY
    worker = shop.worker()
    try:
        shop.send(story)
        paid = [("anna", 3, "20.00"), ("canarybird", 2, "50.00"), ("olga", 1, "100.00")]
        wait_until("three levels are paid", lambda: worker.check() or shop.rewards() == paid, 60, every_s=0.3)
        erased = {"event_id": "gone", "user_id": "canarybird", "occurred_at": T0 + start, "type": "erased"}
        shop.send({"referral-events": [erased]})
        shop.go_on(start + 3 * HOUR)
        worker.kill()
    finally:
        worker.stop(10)
    worker = shop.worker()
    try:
        wait_until("Misha has another name", lambda: worker.check() or _names(shop) == [True, False], 60, every_s=0.3)
        refund = {**story["conversions"][0], "event_id": "refund", "kind": "refund", "value": "400"}
        shop.send({"conversions": [{**refund, "occurred_at": T0 + start + 4 * HOUR}]})
        left = [("anna", 3, "12.00"), ("erased", 2, "30.00"), ("olga", 1, "60.00")]
        wait_until("the refund has reached Anna", lambda: worker.check() or _rewards(shop) == left, 60, every_s=0.3)
        shop.go_on(start + 3 * DAY)
        wait_until("the old name is forgotten", lambda: worker.check() or not _kept(shop), 60, every_s=0.3)
    finally:
        worker.stop(30)
    assert worker.status == 0, worker.log_tail()
    assert b"canarybird" not in (tmp_path / "worker.log").read_bytes()
    stored = compacted(tmp_path / "state")
    assert sum(map(len, stored)) > 10_000
    # The index of due times may hold a client until it would have been forgotten anyway.
    assert [content for content in stored if b"canarybird" in content and not content.startswith(b"t")] == []


def _journeys(shop: Shop) -> list[dict[str, dict[str, Any]]]:
    """Sessions and conversions of the story's clients, last revisions."""
    found = []
    for topic in OUTPUTS[:2]:
        last: dict[str, dict[str, Any]] = {}
        for record in read(shop.bootstrap, shop.prefix + topic, PARTITIONS):
            value = json.loads(record.value or b"{}")
            if value["client_id"].startswith("c-"):
                last[value["id"]] = value
        found.append(
            {i: {k: v for k, v in r.items() if k != "revision"} for i, r in last.items() if not r["retracted"]}
        )
    return found


def _paths(shop: Shop) -> list[str]:
    return [sale["path"] for sale in sorted(_journeys(shop)[1].values(), key=lambda sale: sale["client_id"])]


def _names(shop: Shop) -> list[bool]:
    """Whether somebody has a random name, and whether the old one is still there."""
    users = {user for user, *_ in shop.rewards()}
    return [any(user.startswith("erased-") for user in users), "canarybird" in users]


def _rewards(shop: Shop) -> list[tuple[str, int, str]]:
    return [(user.partition("-")[0], level, amount) for user, level, amount in shop.rewards()]


def _kept(shop: Shop) -> list[str]:
    """Where the old name stands last: in the latest record of a changelog's key, in that of an output's id."""
    found = []
    for topic in (f"{shop.prefix}app-changelog", *OUTPUTS):
        latest: dict[bytes, bytes] = {}
        for record in read(shop.bootstrap, shop.prefix + topic, PARTITIONS):
            key = record.key or b""
            if topic in OUTPUTS:
                latest[json.loads(record.value or b"{}")["id"].encode()] = key + (record.value or b"")
            else:
                latest[key] = key + record.value if record.value else b""
        found += [topic for content in latest.values() if b"canarybird" in content]
    return found


def _users(shop: Shop) -> int:
    try:
        return int(shop.ask("/referrals/program/friends")["counts"]["users"])
    except OSError:
        return 0


def _is_through(shop: Shop, n: int = 2) -> bool:
    ids = {
        json.loads(r.value or b"{}")["id"]
        for r in read(shop.bootstrap, shop.prefix + "attributed-conversions", PARTITIONS)
    }
    return len(ids) >= n


def _traces(shop: Shop) -> list[str]:
    """Where personal data is found, inputs apart."""
    pattern = re.compile("|".join(re.escape(trace) for trace in TRACES).encode(), re.IGNORECASE)
    places = {}
    for topic in (
        "attributed-sessions", "attributed-conversions", "leads", "lead-counters", "referral-rewards",
        "referral-counters", f"{shop.prefix}app-changelog", f"{shop.prefix}app-repartition",
    ):  # fmt: skip
        for record in read(shop.bootstrap, shop.prefix + topic, PARTITIONS):
            content = (record.key or b"") + (record.value or b"")
            places[topic] = places.get(topic, b"") + content
    assert places[f"{shop.prefix}app-changelog"], "the search finds records"
    for path in (*(shop.directory / "state").rglob("*"), shop.directory / "worker.log"):
        if path.is_file():
            places[str(path)] = path.read_bytes()
    sent = b"".join((r.value or b"") for t in INPUTS for r in read(shop.bootstrap, shop.prefix + t, PARTITIONS))
    assert pattern.search(sent), "it was sent"
    return [place for place, content in places.items() if pattern.search(content)]
