"""What the world sees of a session or conversion: records as a function of folded events and stream time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_app.domain import money, paths, persons, refunds
from stream_app.domain.credit import CreditModels
from stream_app.domain.hits import Hit
from stream_app.domain.ids import conversion_id
from stream_app.domain.journey import Journey, Ordered, Session, Touchpoint
from stream_app.domain.records import (
    AttributedConversion,
    AttributedSession,
    AttributedTo,
    RefundRecord,
    Retraction,
    TouchpointRecord,
)
from stream_app.domain.refunds import Refund
from stream_app.domain.rules import Goal, JourneyRules
from stream_app.domain.sources.model import Source
from stream_app.domain.times import DAY_MS, rfc3339

ENGAGED_MS = 10_000


class Views:
    """Makes records of one site's sessions and conversions. Revision 0: the publisher gives the real one."""

    def __init__(self, rules: JourneyRules, rules_version: str) -> None:
        self.rules_version = rules_version
        self.persons = rules.attribution.persons
        self._timeout_ms = rules.sessions.timeout_ms
        self._lookback_ms = rules.attribution.lookback_days * DAY_MS
        self._acquisition_ms = rules.attribution.acquisition_lookback_days * DAY_MS
        self._goals = {goal.name: goal for goal in rules.goals}
        self._credit = CreditModels(rules.attribution)
        self._transform = paths.TRANSFORMS[rules.attribution.path_transform]

    def goal(self, name: str) -> Goal | None:
        """A goal of the settings; None for a plain one."""
        return self._goals.get(name)

    def lookback_ms(self, goal: str) -> int:
        """How far a conversion of this goal looks back, inclusive."""
        known = self._goals.get(goal)
        return self._acquisition_ms if known is not None and known.acquisition else self._lookback_ms

    def closes_at(self, session: Session) -> int:
        """From this stream time on the session is closed."""
        return session.ended_at + self._timeout_ms

    def session(
        self, client: str, session: Session, now: int, *, truncated: bool, lost: Sequence[Ordered] = ()
    ) -> AttributedSession:
        """A session as of stream time `now`: everything once it is closed, before that what was last worth showing.
        Conversions whose orders other clients hold are none."""
        closed = now >= session.ended_at + self._timeout_ms
        if closed:
            ended_at, page_views, events = session.ended_at, session.page_views, session.events
            exit_url, ignored = session.exit_url, session.ignored_referrals
        else:
            ended_at, page_views, events = session.shown_ended_at, session.shown_page_views, session.shown_events
            exit_url, ignored = session.shown_exit_url, session.ignored_referrals[: session.shown_ignored]
        started_at = session.started_at
        source = session.source
        attributed = session.attributed
        first_source = attributed.source
        value = session.value
        conversions = session.conversions - len(lost)
        for conversion in lost:
            if conversion.value is not None:
                value = money.with_value(value, -conversion.value, conversion.currency)
        if lost:
            value = tuple(amount for amount in value if amount[1])
        # By position, in the order of the fields: half the time of naming all 36, and this is done for every output.
        return AttributedSession(
            session.id,
            0,
            False,
            truncated,
            self.rules_version,
            client,
            session.user or session.inherited_user or None,
            session.number,
            "closed" if closed else "open",
            rfc3339(started_at),
            rfc3339(ended_at),
            (ended_at - started_at) // 1_000,
            page_views,
            events,
            ended_at - started_at > ENGAGED_MS or page_views >= 2 or conversions > 0,
            session.number == 1,
            session.landing_url or None,
            exit_url or None,
            session.split_reason,
            source.source,
            source.medium,
            source.campaign,
            source.term,
            source.content,
            source.source_platform,
            source.channel,
            source.click_id_type,
            source.arrival,
            AttributedTo(
                first_source.source,
                first_source.medium,
                first_source.campaign,
                first_source.channel,
                attributed.session_id or None,
                (started_at - attributed.at) // 1_000,
            ),
            ignored,
            conversions,
            {currency: money.shown(amount, currency) for currency, amount in value} if value else {},
        )

    def path(self, journey: Journey, hit: Hit, user: str) -> tuple[Touchpoint, ...]:
        """The client's touchpoints that a conversion looks back on, oldest first: not after it, not older than the
        lookback, both inclusive, and no other user's. A late offline conversion is a touchpoint of its own for itself
        alone."""
        sale = hit.sale
        assert sale is not None
        at = hit.at
        oldest = at - self.lookback_ms(sale.goal)
        found = tuple(touchpoint for touchpoint in journey.touchpoints if oldest <= touchpoint.at <= at)
        if self.persons:
            found = persons.own(journey.owners, found, user, at)
        if hit.source is not None and sale.late and not sale.bot:
            found = (*found, Touchpoint(at, "", hit.source))
        return found

    def source_at(self, journey: Journey, known: Mapping[str, persons.Others], at: int) -> Source | None:
        """What a conversion of no goal in particular would be credited to at a moment, by last non-direct; None without
        any touchpoint. `known` is what other clients of its users saw."""
        oldest = at - self._lookback_ms
        found = tuple(touchpoint for touchpoint in journey.touchpoints if oldest <= touchpoint.at <= at)
        if self.persons:
            user = next((owner.user for owner in reversed(journey.owners) if owner.linked_at <= at), "")
            found = persons.path(persons.own(journey.owners, found, user, at), known, user, at, oldest).touchpoints
        path = self._transform(paths.without_direct(found))
        return path[-1].source if path else None

    def cut_short(self, journey: Journey, hit: Hit) -> bool:
        """True if a touchpoint that the conversion would look back on had to go."""
        sale = hit.sale
        assert sale is not None
        return journey.dropped_until > 0 and journey.dropped_until >= hit.at - self.lookback_ms(sale.goal)

    def conversion(
        self,
        client: str,
        hit: Hit,
        session_id: str,
        user: str,
        touchpoints: Sequence[Touchpoint],
        asked: Sequence[Refund],
        *,
        truncated: bool,
    ) -> AttributedConversion:
        """A conversion with its credits by every model and its refunds."""
        sale = hit.sale
        assert sale is not None
        at, value, currency = hit.at, sale.value, sale.currency
        granted = refunds.granted(sale, asked)
        shares = self._credit.credits(touchpoints, at, value, currency)
        visits = []
        for touchpoint in touchpoints:
            source = touchpoint.source
            visits.append(
                TouchpointRecord(
                    touchpoint.session_id or None,
                    rfc3339(touchpoint.at),
                    source.source,
                    source.medium,
                    source.campaign,
                    source.channel,
                    (at - touchpoint.at) // 1_000,
                )
            )
        # By position, as in `session`.
        return AttributedConversion(
            conversion_id(client, hit.id),
            0,
            False,
            truncated,
            self.rules_version,
            client,
            hit.id,
            sale.order_id or None,
            user or None,
            session_id or None,
            sale.lead_id or None,
            sale.goal,
            rfc3339(at),
            None if value is None else money.shown(value, currency),
            None if value is None else currency,
            sale.bot,
            tuple(visits),
            paths.shown(touchpoints),
            (at - touchpoints[0].at) // DAY_MS if touchpoints else None,
            shares,
            paths.assisting_channels(touchpoints, shares["last_non_direct"][0].channel),
            bool(touchpoints),
            tuple(
                [RefundRecord(refund.id, rfc3339(refund.at), money.shown(refund.value, currency)) for refund in granted]
            ),
            None if value is None else money.shown(refunds.total(granted), currency),
        )

    def retraction(self, client: str, record_id: str) -> Retraction:
        """Takes back a record that turned out not to exist."""
        return Retraction(
            id=record_id,
            revision=0,
            retracted=True,
            truncated=False,
            rules_version=self.rules_version,
            client_id=client,
        )
