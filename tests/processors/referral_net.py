"""Codes and people run without an engine: commits, facts that travel, timers, saved states, rows, outputs."""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec

from stream_app.domain.contacts import ContactHasher
from stream_app.domain.credit import NOT_DETERMINED
from stream_app.domain.lead_events import LeadFact
from stream_app.domain.referral.facts import (
    BEHIND,
    CAPTURED,
    CONVERSION,
    FORGOTTEN,
    LEAD,
    MOVED,
    Forgotten,
    Purchase,
    RefundLine,
    Visit,
    Visits,
    person_of,
)
from stream_app.domain.referral.programs import Exchange, Program, Programs, Rate
from stream_app.engine.processor import Place, Rejected
from stream_app.processors.codes import CodesProcessor
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.lead_facts import LEAD_FACT, LEAD_QUESTION
from stream_app.processors.lead_referrals import LeadReferrals
from stream_app.processors.leads import LeadsProcessor
from stream_app.processors.links import PERSON_ERASED, PersonErased
from stream_app.processors.people import PeopleProcessor
from stream_app.processors.people.leaps import WAITING, combine
from stream_app.processors.referral_facts import ReferralTeller
from tests.processors.harness import DAY, HOUR, MINUTE, T0, DictRows
from tests.processors.lead_harness import RESOLVER

GRACE = HOUR
HASHER = ContactHasher(b"a key for tests", "LV")

__all__ = ["DAY", "GRACE", "HASHER", "HOUR", "MINUTE", "T0"]


def pseudonym_of(key: bytes) -> str:
    """A name that is the same in every run: so that runs can be compared."""
    client = key.startswith(b"\x1f")
    return ("\x1f" if client else "") + "erased-" + sha256(b"pseudonym of " + key).hexdigest()[:16]


