"""What a worker must not go on with: it ends with a text that says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from confluent_kafka.admin import NewPartitions

from tests.chaos.arena import Arena, Member, wait_until
from tests.chaos.logs import ends
from tests.chaos.oracle import check, committed
from tests.kafka import disasters
from tests.kafka.test_recovery import again, history, more

pytestmark = pytest.mark.slow

MakeArena = Callable[..., Arena]
EXIT_FAILED = 70


def refuses(worker: Member, *texts: str, **changes: object) -> None:
    """Started, it ends by itself, with these words."""
    worker.start(**changes)
    code = worker.wait()
    assert code == EXIT_FAILED, f"ended with {code}\n{worker.tail()}"
    for text in texts:
        assert worker.said(text), f"{text!r} was not said\n{worker.tail()}"


def set_offsets(field: Arena, offsets: dict[tuple[str, int], tuple[int, str]]) -> None:
    async def commit() -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        # Committing by itself when it stops, it would write its positions without our metadata.
        consumer = AIOKafkaConsumer(
            bootstrap_servers=field.bootstrap, group_id=field.spec.app_id, enable_auto_commit=False
        )
        await consumer.start()
        try:
            tps = {TopicPartition(*place): OffsetAndMetadata(*at) for place, at in offsets.items()}
            consumer.assign(list(tps))
            await consumer.commit(tps)
        finally:
            await consumer.stop()

    asyncio.run(commit())


def test_state_and_offsets_that_contradict_each_other(arena: MakeArena) -> None:
    """Offsets set by hand; changelog and state both gone. Put right, it goes on as if nothing had been."""
    field = arena()
    worker = history(field, 1_500)
    right = committed(field.bootstrap, field.spec.app_id)
    place = (field.spec.prefix + "left", 3)
    by_hand = {place: (right[place][0] - 5, right[place][1])}
    wait_until("the group takes offsets", lambda: _try_set(field, by_hand), every_s=0.3)
    refuses(worker, "cannot go on: task 3: the changelog says", "offsets set by hand")
    wait_until("the group takes offsets", lambda: _try_set(field, {place: right[place]}), every_s=0.3)
    again(field, worker, "offsets put right", end=False)
    assert worker.terminate() == 0

    kept = worker.state.with_name("kept")
    shutil.copytree(worker.state, kept)
    content = disasters.content(field)
    disasters.recreate_empty(field)
    disasters.delete_state(worker)
    before = committed(field.bootstrap, field.spec.app_id)
    refuses(worker, "but its changelog .* and its state directory hold nothing", "Going on would lose every state")
    assert committed(field.bootstrap, field.spec.app_id) == before
    disasters.recreate_with(field, content)
    again(field, worker, "the changelog brought back", end=False)
    field.expect_green()


def _try_set(field: Arena, offsets: dict[tuple[str, int], tuple[int, str]]) -> bool:
    """Whether the group takes offsets: not while a dead member's session lasts."""
    try:
        set_offsets(field, offsets)
    except Exception:  # noqa: BLE001  # whatever the coordinator says
        return False
    return True


def test_input_that_is_gone_or_made_anew(arena: MakeArena) -> None:
    """Records deleted before they were processed; an input topic deleted and created again."""
    field = arena()
    worker = history(field, 1_500)
    feeder = field.feed(800, 2_500, pause_s=0, keys=700)
    feeder.join()
    topic = field.spec.prefix + "left"
    at = {p: offset for (t, p), (offset, _) in committed(field.bootstrap, field.spec.app_id).items() if t == topic}
    end = ends(field.admin, topic, field.spec.partitions)
    behind = next(p for p in at if end[p] > at[p] + 1)
    disasters.delete_inputs_before(field, topic, {behind: at[behind] + 1})
    refuses(
        worker,
        rf"task {behind} stands at offset {at[behind]} of {topic}, which holds {at[behind] + 1} to {end[behind]}",
        "were deleted .* before they were processed",
        "delete the consumer group",
    )
    field.delete(topic)
    field.create({topic: {"message.timestamp.type": "LogAppendTime"}})
    refuses(worker, "the changelog says .* the group has .*was an input made anew")


def test_another_number_of_partitions(arena: MakeArena) -> None:
    """Topics that have more partitions than the settings say, or have grown since."""
    field = arena(partitions=4)
    worker = history(field, 800)
    refuses(worker, "kafka.partitions is 2, but .*left has 4.*fixed for its life", partitions=2)
    for future in field.admin.create_partitions([NewPartitions(field.spec.prefix + "left", 6)]).values():
        future.result(30)
    wait_until("the topic has grown", lambda: len(_partitions(field, "left")) == 6)
    refuses(worker, "kafka.partitions is 4, but .*left has 6")


def _partitions(field: Arena, topic: str) -> Collection[int]:
    return field.admin.list_topics(timeout=20).topics[field.spec.prefix + topic].partitions


def test_two_workers_with_one_state_directory(arena: MakeArena) -> None:
    """The second one ends at once and says why; the first one doesn't notice."""
    field = arena()
    first, second = field.member("a"), field.member("b")
    first.start()
    field.wait_running()
    more(field, 500)
    refuses(
        second, "is in use by another worker: every worker needs a state directory", state_directory=str(first.state)
    )
    more(field, 500)
    assert first.alive
    assert not set(check(field.spec).wrong) & {"state wrong", "state missing"}
