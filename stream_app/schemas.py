"""JSON Schemas (2020-12) of the records in topics, made from the types that read and write them; and an AsyncAPI
document over them.

`python -m stream_app.schemas write` renews `schemas/`; `check` names what differs and ends with status 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stream_app import asyncapi
from stream_app.domain.costs import Cost
from stream_app.domain.counters.records import LeadCounter
from stream_app.domain.events import Click, Conversion
from stream_app.domain.lead_events import LeadUpdate
from stream_app.domain.lead_records import Lead, LeadRetraction
from stream_app.domain.records import AttributedConversion, AttributedSession, Retraction
from stream_app.domain.referral.counting import ReferralCounter
from stream_app.domain.referral.member import NOT_OF_ERASURES, ReferralEvent
from stream_app.domain.referral.records import Reward, RewardRetraction
from stream_app.topics import (
    ATTRIBUTED_CONVERSIONS,
    ATTRIBUTED_SESSIONS,
    CLICKS,
    CONVERSIONS,
    COSTS,
    KEYS,
    LEAD_COUNTERS,
    LEAD_UPDATES,
    LEADS,
    REFERRAL_COUNTERS,
    REFERRAL_EVENTS,
    REFERRAL_REWARDS,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIRECTORY = Path(__file__).resolve().parents[1] / "schemas"

RECORDS: Mapping[str, Sequence[type[msgspec.Struct]]] = {
    CLICKS: (Click,),
    CONVERSIONS: (Conversion,),
    LEAD_UPDATES: (LeadUpdate,),
    COSTS: (Cost,),
    ATTRIBUTED_SESSIONS: (AttributedSession, Retraction),
    ATTRIBUTED_CONVERSIONS: (AttributedConversion, Retraction),
    LEADS: (Lead, LeadRetraction),
    REFERRAL_EVENTS: (ReferralEvent,),
    REFERRAL_REWARDS: (Reward, RewardRetraction),
    REFERRAL_COUNTERS: (ReferralCounter,),
    LEAD_COUNTERS: (LeadCounter,),
}
"""What may stand in a topic."""


CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "ReferralEvent": {
        "if": {"properties": {"type": {"const": "erased"}}, "required": ["type"]},
        "then": {"properties": {name: {"type": "null"} for name in (*NOT_OF_ERASURES, "program", "amount")}},
        "else": {"required": ["program"]},
    }
}
"""What types cannot say of one field by another."""


def schema_of(topic: str) -> dict[str, Any]:
    """The schema of one topic's record values."""
    types = RECORDS[topic]
    references, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    head: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"urn:stream-app:topic:{topic}",
        "title": topic,
        "description": f"Value of a record in the topic {topic}; the record key is {KEYS[topic]}. "
        "Lengths are in characters here; in records they count as bytes of UTF-8.",
    }
    body: dict[str, Any] = references[0] if len(references) == 1 else {"oneOf": list(references)}
    full = {name: {**_tidy(definitions[name]), **CONDITIONS.get(name, {})} for name in sorted(definitions)}
    return {**head, **body, "$defs": full}


def _tidy(schema: Any) -> Any:
    """Docstrings come with line breaks and indents."""
    if isinstance(schema, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _tidy(value)
            for key, value in schema.items()
        }
    return [_tidy(item) for item in schema] if isinstance(schema, list) else schema


def files() -> dict[str, str]:
    """File name → content of everything that is generated."""
    documents = {topic: schema_of(topic) for topic in RECORDS} | {"asyncapi": asyncapi.document(RECORDS)}
    return {
        f"{name}.json": json.dumps(content, ensure_ascii=False, indent=2) + "\n" for name, content in documents.items()
    }


def write(directory: Path = DIRECTORY) -> None:
    """Writes all files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (directory / name).write_text(content, encoding="utf-8")


def differences(directory: Path = DIRECTORY) -> list[str]:
    """Names of files that are missing, differ from what the types say, or that nothing generates."""
    wanted = files()
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: Sequence[str]) -> int:
    """The command; status 2 for wrong use."""
    match arguments:
        case ["write"]:
            write()
            return 0
        case ["check"]:
            odd = differences()
            for name in odd:
                sys.stderr.write(f"schemas/{name} is not what the types say: python -m stream_app.schemas write\n")
            return 1 if odd else 0
        case _:
            sys.stderr.write("usage: python -m stream_app.schemas write|check\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
