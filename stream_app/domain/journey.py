"""What the fold of one client's events carries on: sessions, touchpoints, whose they are."""

from __future__ import annotations

from copy import copy
from decimal import Decimal
from typing import Literal

import msgspec

from stream_app.domain.hits import Hit
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.sources.model import Source

SplitReason = Literal["first", "timeout", "campaign", "midnight", "max_events", "max_age", "user"]


class Touchpoint(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An arrival with a source; direct when a click started a session without one."""

    at: int
    session_id: str
    """Empty for an offline touchpoint outside any session."""
    source: Source
    visit: int = 0
    """Number of the client's latest session by then."""


class Owner(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """From when on a client's sessions are a user's."""

    since: int
    """Number of the first session that is theirs; 0: all from the beginning, for anonymous sessions before a client's
    first id belong to that user (semantics 31)."""
    user: str
    linked_at: int
    """When that became known: time of the event with the id."""


class Guest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A user who converted here, but in no session: a call, a letter, a record that came late."""

    user: str
    at: int
    """Their latest such conversion."""


class Ordered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A conversion with an order as its session counts it: taken off again should another client hold the order."""

    order: int
    at: int
    id: str
    value: Decimal | None
    currency: str


class Captured(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A referral programme's code that a visit brought, with the visit's ip; or a click's ip without a code."""

    at: int
    code: str

    @property
    def is_visit(self) -> bool:
        """Whether there is a code."""
        return not self.code.startswith(SEPARATOR)

    @property
    def ip(self) -> str:
        """The ip's hash; empty if it was not said."""
        return self.code.rpartition(SEPARATOR)[2]


class Extent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """When a past session began and had its last event."""

    id: str
    started_at: int
    ended_at: int


class Session(msgspec.Struct, gc=False, array_like=True):
    """A visit in the making. The `shown_*` fields hold what they are called after as of the last moment that is worth
    publishing (semantics 22), so that what an open session shows does not depend on how events were batched."""

    id: str
    number: int
    split_reason: SplitReason
    started_at: int
    ended_at: int
    source: Source
    attributed: Touchpoint
    """The last non-direct touchpoint at the start; the session's own if it has one, or if there is none."""
    latest: Source | None
    """Source of the latest touchpoint in this session."""
    user: str = ""
    """The first user id in it."""
    inherited_user: str = ""
    """The client's latest user before it, to whom an anonymous session belongs (semantics 31)."""
    page_views: int = 0
    events: int = 0
    conversions: int = 0
    value: tuple[tuple[str, Decimal], ...] = ()
    landing_url: str = ""
    exit_url: str = ""
    ignored_referrals: tuple[str, ...] = ()
    shown_ended_at: int = 0
    shown_page_views: int = 0
    shown_events: int = 0
    shown_exit_url: str = ""
    shown_ignored: int = 0
    final: bool = False
    """Published as closed, and no admissible event can touch it any more."""
    ordered: tuple[Ordered, ...] = ()
    """Those of its conversions that have an order."""

    def show(self) -> None:
        """Something happened that is worth publishing: what is so far is shown."""
        self.shown_ended_at = self.ended_at
        self.shown_page_views = self.page_views
        self.shown_events = self.events
        self.shown_exit_url = self.exit_url
        self.shown_ignored = len(self.ignored_referrals)


class Converted(msgspec.Struct, gc=False, array_like=True):
    """A conversion with the session and user that it met in the fold."""

    hit: Hit
    session_id: str
    """Empty for late ones and programs' ones: their session is looked up when they are published."""
    user: str
    past: Journey | None = None
    """The journey that it belongs to, if the client has been forgotten since; a backlog may hold both."""


class Journey(msgspec.Struct, gc=False, array_like=True):
    """All that the fold of a client's events carries on. Tuples are never changed in place, so that a copy of the
    journey shares them; the open session is the one part that is."""

    last_at: int = 0
    """Time of the latest event."""
    sessions: int = 0
    """Number of the latest session."""
    user: str = ""
    """The latest known user."""
    open: Session | None = None
    """The latest session; over when the next event comes too late for it."""
    touchpoints: tuple[Touchpoint, ...] = ()
    """The first and the latest."""
    dropped_until: int = 0
    """Time of the newest touchpoint that had to go; 0: none had."""
    non_direct: Touchpoint | None = None
    extents: tuple[Extent, ...] = ()
    ended: tuple[Session, ...] = ()
    """Sessions that are over and may still have to be published."""
    converted: tuple[Converted, ...] = ()
    """Conversions that may still have to be published."""
    refunds: tuple[Hit, ...] = ()
    """Refunds not yet handed on to their orders."""
    codes: tuple[Captured, ...] = ()
    """Referral codes that visits brought, the first and the latest; behind them the last click's ip, if that was
    another click."""
    owners: tuple[Owner, ...] = ()
    """Whose the client's sessions are, oldest first."""
    guests: tuple[Guest, ...] = ()
    """Users who only converted here: their conversions see what they did elsewhere."""
    life: int = 0
    """How often the client was silent so long that it came back as a new one."""

    def branch(self) -> Journey:
        """A copy that can be folded on without changing this one."""
        branch = copy(self)
        if branch.open is not None:
            branch.open = copy(branch.open)
        return branch

    def forget(self) -> None:
        """So long without an event that the client is a new one (semantics 25)."""
        if self.open is not None and not self.open.final:
            self.ended += (self.open,)
        if self.converted:
            past = copy(self)
            past.ended, past.converted, past.refunds = (), (), ()
            self.converted = tuple(
                Converted(found.hit, found.session_id, found.user, found.past or past) for found in self.converted
            )
        self.sessions = 0
        self.user = ""
        self.open = None
        self.touchpoints = ()
        self.dropped_until = 0
        self.non_direct = None
        self.extents = ()
        self.codes = ()
        self.owners = ()
        self.guests = ()
        self.life += 1
