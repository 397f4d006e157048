"""`/counters`: what the tasks of all workers have counted, in one table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
import msgspec
from aiohttp import web

from stream_app.domain.counters.questions import CannotAsk, Question
from stream_app.domain.counters.tables import Row, in_order, to_csv
from stream_app.web.answers import FORWARDED, NO_STORE, Refused, json_answer
from stream_app.web.ports import CounterAnswers

_TIMEOUT_S = 10.0
INCOMPLETE = "X-Stream-App-Missing-Partitions"
"""In CSV there is no other place to say so."""


class Part(msgspec.Struct):
    """One worker's answer to another."""

    rows: list[Row]
    partitions: list[int]


class Answer(msgspec.Struct):
    """The answer to whoever asked."""

    window: str
    dimension: str
    complete: bool
    """False: some tasks have not answered, their counters are missing."""
    missing_partitions: list[int]
    rows: list[Row]


_decode_part = msgspec.json.Decoder(Part).decode


class CounterRoute:
    """Each counter lives in one task, so the rows of all tasks together are the table: nothing is added up here."""

    def __init__(self, counters: CounterAnswers | None, admit: Callable[[web.Request], None] | None) -> None:
        self._counters = counters
        self._admit = admit
        self._session: aiohttp.ClientSession | None = None

    async def connections(self, _application: web.Application) -> AsyncIterator[None]:
        """Holds the connections to other workers while the application runs."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            self._session = session
            yield

    async def answer(self, request: web.Request) -> web.Response:
        """The table, as JSON or CSV. Asked by another worker: this one's part of it."""
        if self._admit is not None:
            self._admit(request)
        counters = self._counters
        if counters is None:
            raise Refused(503, "counters are not available on this worker: counters.enabled is false")
        try:
            question = counters.question(request.query.items())
        except CannotAsk as exc:
            raise Refused(400, str(exc)) from None
        if FORWARDED in request.headers:
            return json_answer(Part(*await counters.own(question)))
        own = asyncio.create_task(counters.own(question))
        parts = await asyncio.gather(*(self._ask(request, url) for url in counters.others()))
        rows, answered = await own
        for part in parts:
            new = set(part.partitions) - set(answered)
            if new == set(part.partitions):  # a task that has just moved is told of once
                rows += part.rows
                answered += part.partitions
        missing = sorted(set(range(counters.partitions)) - set(answered))
        if not answered:
            raise Refused(503, "no task of any worker can answer now", {"Retry-After": "1"})
        return await asyncio.to_thread(lambda: _shown(question, in_order(rows, question), missing))

    async def _ask(self, request: web.Request, url: str) -> Part:
        """Another worker's part; nothing if it does not answer: the table says which tasks are missing."""
        assert self._session is not None
        headers = {FORWARDED: "1"}
        if "Authorization" in request.headers:
            headers["Authorization"] = request.headers["Authorization"]
        try:
            address = f"{url.rstrip('/')}/counters"
            async with self._session.get(
                address, params=list(request.query.items()), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return Part([], [])
                return _decode_part(await answer.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return Part([], [])


def _shown(question: Question, rows: Sequence[Row], missing: list[int]) -> web.Response:
    if question.format == "csv":
        headers = {
            **NO_STORE,
            "Content-Disposition": f'attachment; filename="{question.dimension}-{question.window}.csv"',
        }
        if missing:
            headers[INCOMPLETE] = ",".join(map(str, missing))
        return web.Response(text=to_csv(rows, question), content_type="text/csv", charset="utf-8", headers=headers)
    return json_answer(Answer(question.window, question.dimension, not missing, missing, list(rows)))
