"""Workers, topics and traffic of one scenario, and the means to disturb them."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from stream_app.engine.partitioning import partition_of
from tests.chaos.logs import QUIET, ends, read
from tests.chaos.oracle import INPUTS, Verdict, check, committed
from tests.chaos.spec import Failpoint, WorkerSpec

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0
"""How long a condition that must come is waited for: generous, for machines are shared."""


class NotInTime(AssertionError):
    """Something that must happen did not."""


def wait_until(
    what: str, condition: Callable[[], object], patience_s: float = PATIENCE_S, every_s: float = 0.05
) -> float:
    """Polls until it is so; seconds that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience_s:
            raise NotInTime(f"not in {patience_s:g} s: {what}")
        time.sleep(every_s)
    return time.monotonic() - began


class Member:
    """One worker of the group over all its lives: its state directory stays, its process comes and goes."""

    def __init__(self, name: str, spec: WorkerSpec, directory: Path) -> None:
        self.name = name
        self.spec = spec
        self.directory = directory
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.lives = 0
        self._output: IO[bytes] | None = None
        self._mark = 0

    @property
    def state(self) -> Path:
        return Path(self.spec.state_directory)

    def start(self, *failpoints: Failpoint, **changes: object) -> None:
        assert self.process is None or self.process.poll() is not None
        spec = msgspec.structs.replace(
            self.spec, failpoints=list(failpoints), seed=self.spec.seed + self.lives, **changes
        )
        path = self.directory / f"{self.name}.json"
        path.write_bytes(msgspec.json.encode(spec))
        self.mark()
        self.lives += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", str(path)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"{self.name} still runs after {patience_s:g} s\n{self.tail()}") from None

    def terminate(self, patience_s: float = 40.0) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(patience_s)

    @property
    def stopped(self) -> bool:
        """Whether a SIGSTOP has taken effect."""
        assert self.process is not None
        try:
            return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
        except FileNotFoundError:
            return False

    # -- its log ----------------------------------------------------------------------------------------
    def mark(self) -> None:
        """What is logged before this is not looked at again."""
        self._mark = self.log.stat().st_size if self.log.exists() else 0

    def said(self, pattern: str) -> list[str]:
        """Matches since the mark."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._mark)
            return re.findall(pattern, file.read().decode(errors="replace"))

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def all_said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> list[int]:
        """The tasks it runs, by its own account since the mark."""
        now: set[int] = set()
        for verb, listed in self.said(r"(running|closed|assigned) tasks \[([\d, ]*)\]"):
            numbers = {int(n) for n in listed.split(",") if n.strip()}
            if verb == "running":
                now |= numbers
            else:
                now.clear()
        return sorted(now) if self.alive else []


class Arena:
    """A scenario. Ends every process of its own at the end."""

    inputs: Sequence[str] = INPUTS
    """Logical names of the input topics."""

    def __init__(
        self,
        bootstrap: str,
        directory: Path,
        prefix: str,
        seed: int,
        *,
        partitions: int = 8,
        replication: int = 1,
        changelog: dict[str, str] | None = None,
        **spec: object,
    ) -> None:
        self.bootstrap = bootstrap
        self.directory = directory
        self.random = random.Random(seed)
        self.seed = seed
        self.admin = AdminClient({**QUIET, "bootstrap.servers": bootstrap})
        self.spec = WorkerSpec(
            bootstrap=bootstrap,
            app_id="tally",
            prefix=prefix,
            partitions=partitions,
            state_directory="",
            seed=seed,
            session_ms=session_ms(self.admin),
        )
        self.spec = msgspec.structs.replace(self.spec, app_id=f"{prefix}tally", **spec)
        self.replication = replication
        self.members: dict[str, Member] = {}
        self.feeder: Feeder | None = None
        self.kills = 0
        self._create_topics(changelog or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.feeder is not None:
            self.feeder.stop()
        for member in self.members.values():
            if member.alive:
                member.signal(signal.SIGKILL)
                member.signal(signal.SIGCONT)
                member.wait()

    # -- topics -----------------------------------------------------------------------------------------
    @property
    def changelog(self) -> str:
        return f"{self.spec.prefix}{self.spec.app_id}-changelog"

    @property
    def repartition(self) -> str:
        return f"{self.spec.prefix}{self.spec.app_id}-repartition"

    def _create_topics(self, changelog: dict[str, str]) -> None:
        append = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
        topics = dict.fromkeys((*INPUTS, "dead-letters"), append)
        topics |= {name: {"retention.ms": "-1"} for name in ("counts", "idles")}
        self.create({self.spec.prefix + name: config for name, config in topics.items()})
        self.create(
            {self.repartition: {"retention.ms": "-1"}, self.changelog: {"cleanup.policy": "compact", **changelog}}
        )

    def create(self, topics: dict[str, dict[str, str]]) -> None:
        wanted = [
            NewTopic(name, self.spec.partitions, self.replication, config=dict(config))
            for name, config in topics.items()
        ]
        for future in self.admin.create_topics(wanted).values():
            future.result(60)

        def there() -> bool:
            known = self.admin.list_topics(timeout=20).topics
            return all(
                name in known
                and len(known[name].partitions) == self.spec.partitions
                and all(p.leader >= 0 for p in known[name].partitions.values())
                for name in topics
            )

        wait_until("topics have leaders", there)

    def delete(self, topic: str) -> None:
        for future in self.admin.delete_topics([topic]).values():
            future.result(60)
        wait_until(f"{topic} is gone", lambda: topic not in self.admin.list_topics(timeout=20).topics)

    # -- workers ----------------------------------------------------------------------------------------
    def member(self, name: str, *, static: bool = False) -> Member:
        if name not in self.members:
            spec = msgspec.structs.replace(
                self.spec, state_directory=str(self.directory / f"state-{name}"), instance=name if static else ""
            )
            self.members[name] = Member(name, spec, self.directory)
        return self.members[name]

    def owned(self) -> list[int]:
        return sorted(p for m in self.members.values() for p in m.running)

    def wait_running(self, patience_s: float = PATIENCE_S) -> float:
        """Until every task runs on exactly one worker."""
        everything = list(range(self.spec.partitions))
        try:
            return wait_until("every task runs somewhere", lambda: self.owned() == everything, patience_s)
        except NotInTime as error:
            raise NotInTime(f"{error}; running: {self._accounts()}\n{self.tails()}") from None

    def _accounts(self) -> dict[str, list[int]]:
        return {name: m.running for name, m in self.members.items()}

    def tails(self, lines: int = 25) -> str:
        return "\n".join(
            f"--- {name} (alive: {m.alive})\n{m.tail(lines)}" for name, m in self.members.items() if m.log.exists()
        )

    def end_all(self) -> None:
        """SIGTERM to all who live; they must drain and exit with 0."""
        living = [m for m in self.members.values() if m.alive]
        for member in living:
            member.signal(signal.SIGTERM)
        for member in living:
            code = member.wait(45)
            assert code == 0, f"{member.name} exited with {code} on SIGTERM\n{member.tail()}"

    # -- traffic ----------------------------------------------------------------------------------------
    def feed(self, events: int, rate: float, **shape: object) -> Feeder:
        """Starts steady traffic in the background."""
        assert self.feeder is None or self.feeder.done
        self.feeder = Feeder(self, events, rate, **shape)
        self.feeder.start()
        return self.feeder

    # -- the end ----------------------------------------------------------------------------------------
    def settled(self) -> bool:
        """All input processed and committed. (The repartition topic ends in control records, so it is read.)"""
        stored = committed(self.bootstrap, self.spec.app_id)
        for name in self.inputs:
            topic = self.spec.prefix + name
            for p, end in ends(self.admin, topic, self.spec.partitions).items():
                if stored.get((topic, p), (-1, ""))[0] < end:
                    return False
        starts = {p: stored.get((self.repartition, p), (-1, ""))[0] for p in range(self.spec.partitions)}
        return all(at >= 0 for at in starts.values()) and not read(
            self.bootstrap, self.repartition, self.spec.partitions, starts=starts
        )

    def lag(self) -> int:
        stored = committed(self.bootstrap, self.spec.app_id)
        return sum(
            end - max(0, stored.get((self.spec.prefix + name, p), (0, ""))[0])
            for name in self.inputs
            for p, end in ends(self.admin, self.spec.prefix + name, self.spec.partitions).items()
        )

    def verdict(self, patience_s: float = PATIENCE_S, timers_s: float = 25.0) -> Verdict:
        """Waits until all is processed and timers have fired, ends the workers, compares everything."""
        if self.feeder is not None:
            self.feeder.join()
        try:
            wait_until("all input is processed", self.settled, patience_s, every_s=0.3)
        except NotInTime as error:
            raise NotInTime(f"{error}: lag {self.lag()}\n{self.tails()}") from None
        late = {"idles missing", "idles wrong", "state not forgotten", "timer missed"}
        deadline = time.monotonic() + self.spec.forget_ms / 1000 + timers_s
        while set(check(self.spec).wrong) & late and time.monotonic() < deadline:
            time.sleep(1)
        self.end_all()
        verdict = check(self.spec, [m.state for m in self.members.values()])
        verdict.facts["kills"] = self.kills
        verdict.facts["lives"] = sum(m.lives for m in self.members.values())
        return verdict

    def expect_green(self, patience_s: float = PATIENCE_S) -> Verdict:
        verdict = self.verdict(patience_s)
        print(f"seed {self.seed}: {verdict}")
        assert verdict.green, f"seed {self.seed}: {verdict}\n{self.tails()}"
        return verdict


class Feeder(threading.Thread):
    """Traffic: good records over two inputs, some of them in the wrong partition, without a key, or for others to be
    nudged; bad ones; keys that appear once and are silent ever after. Comes in bursts with pauses in between, so that
    there are commits that only fire timers."""

    def __init__(
        self, arena: Arena, events: int, rate: float, *, keys: int = 2_000, burst_s: float = 1.2, pause_s: float = 0.8
    ) -> None:
        super().__init__(name="feeder", daemon=True)
        self._arena = arena
        self._events = events
        self._rate = rate
        self._keys = keys
        self._burst_s = burst_s
        self._pause_s = pause_s
        self._random = random.Random(arena.seed * 7 + events)
        self._halt = threading.Event()
        self._partitions = arena.spec.partitions
        self._tag = f"{os.getpid():x}{arena.random.randrange(1 << 20):x}"
        self.error: BaseException | None = None
        self.sent = 0

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
        failures: list[str] = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                failures.append(str(error))

        producer = Producer(
            {
                **QUIET,
                "bootstrap.servers": self._arena.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2",
                "linger.ms": 10,
                "delivery.timeout.ms": 120_000,
            }
        )
        began, paused = time.monotonic(), 0.0
        per_burst = max(1, int(self._rate * self._burst_s))
        pause_at = per_burst
        while self.sent < self._events and not self._halt.is_set():
            for topic, key, value, headers, partition in self._some():
                where = {} if partition is None else {"partition": partition}
                producer.produce(topic, value=value, key=key, headers=headers, on_delivery=delivered, **where)
            producer.poll(0)
            if self.sent >= pause_at and self._pause_s:
                pause_at += per_burst
                producer.flush(120)
                self._halt.wait(self._pause_s)
                paused += self._pause_s
            ahead = began + paused + self.sent / self._rate - time.monotonic()
            if ahead > 0.02:
                self._halt.wait(ahead)
        left = producer.flush(150)
        if left or failures:
            raise RuntimeError(f"{left} records not delivered, failures {failures[:3]}")

    def _some(self) -> Iterable[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]], int | None]]:
        """The next few records: topic, key, value, headers, partition (None: where it belongs)."""
        rnd = self._random
        prefix = self._arena.spec.prefix
        if rnd.random() < 0.01:
            key = f"x{self._tag}-{self.sent}"
            return [self._good(prefix + "left", key) for _ in range(3)]
        topic = prefix + rnd.choice(INPUTS)
        if rnd.random() < 0.03:
            return [self._bad(topic)]
        return [self._good(topic, f"k{int(self._keys * rnd.random() ** 2)}")]

    def _good(
        self, topic: str, key: str
    ) -> tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]], int | None]:
        rnd = self._random
        self.sent += 1
        event: dict[str, object] = {"id": f"{self._tag}-{self.sent}", "key": key}
        headers: list[tuple[str, bytes]] = []
        if key[0] == "x":
            return topic, key.encode(), msgspec.json.encode(event), headers, None
        if rnd.random() < 0.15:
            event["to"] = f"k{rnd.randrange(self._keys)}"
        if rnd.random() < 0.02:
            event["reject"] = True
        if rnd.random() < 0.05:
            headers = [("trace", b"%d" % self.sent), ("kind", b"mine"), ("origin.topic", b"elsewhere"), ("empty", b"")]
        sent_key: bytes | None = key.encode()
        partition = None
        home = partition_of(key.encode(), self._partitions)
        if rnd.random() < 0.05:
            sent_key, partition = None, home
        if rnd.random() < 0.06:
            partition = (home + rnd.randrange(1, self._partitions)) % self._partitions
        return topic, sent_key, msgspec.json.encode(event), headers, partition

    def _bad(self, topic: str) -> tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]], int | None]:
        rnd = self._random
        self.sent += 1
        mine = f"bad-{self._tag}-{self.sent}".encode()
        values: Sequence[bytes | None] = (
            b"{",
            b"",
            None,
            b'{"id": 5, "key": "k1"}',
            b"\xff\xfe" + mine,
            b'{"id": "a", "key": "somebody else"}',
            b'{"id": "big", "key": "k1", "pad": "' + b"y" * self._arena.spec.max_record_bytes + b'"}',
            b'["list"]',
            b"NaN",
        )
        weights = (5, 5, 5, 5, 5, 5, 1, 5, 5)
        return topic, mine, rnd.choices(values, weights)[0], [("trace", mine)], rnd.randrange(self._partitions)


def session_ms(admin: AdminClient) -> int:
    """The shortest session timeout that the broker allows, but not so short that a busy machine looks dead."""
    node = next(iter(admin.list_topics(timeout=20).brokers))
    (answer,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, str(node))]).values()
    return max(4_000, int(answer.result(30)["group.min.session.timeout.ms"].value))
