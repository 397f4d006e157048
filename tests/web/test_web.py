"""The routes of a worker, asked over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from stream_app.metrics import WorkerStats
from stream_app.web import NotReady, Readiness, WebServer, create_web

TOKEN = "a-token-nobody-guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Status:
    def __init__(self) -> None:
        self.now = Readiness(ready=True, reason="ok", tasks={"running": 8})
        self.hangs = ""

    def trouble(self) -> str:
        return self.hangs

    def readiness(self) -> Readiness:
        return self.now


class States:
    """A worker's committed states, and where the others are."""

    def __init__(self, states: dict[bytes, bytes] | None = None, elsewhere: dict[bytes, str] | None = None) -> None:
        self.states = states or {}
        self.elsewhere = elsewhere or {}
        self.recovering = False

    def kinds(self) -> Collection[str]:
        return ["client", "lead", "referrer", "referrals"]

    def owner(self, kind: str, key: bytes) -> str | None:
        if self.recovering:
            raise NotReady("task 3, which holds it, is opening")
        return self.elsewhere.get(key)

    async def state(self, kind: str, key: bytes) -> bytes | None:
        return self.states.get(key)


@asynccontextmanager
async def serving(status: Status, states: States | None = None, token: str = TOKEN) -> AsyncIterator[str]:
    """The address of a worker's web."""
    server = WebServer(create_web(status, WorkerStats(), states, token=token), "127.0.0.1", 0)
    try:
        yield await server.start()
    finally:
        await server.stop()


Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
            async with session.get(url, headers=headers or {}) as answer:
                body = await answer.json() if answer.content_type == "application/json" else await answer.text()
                return answer.status, body

        yield get


async def test_ready_tells_the_reason_when_it_is_not(ask: Ask) -> None:
    """503 with the reason while recovering, rebalancing, stalled or behind a hung transaction."""
    status = Status()
    async with serving(status) as url:
        assert await ask(f"{url}/health/ready") == (
            200,
            {"ready": True, "reason": "ok", "tasks": {"running": 8}},
        )
        status.now = Readiness(ready=False, reason="recovering", detail="task 3: 40 %", recovery_progress=0.4)
        assert await ask(f"{url}/health/ready") == (
            503,
            {"ready": False, "reason": "recovering", "detail": "task 3: 40 %", "recovery_progress": 0.4},
        )


async def test_live_is_another_question_than_ready(ask: Ask) -> None:
    """A worker that recovers lives; one whose loop hangs does not."""
    status = Status()
    status.now = Readiness(ready=False, reason="rebalancing")
    async with serving(status) as url:
        assert await ask(f"{url}/health/live") == (200, {"live": True})
        status.hangs = "the intake has stood still for 40 s"
        assert (await ask(f"{url}/health/live"))[0] == 503


async def test_metrics_are_exposed(ask: Ask) -> None:
    """In text, with the readiness of this moment."""
    async with serving(Status()) as url:
        status, body = await ask(f"{url}/metrics")
        assert status == 200
        assert "stream_app_ready 1.0" in body
        _, body = await ask(f"{url}/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert body.endswith("# EOF\n")


async def test_lookups_need_the_token(ask: Ask) -> None:
    """None, a wrong one and another scheme are refused alike; nothing is told of the client."""
    async with serving(Status(), States({b"c1": b'{"id":"c1"}'})) as url:
        assert await ask(f"{url}/clients/c1", BEARER) == (200, {"id": "c1"})
        assert await ask(f"{url}/state/client/c1", BEARER) == (200, {"id": "c1"})
        assert await ask(f"{url}/leads/c1", BEARER) == (200, {"id": "c1"})
        assert (await ask(f"{url}/leads/c1"))[0] == 401
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}):
            for name in ("c1", "nobody"):
                answer = await ask(f"{url}/clients/{name}", headers)
                assert answer == (401, {"error": "a valid bearer token is needed", "status": 401})


async def test_without_a_token_in_the_settings_lookups_are_off(ask: Ask) -> None:
    """An empty token admits nobody, not everybody."""
    async with serving(Status(), States({b"c1": b"{}"}), token="") as url:
        assert (await ask(f"{url}/clients/c1", {"Authorization": "Bearer "}))[0] == 403
        assert (await ask(f"{url}/clients/c1"))[0] == 403


