"""`stream-app dlq` on a real broker: listing, showing, and replaying each letter once."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.devtools.broker import Broker
from stream_app.dlq import EXPLANATIONS, DlqError, Filter, Progress, parse_record, replay, replay_headers, shown_bytes
from stream_app.engine.processor import DeadLetterReason
from stream_app.settings import Settings, parse
from stream_app.settings.security import client_options
from stream_app.topics import Catalogue
from tests.cli.helpers import json_lines, run

Header = tuple[str, bytes]
Sent = tuple[str, int, bytes | None, bytes | None, list[Header]]
"""(topic, partition, key, value, headers)"""

MINUTE = 60_000


class Deployment:
    """Topics of one test, and clients that write and read them."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.environ = {
            "STREAM_APP_KAFKA__BOOTSTRAP": bootstrap,
            "STREAM_APP_KAFKA__TOPIC_PREFIX": prefix,
            "STREAM_APP_KAFKA__APP_ID": f"{prefix}app",
            "STREAM_APP_KAFKA__PARTITIONS": "2",
        }
        self.settings: Settings = parse({}, self.environ)
        self.catalogue = Catalogue.of(self.settings)
        assert run("topics", "create", **self.environ).exit_code == 0

    def name(self, logical: str) -> str:
        return self.catalogue.name(logical)

    def send(self, records: Sequence[Sent], *, abort: bool = False) -> None:
        """In one transaction, as the engine does."""

        async def work() -> None:
            from aiokafka import AIOKafkaProducer

            producer = AIOKafkaProducer(
                **client_options(self.settings.kafka), transactional_id=f"{self.settings.kafka.app_id}-test"
            )
            await producer.start()
            try:
                await producer.begin_transaction()
                for topic, partition, key, value, headers in records:
                    await producer.send(topic, value, key, partition, headers=headers)
                await (producer.abort_transaction() if abort else producer.commit_transaction())
            finally:
                await producer.stop()

        asyncio.run(work())

    def read(self, logical: str) -> list[Any]:
        """Everything committed in a topic."""

        async def work() -> list[Any]:
            from aiokafka import AIOKafkaConsumer
            from aiokafka.structs import TopicPartition

            consumer = AIOKafkaConsumer(
                **client_options(self.settings.kafka), isolation_level="read_committed", enable_auto_commit=False
            )
            await consumer.start()
            found = []
            try:
                tps = [TopicPartition(self.name(logical), p) for p in range(2)]
                consumer.assign(tps)
                await consumer.seek_to_beginning(*tps)
                ends = await consumer.end_offsets(tps)
                while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found.extend(records)
            finally:
                await consumer.stop()
            return found

        return asyncio.run(work())

    def letter(
        self,
        reason: str,
        value: bytes | None,
        *,
        topic: str = "conversions",
        partition: int = 0,
        ts: int | None = None,
        headers: Sequence[Header] = (),
        key: bytes | None = b"c1",
        place: int = 0,
    ) -> Sent:
        """A dead letter as the engine writes it."""
        ours = {
            "dlq.reason": reason.encode(),
            "dlq.detail": f"url: about {reason}".encode(),
            "dlq.topic": self.name(topic).encode(),
            "dlq.partition": b"%d" % partition,
            "dlq.offset": b"17",
            "dlq.timestamp": b"%d" % (now() if ts is None else ts),
        }
        return self.name("dead-letters"), place, key, value, [*headers, *ours.items()]

    def replay(self, *arguments: str) -> dict[str, Any]:
        """What `dlq replay` prints."""
        result = run("dlq", "replay", *arguments, **self.environ)
        assert result.exit_code == 0, result.stderr
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    def replayed(self, logical: str = "conversions") -> list[bytes]:
        """Values of the records that a replay has sent, in any order."""
        return sorted(record.value or b"" for record in self.read(logical))


def now() -> int:
    return time.time_ns() // 1_000_000


def click(event: str, at: int) -> bytes:
    return json.dumps(
        {"event_id": event, "client_id": "c1", "occurred_at": at, "url": "https://shop.example.com/"}
    ).encode()


@pytest.fixture
def deployment(broker: Broker, topic_prefix: str) -> Deployment:
    return Deployment(broker.bootstrap, topic_prefix)


def test_every_reason_is_explained() -> None:
    """In a sentence, with what to do."""
    assert set(EXPLANATIONS) == set(get_args(DeadLetterReason))
    for explanation in EXPLANATIONS.values():
        assert explanation.meaning.endswith(".")
        assert len(explanation.action) > 20


