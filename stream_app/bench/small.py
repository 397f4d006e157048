"""A small job for the engine alone, to compare it with other engines: visits of half an hour and the source of the last
click that was not direct.

It is the kind of job that Kafka Streams, Flink or plain Python do in a page of code: one input, one state of five
fields for each client, an output for each visit that ends and for each lead.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec

from stream_app.engine.processor import AnyProcessor, Context, Decoder, Rejected, Rows
from stream_app.engine.task import TaskSettings
from stream_app.engine.topology import Topology
from stream_app.hosts.kafka.worker import KafkaOptions, KafkaWorker
from stream_app.metrics import WorkerStats

INPUT, OUTPUT = "visits", "results"
_GAP_MS = 30 * 60_000
Source = tuple[str, str, str]
"""Source, medium, campaign."""
_DIRECT: Source = ("(direct)", "(none)", "")
_HOSTS = {
    "www.google.com": ("google", "organic", ""),
    "www.bing.com": ("bing", "organic", ""),
    "l.facebook.com": ("facebook", "social", ""),
    "t.co": ("twitter", "social", ""),
}


class Event(msgspec.Struct, gc=False):
    """A page that was seen, or a lead."""

    event_id: str
    client_id: str
    ts: int
    type: str
    url: str = ""
    referrer: str = ""
    value: float = 0.0


class Visit(msgspec.Struct, gc=False, array_like=True):
    """The open visit of a client."""

    start: int
    last: int
    hits: int
    source: Source
    last_non_direct: Source | None


class Ended(msgspec.Struct, gc=False):
    """A visit that another one follows."""

    client_id: str
    start: int
    end: int
    hits: int
    source: Source


class Lead(msgspec.Struct, gc=False):
    """A lead with the source that is credited."""

    client_id: str
    ts: int
    value: float
    source: Source
    event_id: str


def _classify(url: str, referrer: str) -> Source | None:
    """None: from a page of the shop itself."""
    query = parse_qs(urlsplit(url).query)
    if "utm_source" in query:
        first = [query.get(name, [default])[0] for name, default in _TAGS]
        return first[0], first[1], first[2]
    if "gclid" in query:
        return "google", "cpc", ""
    if "fbclid" in query:
        return "facebook", "paid", ""
    if not referrer:
        return _DIRECT
    host = urlsplit(referrer).hostname or ""
    return None if host == "shop.example.com" else _HOSTS.get(host, (host, "referral", ""))


_TAGS = (("utm_source", ""), ("utm_medium", "(not set)"), ("utm_campaign", ""))
_decode = msgspec.json.Decoder(Event).decode
_write = msgspec.json.Encoder().encode
_load = msgspec.msgpack.Decoder(Visit).decode
_save = msgspec.msgpack.Encoder().encode


class SmallJob:
    """The job as a processor. Events of a client are taken in the order in which they lie in the log."""

    name = "small"
    tag = b"s"
    inputs: Sequence[str] = (INPUT,)
    kinds: Sequence[str] = ()
    state_version = 1

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], Source | None] = {}

    def decoder(self, _source: str) -> Decoder[Event]:
        """JSON, and the key's check."""

        def decode(key: bytes | None, value: bytes | None, _ts: int) -> Event:
            try:
                event = _decode(value or b"")
            except msgspec.DecodeError as error:
                raise Rejected("bad_json", str(error)) from None
            if key is not None and key != event.client_id.encode():
                raise Rejected("key_mismatch", "client_id")
            return event

        return decode

    def key_of(self, event: Event) -> bytes:
        """The client."""
        return event.client_id.encode()

    def fold(self, key: bytes, state: Visit | None, events: list[Event], context: Context[Event]) -> Visit | None:
        """The state after these events; results go out."""
        for event in events:
            at = event.ts
            if event.type != "page":
                if state is None:
                    state = Visit(at, at, 0, _DIRECT, None)
                state.last = at
                source = state.last_non_direct or state.source
                lead = Lead(event.client_id, at, event.value, source, event.event_id)
                context.emit(OUTPUT, key, _write(lead))
                continue
            found = self._source(event.url, event.referrer)
            is_click = found is not None and found[1] != "(none)"
            if state is not None and at - state.last <= _GAP_MS and not (is_click and found != state.source):
                state.last = at
                state.hits += 1
                continue
            last = found if is_click else None
            if state is not None:
                ended = Ended(event.client_id, state.start, state.last, state.hits, state.source)
                context.emit(OUTPUT, key, _write(ended))
                last = last or state.last_non_direct
            state = Visit(at, at, 1, found or _DIRECT, last)
        return state

    def _source(self, url: str, referrer: str) -> Source | None:
        tags = url.find("?")
        known = (url[tags:] if tags >= 0 else "", referrer)
        try:
            return self._sources[known]
        except KeyError:
            found = self._sources[known] = _classify(url, referrer)
            return found

    def wake(self, _key: bytes, state: Visit, _context: Context[Event]) -> Visit | None:
        """Time alone changes nothing."""
        return state

    def due(self, _state: Visit) -> int:
        """Never."""
        return 0

    def load(self, _key: bytes, _version: int, payload: bytes, _rows: Rows) -> Visit:
        """Decoded."""
        return _load(payload)

    def save(self, _key: bytes, state: Visit, _rows: Rows) -> bytes:
        """Encoded."""
        return _save(state)


