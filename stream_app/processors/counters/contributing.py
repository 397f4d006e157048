"""What other processors call to be counted: their slots for counters."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from stream_app.domain.client import Client, Frozen
from stream_app.domain.costs import Spend
from stream_app.domain.counters import clients, lines
from stream_app.domain.counters.facts import Facts
from stream_app.domain.counters.lines import Contribution, Lines
from stream_app.domain.counters.windows import Windows
from stream_app.domain.hits import Hit
from stream_app.domain.journey import Session
from stream_app.domain.lead_counts import Counted
from stream_app.domain.records import AttributedConversion, AttributedSession
from stream_app.domain.times import LATEST_MS
from stream_app.engine.processor import Context

DELTA = "counter-delta"
"""Name of what is gathered, and kind of the record that it becomes."""


class JourneyCounter:
    """Counts what journeys publishes; see `processors.counting.Counter`."""

    def __init__(self, facts: Facts, windows: Windows, grace_ms: int) -> None:
        self._facts = facts
        self._windows = windows
        self._grace_ms = grace_ms
        self._latest = b"", lines.NOTHING
        """What was encoded last: `move` is asked about it at once."""

    def session(self, client_id: str, client: Client, session: Session, record: AttributedSession) -> bytes:  # noqa: ARG002
        """What a session counts as published."""
        return self._encode(self._facts.session(session, record))

    def conversion(self, client_id: str, client: Client, frozen: Frozen, record: AttributedConversion) -> bytes:  # noqa: ARG002
        """What a conversion counts as published, its refunds included."""
        return self._encode(self._facts.conversion(frozen, record))

    def move(self, before: bytes, after: bytes, counts: bytes, context: Context[Hit], held: int = LATEST_MS) -> bytes:
        """Counts `after` in place of `before`; gives what is to be remembered of the client."""
        old = lines.decode(before) if before else lines.NOTHING
        new = self._latest[1] if self._latest[0] == after else lines.decode(after)
        gathered = context.gather(DELTA)
        is_at_rest = lines.gather(gathered, old.lines, new.lines)
        if is_at_rest and old.stages == new.stages and old.answer == new.answer:
            return counts  # a session that went on: the client is where it was
        was, now = self._reach(old), self._reach(new)
        if was == now and old.answer == new.answer:
            return counts
        settled_ms = min(context.now - self._grace_ms, held)
        if not counts and was is None and now is not None and new.answer is None:
            where, day, stages = now
            return clients.first(gathered, where, day, stages, context.revision, settled_ms)
        memory = clients.decode(counts)
        clients.prune(memory, context.revision, settled_ms)
        # What comes before what goes: a client that stays is not counted out and in again.
        for contribution, reach, sign in ((new, now, 1), (old, was, -1)):
            if reach is None:
                continue
            where, day, stages = reach
            if stages and was != now:
                clients.touch(gathered, memory, where, day, stages, sign)
            if contribution.answer is not None and (old.answer != new.answer or was != now):
                clients.answered(gathered, memory, where, contribution.answer, day, sign)
        return clients.encode(memory)

    def bot(self, hit: Hit, context: Context[Hit]) -> None:
        """A click by a program or with a spam referrer."""
        lines.gather_line(context.gather(DELTA), self._facts.bot(hit.at), 1)

    def _encode(self, contribution: Contribution) -> bytes:
        encoded = lines.encode(contribution)
        self._latest = encoded, contribution
        return encoded

    def _reach(self, contribution: Contribution) -> Any:
        """(attribution, day, stages) under which a record makes its client count; None: nothing does."""
        if not contribution.lines or not (contribution.stages or contribution.answer):
            return None
        line = contribution.lines[0]
        return line.where, self._windows.hour_and_day(line.minute)[1], contribution.stages


class LeadCounter:
    """Counts leads; see `processors.leads.LeadCounter`."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def move(self, before: Counted | None, after: Counted | None, context: Context[Any]) -> None:
        """Counts `after` in place of `before`."""
        old, new = (self._facts.lead(counted) if counted is not None else () for counted in (before, after))
        lines.gather(context.gather(DELTA), old, new)


class SpendCounter:
    """Counts costs; see `processors.costs.SpendCounter`."""

    def __init__(self, facts: Facts, windows: Windows) -> None:
        self._facts = facts
        self._windows = windows

    def move(self, before: Spend | None, after: Spend | None, context: Context[Any]) -> None:
        """Counts `after` in place of `before`."""
        lines.gather(context.gather(DELTA), self._lines(before), self._lines(after))

    def _lines(self, spend: Spend | None) -> Lines:
        if spend is None:
            return ()
        day = _EPOCH_DAY + timedelta(spend.day)
        return self._facts.spend(spend, self._windows.of_day(day.year, day.month, day.day))


_EPOCH_DAY = date(1970, 1, 1)
