"""What one record contributes to counters, and what changes when the record does.

A contribution is kept, encoded, beside the record for as long as that can change. What goes to counters is always
new − counted, never new − recomputed (semantics 13).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stream_app.domain import money
from stream_app.domain.counters.figures import Amounts, Counts
from stream_app.domain.counters.windows import ALL_WINDOWS
from stream_app.domain.sources.model import Source

ALL, CHANNEL, SOURCE_MEDIUM, CAMPAIGN, PLATFORM, GOAL, OPTIONAL = (1 << bit for bit in range(7))
ATTRIBUTED = CHANNEL | SOURCE_MEDIUM | CAMPAIGN | PLATFORM
VISIT = ALL | ATTRIBUTED | OPTIONAL
"""Where a session counts."""
DEAL = VISIT | GOAL
"""Where a conversion or lead counts."""


class Where(NamedTuple):
    """An attribution, as far as counters know it."""

    source: str
    medium: str
    campaign: str
    channel: str
    platform: str
    term: str = ""
    content: str = ""
    campaign_id: str = ""


_wheres: dict[Source, Where] = {}
_MAX_WHERES = 20_000


def where_of(source: Source) -> Where:
    """The attribution to a source; one object for all that ask, so that cells compare at once."""
    found = _wheres.get(source)
    if found is None:
        if len(_wheres) >= _MAX_WHERES:
            _wheres.clear()
        found = _wheres[source] = _where(source)
    return found


def _where(source: Source) -> Where:
    return Where(
        source.source,
        source.medium,
        source.campaign,
        source.channel,
        source.source_platform,
        source.term,
        source.content,
        source.campaign_id,
    )


class Line(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """So much, in these windows around this minute, under the keys that follow from the attribution and the goal."""

    minute: int
    """Since 1970: event time of what is counted."""
    counts: Counts
    amounts: Amounts = ()
    where: Where | None = None
    """None: it has no attribution and counts in `all` alone."""
    dimensions: int = VISIT
    windows: int = ALL_WINDOWS
    currency: str = ""
    """Of the amounts; empty: the base currency, in whose record the counts stand."""
    goal: str = ""
    extras: tuple[tuple[str, str], ...] = ()
    """(optional dimension, value): landing, owner, refusal reason, segments."""


Lines = tuple[Line, ...]


class Contribution(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All that one record contributes."""

    lines: Lines
    stages: int = 0
    """Bits of the funnel's stages (`clients.STAGES`) that its client reaches by it, under the first line's attribution
    and on its day."""
    answer: tuple[int, str, int] | None = None
    """(time in ms, event id, score) of an NPS survey."""


NOTHING = Contribution(())

Gathered = dict[Any, Any]
"""By cell (where and when): (counts, amounts), both by number. `Context.gather("counter-delta")`."""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(Contribution).decode


def encode(contribution: Contribution) -> bytes:
    """The bytes to keep; none for a contribution of nothing."""
    if not contribution.lines and not contribution.stages and contribution.answer is None:
        return b""
    return _encode(contribution)


def decode(kept: bytes) -> Contribution:
    """What `encode` has made."""
    return _decode(kept) if kept else NOTHING


def gather(gathered: Gathered, old: Lines, new: Lines) -> bool:
    """Adds new − old to what a commit gathers. True if both are one line of counts in the same place and time."""
    if len(old) == 1 and len(new) == 1 and not old[0].amounts and not new[0].amounts:
        was, now = old[0], new[0]
        cell = _cell(now)
        if cell == _cell(was):  # the most frequent one by far: a session that went on
            change = dict(now.counts)
            for index, n in was.counts:
                change[index] = change.get(index, 0) - n
            _add(gathered, cell, change)
            return True
    gone = list(old)
    for line in new:
        if line in gone:
            gone.remove(line)  # one for one: what happens twice in a minute is two equal lines
        else:
            gather_line(gathered, line, 1)
    for line in gone:
        gather_line(gathered, line, -1)
    return False


def gather_line(gathered: Gathered, line: Line, sign: int) -> None:
    """Adds one line, or takes it away."""
    counts = dict(line.counts) if sign > 0 else {index: -n for index, n in line.counts}
    amounts = _add(gathered, _cell(line), counts)
    for index, amount in line.amounts:
        before = amounts.get(index)
        signed = amount if sign > 0 else -amount
        amounts[index] = signed if before is None else money.add(before, signed)


def _cell(line: Line) -> tuple[Any, ...]:
    """Where and when a line counts."""
    return line.minute, line.where, line.dimensions, line.windows, line.currency, line.goal, line.extras


def _add(gathered: Gathered, cell: tuple[Any, ...], counts: dict[int, int]) -> dict[int, Decimal]:
    """Adds counts to a cell, which may keep the dictionary; its amounts."""
    found: tuple[dict[int, int], dict[int, Decimal]] | None = gathered.get(cell)
    if found is None:
        amounts: dict[int, Decimal] = {}
        gathered[cell] = counts, amounts
        return amounts
    mine = found[0]
    for index, n in counts.items():
        mine[index] = mine.get(index, 0) + n
    return found[1]
