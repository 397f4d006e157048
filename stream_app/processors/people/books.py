"""Keeping one person's books during a commit: entries, ranks, due times, reviews, payouts, records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stream_app.domain.ids import SEPARATOR, content_digest
from stream_app.domain.money import add
from stream_app.domain.referral import ledger
from stream_app.domain.referral.buyer import Bindings, shown_person
from stream_app.domain.referral.counting import counts_of, places
from stream_app.domain.referral.facts import WALK, Walk, without_traces
from stream_app.domain.referral.fraud import Owed, Ranking, owed_to_referred, owed_to_referrer, settled
from stream_app.domain.referral.ledger import (
    APPROVED,
    ON_HOLD,
    PAID,
    PENDING,
    REJECTED,
    STATUSES,
    Entry,
    Open,
    OpenMoment,
    reward_id,
)
from stream_app.domain.referral.member import Membership
from stream_app.domain.referral.programs import Program, Rate
from stream_app.domain.referral.records import REWARDS, Reward, RewardRetraction, clawback_of, reward_of
from stream_app.domain.times import DAY_MS, MINUTE_MS
from stream_app.engine.processor import Context
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people.house import NO_SUMS, Counted, House
from stream_app.processors.people.opened import OpenEntries, next_settling
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import (
    ENTRY_ROWS,
    IDS_A_ROW,
    IP_ROWS,
    MAX_OPEN,
    PAGE_ROWS,
    Books,
    DuePage,
    IpCount,
)

_encode_record = msgspec.json.Encoder().encode
_encode_page = msgspec.msgpack.Encoder().encode
_decode_due = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class Mismatch(Exception):
    """A payout that doesn't fit the books; says why."""


class Gone(NamedTuple):
    """A walk is taken back."""

    teller: str = ""
    """The buyer, or the referrer who passed it on; empty: whoever told it."""

    def is_outdated(self, teller: str) -> bool:
        """Whether somebody else has told of the conversion since. A late event moves it, or the levels beneath, from
        one to another, and what the one takes back may overtake, or be overtaken by, what the other tells."""
        return bool(self.teller) and teller != self.teller


