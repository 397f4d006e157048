#!/usr/bin/env python3
"""Keeps the last revision of every record of output topics in an SQLite file. Needs aiokafka, nothing else of ours.

    python last_revision.py --bootstrap kafka:9092 --database outputs.sqlite \
        --topic attributed-sessions --topic attributed-conversions --topic leads --topic lead-counters

What to take from it for a consumer of your own:
1. read_committed: what a worker had begun when it died is never seen.
2. Of an id the highest revision counts; `retracted` and tombstones end it.
3. Positions are kept where the records are, and written with them, in one transaction: whatever dies, nothing is
   missing and nothing counts twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, retracted INTEGER NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (topic, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS truth AS SELECT topic, id, revision, record FROM records WHERE NOT retracted;
"""

UPSERT = """
INSERT INTO records (topic, id, revision, retracted, record) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (topic, id) DO UPDATE SET revision = excluded.revision, retracted = excluded.retracted,
    record = excluded.record
WHERE excluded.revision > records.revision
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The file, with its tables."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    return database


def apply(database: sqlite3.Connection, topic: str, records: Iterable[Any], partition: int, position: int) -> None:
    """Records of one partition, and where it goes on, in one transaction."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for record in records:
            if record.value is None:  # a tombstone: the key is the id
                database.execute("DELETE FROM records WHERE topic = ? AND id = ?", (topic, record.key.decode()))
                continue
            value = json.loads(record.value)
            row = (topic, value["id"], value["revision"], int(value["retracted"]), record.value.decode())
            database.execute(UPSERT, row)
        database.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (topic, partition, position))


async def follow(bootstrap: str, topics: Sequence[str], database: sqlite3.Connection, *, to_end: bool) -> None:
    """Reads on from where the database stands; `to_end`: only what is there now."""
    partitions = await _partitions(bootstrap, topics)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,  # positions are in the database
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        known = {(t, p): position for t, p, position in database.execute("SELECT * FROM positions")}
        for partition in partitions:
            position = known.get((partition.topic, partition.partition))
            if position is None:
                await consumer.seek_to_beginning(partition)
            else:
                consumer.seek(partition, position)
        ends = await consumer.end_offsets(partitions)
        while True:
            batches = await consumer.getmany(timeout_ms=500)
            for partition, records in batches.items():
                apply(database, partition.topic, records, partition.partition, records[-1].offset + 1)
            # Not by offset: the last thing in a log is a transaction's marker, which is no record.
            if to_end and all([await consumer.position(p) >= end for p, end in ends.items()]):
                return
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    if missing := set(topics) - counts.keys():
        raise SystemExit(f"no such topics: {', '.join(sorted(missing))}")
    return [TopicPartition(topic, partition) for topic in topics for partition in range(counts[topic])]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Keeps the last revision of every record in an SQLite file.")
    parser.add_argument(
        "--bootstrap", default=os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092"), help="else KAFKA_BOOTSTRAP"
    )
    parser.add_argument("--topic", action="append", required=True, dest="topics", help="may be given more than once")
    parser.add_argument("--database", type=Path, default=Path("outputs.sqlite"))
    parser.add_argument("--to-end", action="store_true", help="end with what is there now, instead of waiting for more")
    given = parser.parse_args()
    database = open_database(given.database)
    try:
        asyncio.run(follow(given.bootstrap, given.topics, database, to_end=given.to_end))
    except KafkaConnectionError as exc:
        raise SystemExit(f"no broker answers at {given.bootstrap}: {exc}") from exc
    except KeyboardInterrupt:
        pass
    finally:
        database.close()


if __name__ == "__main__":
    main()
