"""What goes wrong on the way from a browser to a topic, each with its probability."""

from __future__ import annotations

import random
from typing import Self

import msgspec
from msgspec.structs import replace

from stream_app.simulator.records import Record


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Share of events that suffer each fault (0 to 1). Bad records and duplicates come on top of the good ones."""

    bad: float = 0.0
    """Cannot be used at all; ends in `dead-letters`."""
    disorder: float = 0.02
    """Overtaken by later events of the same person: 1 to 60 s under way."""
    late: float = 0.003
    """1 to 45 minutes under way, within the default grace of 60."""
    too_late: float = 0.0
    """Hours under way: a click beyond grace."""
    skew: float = 0.0
    """From a clock that runs 10 to 120 minutes ahead."""
    duplicates: float = 0.002
    """Sent once more within 30 s, byte for byte."""
    misplaced: float = 0.0
    """On another partition than its key's, or without a key."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `bad=0.001,late=0.01`; `none` first sets all others to 0 (`none,bad=0.001`).

        Raises ValueError naming the part that is wrong.
        """
        names = cls.__struct_fields__
        given: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            if part == "none":
                given = dict.fromkeys(names, 0.0) | given
                continue
            name, _, number = part.partition("=")
            name = name.strip().replace("-", "_")
            if name not in names:
                raise ValueError(f"unknown fault {name!r}: one of {', '.join(names)}")
            try:
                share = float(number)
            except ValueError:
                raise ValueError(f"{name}={number}: a number from 0 to 1 is needed") from None
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name}={number}: must lie between 0 and 1")
            given[name] = share
        faults = cls(**given)
        if faults.total > 1.0:
            raise ValueError(f"the faults add up to {faults.total:g}: at most 1")
        return faults

    @property
    def total(self) -> float:
        """Probability that an event suffers any fault; an event suffers one at most."""
        return sum(map(float, msgspec.structs.astuple(self)))

    def pick(self, u: float) -> str:
        """The fault that a number below `total` stands for."""
        for name in self.__struct_fields__:
            u -= getattr(self, name)
            if u < 0.0:
                return str(name)
        return str(self.__struct_fields__[-1])


def spoil(rng: random.Random, record: Record) -> Record:
    """An unusable relative of a good record: same place, another event id, something that must not be accepted."""
    value = record.value.replace(b'"event_id":"', b'"event_id":"bad-', 1)
    kind = rng.randrange(9)
    key = record.key
    match kind:
        case 0:
            value = value[: len(value) // 2]
        case 1:
            value = value.replace(b'"occurred_at"', b'"happened_at"', 1)
        case 2:
            value = value.replace(b'"client_id":"', b'"client_id":["', 1).replace(
                b'","occurred_at"', b'"],"occurred_at"', 1
            )
        case 3:
            value = value[:-1] + b',"occurred_at":NaN}'
        case 4:
            value = value.replace(b'"event_id":"bad-', b'"event_id":"bad-\xff\xfe', 1)
        case 5:
            value = b""
        case 6:
            value = value.replace(b'"event_id":"bad-', b'"event_id":"bad-' + b"x" * 200, 1)
        case 7:
            value = b'["not","an","object"]'
        case _:
            key = b"someone-else"
    return replace(record, value=value, key=key)
