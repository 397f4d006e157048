"""Erasure: everything of a person goes to a pseudonym, and whoever names them is told (semantics 50, decision 0021).

Here is what is sent, how it is rewritten, and how the pseudonym takes it; `erasing.py` says when. A letter for the
pseudonym is written in the transaction that sends everybody else the new name, so whatever they answer comes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from stream_app.domain.contacts import NO_CONTACT
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.referral import facts
from stream_app.domain.referral.buyer import shown_person
from stream_app.domain.referral.facts import CLIENT, Erased, Moved, Renamed, renamed, without_traces
from stream_app.domain.referral.ledger import Entry, reward_id
from stream_app.domain.referral.records import REWARDS, RewardRetraction
from stream_app.domain.times import DAY_MS
from stream_app.engine.processor import Context, Rows
from stream_app.processors.codes import CODE_KEY, CONTACT_KEY
from stream_app.processors.facts import Letter, encode_body
from stream_app.processors.people import telling
from stream_app.processors.people.desk import Desk
from stream_app.processors.people.house import NO_SUMS
from stream_app.processors.people.opened import OpenEntries
from stream_app.processors.people.shelf import Shelf
from stream_app.processors.people.state import (
    BOUND_ROWS,
    ENTRY_ROWS,
    IP_ROWS,
    LEAD_ROWS,
    ROWS_OF_A_KIND,
    SOLD_ROWS,
    Books,
    IpCount,
    Led,
    Person,
    Referred,
    Sold,
    WalkTold,
    decode_person,
    encode_person,
    is_nobody,
)

Content = Literal["entry", "sold", "ips", "referred", "rest"]
"""What a letter to the pseudonym brings."""
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_sold = msgspec.msgpack.Decoder(list[Sold]).decode
_decode_ips = msgspec.msgpack.Decoder(list[IpCount]).decode
_decode_referred = msgspec.msgpack.Decoder(list[Referred]).decode
_decode_led = msgspec.msgpack.Decoder(list[Led]).decode
_encode_record = msgspec.json.Encoder().encode


def move(desk: Desk, at: int) -> None:
    """Whoever has the name is erased as of a time, and goes. What has not settled, and what comes later, is somebody
    new's."""
    person = desk.person
    for name, held in list(person.held.items()):
        if held.purchase.status:  # its lead will tell the new name
            telling.take_back(desk, held)
            del person.held[name]
    new, until = desk.house.pseudonyms(desk.key), desk.context.now + DAY_MS
    if not Mover(desk.key, person, new, at, desk.house.rules_version, desk.context).move():
        new, until = person.moved, person.moved_until  # of whoever had the name before, if anybody
        desk.may_be_nobody = True
    stays = Person(held=person.held, seen=person.seen, waits=person.waits, moved=new, moved_until=until)
    stays.books.turns = person.books.turns
    _become(person, stays)
    desk.open_shelves()
    desk.context.count("erasures")


def hear(desk: Desk, what: str, told: Moved) -> None:
    """What a pseudonym is given."""
    person = desk.person
    person.erased = told.erased
    match what:
        case "entry":
            desk.adopted.extend(_decode_entries(told.content))
        case "sold":
            for sold in _decode_sold(told.content):
                desk.sold.put(sold)
                telling.tell_sold(desk, sold)
        case "ips":
            ips = Shelf(IpCount, IP_ROWS, desk.key, desk.context.rows)
            for count in _decode_ips(told.content):
                ips.put(count)
            ips.write()
        case "referred":
            for referred in _decode_referred(told.content):
                desk.referred.put(referred)
        case _:
            _take_rest(desk, decode_person(told.content))


def _take_rest(desk: Desk, rest: Person) -> None:
    opened, rest.books.open = rest.books.open, []
    entries = OpenEntries(rest.books, desk.key, desk.context.rows)
    for item in opened:
        entries.put(item)
    entries.write()
    for currency, sums in desk.person.books.sums.items():
        rest.books.sums[currency] = rest.books.sums.get(currency, NO_SUMS).moved(NO_SUMS, sums)
    _become(desk.person, rest)


