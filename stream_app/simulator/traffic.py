"""A stream of events as an imaginary shop would send them, the same for the same seed and start."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush, heapreplace

import msgspec
from msgspec.structs import replace

from stream_app.simulator.faults import Faults, spoil
from stream_app.simulator.people import Person
from stream_app.simulator.records import Record
from stream_app.simulator.visit import Behaviour, Planner, Visit

_HOUR = 3_600_000
_DAY = 24 * _HOUR


class TrafficConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of traffic."""

    start_ms: int
    """When the stream begins, epoch ms."""
    rate: float = 200.0
    """Events per second of event time."""
    newcomers: float = 0.55
    """Share of visits by somebody never seen before; 1: every visit."""
    known: int = 20_000
    """People who have been here before the stream begins."""
    history_ms: int = 0
    """Visits of that long before the start come first, in one burst, as from trackers that catch up after an outage.
    Keep it below the grace period."""
    history_events: int = 60_000
    """About so many events at most in that burst."""
    daily_curve: bool = False
    """Busy evenings and quiet nights (UTC), around the same mean rate."""
    behaviour: Behaviour = Behaviour()
    faults: Faults = Faults()


class Traffic:
    """Endless records in order of `ts`; one instance is one pass. `visits`, `people`, `conversions` count along."""

    def __init__(self, seed: int, config: TrafficConfig) -> None:
        self.seed = seed
        self.config = config
        self.visits = 0
        self.people = 0
        self.conversions = 0
        self._known = config.known
        self._rng = random.Random(f"{seed}/{config.start_ms}")  # repeatable on purpose
        self._planner = Planner(self._rng, config.behaviour, b"o%x-%x" % (seed & 0xFFFFFF, config.start_ms // 1000))
        self._gap_ms = self._mean_events() / config.rate * 1000
        self._queue: list[tuple[int, int, Visit | Record]] = []
        self._pushed = 0

    def _mean_events(self) -> float:
        """Events of a mean visit, by trying: what the rate of visits must be for the rate of events."""
        planner = Planner(random.Random(self.seed), self.config.behaviour, b"t")
        new = self.config.newcomers * 100
        visits = (planner.visit(Person(self.seed, i), i % 100 >= new) for i in range(10_000))
        return sum(len(visit.steps) for visit in visits) / 10_000

    def __iter__(self) -> Iterator[Record]:
        queue = self._queue
        faults = self.config.faults
        faulty = faults.total
        rnd, bits = self._rng.random, self._rng.getrandbits
        start = self.config.start_ms
        run = b'{"event_id":"%016x' % bits(64)
        arrival = float(start - self.config.history_ms)
        while True:
            while not queue or arrival < queue[0][0]:
                self._push(int(arrival), self._begin())
                arrival += self._until_next(arrival)
            now, _, item = queue[0]
            if type(item) is Record:
                heappop(queue)
                item.ts = max(item.ts, start)
                yield item
                continue
            assert type(item) is Visit
            steps, device = item.steps, item.device
            step = steps.pop()
            if steps:
                self._pushed += 1
                heapreplace(queue, (now + steps[-1].gap_ms, self._pushed, item))
            else:
                heappop(queue)
            occurred_at = now - 15 - int(rnd() * 250)  # the way over the network
            if step.topic == "clicks":
                value = b"%b%016x%b%d%b%b" % (run, bits(64), item.head, occurred_at, step.body, item.tail)
            else:  # sent by the shop's server, not by the browser
                self.conversions += 1
                value = b'%b%016x%b"%b"%b%b' % (run, bits(64), item.head, _rfc3339(occurred_at), step.body, item.tail)
            record = Record(step.topic, device.client_id, value, occurred_at, max(start, now), device.place)
            if (u := rnd()) < faulty:
                yield from self._fault(faults.pick(u), record, now)
            else:
                yield record

    def _push(self, at: int, item: Visit | Record) -> None:
        self._pushed += 1
        heappush(self._queue, (at, self._pushed, item))

    def _begin(self) -> Visit:
        """A visit by somebody new, or by somebody known: more often by those who were new lately."""
        self.visits += 1
        rnd = self._rng.random
        returning = self._known > 0 and rnd() >= self.config.newcomers
        if returning:
            index = self._known - 1 - int(self._known * rnd() ** 2)
        else:
            index = self._known
            self._known += 1
            self.people += 1
        return self._planner.visit(Person(self.seed, index), returning)

    def _until_next(self, now: float) -> float:
        """Time to the next visit, ms: a Poisson process whose rate follows history, then the day."""
        config = self.config
        gap = self._gap_ms
        if now < config.start_ms:
            # Thinned to the events wanted: all of the last minutes, so that the stream starts at its full rate.
            ahead = config.start_ms - now
            full = min(300_000.0, config.history_events * 0.75 / config.rate * 1000)
            if ahead > full:
                gap = max(gap, gap * config.rate * (config.history_ms - full) / 1000 / (config.history_events / 4))
        elif config.daily_curve:
            gap /= 1 + 0.7 * math.sin((now % _DAY / _DAY - 0.5) * 2 * math.pi)
        return self._rng.expovariate(1 / gap)

    def _fault(self, kind: str, record: Record, now: int) -> Iterator[Record]:
        """What reaches the broker at once instead of the record; the rest is on its way."""
        rng = self._rng
        match kind:
            case "bad":
                yield record
                yield spoil(rng, record)
            case "duplicates":
                yield record
                self._delay(record, now + rng.randrange(50, 30_000))
            case "disorder":
                self._delay(record, now + rng.randrange(1_000, 60_000))
            case "late":
                self._delay(record, now + rng.randrange(60_000, 45 * 60_000))
            case "too_late":
                self._delay(record, now + rng.randrange(2 * _HOUR, 12 * _HOUR))
            case "skew":
                yield _moved(record, rng.randrange(10 * 60_000, 120 * 60_000))
            case _:
                lost = rng.random() < 0.3
                yield replace(record, place=record.place + 1 + rng.randrange(6), key=None if lost else record.key)

    def _delay(self, record: Record, ts: int) -> None:
        self._push(ts, replace(record, ts=ts))


def _moved(record: Record, by_ms: int) -> Record:
    """The same record from a clock that is wrong by `by_ms`."""
    at = record.occurred_at + by_ms
    value = record.value.replace(b"%d" % record.occurred_at, b"%d" % at, 1)
    value = value.replace(_rfc3339(record.occurred_at), _rfc3339(at), 1)
    return replace(record, value=value, occurred_at=at)


def _rfc3339(ms: int) -> bytes:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03d}Z").encode()
