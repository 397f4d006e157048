"""The desk at which one commit's work on one person is done: who it is, what is at hand, what was heard so far.

The parts of that work are modules of their own; each is given the desk. What one of them leaves for a later one is a
field here, and what the buyer's part says of the person is a `Decision`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from stream_app.domain.referral.buyer import Bindings
from stream_app.domain.referral.facts import Binding, Moment, Renamed, Sales
from stream_app.domain.referral.ledger import Entry
from stream_app.domain.referral.programs import Programs
from stream_app.domain.times import LATEST_MS, MINUTE_MS
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.books import Said
from stream_app.processors.people.house import House
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import BOUND_ROWS, SOLD_ROWS, Person, Referred, Sold

LATEST: Moment = (LATEST_MS, "")
"""A moment behind all others."""


class Decision(NamedTuple):
    """What the person is as a buyer, after all that is known."""

    bindings: Bindings
    first_paid: Moment | None
    sales: Sales

    def standing(self, programs: Programs) -> tuple[Binding, ...]:
        """Bindings as they are now."""
        return self.bindings.by(LATEST, programs)


class Desk:
    """One commit's work on one person."""

    def __init__(self, house: House, key: bytes, person: Person, context: Context[Any]) -> None:
        self.house = house
        self.key = key
        self.name = key.decode()
        self.person = person
        self.context = context
        self.open_shelves()
        self.buys = False
        """Something was heard that may change what follows from purchases and enrolments."""
        self.counts = False
        """Something else was heard that figures show."""
        self.members_changed = False
        self.lapped = False
        """The letter that the person waited for has come."""
        self.may_be_nobody = False
        """Something went that may have been all there was of the person."""
        # For the books:
        self.walks: defaultdict[str, Said] = defaultdict(Said)
        """By reward: what was said of it."""
        self.adopted: list[Entry] = []
        """Of whoever goes by this name now."""
        self.renames: list[Renamed] = []
        """Of who comes next above an entry."""

    def open_shelves(self) -> None:
        """Begins with rows as they are written."""
        self.sold = Shelf(Sold, SOLD_ROWS, self.key, self.context.rows)
        self.referred = Shelf(Referred, BOUND_ROWS, self.key, self.context.rows)

    def write_shelves(self) -> None:
        """Rows that changed."""
        self.sold.write()
        self.referred.write()

    def send(self, kind: str, key: bytes, name: str, body: Any) -> None:
        """Tells another key, or takes back what it was told (None)."""
        self.context.forward(kind, key, encode_body(Letter(name, body)))

    def settles(self, at: int) -> int:
        """When something of that time can change no more."""
        return max(at + self.house.grace_ms, self.context.now) + MINUTE_MS


def note(notes: dict[str, Any], name: str, body: Any) -> None:
    """Keeps what was told last, unless it was taken back."""
    if body is None:
        notes.pop(name, None)
    else:
        notes[name] = body


__all__ = ["LATEST", "Decision", "Desk", "note"]
