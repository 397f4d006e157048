"""Dead letters: what they say, reading them, and sending them once more.

A dead letter is the record as it came, byte for byte, with six headers after its own: `dlq.reason`, `dlq.detail`,
`dlq.topic`, `dlq.partition`, `dlq.offset` and `dlq.timestamp`. Its id is its place in the topic: `partition:offset`.

Replaying sends the record to the topic it came from, with headers of its first timestamp and of the dead letter, in
one Kafka transaction with the progress: offsets of the group `{app_id}-dlq-replay`. So each is replayed once, whatever
breaks. The committed offset is the first letter not replayed; letters beyond it that were (filters) stand in the
offset's metadata.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from stream_app.domain.errors import Refused
from stream_app.domain.events import moment, read_click
from stream_app.domain.times import MINUTE_MS, rfc3339
from stream_app.engine.processor import DeadLetterReason
from stream_app.topics import CLICKS, DEAD_LETTERS, INPUTS, LIVE, REPARTITION, Catalogue, TopicError, admin

if TYPE_CHECKING:
    from stream_app.settings import Settings

HEADERS = ("dlq.reason", "dlq.detail", "dlq.topic", "dlq.partition", "dlq.offset", "dlq.timestamp")
REPLAY_TIMESTAMP = "replay.timestamp"
"""Header of a replayed record: the timestamp it first had, epoch ms in ASCII. The engine takes it as the record's."""
REPLAY_DEAD_LETTER = "replay.dead-letter"
"""Header of a replayed record: the id of the dead letter it was."""

_PER_TRANSACTION = 500
_PER_TRANSACTION_BYTES = 8 << 20
_IDLE_LIMIT_S = 15.0
_STOP_LIMIT_S = 2.0
_METADATA_LIMIT = 3_500
"""Bytes of offset metadata used at most; brokers take 4,096."""

Header = tuple[str, bytes]

log = logging.getLogger(__name__)


class Explanation(msgspec.Struct, frozen=True):
    """A reason in a sentence, and what to do."""

    meaning: str
    action: str


EXPLANATIONS: Mapping[DeadLetterReason, Explanation] = {
    "bad_json": Explanation(
        "The value is not a JSON object in UTF-8.",
        "Repair the producer; records that were cut or encoded wrongly must be sent anew.",
    ),
    "bad_field": Explanation(
        "A field has a value that is not allowed; the detail names it.",
        "Repair the producer and send the event anew with the same event_id.",
    ),
    "missing_field": Explanation(
        "A required field is missing; the detail names it.",
        "Repair the producer and send the event anew with the same event_id.",
    ),
    "too_large": Explanation(
        "The record, or one of its texts, is longer than allowed.",
        "Shorten it at the producer; if engine.max_record_bytes was lowered, raise it again, then replay.",
    ),
    "too_late": Explanation(
        "The click came after the grace period: its sessions were settled.",
        "It cannot be applied live. If many come, raise sessions.grace_minutes; to count them, reprocess.",
    ),
    "clock_skew": Explanation(
        "occurred_at is more than five minutes after the time at which the broker got the record.",
        "Correct the producer's clock and send the event anew.",
    ),
    "key_mismatch": Explanation(
        "The record key is not the id in the value.",
        "Make the producer use the id as the key, or no key at all.",
    ),
    "unknown_program": Explanation(
        "The referral programme is not in the settings.",
        "Add it to [[programs]], restart the workers, then replay.",
    ),
    "unknown_order": Explanation(
        "A refund whose order has not been seen for 13 months.",
        "Check order_id and goal; send the order, then the refund anew with another event_id: this one is known.",
    ),
    "code_taken": Explanation(
        "The referral code belongs to somebody else; codes are never reassigned.",
        "Enrol the person with another code, under another event_id: what else the event says stands.",
    ),
    "payout_mismatch": Explanation(
        "The payout is not the sum of the rewards it pays, or is below the minimum.",
        "Correct the amount or name reward_ids, and send it anew.",
    ),
    "bad_money": Explanation(
        "An amount is no proper number, or its currency is unknown or not that of the order.",
        "Correct amount and currency at the producer and send the event anew with the same event_id; a refund in "
        "another currency than its order's with another one: this one is known.",
    ),
}
_UNKNOWN = Explanation(
    "The reason is not one that this release knows.", "It was written by another release: see there."
)


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter as it lies in the topic."""

    partition: int
    offset: int
    written_ms: int
    reason: str
    detail: str
    topic: str
    """Where it came from, as named on the broker."""
    origin_partition: int
    origin_offset: int
    timestamp_ms: int
    """Timestamp of the original record."""
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    """The original ones."""

    @property
    def id(self) -> str:
        """`partition:offset` in the dead-letters topic."""
        return f"{self.partition}:{self.offset}"

    @property
    def explanation(self) -> Explanation:
        """What the reason means and what to do."""
        return explain(self.reason)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is empty doesn't restrict."""

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    """Topics they came from, as named on the broker."""
    partitions: frozenset[int] = frozenset()
    """Partitions they came from."""
    since_ms: int | None = None
    """Written at or after."""
    until_ms: int | None = None
    """Written before."""
    ids: frozenset[str] = frozenset()

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.topic in self.topics)
            and (not self.partitions or letter.origin_partition in self.partitions)
            and (self.since_ms is None or letter.written_ms >= self.since_ms)
            and (self.until_ms is None or letter.written_ms < self.until_ms)
            and (not self.ids or letter.id in self.ids)
        )


