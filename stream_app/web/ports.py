"""What the web needs of the worker behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from stream_app.domain.counters.questions import Question
from stream_app.domain.counters.tables import Row
from stream_app.domain.referral import tables as referral

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


class CounterAnswers(Protocol):
    """Committed counters of this worker's tasks."""

    @property
    def partitions(self) -> int:
        """How many tasks there are in all."""

    @property
    def currency(self) -> str:
        """The base currency."""

    @property
    def timezone(self) -> str:
        """Name of the zone in which days and hours begin."""

    def question(self, parameters: Iterable[tuple[str, str]]) -> Question:
        """What the parameters of an address ask for. Raises `CannotAsk`."""

    async def own(self, question: Question) -> tuple[list[Row], list[int]]:
        """The rows that this worker's running tasks know, in no particular order, and which tasks these are."""

    def others(self) -> Collection[str]:
        """Base URLs of the other workers."""


class ReferralAnswers(Protocol):
    """Committed figures of referral programmes of this worker's tasks."""

    @property
    def partitions(self) -> int:
        """How many tasks there are in all."""

    @property
    def currency(self) -> str:
        """The base currency."""

    @property
    def programs(self) -> Sequence[str]:
        """Those of the settings."""

    def question(self, parameters: Iterable[tuple[str, str]]) -> referral.Question:
        """What the parameters of an address ask for. Raises `CannotAsk`."""

    async def own(self, question: referral.Question) -> tuple[list[referral.Row], list[int]]:
        """The rows that this worker's running tasks know, in no particular order, and which tasks these are."""

    def others(self) -> Collection[str]:
        """Base URLs of the other workers."""
