"""`stream-app demo`: everything at once, to look at."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stream_app.cli.common import common_options, fail, remembered, say


@click.command(short_help="Worker, simulated traffic and a live view, on a broker of its own.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=200.0, show_default=True,
              help="Simulated events per second.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Same seed: the same people (default: from the clock).")
@click.option("--faults", default="bad=0.0005,too_late=0.0002", show_default=True, help="See `stream-app simulate`.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=Path(".run"), show_default=True,
              help="The broker's data, the worker's state, logs.")  # fmt: skip
@click.option("--plain", is_flag=True, help="Lines in place of a picture, as when the output is no terminal.")
@common_options
def demo(rate: float, seed: int | None, faults: str, seconds: float | None, directory: Path, plain: bool) -> None:
    """Starts a broker, topics, a worker and simulated traffic, and shows what they do. Ctrl-C ends everything.

    The broker is the one of KAFKA_BOOTSTRAP; else one in Docker Compose; else Apache Kafka on a local Java. Without
    any of them the same topology runs in memory.
    """
    from stream_app.demo.run import DemoFailed, Plan, run
    from stream_app.devtools.broker import BrokerError

    plain = plain or not sys.stdout.isatty()
    plan = Plan(
        config=remembered("config"), directory=directory, rate=rate, seed=seed, faults=faults, seconds=seconds,
        plain=plain, every_s=5.0 if plain else 1.0,
    )  # fmt: skip
    try:
        run(plan, lambda text: say(f"demo: {text}"))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from error
    except (DemoFailed, BrokerError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted while the broker was starting", 130)
    say("demo: everything has ended")