class DlqError(Exception):
    """Dead letters cannot be read or replayed; the text says why and what to do."""


def explain(reason: str) -> Explanation:
    """What a reason means."""
    return EXPLANATIONS.get(reason, _UNKNOWN)  # type: ignore[call-overload, no-any-return]  # any text may be asked for


# --- reading -------------------------------------------------------------------------------------------


def parse_record(record: Any) -> DeadLetter:
    """A dead letter from a consumed record. Headers that are not there come out empty or as -1."""
    headers: tuple[Header, ...] = tuple(record.headers)
    ours: dict[str, bytes] = {}
    if tuple(name for name, _ in headers[-len(HEADERS) :]) == HEADERS:
        ours = dict(headers[-len(HEADERS) :])
        headers = headers[: -len(HEADERS)]
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        written_ms=record.timestamp,
        reason=_text(ours.get("dlq.reason")),
        detail=_text(ours.get("dlq.detail")),
        topic=_text(ours.get("dlq.topic")),
        origin_partition=_number(ours.get("dlq.partition")),
        origin_offset=_number(ours.get("dlq.offset")),
        timestamp_ms=_number(ours.get("dlq.timestamp")),
        key=record.key,
        value=record.value,
        headers=headers,
    )


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _number(raw: bytes | None) -> int:
    try:
        return int(raw or b"-1")
    except ValueError:
        return -1


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[Any]:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    from stream_app.settings.security import client_options

    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=200,
    )
    try:
        await consumer.start()
        yield consumer
    except (KafkaError, OSError) as exc:
        raise DlqError(f"{settings.kafka.bootstrap}: {exc!r}") from exc
    finally:
        await _stop(consumer)


async def _stop(client: Any) -> None:
    """Ends an aiokafka client; now and then one misses that it was told to, so nobody waits for it for long."""
    try:
        await asyncio.wait_for(client.stop(), _STOP_LIMIT_S)
    except TimeoutError:
        log.debug("%s did not stop in time", type(client).__name__)


async def read(
    settings: Settings, wanted: Filter | None = None, starts: Mapping[int, int] | None = None
) -> AsyncGenerator[DeadLetter]:
    """The dead letters written so far (not those written meanwhile), by partition, in order, oldest first.

    `starts`: first offset by partition, where not the beginning. Who may stop before the end closes it (`aclosing`):
    it holds a consumer. Raises `DlqError`.
    """
    wanted = wanted or Filter()
    async with aclosing(_stretch(settings, wanted, starts or {})) as letters:
        async for letter in letters:
            if wanted(letter):
                yield letter


async def _stretch(settings: Settings, wanted: Filter, starts: Mapping[int, int]) -> AsyncGenerator[DeadLetter]:
    """Every letter in the part of the topic that the filter's ids and times leave, without gaps."""
    async with _consumer(settings) as consumer:
        for tp, first, end in await _ranges(consumer, settings, wanted, starts):
            async for record in _records(consumer, tp, first, end):
                yield parse_record(record)


