"""The dashboard at `/`: a page that asks this worker for `/status`, `/counters` and `/referrals` and draws the answers.

Its files are part of the package; nothing is loaded from anywhere else, and the page's policy forbids it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

import msgspec
from aiohttp import web

from stream_app.metrics import WorkerStats, version
from stream_app.web.answers import NO_STORE, json_answer
from stream_app.web.ports import CounterAnswers, ReferralAnswers, StatusSource

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {**NO_STORE, "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
_ASSETS = {"dashboard.css": "text/css"} | dict.fromkeys(
    ("dashboard.js", "drawing.js", "referrals.js"), "text/javascript"
)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says of this worker."""

    version: str
    ready: bool
    reason: str
    detail: str
    tasks: Mapping[str, int]
    events: int
    """Records of the inputs whose commit is through, since it started."""
    waiting: int
    """Records of its inputs that it has yet to take."""
    dead_letters: Mapping[str, int]
    """By reason, since it started."""
    counters: bool
    """Whether `/counters` answers."""
    currency: str
    """What counters are in, unless money came in another one."""
    timezone: str
    """Where their days and hours begin."""
    programs: Sequence[str]
    """Referral programmes that `/referrals` answers for."""


class Dashboard:
    """The page, its files, and the state of the worker that it shows."""

    def __init__(
        self,
        status: StatusSource,
        stats: WorkerStats,
        counters: CounterAnswers | None,
        referrals: ReferralAnswers | None,
    ) -> None:
        self._status = status
        self._stats = stats
        self._counters = counters
        self._programs = referrals.programs if referrals is not None else ()
        money = counters if counters is not None else referrals
        self._currency = money.currency if money is not None else ""
        files = resources.files(__package__) / "static"
        self._page = (files / "index.html").read_text()
        self._assets = {name: (files / name).read_text() for name in _ASSETS}

    def routes(self) -> list[web.RouteDef]:
        """What is answered, and by what."""
        return [
            web.get("/", self.index),
            web.get("/static/{name}", self.asset),
            web.get("/status", self.status),
        ]

    async def index(self, _request: web.Request) -> web.Response:
        """The page."""
        return web.Response(text=self._page, content_type="text/html", headers=_HEADERS)

    async def asset(self, request: web.Request) -> web.Response:
        """The page's script or style."""
        text = self._assets.get(request.match_info["name"])
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text, content_type=_ASSETS[request.match_info["name"]], headers=_HEADERS)

    async def status(self, _request: web.Request) -> web.Response:
        """The worker in a few figures."""
        readiness, stats, counters = self._status.readiness(), self._stats, self._counters
        return json_answer(
            Status(
                version=version(),
                ready=readiness.ready,
                reason=readiness.reason,
                detail=readiness.detail,
                tasks=readiness.tasks,
                events=stats.events_total,
                waiting=stats.lag_total,
                dead_letters=stats.dead_letters,
                counters=counters is not None,
                currency=self._currency,
                timezone=counters.timezone if counters is not None else "UTC",
                programs=self._programs,
            )
        )
