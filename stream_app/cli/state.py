"""`stream-app state`: ask the workers."""

from __future__ import annotations

import http.client
import json
import sys
from urllib.parse import quote

import click

from stream_app.cli.asking import ask, base_url, reason
from stream_app.cli.common import common_options, fail, settings


@click.group(short_help="What the workers know of one client, lead or partner.")
def state() -> None:
    """Asks a worker over HTTP; it asks the one that owns the key."""


@state.command()
@click.argument("kind")
@click.argument("name", metavar="ID")
@click.option("--url", help="Any worker, as http://host:port; else web.advertised_url, or web.host and web.port.")
@common_options
def get(kind: str, name: str, url: str | None) -> None:
    """Prints the committed state of ID as JSON. KIND is `client`, `person`, `lead`, `cost` or
    `referrer` (the id of a user who refers others).

    The token is web.token of the settings, or STREAM_APP_WEB__TOKEN.
    """
    config = settings()
    token = config.web.read_token()
    if not token:
        fail("web.token is not set: give the one that the workers were started with (STREAM_APP_WEB__TOKEN)")
    base = url or base_url(config)
    status, body = ask(base, f"/state/{quote(kind, safe='')}/{quote(name, safe='')}", token)
    if status != http.client.OK:
        fail(reason(status, body))
    text = body.decode()
    click.echo(json.dumps(json.loads(text), ensure_ascii=False, indent=2) if sys.stdout.isatty() else text)
