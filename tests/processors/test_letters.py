"""What keys tell each other, should another version have written it."""

from __future__ import annotations

import pytest

from stream_app.app.topology import build_topology
from stream_app.engine.processor import AnyProcessor, Rejected
from stream_app.settings import parse
from tests.referral.erasing import SETTINGS

PROCESSORS = build_topology(parse(SETTINGS, {}), partitions=1).processors
KINDS = [(processor, kind) for processor in PROCESSORS for kind in processor.kinds if kind != "referral-lap"]
"""A lap says nothing but that it is there."""


@pytest.mark.parametrize(("processor", "kind"), KINDS, ids=[kind for _, kind in KINDS])
@pytest.mark.parametrize("value", [b"\xc1", b"", None, b"\x92\xa1a"], ids=["no msgpack", "empty", "none", "cut off"])
def test_what_cannot_be_read_becomes_a_dead_letter_and_stops_nobody(
    processor: AnyProcessor, kind: str, value: bytes | None
) -> None:
    with pytest.raises(Rejected) as refused:
        processor.decoder(kind)(b"key", value, 0)
    assert refused.value.reason == "bad_json"
    assert "that this version cannot read" in refused.value.detail
