"""The rules by which a client's events, in order of time, become sessions and touchpoints."""

from __future__ import annotations

from stream_app.domain import ids, money, owners, promos
from stream_app.domain.calendar import LocalDays
from stream_app.domain.captures import capture, from_ip
from stream_app.domain.hits import CONVERSION, LINK_CLICK, REFUND, Hit, Sale
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.journey import Converted, Extent, Journey, Ordered, Session, SplitReason, Touchpoint
from stream_app.domain.promos import Arrivals
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.model import DIRECT, NOT_SET, Source

MAX_TOUCHPOINTS = 100
MAX_EXTENTS = 16
"""Past sessions whose beginning and end are remembered, so that late conversions find theirs."""
MAX_IGNORED_REFERRALS = 20
MAX_ORDERED = 100
"""Orders of a session that can still be taken off its figures."""


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
            journey.forget()
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
        if hit.user and owners.identify(journey, session, hit):
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
            owners.own(journey, session, hit)
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
            owners.welcome(journey, hit)
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
                    owners.identify(journey, session, hit)
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
            journey.converted += (Converted(from_ip(journey, hit), name, user),)

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
    session.value = money.with_value(session.value, sale.value, sale.currency)
    if sale.order and len(session.ordered) < MAX_ORDERED:
        session.ordered += (Ordered(sale.order, hit.at, hit.id, sale.value, sale.currency),)


def _same(left: Source, right: Source | None) -> bool:
    """Equal as touchpoints: source, medium and campaign (domain rules, section 4)."""
    return (
        right is not None
        and left.source == right.source
        and left.medium == right.medium
        and left.campaign == right.campaign
    )
