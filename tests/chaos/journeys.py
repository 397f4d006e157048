"""The real topology in the arena: simulated shop traffic, compared with an offline replay of the input log."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer

from stream_app.engine.partitioning import partition_of
from stream_app.simulator.business import Business
from stream_app.simulator.faults import Faults
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig
from stream_app.topics import KEYS
from tests.chaos.arena import Arena, NotInTime, wait_until
from tests.chaos.logs import QUIET, Read, read
from tests.chaos.oracle import Verdict, check_offsets, check_stores, last_rows

OUTPUTS = ("attributed-sessions", "attributed-conversions", "leads")
COUNTERS = "lead-counters"
MOST_OVERTAKEN = 20
PLACES = 40
"""Values per dimension and window: five in each of eight tasks, so that some find no place and count as `(other)`."""
GRACE_MINUTES = 130
TIMEOUT_MINUTES = 30
_BEHIND_MS = 20 * 60_000
_MAX_SPAN_S = 3 * 86_400
_LAST = "the-last-"
"""Clients whose events only move stream time to the end."""


class Journeys(Arena):
    """Hours of a shop's life in a minute: event time runs two hundred times as fast as the clock, so that sessions
    close while workers die. Topics take the records' own timestamps, or there would be nothing to repeat."""

    inputs = ("clicks", "conversions", "lead-updates", "costs")

    def _create_topics(self, changelog: dict[str, str]) -> None:
        prefix = self.spec.prefix
        kept = {"retention.ms": "-1"}
        outputs = ("referral-events", "referral-rewards")
        names = (*self.inputs, *OUTPUTS, COUNTERS, *outputs, "referral-counters", "dead-letters")
        self.create({prefix + name: kept for name in names})
        self.create({self.repartition: kept, self.changelog: {"cleanup.policy": "compact", **changelog}})
        config = self.directory / "settings.toml"
        config.write_text(
            f"""
            [kafka]
            bootstrap = "{self.bootstrap}"
            app_id = "{self.spec.app_id}"
            topic_prefix = "{prefix}"
            partitions = {self.spec.partitions}
            [engine]
            session_timeout_ms = {self.spec.session_ms}
            heartbeat_interval_ms = {self.spec.session_ms // 5}
            commit_deadline_ms = 8000
            transaction_timeout_ms = {self.spec.transaction_timeout_ms}
            [web]
            port = 0
            [site]
            own_domains = ["shop.example.com"]
            [sessions]
            timeout_minutes = {TIMEOUT_MINUTES}
            grace_minutes = {GRACE_MINUTES}
            [[goals]]
            name = "lead_form"
            kind = "lead"
            [counters]
            values = {PLACES}
            """
        )
        self.spec = msgspec.structs.replace(self.spec, config=str(config), topology="journeys")

    def shop(self, events: int, rate: float) -> Shop:
        self.feeder = Shop(self, events, rate)
        self.feeder.start()
        return self.feeder

    def verdict(self, patience_s: float = 120.0, timers_s: float = 60.0) -> Verdict:
        assert self.feeder is not None
        self.feeder.join()
        try:
            wait_until("all input is processed", self.settled, patience_s, every_s=0.5)
        except NotInTime as error:
            raise NotInTime(f"{error}: lag {self.lag()}\n{self.tails()}") from None
        replayed = self._replay()
        deadline = time.monotonic() + timers_s  # timers go on firing for a while after the last record
        while self._compare(replayed).wrong.keys() & {"missing", "different"} and time.monotonic() < deadline:
            time.sleep(1)
        self.end_all()
        verdict = self._compare(replayed)
        latest = last_rows(self.spec)
        check_offsets(self.spec, latest, verdict, self.inputs)
        for member in self.members.values():
            check_stores(member.state, latest, verdict)
        verdict.facts |= {"kills": self.kills, "lives": sum(m.lives for m in self.members.values())}
        return verdict

    # -- the oracle: the input log, replayed offline ------------------------------------------------------
    def _replay(self) -> tuple[dict[str, dict[str, Any]], Counter[tuple[str, int, int]], dict[str, int]]:
        """Last records per output topic and id; places of what must be dead letters; facts."""
        dead: Counter[tuple[str, int, int]] = Counter()
        clients: set[str] = set()
        records, overtaken = 0, self._overtaken()
        for name in self.inputs:
            lines: list[tuple[int, bytes]] = []
            for record in read(self.bootstrap, self.spec.prefix + name, self.spec.partitions):
                records += 1
                key = _key_of(name, record)
                if key is None:
                    dead[name, record.partition, record.offset] += 1
                    continue
                place = name, record.partition, record.offset
                if place in overtaken and partition_of(key.encode(), self.spec.partitions) != record.partition:
                    dead[place] += 1
                    continue
                if name == "clicks":
                    clients.add(key)
                assert record.value is not None
                lines.append((record.timestamp, record.value[:-1] + b',"received_at":%d}' % record.timestamp))
            lines.sort(key=lambda line: line[0])
            (self.directory / f"{name}.jsonl").write_bytes(b"".join(value + b"\n" for _, value in lines))
        out = self.directory / "replayed"
        command = [
            sys.executable,
            "-m",
            "stream_app.cli.main",
            "replay",
            "--config",
            self.spec.config,
            "--out",
            str(out),
        ]
        for name in self.inputs:
            command += [f"--{name}", str(self.directory / f"{name}.jsonl")]
        done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        outputs = {
            name: _last(out.joinpath(f"{name}.jsonl").read_bytes().splitlines()) for name in (*OUTPUTS, COUNTERS)
        }
        judged = out.joinpath("dead-letters.jsonl").read_bytes().count(b"\n")
        return outputs, dead, {"events": records, "clients": len(clients), "rejected": sum(dead.values()) + judged}

    def _overtaken(self) -> set[tuple[str, int, int]]:
        """Places of records that came when their client had settled. Of a misplaced record that is right: what is
        forwarded counts within its receiver's horizon (semantics 6), and a minute's delay is hours of event time here.
        They must be few."""
        found = set()
        for record in read(self.bootstrap, f"{self.spec.prefix}dead-letters", self.spec.partitions):
            headers = {key: (value or b"").decode() for key, value in record.headers if key.startswith("dlq.")}
            if headers["dlq.detail"] == "occurred_at: before what is settled":
                topic = headers["dlq.topic"].removeprefix(self.spec.prefix)
                found.add((topic, int(headers["dlq.partition"]), int(headers["dlq.offset"])))
        assert len(found) <= MOST_OVERTAKEN, f"{len(found)} records came too late for what had settled"
        return found

    def _compare(
        self, replayed: tuple[dict[str, dict[str, Any]], Counter[tuple[str, int, int]], dict[str, int]]
    ) -> Verdict:
        outputs, dead, facts = replayed
        verdict = Verdict(facts=dict(facts), wrong=Counter(), examples={})
        aborted = 0
        for name in OUTPUTS:
            records = read(self.bootstrap, self.spec.prefix + name, self.spec.partitions)
            everything = read(self.bootstrap, self.spec.prefix + name, self.spec.partitions, committed=False)
            aborted += len(everything) - len(records)
            verdict.facts[name] = len(records)
            _check_revisions(name, records, verdict)
            got = _last(record.value for record in records if record.value is not None)
            for key in got.keys() | outputs[name].keys():
                have, want = got.get(key), outputs[name].get(key)
                if have == want:
                    continue
                what = "missing" if have is None else "surplus" if want is None else "different"
                verdict.no(what, (name, key, have, want))
        self._compare_counters(outputs[COUNTERS], verdict)
        verdict.facts["aborted"] = aborted
        seen: Counter[tuple[str, int, int]] = Counter()
        for record in read(self.bootstrap, f"{self.spec.prefix}dead-letters", self.spec.partitions):
            headers = {key: (value or b"").decode() for key, value in record.headers if key.startswith("dlq.")}
            place = headers["dlq.topic"].removeprefix(self.spec.prefix)
            seen[place, int(headers["dlq.partition"]), int(headers["dlq.offset"])] += 1
        verdict.facts["dead"] = sum(seen.values())
        doubled = [place for place, n in seen.items() if n > 1]
        if doubled:
            verdict.no("dead letter doubled", doubled[:3], len(doubled))
        if missing := dead.keys() - seen.keys():
            verdict.no("dead letter missing", sorted(missing)[:3], len(missing))
        if sum(seen.values()) != facts["rejected"]:
            verdict.no("dead letters", (sum(seen.values()), facts["rejected"]))
        return verdict

    def _compare_counters(self, replayed: dict[str, Any], verdict: Verdict) -> None:
        """Each counter by itself; where keys found no place, here or in the replay, all of a dimension together."""
        records = read(self.bootstrap, self.spec.prefix + COUNTERS, self.spec.partitions)
        verdict.facts[COUNTERS] = len(records)
        _check_revisions(COUNTERS, [record for record in records if record.value is not None], verdict)
        newest = {record.key: record.value for record in records}
        got = _added_up(_last(value for value in newest.values() if value is not None).values())
        wanted = _added_up(replayed.values())
        overflowed = 0
        for name in got.keys() | wanted.keys():
            have, want = got.get(name), wanted.get(name)
            if have is None or want is None:
                verdict.no("missing" if have is None else "surplus", (COUNTERS, name))
                continue
            part = "keys"
            if any('"(other)"' in key for side in (have, want) for key in side["keys"]):
                part, overflowed = "sum", overflowed + 1
            if have[part] != want[part]:
                verdict.no("different", (COUNTERS, name, have[part], want[part]))
        verdict.facts["counters"] = len(wanted)
        verdict.facts["overflowed"] = overflowed


