"""Asks a broker over the wire whether it is ready. Standard library only: it must work before anything else does.

Three requests of the Kafka protocol in their oldest versions, which every broker speaks: Metadata (who is in the
cluster, is there a controller) and FindCoordinator for groups and transactions. The last two also make Kafka create
its internal topics, so that the first worker does not meet a cluster that is still setting itself up.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

_METADATA: Final = 3
_FIND_COORDINATOR: Final = 10
_GROUP: Final = 0
_TRANSACTION: Final = 1
_INTERVAL_S: Final = 0.1


def wait_ready(
    addresses: Sequence[str],
    timeout_s: float,
    *,
    check_alive: Callable[[], None] = lambda: None,
    nodes: int | None = None,
) -> None:
    """Returns when every address answers and knows all `nodes`, and both coordinators are there.

    `check_alive` is called between tries and may raise to end the wait. Raises TimeoutError with the last obstacle.
    """
    deadline = time.monotonic() + timeout_s
    wanted = len(addresses) if nodes is None else nodes
    while True:
        check_alive()
        obstacle = _obstacle(addresses, wanted)
        if obstacle is None:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready after {timeout_s:.0f} s: {obstacle}")
        time.sleep(_INTERVAL_S)


def answers(address: str, timeout_s: float = 2.0) -> bool:
    """Whether somebody accepts connections there. All that can be asked of a broker that wants TLS or a login."""
    try:
        with _connect(address, timeout_s):
            return True
    except OSError:
        return False


def cluster_nodes(address: str, timeout_s: float = 2.0) -> dict[int, str]:
    """Live brokers by id, with their addresses, as the broker at `address` sees them. Raises OSError."""
    # Version 1: an empty list of topics means none.
    reply = _Reply(_request(address, _METADATA, 1, struct.pack(">i", 0), timeout_s))
    nodes = {}
    for _ in range(reply.int32()):
        node, host, port, _rack = reply.int32(), reply.string(), reply.int32(), reply.string()
        nodes[node] = f"{host}:{port}"
    controller = reply.int32()
    return nodes if controller >= 0 else {}


def coordinator_ready(address: str, kind: int, timeout_s: float = 5.0) -> bool:
    """Whether a coordinator for groups (0) or transactions (1) is found. Raises OSError."""
    body = _string("probe") + struct.pack(">b", kind)
    reply = _Reply(_request(address, _FIND_COORDINATOR, 1, body, timeout_s))
    reply.int32()  # throttle time
    return reply.int16() == 0


def _obstacle(addresses: Sequence[str], wanted: int) -> str | None:
    """What still stands in the way, or None."""
    try:
        for address in addresses:
            known = len(cluster_nodes(address))
            if known < wanted:
                return f"{address} knows {known} of {wanted} brokers"
        for kind, name in ((_GROUP, "group"), (_TRANSACTION, "transaction")):
            if not coordinator_ready(addresses[0], kind):
                return f"no {name} coordinator yet"
    except (OSError, struct.error) as error:
        return str(error) or type(error).__name__
    return None


def _connect(address: str, timeout_s: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)


def _request(address: str, api: int, version: int, body: bytes, timeout_s: float) -> bytes:
    """One request on a connection of its own. Raises OSError, ConnectionError when cut off."""
    header = struct.pack(">hhi", api, version, 1) + _string("stream-app-probe")
    with _connect(address, timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (length,) = struct.unpack(">i", _read(connection, 4))
        return _read(connection, length)[4:]  # without the correlation id


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("connection closed by the broker")
        parts += part
    return bytes(parts)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class _Reply:
    """Reads the fields of a response in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int16(self) -> int:
        (value,) = struct.unpack_from(">h", self._data, self._at)
        self._at += 2
        return int(value)

    def int32(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._at)
        self._at += 4
        return int(value)

    def string(self) -> str:
        length = max(self.int16(), 0)  # −1: null
        value = self._data[self._at : self._at + length]
        self._at += length
        return value.decode()