async def _ranges(
    consumer: Any, settings: Settings, wanted: Filter, starts: Mapping[int, int]
) -> list[tuple[Any, int, int]]:
    """(partition, first offset, end) to be read; as little as the filter allows."""
    from aiokafka.structs import TopicPartition

    topic = Catalogue.of(settings).name(DEAD_LETTERS)
    partitions = range((await _partition_counts(settings))[topic])
    only = {part.split(":")[0] for part in wanted.ids}
    tps = [TopicPartition(topic, p) for p in partitions if not only or str(p) in only]
    if not tps:
        return []
    begins = await consumer.beginning_offsets(tps)
    ends = await consumer.end_offsets(tps)
    by_time = {}
    if wanted.since_ms is not None:
        by_time = {
            tp: found.offset if found else ends[tp]
            for tp, found in (await consumer.offsets_for_times(dict.fromkeys(tps, wanted.since_ms))).items()
        }
    result = []
    for tp in tps:
        first = max(begins[tp], starts.get(tp.partition, 0), by_time.get(tp, 0))
        end = ends[tp]
        if only:
            asked = [int(o) for p, o in (part.split(":") for part in wanted.ids) if p == str(tp.partition)]
            first, end = max(first, min(asked)), min(end, max(asked) + 1)
        if first < end:
            result.append((tp, first, end))
    return result


async def _partition_counts(settings: Settings) -> dict[str, int]:
    """Topic on the broker → number of its partitions. Raises `DlqError` without a dead-letters topic."""
    try:
        async with admin(settings.kafka) as client:
            # Asked for all topics: asking for one by name can create it.
            counts = {topic["topic"]: len(topic["partitions"]) for topic in await client.describe_topics()}
    except TopicError as exc:
        raise DlqError(str(exc)) from exc
    topic = Catalogue.of(settings).name(DEAD_LETTERS)
    if not counts.get(topic):
        raise DlqError(f"topic {topic} does not exist; `stream-app topics create` makes it")
    return counts


async def _records(consumer: Any, tp: Any, first: int, end: int) -> AsyncIterator[Any]:
    """Records of one partition in [first, end). Control records and aborted ones have offsets but never arrive."""
    if first >= end:
        return
    loop = asyncio.get_running_loop()
    consumer.assign([tp])
    consumer.seek(tp, first)
    moved, position = loop.time(), first
    while position < end:
        got = await consumer.getmany(tp, timeout_ms=500)
        for record in got.get(tp, ()):
            if record.offset >= end:
                return
            yield record
        now_at = await consumer.position(tp)
        if now_at != position:
            moved, position = loop.time(), now_at
        elif loop.time() - moved > _IDLE_LIMIT_S:
            raise DlqError(
                f"{tp.topic}[{tp.partition}] cannot be read beyond offset {position}: an open transaction? "
                "Try again in a minute"
            )


# --- progress ------------------------------------------------------------------------------------------


class Progress:
    """Which offsets of one partition are done with: all below `first`, and some ranges beyond."""

    def __init__(self, first: int = 0, done: Iterable[tuple[int, int]] = ()) -> None:
        self.first = first
        self._ranges: list[tuple[int, int]] = []
        """[start, end] inclusive, in order, with gaps between them, all beyond `first`."""
        for start, stop in done:
            self.add(start, stop)

    @classmethod
    def parse(cls, offset: int, metadata: str) -> Progress:
        """From a committed offset and its metadata: ranges as `5-7,9-9`, or `z` and a packed bitmap."""
        try:
            if metadata.startswith("z"):
                return cls(offset, _unpacked(metadata[1:], offset))
            pairs = [part.split("-") for part in metadata.split(",")] if metadata else []
            return cls(offset, [(int(start), int(stop)) for start, stop in pairs])
        except (ValueError, zlib.error) as exc:
            raise DlqError(f"the progress of dead letters is {metadata!r}, which this release cannot read") from exc

    def metadata(self) -> str:
        """What is committed with the offset. Raises `DlqError` when there are too many gaps to be kept."""
        text = ",".join(f"{start}-{stop}" for start, stop in self._ranges)
        if len(text) > _METADATA_LIMIT:
            text = "z" + _packed(self._ranges, self.first)
        if len(text) > _METADATA_LIMIT:
            raise DlqError(
                "too many gaps between letters replayed and not: replay with a wider filter first, "
                "for instance without one"
            )
        return text

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._ranges, (offset, _FAR)) - 1
        return offset < self.first or (at >= 0 and self._ranges[at][1] >= offset)

    def add(self, start: int, stop: int | None = None) -> None:
        """Counts the offsets from `start` to `stop`, inclusive, as done."""
        stop = start if stop is None else stop
        if stop < start:
            return
        ranges = self._ranges
        low = bisect_right(ranges, (start, _FAR))
        if low and ranges[low - 1][1] >= start - 1:
            low -= 1
        high = low
        while high < len(ranges) and ranges[high][0] <= stop + 1:
            start, stop = min(start, ranges[high][0]), max(stop, ranges[high][1])
            high += 1
        ranges[low:high] = [(start, stop)]
        while ranges and ranges[0][0] <= self.first:
            self.first = max(self.first, ranges.pop(0)[1] + 1)


