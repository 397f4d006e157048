"""`stream-app replay`: the whole pipeline over files."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import click

from stream_app.cli.common import Moment, common_options, fail, say, settings, start_logging

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_EVERY_S = 1.0


@click.command(short_help="The whole pipeline over files, without a broker.")
@click.option("--clicks", type=_FILE, metavar="FILE", help="Lines as in the topic clicks.")
@click.option("--conversions", type=_FILE, metavar="FILE", help="Lines as in the topic conversions.")
@click.option("--lead-updates", type=_FILE, metavar="FILE", help="Lines as in the topic lead-updates.")
@click.option("--costs", type=_FILE, metavar="FILE", help="Lines as in the topic costs.")
@click.option("--referral-events", type=_FILE, metavar="FILE", help="Lines as in the topic referral-events.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where a file per output topic is written, and dead-letters.jsonl.",
)
@click.option(
    "--all-revisions",
    is_flag=True,
    help="Every revision as written, not only the last ones by id. What a tombstone ends has a last, retracted one.",
)
@click.option(
    "--shuffle", type=int, metavar="SEED", help="Feed disorder within the grace period; the answers stay the same."
)
@click.option(
    "--until",
    type=Moment(),
    help="Let time go on to here at the end. Without it: to the last record, the grace period and a session timeout.",
)
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep states on disk, for histories that do not fit in memory; an empty directory.",
)
@common_options
def replay(
    clicks: Path | None,
    conversions: Path | None,
    lead_updates: Path | None,
    costs: Path | None,
    referral_events: Path | None,
    out: Path,
    all_revisions: bool,
    shuffle: int | None,
    until: int | None,
    state_directory: Path | None,
) -> None:
    """Processes files as the worker would process topics, with the same code, and no broker.

    Files hold JSON Lines (.jsonl, or compressed: .jsonl.gz). A line is a record's value; its timestamp is
    `received_at` if the line has it, else `occurred_at`. Prints what was read and written as JSON.
    """
    if not (clicks or conversions or lead_updates or costs or referral_events):
        raise click.UsageError("nothing to replay: name files with --clicks, --conversions and so on")
    config = settings()
    start_logging()
    from stream_app.app import ReplayRequest, run_replay

    request = ReplayRequest(
        out=out,
        clicks=clicks,
        conversions=conversions,
        lead_updates=lead_updates,
        costs=costs,
        referral_events=referral_events,
        all_revisions=all_revisions,
        shuffle=shuffle,
        until_ms=until,
        state_directory=state_directory,
    )
    try:
        report = run_replay(config, request, _Progress())
    except gzip.BadGzipFile:
        raise  # as for all commands
    except OSError as exc:
        fail(str(exc))
    click.echo(json.dumps({"records": report.records, "written": report.outputs, "seconds": round(report.seconds, 3)}))


class _Progress:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._due = time.monotonic() + _EVERY_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_S
            say(f"replay: {done:,} of {total:,} records")
