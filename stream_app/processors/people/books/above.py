"""What the next ancestor is told of a conversion: each level tells the next."""

from __future__ import annotations

from typing import Any

import msgspec

from stream_app.domain.ids import content_digest
from stream_app.domain.referral.facts import WALK, Walk, taken_back
from stream_app.domain.referral.ledger import Entry, reward_id
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body


class Above:
    """Tells those above a person, and remembers in the entry what was told."""

    def __init__(self, person: str, context: Context[Any], *, erased: bool) -> None:
        self._person = person
        self._erased = erased
        self._context = context

    def tell(self, entry: Entry, ancestor: str) -> None:
        """Tells the next ancestor (empty: there is none), and nobody else any more."""
        walk = entry.walk
        if entry.next != ancestor:
            self.take_back(entry)
        entry.next = ancestor
        if ancestor:
            body = msgspec.structs.replace(
                walk,
                level=walk.level + 1,
                chain=(*walk.chain, self._person),
                holds=(),
                notes=(),
                is_alone=self._erased,
            )
            next_id = reward_id(walk.program, walk.conversion_id, walk.level + 1, ancestor)
            letter = encode_body(Letter(next_id, body))
            digest = content_digest(letter)
            if digest != entry.next_digest:
                entry.next_digest = digest
                self._context.forward(WALK, ancestor.encode(), letter)

    def take_back(self, entry: Entry) -> None:
        """Who is next stays known: it is told again if the conversion comes back."""
        if entry.next and entry.next_digest:
            walk = entry.walk
            gone = reward_id(walk.program, walk.conversion_id, walk.level + 1, entry.next)
            back: Letter[Walk] = Letter(taken_back(gone, self._person, erased=self._erased), None)
            self._context.forward(WALK, entry.next.encode(), encode_body(back))
            entry.next_digest = 0

    def rename(self, entry: Entry, old: str, new: str) -> bool:
        """The next ancestor goes by another name. False if that is not who comes next."""
        if entry.next not in (old, new):
            return False
        if entry.next_digest:
            self.tell(entry, new)
        else:
            entry.next = new
        return True
