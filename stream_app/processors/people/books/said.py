"""What is said of one reward, and by whom.

A late event may move a conversion from one buyer to another, or the levels beneath from one referrer to another, and
back. Each of them tells of it, and takes back what they told, in order; but their letters overtake each other. So what
each said last stands until they take it back: in the end it is what the one says whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from stream_app.domain.referral.facts import Walk


class Said:
    """What was said of a reward in a commit, by teller: the last of each."""

    def __init__(self) -> None:
        self._last: dict[str, Walk | None] = {}
        self._is_anew = False
        """What was said before this commit does not stand."""

    def tell(self, walk: Walk) -> None:
        """A walk. Whoever goes by a new name is alone: all others have taken theirs back long ago."""
        if walk.is_alone:
            self._forget()
        self._last[walk.teller] = walk

    def take_back(self, teller: str) -> None:
        """A teller has nothing to say of it any more; nobody has, if that is not said by name."""
        if not teller:
            self._forget()
        self._last[teller] = None

    def _forget(self) -> None:
        self._last.clear()
        self._is_anew = True

    def standing(self, before: Mapping[str, Walk]) -> list[Walk]:
        """What stands after this commit; of several, whoever told first comes first."""
        known: dict[str, Walk | None] = {} if self._is_anew else {**before}
        known.update(self._last)
        return [walk for walk in known.values() if walk is not None]


__all__ = ["Said"]
