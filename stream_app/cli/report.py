"""`stream-app report`: what a period has brought, beside the one before."""

from __future__ import annotations

from pathlib import Path

import click

from stream_app.cli.common import common_options, fail, say, settings


@click.command(short_help="A period beside the one before, and the deals with their chains.")
@click.option("--month", default="", metavar="YYYY-MM", help="A month, compared with the month before.")
@click.option("--from", "since", default="", metavar="DATE", help="First day, of the property's zone.")
@click.option("--to", "until", default="", metavar="DATE", help="The day after the last.")
@click.option("--dimension", "-d", "dimensions", multiple=True,
              help="A table by it; may be given more than once (all, channel, source_medium, campaign, "
                   "goal).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Directory of the files.")
@click.option("--format", "shape", type=click.Choice(("both", "csv", "xlsx")), default="both", show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Read what `stream-app replay --out DIR` has written, in place of the topics.")  # fmt: skip
@common_options
def report(
    month: str, since: str, until: str, dimensions: tuple[str, ...], out: Path, shape: str, data: Path | None
) -> None:
    """Writes report.xlsx, and a CSV for each table, into --out.

    Each table has the figures of the period, of the period before (as long, or the months before whole months), and by
    how much they have changed. deals.csv lists the period's conversions and won leads with the visits that led there.
    Read are the topics lead-counters, attributed-conversions and leads as committed.
    """
    from stream_app.app.outputs import CannotRead, read_directory, read_topic
    from stream_app.app.reports import DIMENSIONS, make_report, write_csv, write_xlsx
    from stream_app.domain.counters.comparing import month as of_month
    from stream_app.domain.counters.comparing import period
    from stream_app.domain.counters.dimensions import SHOWN, is_shown
    from stream_app.domain.counters.questions import CannotAsk

    if bool(month) == bool(since or until):
        raise click.UsageError("a period is either --month, or --from and --to")
    for dimension in dimensions:
        if not is_shown(dimension):
            raise click.BadParameter(f"{dimension!r} is none; there are: {', '.join(SHOWN)}", param_hint="--dimension")
    config = settings()
    try:
        now = of_month(month) if month else period(since, until)
        made = make_report(
            config,
            lambda topic: read_directory(data, topic) if data is not None else read_topic(config, topic),
            now,
            dimensions or DIMENSIONS,
        )
    except CannotAsk as exc:
        raise click.UsageError(str(exc)) from None
    except CannotRead as exc:
        fail(str(exc))
    written = []
    if shape in {"both", "xlsx"}:
        written.append(write_xlsx(made, out / "report.xlsx"))
    if shape in {"both", "csv"}:
        written += write_csv(made, out)
    say(f"stream-app: {now.since} to {now.until}, compared with {made.before.since} to {made.before.until}")
    for path in written:
        click.echo(str(path))