def test_list_explains_and_filters(deployment: Deployment) -> None:
    """By reason, topic, partition and time; aborted letters were never there."""
    deployment.send([deployment.letter("bad_json", b"never")], abort=True)
    deployment.send(
        [
            deployment.letter("bad_json", b"{", topic="clicks"),
            deployment.letter("too_late", b"{}", topic="clicks", partition=1, place=1),
            deployment.letter("bad_money", b"{}"),
        ]
    )
    rows = json_lines(run("dlq", "list", **deployment.environ).stdout)
    assert sorted(row["reason"] for row in rows) == ["bad_json", "bad_money", "too_late"]
    bad_json = next(row for row in rows if row["reason"] == "bad_json")
    assert bad_json["meaning"] == EXPLANATIONS["bad_json"].meaning
    assert bad_json["action"] == EXPLANATIONS["bad_json"].action
    assert bad_json["topic"] == deployment.name("clicks")
    assert bad_json["offset"] == 17
    assert bad_json["bytes"] == 1

    def listed(*arguments: str) -> list[str]:
        found = run("dlq", "list", *arguments, **deployment.environ)
        assert found.exit_code == 0, found.stderr
        return sorted(row["reason"] for row in json_lines(found.stdout))

    assert listed("--reason", "bad_json", "--reason", "too_late") == ["bad_json", "too_late"]
    assert listed("--topic", "clicks") == ["bad_json", "too_late"]
    assert listed("--topic", deployment.name("conversions")) == ["bad_money"]
    assert listed("--partition", "1") == ["too_late"]
    assert listed("--since", "1h") == ["bad_json", "bad_money", "too_late"]
    assert listed("--since", str(now() + MINUTE)) == []
    assert listed("--until", "1h") == []
    assert len(listed("--limit", "2")) == 2
    summary = run("dlq", "list", "--format", "summary", **deployment.environ).stdout
    assert EXPLANATIONS["bad_money"].action in summary
    table = run("dlq", "list", "--format", "table", **deployment.environ).stdout
    assert "url: about bad_money" in table
    assert run("dlq", "list", "--reason", "no_such", **deployment.environ).exit_code == 2


