"""How many clients a programme brings, and how many must come from elsewhere."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import msgspec


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Where so many clients come from."""

    clients: int
    k_factor: Decimal
    """New clients that each client brings: share who refer × invitations each × conversion of an invitation."""
    referred: int
    elsewhere: int
    """Clients that other sources must bring; the programme brings the rest, over all generations."""


def plan(clients: int, share: Decimal, invites: Decimal, conversion: Decimal) -> Plan:
    """What a target of `clients` takes when `share` of them (0–1) send `invites` each, of which `conversion` (0–1)
    become clients, who do the same. Each client from elsewhere is worth 1 + K + K² + … = 1 / (1 − K)."""
    k = share * invites * conversion
    needed = Decimal(clients) * (1 - k) if k < 1 else Decimal(1)
    elsewhere = min(clients, max(1, int(needed.to_integral_value(ROUND_CEILING)))) if clients else 0
    return Plan(clients, k, clients - elsewhere, elsewhere)
