"""One record of simulated traffic, ready to be produced or written to a file."""

from __future__ import annotations

from typing import Literal

import msgspec

Topic = Literal["clicks", "conversions", "lead-updates", "costs", "referral-events"]
TOPICS: tuple[Topic, ...] = ("clicks", "conversions", "lead-updates", "costs", "referral-events")


class Record(msgspec.Struct, gc=False):
    """A record as a tracker, a CRM or an ad system sends it.

    `ts` is when it reaches the broker (epoch ms, never decreasing from record to record), `occurred_at` when it
    happened. `place` is the 31-bit hash whose remainder by the partition count is the partition: that of the key,
    unless the record is misplaced on purpose.
    """

    topic: Topic
    key: bytes | None
    value: bytes
    occurred_at: int
    ts: int
    place: int
