"""`stream-app rewards`: what one partner is owed."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from stream_app.cli.common import common_options, fail, parse_moment, settings


class Day(click.ParamType):
    """The beginning of a year, month or day (UTC), or a time, as records have it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """RFC 3339."""
        from stream_app.domain.times import rfc3339

        text = str(value)
        first = f"{text}-01-01" if len(text) == len("2026") else f"{text}-01" if len(text) == len("2026-11") else text
        try:
            return rfc3339(parse_moment(first))
        except click.BadParameter:
            self.fail(f"{text!r} is no time; allowed: 2026, 2026-11, 2026-11-27, or RFC 3339", param, ctx)


@click.command(short_help="Rewards of one partner: as JSON, CSV or a page.")
@click.option("--user", required=True, metavar="ID", help="Whose rewards.")
@click.option("--from", "since", type=Day(), help="Conversions and refunds from here on: 2026, 2026-11, 2026-11-27.")
@click.option("--to", "until", type=Day(), help="Conversions and refunds before this. What is due is of all times.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "html"]),
    default="json",
    show_default=True,
    help="What to print.",
)
@click.option("--url", help="Any worker, as http://host:port; else web.advertised_url, or web.host and web.port.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Read what `stream-app replay --out DIR` has written, in place of asking a worker.",
)
@common_options
def rewards(user: str, since: str | None, until: str | None, form: str, url: str | None, data: Path | None) -> None:
    """Prints the statement of one partner: every reward with its grounds, and what is due.

    A worker is asked with web.token of the settings, or STREAM_APP_WEB__TOKEN. A worker knows the latest 10,000.
    """
    from stream_app.domain.referral.statement import as_csv, as_document, as_page, statement

    found = _replayed(data) if data is not None else _asked(user, url)
    made = statement(user, found, since or "", until or "")
    if form == "csv":
        click.echo(as_csv(made), nl=False)
    elif form == "html":
        click.echo(as_page(made), nl=False)
    else:
        click.echo(json.dumps(as_document(made), ensure_ascii=False))


def _replayed(directory: Path) -> list[dict[str, Any]]:
    """The last record of each id."""
    path = directory / "referral-rewards.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as exc:
        fail(f"{path}: {exc}")
    last: dict[str, dict[str, Any]] = {}
    for record in records:
        before = last.get(record["id"])
        if before is None or before["revision"] < record["revision"]:
            last[record["id"]] = record
    return list(last.values())


def _asked(user: str, url: str | None) -> list[dict[str, Any]]:
    from stream_app.cli.asking import ask, base_url, reason

    config = settings()
    token = config.web.read_token()
    if not token:
        fail("web.token is not set: give the one that the workers were started with (STREAM_APP_WEB__TOKEN)")
    status, body = ask(url or base_url(config), f"/rewards/{quote(user, safe='')}", token)
    if status != http.client.OK:
        fail(reason(status, body))
    found: list[dict[str, Any]] = json.loads(body)["rewards"]
    return found