def _added_up(counters: Any) -> dict[str, dict[str, Any]]:
    """Counters of one window, dimension and currency, by key; added up, figure by figure, as `sum`."""
    groups: dict[str, dict[str, Any]] = {}
    for counter in counters:
        name = " ".join(str(counter[field]) for field in ("window", "window_start", "dimension", "currency"))
        group = groups.setdefault(name, {"sum": Counter(), "keys": {}})
        group["keys"][json.dumps(counter["keys"])] = counter
        for part in ("counts", "sums", "funnel"):
            for field, amount in (counter[part] or {}).items():
                group["sum"][field] += Decimal(amount)
    return groups


def _key_of(topic: str, record: Read) -> str | None:
    """Whose record it is, if the replay can be given its value: what isn't JSON, or has a key unlike its value's id, is
    a dead letter for everybody."""
    try:
        value = json.loads(record.value or b"")
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(key := value.get(KEYS[topic]), str):
        return None
    return None if record.key is not None and record.key != key.encode() else key


def _last(values: Any) -> dict[str, Any]:
    """The last record of each id, without what semantics 20 leaves out."""
    last: dict[str, Any] = {}
    for value in values:
        record = json.loads(value)
        last[record["id"]] = record
    for key, record in list(last.items()):
        record.pop("revision")
        if record["retracted"] or (record.get("client_id") or "").startswith(_LAST):
            del last[key]
    return last


