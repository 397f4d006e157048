"""Free TCP ports that stay free."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 15_000
_LAST = 32_000
_LINUX_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on.

    Below the range from which the system takes the ports of outgoing connections: while a broker is down for a
    restart its port must not be given to a client, least of all to one that is just trying to reach that broker
    (it would connect to itself).
    """
    last = min(_LAST, _ephemeral_start() - 1)
    chosen: list[int] = []
    generator = random.SystemRandom()
    while len(chosen) < count:
        port = generator.randint(_FIRST, last)
        if port not in chosen and is_free(port):
            chosen.append(port)
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _ephemeral_start() -> int:
    try:
        start = int(_LINUX_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LAST + 1
    return start if start > _FIRST + 1000 else _LAST + 1
