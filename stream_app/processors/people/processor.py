"""Referral events and conversions of each person → who referred them, and the topic `referral-rewards`.

A commit, for one person:

1. What is heard is noted: purchases, answers, enrolments, walks.
2. As a buyer, the person's open purchases are decided anew; what follows for referrers is told where it differs.
3. As somebody who refers, open entries are assessed and ranked; what can change no more is booked; what is due happens.
4. Records that changed are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stream_app.domain.contacts import NO_CONTACT, ContactHasher
from stream_app.domain.events import money_of
from stream_app.domain.ids import SEPARATOR, content_digest, remembered
from stream_app.domain.referral import facts
from stream_app.domain.referral import member as members
from stream_app.domain.referral.buyer import Bindings, Buyer, Decided, Enrolment, Settled, contacts_of, walk_of
from stream_app.domain.referral.buyer import Person as Deciding
from stream_app.domain.referral.codes import Claim, normal_code
from stream_app.domain.referral.cohorts import NO_SALES, corrected, merged, sale_of
from stream_app.domain.referral.counting import standing_of
from stream_app.domain.referral.facts import (
    CLIENT,
    Alias,
    Answer,
    Binding,
    Erased,
    FirstPaid,
    Forgotten,
    Inherited,
    Moment,
    Moved,
    Purchase,
    Question,
    Renamed,
    Visit,
    Walk,
    renamed,
)
from stream_app.domain.referral.ledger import Entry, Sums, reward_id
from stream_app.domain.referral.member import Erasure, Invited, Membership
from stream_app.domain.referral.programs import Programs
from stream_app.domain.times import DAY_MS, LATEST_MS, MINUTE_MS
from stream_app.engine.processor import Context, DeadLetterReason, Decoder, Place, Rejected, Rows
from stream_app.processors.codes import CODE_KEY, CONTACT_KEY, claim_letter
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.links import PERSON_ERASED, PersonErased
from stream_app.processors.people import erasing as moving
from stream_app.processors.people import leaps
from stream_app.processors.people.books import Bookkeeper, Gone, House, Mismatch, RewardCounter, next_due
from stream_app.processors.people.erasing import Mover, is_nobody, sold_by, who_stays
from stream_app.processors.people.events import BODIES, Event, EventDecoder, Happened, Heard, fact_decoder
from stream_app.processors.people.opened import OpenEntries
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import (
    BOUND_ROWS,
    IP_ROWS,
    LEAD_ROWS,
    MAX_CAPTURED,
    MAX_CLIENTS,
    MAX_CONTACTS,
    MAX_OPEN,
    MAX_SEEN,
    SOLD_ROWS,
    Erasing,
    Heir,
    Held,
    IpCount,
    Led,
    Linked,
    Person,
    Referred,
    Sold,
    Turn,
    WalkTold,
    decode_person,
    encode_person,
)
from stream_app.processors.pseudonyms import Pseudonyms, random_names

INPUT = "referral-events"
_BUYS = frozenset({facts.CONVERSION, facts.ANSWER, facts.KNOWN, facts.INHERITED, facts.ALIAS})
"""Kinds that a person hears as a buyer."""
_NOTES = {facts.ANSWER: "answers", facts.KNOWN: "known", facts.INHERITED: "inherited"}
"""Kinds of which the last is kept by id, and where."""
_LATEST: Moment = (LATEST_MS, "")


class PeopleProcessor:
    """Folds what concerns each person in referral programmes."""

    name = "people"
    tag = b"r"
    inputs: Sequence[str] = (INPUT,)
    kinds: Sequence[str] = (*BODIES, facts.LAP)
    state_version = 1

    def __init__(
        self,
        programs: Programs,
        hasher: ContactHasher,
        *,
        grace_ms: int,
        currency: str,
        rules_version: str,
        counter: RewardCounter | None = None,
        pseudonyms: Pseudonyms = random_names(1),  # noqa: B008
    ) -> None:
        self._house = House(programs, grace_ms, currency, rules_version, counter, pseudonyms)
        self._events = EventDecoder(programs, hasher, grace_ms=grace_ms, currency=currency)

    def decoder(self, source: str) -> Decoder[Event]:
        """The decoder of `referral-events`, of a fact, or of a turn that has come."""
        if source in BODIES:
            return fact_decoder(source)
        if source == facts.LAP:
            return lambda _key, _value, _ts: Heard(source, "", None)
        return self._events

    def key_of(self, event: Event) -> bytes:
        """The user of an event whose record had no key."""
        assert isinstance(event, Happened)
        return event.user.encode()

    # --- fold ----------------------------------------------------------------------------------------

    def fold(self, key: bytes, state: Person | None, events: list[Event], context: Context[Event]) -> Person | None:
        """Takes one commit's events of a person."""
        for event in events:
            if isinstance(event, Heard) and event.kind == facts.ROUND:
                leaps.go_round(key, event.body, context)
        events = [event for event in events if not (isinstance(event, Heard) and event.kind == facts.ROUND)]
        if not events:
            return state
        person = state if state is not None else Person()
        work = _Work(self._house, key, person, context)
        if any(map(_is_go, events)):
            # What else has come is for whoever has the name then: nothing that has not been written is moved.
            events.sort(key=_is_go, reverse=True)
        for event in events:
            work.hear(event)
        work.finish()
        # Whoever only hears that there is nothing to hear any more is not kept.
        return None if (work.may_be_nobody or state is None) and is_nobody(person) else person

    def wake(self, key: bytes, state: Person, context: Context[Event]) -> Person | None:
        """Time has come for something: purchases settle, rewards are due, a payout has its turn."""
        work = _Work(self._house, key, state, context)
        if not work.begins_to_wait():
            work.finish()
        return None if work.may_be_nobody and is_nobody(state) else state

    def due(self, state: Person) -> int:
        """When time alone changes something; never while a letter goes round."""
        return 0 if state.waits else _next(state, self._house)

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Person:
        """A person as they were when saved."""
        if version != self.state_version:
            raise ValueError(f"people state version {version} is not known; this release reads {self.state_version}")
        return decode_person(payload)

    def save(self, _key: bytes, state: Person, _rows: Rows) -> bytes:
        """The person's bytes; entries and settled purchases are in rows already."""
        return encode_person(state)


