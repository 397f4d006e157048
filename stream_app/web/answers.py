"""What all routes share: JSON, refusals."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

FORWARDED = "X-Stream-App-Forwarded"
"""Says that another worker has sent a lookup here: it is not sent on again."""
NO_STORE = {"Cache-Control": "no-store"}


class Refused(Exception):
    """Becomes a JSON answer with this status."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={**NO_STORE, **(headers or {})},
    )