_FAR = 1 << 63


def _packed(ranges: Sequence[tuple[int, int]], base: int) -> str:
    bits = 0
    for start, stop in ranges:
        bits |= ((1 << (stop - start + 1)) - 1) << (start - base)
    return b64encode(zlib.compress(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), 9)).decode()


def _unpacked(text: str, base: int) -> list[tuple[int, int]]:
    bits = int.from_bytes(zlib.decompress(b64decode(text, validate=True)), "little")
    return [(base + i, base + i) for i in range(bits.bit_length()) if bits >> i & 1]


# --- replaying -----------------------------------------------------------------------------------------

Outcome = Literal["replayed", "already", "beyond_grace", "unknown_topic"]


class ReplayReport(msgspec.Struct):
    """What became of the letters that were meant."""

    replayed: int = 0
    already: int = 0
    """Replayed by an earlier run."""
    beyond_grace: int = 0
    """Clicks that cannot be applied live; they stay."""
    unknown_topic: int = 0
    """From topics that are no inputs of these settings; they stay."""
    by_reason: dict[str, int] = {}
    """Replayed ones by reason."""


def group_of(settings: Settings) -> str:
    """The consumer group that holds the progress."""
    return f"{settings.kafka.app_id}-dlq-replay"


async def replay(
    settings: Settings,
    wanted: Filter | None = None,
    *,
    again: bool = False,
    dry_run: bool = False,
    say: Callable[[DeadLetter, Outcome], None] | None = None,
) -> ReplayReport:
    """Sends the letters written so far to the topics they came from; see the module's text. Raises `DlqError`.

    With `again` also those replayed before. `say` is told of each letter once its fate is certain.
    """
    wanted = wanted or Filter()
    whole = not wanted.ids and wanted.since_ms is None
    async with _Replayer(settings, whole=whole, again=again, dry_run=dry_run, say=say or _quiet) as replayer:
        async with aclosing(_stretch(settings, wanted, replayer.starts())) as letters:
            async for letter in letters:
                await replayer.take(letter, meant=wanted(letter))
        await replayer.finish()
        return replayer.report


def _quiet(_letter: DeadLetter, _outcome: Outcome) -> None:
    return None


