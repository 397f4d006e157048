"""Sessions and touchpoints of one client, folded from its events in order of time."""

from __future__ import annotations

from copy import copy
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec.structs import replace

from stream_app.domain import ids, money, promos
from stream_app.domain.calendar import LocalDays
from stream_app.domain.hits import CONVERSION, LINK_CLICK, REFUND, Hit, Sale
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.promos import Arrivals
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.model import DIRECT, NOT_SET, Source

SplitReason = Literal["first", "timeout", "campaign", "midnight", "max_events", "max_age", "user"]

MAX_TOUCHPOINTS = 100
MAX_EXTENTS = 16
"""Past sessions whose beginning and end are remembered, so that late conversions find theirs."""
MAX_IGNORED_REFERRALS = 20
MAX_CODES = 20
"""Visits with a referral code that are remembered: the first and the latest."""
MAX_ORDERED = 100
"""Orders of a session that can still be taken off its figures."""
MAX_OWNERS = 16
"""Changes of user that are remembered of a client: the first and the latest."""


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


class Fold:
    """Applies events to a journey, by one site's rules. Events must come in order (`hits.order`), each once."""

    def __init__(self, rules: JourneyRules, direct: Source = DIRECT) -> None:
        self._direct = direct
        sessions = rules.sessions
        self.timeout_ms = sessions.timeout_ms
        self.max_age_ms = sessions.max_age_ms
        self.max_events = sessions.max_events
        self.campaign_timeout_ms = sessions.campaign_timeout_ms
        self.life_ms = rules.client_life_ms
        self._ua = sessions.profile == "ua"
        self._days = LocalDays(rules.timezone)

    def apply(
        self,
        journey: Journey,
        hit: Hit,
        client: str,
        known_orders: frozenset[int] = frozenset(),
        arrivals: Arrivals = promos.NONE,
    ) -> bool:
        """Folds one event. True if something happened that is worth publishing: a session started, its source or user
        changed, or a conversion (semantics 22)."""
        kind = hit.kind
        if hit.at - journey.last_at >= self.life_ms and journey.last_at:
            _forget(journey)
        journey.last_at = hit.at
        if kind < CONVERSION:
            if hit.code:
                capture(journey, hit)
            reason = self.split_reason(journey.open, hit)
            if reason is None:
                session = journey.open
                assert session is not None
                return self.extend(journey, session, hit)
            self._start(journey, hit, reason, client)
            return True
        if kind == REFUND:
            journey.refunds += (hit,)
            return True
        self._convert(journey, hit, client, known_orders, arrivals)
        return True

    def split_reason(self, session: Session | None, hit: Hit) -> SplitReason | None:
        """Why an event starts a new session; None if it belongs to the open one (domain rules, section 3)."""
        if session is None:
            return "first"
        at = hit.at
        if at - session.ended_at >= self.timeout_ms:
            return "timeout"
        if hit.user and session.user and hit.user != session.user:
            return "user"
        if self._ua:
            if self._changes_campaign(session, hit):
                return "campaign"
            if self._days.day(at) != self._days.day(session.ended_at):
                return "midnight"
        if at - session.started_at >= self.max_age_ms:
            return "max_age"
        if session.events >= self.max_events:
            return "max_events"
        return None

    def session_at(self, journey: Journey, at: int) -> str:
        """The session that contained a moment, as far as remembered; empty if none did."""
        session = journey.open
        if session is not None and session.started_at <= at:
            return session.id if at - session.ended_at < self.timeout_ms else ""
        for extent in reversed(journey.extents):
            if extent.started_at <= at:
                return extent.id if at - extent.ended_at < self.timeout_ms else ""
        return ""

    @staticmethod
    def _changes_campaign(session: Session, hit: Hit) -> bool:
        """Profile `ua`: another (source, medium, campaign) than the session's latest touchpoint; a missing campaign
        alone is no change (semantics 30)."""
        source = hit.source
        if source is None or hit.referral or hit.kind >= CONVERSION or source.is_direct:
            return False
        latest = session.latest or session.source
        if source.source != latest.source or source.medium != latest.medium:
            return True
        return source.campaign not in {NOT_SET, latest.campaign}

    def extend(self, journey: Journey, session: Session, hit: Hit) -> bool:
        """A click that belongs to the open session. True if something happened that is worth publishing."""
        session.ended_at = hit.at
        session.events += 1
        if hit.kind != LINK_CLICK:
            session.page_views += 1
            session.exit_url = hit.url
        elif not session.exit_url:
            session.exit_url = hit.url
        changed = False
        if not session.landing_url:
            session.landing_url = hit.url
            changed = True
        if hit.user and _identify(journey, session, hit):
            changed = True
        source = hit.source
        if hit.referral:
            ignored = session.ignored_referrals
            if hit.referral not in ignored and len(ignored) < MAX_IGNORED_REFERRALS:
                session.ignored_referrals = (*ignored, hit.referral)
        elif source is not None and not _same(source, session.latest) and source.source != "(direct)":
            session.latest = source
            self._touch(journey, Touchpoint(hit.at, session.id, source, session.number))
            changed = True
        if changed or (hit.code and hit.code[0] != SEPARATOR):
            session.show()
            return True
        return False

    def _start(self, journey: Journey, hit: Hit, reason: SplitReason, client: str) -> Session:
        before = journey.open
        if before is not None:
            journey.extents = (*journey.extents, Extent(before.id, before.started_at, before.ended_at))[-MAX_EXTENTS:]
            if not before.final:
                journey.ended += (before,)
        at = hit.at
        by_click = hit.kind < CONVERSION
        session_id = ids.session_id(client, hit.id, at, conversion=not by_click)
        source = hit.source if by_click and hit.source is not None else self._direct
        own = Touchpoint(at, session_id, source, journey.sessions + 1)
        attributed = own
        if source.source == "(direct)":
            last = journey.non_direct
            if last is not None and at - last.at <= self.campaign_timeout_ms:
                attributed = last
        journey.sessions += 1
        session = Session(
            id=session_id,
            number=journey.sessions,
            split_reason=reason,
            started_at=at,
            ended_at=at,
            source=source,
            attributed=attributed,
            latest=source if by_click else None,
            user=hit.user,
            inherited_user=journey.user,
            page_views=1 if by_click and hit.kind != LINK_CLICK else 0,
            events=1,
            landing_url=hit.url,
            exit_url=hit.url,
        )
        session.show()
        journey.open = session
        if hit.user:
            journey.user = hit.user
            _own(journey, session, hit)
        if by_click:
            self._touch(journey, own)
        return session

    def _convert(
        self, journey: Journey, hit: Hit, client: str, known_orders: frozenset[int], arrivals: Arrivals
    ) -> None:
        sale = hit.sale
        assert sale is not None
        session = journey.open
        known = sale.order != 0 and (
            sale.order in known_orders
            or any(other.hit.sale is not None and other.hit.sale.order == sale.order for other in journey.converted)
        )
        if sale.offline or sale.late or sale.bot:
            welcome(journey, hit)
            if session is not None and hit.at - session.ended_at >= self.timeout_ms:
                session = None
            if hit.source is not None and not sale.late and not sale.bot and not known:
                name = session.id if session is not None else ""
                self._touch(journey, Touchpoint(hit.at, name, hit.source, journey.sessions))
        else:
            reason = self.split_reason(session, hit)
            if reason is None:
                assert session is not None
                session.ended_at = hit.at
                session.events += 1
                if hit.user:
                    _identify(journey, session, hit)
            else:
                session = self._start(journey, hit, reason, client)
        if session is not None and not sale.late and not sale.bot:
            if not known:
                _count(session, hit, sale)
            session.show()
        if not known:
            user = hit.user
            if not user and session is not None and not sale.late:
                user = session.user or session.inherited_user
            name = session.id if session is not None and not sale.late and not sale.bot else ""
            if arrivals:
                self._redeem(journey, hit, session, arrivals)
            journey.converted += (Converted(_from_ip(journey, hit), name, user),)

    def _redeem(self, journey: Journey, hit: Hit, session: Session | None, arrivals: Arrivals) -> None:
        """A conversion with a programme's code arrived by it, as a visit through the programme's link does inside a
        session. One off the site is a touchpoint of its own, and leaves its session alone."""
        sale = hit.sale
        assert sale is not None
        source = promos.source_of(arrivals, sale, hit.at) if not sale.late and not sale.bot else None
        if source is None:
            return
        if session is not None and not sale.offline:
            if _same(source, session.latest):
                return
            session.latest = source
        name = session.id if session is not None else ""
        self._touch(journey, Touchpoint(hit.at, name, source, journey.sessions))

    @staticmethod
    def _touch(journey: Journey, touchpoint: Touchpoint) -> None:
        touchpoints = journey.touchpoints
        if len(touchpoints) >= MAX_TOUCHPOINTS:
            journey.dropped_until = touchpoints[1].at
            journey.touchpoints = (touchpoints[0], *touchpoints[2:], touchpoint)
        else:
            journey.touchpoints = (*touchpoints, touchpoint)
        if touchpoint.source.source != "(direct)":
            journey.non_direct = touchpoint


