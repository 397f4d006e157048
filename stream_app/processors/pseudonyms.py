"""Random names for people who are erased (semantics 50)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from stream_app.domain.referral.facts import CLIENT
from stream_app.engine.partitioning import partition_of

PREFIX = "erased-"

Pseudonyms = Callable[[bytes], str]
"""A key → another one for the same person. Asked once: the answer is kept by the transaction that uses it."""


def random_names(partitions: int) -> Pseudonyms:
    """Nothing of the old key goes into a new one but its partition: so whatever is written under either stays in
    order, and what is said of the old one can be said under the new one."""

    def draw(key: bytes) -> str:
        head = CLIENT + PREFIX if key.startswith(CLIENT.encode()) else PREFIX
        partition = partition_of(key, partitions)
        while True:
            name = head + secrets.token_hex(8)
            if partition_of(name.encode(), partitions) == partition:
                return name

    return draw
