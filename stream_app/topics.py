"""The topics: which there are, what they are called, how they must be set up; and creating and checking them.

Code speaks of topics by logical name (`clicks`); only the catalogue knows what they are called on the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from stream_app.settings import Kafka, Settings

Role = Literal["input", "output", "dead-letters", "changelog", "repartition"]
Timestamps = Literal["append", "create"]

CLICKS = "clicks"
CONVERSIONS = "conversions"
LEAD_UPDATES = "lead-updates"
COSTS = "costs"
REFERRAL_EVENTS = "referral-events"
ATTRIBUTED_SESSIONS = "attributed-sessions"
ATTRIBUTED_CONVERSIONS = "attributed-conversions"
LEADS = "leads"
LEAD_COUNTERS = "lead-counters"
REFERRAL_REWARDS = "referral-rewards"
REFERRAL_COUNTERS = "referral-counters"
DEAD_LETTERS = "dead-letters"
CHANGELOG = "changelog"
REPARTITION = "repartition"

INPUTS = (CLICKS, CONVERSIONS, LEAD_UPDATES, COSTS, REFERRAL_EVENTS)
OUTPUTS = (
    ATTRIBUTED_SESSIONS,
    ATTRIBUTED_CONVERSIONS,
    LEADS,
    LEAD_COUNTERS,
    REFERRAL_REWARDS,
    REFERRAL_COUNTERS,
)
LOGICAL = (*INPUTS, *OUTPUTS, DEAD_LETTERS, CHANGELOG, REPARTITION)
"""Every topic, in the order in which people read them."""
LIVE = frozenset(
    {
        CLICKS,
        CONVERSIONS,
        LEAD_UPDATES,
        COSTS,
        ATTRIBUTED_SESSIONS,
        ATTRIBUTED_CONVERSIONS,
        LEADS,
        LEAD_COUNTERS,
        REFERRAL_EVENTS,
        REFERRAL_REWARDS,
        REFERRAL_COUNTERS,
        DEAD_LETTERS,
        CHANGELOG,
        REPARTITION,
    }
)
"""Topics that this release reads or writes. The others are created all the same, so that producers can begin."""
COMPACTED_OUTPUTS = frozenset({LEADS, LEAD_COUNTERS, REFERRAL_COUNTERS})
"""Outputs whose key is the record's id. The others are keyed by person: compaction would lose records."""

KEYS = {
    CLICKS: "client_id",
    CONVERSIONS: "client_id",
    LEAD_UPDATES: "lead_id",
    COSTS: "cost_id",
    REFERRAL_EVENTS: "user_id",
    ATTRIBUTED_SESSIONS: "client_id",
    ATTRIBUTED_CONVERSIONS: "client_id",
    LEADS: "lead_id",
    LEAD_COUNTERS: "id",
    REFERRAL_REWARDS: "user_id",
    REFERRAL_COUNTERS: "id",
}
"""The field whose value is the record key."""

DAY_MS = 86_400_000
TOMBSTONE_RETENTION_MS = 7 * DAY_MS
"""`delete.retention.ms` of the changelog: a store that was not written for half of it is rebuilt."""
HEADROOM_BYTES = 64 * 1024
"""What the other topics take beyond the inputs' limit: the dlq headers and the like."""


class Topic(msgspec.Struct, frozen=True):
    """One topic as it must be."""

    logical: str
    name: str
    """On the broker, with prefix and app id."""
    role: Role
    key: str
    live: bool
    """Whether this release reads or writes it."""
    partitions: int
    replication: int
    config: Mapping[str, str]
    """Topic settings that must hold."""


class Difference(msgspec.Struct, frozen=True):
    """One way in which a topic is not as it must be."""

    topic: str
    what: str
    """`missing`, `partitions`, `replication`, `leader`, `in-sync` or the name of a topic setting."""
    message: str
    """What is, what must be, and what to do."""

    def __str__(self) -> str:
        return f"{self.topic}: {self.message}"


class Found(msgspec.Struct, frozen=True):
    """A topic as it is on the broker."""

    name: str
    partitions: int
    replication: int
    """The smallest number of copies of any partition."""
    leaderless: int
    """Partitions without a leader."""
    in_sync: int
    """The smallest number of copies in sync of any partition."""
    config: Mapping[str, str]


class TopicError(Exception):
    """A topic could not be created or described; says which and why."""


