"""Which Kafka, and where its jars are kept. The release is named once, in deploy/kafka/pom.xml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from stream_app.devtools.node import NoBroker

ROOT: Final = Path(__file__).resolve().parents[2]
POM: Final = ROOT / "deploy" / "kafka" / "pom.xml"
CACHE: Final = ROOT / ".cache"


def kafka_version() -> str:
    """Raises NoBroker outside the source tree."""
    try:
        text = POM.read_text()
    except FileNotFoundError:
        raise NoBroker("a broker can only be provided from the source tree; this is an installed package") from None
    match = re.search(r"<kafka\.version>([^<]+)<", text)
    if match is None:
        raise NoBroker(f"{POM} names no kafka.version")
    return match[1]
