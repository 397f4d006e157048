"""What a person counts for in figures, besides rewards."""

from __future__ import annotations

from stream_app.domain.referral.cohorts import NO_SALES, merged
from stream_app.domain.referral.counting import standing_of
from stream_app.domain.referral.facts import Binding, Sales
from stream_app.processors.people.desk import Desk


def count(desk: Desk, standing: tuple[Binding, ...], bought: Sales) -> None:
    """Counts the person as they are now in place of what was counted."""
    counter, person = desk.house.counter, desk.person
    if counter is None:
        return
    # What a client did before being known is counted with its user.
    sales = NO_SALES if person.users else merged(bought, *(i.sales for i in person.inherited.values()))
    referred_in = {binding.program for binding in standing}
    programs = desk.house.programs.by_name
    before = person.counted
    now = standing_of(person.memberships, programs, person.bound, person.invites, sales, referred_in)
    if now != before:
        person.counted = now
        if (was := before.cells()) != (cells := now.cells()):
            counter.person(was, cells, desk.context)
        if (had := before.brought()) != (has := now.brought()):
            counter.revenue(had, has, desk.context)
