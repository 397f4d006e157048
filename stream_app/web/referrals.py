"""`/referrals`: referral programmes, or the codes, kinds of advocates or levels in them, since they began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from stream_app.domain.counters.questions import CannotAsk
from stream_app.domain.referral.tables import Row, in_order
from stream_app.web.answers import FORWARDED, Refused, json_answer
from stream_app.web.fleet import Fleet, Part
from stream_app.web.ports import ReferralAnswers


class Answer(msgspec.Struct):
    """The answer to whoever asked."""

    dimension: str
    complete: bool
    """False: some tasks have not answered, their rows are missing."""
    missing_partitions: list[int]
    rows: Sequence[Row]


class ReferralRoute:
    """The table as JSON."""

    def __init__(self, referrals: ReferralAnswers | None, admit: Callable[[web.Request], None] | None) -> None:
        self._referrals = referrals
        self._admit = admit
        self._fleet = Fleet(msgspec.json.Decoder(Part[Row]).decode)
        self.connections = self._fleet.connections

    async def answer(self, request: web.Request) -> web.Response:
        """The table. Asked by another worker: this one's part of it."""
        if self._admit is not None:
            self._admit(request)
        referrals = self._referrals
        if referrals is None or not referrals.programs:
            raise Refused(404, "there are no referral programmes in the settings")
        try:
            question = referrals.question(request.query.items())
        except CannotAsk as exc:
            raise Refused(400, str(exc)) from None
        if FORWARDED in request.headers:
            return json_answer(Part(*await referrals.own(question)))
        rows, missing = await self._fleet.whole(
            request, referrals.own(question), referrals.others(), referrals.partitions
        )
        shown = await asyncio.to_thread(in_order, rows, question)
        return json_answer(Answer(question.dimension, not missing, missing, shown))