def _check_revisions(name: str, records: list[Read], verdict: Verdict) -> None:
    newest: dict[str, int] = {}
    for record in records:
        assert record.value is not None
        value = json.loads(record.value)
        if newest.get(value["id"], -1) >= value["revision"]:
            verdict.no(f"{name} doubled or out of order", value["id"])
        newest[value["id"]] = value["revision"]


def _business_behind(records: Iterable[Record]) -> Iterator[Record]:
    """CRM and costs come a while after the visits of their time. At two hundred times the speed of the clock a busy
    machine would else take a CRM's few records minutes of grace before the many clicks of the same moment."""
    waiting: deque[Record] = deque()
    for record in records:
        if record.topic in {"lead-updates", "costs"}:
            waiting.append(record)
            continue
        while waiting and waiting[0].ts <= record.ts - _BEHIND_MS:
            yield waiting.popleft()
        yield record


class Shop(threading.Thread):
    """Sends simulated traffic at a steady pace, then, for every partition, one last event that ends all sessions."""

    def __init__(self, arena: Journeys, events: int, rate: float) -> None:
        super().__init__(name="shop", daemon=True)
        self._arena = arena
        self._events = events
        self._rate = rate
        self._halt = threading.Event()
        self.sent = 0
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return not self.is_alive()

    def stop(self) -> None:
        self._halt.set()
        self.join()

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001  # told when the thread is joined
            self.error = error

    def _run(self) -> None:
        arena, partitions = self._arena, self._arena.spec.partitions
        faults = "bad=0.003,late=0.01,too_late=0.002,skew=0.002,duplicates=0.01,disorder=0.02,misplaced=0.02"
        # Time goes by 200 times as fast, or faster: all of it lies in the past, and within what topics keep.
        rate = max(self._rate / 200, self._events / _MAX_SPAN_S)
        start = time.time_ns() // 1_000_000 - int(self._events / rate * 1_000) - 7 * 3_600_000
        config = TrafficConfig(start_ms=start, rate=rate, known=0, newcomers=0.8, faults=Faults.parse(faults))
        failures: list[str] = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                failures.append(str(error))

        producer = Producer(
            {
                **QUIET,
                "bootstrap.servers": arena.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "delivery.timeout.ms": 120_000,
            }
        )
        began, ts = time.monotonic(), start
        shop = Business(Traffic(arena.seed, config), arena.seed, tempo=0.02, report_ms=30 * 60_000)
        for record in _business_behind(shop):
            if self.sent >= self._events or self._halt.is_set():
                break
            ts = max(ts, record.ts)
            producer.produce(
                arena.spec.prefix + record.topic,
                record.value,
                record.key,
                partition=record.place % partitions,
                timestamp=record.ts,
                on_delivery=delivered,
            )
            self.sent += 1
            if not self.sent % 50:
                producer.poll(0)
                ahead = began + self.sent / self._rate - time.monotonic()
                if ahead > 0.01:
                    self._halt.wait(ahead)
        # An input read to its end doesn't hold back the time; but a worker knows only what the end was when it last
        # looked. So the last step, hours wide, is taken when everything before is through.
        producer.flush(120)
        while not arena.settled():
            if self._halt.wait(0.5):
                return
        end = ts + (GRACE_MINUTES + TIMEOUT_MINUTES) * 60_000
        for partition in range(partitions):
            number = next(n for n in range(10_000) if partition_of(f"{_LAST}{n}".encode(), partitions) == partition)
            client = f"{_LAST}{number}"
            common = {"event_id": f"{client}-end", "client_id": client, "occurred_at": end}
            last = {
                "clicks": {**common, "url": "https://shop.example.com/"},
                "conversions": {**common, "goal": "end"},
            }
            for name, value in last.items():
                producer.produce(
                    arena.spec.prefix + name,
                    json.dumps(value).encode(),
                    client.encode(),
                    partition=partition,
                    timestamp=end,
                    on_delivery=delivered,
                )
        left = producer.flush(120)
        if left or failures:
            raise RuntimeError(f"{left} records not delivered, failures {failures[:3]}")
