"""`stream-app state get` against a listening worker's web."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Collection, Iterator

import pytest

from stream_app.metrics import WorkerStats
from stream_app.web import Readiness, WebServer, create_web
from tests.cli.helpers import run

TOKEN = {"STREAM_APP_WEB__TOKEN": "t"}


class Worker:
    """As much of a worker as lookups need."""

    def trouble(self) -> str:
        return ""

    def readiness(self) -> Readiness:
        return Readiness(ready=True, reason="ok")

    def kinds(self) -> Collection[str]:
        return ["client"]

    def owner(self, kind: str, key: bytes) -> str | None:
        return None

    async def state(self, kind: str, key: bytes) -> bytes | None:
        return b'{"sessions":2}' if key == "a/ä".encode() else None


@pytest.fixture
def url() -> Iterator[str]:
    """Served by a loop of its own: the command blocks this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    worker = Worker()
    server = WebServer(create_web(worker, WorkerStats(), worker, token="t"), "127.0.0.1", 0)
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_prints_the_state_as_json(url: str) -> None:
    """Whatever characters the id has; the address by option or from the settings."""
    result = run("state", "get", "client", "a/ä", "--url", url, **TOKEN)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sessions": 2}
    port = url.rsplit(":", 1)[1]
    assert run("state", "get", "client", "a/ä", **TOKEN, STREAM_APP_WEB__PORT=port).exit_code == 0


def test_failures_are_told_in_words(url: str) -> None:
    """Status 1: unknown id, wrong token, no token, no worker."""
    assert "nothing is known" in run("state", "get", "client", "x", "--url", url, **TOKEN).stderr
    wrong = run("state", "get", "client", "x", "--url", url, STREAM_APP_WEB__TOKEN="other")
    assert (wrong.exit_code, "token" in wrong.stderr) == (1, True)
    assert "web.token is not set" in run("state", "get", "client", "x", "--url", url).stderr
    nobody = run("state", "get", "client", "x", "--url", "http://127.0.0.1:1", **TOKEN)
    assert (nobody.exit_code, "no worker answers" in nobody.stderr) == (1, True)
    for wrong_url in ("nonsense", "http://127.0.0.1:6066:", "http://[::1"):
        assert run("state", "get", "client", "x", "--url", wrong_url, **TOKEN).exit_code == 2
    assert "--url" in run("state", "get", "client", "x", **TOKEN, STREAM_APP_WEB__PORT="0").stderr
