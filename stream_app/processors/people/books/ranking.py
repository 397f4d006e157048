"""Ranks of open entries: caps, bursts and conversions from one ip depend on what came before in time, whatever arrived
first. Only what may rank otherwise is ranked again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal

from stream_app.domain.referral.fraud import Ranking, settled
from stream_app.domain.referral.ledger import Open, OpenMoment
from stream_app.domain.referral.programs import Program, Programs
from stream_app.engine.processor import Rows
from stream_app.processors.people.opened import OpenEntries
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import IP_ROWS, Books, IpCount


class OpenRanks:
    """One commit's view of the ranks among a person's open entries."""

    def __init__(self, programs: Programs, key: bytes, books: Books, opened: OpenEntries, rows: Rows) -> None:
        self._programs = programs
        self._books = books
        self._open = opened
        self._ips = Shelf(IpCount, IP_ROWS, key, rows)
        self._unranked: dict[str, set[OpenMoment]] = {}
        """By programme: moments of open entries whose rank may be another."""

    def enter(self, item: Open, wish: Decimal, currency: str, ip: bytes) -> None:
        """It has this part in ranks from here on."""
        self.withdraw(item)
        item.wish, item.currency, item.ip = wish, currency, ip
        if item.ip:
            count = self._ip_count(item)
            insort(count.open, item.moment)
            self._unranked[item.program].update(count.open[bisect_right(count.open, item.moment) :])

    def withdraw(self, item: Open) -> None:
        """It has no part in ranks any more."""
        moments = self._unranked.setdefault(item.program, set())
        moments.add(item.moment)
        if item.ip:
            count = self._ip_count(item)
            count.open.remove(item.moment)
            moments.update(count.open[bisect_left(count.open, item.moment) :])
        item.wish, item.ip = Decimal(0), b""

    def rank(self, stale: set[str]) -> list[Open]:
        """Ranks again what may rank otherwise. Caps and bursts depend on everything before; an ip on its own. Gives
        those that rank otherwise, and those that are stale."""
        found = []
        for name, moments in self._unranked.items():
            program = self._programs.by_name.get(name)
            if program is not None and (program.cap or program.fraud.burst):
                items = [item for item in self._open.since(min(moments)) if item.program == name]
            else:
                items = [item for moment in sorted(moments) if (item := self._open.get(moment)) is not None]
            ranking = None
            for item in items:
                capped: Decimal | None = None
                holds: tuple[str, ...] = ()
                if program is not None and item.wish:
                    if ranking is None:
                        before = self._open.before(item.moment)
                        ranking = Ranking(program, self._programs.exchange, self._books.ranks, before)
                    capped, holds = ranking.rank(item, self._ips_before(item, program))
                if item.id in stale or (capped, holds) != (item.capped, item.holds):
                    item.capped, item.holds = capped, holds
                    found.append(item)
        self._unranked.clear()
        return found

    def settle(self, item: Open) -> None:
        """It was booked: later ones build on it."""
        program = self._programs.by_name.get(item.program)
        if program is not None:
            settled(self._books.ranks, item, program)
        if item.ip:
            count = self._ip_count(item)
            count.open.remove(item.moment)
            count.count += 1

    def write(self) -> None:
        """Rows that changed."""
        self._ips.write()

    def _ip_count(self, item: Open) -> IpCount:
        name = f"{item.program}/{item.ip.hex()}"
        count = self._ips.get(name)
        if count is None:
            count = IpCount(name, 0)
            self._ips.put(count)
        return count

    def _ips_before(self, item: Open, program: Program) -> int:
        if not item.ip or not program.fraud.same_ip:
            return 0
        count = self._ip_count(item)
        return count.count + bisect_left(count.open, item.moment)
