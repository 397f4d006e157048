"""What the web needs of the worker behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import msgspec

Reason = Literal["ok", "starting", "rebalancing", "recovering", "stalled", "hung_transaction", "failing", "stopping"]


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the worker takes its part of the work at this moment, and if not, why."""

    ready: bool
    reason: Reason
    detail: str = ""
    """For people: how far the recovery is, which task stalls, whose transaction hangs."""
    tasks: Mapping[str, int] = {}
    """How many tasks are in which state."""
    recovery_progress: float = 1.0


class NotReady(Exception):
    """A lookup cannot be answered now, but may be soon; the text says why."""


class StatusSource(Protocol):
    """The worker's health."""

    def trouble(self) -> str:
        """Why the process should be restarted; empty: it lives."""

    def readiness(self) -> Readiness:
        """Whether it processes what it is assigned."""


class Queries(Protocol):
    """Lookups of committed state."""

    def kinds(self) -> Collection[str]:
        """What can be asked for: `client`."""

    def owner(self, kind: str, key: bytes) -> str | None:
        """Base URL of the worker that owns the key; None: this one. Raises `NotReady` while nobody is known to."""

    async def state(self, kind: str, key: bytes) -> bytes | None:
        """The committed state as a JSON document; None: nothing is known of the key. Raises `NotReady`."""
