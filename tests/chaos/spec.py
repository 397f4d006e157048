"""What a test tells a worker process: one JSON file."""

from __future__ import annotations

from typing import Literal

import msgspec

Action = Literal["kill", "raise", "stop", "damage"]


class Failpoint(msgspec.Struct, frozen=True):
    """Something that happens at a named step of the engine: on the `nth` time it is reached (0: not by count), or each
    time with a probability."""

    step: str
    action: Action = "kill"
    nth: int = 0
    probability: float = 0.0
    armed_by: str = ""
    """Path of a file: nothing happens unless it is there."""


class WorkerSpec(msgspec.Struct, frozen=True):
    """Everything one worker process must know."""

    bootstrap: str
    app_id: str
    prefix: str
    partitions: int
    state_directory: str
    seed: int
    session_ms: int
    topology: Literal["tally", "journeys"] = "tally"
    instance: str = ""
    idle_ms: int = 500
    forget_ms: int = 4_000
    cache_entries: int = 100
    """Small, so that states leave the cache and come back from the store."""
    commit_deadline_s: float = 8.0
    transaction_timeout_ms: int = 20_000
    max_failures: int = 50
    max_record_bytes: int = 64 << 10
    failpoints: list[Failpoint] = []
    mutations: list[str] = []
    config: str = ""
    """Path of a settings file, for the real topology."""


STEPS_OF_COMMIT = (
    "commit.built",
    "commit.begun",
    "commit.sent",
    "commit.delivered",
    "commit.offsets",
    "commit.committed",
    "commit.stored",
)
STEPS_OF_OPENING = (
    "open.start",
    "open.fenced",
    "open.offsets",
    "open.store",
    "open.replayed",
    "open.recovered",
)
STEPS_AROUND = ("intake.feed", "close.begin", "close.end")
TIMERS = "timers."
"""Before a step's name: in a commit that only fires timers."""
OPENING = "opening."
"""Before a step's name: in a commit made while opening."""