def test_ends_quietly_before_the_last_letter(deployment: Deployment) -> None:
    """As with `dlq list | head`, with a limit, or once the letter that was asked for is found."""
    deployment.send([deployment.letter("bad_json", b"{"), deployment.letter("bad_json", b"[")])

    def ended(*arguments: str, stdout: int) -> tuple[int, str]:
        command = [sys.executable, "-m", "stream_app.cli.main", "dlq", *arguments]
        environ = {**os.environ, **deployment.environ}
        found = subprocess.run(
            command, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        return found.returncode, found.stderr

    nobody_reads, pipe = os.pipe()
    os.close(nobody_reads)
    try:
        assert ended("list", stdout=pipe) == (1, "")
    finally:
        os.close(pipe)
    assert ended("list", "--limit", "1", stdout=subprocess.DEVNULL) == (0, "")
    assert ended("show", "0:0", stdout=subprocess.DEVNULL) == (0, "")
    assert run("dlq", "list", "--since", "yesterday", **deployment.environ).exit_code == 2


def test_show_gives_the_original_bytes_safely_or_raw(deployment: Deployment) -> None:
    """Escape sequences and broken UTF-8 don't reach the terminal; --raw gives every byte."""
    value = b"\x1b[2J{\xff\xfe \xe2\x80\xae}"
    deployment.send([deployment.letter("bad_json", value, headers=[("trace", b"\x00\x01")])])
    shown = run("dlq", "show", "0:0", **deployment.environ)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    assert r"\x1b[2J{\xff\xfe" in shown.stdout
    assert EXPLANATIONS["bad_json"].meaning in shown.stdout
    assert "trace" in shown.stdout
    whole = json.loads(run("dlq", "show", "0:0", "--json", **deployment.environ).stdout)
    assert base64.b64decode(whole["value"]["base64"]) == value
    assert whole["key"] == "c1"
    raw = subprocess.run(
        [sys.executable, "-m", "stream_app.cli.main", "dlq", "show", "0:0", "--raw"],
        env={**deployment.environ, "PATH": ""},
        capture_output=True,
        check=True,
    )
    assert raw.stdout == value
    assert "no dead letter 1:99" in run("dlq", "show", "1:99", **deployment.environ).stderr
    assert run("dlq", "show", "nonsense", **deployment.environ).exit_code == 2


def test_replay_sends_the_record_as_it_was_with_two_headers_more(deployment: Deployment) -> None:
    """Key, value, headers and partition as at first; its first timestamp and its letter's id beside them."""
    ts = now() - 5 * MINUTE
    deployment.send(
        [deployment.letter("bad_money", b"\xff\x00", partition=1, ts=ts, headers=[("trace", b"7"), ("dlq.x", b"y")])]
    )
    assert deployment.replay()["replayed"] == 1
    (record,) = deployment.read("conversions")
    assert (record.partition, record.key, record.value) == (1, b"c1", b"\xff\x00")
    assert list(record.headers) == [
        ("trace", b"7"),
        ("dlq.x", b"y"),
        ("replay.timestamp", b"%d" % ts),
        ("replay.dead-letter", b"0:0"),
    ]


def test_each_letter_is_replayed_once_unless_again(deployment: Deployment) -> None:
    """Across runs, with transaction marks between letters, and new ones are found."""
    for number in range(3):
        deployment.send([deployment.letter("bad_field", b"%d" % number)])
    first = deployment.replay()
    assert (first["replayed"], first["by_reason"]) == (3, {"bad_field": 3})
    assert deployment.replay()["replayed"] == 0
    deployment.send([deployment.letter("bad_field", b"3")])
    assert deployment.replay()["replayed"] == 1
    assert deployment.replayed() == [b"0", b"1", b"2", b"3"]
    assert deployment.replay("--again", "--reason", "bad_field")["replayed"] == 4
    assert len(deployment.replayed()) == 8
    assert deployment.replay("0:0")["already_replayed"] == 1


def test_filters_leave_the_others_for_later(deployment: Deployment) -> None:
    """What one run passes over, a wider one sends; nothing twice."""
    reasons = ["bad_field", "bad_money"] * 3
    deployment.send([deployment.letter(reason, b"%d" % n) for n, reason in enumerate(reasons)])
    assert deployment.replay("--reason", "bad_money")["replayed"] == 3
    assert deployment.replayed() == [b"1", b"3", b"5"]
    assert deployment.replay("0:4")["replayed"] == 1
    last = deployment.replay()
    assert (last["replayed"], last["already_replayed"]) == (2, 4)
    assert deployment.replayed() == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert run("dlq", "replay", "1:77", **deployment.environ).exit_code == 1


def test_a_dry_run_changes_nothing(deployment: Deployment) -> None:
    """It only says what would be done."""
    deployment.send([deployment.letter("bad_field", b"x")])
    assert deployment.replay("--dry-run")["replayed"] == 1
    assert deployment.replayed() == []
    assert deployment.replay()["replayed"] == 1


def test_clicks_beyond_grace_stay_and_are_named(deployment: Deployment) -> None:
    """Late by themselves, or their time is settled by now: only reprocessing can apply them."""
    at = now()
    deployment.send(
        [
            (deployment.name("clicks"), 0, b"c2", click("fresh", at), []),
            deployment.letter("too_late", click("late", at - 90 * MINUTE), topic="clicks", ts=at),
            deployment.letter("bad_field", click("settled", at - 61 * MINUTE), topic="clicks", ts=at - 61 * MINUTE),
            deployment.letter("bad_field", click("fits", at - 30 * MINUTE), topic="clicks", ts=at - 30 * MINUTE),
            deployment.letter("bad_json", b"{", topic="clicks", ts=at - 61 * MINUTE),
            deployment.letter("bad_money", b"conversion", ts=at - 90 * 24 * 60 * MINUTE),
            deployment.letter("bad_money", b"elsewhere", topic="attributed-sessions"),
        ]
    )
    result = run("dlq", "replay", **deployment.environ)
    report = json.loads(result.stdout)
    assert report["replayed"] == 2
    assert report["cannot_be_applied_live"] == 3
    assert report["unknown_topic"] == 1
    assert result.stderr.count("cannot be applied live; reprocess") == 3
    assert deployment.replayed("clicks")[-1] == click("fresh", at) or click("fits", at - 30 * MINUTE) in (
        deployment.replayed("clicks")
    )
    assert len(deployment.replayed("clicks")) == 2
    assert deployment.replayed() == [b"conversion"]
    assert len(json_lines(run("dlq", "list", **deployment.environ).stdout)) == 6


def test_letters_of_many_reasons_in_alternation(deployment: Deployment) -> None:
    """A filter over many letters of many reasons leaves as many gaps as there are letters."""
    deployment.send(
        [deployment.letter(("bad_field", "bad_json", "bad_money")[n % 3], b"%d" % n, place=n % 2) for n in range(3_000)]
    )
    assert deployment.replay("--reason", "bad_json")["replayed"] == 1_000
    assert deployment.replay("--reason", "bad_json")["replayed"] == 0
    assert deployment.replay()["replayed"] == 2_000
    assert len(set(deployment.replayed())) == len(deployment.replayed()) == 3_000


async def test_a_replay_that_breaks_goes_on_where_it_was(deployment_async: Deployment) -> None:
    """What was sent before the break is not sent again."""
    seen = 0

    class Break(Exception):
        pass

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen > 700:
            raise Break

    with pytest.raises(Break):
        await replay(deployment_async.settings, say=stop)
    report = await replay(deployment_async.settings)
    values = [record.value for record in await asyncio.to_thread(deployment_async.read, "conversions")]
    assert len(values) == len(set(values)) == 1_200
    assert 0 < report.replayed < 1_200


@pytest.fixture
def deployment_async(deployment: Deployment) -> Deployment:
    """With more letters than fit one transaction, made before the test's loop runs."""
    deployment.send([deployment.letter("bad_field", b"%d" % n) for n in range(1_200)])
    return deployment


def test_without_the_topic_there_is_a_message(broker: Broker, topic_prefix: str) -> None:
    """Status 1, not an endless wait."""
    result = run(
        "dlq", "list", STREAM_APP_KAFKA__BOOTSTRAP=broker.bootstrap, STREAM_APP_KAFKA__TOPIC_PREFIX=topic_prefix
    )
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


# --- without a broker ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5))), st.integers(0, 50))
def test_progress_is_a_set_that_survives_its_own_text(adds: list[tuple[int, int]], first: int) -> None:
    """For any letters in any order: the same offsets are in it before and after being committed."""
    progress = Progress(first)
    model = set(range(first))
    for start, length in adds:
        progress.add(start, start + length)
        model |= set(range(start, start + length + 1))
    again = Progress.parse(progress.first, progress.metadata())
    for offset in range(320):
        assert (offset in progress) is (offset in model)
        assert (offset in again) is (offset in model)


def test_progress_with_many_gaps_is_packed_and_with_too_many_refused() -> None:
    """Offset metadata is small: a bitmap holds tens of thousands of gaps, then the operator is told."""
    import random

    progress = Progress()
    for offset in range(1, 20_000, 2):
        progress.add(offset)
    assert progress.metadata().startswith("z")
    again = Progress.parse(0, progress.metadata())
    assert 19_999 in again
    assert 19_998 not in again
    generator = random.Random(1)
    for _ in range(60_000):
        progress.add(generator.randrange(1, 400_000))
    with pytest.raises(DlqError, match="wider filter"):
        progress.metadata()
    with pytest.raises(DlqError, match="cannot read"):
        Progress.parse(0, "zebra")


class Consumed:
    """A consumed record."""

    partition, offset, timestamp, key, value = 0, 5, 1, None, None

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = headers


def test_a_letter_without_our_headers_is_read_all_the_same() -> None:
    """Somebody else may write into the topic."""
    letter = parse_record(Consumed([("dlq.reason", b"bad_json"), ("x", b"y")]))
    assert letter.reason == ""
    assert letter.headers == (("dlq.reason", b"bad_json"), ("x", b"y"))
    assert "not one that this release knows" in letter.explanation.meaning


def test_a_letter_of_a_letter_keeps_its_first_timestamp() -> None:
    """Replayed, refused again, replayed again: the time is that of the first record."""
    ours = [(f"dlq.{name}", b"7") for name in ("reason", "detail", "topic", "partition", "offset", "timestamp")]
    letter = parse_record(
        Consumed([("trace", b"1"), ("replay.timestamp", b"123"), ("replay.dead-letter", b"0:1"), *ours])
    )
    assert replay_headers(letter) == [
        ("trace", b"1"),
        ("replay.timestamp", b"123"),
        ("replay.dead-letter", b"0:5"),
    ]


@given(st.binary(max_size=50))
def test_shown_bytes_are_printable(raw: bytes) -> None:
    """Whatever the bytes: nothing that a terminal would obey."""
    text, _ = shown_bytes(raw)
    assert text is not None
    assert text.isprintable()


def test_an_empty_filter_wants_everything() -> None:
    """And one with ids only these."""
    letter = parse_record(Consumed([]))
    assert Filter()(letter)
    assert Filter(ids=frozenset({"0:5"}))(letter)
    assert not Filter(ids=frozenset({"0:6"}))(letter)
