"""The commit protocol: its steps in their order, and what must not have happened when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from stream_app.engine.commit import STEPS, CommitTimedOut, commit
from stream_app.engine.ports import Outgoing
from stream_app.engine.rows import META, POSITION, Meta, decode_position, encode_meta
from stream_app.engine.topology import Topology
from stream_app.engine.work import Commit
from stream_app.hosts.local.host import ManualClock
from stream_app.hosts.stores import MemoryStore

TOPOLOGY = Topology([], {"out": "real-out"}, "repartition", "changelog", "dead", 4)
META_ROW: Outgoing = (META, encode_meta(Meta(7, {"in": 5}, 0, {}, 4, "x")), ())


class Diary:
    """A writer, a store and a probe that write down what is asked of them."""

    def __init__(self, fail_at: str = "", hang_at: str = "") -> None:
        self.entries: list[str] = []
        self._fail_at, self._hang_at = fail_at, hang_at
        self.store = MemoryStore()

    async def _do(self, what: str) -> None:
        self.entries.append(what)
        if what == self._fail_at:
            raise ConnectionError(what)
        if what == self._hang_at:
            await asyncio.Event().wait()

    def __call__(self, step: str) -> None:
        self.entries.append(step)

    async def begin(self) -> None:
        await self._do("begin")

    async def send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        await self._do(f"send {topic}[{partition}] {len(records)}")

    async def flush(self) -> Mapping[tuple[str, int], int]:
        await self._do("flush")
        return {("changelog", 2): 41}

    async def send_offsets(self, offsets: Mapping[str, int], metadata: str) -> None:
        await self._do(f"offsets {dict(offsets)} {metadata}")

    async def commit(self) -> None:
        await self._do("commit")

    async def close(self) -> None: ...

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        self.entries.append(f"store {len(rows)}")
        self.store.write(rows)


def _batch() -> Commit:
    return Commit(
        7,
        Meta(7, {"in": 5}, 0, {}, 4, "x"),
        {"in": 5},
        outputs={"out": [(b"k", b"v", ())]},
        forwards={3: [(b"f", b"v", ())]},
        dead_letters=[(None, b"bad", ())],
        changelog=[(b"sTk", b"state", ()), (b"sTgone", None, ()), META_ROW],
        timers={b"t1": b"", b"t0": None},
    )


async def _commit(diary: Any, deadline_s: float = 5) -> int:
    return await commit(
        _batch(),
        topology=TOPOLOGY,
        partition=2,
        writer=diary,
        store=diary,
        clock=ManualClock(123),
        probe=diary,
        deadline_s=deadline_s,
    )


IN_ORDER = [
    "commit.built",
    "begin",
    "commit.begun",
    "send real-out[2] 1",
    "send repartition[3] 1",
    "send dead[2] 1",
    "send changelog[2] 3",
    "commit.sent",
    "flush",
    "commit.delivered",
    "offsets {'in': 5} 7",
    "commit.offsets",
    "commit",
    "commit.committed",
    "store 6",
    "commit.stored",
]


async def test_the_steps_come_in_their_order() -> None:
    """As architecture.md numbers them; the store is last."""
    diary = Diary()
    size = await _commit(diary)
    assert diary.entries == IN_ORDER
    assert tuple(e for e in diary.entries if e.startswith("commit.")) == STEPS
    assert size == len(b"sTk" + b"state" + b"sTgone" + META) + len(META_ROW[1] or b"")


async def test_the_store_gets_rows_timers_and_position_at_once() -> None:
    """One write: a store is never ahead of, or behind, its position."""
    diary = Diary()
    diary.store.write([(b"sTgone", b"x"), (b"t0", b"")])
    await _commit(diary)
    assert diary.store.get(b"sTk") == b"state"
    assert diary.store.get(b"sTgone") is None
    assert diary.store.scan(b"t", b"u", 9) == [b"t1"]
    position = decode_position(diary.store.get(POSITION) or b"")
    assert (position.changelog, position.offset, position.written_at) == ("changelog", 41, 123)
    assert position.matches(META, META_ROW[1])


@pytest.mark.parametrize("failing", [e for e in IN_ORDER if not e.startswith(("commit.", "store"))])
async def test_whatever_fails_nothing_later_is_done(failing: str) -> None:
    """No commit after a delivery that failed, no store before the commit."""
    diary = Diary(fail_at=failing)
    with pytest.raises(ConnectionError):
        await _commit(diary)
    assert diary.entries == IN_ORDER[: IN_ORDER.index(failing) + 1]
    assert diary.store.size() == 0


@pytest.mark.parametrize("hanging", ["begin", "flush", "commit"])
async def test_a_commit_that_takes_too_long_has_failed(hanging: str) -> None:
    """The client would retry for ever: one deadline over all of it, and its outcome is unknown until reopening."""
    diary = Diary(hang_at=hanging)
    with pytest.raises(CommitTimedOut, match=r"longer than 0\.01 s"):
        await _commit(diary, deadline_s=0.01)
    assert diary.store.size() == 0
