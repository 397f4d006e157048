"""Codes: one namespace for links, promo codes and aliases of all programmes, without letter case; never reassigned."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b
from typing import Literal

import msgspec

from stream_app.domain.contacts import Contact

Form = Literal["code", "promo", "alias"]

MAX_CODE = 128


def normal_code(text: str) -> str:
    """A code as it is compared: NFKC, trimmed, without letter case; empty for what can be none."""
    code = unicodedata.normalize("NFKC", text).strip().casefold()
    if len(code.encode()) > MAX_CODE or any(unicodedata.category(c).startswith("C") for c in code):
        return ""
    return code


class Claim(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Somebody enrolled with a code. Active from `at` until `until`, exclusive (0: still)."""

    user: str
    program: str
    at: int
    event_id: str
    form: Form = "code"
    advocate_kind: str = "customer"
    until: int = 0
    marks: tuple[bytes, ...] = ()
    """By which a buyer is known to be the owner: `marks_of` what they enrolled with."""

    def renamed(self, new: str) -> Claim:
        """Of its owner under another name, whom nothing tells any more."""
        return msgspec.structs.replace(self, user=new, marks=())

    @property
    def order(self) -> tuple[int, str]:
        """The smallest owns the code."""
        return (self.at, self.event_id)

    def active_at(self, at: int) -> bool:
        """Whether the code could be used at that time."""
        return self.at <= at and (not self.until or at < self.until)


def marks_of(contact: Contact, client: str) -> tuple[bytes, ...]:
    """Hashes of e-mail, telephone and client, as far as there are any."""
    found = [kind + digest for kind, digest in ((b"e", contact.email), (b"p", contact.phone)) if digest]
    if client:
        found.append(b"c" + blake2b(client.encode(), digest_size=8).digest())
    return tuple(found)


def name_of(claims: dict[str, Claim], user: str, event_id: str) -> str:
    """Under which a user's claim is kept: its event's id, unless that of somebody else is: event ids are a user's own
    (semantics 23). No user's name is in it, as the user may be erased."""
    for name, claim in claims.items():
        if claim.event_id == event_id and claim.user == user:
            return name
    name, others = event_id, 0
    while name in claims:
        others += 1
        name = f"{event_id}\x1f{others}"
    return name


def owner(claims: dict[str, Claim]) -> str:
    """Who has the code: whoever claimed it first, for ever (semantics 43)."""
    return min(claims.values(), key=lambda claim: claim.order).user if claims else ""


def ruling(claims: dict[str, Claim]) -> tuple[Claim, ...]:
    """The owner's claims in order of time; a later enrolment with the same code makes it active again.

    A code belongs to one programme at a time: of overlapping claims the earlier one stands until it ends.
    """
    holder = owner(claims)
    return tuple(sorted((claim for claim in claims.values() if claim.user == holder), key=lambda claim: claim.order))


def renamed(claims: dict[str, Claim], old: str, new: str) -> dict[str, Claim]:
    """The same claims of somebody who goes by another name."""
    return {name: claim.renamed(new) if claim.user == old else claim for name, claim in claims.items()}


def active(claims: tuple[Claim, ...], at: int) -> Claim | None:
    """The claim under which a code could be used at a time."""
    return next((claim for claim in claims if claim.active_at(at)), None)