class _Replayer:
    """One run of `replay`: judges letters, gathers them, commits them with the progress."""

    def __init__(
        self,
        settings: Settings,
        *,
        whole: bool,
        again: bool,
        dry_run: bool,
        say: Callable[[DeadLetter, Outcome], None],
    ) -> None:
        """`whole`: every letter from the progress on will be shown, not only a stretch further on."""
        self.report = ReplayReport()
        self._settings = settings
        self._catalogue = Catalogue.of(settings)
        self._topic = self._catalogue.name(DEAD_LETTERS)
        self._again = again
        self._dry_run = dry_run
        self._say = say
        self._producer: Any = None
        self._progress: dict[int, Progress] = {}
        self._told: list[tuple[DeadLetter, Outcome]] = []
        self._changed: set[int] = set()
        self._gathered: list[DeadLetter] = []
        self._bytes = 0
        self._stream_times: dict[int, int] = {}
        self._whole = whole
        self._seen: dict[int, int] = {}

    async def __aenter__(self) -> _Replayer:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        from stream_app.settings.security import client_options

        kafka = self._settings.kafka
        try:
            if not self._dry_run:
                # Started before the progress is read: it fences another replay and settles what that one left open.
                self._producer = AIOKafkaProducer(
                    **client_options(kafka),
                    transactional_id=group_of(self._settings),
                    max_request_size=kafka.max_message_bytes * 2 + (1 << 20),
                )
                await self._producer.start()
            await self._load()
        except (KafkaError, OSError) as exc:
            await self._stop()
            raise DlqError(f"{kafka.bootstrap}: {exc!r}") from exc
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _stop(producer)

    async def _load(self) -> None:
        """The progress so far, and how far the stream time of each partition is."""
        from aiokafka.structs import TopicPartition

        from stream_app.hosts.kafka.log import KafkaLog
        from stream_app.settings.security import client_options

        async with _consumer(self._settings) as consumer:
            counts = await _partition_counts(self._settings)
            partitions = range(counts[self._topic])
            begins = await consumer.beginning_offsets([TopicPartition(self._topic, p) for p in partitions])
            self._stream_times = await _stream_times(consumer, self._catalogue, counts)
        offsets = KafkaLog(options=client_options(self._settings.kafka), app_id=group_of(self._settings), changelog="")
        try:
            committed = await offsets.committed([self._topic], partitions)
        finally:
            await offsets.close()
        for p in partitions:
            found = committed[p][self._topic]
            progress = Progress.parse(found.offset, found.metadata) if found else Progress()
            progress.add(progress.first, begins[TopicPartition(self._topic, p)] - 1)
            self._progress[p] = progress

    def starts(self) -> dict[int, int]:
        """Where reading may begin: what was asked for by id or time is looked at again, to say what became of it."""
        return {} if self._again or not self._whole else {p: progress.first for p, progress in self._progress.items()}

    async def take(self, letter: DeadLetter, *, meant: bool) -> None:
        """Judges one letter; commits when enough have come together. Letters come without gaps, meant or not."""
        self._pass_over(letter)
        if not meant:
            return
        outcome = self._judge(letter)
        if outcome == "already":
            self.report.already += 1
            self._say(letter, outcome)
            return
        self._told.append((letter, outcome))
        self._progress[letter.partition].add(letter.offset)
        self._changed.add(letter.partition)
        if outcome == "replayed":
            self._gathered.append(letter)
            self._bytes += len(letter.value or b"") + 1_000
        if len(self._told) >= _PER_TRANSACTION or self._bytes >= _PER_TRANSACTION_BYTES:
            await self.finish()

    def _pass_over(self, letter: DeadLetter) -> None:
        """Offsets between two letters hold only the marks of transactions: they are done with."""
        progress = self._progress[letter.partition]
        before = self._seen.get(letter.partition, progress.first - 1 if self._whole else letter.offset - 1)
        progress.add(before + 1, letter.offset - 1)
        self._seen[letter.partition] = letter.offset

    def _judge(self, letter: DeadLetter) -> Outcome:
        if not self._again and letter.offset in self._progress[letter.partition]:
            return "already"
        logical = self._catalogue.logical(letter.topic)
        if logical not in {*INPUTS, REPARTITION}:
            return "unknown_topic"
        if logical == CLICKS:
            grace_ms = self._settings.sessions.grace_minutes * MINUTE_MS
            first_ts = first_timestamp(letter)
            at = occurred_at(letter)
            # Late by itself, or the sessions of its time are settled by now.
            settled = self._stream_times.get(letter.origin_partition, 0) - grace_ms
            if first_ts - at > grace_ms or at < settled:
                return "beyond_grace"
        return "replayed"

    async def finish(self) -> None:
        """Commits what is gathered and the progress, in one transaction, then tells of it."""
        if not self._told:
            return
        if not self._dry_run:
            from aiokafka.errors import KafkaError, ProducerFenced

            try:
                await self._commit()
            except ProducerFenced as exc:
                raise DlqError("another `dlq replay` has started; this one ends, what it had sent counts") from exc
            except (KafkaError, OSError) as exc:
                raise DlqError(f"replaying failed, start it again to go on: {exc!r}") from exc
        for letter, outcome in self._told:
            setattr(self.report, outcome, getattr(self.report, outcome) + 1)
            if outcome == "replayed":
                self.report.by_reason[letter.reason] = self.report.by_reason.get(letter.reason, 0) + 1
            self._say(letter, outcome)
        self._told, self._gathered, self._bytes = [], [], 0
        self._changed.clear()

    async def _commit(self) -> None:
        from aiokafka.structs import OffsetAndMetadata, TopicPartition

        producer = self._producer
        offsets = {
            TopicPartition(self._topic, p): OffsetAndMetadata(self._progress[p].first, self._progress[p].metadata())
            for p in self._changed
        }
        async with producer.transaction():
            sent = [
                await producer.send(
                    letter.topic,
                    key=letter.key,
                    value=letter.value,
                    partition=letter.origin_partition if letter.origin_partition >= 0 else None,
                    headers=replay_headers(letter),
                )
                for letter in self._gathered
            ]
            for delivery in sent:
                await delivery
            if offsets:
                await producer.send_offsets_to_transaction(offsets, group_of(self._settings))


