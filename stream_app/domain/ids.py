"""Ids of outputs, derived from the ids of events: a replay or a retry overwrites, it never doubles."""

from __future__ import annotations

from hashlib import blake2b, sha256

SEPARATOR = "\x1f"
"""Ids hold no control characters, so joined ids stay unambiguous."""


def session_id(client_id: str, event_id: str, at: int, *, conversion: bool = False) -> str:
    """A session's id, from its client and first event. The event's time is part of it: a tracker that uses an
    event id again an hour later starts another session, it does not overwrite the first."""
    return short(f"{client_id}{SEPARATOR}{event_id}{SEPARATOR}{at}{SEPARATOR}{'c' if conversion else 's'}")


def conversion_id(client_id: str, event_id: str) -> str:
    """A conversion's id, from its client and event."""
    return short(f"{client_id}{SEPARATOR}{event_id}")


def refund_id(client_id: str, event_id: str) -> str:
    """A refund's id, by which its order knows it."""
    return short(f"{client_id}{SEPARATOR}{event_id}{SEPARATOR}r")


def link_id(client_id: str, life: int) -> str:
    """What a client says to a person goes by its id; one that was forgotten and came back says something else."""
    return f"{client_id}{SEPARATOR}{life}" if life else client_id


def remembered(event_id: str) -> bytes:
    """The eight bytes by which a conversion's event id is remembered as long as its client."""
    return blake2b(event_id.encode(), digest_size=8).digest()


def order_key(goal: str, order_id: str) -> int:
    """64 bits for (goal, order_id), the second idempotency key of conversions."""
    return order_hash(order_address(goal, order_id))


def order_hash(address: bytes) -> int:
    """64 bits of an order's address, by which its clients know it."""
    return int.from_bytes(blake2b(address, digest_size=8).digest(), "big")


def order_address(goal: str, order_id: str) -> bytes:
    """The key of an order in the whole system."""
    return f"{goal}{SEPARATOR}{order_id}".encode()


def content_digest(body: bytes) -> int:
    """64 bits that tell whether a record's content is what was last published. SHA-256: processors of today have
    instructions for it, so that it is the fastest good hash for a record's length."""
    return int.from_bytes(sha256(body, usedforsecurity=False).digest()[:8], "big")


def short(text: str) -> str:
    """Sixteen hex digits for a text."""
    return blake2b(text.encode(), digest_size=8).hexdigest()
