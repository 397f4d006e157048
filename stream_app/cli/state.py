"""`stream-app state`: ask the workers."""

from __future__ import annotations

import http.client
import json
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click

from stream_app.cli.common import common_options, fail, settings

if TYPE_CHECKING:
    from stream_app.settings import Settings

_TIMEOUT_S = 10.0


@click.group(short_help="What the workers know of one client, lead or cost.")
def state() -> None:
    """Asks a worker over HTTP; it asks the one that owns the key."""


@state.command()
@click.argument("kind")
@click.argument("name", metavar="ID")
@click.option("--url", help="Any worker, as http://host:port; else web.advertised_url, or web.host and web.port.")
@common_options
def get(kind: str, name: str, url: str | None) -> None:
    """Prints the committed state of ID as JSON. KIND is `client`, `lead` or `cost`.

    The token is web.token of the settings, or STREAM_APP_WEB__TOKEN.
    """
    config = settings()
    token = config.web.read_token()
    if not token:
        fail("web.token is not set: lookups need the token of the workers (STREAM_APP_WEB__TOKEN)")
    base = url or _base(config)
    status, body = _ask(base, f"/state/{quote(kind, safe='')}/{quote(name, safe='')}", token)
    if status != http.client.OK:
        fail(_reason(status, body))
    text = body.decode()
    click.echo(json.dumps(json.loads(text), ensure_ascii=False, indent=2) if sys.stdout.isatty() else text)


def _base(config: Settings) -> str:
    web = config.web
    if web.advertised_url:
        return web.advertised_url
    if not web.port:
        fail("web.port is 0, so the address is not known: give the one the worker printed with --url")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(web.host, web.host)  # noqa: S104  # not listened on
    return f"http://{host}:{web.port}"


def _ask(base: str, path: str, token: str) -> tuple[int, bytes]:
    """(status, body). Straight to the worker, whatever proxies the environment names."""
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.BadParameter(f"{base!r} is no address as http://host:port", param_hint="--url")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as exc:
        fail(f"no worker answers at {base}: {exc}")
    finally:
        connection.close()


def _reason(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the worker answered with status {status}"
