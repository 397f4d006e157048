"""Whose is a code? Who else has this e-mail or telephone? Claims and contact hashes by key (decision 0018).

Whoever asks gets an answer at once, and a correction whenever it changes while the question still matters. Questions
are kept in rows, so that a code used by hundreds of thousands costs no more than any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from stream_app.domain.client import HOLD_COMMITS
from stream_app.domain.referral.codes import Claim, Form, active, name_of, owner, renamed, ruling
from stream_app.domain.referral.counting import DELTA, Figures, gather, places
from stream_app.domain.referral.facts import (
    ANSWER,
    ARRIVAL,
    ASKING_CLIENT,
    CLAIM,
    CONTACT,
    KNOWN,
    OWNER,
    QUESTION,
    VISIT,
    Answer,
    FirstPaid,
    Known,
    Question,
    Renamed,
    Spans,
    Visit,
)
from stream_app.domain.times import MINUTE_MS, rfc3339
from stream_app.engine.processor import Context, Decoder, Place, Rejected, Rows
from stream_app.processors.facts import Letter, encode_body

CODE_KEY = b"c:"
CONTACT_KEY = b"h:"
QUESTIONS_A_ROW = 256
MAX_VISITS = 5_000
"""Visits within grace that a code keeps."""
MAX_PEOPLE = 64
"""People kept with one contact: those who paid first, and those who ask."""


class ClaimLetter(msgspec.Struct, frozen=True, gc=False):
    """A claim on its way, in words: should the code be taken, this becomes the dead letter. It is the event that was
    sent, without the contacts; `origin` is where that lies."""

    event_id: str
    user_id: str
    occurred_at: str
    program: str
    code: str
    form: Form
    advocate_kind: str
    at: int
    until: int
    origin: tuple[int, ...] = ()
    type: str = "enrolled"
    gone: bool = False
    marks: tuple[bytes, ...] = ()


def claim_letter(code: str, claim: Claim, origin: tuple[int, ...], *, gone: bool = False) -> bytes:
    """What people tell a code."""
    return _encode_claim(
        ClaimLetter(
            claim.event_id,
            claim.user,
            rfc3339(claim.at),
            claim.program,
            code,
            claim.form,
            claim.advocate_kind,
            claim.at,
            claim.until,
            origin,
            gone=gone,
            marks=claim.marks,
        )
    )


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody's question, and until when a correction matters."""

    person: bytes
    until: int


class Page(msgspec.Struct, gc=False, array_like=True):
    """A row of questions."""

    row: int
    count: int
    until: int
    overdue: int = 0
    """The commit in which its time was found to be over; 0: it is not. A backlog may leap over all that is still to be
    heard of the code: it waits for some commits more."""


class Register(msgspec.Struct, gc=False, array_like=True):
    """One code, or one contact hash."""

    claims: dict[str, Claim] = {}  # msgspec copies it for each struct
    pages: list[Page] = []
    refused: tuple[str, ...] = ()
    """Claims that were sent to the dead letters."""
    visits: dict[str, tuple[int, int]] = {}
    """Visits with this code that are not counted yet: id → time, and when they are."""
    paid: dict[str, FirstPaid] = {}
    """Of a contact: person → when they first paid."""


class Heard(msgspec.Struct, gc=False):
    """A fact as it came."""

    kind: str
    id: str
    body: Claim | Question | FirstPaid | Visit | Renamed | None
    letter: ClaimLetter | None = None
    """Of a claim."""


_encode_claim = msgspec.json.Encoder().encode
_decode_claim = msgspec.json.Decoder(ClaimLetter).decode
_decode_question = msgspec.msgpack.Decoder(Letter[Question]).decode
_decode_visit = msgspec.msgpack.Decoder(Letter[Visit]).decode
_decode_owner = msgspec.msgpack.Decoder(Letter[Renamed]).decode
_decode_contact = msgspec.msgpack.Decoder(Letter[FirstPaid]).decode
_DECODERS: dict[str, Any] = {
    QUESTION: _decode_question,
    CONTACT: _decode_contact,
    VISIT: _decode_visit,
    OWNER: _decode_owner,
}
_encode_state = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(Register).decode
_decode_asked = msgspec.msgpack.Decoder(list[Asked]).decode