class Tally:
    """What counters would have: sums by currency and status."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Decimal] = {}
        self.figures: Counter[tuple[str, str]] = Counter()
        self.brought: dict[tuple[str, str, str], Decimal] = {}
        self.added: Counter[tuple[str, str, str]] = Counter()

    def move(self, entry: Any, before: Any, after: Any, context: Any) -> None:
        for counted, sign in ((before, -1), (after, 1)):
            for name in counted.sums.__struct_fields__ if counted.currency else ():
                place = counted.currency, name
                self.sums[place] = self.sums.get(place, Decimal(0)) + sign * getattr(counted.sums, name)

    def person(self, before: Any, after: Any, context: Any) -> None:
        for cells, sign in ((before, -1), (after, 1)):
            for cell, n in cells.items():
                self.figures[cell.program, cell.name] += sign * n

    def revenue(self, before: Any, after: Any, context: Any) -> None:
        for amounts, sign in ((before, -1), (after, 1)):
            for place, amount in amounts.items():
                self.brought[place] = self.brought.get(place, Decimal(0)) + sign * amount

    def add(self, name: str, where: Any, at: int, n: int, context: Any) -> None:
        keys = dict(where)
        (program,) = keys["program"]
        self.added[program, name, keys.get("code", ("", ""))[1]] += n


class Commit:
    def __init__(self, net: Net, rows: DictRows) -> None:
        self.now = net.now
        self.revision = net.revision
        self.caught_up = False
        self.rows = rows
        self.net = net
        self.gathered: dict[str, dict[Any, Any]] = {}

    def emit(self, topic: str, key: bytes, value: bytes) -> None:
        record = json.loads(value)
        if topic == "leads":
            self.net.leads[record["id"]] = record
            return
        assert record["user_id"].encode() == key
        assert (topic, record["id"]) not in self.net.emitted, "one record per id and commit"
        self.net.emitted.add((topic, record["id"]))
        self.net.outputs.append(record)

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        if kind == PERSON_ERASED:
            self.net.forget_clients(key, value)
        elif kind == BEHIND and key in self.net.silent:
            self.net.counts["asked"] += 1
        elif kind != LEAD_QUESTION:  # which journeys would answer
            self.net.counts["asked"] += kind == BEHIND
            self.net.travelling.append((kind, key, value))

    def reject(self, event: Any, reason: str, detail: str) -> None:
        self.net.rejected.append((reason, detail))

    def origin(self, event: Any) -> Place:
        return Place(0, self.revision, self.now)

    def bury(self, topic: str, key: bytes, value: bytes, place: Place, reason: str, detail: str) -> None:
        assert (topic, key) == ("referral-events", json.loads(value)["user_id"].encode())
        assert 0 < place.offset <= self.revision, "the commit in which it came"
        self.net.rejected.append((reason, detail))

    def gather(self, kind: str) -> dict[Any, Any]:
        return self.gathered.setdefault(kind, {})

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        self.net.counts[name] += n


class Net:
    """Both processors over records in any order. `mix` shuffles how letters of different senders overtake each other.

    Letters from one key to another stay in order, as in a partition. If they may `overlap`, those of one way come in
    any number of commits, and what happens next within the minute may be heard before them."""

    def __init__(
        self,
        *programs: Program,
        rates: dict[str, Decimal] | None = None,
        mix: int | None = None,
        drop_cache: bool = True,
        partitions: int = 1,
        overlap: bool = False,
    ) -> None:
        self.overlap = overlap
        self.programs = Programs(programs, Exchange("EUR", rates or {}))
        self.tally = Tally()
        referrals = LeadReferrals(self.programs, ReferralTeller(self.programs, frozenset()))
        self.processors: list[Any] = [
            LeadsProcessor(RESOLVER, currency="EUR", grace_ms=GRACE, rules_version="test", referrals=referrals),
            CodesProcessor(grace_ms=GRACE),
            PeopleProcessor(
                self.programs,
                HASHER,
                grace_ms=GRACE,
                currency="EUR",
                rules_version="test",
                counter=self.tally,
                pseudonyms=pseudonym_of,
                partitions=partitions,
            ),
        ]
        self.by_kind = {kind: p for p in self.processors for kind in (*p.inputs, *p.kinds)}
        self.rows = {p.name: DictRows() for p in self.processors}
        self.saved: dict[tuple[str, bytes], bytes] = {}
        self.cached: dict[tuple[str, bytes], Any] = {}
        self.dues: dict[tuple[str, bytes], int] = {}
        self.travelling: list[tuple[str, bytes, bytes]] = []
        self.outputs: list[dict[str, Any]] = []
        self.leads: dict[str, dict[str, Any]] = {}
        """Their last records."""
        self.rejected: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.emitted: set[tuple[str, str]] = set()
        self.now = 0
        self.revision = 0
        self.drop_cache = drop_cache
        self.random = random.Random(mix) if mix is not None else None
        self.moving = False
        self.clients: dict[str, set[str]] = {}
        """Clients that journeys know to be a user's, besides the one named after them."""
        self.silent: set[bytes] = set()
        """Keys of tasks that have not come to any time yet."""
        self.forgotten: set[str] = set()
        """Clients whose journeys have been erased."""

    def send(self, *records: tuple[str, bytes | None, bytes, int]) -> None:
        """One commit with these, then as many as it takes until nothing travels."""
        self._commit(list(records))
        self.settle(wholly=not self.overlap)

    def forget_clients(self, key: bytes, value: bytes) -> None:
        """Plays the part of persons and journeys: nothing more is told of these clients."""
        told = msgspec.msgpack.decode(value, type=Letter[PersonErased]).body
        assert told is not None
        clients = tuple(sorted({*told.clients, f"c-{key.decode()}", *self.clients.get(key.decode(), ())}))
        self.forgotten |= {*clients}
        for body in (Forgotten(clients), *(Forgotten((client,), done=True) for client in clients)):
            self.travelling.append((FORGOTTEN, key, encode_body(Letter(key.decode(), body))))

    def settle(self, *, wholly: bool = True) -> None:
        for _ in range(400 if self.overlap else 60):
            if not self.travelling or not (wholly or self._rng().random() < 0.4):
                return
            travelling, self.travelling = self.travelling, []
            if self.random is not None:
                # Some letters take longer; those of one kind and key keep their order.
                # What a pseudonym is given was sent before anybody could answer to the new name.
                ways = dict.fromkeys(_way(letter) for letter in travelling if letter[0] != MOVED)
                slow = {way for way in ways if self.random.random() < 0.3}
                now = [letter for letter in travelling if _way(letter) not in slow]
                self.travelling = [letter for letter in travelling if _way(letter) in slow]
                travelling = self._cut(now)
                if self.overlap:
                    travelling = self._begun(travelling)
            self._commit([(kind, key, value, self.now) for kind, key, value in travelling])
        raise AssertionError("facts travel for ever")

    def _rng(self) -> random.Random:
        assert self.random is not None, "only a mix may overlap"
        return self.random

    def _begun(self, travelling: list[tuple[str, bytes, bytes]]) -> list[tuple[str, bytes, bytes]]:
        """Of some ways only the first letters; the others come before any that are sent now."""
        left: dict[tuple[str, bytes], int] = {}
        for way in dict.fromkeys(_way(letter) for letter in travelling if letter[0] != MOVED):
            if self._rng().random() < 0.5:
                left[way] = self._rng().randrange(1, 4)
        now, later = [], []
        for letter in travelling:
            way = _way(letter)
            (now if left.get(way, 1) > 0 else later).append(letter)
            if way in left:
                left[way] -= 1
        self.travelling = [*later, *self.travelling]
        return now

    def _cut(self, travelling: list[tuple[str, bytes, bytes]]) -> list[tuple[str, bytes, bytes]]:
        """What a pseudonym is given may come in two commits: the second part before anything that follows from it, and
        before what was sent behind it."""
        assert self.random is not None
        moved = [place for place, letter in enumerate(travelling) if letter[0] == MOVED]
        if self.moving or not moved or self.random.random() < 0.3:
            self.moving = False
            return travelling
        cut = self.random.choice(moved)
        names = {travelling[place][1] for place in moved if place >= cut}
        later = [letter for place, letter in enumerate(travelling) if place >= cut and letter[1] in names]
        self.moving = True
        self.travelling = [*later, *self.travelling]
        return [letter for place, letter in enumerate(travelling) if place < cut or letter[1] not in names]

    def pass_time(self, until: int) -> None:
        """Lets the stream time go on; timers fire when they are due."""
        if self.overlap and until <= self.now:
            return
        self.settle()
        while (due := min((d for d in self.dues.values() if d), default=0)) and due <= until:
            self.now = max(self.now, due)
            self._commit([])
            self.settle()
        self.now = max(self.now, until)
        self._commit([])
        self.settle()

    def _commit(self, records: list[tuple[str, bytes | None, bytes, int]]) -> None:
        groups: dict[tuple[str, bytes], list[Any]] = {}
        for source, key, value, ts in records:
            processor = self.by_kind[source]
            if source in processor.inputs:
                self.now = max(self.now, ts)
            try:
                event = processor.decoder(source)(key, value, ts)
            except Rejected as rejected:
                self.rejected.append((rejected.reason, rejected.detail))
                continue
            groups.setdefault((processor.name, key or processor.key_of(event)), []).append(event)
        self.revision += 1
        self.emitted = set()
        for processor in self.processors:
            commit = Commit(self, self.rows[processor.name])
            changed = {}
            for (name, key), events in groups.items():
                if name == processor.name:
                    changed[key] = processor.fold(key, self._state(name, key), events, commit)
            for (name, key), due in list(self.dues.items()):
                if name == processor.name and key not in changed and 0 < due <= self.now:
                    changed[key] = processor.wake(key, self._state(name, key), commit)
            for key, state in changed.items():
                place = processor.name, key
                if state is None:
                    self._forget(place)
                    continue
                self.saved[place] = processor.save(key, state, self.rows[processor.name])
                self.cached[place] = state
                self.dues[place] = processor.due(state)
                assert not 0 < self.dues[place] <= self.now, (place, self.dues[place], "what is due was done")
            combine(commit.gathered.get(WAITING, {}), commit)
        if self.drop_cache:
            self.cached.clear()

    def _forget(self, place: tuple[str, bytes]) -> None:
        for kept in (self.saved, self.cached, self.dues):
            kept.pop(place, None)  # type: ignore[attr-defined]

    def _state(self, name: str, key: bytes) -> Any:
        if (name, key) in self.cached:
            return self.cached[name, key]
        payload = self.saved.get((name, key))
        processor = next(p for p in self.processors if p.name == name)
        return processor.load(key, 1, payload, self.rows[name]) if payload is not None else None

    # --- what tests look at --------------------------------------------------------------------------

    def last(self) -> dict[str, dict[str, Any]]:
        """The last record per id, without retracted ones and revisions."""
        truth: dict[str, dict[str, Any]] = {}
        for record in self.outputs:
            before = truth.get(record["id"])
            assert before is None or before["revision"] < record["revision"]
            truth[record["id"]] = record
        return {
            name: {field: value for field, value in record.items() if field != "revision"}
            for name, record in sorted(truth.items())
            if not record["retracted"]
        }

    @property
    def rewards(self) -> list[tuple[str, int | None, str, str]]:
        """(user, level, amount, status), sorted."""
        return sorted(
            ((r["user_id"], r["level"] or 0, r["amount"], r["status"]) for r in self.last().values()),
            key=lambda r: (r[1], r[0], r[2]),
        )

    def reward(self, user: str, level: int | None = 1) -> dict[str, Any]:
        """The only record of a user at a level."""
        (found,) = [
            r for r in self.last().values() if r["user_id"] == user and r["level"] == level and "-r" not in r["id"]
        ]
        return found

    def reward_of(self, amount: str) -> dict[str, Any]:
        """The only record of that amount."""
        (found,) = [r for r in self.last().values() if r["amount"] == amount]
        return found

    def person(self, user: str) -> Any:
        return self._state("people", user.encode())


