"""`stream-app bench`: figures as one JSON object."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click

from stream_app.cli.common import FAILED, fail, say


def _parts(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    from stream_app.bench.run import PARTS

    chosen = [part.strip() for part in value.split(",") if part.strip()] or list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise click.BadParameter(f"{', '.join(unknown)}: not a part; there are {', '.join(PARTS)}")
    return chosen


@click.group(invoke_without_command=True, short_help="Measure throughput, latency, memory and recovery.")
@click.option("--only", "parts", default="", callback=_parts, metavar="PART,…",
              help="throughput, latency, memory, recovery, pauses; all without it.")  # fmt: skip
@click.option("--events", type=click.IntRange(min=10_000), default=2_000_000, show_default=True, help="Throughput.")
@click.option("--clients", type=click.IntRange(min=1_000), default=2_000_000, show_default=True, help="Memory.")
@click.option("--keys", type=click.IntRange(min=1_000), default=1_000_000, show_default=True,
              help="Recovery, when memory is not measured before it.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=5), default=60.0, show_default=True, help="Latency.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0,
              help="Latency: events/s; without it half of the measured throughput.")  # fmt: skip
@click.option("--partitions", type=click.IntRange(min=1), default=8, show_default=True, help="Of every topic.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the traffic.")
@click.option("--profile", is_flag=True, help="Throughput: where the worker's time goes (needs py-spy).")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False),
              help="Keep logs, settings and the broker's data here.")  # fmt: skip
@click.pass_context
def bench(
    ctx: click.Context,
    parts: list[str],
    events: int,
    clients: int,
    keys: int,
    seconds: float,
    rate: float,
    partitions: int,
    seed: int,
    profile: bool,
    directory: Path | None,
) -> None:
    """Measures on a real broker with real workers, and prints one JSON object. Progress goes to standard error.

    All parts together take ten to twenty minutes; --only and smaller numbers take less. docs/quickstart.md tells what
    each figure means.
    """
    if ctx.invoked_subcommand:
        return
    from stream_app.bench.lab import Options
    from stream_app.bench.run import run
    from stream_app.devtools.broker import BrokerError

    # Topics just made have no leader for a moment; the producer says so, tries again, and all is well.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    options = Options(
        events=events, clients=clients, keys=keys, seconds=seconds, rate=rate, seed=seed, partitions=partitions,
        profile=profile,
    )  # fmt: skip
    try:
        figures, good = run(parts, options, lambda text: say(f"bench: {text}"), directory)  # type: ignore[arg-type]
    except BrokerError as error:
        fail(str(error))
    click.echo(json.dumps(figures, indent=2))
    if not good:
        raise SystemExit(FAILED)


@bench.command(short_help="Source resolution: clicks a second.")
def classify() -> None:
    """How many clicks a second the rules of sources take, and how many from their cache."""
    from stream_app.bench.classify import run

    click.echo(json.dumps(run(), indent=2))


@bench.command(short_help="Credit: conversions a second.")
def credit() -> None:
    """How many conversions a second are credited by every model, as lines in and out, and by the models alone."""
    from stream_app.bench.credit import run

    click.echo(json.dumps(run(), indent=2))


@bench.command(short_help="Referral programmes: purchases a second, size of the books.")
@click.option(
    "--referrers", type=click.IntRange(min=100), default=10_000, show_default=True, help="In chains and stars."
)
@click.option(
    "--purchases", type=click.IntRange(min=100), default=200_000, show_default=True, help="Two by each buyer."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of who refers whom.")
def referrals(referrers: int, purchases: int, seed: int) -> None:
    """Runs two hours of purchases through journeys, codes, people and their books, and checks every level's sum."""
    from stream_app.bench.referrals import run

    figures = run(referrers, purchases, seed)
    click.echo(json.dumps(figures, indent=2))
    if not figures["right"]:
        raise SystemExit(FAILED)


@bench.command(short_help="The engine alone with a small job, to compare it with other engines.")
@click.option("--events", type=click.IntRange(min=10_000), default=3_000_000, show_default=True)
@click.option("--clients", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--partitions", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the traffic.")
@click.option("--topic", default="", help="Take the events of this topic, which another engine has read as well.")
@click.option("--output", default="", help="Where results go; without it a topic of this run alone.")
def engine(events: int, clients: int, partitions: int, seed: int, topic: str, output: str) -> None:
    """Visits of half an hour and the source of the last click, exactly once: a job that any stream processor can do.

    One worker reads a log that is there already, on the broker of KAFKA_BOOTSTRAP or one of its own.
    """
    from stream_app.bench.engine import Job, run
    from stream_app.bench.lab import BenchFailed
    from stream_app.devtools.broker import BrokerError
    from stream_app.devtools.child import ChildFailed

    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    job = Job(events=events, clients=clients, partitions=partitions, seed=seed, topic=topic, output=output)
    try:
        figures = run(job, lambda text: say(f"bench: {text}"))
    except (BrokerError, ChildFailed, BenchFailed) as error:
        fail(str(error))
    click.echo(json.dumps(figures, indent=2))