def replay_headers(letter: DeadLetter) -> list[Header]:
    """The original headers, then those that say what the record first was."""
    ours = {REPLAY_TIMESTAMP, REPLAY_DEAD_LETTER}
    return [
        *(header for header in letter.headers if header[0] not in ours),
        (REPLAY_TIMESTAMP, b"%d" % first_timestamp(letter)),
        (REPLAY_DEAD_LETTER, letter.id.encode()),
    ]


def first_timestamp(letter: DeadLetter) -> int:
    """The timestamp that the record had at first, also when it was replayed before."""
    for name, value in letter.headers:
        if name == REPLAY_TIMESTAMP and value.isdigit():
            return int(value)
    return max(0, letter.timestamp_ms)


class _Timed(msgspec.Struct):
    occurred_at: int | datetime


def occurred_at(letter: DeadLetter) -> int:
    """When the event happened, epoch ms, as far as it can be read; else its timestamp."""
    try:
        return moment(read_click(letter.value).occurred_at)
    except Refused:
        pass
    try:
        at = msgspec.json.decode(letter.value or b"", type=_Timed).occurred_at
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return first_timestamp(letter)
    if isinstance(at, datetime):
        return moment(at) if at.tzinfo is not None else first_timestamp(letter)
    return at


async def _stream_times(consumer: Any, catalogue: Catalogue, counts: Mapping[str, int]) -> dict[int, int]:
    """The newest timestamp in the inputs of each partition: no stream time can be further, but for idle time."""
    from aiokafka.structs import TopicPartition

    times: dict[int, int] = {}
    for topic in (catalogue.name(logical) for logical in INPUTS if logical in LIVE):
        tps = [TopicPartition(topic, p) for p in range(counts.get(topic, 0))]
        if not tps:
            continue
        begins = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            # A few more than the last, as that may be a control record.
            async for record in _records(consumer, tp, max(begins[tp], ends[tp] - 10), ends[tp]):
                replayed = dict(record.headers).get(REPLAY_TIMESTAMP, b"")
                ts = int(replayed) if replayed.isdigit() else record.timestamp
                times[tp.partition] = max(times.get(tp.partition, 0), ts)
    return times


# --- for people ----------------------------------------------------------------------------------------


class Summary:
    """How many letters of which reason and topic were seen."""

    def __init__(self) -> None:
        self.total = 0
        self.reasons: Counter[str] = Counter()

    def add(self, letter: DeadLetter) -> None:
        """Counts one."""
        self.total += 1
        self.reasons[letter.reason] += 1

    def lines(self) -> list[str]:
        """A line per reason: how many, what it means, what to do."""
        return [
            f"{n:>8} {reason or '(none)'}: {explain(reason).meaning} {explain(reason).action}"
            for reason, n in self.reasons.most_common()
        ]


def overview(letter: DeadLetter) -> dict[str, Any]:
    """A letter without its value: for lists."""
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "meaning": letter.explanation.meaning,
        "action": letter.explanation.action,
        "topic": letter.topic,
        "partition": letter.origin_partition,
        "offset": letter.origin_offset,
        "timestamp": shown_time(letter.timestamp_ms),
        "written_at": shown_time(letter.written_ms),
        "bytes": len(letter.value) if letter.value is not None else None,
    }


def shown_time(ms: int) -> str | None:
    """RFC 3339, or None for times that cannot be."""
    return rfc3339(ms) if 0 <= ms <= 253_402_300_799_999 else None


def shown_bytes(raw: bytes | None) -> tuple[str | None, Literal["text", "escaped", "null"]]:
    """Bytes as text that is safe on a terminal; invalid UTF-8 and control characters come out escaped."""
    if raw is None:
        return None, "null"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _printable(raw.decode("utf-8", "backslashreplace")), "escaped"
    safe = _printable(text)
    return safe, "text" if safe == text else "escaped"


def _printable(text: str) -> str:
    """Terminals obey control characters and some of the invisible ones: they are written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


__all__ = [
    "EXPLANATIONS",
    "HEADERS",
    "REPLAY_DEAD_LETTER",
    "REPLAY_TIMESTAMP",
    "DeadLetter",
    "DlqError",
    "Explanation",
    "Filter",
    "Progress",
    "ReplayReport",
    "Summary",
    "explain",
    "first_timestamp",
    "group_of",
    "occurred_at",
    "overview",
    "parse_record",
    "read",
    "replay",
    "replay_headers",
    "shown_bytes",
    "shown_time",
]
