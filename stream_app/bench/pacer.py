"""Feeds a deployment in real time, as a process of its own, and writes down when the broker had each event.

    python -m stream_app.bench.pacer CONFIG RATE SECONDS SEED STAMPS

A line of STAMPS: `c EVENT_ID MS` for a conversion, `l EVENT_ID MS` for one that counters count,
`s CLIENT_ID OCCURRED_AT MS` for a click on a sampled partition.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from io import StringIO
from pathlib import Path

from stream_app.hosts.collector import calm
from stream_app.settings import load
from stream_app.simulator import pacing
from stream_app.simulator.faults import Faults
from stream_app.simulator.feed import Feed
from stream_app.simulator.records import Record
from stream_app.simulator.traffic import Traffic, TrafficConfig
from stream_app.simulator.visit import Behaviour

TEMPO = 0.1
"""People who read ten times as fast: at a high rate, visits then reach their steady number within half a minute."""
COUNTED = b'"goal":"lead_form"'
"""In conversions of the one goal that the deployment has settings for."""
SAMPLED_PARTITIONS = 2
"""Clicks (and sessions) of the first partitions only are looked at: looking costs processor time, too."""


def behaviour() -> Behaviour:
    """How the people of the measurements in real time behave."""
    return Behaviour(tempo=TEMPO)


async def feed(config: Path, rate: float, seconds: float, seed: int, *, stamp: bool) -> str:
    """Sends until the time is over or SIGTERM, then ends in order. Gives the lines of STAMPS."""
    calm()
    kafka = load(config).kafka
    lines = StringIO()

    def on_delivery(records: list[Record], appended_ms: int) -> None:
        for record in records:
            if record.topic == "conversions":
                name = record.value[13:45].decode()
                lines.write(f"c {name} {appended_ms}\n")
                if COUNTED in record.value:
                    lines.write(f"l {name} {appended_ms}\n")
            elif record.key is not None and record.place % kafka.partitions < SAMPLED_PARTITIONS:
                lines.write(f"s {record.key.decode()} {record.occurred_at} {appended_ms}\n")

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    progress = pacing.Progress(pacing.to_stderr("pacer"))
    async with Feed(kafka, on_delivery if stamp else None) as sink:
        traffic = Traffic(
            seed,
            TrafficConfig(
                start_ms=pacing.wall_clock(),
                rate=rate,
                behaviour=behaviour(),
                faults=Faults.parse("none,disorder=0.01"),
            ),
        )
        loop.call_later(seconds, stop.set)
        await pacing.live(iter(traffic), sink, stop, progress)
        await sink.flush()
        progress.end(sink.sent)
    return lines.getvalue()


def main(config: str, rate: str, seconds: str, seed: str, stamps: str = "") -> None:
    """As the command line gives it."""
    lines = asyncio.run(feed(Path(config), float(rate), float(seconds), int(seed), stamp=bool(stamps)))
    if stamps:
        Path(stamps).write_text(lines, encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
