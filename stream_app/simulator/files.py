"""Writes traffic as files that `stream-app replay` reads: one record a line, its broker time in `received_at`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from stream_app.simulator.records import TOPICS, Record


def line_of(record: Record) -> bytes:
    """The line of a record. A value that is not an object (a bad record) stays as it is, without `received_at`."""
    if record.value.endswith(b"}"):
        return b'%b,"received_at":%d}\n' % (record.value[:-1], record.ts)
    return record.value.replace(b"\n", b" ") + b"\n"


def write(records: Iterable[Record], directory: Path) -> dict[str, int]:
    """Writes a file per topic, as `clicks.jsonl`, and gives the number of lines by topic."""
    directory.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(TOPICS, 0)
    with ExitStack() as stack:
        files = {topic: stack.enter_context((directory / f"{topic}.jsonl").open("wb")) for topic in TOPICS}
        for record in records:
            files[record.topic].write(line_of(record))
            counts[record.topic] += 1
    return {str(topic): count for topic, count in counts.items()}