class CodesProcessor:
    """Folds claims and questions of each code, and first purchases of each contact."""

    name = "codes"
    tag = b"k"
    inputs: Sequence[str] = ()
    kinds: Sequence[str] = (CLAIM, QUESTION, CONTACT, VISIT, OWNER)
    state_version = 1

    def __init__(self, *, grace_ms: int) -> None:
        self._open_ms = grace_ms + MINUTE_MS

    def decoder(self, source: str) -> Decoder[Heard]:
        """The decoder of one kind of fact."""

        def decode(_key: bytes | None, value: bytes | None, _ts: int) -> Heard:
            try:
                if source == CLAIM:
                    letter = _decode_claim(value or b"")
                    claim = Claim(
                        letter.user_id,
                        letter.program,
                        letter.at,
                        letter.event_id,
                        letter.form,
                        letter.advocate_kind,
                        letter.until,
                        letter.marks,
                    )
                    return Heard(source, letter.event_id, None if letter.gone else claim, letter)
                told: Letter[Any] = _DECODERS[source](value or b"")
                return Heard(source, told.id, told.body)
            except msgspec.DecodeError as error:
                raise Rejected("bad_json", f"a {source} that this version cannot read") from error

        return decode

    def key_of(self, event: Heard) -> bytes:
        """Facts always have a key."""
        raise AssertionError(event.kind)

    def fold(self, key: bytes, state: Register | None, events: list[Heard], context: Context[Heard]) -> Register | None:
        """Takes what was told, and answers."""
        register = state if state is not None else Register()
        if key.startswith(CONTACT_KEY):
            self._contacts(key, register, events, context)
        else:
            self._code(key, register, events, context)
        return register if register != Register() else None

    def wake(self, key: bytes, state: Register, context: Context[Heard]) -> Register:
        """Forgets questions that no correction can come for, and counts visits."""
        self._forget(key, state, context)
        self._count_visits(key, state, context)
        return state

    def due(self, state: Register) -> int:
        """When the last question of the oldest page is over, or the first visit is settled."""
        times = [page.until for page in state.pages]
        times.extend(settles - self._open_ms for _, settles in state.visits.values())
        return min(times) + self._open_ms + 1 if times else 0

    # --- codes ---------------------------------------------------------------------------------------

    def _code(self, key: bytes, register: Register, events: list[Heard], context: Context[Heard]) -> None:
        self._forget(key, register, context)
        before = ruling(register.claims)
        asking: dict[str, Question] = {}
        claimed: dict[str, ClaimLetter] = {}
        for event in events:
            match event.body:
                case Question() as question:
                    earlier = asking.get(event.id)
                    until = max(question.until, earlier.until if earlier is not None else 0)
                    asking[event.id] = Question(until, question.known)
                case Visit(at=at):
                    register.visits[event.id] = at, max(at + self._open_ms, context.now + MINUTE_MS)
                case Claim() as claim:
                    letter = cast("ClaimLetter", event.letter)
                    name = name_of(register.claims, letter.user_id, letter.event_id)
                    register.claims[name] = claim
                    claimed[name] = letter
                case Renamed(old=old, new=new):
                    register.claims = renamed(register.claims, old, new)
                case _ if event.kind == VISIT:
                    register.visits.pop(event.id, None)
                case _ if event.kind == CLAIM:
                    letter = cast("ClaimLetter", event.letter)
                    register.claims.pop(name_of(register.claims, letter.user_id, letter.event_id), None)
        self._refuse(register, claimed, context)
        self._answer(key, register, before, asking, context)
        self._count_visits(key, register, context)
        for person, question in asking.items():
            until = max(question.until, context.now + MINUTE_MS - self._open_ms)
            self._keep(key, register, Asked(person.encode(), until), context)

    def _answer(
        self,
        key: bytes,
        register: Register,
        before: tuple[Claim, ...],
        asking: dict[str, Question],
        context: Context[Heard],
    ) -> None:
        """Whoever asks and does not know it yet is told; after a change everybody whom it concerns."""
        after = ruling(register.claims)
        if not after and not before:
            return
        answer = Answer(after) if after else None
        digest = answer.digest if answer is not None else 0
        told = {person for person, question in asking.items() if question.known != digest}
        spans = Spans.of(after)
        if after != before:
            everybody = set(asking)
            everybody.update(
                asked.person.decode() for page in register.pages for asked in self._page(key, page, context.rows)
            )
            renamed_only = spans == Spans.of(before)
            told.update(name for name in everybody if not (renamed_only and name.startswith(ASKING_CLIENT)))
        code = key[len(CODE_KEY) :].decode()
        for_people, for_clients = encode_body(Letter(code, answer)), encode_body(Letter(code, spans))
        for name in sorted(told):
            if name.startswith(ASKING_CLIENT):
                context.forward(ARRIVAL, name[len(ASKING_CLIENT) :].encode(), for_clients)
            else:
                context.forward(ANSWER, name.encode(), for_people)

    @staticmethod
    def _refuse(register: Register, claimed: dict[str, ClaimLetter], context: Context[Heard]) -> None:
        """Claims of others than the owner become dead letters, once."""
        holder = owner(register.claims)
        for name, claim in register.claims.items():
            if claim.user != holder and name not in register.refused:
                register.refused = (*register.refused, name)
                letter = claimed.get(name)
                if letter is None:
                    context.count("codes_displaced")
                else:
                    said = _encode_claim(msgspec.structs.replace(letter, marks=()))
                    key = letter.user_id.encode()
                    detail = "code: belongs to somebody else, and is never reassigned"
                    context.bury("referral-events", key, said, Place(*letter.origin), "code_taken", detail)

    def _keep(self, key: bytes, register: Register, asked: Asked, context: Context[Heard]) -> None:
        if asked.until + self._open_ms < context.now:
            return
        last = register.pages[-1] if register.pages else None
        if last is None or last.count >= QUESTIONS_A_ROW or last.overdue:
            row = last.row + 1 if last is not None else 0
            last = Page(row % (1 << 31), 0, 0)
            register.pages = [*register.pages, last]
        # One period more than needed: time may just have leapt, and less far than would make the page overdue.
        since = context.now - 2 * self._open_ms
        page = [*(other for other in self._page(key, last, context.rows) if other.until >= since), asked]
        context.rows.put(key, last.row, _encode_state(page))
        last.count = len(page)
        last.until = max(last.until, asked.until)

    @staticmethod
    def _page(key: bytes, page: Page, rows: Rows) -> list[Asked]:
        content = rows.get(key, page.row) if page.count else None
        return _decode_asked(content) if content is not None else []

    def _forget(self, key: bytes, register: Register, context: Context[Heard]) -> None:
        pages = []
        for page in register.pages:
            if page.until + self._open_ms < context.now:
                if page.overdue and context.revision >= page.overdue + HOLD_COMMITS:
                    context.rows.put(key, page.row, None)
                    continue
                page.overdue = page.overdue or context.revision
                page.until = context.now + MINUTE_MS - self._open_ms
            pages.append(page)
        register.pages = pages

    def _count_visits(self, key: bytes, register: Register, context: Context[Heard]) -> None:
        """Counts visits once nothing can change whose code it was. Of very many within grace the oldest early."""
        early = len(register.visits) - MAX_VISITS
        claims = ruling(register.claims)
        for name, (at, settles) in sorted(register.visits.items(), key=lambda item: (item[1], item[0])):
            if settles >= context.now and early <= 0:
                continue
            early -= 1
            del register.visits[name]
            claim = active(claims, at)
            if claim is not None:
                where = places(claim.program, key[len(CODE_KEY) :].decode(), claim.advocate_kind)
                gather(context.gather(DELTA), where, at // MINUTE_MS, Figures({"visits": 1}))

    # --- contacts ------------------------------------------------------------------------------------

    @staticmethod
    def _contacts(key: bytes, register: Register, events: list[Heard], context: Context[Heard]) -> None:
        for event in events:
            if event.body is None:
                # Somebody was erased. What was decided by what was known of them stands, and so do the answers.
                register.paid.pop(event.id, None)
        before = {person: _others(register.paid, person) for person, first in register.paid.items() if first.asks}
        for event in events:
            if event.body is None:
                continue
            if event.id in register.paid or len(register.paid) < MAX_PEOPLE:
                register.paid[event.id] = cast("FirstPaid", event.body)
        contact = key[len(CONTACT_KEY) :].decode()
        for person, first in register.paid.items():
            if first.asks:
                known = _others(register.paid, person)
                if person not in before or before[person] != known:
                    context.forward(KNOWN, person.encode(), encode_body(Letter(contact, known)))

    # --- codec ---------------------------------------------------------------------------------------

    def load(self, _key: bytes, version: int, payload: bytes, _rows: Rows) -> Register:
        """A register as it was when saved."""
        if version != self.state_version:
            raise ValueError(f"codes state version {version} is not known; this release reads {self.state_version}")
        return _decode_state(payload)

    def save(self, _key: bytes, state: Register, _rows: Rows) -> bytes:
        """The register's bytes; questions are in rows already."""
        return _encode_state(state)


def _others(paid: dict[str, FirstPaid], person: str) -> Known | None:
    """The first purchase of anybody else."""
    others = [(first.at, first.event_id) for other, first in paid.items() if other != person and first.at]
    return Known(*min(others)) if others else None


__all__ = ["CODE_KEY", "CONTACT_KEY", "CodesProcessor", "claim_letter"]
