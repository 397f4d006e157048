"""Asks a worker over HTTP."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from stream_app.cli.common import fail

if TYPE_CHECKING:
    from stream_app.settings import Settings

_TIMEOUT_S = 15.0


def base_url(config: Settings) -> str:
    """Where a worker of these settings listens."""
    web = config.web
    if web.advertised_url:
        return web.advertised_url
    if not web.port:
        fail("web.port is 0, so the address is not known: give the one the worker printed with --url")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(web.host, web.host)  # noqa: S104  # not listened on
    return f"http://{host}:{web.port}"


class NoAnswer(Exception):
    """No worker can tell now; the text says why."""


def ask(base: str, path: str, token: str) -> tuple[int, bytes]:
    """(status, body); ends the command where nobody answers."""
    try:
        return try_ask(base, path, token)
    except NoAnswer as exc:
        fail(str(exc))


def try_ask(base: str, path: str, token: str) -> tuple[int, bytes]:
    """(status, body). Straight to the worker, whatever proxies the environment names. Raises NoAnswer."""
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise click.BadParameter(f"{base!r} is no address as http://host:port", param_hint="--url")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=_TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise NoAnswer(
            f"no worker answers at {base}: {exc}; start one, or give the address of another with --url"
        ) from exc
    finally:
        connection.close()


def reason(status: int, body: bytes) -> str:
    """Why a worker has refused."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the worker answered with status {status}"
