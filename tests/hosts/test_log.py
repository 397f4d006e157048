"""The engine's `Log` port on both hosts: transactions, fencing, offsets, and reading a changelog to its end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stream_app.engine.ports import Committed, Fenced, Log, Outgoing
from tests.hosts.rig import Given, Rig

pytestmark = pytest.mark.timeout(60)


def rows(*values: bytes) -> list[Outgoing]:
    return [(b"k", value, ()) for value in values]


async def _changelog(log: Log, partitions: Sequence[int], start: int = 0) -> dict[int, list[bytes | None]]:
    """Values read from `start` on; ends when the positions have reached the ends."""
    found: dict[int, list[bytes | None]] = {p: [] for p in partitions}
    async with log.changelog_reader(partitions) as reader:
        ends = {p: (await reader.bounds(p))[1] for p in partitions}
        reached = dict.fromkeys(partitions, 0)
        async for partition, records, position in reader.read(dict.fromkeys(partitions, start), ends):
            found[partition] += [r.value for r in records]
            reached[partition] = position
    return found


async def test_a_transaction_appears_as_a_whole(rig: Rig) -> None:
    """In every topic and partition it wrote to, and with its offsets; before that nothing of it."""
    async with rig.port() as log:
        writer = await log.open_writer(0)
        await writer.begin()
        await writer.send(rig.prefix + "counts", 0, rows(b"1", b"2"))
        await writer.send(rig.prefix + "repartition", 1, rows(b"3"))
        assert await writer.flush() == {(rig.prefix + "counts", 0): 1, (rig.prefix + "repartition", 1): 0}
        await writer.send_offsets({rig.prefix + "left": 7}, "seven")
        assert not await rig.read("counts")
        await writer.commit()
        assert [r.value for r in await rig.read("counts")] == [b"1", b"2"]
        assert [(r.partition, r.value) for r in await rig.read("repartition")] == [(1, b"3")]
        topics = [rig.prefix + "left", rig.prefix + "right"]
        assert await log.committed(topics, [0, 1]) == {
            0: {topics[0]: Committed(7, "seven"), topics[1]: None},
            1: dict.fromkeys(topics),
        }
        await writer.close()


async def test_a_new_writer_fences_the_old_one_and_settles_what_it_left_open(rig: Rig) -> None:
    """Whatever the old one does next, it is told that it is not the one any more."""
    async with rig.port() as log:
        zombies = []
        for number in range(3):
            zombie = await log.open_writer(0)
            await zombie.begin()
            await zombie.send(rig.prefix + "counts", 0, rows(b"zombie"))
            await zombie.flush()
            zombies.append(zombie)
            await rig.put("right", [Given(b"%d" % number, b"k")], partition=0)
        writer = await log.open_writer(0)
        await writer.begin()
        await writer.send(rig.prefix + "counts", 0, rows(b"good"))
        await writer.flush()
        await writer.commit()
        assert [r.value for r in await rig.read("counts")] == [b"good"]
        with pytest.raises(Fenced):
            await zombies[0].commit()
        with pytest.raises(Fenced):
            await zombies[1].send_offsets({rig.prefix + "left": 1}, "")
        with pytest.raises(Fenced):  # noqa: PT012  # the send may only be handed over
            await zombies[2].send(rig.prefix + "counts", 0, rows(b"late"))
            await zombies[2].flush()
        assert (await log.committed([rig.prefix + "left"], [0]))[0] == {rig.prefix + "left": None}
        for each in (*zombies, writer):
            await each.close()


async def test_writers_of_different_tasks_do_not_fence_each_other(rig: Rig) -> None:
    """One transactional id a task."""
    async with rig.port() as log:
        writers = [await log.open_writer(p) for p in (0, 1)]
        for partition, writer in enumerate(writers):
            await writer.begin()
            await writer.send(rig.prefix + "counts", partition, rows(b"%d" % partition))
        for writer in writers:
            await writer.flush()
            await writer.commit()
            await writer.close()
        assert [r.value for r in await rig.read("counts")] == [b"0", b"1"]


async def test_a_changelog_is_read_to_its_end_whatever_stands_there(rig: Rig) -> None:
    """Control records and aborted ones mean that the last offset never arrives as a record."""
    topic = rig.prefix + "changelog"
    async with rig.port() as log:
        writer = await log.open_writer(0)
        for value in (b"1", b"2"):
            await writer.begin()
            await writer.send(topic, 0, rows(value, value))
            await writer.flush()
            await writer.commit()
        await writer.begin()
        await writer.send(topic, 0, rows(*[b"aborted"] * 20))
        await writer.flush()
        again = await log.open_writer(0)
        assert await _changelog(log, [0, 1]) == {0: [b"1", b"1", b"2", b"2"], 1: []}
        assert (await _changelog(log, [0], start=4))[0] == [b"2"]
        for each in (writer, again):
            await each.close()


async def test_bounds_are_those_of_the_records_there_are(rig: Rig) -> None:
    """First and next offset of each input, deleted ones left out."""
    await rig.put("left", [Given(b"{}", b"k")] * 5, partition=1)
    await rig.delete_before("left", 1, 3)
    async with rig.port() as log:
        left, right = rig.prefix + "left", rig.prefix + "right"
        assert await log.input_bounds([left, right], [0, 1]) == {
            0: {left: (0, 0), right: (0, 0)},
            1: {left: (3, 5), right: (0, 0)},
        }


async def test_a_changelog_of_many_fetches_is_read_to_its_end(rig: Rig) -> None:
    """Also where a whole fetch holds nothing but what was aborted."""
    topic = rig.prefix + "changelog"
    async with rig.port() as log:
        for number in range(4):
            writer = await log.open_writer(0)
            await writer.begin()
            await writer.send(topic, 0, [(b"%d" % n, bytes([number]) * 50_000, ()) for n in range(120)])
            await writer.flush()
            if number % 2:  # the others are aborted by the next one
                await writer.commit()
            await writer.close()
        found = await _changelog(log, [0])
    assert [value[0] for value in found[0] if value] == [1] * 120 + [3] * 120
