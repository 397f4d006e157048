"""`/counters`: what the tasks of all workers have counted, in one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from stream_app.domain.counters.questions import CannotAsk, Question
from stream_app.domain.counters.tables import Row, in_order, to_csv
from stream_app.web.answers import FORWARDED, NO_STORE, Refused, json_answer
from stream_app.web.fleet import Fleet, Part
from stream_app.web.ports import CounterAnswers

INCOMPLETE = "X-Stream-App-Missing-Partitions"
"""In CSV there is no other place to say so."""


class Answer(msgspec.Struct):
    """The answer to whoever asked."""

    window: str
    dimension: str
    complete: bool
    """False: some tasks have not answered, their counters are missing."""
    missing_partitions: list[int]
    rows: list[Row]


class CounterRoute:
    """The table, as JSON or CSV."""

    def __init__(self, counters: CounterAnswers | None, admit: Callable[[web.Request], None] | None) -> None:
        self._counters = counters
        self._admit = admit
        self._fleet = Fleet(msgspec.json.Decoder(Part[Row]).decode)
        self.connections = self._fleet.connections

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
        rows, missing = await self._fleet.whole(request, counters.own(question), counters.others(), counters.partitions)
        return await asyncio.to_thread(lambda: _shown(question, in_order(rows, question), missing))


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
