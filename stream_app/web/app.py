"""The routes of a worker."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from stream_app.domain.referral.codes import normal_code
from stream_app.domain.referral.facts import CLIENT
from stream_app.metrics import Exporter, WorkerStats
from stream_app.web.answers import FORWARDED, NO_STORE, Refused, json_answer
from stream_app.web.counters import CounterRoute
from stream_app.web.dashboard import Dashboard
from stream_app.web.ports import CounterAnswers, NotReady, Queries, ReferralAnswers, StatusSource
from stream_app.web.referrals import ReferralRoute

_FORWARD_TIMEOUT_S = 5.0
_IN_WORDS = {"referrer": "partner", "referrals": "programme, code, kind of advocate or level"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_web(
    status: StatusSource,
    stats: WorkerStats,
    queries: Queries | None = None,
    *,
    counters: CounterAnswers | None = None,
    referrals: ReferralAnswers | None = None,
    counters_need_token: bool = True,
    token: str = "",
    refresh: Callable[[], None] | None = None,
) -> web.Application:
    """The application with / and what it needs, /health/live, /health/ready, /metrics, /counters, /state/{kind}/{id},
    /clients/{id}, /leads/{id}, /rewards/{user_id}, /referrals and /referrals/{dimension}/{keys}.

    Lookups need `token` as a bearer token; without one they are off. `refresh` is called before metrics are read.
    """
    routes = _Routes(status, stats, queries, token, refresh)
    admit = _beyond_loopback(routes) if counters_need_token else None
    counting, referring = CounterRoute(counters, admit), ReferralRoute(referrals, admit)
    application = web.Application(middlewares=[_errors_as_json])
    application.add_routes(
        [
            *Dashboard(status, stats, counters, referrals).routes(),
            web.get("/health/live", routes.live),
            web.get("/health/ready", routes.ready),
            web.get("/metrics", routes.metrics),
            web.get("/counters", counting.answer),
            web.get("/state/{kind}/{id:.+}", routes.state),
            web.get("/clients/{id:.+}", routes.client),
            web.get("/leads/{id:.+}", routes.lead),
            web.get("/rewards/{id:.+}", routes.rewards),
            web.get("/referrals", referring.answer),
            web.get("/referrals/{dimension}/{keys:.+}", routes.referrals),
        ]
    )
    application.cleanup_ctx.append(routes.session)
    application.cleanup_ctx.extend((counting.connections, referring.connections))
    return application


def _beyond_loopback(routes: _Routes) -> Callable[[web.Request], None]:
    return lambda request: routes.admit(request, "counters beyond loopback")


class _Routes:
    def __init__(
        self,
        status: StatusSource,
        stats: WorkerStats,
        queries: Queries | None,
        token: str,
        refresh: Callable[[], None] | None,
    ) -> None:
        self._status = status
        self._stats = stats
        self._queries = queries
        self._token = token
        self._exporter = Exporter(stats, refresh)
        self._session: aiohttp.ClientSession | None = None

    async def session(self, _application: web.Application) -> Any:
        """Holds the connections to other workers while the application runs."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_TIMEOUT_S)) as session:
            self._session = session
            yield

    # -- health and metrics ---------------------------------------------------------------------------

    async def live(self, _request: web.Request) -> web.Response:
        """200 while the process can still do its work, 503 when it should be restarted."""
        trouble = self._status.trouble()
        return json_answer({"live": not trouble, **({"detail": trouble} if trouble else {})}, 503 if trouble else 200)

    async def ready(self, _request: web.Request) -> web.Response:
        """200 while everything assigned is processed, else 503 and the reason."""
        readiness = self._status.readiness()
        return json_answer(readiness, 200 if readiness.ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text, or OpenMetrics if asked for."""
        self._stats.ready = self._status.readiness().ready
        body, content_type = self._exporter.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    # -- lookups --------------------------------------------------------------------------------------

    async def client(self, request: web.Request) -> web.Response:
        """One client's state."""
        return await self._lookup(request, "client", request.match_info["id"])

    async def lead(self, request: web.Request) -> web.Response:
        """One lead's state."""
        return await self._lookup(request, "lead", request.match_info["id"])

    async def rewards(self, request: web.Request) -> web.Response:
        """What one person is owed: a user, or a client that is nobody known, as records name them."""
        name = request.match_info["id"]
        try:
            answer = await self._lookup(request, "referrer", name)
        except Refused as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
        else:
            if answer.status != HTTPStatus.NOT_FOUND:
                return answer
        return await self._lookup(request, "referrer", CLIENT + name)

    async def referrals(self, request: web.Request) -> web.Response:
        """Figures of a programme, or of a code, kind of advocate or level in it: `program/friends`,
        `code/friends/anna`."""
        dimension = request.match_info["dimension"]
        keys = request.match_info["keys"].split("/", 1)
        if dimension == "code" and len(keys) > 1:
            keys[1] = normal_code(keys[1])  # letter case never matters
        return await self._lookup(request, "referrals", "\x1f".join([dimension, *keys]))

    async def state(self, request: web.Request) -> web.Response:
        """The state of one key."""
        return await self._lookup(request, request.match_info["kind"], request.match_info["id"])

    async def _lookup(self, request: web.Request, kind: str, name: str) -> web.Response:
        self.admit(request)
        queries = self._queries
        if queries is None:
            raise Refused(503, "lookups are not available on this worker")
        if kind not in queries.kinds():
            known = ", ".join(sorted(queries.kinds())) or "none"
            raise Refused(404, f"no such kind of state; there are: {known}")
        key = name.encode()
        try:
            owner = queries.owner(kind, key)
            if owner is not None:
                return await self._forward(request, owner, kind, name)
            found = await queries.state(kind, key)
        except NotReady as exc:
            raise Refused(503, str(exc), {"Retry-After": "1"}) from exc
        if found is None:
            raise Refused(404, f"nothing is known of this {_IN_WORDS.get(kind, kind)}")
        return web.Response(body=found, content_type="application/json", headers=NO_STORE)

    def admit(self, request: web.Request, what: str = "lookups") -> None:
        """Lets a request pass that has the token."""
        if not self._token:
            raise Refused(403, f"{what} are off: the worker was started without web.token (STREAM_APP_WEB__TOKEN)")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Hashes of equal length: the comparison tells nothing of the token, not even how long it is.
        same = hmac.compare_digest(_digest(given.strip()), _digest(self._token))
        if scheme.lower() != "bearer" or not same:
            raise Refused(401, "a valid bearer token is needed", {"WWW-Authenticate": 'Bearer realm="stream-app"'})

    async def _forward(self, request: web.Request, owner: str, kind: str, name: str) -> web.Response:
        if FORWARDED in request.headers:
            raise NotReady("the key has just moved to another worker")
        assert self._session is not None
        url = f"{owner.rstrip('/')}/state/{quote(kind, safe='')}/{quote(name, safe='')}"
        headers = {"Authorization": request.headers["Authorization"], FORWARDED: "1"}
        try:
            async with self._session.get(_encoded(url), headers=headers, allow_redirects=False) as answer:
                return web.Response(
                    body=await answer.read(),
                    status=answer.status,
                    content_type=answer.content_type,
                    headers=NO_STORE,
                )
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise NotReady("the worker that owns the key does not answer") from exc


def _encoded(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors are JSON documents {error, status} like everything else here."""
    try:
        return await handler(request)
    except Refused as exc:
        return json_answer({"error": str(exc), "status": exc.status}, exc.status, exc.headers)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        if request.match_info.http_exception is not None and exc.status == HTTPStatus.NOT_FOUND:
            known = sorted({resource.canonical for resource in request.app.router.resources()})
            return json_answer({"error": f"there is nothing here; there are: {', '.join(known)}", "status": 404}, 404)
        allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else {}
        return json_answer({"error": exc.reason, "status": exc.status}, exc.status, allow)
