"""How many clients a programme brings, and how many must come from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import ROUND_CEILING, Decimal

import msgspec

from stream_app.domain.counters.records import ratio


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Where so many clients come from."""

    clients: int
    k_factor: Decimal
    """New clients that each client brings: share who refer × invitations each × conversion of an invitation."""
    referred: int
    elsewhere: int
    """Clients that other sources must bring; the programme brings the rest, over all generations."""


class Share(msgspec.Struct, frozen=True, gc=False):
    """A source of new clients, now and as planned."""

    source: str
    clients: int
    """New clients that it brings now."""
    share: str
    """Of all new clients."""
    needed: int
    """What it must bring, if the programme brings its part and the other sources grow or shrink alike."""
    more: int


def mix(made: Plan, now: Mapping[str, int], programme: Collection[str] = ()) -> list[Share]:
    """The mix of sources, largest first, and what each of them must bring for the plan: the `programme`'s own what it
    refers, all others the rest in proportion to what they bring now, whole clients by largest remainder."""
    total = sum(now.values())
    others = {source: n for source, n in now.items() if source not in programme and n > 0}
    weight = sum(others.values())
    whole = {source: divmod(made.elsewhere * n, weight) for source, n in others.items()}
    needed = {source: part for source, (part, _) in whole.items()}
    missing = made.elsewhere - sum(needed.values()) if needed else 0
    for source in sorted(whole, key=lambda source: (-whole[source][1], source))[:missing]:
        needed[source] += 1
    for number, source in enumerate(sorted(source for source in now if source in programme)):
        needed[source] = 0 if number else made.referred
    return [
        Share(source, n, ratio(n, total) or "0", needed.get(source, 0), needed.get(source, 0) - n)
        for source, n in sorted(now.items(), key=lambda item: (-item[1], item[0]))
    ]


def plan(clients: int, share: Decimal, invites: Decimal, conversion: Decimal) -> Plan:
    """What a target of `clients` takes when `share` of them (0–1) send `invites` each, of which `conversion` (0–1)
    become clients, who do the same. Each client from elsewhere is worth 1 + K + K² + … = 1 / (1 − K)."""
    k = share * invites * conversion
    needed = Decimal(clients) * (1 - k) if k < 1 else Decimal(1)
    elsewhere = min(clients, max(1, int(needed.to_integral_value(ROUND_CEILING)))) if clients else 0
    return Plan(clients, k, clients - elsewhere, elsewhere)
