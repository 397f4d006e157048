"""Tables of which each worker has a part: all are asked, and the parts are put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from stream_app.web.answers import FORWARDED, Refused

_TIMEOUT_S = 10.0

R = TypeVar("R")


class Part(msgspec.Struct, Generic[R]):
    """One worker's answer to another."""

    rows: list[R]
    partitions: list[int]


class Fleet(Generic[R]):
    """Each key lives in one task, so the rows of all tasks together are the table: nothing is added up here."""

    def __init__(self, decode: Callable[[bytes], Part[R]]) -> None:
        self._decode = decode
        self._session: aiohttp.ClientSession | None = None

    async def connections(self, _application: web.Application) -> AsyncIterator[None]:
        """Holds the connections to other workers while the application runs."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            self._session = session
            yield

    async def whole(
        self,
        request: web.Request,
        own: Coroutine[Any, Any, tuple[list[R], list[int]]],
        others: Collection[str],
        partitions: int,
    ) -> tuple[list[R], list[int]]:
        """The rows of all tasks that answer, in no particular order, and the numbers of those that do not. Raises
        `Refused` if none does."""
        mine = asyncio.create_task(own)
        parts = await asyncio.gather(*(self._ask(request, url) for url in others))
        rows, answered = await mine
        for part in parts:
            new = set(part.partitions) - set(answered)
            if new == set(part.partitions):  # a task that has just moved is told of once
                rows += part.rows
                answered += part.partitions
        if not answered:
            raise Refused(503, "no task of any worker can answer now", {"Retry-After": "1"})
        return rows, sorted(set(range(partitions)) - set(answered))

    async def _ask(self, request: web.Request, url: str) -> Part[R]:
        """Another worker's part; nothing if it does not answer: the table says which tasks are missing."""
        assert self._session is not None
        headers = {FORWARDED: "1"}
        if "Authorization" in request.headers:
            headers["Authorization"] = request.headers["Authorization"]
        try:
            address = f"{url.rstrip('/')}{request.path}"
            async with self._session.get(
                address, params=list(request.query.items()), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return Part([], [])
                return self._decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return Part([], [])
