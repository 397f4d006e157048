"""`stream-app simulate`: believable traffic, live, as a backfill, or into files."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_app.cli.common import common_options, fail, settings

if TYPE_CHECKING:
    from stream_app.settings import Kafka
    from stream_app.simulator.records import Record
    from stream_app.simulator.traffic import Traffic

_LIVE_RATE = 200.0
_PAST_RATE = 2.0
_DAY_S = 86_400


@click.command(short_help="Believable traffic at a given rate, with faults on request.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second of event time "
              f"(live: {_LIVE_RATE:g}; otherwise {_PAST_RATE:g}, or what --events and --days give).")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same start: same events (live: from the clock).")
@click.option("--faults", default="", help="bad=0.001,late=0.01,… of: bad, disorder, late, too_late, skew, duplicates, "
              "misplaced. `none` first leaves out the usual few late and duplicate ones.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Live: end after so long.")
@click.option("--history", "history_minutes", type=click.FloatRange(0, 55), default=45.0, show_default=True,
              help="Live: minutes of visits before now that arrive in one burst at the start, so that sessions are "
              "there to close.")  # fmt: skip
@click.option("--backfill", is_flag=True, help="The past, as fast as possible, with its own timestamps "
              "(topics with CreateTime).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write a file per input "
              "topic, as clicks.jsonl, into this directory, for `stream-app replay`.")  # fmt: skip
@click.option("--from", "begin", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
              help="First moment (UTC) of a backfill or of files; without it they end about now.")  # fmt: skip
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Length of a backfill or of files.")  # fmt: skip
@click.option("--events", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--program", default="", help="Adds the life of this referral programme of the settings: enrolments, "
              "invitations, visits through links (?ref=CODE); once rewards are due, payouts.")  # fmt: skip
@common_options
def simulate(
    rate: float | None,
    seed: int | None,
    faults: str,
    seconds: float | None,
    history_minutes: float,
    backfill: bool,
    out: Path | None,
    begin: datetime | None,
    days: float,
    events: int | None,
    program: str,
) -> None:
    """Visits, campaigns and their costs, conversions, refunds, leads in a CRM, bots and mishaps of an imaginary shop,
    from a seed.

    Without --backfill or --out it sends to the topics of the settings in real time, until Ctrl-C.
    """
    from stream_app.hosts.collector import calmed
    from stream_app.simulator.business import Business, live_business
    from stream_app.simulator.faults import Faults
    from stream_app.simulator.traffic import Traffic, TrafficConfig

    try:
        parsed = Faults.parse(faults)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from error
    past = backfill or out is not None
    now_ms = time.time_ns() // 1_000_000
    if past:
        rate = rate or (events / (days * _DAY_S) if events else _PAST_RATE)
        start_ms = int(begin.replace(tzinfo=UTC).timestamp() * 1000) if begin else now_ms - int(days * _DAY_S * 1000)
        traffic_config = TrafficConfig(start_ms=start_ms, rate=rate, known=0, daily_curve=True, faults=parsed)
    else:
        traffic_config = TrafficConfig(
            start_ms=now_ms, rate=rate or _LIVE_RATE, history_ms=int(history_minutes * 60_000), faults=parsed
        )
    traffic = Traffic(seed if seed is not None else 1 if past else now_ms // 1000 % 1_000_000, traffic_config)
    records: Iterable[Record] = Business(traffic, traffic.seed) if past else live_business(traffic)
    if program:
        from stream_app.settings.programs import programs_of
        from stream_app.simulator.payouts import manager_of
        from stream_app.simulator.referrals import Referrals

        known = programs_of(settings()).by_name
        if known and program not in known:
            raise click.BadParameter(f"the settings know {', '.join(known)}", param_hint=f"--program {program}")
        records = Referrals(records, traffic.seed, program, manager_of(settings(), traffic.seed, program))
    if past:
        end_ms = traffic_config.start_ms + int(days * _DAY_S * 1000)
        records = takewhile(lambda record: record.ts < end_ms, records)
    if events:
        records = islice(records, events)
    with calmed():
        if out is not None:
            _to_files(records, out)
        else:
            asyncio.run(_to_kafka(settings().kafka, records, traffic, past, seconds))


def _to_files(records: Iterable[Record], out: Path) -> None:
    from stream_app.simulator import files
    from stream_app.simulator.pacing import to_stderr

    counts = files.write(records, out)
    to_stderr("simulate")(", ".join(f"{count:,} {topic}" for topic, count in counts.items()) + f" in {out}")


async def _to_kafka(
    kafka: Kafka, records: Iterable[Record], traffic: Traffic, past: bool, seconds: float | None
) -> None:
    from aiokafka.errors import KafkaError

    from stream_app.simulator import pacing
    from stream_app.simulator.feed import Feed

    say = pacing.to_stderr("simulate")
    await _check_topics(kafka, past)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if seconds:
        loop.call_later(seconds, stop.set)
    say(f"seed {traffic.seed}, {traffic.config.rate:g} events/s to {kafka.bootstrap}, {kafka.partitions} partitions")
    progress = pacing.Progress(say)
    try:
        async with Feed(kafka) as feed:
            if past:
                await pacing.fast(records, feed, stop, progress)
            else:
                await pacing.live(iter(records), feed, stop, progress)
            await feed.flush()
            progress.end(feed.sent)
    except (KafkaError, OSError) as error:
        fail(f"{kafka.bootstrap}: {error!r}")


async def _check_topics(kafka: Kafka, past: bool) -> None:
    """Fails when the inputs are not there or not as this kind of traffic needs them."""
    from stream_app import topics
    from stream_app.simulator.records import TOPICS

    catalogue = topics.Catalogue(kafka)
    async with topics.admin(kafka) as client:
        found = await topics.describe(catalogue, client)
    for logical in TOPICS:
        topic = found.get(logical)
        name = catalogue.name(logical)
        if topic is None:
            fail(f"topic {name} does not exist; `stream-app topics create` makes it")
        if topic.partitions != kafka.partitions:
            fail(f"topic {name} has {topic.partitions} partitions, the settings say {kafka.partitions}")
        if past and topic.config.get("message.timestamp.type") == "LogAppendTime":
            fail(
                f"topic {name} takes the time of arrival (LogAppendTime), so that clicks of the past are too late; a "
                "backfill needs CreateTime: create the topics with `stream-app topics create --timestamps create`"
            )