class Bookkeeper:
    """One commit's work on one person's books. `write` ends it."""

    def __init__(
        self,
        house: House,
        key: bytes,
        books: Books,
        memberships: tuple[Membership, ...],
        bindings: Bindings,
        context: Context[Any],
        now: int,
        *,
        erased: bool = False,
    ) -> None:
        self._person = key.decode()
        self._erased = erased
        self._books = books
        self._programs = house.programs
        self._memberships = memberships
        self._bindings = bindings
        self._grace_ms = house.grace_ms
        self._slack_ms = house.slack_ms
        self._rules_version = house.rules_version
        self._context = context
        self._now = now
        self._key = key
        self._counter = house.counter
        self._entries = Shelf(Entry, ENTRY_ROWS, key, context.rows)
        self._before: dict[str, Counted] = {}
        """Of every entry looked at: what it counted."""
        self._statuses: dict[str, str] = {}
        self._taken: set[str] = set()
        self._open = OpenEntries(books, key, context.rows)
        self._ips = Shelf(IpCount, IP_ROWS, key, context.rows)
        self._stale: set[str] = set()
        """Open entries that must be assessed anew."""
        self._unranked: dict[str, set[OpenMoment]] = {}
        """By programme: moments of open entries whose rank may be another."""

    # --- walks ---------------------------------------------------------------------------------------

    def take(self, entry_id: str, told: Walk | Gone) -> None:
        """A walk as it is told now, or that somebody has taken it back."""
        entry = self._entry(entry_id)
        walk = told if isinstance(told, Walk) else None
        if isinstance(told, Gone) and entry is not None and told.is_outdated(self._teller(entry)):
            return
        if entry is not None and walk is not None and entry.walk.erased and not walk.erased:
            return  # of somebody who was erased nothing is heard but by their pseudonym
        if entry is None or self._open_item(entry) is not None:
            if walk is not None:
                self._take_open(entry_id, entry, walk)
            elif entry is not None:
                self._remove(entry)
            return
        if walk is None:
            entry.withdrawn = "withdrawn"
        else:
            entry.walk = walk
            entry.withdrawn = walk.purchase.withdrawn
        if entry.status == PAID and not self._erased:
            self._approve_index(entry.id)
        if walk is not None:
            self._send_on(entry, entry.next)
        else:
            self._take_back_above(entry)

    def _teller(self, entry: Entry) -> str:
        """Who told of it: a buyer who was erased meanwhile does so under their new name."""
        item = self._open_item(entry)
        return item.buyer if item is not None and item.buyer and not entry.walk.chain else entry.walk.teller

    def _take_open(self, entry_id: str, entry: Entry | None, walk: Walk) -> None:
        purchase = walk.purchase
        if entry is None:
            entry = _void(entry_id, walk)
            self._entries.put(entry)
            self._before[entry_id] = Counted()
            self._statuses[entry_id] = ""
            settles = max(purchase.at + self._grace_ms, self._context.now) + MINUTE_MS
            item = Open(entry_id, purchase.at, purchase.event_id, settles, walk.program, walk.level)
            self._open.put(item)
            self._books.entries += 1
        else:
            before = self._open_item(entry)
            assert before is not None
            if walk.erased and not entry.walk.erased:
                before.buyer = walk.buyer
                walk = _as_before(walk, entry.walk)
            entry.walk = walk
            if (before.at, before.event_id) != (purchase.at, purchase.event_id):
                self._withdraw(before)
                self._open.drop(before.moment)
                before.at, before.event_id = purchase.at, purchase.event_id
                self._open.put(before)
        entry.withdrawn = purchase.withdrawn
        self._stale.add(entry_id)

    def _remove(self, entry: Entry) -> None:
        self._send_on(entry, None)
        item = self._open_item(entry)
        assert item is not None
        self._withdraw(item)
        self._open.drop(item.moment)
        self._stale.discard(entry.id)
        entry.gross = entry.paid = Decimal(0)
        entry.status = REJECTED
        self._taken.add(entry.id)
        self._books.entries -= 1

    def reassess(self) -> None:
        """Enrolments or bindings have changed: every open entry is looked at again."""
        self._stale.update(item.id for item in self._open)

    # --- open entries --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Assesses what changed, ranks what that concerns, and books what can change no more."""
        self._rank({entry_id: self._assess(self._need(entry_id)) for entry_id in sorted(self._stale)})
        self._stale.clear()
        left = len(self._open)
        if left > MAX_OPEN:
            self._context.count("referral_caps")
        for item in self._bookable(left):
            self._open.drop(item.moment)
            self._book(item)

    def _bookable(self, left: int) -> list[Open]:
        """The oldest, as far as they have settled, or are too many."""
        found = []
        if left > MAX_OPEN or 0 < next_settling(self._books) <= self._now:
            for item in self._open:
                if left <= MAX_OPEN and item.settles > self._now:
                    break
                found.append(item)
                left -= 1
        return found

    def _assess(self, entry: Entry) -> Owed | None:
        """Who is owed what, before ranks; and who is next on the way up."""
        walk = entry.walk
        program = self._programs.by_name.get(walk.program)
        owed = self._owed(walk, program)
        item = self._open_item(entry)
        assert item is not None
        wish = owed.amount if owed is not None and not owed.blocks else Decimal(0)
        currency = owed.currency if owed is not None else ""
        ip = walk.purchase.contact.ip if walk.level == 1 and wish else b""
        self._withdraw(item)
        item.wish, item.currency, item.ip = wish, currency, ip
        self._enter(item)
        self._send_on(entry, self._next(walk, program))
        return owed

    def _owed(self, walk: Walk, program: Program | None) -> Owed | None:
        if program is None:
            return None
        if not walk.level:
            return owed_to_referred(walk, program)
        return owed_to_referrer(walk, program, self._person, self._memberships, self._programs.exchange)

    def _next(self, walk: Walk, program: Program | None) -> str:
        """The next ancestor, by bindings as of the conversion; empty: the walk ends here."""
        if program is None or not walk.level or walk.level >= _levels(program) or walk.blocks:
            return ""
        bindings = self._bindings.by(walk.moment, self._programs)
        same = [b for b in bindings if b.program == walk.program]
        chosen = min(same or bindings, key=lambda b: b.moment, default=None)
        if chosen is None or chosen.referrer in (*walk.chain, self._person):
            return ""
        return chosen.referrer

    def _enter(self, item: Open) -> None:
        """It has a part in ranks from here on."""
        moments = self._unranked.setdefault(item.program, set())
        moments.add(item.moment)
        if item.ip:
            count = self._ip_count(item)
            insort(count.open, item.moment)
            moments.update(count.open[bisect_right(count.open, item.moment) :])

    def _withdraw(self, item: Open) -> None:
        """It has no part in ranks any more."""
        moments = self._unranked.setdefault(item.program, set())
        moments.add(item.moment)
        if item.ip:
            count = self._ip_count(item)
            count.open.remove(item.moment)
            moments.update(count.open[bisect_left(count.open, item.moment) :])
        item.wish, item.ip = Decimal(0), b""

    def _ip_count(self, item: Open) -> IpCount:
        name = f"{item.program}/{item.ip.hex()}"
        count = self._ips.get(name)
        if count is None:
            count = IpCount(name, 0)
            self._ips.put(count)
        return count

    def _rank(self, owed: Mapping[str, Owed | None]) -> None:
        """Ranks again what may rank otherwise. Caps and bursts depend on everything before; an ip on its own."""
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
                stale = item.id in self._stale
                if stale or (capped, holds) != (item.capped, item.holds):
                    item.capped, item.holds = capped, holds
                    entry = self._need(item.id)
                    self._state(entry, item, program, owed[item.id] if stale else self._owed(entry.walk, program))
        self._unranked.clear()

    def _ips_before(self, item: Open, program: Program) -> int:
        if not item.ip or not program.fraud.same_ip:
            return 0
        count = self._ip_count(item)
        return count.count + bisect_left(count.open, item.moment)

    def _state(self, entry: Entry, item: Open, program: Program | None, owed: Owed | None) -> None:
        """An open entry is a function of what is known: its amount, status and reasons."""
        if owed is None or program is None:
            entry.gross, entry.status, entry.reasons, entry.due = Decimal(0), REJECTED, (), 0
            entry.advocate_kind = ""
            return
        entry.kind, entry.rate, entry.currency = owed.kind, owed.rate, owed.currency
        entry.basis, entry.advocate_kind = owed.basis, owed.advocate_kind
        entry.of_profit = bool(entry.walk.level) and program.basis == "profit"
        entry.is_capped = bool(entry.walk.level) and bool(program.cap)
        notes = owed.notes
        entry.gross = owed.amount
        if item.capped is not None:
            entry.gross, notes = item.capped, (*notes, "capped")
        if owed.blocks or (item.capped is not None and not item.capped):
            entry.status, entry.reasons, entry.due = REJECTED, (*owed.blocks, *notes), 0
            return
        holds = tuple(dict.fromkeys((*owed.holds, *item.holds)))
        if self._erased:
            entry.status, entry.reasons, entry.due = ON_HOLD, (*holds, *notes, "erased"), 0
        elif holds:
            entry.status, entry.reasons = ON_HOLD, (*holds, *notes)
            entry.due = max(item.at + program.review_ms, item.at + self._slack_ms)
        else:
            entry.status, entry.reasons = PENDING, notes
            entry.due = max(item.at + program.holding_ms, item.at + self._slack_ms)

    def _book(self, item: Open) -> None:
        """From here on only refunds, time, reviews and payouts change it."""
        program = self._programs.by_name.get(item.program)
        if program is not None:
            settled(self._books.ranks, item, program)
        if item.ip:
            count = self._ip_count(item)
            count.open.remove(item.moment)
            count.count += 1
        entry = self._need(item.id)
        if item.buyer:
            purchase = without_traces(entry.walk.purchase)
            entry.walk = msgspec.structs.replace(entry.walk, buyer=item.buyer, purchase=purchase, erased=True)
            self._send_on(entry, entry.next)
        if entry.status in (PENDING, ON_HOLD) and entry.due:
            self._wait(entry)

    # --- time ----------------------------------------------------------------------------------------

    def mature(self) -> None:
        """What is due by now: holding is over, or the deadline of a review."""
        now = self._now
        while ready := [page for page in self._books.due if page.first <= now]:
            for page in ready:
                self._mature_page(page, now)

    def _mature_page(self, page: DuePage, now: int) -> None:
        waiting = self._page(page.row, _decode_due)
        later = [item for item in waiting if item[0] > now]
        if later:
            self._put_page(page.row, later)
            page.first, page.count = min(later)[0], len(later)
        else:
            self._put_page(page.row, None)
            self._books.due = [other for other in self._books.due if other is not page]
        for due, entry_id in sorted(item for item in waiting if item[0] <= now):
            entry = self._need(entry_id)
            if entry.due == due:
                self._come_due(entry)

    def _come_due(self, entry: Entry) -> None:
        program = self._programs.by_name.get(entry.walk.program)
        if entry.status == PENDING:
            self._approve(entry, entry.due)
        elif entry.status == ON_HOLD:
            entry.reasons = (*entry.reasons, "deadline")
            if program is not None and program.on_deadline == "reject":
                entry.status = REJECTED
                return
            held_until = entry.walk.purchase.at + (program.holding_ms if program is not None else 0)
            if held_until > entry.due:
                entry.status, entry.due = PENDING, held_until
                self._wait(entry)
            else:
                self._approve(entry, entry.due)

    def _approve(self, entry: Entry, at: int) -> None:
        entry.status, entry.approved_at, entry.due = APPROVED, at, at
        self._approve_index(entry.id)

    def _wait(self, entry: Entry) -> None:
        day = entry.due // DAY_MS
        books = self._books
        page = next((page for page in reversed(books.due) if page.day == day and page.count < IDS_A_ROW), None)
        if page is None:
            page = DuePage(day, entry.due, self._books.new_row(), 0)
            books.due = [*books.due, page]
        waiting = self._page(page.row, _decode_due) if page.count else []
        self._put_page(page.row, [*waiting, (entry.due, entry.id)])
        page.first, page.count = min(page.first, entry.due), page.count + 1

    def _approve_index(self, entry_id: str) -> None:
        books = self._books
        if not books.approved or books.approved_last >= IDS_A_ROW:
            books.approved = [*books.approved, self._books.new_row()]
            books.approved_last = 0
        row = books.approved[-1]
        ids = self._page(row, _decode_ids) if books.approved_last else []
        if entry_id not in ids:
            self._put_page(row, [*ids, entry_id])
            books.approved_last += 1

    # --- erasure -------------------------------------------------------------------------------------

    def adopt(self, entry: Entry) -> None:
        """Takes over an entry of somebody who goes by this name now. Nobody can be paid any more: what is not paid is
        held, and no time ends that."""
        self._entries.put(entry)
        self._before[entry.id] = self._counted(entry)
        self._statuses[entry.id] = STATUSES[entry.shown_status] if is_shown(entry) else ""
        if entry.status in (PENDING, ON_HOLD, APPROVED):
            entry.status, entry.due, entry.approved_at = ON_HOLD, 0, 0
            entry.reasons = (*entry.reasons, "erased")

    def rename(self, entry_id: str, old: str, new: str) -> bool:
        """The next ancestor of an entry goes by another name. False if that is not who comes next."""
        entry = self._entry(entry_id)
        if entry is None or entry.next not in (old, new):
            return False
        if entry.next_digest:
            self._send_on(entry, new)
        else:
            entry.next = new
        return True

    # --- reviews and payouts -------------------------------------------------------------------------

    def review(self, entry_id: str, at: int, *, approve: bool) -> str:
        """Somebody has looked at a reward. What is wrong with that; empty: done."""
        entry = self._entry(entry_id)
        if entry is None or entry_id in self._taken or not is_shown(entry):
            return "reward_id: this person has no such reward"
        is_open = self._open_item(entry) is not None
        if is_open or entry.status not in (PENDING, ON_HOLD, APPROVED):
            status = "not settled yet" if is_open else STATUSES[entry.shown_status]
            return f"reward_id: it is {status}, there is nothing to decide"
        if approve and self._erased:
            return "reward_id: its person was erased, nobody can be paid"
        if not approve:
            entry.status, entry.reasons, entry.due = REJECTED, (*entry.reasons, "rejected_by_review"), at
        elif entry.status != APPROVED:
            entry.reasons = (*entry.reasons, "approved_by_review") if entry.status == ON_HOLD else entry.reasons
            self._approve(entry, max(at, entry.walk.purchase.at + self._grace_ms + MINUTE_MS))
        return ""

    def pay(
        self, at: int, event_id: str, program_name: str, amount: Decimal, currency: str, wanted: tuple[str, ...]
    ) -> None:
        """Reconciles a payout with what was approved at its time, and books it. Raises Mismatch (semantics 46)."""
        program = self._programs.by_name[program_name]
        ids = dict.fromkeys(entry_id for row in self._books.approved for entry_id in self._page(row, _decode_ids))
        entries = [self._need(entry_id) for entry_id in ids]
        found = ledger.payable(entries, at, currency, program_name)
        if wanted:
            by_id = {
                (f"{e.id}-r{c.event_id}" if c is not None else e.id): item for item in found for e, c in [item[1:3]]
            }
            missing = [name for name in dict.fromkeys(wanted) if name not in by_id]
            if missing:
                raise Mismatch(
                    f"reward_ids: {len(missing)} of them cannot be paid: not approved, paid before, or unknown"
                )
            chosen = [by_id[name] for name in dict.fromkeys(wanted)]
        else:
            chosen = _oldest(found, amount)
        total = sum((item[3] for item in chosen), Decimal(0))
        if not chosen or total != amount:
            raise Mismatch(f"amount: {amount:f} {currency} is not what these rewards come to, {total:f} {currency}")
        least = self._programs.exchange.convert(total, currency, program.currency)
        if least is None or least < program.minimum_payout:
            raise Mismatch(f"amount: below the minimum payout of {program.minimum_payout:f} {program.currency}")
        for _, entry, clawback, _ in chosen:
            if clawback is None:
                ledger.pay(entry, at, event_id)
            else:
                entry.clawbacks = tuple(
                    msgspec.structs.replace(c, paid_at=at, payout=event_id) if c.event_id == clawback.event_id else c
                    for c in entry.clawbacks
                )
        self._forget_paid(entries)

    def _forget_paid(self, entries: list[Entry]) -> None:
        left = []
        for entry in entries:
            entry.clawbacks = ledger.clawed_back(entry)
            if entry.status == APPROVED or any(not c.paid_at for c in entry.clawbacks):
                left.append(entry.id)
        for row in self._books.approved:
            self._put_page(row, None)
        self._books.approved = []
        self._books.approved_last = 0
        for start in range(0, len(left), IDS_A_ROW):
            row = self._books.new_row()
            self._books.approved = [*self._books.approved, row]
            self._books.approved_last = len(left[start : start + IDS_A_ROW])
            self._put_page(row, left[start : start + IDS_A_ROW])

    # --- facts ---------------------------------------------------------------------------------------

    def _send_on(self, entry: Entry, person: str | None) -> None:
        """Tells the next ancestor, and nobody else any more."""
        walk = entry.walk
        person = person or ""
        if entry.next != person:
            self._take_back_above(entry)
        entry.next = person
        if person:
            body = msgspec.structs.replace(
                walk, level=walk.level + 1, chain=(*walk.chain, self._person), holds=(), notes=()
            )
            next_id = reward_id(walk.program, walk.conversion_id, walk.level + 1, person)
            letter = encode_body(Letter(next_id, body))
            digest = content_digest(letter)
            if digest != entry.next_digest:
                entry.next_digest = digest
                self._context.forward(WALK, person.encode(), letter)

    def _take_back_above(self, entry: Entry) -> None:
        """Who is next stays known: it is told again if the conversion comes back."""
        if entry.next and entry.next_digest:
            walk = entry.walk
            gone = reward_id(walk.program, walk.conversion_id, walk.level + 1, entry.next)
            back: Letter[Walk] = Letter(f"{gone}{SEPARATOR}{self._person}", None)
            self._context.forward(WALK, entry.next.encode(), encode_body(back))
            entry.next_digest = 0

    # --- records -------------------------------------------------------------------------------------

    def write(self) -> None:
        """Records that changed, sums, counters, rows."""
        for entry_id in self._before:
            entry = self._need(entry_id)
            gone = entry_id in self._taken
            was = {c.event_id for c in entry.clawbacks if c.digest}
            entry.clawbacks = () if gone else ledger.clawed_back(entry)
            self._emit(entry, gone=gone)
            for event_id in was - {c.event_id for c in entry.clawbacks}:
                self._retract(f"{entry.id}-r{event_id}")
            self._add_up(entry)
            self._gauge(entry, gone=gone)
            if gone:
                self._entries.drop(entry.id)
        self._entries.write()
        self._open.write()
        self._ips.write()

    def _gauge(self, entry: Entry, *, gone: bool) -> None:
        """For operators: rewards by status."""
        now = "" if gone or not is_shown(entry) else STATUSES[entry.shown_status]
        before = self._statuses[entry.id]
        if now != before:
            if before:
                self._context.count("rewards", before, -1)
            if now:
                self._context.count("rewards", now)

    def _emit(self, entry: Entry, *, gone: bool) -> None:
        if gone or not is_shown(entry):
            if entry.digest:
                self._retract(entry.id)
                entry.digest = 0
            return
        record = reward_of(entry, self._person, self._rules_version)
        entry.digest = self._publish(record, entry.digest)
        if entry.clawbacks:
            entry.clawbacks = tuple(
                msgspec.structs.replace(
                    c, digest=self._publish(clawback_of(entry, c, self._person, self._rules_version), c.digest)
                )
                for c in entry.clawbacks
            )

    def _publish(self, record: Reward, before: int) -> int:
        digest = content_digest(_encode_record(record))
        if digest != before:
            record.revision = self._context.revision
            self._context.emit(REWARDS, shown_person(self._person).encode(), _encode_record(record))
        return digest

    def _retract(self, record_id: str) -> None:
        user = shown_person(self._person)
        record = RewardRetraction(record_id, self._context.revision, True, False, self._rules_version, user)
        self._context.emit(REWARDS, user.encode(), _encode_record(record))
        self._context.count("retractions", REWARDS)

    def _add_up(self, entry: Entry) -> None:
        """Sums and counters get new − old (semantics 45)."""
        before, after = self._before[entry.id], self._counted(entry)
        if before == after:
            return
        for currency in {before.currency, after.currency} - {""}:
            was = before.sums if before.currency == currency else NO_SUMS
            now = after.sums if after.currency == currency else NO_SUMS
            self._books.sums[currency] = self._books.sums.get(currency, NO_SUMS).moved(was, now)
        if self._counter is not None:
            self._counter.move(entry, before, after, self._context)

    def _counted(self, entry: Entry) -> Counted:
        if entry.id in self._taken or not is_shown(entry):
            return Counted()
        walk = entry.walk
        where = places(walk.program, walk.code if walk.level == 1 else "", entry.advocate_kind, walk.level)
        return Counted(entry.currency, ledger.sums_of(entry), counts_of(entry), where)

    # --- rows ----------------------------------------------------------------------------------------

    def _entry(self, entry_id: str) -> Entry | None:
        entry = self._entries.get(entry_id)
        if entry is not None and entry_id not in self._before:
            self._statuses[entry_id] = STATUSES[entry.shown_status] if is_shown(entry) else ""
            self._before[entry_id] = self._counted(entry)
        return entry

    def _need(self, entry_id: str) -> Entry:
        entry = self._entry(entry_id)
        if entry is None:
            raise ValueError(f"people state of a person lacks the entry {entry_id}")
        return entry

    def _open_item(self, entry: Entry) -> Open | None:
        """What is known of an entry as long as it is open."""
        purchase = entry.walk.purchase
        return self._open.get((purchase.at, purchase.event_id, entry.id))

    def _page(self, row: int, decode: Any) -> Any:
        content = self._context.rows.get(self._key, PAGE_ROWS + row)
        if content is None:
            raise ValueError(f"people state of a person lacks page {row}")
        return decode(content)

    def _put_page(self, row: int, items: list[Any] | None) -> None:
        self._context.rows.put(self._key, PAGE_ROWS + row, _encode_page(items) if items is not None else None)


