"""The commit protocol, step by step. `architecture.md` explains why in this order.

Before step 3 the batch exists in memory only; after step 5 it is there for everyone who reads committed records;
step 6 can be made up for at any time, because the changelog has it all. Between any two steps the process may die.
"""

from __future__ import annotations

import asyncio

from .ports import Clock, Probe, Store, Writer
from .rows import META, POSITION, position_after
from .topology import Topology
from .work import Commit

STEPS = (
    "commit.built",
    "commit.begun",
    "commit.sent",
    "commit.delivered",
    "commit.offsets",
    "commit.committed",
    "commit.stored",
)
"""Names of the points between the steps, as the probe hears them."""


class CommitTimedOut(Exception):
    """The broker did not finish a commit within the deadline: its outcome is unknown until the task is opened again."""


async def commit(
    batch: Commit,
    *,
    topology: Topology,
    partition: int,
    writer: Writer,
    store: Store,
    clock: Clock,
    probe: Probe,
    deadline_s: float,
) -> int:
    """Steps 3 to 6 for one batch; returns how many changelog bytes it took."""
    probe("commit.built")
    try:
        async with asyncio.timeout(deadline_s):
            # 3. A transaction on the task's own producer
            await writer.begin()
            probe("commit.begun")
            # 4. One coalesced batch per destination, the meta record last in the changelog
            for topic, records in batch.outputs.items():
                await writer.send(topology.topics[topic], partition, records)
            for target, records in batch.forwards.items():
                await writer.send(topology.repartition, target, records)
            if batch.dead_letters:
                await writer.send(topology.dead_letters, partition, batch.dead_letters)
            await writer.send(topology.changelog, partition, batch.changelog)
            probe("commit.sent")
            # 5. Every delivery, then the offsets (decision 0011 tells why not both at once), the commit
            delivered = await writer.flush()
            probe("commit.delivered")
            await writer.send_offsets(batch.offsets, str(batch.seq))
            probe("commit.offsets")
            await writer.commit()
    except TimeoutError as exc:
        raise CommitTimedOut(f"a commit took longer than {deadline_s:g} s") from exc
    probe("commit.committed")
    # 6. Only now the store: rows, timers and the position up to which it has everything
    meta = batch.changelog[-1]
    assert meta[0] == META
    last = delivered[topology.changelog, partition]
    rows: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key, value, _ in batch.changelog:
        assert key is not None
        rows.append((key, value))
        size += len(key) + len(value) if value is not None else len(key)
    rows += batch.timers.items()
    rows.append((POSITION, position_after(topology.changelog, last, META, meta[1], clock.wall_ms())))
    store.write(rows)
    probe("commit.stored")
    return size