def _become(person: Person, other: Person) -> None:
    """Everything of a person in place of what was there."""
    for field in Person.__struct_fields__:
        setattr(person, field, getattr(other, field))


class Mover:
    """Sends all that is kept of a person to their pseudonym. One commit's work."""

    def __init__(
        self, key: bytes, person: Person, new: str, at: int, rules_version: str, context: Context[Any]
    ) -> None:
        self._key = key
        self._old, self._new = key.decode(), new
        self._person = person
        self._at = at
        self._rules_version = rules_version
        self._context = context
        self._ids: dict[str, str] = {}
        """Entries' ids before and after."""
        self._open = list(OpenEntries(person.books, key, context.rows))

    def move(self) -> bool:
        """Rows first, then the rest: the pseudonym is at work once it has that. False if there is nothing to keep, and
        nobody to go by the new name."""
        rows: tuple[tuple[int, Callable[[bytes], None]], ...] = (
            (ENTRY_ROWS, self._entries),
            (SOLD_ROWS, self._sold),
            (IP_ROWS, self._ips),
            (BOUND_ROWS, self._referred),
            (LEAD_ROWS, self._leads),
        )
        numbers = self._context.rows.numbers(self._key)
        for number in numbers:
            for first, move in rows:
                if first <= number < first + ROWS_OF_A_KIND:
                    content = self._context.rows.get(self._key, number)
                    assert content is not None
                    move(content)
            self._context.rows.put(self._key, number, None)
        rest = self._rest()
        is_kept = bool(numbers) or not is_nobody(msgspec.structs.replace(rest, erased=0))
        if is_kept:
            self._send("rest", encode_person(rest))
        self._tell_others()
        return is_kept

    # --- rows ----------------------------------------------------------------------------------------

    def _entries(self, row: bytes) -> None:
        entries = _decode_entries(row)
        for entry in entries:
            self._retract(entry)
            teller = entry.walk.teller
            self._rewrite(entry)
            walk = entry.walk
            if walk.level and teller != self._old:
                self._rename(teller, walk.program, walk.conversion_id, walk.level)
        self._send("entry", encode_body(entries))

    def _rewrite(self, entry: Entry) -> None:
        walk = entry.walk
        if walk.buyer == self._old:
            purchase = without_traces(walk.purchase)
            walk = msgspec.structs.replace(walk, buyer=self._new, purchase=purchase, erased=True)
        if walk.referrer == self._old:
            walk = msgspec.structs.replace(walk, referrer=self._new)
        entry.walk, entry.others = walk, ()
        before, entry.id = entry.id, reward_id(walk.program, walk.conversion_id, walk.level, self._new)
        self._ids[before] = entry.id
        entry.digest = 0
        entry.clawbacks = tuple(msgspec.structs.replace(c, digest=0) for c in entry.clawbacks)

    def _retract(self, entry: Entry) -> None:
        """Under the new name: the same partition, so that whoever reads the topic has it behind what it retracts."""
        ids = [entry.id] if entry.digest else []
        ids.extend(f"{entry.id}-r{c.event_id}" for c in entry.clawbacks if c.digest)
        user = shown_person(self._new)
        for name in ids:
            record = RewardRetraction(name, self._context.revision, True, False, self._rules_version, user)
            self._context.emit(REWARDS, user.encode(), _encode_record(record))
            self._context.count("retractions", REWARDS)

    def _sold(self, row: bytes) -> None:
        sold = _decode_sold(row)
        for one in sold:
            one.purchase = without_traces(one.purchase)
            one.decided = tuple(
                msgspec.structs.replace(d, referrer=self._new) if d.referrer == self._old else d for d in one.decided
            )
            one.told = tuple(self._told(told) for told in one.told)
        self._send("sold", encode_body(sold))

    def _told(self, told: WalkTold) -> WalkTold:
        """Their own rewards have ids with their name in them, those of others don't."""
        if told.key and told.key != self._old:
            return told
        return WalkTold(self._ids.get(told.id, told.id), self._new if told.key else "", 0)

    def _ips(self, row: bytes) -> None:
        """What is open is entered anew, under its new id."""
        self._send("ips", encode_body([IpCount(one.id, one.count) for one in _decode_ips(row)]))

    def _referred(self, row: bytes) -> None:
        referred = _decode_referred(row)
        for one in referred:
            teller, _, program = one.id.rpartition(SEPARATOR)
            self._rename(teller, program)
            (one.binding,) = renamed((one.binding,), self._old, self._new)
        self._send("referred", encode_body(referred))

    def _leads(self, row: bytes) -> None:
        """Not kept: leads tell the new name of themselves."""
        name = encode_body(Letter(self._old, Renamed(self._old, self._new)))
        for led in _decode_led(row):
            self._context.forward(facts.LEAD_OWNER, led.id.encode(), name)

    # --- the rest ------------------------------------------------------------------------------------

    def _rest(self) -> Person:
        """Contacts, clients and visits are left out; what was asked and answered is over."""
        old = self._person
        rest = decode_person(encode_person(old))
        memberships = rest.memberships if any(m.joined for m in rest.memberships) else ()
        seen = tuple(visit for visits in rest.captured.values() for visit in visits)
        kept = Person(
            settled=rest.settled,
            # A lead goes on, and what may have brought it.
            captured={"": seen} if seen and rest.leads else {},
            inherited=rest.inherited,
            # Whoever was told nothing does not know of this client any more, so nobody would tell it of their erasure.
            users={user: heir for user, heir in rest.users.items() if heir.told},
            memberships=tuple(msgspec.structs.replace(m, client="", contact=NO_CONTACT) for m in memberships),
            claimed={name: claim.renamed(self._new) for name, claim in rest.claimed.items()},
            invites=rest.invites,
            bound=rest.bound,
            counted=rest.counted,
            sales=rest.sales,
            erased=self._at,
        )
        books = rest.books
        for item in self._open:
            item.id, item.ip = self._ids[item.id], b""
        opened = sorted(self._open, key=lambda item: item.moment)
        kept.books = Books(open=opened, ranks=books.ranks, sums=books.sums, entries=books.entries)
        return kept

    def _tell_others(self) -> None:
        """Codes, contacts, clients, users of this client, and who referred this person."""
        person, forward = self._person, self._context.forward
        old, new = self._old, self._new
        name = encode_body(Letter(old, Renamed(old, new)))
        for code in dict.fromkeys(claimed.partition(SEPARATOR)[0] for claimed in person.claimed):
            forward(facts.OWNER, CODE_KEY + code.encode(), name)
        for contact in person.contacts:
            forward(facts.CONTACT, CONTACT_KEY + contact.encode(), encode_body(Letter(old, None)))
        for told in person.bound_told.values():
            forward(facts.BOUND, told.key.encode(), encode_body(Letter(told.id, None)))
        for user in person.users:
            self._rename(user)
        if not old.startswith(CLIENT):
            clients = {CLIENT + client for client in person.clients} | person.inherited.keys()
            if person.erasing is not None:
                clients.update(CLIENT + client for client in person.erasing.clients)
            body = encode_body(Letter(old, Erased(self._at, old, new)))
            for client in sorted(clients):
                forward(facts.ERASED, client.encode(), body)

    def _rename(self, whom: str, program: str = "", conversion_id: str = "", level: int = 0) -> None:
        body = Renamed(self._old, self._new, program, conversion_id, level)
        self._context.forward(facts.RENAMED, whom.encode(), encode_body(Letter(self._old, body)))

    def _send(self, what: Content, content: bytes) -> None:
        self._context.forward(facts.MOVED, self._new.encode(), encode_body(Letter(what, Moved(self._at, content))))


def led_by(key: bytes, rows: Rows) -> Iterator[Led]:
    """All leads that name a person."""
    for number in rows.numbers(key):
        if LEAD_ROWS <= number < LEAD_ROWS + ROWS_OF_A_KIND:
            content = rows.get(key, number)
            assert content is not None
            yield from _decode_led(content)


def sold_by(key: bytes, rows: Rows) -> Iterator[Sold]:
    """All settled purchases of a person."""
    for number in rows.numbers(key):
        if SOLD_ROWS <= number < SOLD_ROWS + ROWS_OF_A_KIND:
            content = rows.get(key, number)
            assert content is not None
            yield from _decode_sold(content)
