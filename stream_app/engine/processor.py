"""What the engine asks of a processor, and what a processor may ask of the engine.

A processor is a fold over one key. It never reads a clock, a topic or a store by itself: the engine
hands it the events of one key at a time together with a `Context`, and takes back the new state.
Everything a processor says through the `Context` becomes visible in one transaction or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

S = TypeVar("S")
E = TypeVar("E")

DeadLetterReason = Literal[
    "bad_json",
    "bad_field",
    "missing_field",
    "too_large",
    "too_late",
    "clock_skew",
    "key_mismatch",
    "unknown_program",
    "unknown_order",
    "code_taken",
    "payout_mismatch",
    "bad_money",
]


class Place(NamedTuple):
    """Where a record lies or lay in its input topic."""

    partition: int
    offset: int
    timestamp: int


class Rejected(Exception):
    """A record that cannot be used. Its original bytes become a dead letter; nothing else happens.

    `reason` comes from the closed set of the contract, `detail` names the field and what is wrong with it
    (for people; it never quotes personal data).
    """

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: DeadLetterReason = reason
        self.detail = detail


class Rows(Protocol):
    """Further store rows of one key, for states too large for a single value. Numbers are 0 … 2³²−1."""

    def get(self, key: bytes, number: int) -> bytes | None: ...

    def put(self, key: bytes, number: int, value: bytes | None) -> None:
        """None removes the row (a tombstone in the changelog)."""

    def numbers(self, key: bytes) -> list[int]:
        """Which rows the key has, in order. Looks at all of them: for what is done once in the life of a key."""


class Context(Protocol[E]):  # type: ignore[misc]  # E is only ever consumed
    """One commit, as a processor sees it."""

    now: int
    """Stream time in epoch milliseconds once everything in this commit is taken."""
    revision: int
    """Strictly grows from commit to commit of one task: the revision of every output written in it."""
    caught_up: bool
    """All inputs of the task were read to their ends when last looked at: whatever came before is taken."""
    rows: Rows

    def emit(self, topic: str, key: bytes, value: bytes | None) -> None:
        """An output record. `topic` is the logical name (`attributed-sessions`); at most one per id and commit. None is
        a tombstone, for compacted topics."""

    def forward(self, kind: str, key: bytes, value: bytes) -> None:
        """A record for another key, through the internal repartition topic."""

    def reject(self, event: E, reason: DeadLetterReason, detail: str) -> None:
        """A decoded event that the state cannot take after all (`too_late` …): becomes a dead letter."""

    def origin(self, event: E) -> Place:
        """Where the record of an event lies, for a dead letter that may follow from it much later."""

    def bury(self, topic: str, key: bytes, value: bytes, place: Place, reason: DeadLetterReason, detail: str) -> None:
        """A dead letter for a record of the input `topic` (its logical name) that was taken long ago. Its bytes are
        gone: `value` is made from what is kept of it."""

    def gather(self, kind: str) -> dict[Any, Any]:
        """What is gathered under a name in this commit, by all processors of the task together; the topology's
        combiner of that name makes records of it when all folds are through."""

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        """Adds to a business metric once the commit is through. Labels come from closed sets."""


Combiner = Callable[[dict[Any, Any], "Context[Any]"], None]
"""(what was gathered in a commit, the commit) → forwards it, coalesced."""


Decoder = Callable[[bytes | None, bytes | None, int], E]
"""(record key, record value, record timestamp in ms) → event; raises `Rejected`."""


class Processor(Protocol[S, E]):
    """A keyed fold. `S` is the state of one key, `E` its events.

    The engine calls, for every key with events in a commit: `load` (only when the state is not cached),
    `fold` once with all of them, and `save` at the end of the commit. When the stream time passes
    `due(state)`, it calls `wake`. States may be mutated in place: after any failure all of them are dropped.
    """

    name: str
    """Names metrics and logs: `journeys`."""
    tag: bytes
    """One byte, never reused: begins the store keys of this processor."""
    inputs: Sequence[str]
    """Logical input topics (`clicks`) this processor reads; they count for stream time."""
    kinds: Sequence[str]
    """Kinds of repartition records it reads besides misplaced records of its inputs."""
    state_version: int
    """The newest version of its states. `load` reads this one and the one before; what `save` writes can be read as
    either, as long as the topology's `state_version` does not allow the newest: an older program ignores what it does
    not know, and one that must not is kept away by the version."""

    def decoder(self, source: str) -> Decoder[E]:
        """The decoder of one input or repartition kind, asked once. A decoder must check that a non-null record key
        equals the id in the value (`key_mismatch`)."""

    def key_of(self, event: E) -> bytes:
        """The key of an event whose record had none."""

    def fold(self, key: bytes, state: S | None, events: list[E], context: Context[E]) -> S | None:
        """Applies the events of one commit, in any order given, and emits what changed. None forgets the key."""

    def wake(self, key: bytes, state: S, context: Context[E]) -> S | None:
        """The stream time has passed `due(state)`: publish or delete what is already so."""

    def due(self, state: S) -> int:
        """When to wake next, epoch ms of stream time; 0: never."""

    def load(self, key: bytes, version: int, payload: bytes, rows: Rows) -> S:
        """Decodes what `save` wrote, now or in the version before."""

    def save(self, key: bytes, state: S, rows: Rows) -> bytes:
        """Encodes the state; large ones keep parts in `rows` and write only those that changed."""


AnyProcessor = Processor[object, object]

__all__ = [
    "AnyProcessor",
    "Combiner",
    "Context",
    "DeadLetterReason",
    "Decoder",
    "Place",
    "Processor",
    "Rejected",
    "Rows",
]
