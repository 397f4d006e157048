"""`stream-app counters`: live tables of what is counted."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_app.cli.common import common_options, fail, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from stream_app.domain.counters.questions import Question
    from stream_app.domain.counters.tables import Row
    from stream_app.settings import Settings

    Parameters = list[tuple[str, str]]
    Found = tuple[Question, list[Row], list[int]]
    """The question, its rows, and which tasks have not answered."""
    Painter = Callable[[Question, list[Row], int], RenderableType]

_WIDE = 200
"""Characters a line where it is not shown on a terminal."""


@click.command(short_help="Tables of live counters: by channel, campaign, goal, …")
@click.argument("filters", nargs=-1, metavar="[FILTER]…")
@click.option("--dimension", "-d", default="channel", show_default=True,
              help="all, channel, source_medium, campaign, platform, goal; by setting term, content, landing, owner, "
                   "refusal_reason, segment.NAME.")  # fmt: skip
@click.option("--window", "-w", default="1d", show_default=True, help="1m, 1h, 1d or total.")
@click.option("--from", "since", default="", metavar="TIME",
              help="Windows from here on: 2026-01-31 (of the property's zone), 2026-01-31T12:00:00Z, or 90m, 24h, 7d "
                   "ago.")  # fmt: skip
@click.option("--to", "until", default="", metavar="TIME", help="Windows that start before this.")
@click.option("--currency", default="", help="Only this one's.")
@click.option("--by-window", is_flag=True, help="A row for each window, in place of their sum.")
@click.option("--sort", default="", metavar="NAME", help="A key or figure; -NAME: the largest first.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many rows.")
@click.option("--columns", default="", metavar="NAME,…", help="Figures of the table, in place of the usual ones.")
@click.option("--format", "shape", type=click.Choice(("table", "json", "csv")), default="table", show_default=True)
@click.option("--watch", is_flag=True, help="Go on showing the table until Ctrl-C.")
@click.option("--every", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds, with --watch.")
@click.option("--url", help="Any worker, as http://host:port; else web.advertised_url, or web.host and web.port.")
@click.option("--topic", is_flag=True, help="Read the topic lead-counters in place of asking a worker.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Read what `stream-app replay --out DIR` has written, in place of asking a worker.")  # fmt: skip
@common_options
def counters(
    filters: tuple[str, ...],
    dimension: str,
    window: str,
    since: str,
    until: str,
    currency: str,
    by_window: bool,
    sort: str,
    limit: int | None,
    columns: str,
    shape: str,
    watch: bool,
    every: float,
    url: str | None,
    topic: bool,
    data: Path | None,
) -> None:
    """Shows committed counters of all workers.

    FILTER: a key that matches (`channel=Paid*`, `campaign!=brand`), or a figure beyond a number (`leads>=5`,
    `cost>100`). Several windows are summed up; distinct clients cannot be, and `client_days` stands for them.
    """
    from stream_app.cli.asking import NoAnswer
    from stream_app.domain.counters.questions import CannotAsk

    parameters = [
        ("dimension", dimension), ("window", window), ("from", since), ("to", until), ("currency", currency),
        ("by", "window" if by_window else ""), ("sort", sort), ("limit", str(limit or 0)),
        *(("filter", text) for text in filters),
    ]  # fmt: skip
    config = settings()
    find = _source(config, parameters, url, topic=topic, data=data)
    picture = _painter(config, [name.strip() for name in columns.split(",") if name.strip()])
    try:
        if watch:
            _watch(find, picture, every)
            return
        question, rows, missing = find()
    except CannotAsk as exc:
        raise click.UsageError(str(exc)) from None
    except NoAnswer as exc:
        fail(str(exc))
    _print(question, rows, picture, shape)
    if missing:
        fail(f"incomplete: tasks {', '.join(map(str, missing))} have not answered")


def _source(
    config: Settings, parameters: Parameters, url: str | None, *, topic: bool, data: Path | None
) -> Callable[[], Found]:
    """Where the rows come from."""
    if not topic and data is None:
        return lambda: _from_worker(config, parameters, url)
    return lambda: _from_records(config, parameters, data)


def _from_worker(config: Settings, parameters: Parameters, url: str | None) -> Found:
    import http.client
    from urllib.parse import urlencode

    import msgspec

    from stream_app.cli.asking import NoAnswer, base_url, reason, try_ask
    from stream_app.domain.counters.questions import CannotAsk
    from stream_app.domain.counters.questions import ask as put
    from stream_app.domain.counters.windows import Windows
    from stream_app.web.counters import Answer

    question = put(parameters, Windows(config.site.timezone), int(time.time()) // 60)
    query = urlencode([(name, value) for name, value in parameters if value])
    status, body = try_ask(url or base_url(config), f"/counters?{query}", config.web.read_token())
    if status == http.client.BAD_REQUEST:
        raise CannotAsk(reason(status, body))
    if status != http.client.OK:
        raise NoAnswer(reason(status, body))
    answer = msgspec.json.decode(body, type=Answer)
    return question, answer.rows, answer.missing_partitions


def _from_records(config: Settings, parameters: Parameters, data: Path | None) -> Found:
    from stream_app.app.outputs import CannotRead, decoded, read_directory, read_topic
    from stream_app.app.tables import Tables
    from stream_app.domain.counters.records import COUNTERS, LeadCounter

    try:
        values = read_directory(data, COUNTERS) if data is not None else read_topic(config, COUNTERS)
        tables = Tables(config, decoded(values, LeadCounter))
    except CannotRead as exc:
        fail(str(exc))
    question = tables.question(parameters)
    return question, tables.rows(question), []


def _print(question: Question, rows: list[Row], picture: Painter, shape: str) -> None:
    import msgspec

    from stream_app.domain.counters.tables import to_csv

    if shape == "csv":
        click.echo(to_csv(rows, question), nl=False)
        return
    if shape == "json":
        for row in rows:
            click.echo(msgspec.json.encode(row).decode())
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(picture(question, rows, console.width))


def _painter(config: Settings, names: list[str]) -> Painter:
    from stream_app.cli.pictures import table
    from stream_app.domain.counters.questions import FIGURES
    from stream_app.domain.counters.windows import Windows

    if unknown := [name for name in names if name not in FIGURES]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(FIGURES)}", param_hint="--columns")
    windows = Windows(config.site.timezone)
    return lambda question, rows, width: table(question, rows, windows, names, width)


def _watch(find: Callable[[], Found], picture: Painter, every: float) -> None:
    """The table again and again: in place on a terminal, one below the other elsewhere."""
    from contextlib import suppress

    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from stream_app.cli.asking import NoAnswer

    def frame() -> RenderableType:
        try:
            question, rows, missing = find()
        except NoAnswer as exc:  # a worker that starts anew: the next round may find it
            return Text(f"{time.strftime('%H:%M:%S')}  {exc}  Ctrl-C ends", style="dim")
        foot = f"{time.strftime('%H:%M:%S')}  Ctrl-C ends"
        if missing:
            foot += f"  incomplete: tasks {', '.join(map(str, missing))} have not answered"
        return Group(picture(question, rows, console.width), Text(foot, style="dim"))

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    with suppress(KeyboardInterrupt):
        if not console.is_terminal:
            while True:
                console.print(frame())
                sys.stdout.flush()
                time.sleep(every)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(frame(), refresh=True)
                time.sleep(every)