def _way(letter: tuple[str, bytes, bytes]) -> tuple[str, bytes]:
    """Letters that keep their order: a person hears of a lead before what it tells."""
    kind, key, _ = letter
    return (CONVERSION if kind == LEAD else kind), key


def program(name: str = "friends", levels: tuple[str, ...] = ("10%", "5%", "2%"), **fields: Any) -> Program:
    """A programme for purchases."""
    return Program(name, tuple(Rate.parse(level) for level in levels), **{"goals": ("purchase",), **fields})


def event(at: int, user: str, kind: str, *, ts: int | None = None, program: str = "friends", **fields: Any) -> Any:
    """A referral event at T0 + `at`, taken at once or at T0 + `ts`."""
    record = {
        "event_id": fields.pop("event_id", f"{kind}-{user}-{at}"),
        "user_id": user,
        "occurred_at": T0 + at,
        "program": program,
        "type": kind,
        **fields,
    }
    return ("referral-events", user.encode(), json.dumps(record).encode(), T0 + (at if ts is None else ts))


def enrolled(at: int, user: str, code: str, **fields: Any) -> Any:
    return event(at, user, "enrolled", code=code, **fields)


def bought(at: int, client: str, value: str | None = "1000", *, user: str = "", via: Any = (), **fields: Any) -> Any:
    """A purchase at T0 + `at`, as journeys tells it. `via`: (code, visit's time) or several."""
    visits = [via] if via and isinstance(via[0], str) else list(via)
    event_id = fields.pop("event_id", f"buy-{client}-{at}")
    contact = {name: fields.pop(name) for name in ("email", "phone", "name", "ip") if name in fields}
    refunds = tuple(RefundLine(i, T0 + t, Decimal(v)) for i, t, v in fields.pop("refunds", ()))
    purchase = Purchase(
        T0 + at,
        event_id,
        fields.pop("goal", "purchase"),
        value=None if value is None else Decimal(value),
        currency=fields.pop("currency", "EUR"),
        paid=fields.pop("paid", True),
        client=client,
        user=user,
        visits=tuple(Visit(code, T0 + t, *flags) for code, t, *flags in visits),
        contact=HASHER.contact(**contact),
        refunds=refunds,
        **fields,
    )
    letter = encode_body(Letter(f"conv-{event_id}", purchase))
    return (CONVERSION, person_of(user, client).encode(), letter, T0 + at)


