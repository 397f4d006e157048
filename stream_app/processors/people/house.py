"""What all people share: the programmes, the rules their books are kept by, and who counts what happens in them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from stream_app.domain.referral.counting import Cell, Place, Revenue
from stream_app.domain.referral.ledger import Entry, Sums
from stream_app.domain.referral.programs import Programs
from stream_app.domain.times import MINUTE_MS
from stream_app.engine.processor import Context
from stream_app.processors.pseudonyms import Pseudonyms

NO_SUMS = Sums()


class Counted(NamedTuple):
    """What a reward counts, and where."""

    currency: str = ""
    sums: Sums = NO_SUMS
    counts: Mapping[str, int] = {}
    places: tuple[Place, ...] = ()


class RewardCounter(Protocol):
    """The slot for counters: hears what one reward counts whenever that changes."""

    def move(self, entry: Entry, before: Counted, after: Counted, context: Context[Any]) -> None:
        """Counts `after` in place of `before`."""
        ...

    def person(self, before: Mapping[Cell, int], after: Mapping[Cell, int], context: Context[Any]) -> None:
        """Counts what a person counts for besides rewards."""
        ...

    def revenue(
        self, before: Mapping[Revenue, Decimal], after: Mapping[Revenue, Decimal], context: Context[Any]
    ) -> None:
        """Counts what a customer has brought."""
        ...

    def add(self, name: str, where: tuple[Place, ...], at: int, n: int, context: Context[Any]) -> None:
        """Counts something that happened: `invites`, `referred`."""
        ...


class House(NamedTuple):
    """What all books are kept by."""

    programs: Programs
    grace_ms: int
    currency: str
    rules_version: str
    counter: RewardCounter | None
    pseudonyms: Pseudonyms
    tasks: tuple[bytes, ...]
    """A key for each."""

    @property
    def slack_ms(self) -> int:
        """After so long nothing that counts for a moment can come any more: grace, and a minute for the ways between
        keys."""
        return self.grace_ms + MINUTE_MS


__all__ = ["NO_SUMS", "Counted", "House", "RewardCounter"]