class _Work:
    """One commit's work on one person."""

    def __init__(self, house: House, key: bytes, person: Person, context: Context[Any]) -> None:
        self.house = house
        self.programs = house.programs
        self.key = key
        self.name = key.decode()
        self.person = person
        self.context = context
        self.now = context.now
        self.lapped = False
        self.sold = Shelf(Sold, SOLD_ROWS, key, context.rows)
        self.referred = Shelf(Referred, BOUND_ROWS, key, context.rows)
        self.walks: dict[str, Walk | Gone] = {}
        self.members_changed = False
        self.buys = False
        """Something was heard that may change what follows from purchases and enrolments."""
        self.counts = False
        """Something else was heard that figures show."""
        self.bindings = Bindings()
        self.sales = NO_SALES
        self.adopted: list[Entry] = []
        self.renames: list[Renamed] = []
        self.may_be_nobody = False

    # --- 1: hear -------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Notes one event."""
        if isinstance(event, Happened):
            self._happened(event)
            return
        person = self.person
        self.buys = self.buys or event.kind in _BUYS
        match event.kind:
            case facts.CONVERSION:
                self._purchase(event.id, event.body)
            case facts.WALK:
                self._walk(event.id, event.body)
            case facts.ANSWER | facts.KNOWN | facts.INHERITED:
                self._noted(event)
            case facts.ALIAS:
                self._is_users(event.id, event.body)
            case facts.BOUND:
                self.counts = True
                self._bound(event.id, event.body)
            case facts.CAPTURED:
                self.buys = self.buys or bool(person.users)
                self._captured(event.id, event.body.visits if event.body is not None else ())
                while len(person.captured) > MAX_CAPTURED:
                    del person.captured[next(iter(person.captured))]
            case facts.LEAD:
                self._lead(event.id, is_mine=event.body is not None)
            case facts.ERASED | facts.FORGOTTEN | facts.MOVED | facts.RENAMED:
                self.buys = self.counts = True
                self._hear_of_erasure(event)
            case _:  # a lap
                person.waits = False
                self.lapped = self.may_be_nobody = True

    def _noted(self, event: Heard) -> None:
        """What others know. Answers that nobody waits for any more would never be forgotten."""
        person = self.person
        asked: Mapping[str, object] | None = None
        if event.kind != facts.INHERITED:
            asked = person.asked if event.kind == facts.ANSWER else person.contacts
        notes: dict[str, Any] = getattr(person, _NOTES[event.kind])
        _note(notes, event.id, event.body if asked is None or event.id in asked else None)

    def _captured(self, session: str, visits: tuple[Visit, ...]) -> None:
        """Visits of a session; the client tells their codes, to be counted: whose client it is may change later."""
        person = self.person
        if not self.name.startswith(CLIENT):
            _note(person.captured, session, visits or None)
            return
        before = {f"{session}{SEPARATOR}{v.at}": v for v in person.captured.get(session, ())}
        now = {f"{session}{SEPARATOR}{v.at}": v for v in visits}
        for name in before.keys() | now.keys():
            old, new = before.get(name), now.get(name)
            if old is not None and (new is None or new.code != old.code):
                self.context.forward(facts.VISIT, CODE_KEY + old.code.encode(), encode_body(Letter(name, None)))
            if new is not None and new != old:
                self.context.forward(facts.VISIT, CODE_KEY + new.code.encode(), encode_body(Letter(name, new)))
        _note(person.captured, session, visits or None)

    def _happened(self, event: Happened) -> None:
        person = self.person
        mark = remembered(event.event_id)
        if _is_in(person.seen, mark):
            self._again(event)
            return
        person.seen = (person.seen + mark)[-MAX_SEEN:]
        erasing = person.erasing
        match event.what:
            case Membership() as membership:
                if erasing is not None and membership.at > erasing.at:
                    self._may_come_again(membership.event_id)
                    self.context.reject(event, "bad_field", "user_id: is being erased, and new only when that is done")
                else:
                    self._membership(msgspec.structs.replace(membership, origin=tuple(self.context.origin(event))))
            case Erasure() as erasure:
                self._erase(erasure)
            case Invited() as invited:
                self.counts = True
                person.invites[invited.program] = person.invites.get(invited.program, 0) + invited.count
                if self.house.counter is not None:
                    self.house.counter.add("invites", invited.program, "", invited.at, invited.count, self.context)
            case Turn() as turn:
                placed = msgspec.structs.replace(turn, origin=tuple(self.context.origin(event)))
                person.books.turns = sorted([*person.books.turns, placed], key=lambda t: (t.at, t.event_id))

    def _again(self, event: Happened) -> None:
        """An id seen before. Within grace the smaller (time, content) stands (semantics 23), later the first."""
        self.context.count("duplicates")
        what = event.what
        if isinstance(what, Erasure) and self.person.erasing is not None:
            self._erase(what)  # which takes an earlier one only
        if isinstance(what, Membership) and what.at + self.house.slack_ms > self.context.now:
            same = next((m for m in self.person.memberships if m.event_id == what.event_id), None)
            if same is None:
                return
            placed = msgspec.structs.replace(what, origin=same.origin)
            if (placed.at, repr(placed)) < (same.at, repr(same)):
                self.person.memberships = tuple(m for m in self.person.memberships if m is not same)
                self._membership(msgspec.structs.replace(what, origin=tuple(self.context.origin(event))))
                self._unlink(same.client, same.moment)

    def _membership(self, membership: Membership) -> None:
        person = self.person
        kept = sorted([*person.memberships, membership], key=lambda m: m.moment)
        person.memberships = tuple(kept[-members.MAX_MEMBERSHIPS :])
        self.members_changed = self.buys = True
        if membership.joined:
            person.enrolling[membership.event_id] = self._settles(membership.at)
            self._link(membership.client, membership.moment)

    def _lead(self, lead: str, *, is_mine: bool) -> None:
        """A lead will tell this person of its statuses, or does not any more. A name that was drawn at random never
        changes again, so nobody who has one remembers."""
        person = self.person
        led = Shelf(Led, LEAD_ROWS, self.key, self.context.rows)
        if is_mine is (led.get(lead) is not None) or person.erased:
            return
        if is_mine:
            led.put(Led(lead))
        else:
            led.drop(lead)
            self.may_be_nobody = True
        person.leads += 1 if is_mine else -1
        led.write()

    # --- erasure -------------------------------------------------------------------------------------

    def _hear_of_erasure(self, event: Heard) -> None:
        match event.kind:
            case facts.ERASED:
                self._user_erased(event.body)
            case facts.FORGOTTEN:
                self._forgotten(event.body)
            case facts.MOVED:
                self._moved(event.id, event.body)
            case _:
                self._renamed(event.body)

    def _walk(self, name: str, walk: Walk | None) -> None:
        if walk is not None and self._was_another():
            self._point(walk.teller, walk.program, walk.conversion_id, walk.level)
        elif walk is not None:
            self.walks[name] = walk
        else:
            entry_id, _, teller = name.partition(SEPARATOR)
            gone, heard = Gone(teller), self.walks.get(entry_id)
            if not (isinstance(heard, Walk) and gone.is_outdated(heard.teller)):
                self.walks[entry_id] = gone

    def _was_another(self) -> bool:
        """Whether what referrers are told is meant for whoever had this name before."""
        person = self.person
        return bool(person.moved) and not any(m.joined for m in person.memberships)

    def _point(self, teller: str, program: str, conversion_id: str = "", level: int = 0) -> None:
        """Somebody does not know the new name of whoever had this one; they tell that, once they do."""
        body = Renamed(self.name, self.person.moved, program, conversion_id, level)
        self.context.forward(facts.RENAMED, teller.encode(), encode_body(Letter(self.name, body)))

    def _erase(self, erasure: Erasure) -> None:
        """Somebody is to be forgotten: as of now they have left all programmes; the rest waits until nothing from
        before can come any more."""
        person, at = self.person, erasure.at
        if person.erasing is not None and (person.erasing.at, person.erasing.event_id) <= (at, erasure.event_id):
            return
        later = person.erasing.event_id if person.erasing is not None else ""
        person.erasing = Erasing(at, erasure.event_id, _erased_at(at, self.house))
        undone = [m for m in person.memberships if m.at > at]
        person.memberships = tuple(m for m in person.memberships if m.at <= at)
        person.enrolling = {m.event_id: s for m in person.memberships if (s := person.enrolling.get(m.event_id))}
        for membership in undone:
            if membership.event_id != later:
                self._may_come_again(membership.event_id)
            self._unlink(membership.client, membership.moment)
        for program in self.programs.by_name:
            self._membership(Membership(at, erasure.event_id, program, joined=False))

    def _mind_erasure(self) -> None:
        """Once all from before has settled: others forget the person's clients first, so that nothing more is told of
        what they did. Whoever buys without end is not waited for."""
        person, now = self.person, self.now
        erasing, books = person.erasing, person.books
        if erasing is None or not erasing.due:
            return
        first = _erased_at(erasing.at, self.house)
        if now < first:
            return
        waits = any(turn.at <= erasing.at for turn in books.turns) or bool(person.held or person.enrolling)
        if waits and erasing.due == first:  # a day from now on: time may have leapt
            erasing.due = now + DAY_MS
        if waits and now < erasing.due:
            return
        erasing.due = 0
        if erasing.listed:
            self._go()
            return
        clients: dict[str, list[str]] = {client: [] for client in person.clients}
        clients.update({name.removeprefix(CLIENT): [] for name in person.inherited})
        self.sold.write()
        for sold in sold_by(self.key, self.context.rows):
            if sold.purchase.client and not sold.purchase.status:
                clients.setdefault(sold.purchase.client, []).append(sold.id)
        body = PersonErased({client: tuple(names) for client, names in sorted(clients.items())})
        self.context.forward(PERSON_ERASED, self.key, encode_body(Letter(self.name, body)))

    def _user_erased(self, told: Erased) -> None:
        """The user of this client goes by another name, and the client follows."""
        person = self.person
        if told.old in person.users:
            person.users[told.new] = person.users.pop(told.old)
        self.context.forward(facts.INHERITED, told.old.encode(), encode_body(Letter(self.name, None)))
        if person.erasing is None:
            # By the time of its own task, which may be behind: what it bought before has to settle.
            person.erasing = Erasing(told.at, "", _erased_at(told.at, self.house), listed=True)

    def _forgotten(self, told: Forgotten | None) -> None:
        erasing = self.person.erasing
        if erasing is None or erasing.due:
            return
        if told is None:
            self._move()
            return
        if told.done:
            erasing.waiting = tuple(client for client in erasing.waiting if client not in told.clients)
        else:
            erasing.listed = True
            erasing.clients = erasing.waiting = told.clients
        if erasing.listed and not erasing.waiting:
            self._go()

    def _go(self) -> None:
        """By a letter to itself, which is heard before anything else in its commit: so a record that is taken back is
        not written there as well."""
        self.context.forward(facts.FORGOTTEN, self.key, encode_body(Letter("", None)))

    def _move(self) -> None:
        person, erasing = self.person, self.person.erasing
        assert erasing is not None
        for name, held in list(person.held.items()):
            if held.purchase.status:  # its lead will tell the new name
                self._tell(held, {}, {})
                del person.held[name]
        new = self.house.pseudonyms(self.key)
        until = max(self.context.now, self.now) + DAY_MS
        if not Mover(self.key, person, new, erasing.at, self.house.rules_version, self.context).move():
            new, until = person.moved, person.moved_until  # of whoever had the name before, if anybody
            self.may_be_nobody = True
        _become(person, who_stays(person, new, until))
        self.sold = Shelf(Sold, SOLD_ROWS, self.key, self.context.rows)
        self.referred = Shelf(Referred, BOUND_ROWS, self.key, self.context.rows)
        self.context.count("erasures")

    def _moved(self, what: str, told: Moved) -> None:
        """What a pseudonym is given."""
        person = self.person
        person.erased = told.erased
        match what:
            case moving.ENTRY:
                self.adopted.extend(moving.decode_entries(told.content))
            case moving.SOLD:
                for sold in moving.decode_sold(told.content):
                    self.sold.put(sold)
                    self._tell(sold, *self._follows(sold.id, sold.purchase, sold.decided))
            case moving.IPS:
                ips = Shelf(IpCount, IP_ROWS, self.key, self.context.rows)
                for count in moving.decode_ips(told.content):
                    ips.put(count)
                ips.write()
            case moving.REFERRED:
                for referred in moving.decode_referred(told.content):
                    self.referred.put(referred)
            case _:
                rest = decode_person(told.content)
                opened, rest.books.open = rest.books.open, []
                entries = OpenEntries(rest.books, self.key, self.context.rows)
                for item in opened:
                    entries.put(item)
                entries.write()
                for currency, sums in person.books.sums.items():
                    rest.books.sums[currency] = rest.books.sums.get(currency, Sums()).moved(Sums(), sums)
                _become(person, rest)

    def _renamed(self, told: Renamed) -> None:
        """Somebody whom this person names goes by another name."""
        person, old, new = self.person, told.old, told.new
        person.settled.bindings = renamed(person.settled.bindings, old, new)
        if old in person.inherited:
            person.inherited[new] = person.inherited.pop(old)
        person.clients = {client: kept for client, kept in person.clients.items() if CLIENT + client != old}
        for name, inherited in person.inherited.items():
            bindings = renamed(inherited.bindings, old, new)
            person.inherited[name] = msgspec.structs.replace(inherited, bindings=bindings)
        for code, answer in person.answers.items():
            claims = tuple(msgspec.structs.replace(c, user=new) if c.user == old else c for c in answer.claims)
            person.answers[code] = Answer(claims)
        for program, bound in person.bound_told.items():
            if bound.key == old:
                person.bound_told[program] = WalkTold(bound.id, new, 0)
                self.context.forward(facts.BOUND, old.encode(), encode_body(Letter(bound.id, None)))
        for user in person.users:
            body = Renamed(old, new)
            self.context.forward(facts.RENAMED, user.encode(), encode_body(Letter(old, body)))
        if told.level > 1:
            self.renames.append(told)
        elif not self._tells_new(told):
            self._not_here(told)

    def _tells_new(self, told: Renamed) -> bool:
        """Tells the new name of a conversion; False if that has to do with somebody else."""
        if not told.conversion_id or told.conversion_id in self.person.held:
            return bool(told.conversion_id)
        sold = self.sold.get(told.conversion_id)
        if sold is None or not any(walk.key in (told.old, told.new) for walk in sold.told):
            return False
        sold.decided = tuple(
            msgspec.structs.replace(d, referrer=told.new) if d.referrer == told.old else d for d in sold.decided
        )
        self._tell(sold, *self._follows(sold.id, sold.purchase, sold.decided))
        return True

    def _not_here(self, told: Renamed) -> None:
        """Whoever had this name before may have told of it. If nobody did, it was taken back meanwhile."""
        if self.person.moved:
            letter = encode_body(Letter(told.old, told))
            self.context.forward(facts.RENAMED, self.person.moved.encode(), letter)
            if told.program and not told.conversion_id:
                gone = f"{self.name}{SEPARATOR}{told.program}"
                self.context.forward(facts.BOUND, told.new.encode(), encode_body(Letter(gone, None)))
        elif told.conversion_id:
            name = reward_id(told.program, told.conversion_id, told.level, told.new)
            self.context.forward(facts.WALK, told.new.encode(), encode_body(Letter(name, None)))

    # --- 1: purchases --------------------------------------------------------------------------------

    def _purchase(self, name: str, purchase: Purchase | None) -> None:
        person = self.person
        held = person.held.get(name)
        if held is None:
            sold = self.sold.get(name)
            if sold is not None:
                self._sold(sold, purchase)
                return
            if purchase is None or self._is_of_another(purchase):
                return
            person.held[name] = Held(_compared(purchase), self._settles(purchase.at))
        elif purchase is None:
            self._tell(held, {}, {})
            del person.held[name]
            self._unlink(held.purchase.client, held.purchase.moment)
            self.may_be_nobody = True
        else:
            before, held.purchase = held.purchase, _compared(purchase)
            if (before.client, before.moment) != (purchase.client, purchase.moment):
                self._unlink(before.client, before.moment)
        if purchase is not None:
            self._link(purchase.client, purchase.moment)

    def _is_of_another(self, purchase: Purchase) -> bool:
        """A status of a lead that has yet to hear the name by which its person goes now: it will tell that."""
        person = self.person
        if not purchase.lead or person.erased:
            return False
        if person.erasing is not None and not person.erasing.due:
            return True
        return Shelf(Led, LEAD_ROWS, self.key, self.context.rows).get(purchase.lead) is None

    def _sold(self, sold: Sold, purchase: Purchase | None) -> None:
        """A settled purchase was refunded, or withdrawn. How it was decided stays."""
        self.person.sales = corrected(self.person.sales, sale_of(sold.purchase), sale_of(purchase))
        if purchase is None:
            self._tell(sold, {}, {})
            self.sold.drop(sold.id)
            return
        sold.purchase = _sold(_compared(purchase), sold.decided)
        self._tell(sold, *self._follows(sold.id, sold.purchase, sold.decided))

    def _link(self, client: str, moment: Moment) -> None:
        """Something says that the client is this user's: it is told since when, and says what it did before being
        known."""
        clients = self.person.clients
        linked = clients.get(client)
        if linked is None and (not client or len(clients) >= MAX_CLIENTS or self.name.startswith(CLIENT)):
            return
        if linked is None or moment < linked.since:
            clients[client] = Linked(moment, linked.settled if linked is not None else None)
            self._alias(client, Alias(moment))

    def _unlink(self, client: str, moment: Moment) -> None:
        """What said so does not stand. Unless something else does, the client is no more this user's."""
        person = self.person
        linked = person.clients.get(client)
        if linked is None or linked.since != moment or linked.settled == moment:
            return
        moments = [held.purchase.moment for held in person.held.values() if held.purchase.client == client]
        moments += [m.moment for m in person.memberships if m.joined and m.client == client]
        if linked.settled is not None:
            moments.append(linked.settled)
        if not moments:
            del person.clients[client]
            self._alias(client, None)
        elif (since := min(moments)) != moment:
            person.clients[client] = Linked(since, linked.settled)
            self._alias(client, Alias(since))

    def _link_settles(self, client: str, moment: Moment) -> None:
        """What says that the client is this user's can be taken back no more."""
        linked = self.person.clients.get(client)
        if linked is not None and (linked.settled is None or moment < linked.settled):
            self.person.clients[client] = Linked(linked.since, moment)

    def _alias(self, client: str, alias: Alias | None) -> None:
        self.context.forward(facts.ALIAS, (CLIENT + client).encode(), encode_body(Letter(self.name, alias)))

    def _is_users(self, user: str, alias: Alias | None) -> None:
        """As a client: since when it is a user's, or that it is not after all."""
        users = self.person.users
        heir = users.get(user)
        if alias is None:
            if heir is not None and heir.told:
                self.context.forward(facts.INHERITED, user.encode(), encode_body(Letter(self.name, None)))
            users.pop(user, None)
        elif heir is not None or len(users) < MAX_CLIENTS:
            users[user] = Heir(alias.since, heir.told if heir is not None else 0)

    def _settles(self, at: int) -> int:
        return max(at + self.house.grace_ms, self.context.now) + MINUTE_MS

    # --- 2: buy --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything that follows from what was heard, and from the time."""
        self.begins_to_wait()
        if self.person.waits and (due := _next(self.person, self.house)):
            self.now = min(self.now, due - 1)  # time stands still
        self._decide()
        self._ask()
        if self.buys:  # time alone changes nothing of this
            self._contacts()
            self._claims()
            self._bequeath()
            self._tell_bound()
        if self.buys or self.counts:
            self._count()
        self._books()
        self._mind_erasure()
        self.sold.write()
        self.referred.write()
        person = self.person
        if person.moved and person.moved_until <= self.now:
            person.moved, person.moved_until = "", 0
            self.may_be_nobody = True

    def begins_to_wait(self) -> bool:
        """After a leap of time, for what is on its way."""
        due = _next(self.person, self.house)
        if not due or self.now - due <= MINUTE_MS or self.person.waits or self.lapped:
            return False
        self.person.waits = True
        leaps.wait(self.key, self.context)
        return True

    def _decide(self) -> None:
        person, now = self.person, self.now
        if not (person.held or person.enrolling or person.inherited):
            self.bindings, self.first_paid = Bindings(person.settled.bindings), person.settled.first_paid
            self.sales = person.sales
            return
        steps: list[tuple[Moment, str, Held | Membership]] = [
            (held.purchase.moment, name, held) for name, held in person.held.items()
        ]
        joined = [m for m in person.memberships if m.event_id in person.enrolling]
        steps.extend((m.moment, m.event_id, m) for m in joined)
        steps.sort(key=lambda step: step[:2])
        buyer = Buyer(self.programs, self._answers(), self._deciding(), person.settled)
        early = len(person.held) - MAX_OPEN
        settling = True
        for _, name, step in steps:
            if isinstance(step, Held):
                erasing = person.erasing
                if erasing is not None and step.purchase.status and step.purchase.at > erasing.at:
                    # A lead goes on. Whether it is told before or behind the new name, their contacts have no say.
                    step.purchase = msgspec.structs.replace(step.purchase, contact=NO_CONTACT)
                decided = buyer.decide(step.purchase)
                self._tell(step, *self._follows(name, step.purchase, decided))
                settling = settling and (step.settles <= now or early > 0)
                if settling:
                    early -= 1
                    self._keep_sold(name, step, decided)
            else:
                buyer.enrol(Enrolment(step.at, step.event_id), self._visits(step.moment))
                settling = settling and person.enrolling[step.event_id] <= now
                if settling:
                    del person.enrolling[step.event_id]
            if settling:
                person.settled = buyer.state.copied()
        self.bindings = buyer.bindings
        self.first_paid = buyer.state.first_paid
        self.sales = merged(person.sales, *(sale_of(held.purchase) for held in person.held.values()))

    def _answers(self) -> dict[str, tuple[Claim, ...]]:
        return {code: answer.claims for code, answer in self.person.answers.items()}

    def _deciding(self) -> Deciding:
        person = self.person
        return Deciding(
            self.name,
            {contact: (known.at, known.event_id) for contact, known in person.known.items()},
            tuple(person.inherited[client] for client in sorted(person.inherited)),
        )

    def _visits(self, moment: Moment) -> list[Visit]:
        """Captured codes, as far as they are this person's by then."""
        person = self.person
        visits = [v for group in person.captured.values() for v in group]
        visits.extend(v for i in person.inherited.values() if i.since <= moment for v in i.visits)
        return sorted(set(visits), key=lambda v: (v.at, v.code, v.flags))

    def _follows(
        self, name: str, purchase: Purchase, decided: tuple[Decided, ...]
    ) -> tuple[dict[str, tuple[str, Walk]], dict[str, Walk]]:
        """(walks for referrers, by reward id; this person's own rewards)."""
        walks, own = {}, {}
        for one in decided:
            walk = walk_of(name, purchase, one, self.name, erased=bool(self.person.erased))
            walks[reward_id(one.program, name, 1, one.referrer)] = one.referrer, walk
            program = self.programs.by_name.get(one.program)
            if one.first and not one.blocks and program is not None and program.referred is not None:
                own[reward_id(one.program, name, 0, self.name)] = msgspec.structs.replace(walk, level=0)
        return walks, own

    def _tell(self, record: Held | Sold, walks: dict[str, tuple[str, Walk]], own: dict[str, Walk]) -> None:
        """Sends walks that differ from what was told, and takes back those that are gone."""
        before = {told.id: told for told in record.told}
        now = []
        for name, (referrer, walk) in walks.items():
            letter = encode_body(Letter(name, walk))
            told = before.pop(name, None)
            digest = content_digest(letter)
            if told is None or told.digest != digest:
                self.context.forward(facts.WALK, referrer.encode(), letter)
            now.append(WalkTold(name, referrer, digest))
        for name, walk in own.items():
            told = before.pop(name, None)
            digest = content_digest(encode_body(walk))
            if told is None or told.digest != digest:
                self.walks[name] = walk
            now.append(WalkTold(name, "", digest))
        for gone in before.values():
            if gone.key:
                back: Letter[Walk] = Letter(f"{gone.id}{SEPARATOR}{self.name}", None)
                self.context.forward(facts.WALK, gone.key.encode(), encode_body(back))
            else:
                self.walks[gone.id] = Gone()
        record.told = tuple(now)

    def _keep_sold(self, name: str, held: Held, decided: tuple[Decided, ...]) -> None:
        person = self.person
        del person.held[name]
        purchase = held.purchase
        self._link_settles(purchase.client, purchase.moment)
        if purchase.paid:
            for contact in contacts_of(purchase):
                first = person.paid_by.get(contact)
                if (first is None and len(person.paid_by) < MAX_CONTACTS) or (
                    first is not None and purchase.moment < first
                ):
                    person.paid_by[contact] = purchase.moment
            person.sales = merged(person.sales, sale_of(purchase))
        if decided or purchase.paid:
            self.sold.put(Sold(name, _sold(purchase, decided), decided, held.told))

    # --- what others are told ------------------------------------------------------------------------

    def _ask(self) -> None:
        """Asks whose the codes are that open purchases and enrolments depend on."""
        person = self.person
        if not (person.held or person.enrolling or person.asked):
            return
        wanted: dict[str, int] = {}
        for held in person.held.values():
            purchase = held.purchase
            for code in (*purchase.codes, *(visit.code for visit in purchase.visits)):
                wanted[code] = max(wanted.get(code, 0), purchase.at)
        if person.enrolling:
            latest = max(m.moment for m in person.memberships if m.event_id in person.enrolling)
            for visit in self._visits(latest):
                wanted[visit.code] = max(wanted.get(visit.code, 0), latest[0])
        for code, until in wanted.items():
            if person.asked.get(code, -1) < until:
                person.asked[code] = until
                answer = person.answers.get(code)
                question = Question(until, answer.digest if answer is not None else 0)
                self.context.forward(facts.QUESTION, CODE_KEY + code.encode(), encode_body(Letter(self.name, question)))
        for code in [code for code in person.asked if code not in wanted]:
            del person.asked[code]
            person.answers.pop(code, None)

    def _contacts(self) -> None:
        """Tells each e-mail and telephone when this person first paid with it."""
        person = self.person
        first: dict[str, Moment] = dict(person.paid_by)
        asking: set[str] = set()
        concerned: set[str] = set()
        for held in person.held.values():
            purchase = held.purchase
            for contact in contacts_of(purchase):
                concerned.add(contact)
                if purchase.paid and (contact not in first or purchase.moment < first[contact]):
                    first[contact] = purchase.moment
                if purchase.codes or purchase.visits:
                    asking.add(contact)
        for contact in sorted(concerned | set(person.contacts)):
            told = person.contacts.get(contact)
            at, event_id = first.get(contact, (0, ""))
            now = FirstPaid(at, event_id, contact in asking or (told is not None and told.asks))
            if now == told or (not now.asks and not now.at and told is None):
                continue
            if told is None and len(person.contacts) >= MAX_CONTACTS:
                continue
            person.contacts[contact] = now
            key = CONTACT_KEY + contact.encode()
            self.context.forward(facts.CONTACT, key, encode_body(Letter(self.name, now)))

    def _claims(self) -> None:
        """Tells codes who enrolled with them."""
        if not self.members_changed:
            return
        person = self.person
        claims = members.claims_of(person.memberships, self.name)
        now = {f"{code}\x1f{event_id}": claim for (code, event_id), claim in claims.items()}
        origins = {m.event_id: m.origin for m in person.memberships}
        for name, claim in now.items():
            if person.claimed.get(name) != claim:
                code = name.partition("\x1f")[0]
                letter = claim_letter(code, claim, origins[claim.event_id])
                self.context.forward(facts.CLAIM, CODE_KEY + code.encode(), letter)
        for name, claim in person.claimed.items():
            if name not in now:
                code = name.partition("\x1f")[0]
                self.context.forward(facts.CLAIM, CODE_KEY + code.encode(), claim_letter(code, claim, (), gone=True))
        person.claimed = now

    def _bequeath(self) -> None:
        """Tells the users of this client what was done before they were known."""
        person = self.person
        if not person.users or person.erasing is not None or person.erased:
            return
        first = min(person.users)
        visits = tuple(self._visits(_LATEST))
        for user, heir in person.users.items():
            sales = self.sales if user == first else NO_SALES
            body = Inherited(heir.since, self.bindings.made, self.first_paid, visits, sales)
            letter = encode_body(Letter(self.name, body))
            digest = content_digest(letter)
            if heir.told != digest and (heir.told or body != Inherited(heir.since)):
                person.users[user] = Heir(heir.since, digest)
                self.context.forward(facts.INHERITED, user.encode(), letter)

    def _standing(self) -> tuple[Binding, ...]:
        """Bindings as they are after all that is known."""
        return self.bindings.by(_LATEST, self.programs)

    def _tell_bound(self) -> None:
        """Tells referrers whom they referred: not what was inherited, which the client has told already."""
        person = self.person
        inherited = {b for i in person.inherited.values() for b in i.bindings}
        now = {b.program: b for b in self._standing() if b not in inherited}
        for program, told in list(person.bound_told.items()):
            binding = now.get(program)
            if binding is None or binding.referrer != told.key:
                self.context.forward(facts.BOUND, told.key.encode(), encode_body(Letter(told.id, None)))
                del person.bound_told[program]
        for program, binding in now.items():
            name = f"{self.name}{SEPARATOR}{program}"
            letter = encode_body(Letter(name, binding))
            digest = content_digest(letter)
            before = person.bound_told.get(program)
            if before is None or before.digest != digest:
                person.bound_told[program] = WalkTold(name, binding.referrer, digest)
                self.context.forward(facts.BOUND, binding.referrer.encode(), letter)

    def _bound(self, name: str, binding: Binding | None) -> None:
        """Somebody was referred by this person, or was not after all."""
        person, counter = self.person, self.house.counter
        before = self.referred.get(name)
        if binding is not None and self._was_another():
            teller, _, program = name.rpartition(SEPARATOR)
            self._point(teller, program)
            return
        for known, sign in ((before.binding if before is not None else None, -1), (binding, 1)):
            if known is not None:
                number = person.bound.get(known.program, 0) + sign
                _note(person.bound, known.program, number or None)
                if counter is not None:
                    counter.add("referred", known.program, known.code, known.at, sign, self.context)
        if binding is not None:
            self.referred.put(Referred(name, binding))
        else:
            self.referred.drop(name)

    def _count(self) -> None:
        """What this person counts for besides rewards."""
        counter, person = self.house.counter, self.person
        if counter is None:
            return
        # What a client did before being known is counted with its user.
        sales = NO_SALES if person.users else merged(self.sales, *(i.sales for i in person.inherited.values()))
        referred_in = {binding.program for binding in self._standing()}
        standing = standing_of(
            person.memberships, self.programs.by_name, person.bound, person.invites, sales, referred_in
        )
        before = person.counted
        if standing != before:
            person.counted = standing
            if (was := before.cells()) != (now := standing.cells()):
                counter.person(was, now, self.context)
            if (had := before.brought()) != (has := standing.brought()):
                counter.revenue(had, has, self.context)

    # --- 3: books ------------------------------------------------------------------------------------

    def _books(self) -> None:
        person, now = self.person, self.now
        books = person.books
        if person.erasing is not None:
            now = min(now, _erased_at(person.erasing.at, self.house))  # what is not decided by then never is
        turns = [turn for turn in books.turns if turn.at + self.house.slack_ms <= now]
        if not (self.walks or turns or books.open or books.pages or books.due or self.adopted or self.renames):
            return
        keeper = Bookkeeper(
            self.house,
            self.key,
            books,
            person.memberships,
            self.bindings,
            self.context,
            now,
            erased=bool(person.erased),
        )
        for entry in self.adopted:
            keeper.adopt(entry)
        for told in self.renames:
            entry_id = reward_id(told.program, told.conversion_id, told.level - 1, self.name)
            if not keeper.rename(entry_id, told.old, told.new):
                self._not_here(told)
        for name, walk in self.walks.items():
            keeper.take(name, walk)
        grounds = content_digest(encode_body((self.bindings, person.memberships)))
        if grounds != books.grounds:
            books.grounds = grounds
            keeper.reassess()
        keeper.settle()
        keeper.mature()
        for turn in turns:
            self._take_turn(keeper, turn)
        books.turns = books.turns[len(turns) :]
        keeper.write()

    def _take_turn(self, keeper: Bookkeeper, turn: Turn) -> None:
        """A review or payout whose turn has come."""
        record = members.read_referral_event(turn.record)
        erasing = self.person.erasing
        if erasing is not None and turn.at > erasing.at:
            reason: DeadLetterReason = "payout_mismatch" if record.type == "payout" else "bad_field"
            self._bury(turn, reason, "user_id: was erased before")
            return
        if record.type != "payout":
            problem = keeper.review(record.reward_id or "", turn.at, approve=record.type == "approve")
            if problem:
                self._bury(turn, "bad_field", problem)
            return
        money = money_of(record.amount, record.currency, self.house.currency, "amount")
        assert money is not None  # it was checked when it came
        try:
            keeper.pay(turn.at, record.event_id, record.program, money.amount, money.currency, record.reward_ids or ())
        except Mismatch as mismatch:
            self._bury(turn, "payout_mismatch", str(mismatch))

    def _bury(self, turn: Turn, reason: DeadLetterReason, detail: str) -> None:
        """It comes to nothing: its record becomes a dead letter, and may be sent again."""
        self._may_come_again(turn.event_id)
        self.context.bury(INPUT, self.key, turn.record, Place(*turn.origin), reason, detail)

    def _may_come_again(self, event_id: str) -> None:
        """It came to nothing: sent once more, it is no duplicate."""
        person, mark = self.person, remembered(event_id)
        marks = (person.seen[start : start + len(mark)] for start in range(0, len(person.seen), len(mark)))
        person.seen = b"".join(other for other in marks if other != mark)