class Catalogue:
    """All topics of one deployment."""

    def __init__(self, kafka: Kafka, timestamps: Timestamps = "append") -> None:
        self.topics: dict[str, Topic] = {logical: _topic(logical, kafka, timestamps) for logical in LOGICAL}
        self._logical = {topic.name: topic.logical for topic in self.topics.values()}

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        """The catalogue of these settings."""
        return cls(settings.kafka)

    def name(self, logical: str) -> str:
        """What a topic is called on the broker."""
        return self.topics[logical].name

    def logical(self, name: str) -> str | None:
        """The logical name of a topic on the broker; None: not ours."""
        return self._logical.get(name)

    @property
    def live(self) -> list[Topic]:
        """Topics that this release reads or writes."""
        return [topic for topic in self.topics.values() if topic.live]


def topic_name(logical: str, kafka: Kafka) -> str:
    """Real names: `{prefix}{name}`; internal topics also carry the app id."""
    if logical in {CHANGELOG, REPARTITION}:
        return f"{kafka.topic_prefix}{kafka.app_id}-{logical}"
    return f"{kafka.topic_prefix}{logical}"


def _role(logical: str) -> Role:
    if logical in INPUTS:
        return "input"
    if logical in OUTPUTS:
        return "output"
    match logical:
        case "dead-letters":
            return "dead-letters"
        case "changelog":
            return "changelog"
        case _:
            return "repartition"


def _topic(logical: str, kafka: Kafka, timestamps: Timestamps) -> Topic:
    role = _role(logical)
    return Topic(
        logical=logical,
        name=topic_name(logical, kafka),
        role=role,
        key=KEYS.get(logical, "as its origin" if logical == DEAD_LETTERS else "internal"),
        live=logical in LIVE,
        partitions=kafka.partitions,
        replication=kafka.replication,
        config=_config(logical, role, kafka, timestamps),
    )


