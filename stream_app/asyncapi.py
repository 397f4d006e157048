"""The AsyncAPI 3 document over the record schemas: which topics there are, who writes and reads them, with what key.

Made from the topics and their schemas; `python -m stream_app.schemas write` writes it beside them.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from stream_app.topics import COMPACTED_OUTPUTS, DEAD_LETTERS, INPUTS, KEYS

_PURPOSE = {
    "clicks": "Page views, screen views and landings, from trackers.",
    "conversions": "Goals reached and refunds, from trackers and shops.",
    "lead-updates": "What became of leads, from a CRM.",
    "costs": "Advertising spend, from ad systems.",
    "referral-events": "The life of referral programmes: enrolments, invitations, payouts, reviews, erasures.",
    "attributed-sessions": "Visits with their source.",
    "attributed-conversions": "Conversions with their path and credit by every model.",
    "leads": "Leads with their status and attribution.",
    "lead-counters": "Live counters by window and dimension.",
    "referral-rewards": "Rewards of referral programmes.",
    "referral-counters": "Live counters of referral programmes.",
    DEAD_LETTERS: "Records that could not be used: value, key and headers as they came, byte for byte.",
}
_REASONS = (
    "bad_json", "bad_field", "missing_field", "too_large", "too_late", "clock_skew", "key_mismatch",
    "unknown_program", "unknown_order", "code_taken", "payout_mismatch", "bad_money",
)  # fmt: skip
_DEAD_LETTER_HEADERS = {
    "dlq.reason": {"type": "string", "enum": list(_REASONS)},
    "dlq.detail": {"type": "string", "description": "The field and what is wrong with it, for people."},
    "dlq.topic": {"type": "string", "description": "Where it came from."},
    "dlq.partition": {"type": "string", "pattern": r"^\d+$"},
    "dlq.offset": {"type": "string", "pattern": r"^\d+$"},
    "dlq.timestamp": {"type": "string", "pattern": r"^\d+$", "description": "Epoch milliseconds."},
}


def document(topics: Collection[str]) -> dict[str, Any]:
    """The document over these logical topics, each of which has a schema file `{topic}.json` beside it."""
    named = [topic for topic in _PURPOSE if topic in topics]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stream_app",
            "version": version("stream-app"),
            "description": "Marketing attribution on Apache Kafka. Topic names may carry a prefix. Read outputs with "
            "isolation.level=read_committed; the last record of an id is the truth.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic) for topic in (*named, DEAD_LETTERS)},
        "operations": {_verb(topic) + _camel(topic): _operation(topic) for topic in (*named, DEAD_LETTERS)},
    }


def _verb(topic: str) -> str:
    return "receive" if topic in INPUTS else "send"


def _operation(topic: str) -> dict[str, Any]:
    return {"action": _verb(topic), "channel": {"$ref": f"#/channels/{topic}"}, "summary": _PURPOSE[topic]}


def _channel(topic: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": topic,
        "contentType": "application/json",
        "bindings": {"kafka": {"key": _key(topic), "bindingVersion": "0.5.0"}},
    }
    if topic == DEAD_LETTERS:
        message["headers"] = {
            "type": "object",
            "required": list(_DEAD_LETTER_HEADERS),
            "properties": _DEAD_LETTER_HEADERS,
        }
        message["contentType"] = "application/octet-stream"
    else:
        message["payload"] = {"schemaFormat": "application/schema+json;version=draft-2020-12",
                              "schema": {"$ref": f"./{topic}.json"}}  # fmt: skip
    return {
        "address": topic,
        "description": _PURPOSE[topic],
        "messages": {_camel(topic): message},
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": ["compact" if topic in COMPACTED_OUTPUTS else "delete"]},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _key(topic: str) -> dict[str, Any]:
    if topic == DEAD_LETTERS:
        return {"type": "string", "description": "The original record's."}
    return {"type": "string", "description": f"`{KEYS[topic]}` as UTF-8."}


def _camel(topic: str) -> str:
    return "".join(part.capitalize() for part in topic.split("-"))