def _become(person: Person, other: Person) -> None:
    """Everything of a person in place of what was there."""
    for field in Person.__struct_fields__:
        setattr(person, field, getattr(other, field))


def _next(person: Person, house: House) -> int:
    """When time changes something next; 0: never."""
    times = [held.settles for held in person.held.values()]
    times.extend(person.enrolling.values())
    erasing = person.erasing
    waits = erasing is not None and erasing.due != _erased_at(erasing.at, house)
    if not waits and (books := next_due(person.books, house.slack_ms)):
        times.append(books)
    if erasing is not None and erasing.due:
        times.append(erasing.due)
    if person.moved:
        times.append(person.moved_until)
    return min(times, default=0)


def _is_go(event: Event) -> bool:
    """Whether a person tells themselves to go."""
    return isinstance(event, Heard) and event.kind == facts.FORGOTTEN and event.body is None


def _erased_at(at: int, house: House) -> int:
    """When an erasure is carried out: what counts up to its time has arrived, and has settled with everybody whom it
    concerns."""
    return at + 2 * house.slack_ms


def _compared(purchase: Purchase) -> Purchase:
    """With codes as they are compared."""
    codes = tuple(code for text in purchase.codes if (code := normal_code(text)))
    visits = tuple(
        msgspec.structs.replace(visit, code=code) for visit in purchase.visits if (code := normal_code(visit.code))
    )
    return msgspec.structs.replace(purchase, codes=codes, visits=visits, lead="")


def _sold(purchase: Purchase, decided: tuple[Decided, ...]) -> Purchase:
    """What of a settled purchase is kept: of one that concerned nobody, what it still brings, for a refund must move a
    customer's revenue by the difference, and what erasure must know to have its record taken back."""
    if decided:
        return msgspec.structs.replace(purchase, codes=(), visits=())
    kept = Purchase(0, "", "", purchase.status, client=purchase.client)
    for currency, left in sale_of(purchase).revenue.items():
        kept = msgspec.structs.replace(kept, value=left, currency=currency, paid=True)
    return kept


def _note(notes: dict[str, Any], name: str, body: Any) -> None:
    if body is None:
        notes.pop(name, None)
    else:
        notes[name] = body


def _is_in(marks: bytes, mark: bytes) -> bool:
    index = marks.find(mark)
    while index >= 0 and index % len(mark):
        index = marks.find(mark, index + 1)
    return index >= 0


__all__ = ["Event", "PeopleProcessor", "Rejected", "Settled"]
