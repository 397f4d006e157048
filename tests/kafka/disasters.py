"""What operators and disks do to a worker's state, its changelog and its offsets while it is down."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from tests.chaos.arena import Arena, Member, wait_until
from tests.chaos.logs import QUIET, Read, read

# -- the state directory: what may become of one store ------------------------------------------------------------


def lost(store: Path) -> None:
    shutil.rmtree(store)


def bytes_flipped(store: Path) -> None:
    """Some bytes in the middle of every table file and log."""
    for path in (*store.glob("*.sst"), *store.glob("*.log")):
        content = bytearray(path.read_bytes())
        for at in range(len(content) // 3, min(len(content), len(content) // 3 + 2_000)):
            content[at] ^= 0xFF
        path.write_bytes(content)


def without_current(store: Path) -> None:
    (store / "CURRENT").unlink()


def without_manifest(store: Path) -> None:
    for manifest in store.glob("MANIFEST-*"):
        manifest.unlink()


def without_tables(store: Path) -> None:
    for table in store.glob("*.sst"):
        table.unlink()


def something_else(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()
    (store / "CURRENT").write_text("nonsense\n")
    (store / "LOG").write_bytes(b"\0" * 100)


def intact(store: Path) -> None:
    """Nothing happens to it."""


def delete_state(member: Member) -> None:
    shutil.rmtree(member.state)


def each(member: Member, *disasters: Callable[[Path], None]) -> None:
    """One disaster after the other, store by store."""
    stores = sorted(path for path in member.state.iterdir() if path.name.isdigit())
    assert len(stores) >= len(disasters)
    for n, store in enumerate(stores):
        disasters[n % len(disasters)](store)


# -- the changelog ----------------------------------------------------------------------------------------------


def wait_compacted(field: Arena) -> None:
    """Until the cleaner has left next to nothing but last values."""

    def clean() -> bool:
        records = read(field.bootstrap, field.changelog, field.spec.partitions)
        return len(records) < 1.5 * len({(r.partition, r.key) for r in records})

    # The active segment is never cleaned: it is rolled when something is written after `segment.ms`.
    wait_until("the changelog is compacted", clean, every_s=0.5)


def content(field: Arena) -> list[Read]:
    """Last value of each row, as compaction would leave it, in log order."""
    last: dict[tuple[int, bytes | None], Read] = {}
    for record in read(field.bootstrap, field.changelog, field.spec.partitions):
        last.pop((record.partition, record.key), None)
        last[record.partition, record.key] = record
    return [record for record in last.values() if record.value is not None]


def recreate_empty(field: Arena) -> None:
    field.delete(field.changelog)
    field.create({field.changelog: {"cleanup.policy": "compact"}})


def recreate_with(field: Arena, records: list[Read], *, every: int = 7) -> None:
    """As a mirror or a restore would: the same rows at other offsets, in transactions of their own (whose markers take
    offsets, too)."""
    recreate_empty(field)
    producer = Producer(
        {**QUIET, "bootstrap.servers": field.bootstrap, "transactional.id": f"{field.spec.prefix}mirror"}
    )
    producer.init_transactions(60)
    for start in range(0, len(records), every):
        producer.begin_transaction()
        for record in records[start : start + every]:
            producer.produce(field.changelog, record.value, record.key, record.partition)
        producer.commit_transaction(60)


# -- the group ----------------------------------------------------------------------------------------------------


def forget_offsets(field: Arena) -> None:
    """As if they had expired."""

    def deleted() -> bool:
        (answer,) = field.admin.delete_consumer_groups([field.spec.app_id]).values()
        try:
            answer.result(30)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:  # the dead worker's session has not expired yet
                return False
            raise
        return True

    wait_until("the group can be deleted", deleted, every_s=0.2)


def delete_inputs_before(field: Arena, topic: str, offsets: dict[int, int]) -> None:
    asked = [TopicPartition(topic, p, offset) for p, offset in offsets.items()]
    for future in field.admin.delete_records(asked).values():
        future.result(30)
