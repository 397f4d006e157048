"""Codes of referral programmes that a client's visits brought, and the ip of its last click."""

from __future__ import annotations

from msgspec.structs import replace

from stream_app.domain.hits import Hit
from stream_app.domain.ids import SEPARATOR
from stream_app.domain.journey import Captured, Journey, Session

MAX_CODES = 20
"""Visits with a referral code that are remembered: the first and the latest, of each code as far as there is room."""


def capture(journey: Journey, hit: Hit) -> None:
    """A click with a programme's code, or with an ip where programmes are set up."""
    captured = Captured(hit.at, hit.code)
    codes = journey.codes
    last: tuple[Captured, ...] = ()
    if codes and not codes[-1].is_visit:
        last, codes = codes[-1:], codes[:-1]
    if not captured.is_visit:
        last = (captured,)
    else:
        codes = (*codes, captured)
        if len(codes) > MAX_CODES:
            codes = _with_one_less(codes)
        if captured.ip:
            last = ()
    journey.codes = codes + last


def _with_one_less(codes: tuple[Captured, ...]) -> tuple[Captured, ...]:
    """Pages that bear the same codes on each visit push no other one out: the first to go is a visit between two with
    its code, then one whose code came before or again. If there is none, the oldest goes that is not the first of
    all."""
    names = [captured.code.partition(SEPARATOR)[0] for captured in codes]
    middle = range(1, len(names) - 1)
    between = (n for n in middle if names[n] in names[:n] and names[n] in names[n + 1 :])
    repeated = (n for n in middle if names.count(names[n]) > 1)
    gone = next(between, 0) or next(repeated, 1)
    return codes[:gone] + codes[gone + 1 :]


def codes_of(journey: Journey, session: Session, user: str | None) -> tuple[Captured, ...]:
    """Captured codes that others are told of with a session: what its visits brought, and if its user is the client's
    first, what the client had brought before as nobody known (semantics 31)."""
    owners = journey.owners
    nobodys = 0
    if user and owners and owners[0].user == user:
        nobodys = owners[1].linked_at if len(owners) > 1 else session.started_at
    return tuple(
        c
        for c in journey.codes
        if c.is_visit and c.at <= session.ended_at and (c.at >= session.started_at or c.at < nobodys)
    )


def from_ip(journey: Journey, hit: Hit) -> Hit:
    """A conversion with the ip of the last click before it: later ones will take its place. One that comes late looks
    for what is left of the time before it when it is published."""
    if not journey.codes or (hit.sale is not None and hit.sale.late):
        return hit
    ip = next((captured.ip for captured in reversed(journey.codes) if captured.ip), "")
    return replace(hit, code=SEPARATOR * 2 + ip) if ip else hit