def _config(logical: str, role: Role, kafka: Kafka, timestamps: Timestamps) -> dict[str, str]:
    config = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(kafka.max_message_bytes + (0 if role == "input" else HEADROOM_BYTES)),
        "min.insync.replicas": str(kafka.effective_min_insync_replicas),
        # A leader that lost committed records would break exactly-once without a word.
        "unclean.leader.election.enable": "false",
    }
    if role == "changelog" or logical in COMPACTED_OUTPUTS:
        config |= {"cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONE_RETENTION_MS)}
        if role == "changelog":
            # Recovery reads all of it: keep it short, at the price of more cleaning.
            config |= {"min.cleanable.dirty.ratio": "0.2", "segment.bytes": str(128 << 20)}
        return config
    config |= {"retention.bytes": "-1", "retention.ms": "-1"}
    match role:
        case "input":
            config["retention.ms"] = _retention_ms(kafka.input_retention_days)
            config["message.timestamp.type"] = "LogAppendTime" if timestamps == "append" else "CreateTime"
        case "dead-letters":
            config["retention.ms"] = _retention_ms(kafka.dead_letter_retention_days)
            # Retention counts from when the letter was written, not from the age of what it holds.
            config["message.timestamp.type"] = "LogAppendTime"
        case "output":
            config["retention.ms"] = _retention_ms(kafka.output_retention_days)
        case _:
            pass
    return config


def _retention_ms(days: int) -> str:
    return str(days * DAY_MS) if days else "-1"


# --- on the broker -------------------------------------------------------------------------------------


@asynccontextmanager
async def admin(kafka: Kafka) -> AsyncIterator[Any]:
    """A started AIOKafkaAdminClient. Raises `TopicError` when no broker answers."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    from stream_app.settings.security import client_options

    client = AIOKafkaAdminClient(**client_options(kafka))
    try:
        try:
            await client.start()
        except (KafkaError, OSError) as exc:
            raise TopicError(f"no broker answers at {kafka.bootstrap}: {exc}") from exc
        yield client
    finally:
        await client.close()


async def describe(catalogue: Catalogue, client: Any) -> dict[str, Found]:
    """The topics of the catalogue that exist, by logical name."""
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    # Asked without names: asking for a topic by name can create it.
    metadata = {topic["topic"]: topic for topic in await client.describe_topics()}
    wanted = [topic for topic in catalogue.topics.values() if topic.name in metadata]
    if not wanted:
        return {}
    answers = await client.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name, dict.fromkeys(topic.config)) for topic in wanted]
    )
    configs: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _kind, name, entries in answer.resources:
            if code:
                raise TopicError(f"{name}: settings cannot be read: {_error(code, message)}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    found = {}
    for topic in wanted:
        partitions = metadata[topic.name]["partitions"]
        found[topic.logical] = Found(
            name=topic.name,
            partitions=len(partitions),
            replication=min((len(part["replicas"]) for part in partitions), default=0),
            leaderless=sum(part["leader"] < 0 for part in partitions),
            in_sync=min((len(part["isr"]) for part in partitions), default=0),
            config=configs.get(topic.name, {}),
        )
    return found


async def create(catalogue: Catalogue, client: Any, *, timeout_s: float = 30.0) -> list[str]:
    """Creates what is missing and waits until every partition has a leader; gives the names created.

    Topics that exist are left as they are: `check` says how they differ. Raises `TopicError`.
    """
    from aiokafka.admin import NewTopic

    existing = set(await client.list_topics())
    missing = [topic for topic in catalogue.topics.values() if topic.name not in existing]
    if not missing:
        return []
    answer = await client.create_topics(
        [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.config))
            for topic in missing
        ]
    )
    created, failed = [], []
    for name, code, *rest in answer.topic_errors:
        if code == 0:
            created.append(name)
        elif code != 36:  # TOPIC_ALREADY_EXISTS: somebody else was quicker
            failed.append(f"{name}: {_error(code, rest[0] if rest else '')}")
    if failed:
        raise TopicError("\n".join(failed))
    await _await_leaders(catalogue, client, timeout_s)
    return created


async def _await_leaders(catalogue: Catalogue, client: Any, timeout_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = await describe(catalogue, client)
        waiting = [
            topic.name
            for topic in catalogue.topics.values()
            if topic.logical not in found or not found[topic.logical].partitions or found[topic.logical].leaderless
        ]
        if not waiting:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TopicError(f"created, but still without leaders after {timeout_s:g} s: {', '.join(waiting)}")
        await asyncio.sleep(0.1)


async def check(
    catalogue: Catalogue, client: Any, *, live_only: bool = False, timestamps: Timestamps | None = None
) -> list[Difference]:
    """How the topics differ from the catalogue; empty: they are as they must be.

    Without `timestamps` either kind of record timestamp is right for inputs.
    """
    found = await describe(catalogue, client)
    topics: Iterable[Topic] = catalogue.live if live_only else catalogue.topics.values()
    differences = []
    for topic in topics:
        differences.extend(compare(topic, found.get(topic.logical), timestamps))
    return differences


def compare(topic: Topic, found: Found | None, timestamps: Timestamps | None = None) -> list[Difference]:
    """How one topic differs from what it must be."""
    if found is None:
        return [Difference(topic.name, "missing", "does not exist; `stream-app topics create` makes it")]
    result = []

    def differs(what: str, message: str) -> None:
        result.append(Difference(topic.name, what, message))

    if found.partitions != topic.partitions:
        differs(
            "partitions",
            f"has {found.partitions} partitions, must have {topic.partitions}: the count is fixed for the life of "
            "app_id (set kafka.partitions to the topics' count, or reprocess under a new app_id)",
        )
    if found.replication < topic.replication:
        differs("replication", f"has {found.replication} copies of some partition, must have {topic.replication}")
    if found.leaderless:
        differs("leader", f"{found.leaderless} partitions have no leader: brokers are down")
    needed = int(topic.config["min.insync.replicas"])
    if found.in_sync < needed:
        differs("in-sync", f"some partition has {found.in_sync} copies in sync, fewer than the {needed} a write needs")
    for key, value in topic.config.items():
        actual = found.config.get(key)
        if key == "message.timestamp.type" and topic.role == "input" and timestamps is None:
            continue
        if actual is not None and not _same(actual, value):
            differs(key, f"{key} is {actual}, must be {value}{_why(topic, key, actual)}")
    return result


def _same(actual: str, wanted: str) -> bool:
    try:
        return float(actual) == float(wanted)
    except ValueError:
        return sorted(actual.split(",")) == sorted(wanted.split(","))


def _why(topic: Topic, key: str, actual: str) -> str:
    if key == "cleanup.policy":
        if topic.role == "output" and "compact" in actual and topic.logical not in COMPACTED_OUTPUTS:
            return ": its key is a person, not the record's id, so compaction would lose records"
        if topic.role == "changelog":
            return ": deleting from the changelog loses state"
        if topic.role in {"input", "repartition"}:
            return ": compaction would lose events"
    if key.startswith("retention.") and topic.role == "repartition":
        return ": the app deletes it up to what is committed"
    return ""


def _error(code: int, message: str | None) -> str:
    from aiokafka.errors import for_code

    return message or str(for_code(code).__name__)