def _count(session: Session, hit: Hit, sale: Sale) -> None:
    session.conversions += 1
    session.value = with_value(session.value, sale.value, sale.currency)
    if sale.order and len(session.ordered) < MAX_ORDERED:
        session.ordered += (Ordered(sale.order, hit.at, hit.id, sale.value, sale.currency),)


def capture(journey: Journey, hit: Hit) -> None:
    """A click with a programme's code, or with an ip where programmes are set up."""
    captured = Captured(hit.at, hit.code)
    codes = journey.codes
    last: tuple[Captured, ...] = ()
    if codes and not codes[-1].is_visit:
        last, codes = codes[-1:], codes[:-1]
    if not captured.is_visit:
        last = (captured,)
    else:
        codes = (*codes, captured) if len(codes) < MAX_CODES else (codes[0], *codes[2:], captured)
        if captured.ip:
            last = ()
    journey.codes = codes + last


def codes_of(journey: Journey, session: Session, user: str | None) -> tuple[Captured, ...]:
    """Captured codes that others are told of with a session: what its visits brought, and if its user is the client's
    first, what the client had brought before as nobody known (semantics 31)."""
    owners = journey.owners
    nobodys = 0
    if user and owners and owners[0].user == user:
        nobodys = owners[1].linked_at if len(owners) > 1 else session.started_at
    return tuple(
        c
        for c in journey.codes
        if c.is_visit and c.at <= session.ended_at and (c.at >= session.started_at or c.at < nobodys)
    )