def next_due(books: Books, slack_ms: int) -> int:
    """When the books must be looked at next; 0: never."""
    times = [page.first for page in books.due]
    if settles := next_settling(books):
        times.append(settles)
    if books.turns:
        times.append(books.turns[0].at + slack_ms)
    return min(times, default=0)


def _void(entry_id: str, walk: Walk) -> Entry:
    return Entry(entry_id, walk, "percent", Rate(Decimal(0)), "", Decimal(0), REJECTED, (), 0)


def is_shown(entry: Entry) -> bool:
    """Whether there is anything to say about it: somebody who is owed nothing has no record."""
    if not entry.currency or not (entry.due or entry.reasons):
        return False
    # A deal that was worth nothing when it was won is nothing until it is amended.
    return not entry.rate.percent or entry.status == REJECTED or bool(entry.gross or entry.amount or entry.clawbacks)


def _as_before(walk: Walk, known: Walk) -> Walk:
    """A walk whose buyer was erased, with what the open entry still has to be judged by."""
    who = known.purchase
    purchase = msgspec.structs.replace(walk.purchase, user=who.user, client=who.client, contact=who.contact)
    return msgspec.structs.replace(walk, buyer=known.buyer, purchase=purchase, erased=False)


def _levels(program: Program) -> int:
    return max(len(program.levels), *(len(rule.levels) for rule in program.rates), 1)


def _oldest(found: list[Any], amount: Decimal) -> list[Any]:
    """All negatives, then the oldest, whole, until the amount is reached."""
    chosen: list[Any] = []
    total = Decimal(0)
    for item in found:
        if total == amount and item[3] > 0:
            break
        if total > amount and item[3] > 0:
            break
        chosen.append(item)
        total = add(total, item[3])
    return chosen


__all__ = ["Bookkeeper", "Gone", "Mismatch", "next_due"]
