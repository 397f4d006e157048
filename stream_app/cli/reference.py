"""`stream-app reference`: the reference tables, for those who keep them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_app.cli.common import fail

if TYPE_CHECKING:
    from stream_app.domain.sources import ReferenceTables

_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(short_help="Check the reference tables, or compare and refresh them with newer data.")
def reference() -> None:
    """The reference tables: search engines, networks, click ids, spam and so on.

    They come with the program; nothing here asks the network.
    """


@reference.command(short_help="Read and validate the tables; print their sizes.")
@click.option("--tables", type=_DIRECTORY, metavar="DIR", help="Another folder of tables than the program's own.")
def check(tables: Path | None) -> None:
    """Reads all tables; a mistake is named with its file and entry, and the status is 1."""
    loaded = _load(tables)
    for kind, sites in loaded.sites.items():
        click.echo(f"{kind}: {len(sites)} entries, {sum(len(site.hosts) for site in sites)} hosts")
    click.echo(f"click_ids: {len(loaded.click_ids)}")
    click.echo(f"spam: {len(loaded.spam)} hosts")
    click.echo(f"ga_categories: {len(loaded.ga_categories)} sources")
    click.echo(f"ai_crawlers: {len(loaded.ai_crawlers)}")


@reference.command(short_help="What newer data has that the tables have not.")
@click.option("--matomo", type=_DIRECTORY, metavar="DIR", help="SearchEngines.yml, Socials.yml, AIAssistants.yml, "
              "spammers.txt; those that are there.")  # fmt: skip
@click.option("--ga", type=_FILE, metavar="CSV", help="Google's list: source, source_category.")
@click.option("--tables", type=_DIRECTORY, metavar="DIR", help="Another folder of tables than the program's own.")
def diff(matomo: Path | None, ga: Path | None, tables: Path | None) -> None:
    """Prints a line per difference: what is new, gone, or stands in another table."""
    from stream_app.reference.refresh import differences

    if matomo is None and ga is None:
        raise click.UsageError("nothing to compare with: give --matomo DIR or --ga CSV")
    try:
        found = differences(_load(tables), matomo=matomo, ga=ga)
    except ValueError as error:
        fail(str(error))
    for item in found:
        click.echo(str(item))
    click.echo(f"{len(found)} differences", err=True)


@reference.command(short_help="Take over what is new.")
@click.option("--matomo", type=_DIRECTORY, metavar="DIR", help="As in diff.")
@click.option("--ga", type=_FILE, metavar="CSV", help="As in diff.")
@click.option("--tables", type=_DIRECTORY, required=True, metavar="DIR", help="The folder of tables to write.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The date of the newer data.")
def refresh(matomo: Path | None, ga: Path | None, tables: Path, date: dt.datetime) -> None:
    """Rewrites spam and Google's categories; adds new sites at the end of their table, to be read by a person.

    The tables are validated afterwards. Prints what is left to judge.
    """
    from stream_app.reference.refresh import refresh as take_over

    if matomo is None and ga is None:
        raise click.UsageError("nothing to take over: give --matomo DIR or --ga CSV")
    try:
        left = take_over(tables, _load(tables), date.date(), matomo=matomo, ga=ga)
    except ValueError as error:
        fail(str(error))
    _load(tables)
    for item in left:
        click.echo(str(item))


def _load(tables: Path | None) -> ReferenceTables:
    from stream_app.reference import TableError, load, load_from

    try:
        return load() if tables is None else load_from(tables)
    except TableError as error:
        fail(str(error))