def _from_ip(journey: Journey, hit: Hit) -> Hit:
    """A conversion with the ip of the last click before it: later ones will take its place. One that comes late looks
    for what is left of the time before it when it is published."""
    if not journey.codes or (hit.sale is not None and hit.sale.late):
        return hit
    ip = next((captured.ip for captured in reversed(journey.codes) if captured.ip), "")
    return replace(hit, code=SEPARATOR * 2 + ip) if ip else hit


def _identify(journey: Journey, session: Session, hit: Hit) -> bool:
    """An event with an id in an open session. True if it is the first one in it."""
    journey.user = hit.user
    if session.user:
        return False
    session.user = hit.user
    _own(journey, session, hit)
    return True


def welcome(journey: Journey, hit: Hit) -> None:
    """A conversion that is in no session: if it names a user who has none here, they are remembered."""
    user = hit.user
    if not user or any(owner.user == user for owner in journey.owners):
        return
    at = max([hit.at, *(guest.at for guest in journey.guests if guest.user == user)])
    others = tuple(guest for guest in journey.guests if guest.user != user)
    journey.guests = (*others, Guest(user, at))[-MAX_OWNERS:]


def _own(journey: Journey, session: Session, hit: Hit) -> None:
    """The first id of a session says whose it is, and whose the sessions after it are."""
    owners = journey.owners
    if owners and owners[-1].user == hit.user:
        return
    owner = Owner(session.number if owners else 0, hit.user, hit.at)
    journey.owners = (*owners, owner) if len(owners) < MAX_OWNERS else (owners[0], *owners[2:], owner)


def _forget(journey: Journey) -> None:
    """So long without an event that the client is a new one (semantics 25)."""
    if journey.open is not None and not journey.open.final:
        journey.ended += (journey.open,)
    if journey.converted:
        past = copy(journey)
        past.ended, past.converted, past.refunds = (), (), ()
        journey.converted = tuple(
            Converted(found.hit, found.session_id, found.user, found.past or past) for found in journey.converted
        )
    journey.sessions = 0
    journey.user = ""
    journey.open = None
    journey.touchpoints = ()
    journey.dropped_until = 0
    journey.non_direct = None
    journey.extents = ()
    journey.codes = ()
    journey.owners = ()
    journey.guests = ()
    journey.life += 1


def _same(left: Source, right: Source | None) -> bool:
    """Equal as touchpoints: source, medium and campaign (domain rules, section 4)."""
    return (
        right is not None
        and left.source == right.source
        and left.medium == right.medium
        and left.campaign == right.campaign
    )


def with_value(
    value: tuple[tuple[str, Decimal], ...], amount: Decimal | None, currency: str
) -> tuple[tuple[str, Decimal], ...]:
    """Amounts by currency with one more."""
    if amount is None:
        return value
    amounts = dict(value)
    amounts[currency] = money.add(amounts.get(currency, Decimal(0)), amount)
    return tuple(sorted(amounts.items()))