class Spec(msgspec.Struct, kw_only=True):
    """What a worker of the small job is told."""

    bootstrap: str
    app_id: str
    input: str
    output: str
    partitions: int
    state_directory: str

    @property
    def servers(self) -> list[str]:
        """The brokers to ask first."""
        return self.bootstrap.split(",")

    @property
    def repartition(self) -> str:
        """Topic of letters between keys; this job writes none."""
        return f"{self.app_id}-repartition"

    @property
    def changelog(self) -> str:
        """Topic of states."""
        return f"{self.app_id}-changelog"

    @property
    def dead_letters(self) -> str:
        """Topic of records that cannot be used."""
        return f"{self.app_id}-dead-letters"


def events(count: int, clients: int, seed: int) -> Iterator[tuple[bytes, bytes, int]]:
    """(key, value, timestamp) of made-up traffic: some clients come often, one event in twenty is a lead."""
    rng = random.Random(seed)
    tags = ("utm_source=google&utm_medium=cpc&utm_campaign=spring", "gclid=abc123",
            "utm_source=newsletter&utm_medium=email", "fbclid=zzz", "", "", "", "")  # fmt: skip
    # fmt: off
    referrers = ("https://www.google.com/", "https://l.facebook.com/", "", "https://t.co/x",
                 "https://blog.example.org/post/1", "https://shop.example.com/", "https://shop.example.com/p/1")
    # fmt: on
    browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"
    at = 1_700_000_000_000
    for number in range(count):
        at += rng.randrange(20)
        client = f"{int(clients * rng.random() ** 2):08x}"
        event: dict[str, Any] = {"event_id": f"{rng.getrandbits(128):032x}", "client_id": client, "ts": at}
        if rng.random() < 0.05:
            event.update(type="lead", value=12.5)
        else:
            event.update(
                type="page",
                url=f"https://shop.example.com/p/{number % 97}?{rng.choice(tags)}",
                referrer=rng.choice(referrers),
                user_agent=browser,
                ip="203.0.113.7",
            )
        yield client.encode(), _write(event), at


def run_worker(spec: Spec) -> None:
    """A worker of the job, until a signal ends it."""
    topology = Topology(
        processors=[cast("AnyProcessor", SmallJob())],
        topics={INPUT: spec.input, OUTPUT: spec.output},
        repartition=spec.repartition,
        changelog=spec.changelog,
        dead_letters=spec.dead_letters,
        partitions=spec.partitions,
    )
    options = KafkaOptions(
        app_id=spec.app_id,
        client_options={"bootstrap_servers": spec.servers},
        state_directory=Path(spec.state_directory),
        task=TaskSettings(cache_entries=200_000 // spec.partitions),
    )
    stats = WorkerStats({spec.input: INPUT, spec.output: OUTPUT})
    KafkaWorker(topology, options, stats, stats.lag).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    run_worker(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec))