def unbought(purchase: Any) -> Any:
    """The same purchase taken back."""
    kind, key, value, ts = purchase
    name = msgspec.msgpack.decode(value)[0]
    return (kind, key, encode_body(Letter(name, None)), ts)


def asked(at: int, lead: str, client: str, *, user: str = "", via: Any = (), **contact: str) -> Any:
    """A conversion that makes a lead, as journeys tells it. `via`: (code, visit's time) or several."""
    visits = [via] if via and isinstance(via[0], str) else list(via)
    purchase = Purchase(
        T0 + at,
        f"ask-{lead}",
        "lead_form",
        client=client,
        user=user,
        visits=tuple(Visit(code, T0 + t) for code, t in visits),
        contact=HASHER.contact(**contact),
    )
    told = LeadFact(T0 + at, f"ask-{lead}", client, "lead_form", NOT_DETERMINED, (), user, encode_body(purchase))
    return (LEAD_FACT, lead.encode(), encode_body(Letter(f"conv-{lead}", told)), T0 + at)


def crm(at: int, lead: str, status: str, *, ts: int | None = None, **fields: Any) -> Any:
    """An update of a lead at T0 + `at`, taken at once or at T0 + `ts`."""
    record = {
        "event_id": fields.pop("event_id", f"{status}-{lead}-{at}"),
        "lead_id": lead,
        "occurred_at": T0 + at,
        "status": status,
        **fields,
    }
    return ("lead-updates", lead.encode(), json.dumps(record).encode(), T0 + (at if ts is None else ts))


def visited(at: int, session: str, code: str, *, user: str = "", client: str = "") -> Any:
    """Captured codes of a session, as journeys tells them."""
    letter = encode_body(Letter(session, Visits((Visit(code.casefold(), T0 + at),))))
    return (CAPTURED, person_of(user, client).encode(), letter, T0 + at)