async def test_errors_are_clear(ask: Ask) -> None:
    """Unknown key, unknown kind, unknown path: 404 each, in words."""
    async with serving(Status(), States()) as url:
        assert (await ask(f"{url}/clients/nobody", BEARER))[1]["error"] == "nothing is known of this client"
        assert "there are: client, lead" in (await ask(f"{url}/state/zebra/1", BEARER))[1]["error"]
        code, lost = await ask(f"{url}/zebra")
        assert code == 404
        assert "there are: /, /clients/{id}, /counters, /health/live," in lost["error"]


async def test_a_lookup_waits_for_nobody(ask: Ask) -> None:
    """While the owner is unknown or opening: 503, to be tried again."""
    states = States()
    states.recovering = True
    async with serving(Status(), states) as url:
        assert await ask(f"{url}/clients/c1", BEARER) == (
            503,
            {"error": "task 3, which holds it, is opening", "status": 503},
        )


@pytest.mark.parametrize("name", ["c1", "with/slash", "with%20percent", "ä?#&", "a b"])
async def test_the_owning_worker_answers_for_any_other(ask: Ask, name: str) -> None:
    """Whatever characters an id has, it reaches the owner as it was."""
    from urllib.parse import quote

    key = name.encode()
    async with serving(Status(), States({key: b'{"found":true}'})) as owner:  # noqa: SIM117  # one after the other
        async with serving(Status(), States(elsewhere={key: owner})) as other:
            assert await ask(f"{other}/clients/{quote(name, safe='')}", BEARER) == (200, {"found": True})
            assert (await ask(f"{other}/clients/{quote(name, safe='')}"))[0] == 401


@pytest.mark.parametrize(("asked", "answer"), [("c-1", "client"), ("%C3%A9/%3F", "odd"), ("both", "user"), ("x", "")])
@pytest.mark.parametrize("far", [False, True])
async def test_rewards_of_a_client_who_is_nobody_known_are_found(ask: Ask, asked: str, answer: str, far: bool) -> None:
    """Under the id that their records have, also when another worker owns it; a user's come first."""
    keys = {"\x1fc-1": "client", "é/?": "odd", "both": "user", "\x1fboth": "client"}
    states = States({key.encode(): b'{"is":"%b"}' % name.encode() for key, name in keys.items()})
    async with serving(Status(), states) as near:
        names = (*keys, "x", "\x1fx", "c-1")
        asking = States({}, dict.fromkeys((name.encode() for name in names), near)) if far else states
        async with serving(Status(), asking) as url:
            found = await ask(f"{url}/rewards/{asked}", BEARER)
    missing = {"error": "nothing is known of this partner", "status": 404}
    assert found == ((200, {"is": answer}) if answer else (404, missing))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("code/p/ANNA", True),
        ("code/p/%20Anna", True),
        ("code/p/(other)", True),
        ("code/P/anna", False),
        ("code/p", False),
    ],
)
async def test_a_codes_figures_are_found_in_whatever_case(ask: Ask, asked: str, found: bool) -> None:
    states = States({b"code\x1fp\x1fanna": b"{}", b"code\x1fp\x1f(other)": b"{}"})
    async with serving(Status(), states) as url:
        status, _ = await ask(f"{url}/referrals/{asked}", BEARER)
    assert status == (200 if found else 404)


async def test_a_lookup_is_never_passed_on_twice(ask: Ask) -> None:
    """Two workers that each believe the other owns the key don't send it round for ever."""
    first, second = States(), States()
    async with serving(Status(), first) as one, serving(Status(), second) as two:
        first.elsewhere[b"c1"] = two
        second.elsewhere[b"c1"] = one
        status, body = await ask(f"{one}/clients/c1", BEARER)
        assert status == 503
        assert "moved" in body["error"]


async def test_an_owner_that_is_gone_is_not_ready(ask: Ask) -> None:
    """Not an internal error."""
    async with serving(Status(), States()) as gone:
        pass
    async with serving(Status(), States(elsewhere={b"c1": gone})) as url:
        assert (await ask(f"{url}/clients/c1", BEARER))[0] == 503


async def test_an_address_that_is_taken_is_named() -> None:
    """With the keys to change."""
    async with serving(Status()) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}.*web\.port"):
            await WebServer(create_web(Status(), WorkerStats()), "127.0.0.1", port).start()
