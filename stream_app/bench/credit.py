"""How many conversions a second are credited on one core, by every model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from stream_app.app.crediting import Converted, Crediting
from stream_app.domain.credit import CreditModels
from stream_app.domain.journey import Touchpoint
from stream_app.domain.rules import AttributionRules, CustomModel, Position
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.domain.times import DAY_MS, rfc3339
from stream_app.settings import parse

CONVERSIONS = 20_000
TOUCHPOINTS = 8
ROUNDS = 5

_AT = 1_767_225_600_000
_SOURCES = (
    DIRECT,
    Source("google", "cpc", "spring", channel="Paid Search"),
    Source("google", "organic", channel="Organic Search"),
    Source("news", "email", "may", channel="Email"),
    Source("facebook", "paid_social", "retargeting", channel="Paid Social"),
    Source("blog.example", "referral", channel="Referral"),
    Source("chatgpt.com", "ai-assistant", channel="AI Assistants"),
)
_OURS = {"name": "ours", "position": {"first": 0.3, "middle": 0.3, "last": 0.4}, "multipliers": {"Paid Social": 0.5}}


def paths(number: int, length: int, seed: int = 1) -> list[tuple[list[Touchpoint], int, Decimal]]:
    """Conversions with `length` touchpoints each, of any age within 90 days, no two paths alike."""
    rng = random.Random(seed)
    made = []
    for _ in range(number):
        at = _AT + rng.randrange(DAY_MS)
        ages = sorted((rng.randrange(90 * DAY_MS) for _ in range(length)), reverse=True)
        value = Decimal(rng.randrange(100, 50_000)) / 100
        made.append(([Touchpoint(at - age, "s", rng.choice(_SOURCES)) for age in ages], at, value))
    return made


def lines(given: Sequence[tuple[list[Touchpoint], int, Decimal]]) -> list[bytes]:
    """The same as input of `stream-app credit`."""
    return [
        msgspec.json.encode(
            {
                "touchpoints": [
                    {
                        "occurred_at": rfc3339(point.at),
                        "source": point.source.source,
                        "medium": point.source.medium,
                        "campaign": point.source.campaign,
                        "channel": point.source.channel,
                    }
                    for point in path
                ],
                "occurred_at": rfc3339(at),
                "value": str(value),
            }
        )
        for path, at, value in given
    ]


def _rate(credit: Callable[[Any], object], given: Sequence[Any], rounds: int) -> int:
    best = 0.0
    for _ in range(rounds):
        started = time.process_time()
        for one in given:
            credit(one)
        best = max(best, len(given) / (time.process_time() - started))
    return round(best)


def run(conversions: int = CONVERSIONS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Conversions per second of CPU time, the best of a few rounds: whole lines in and out as `stream-app credit` does
    them, the parts of that, and the models alone over paths of other lengths."""
    given = paths(conversions, TOUCHPOINTS)
    text = lines(given)
    plain = Crediting(parse({}))
    custom = Crediting(parse({"attribution": {"custom_models": [_OURS]}}))
    decode = msgspec.json.Decoder(Converted).decode
    asked = [decode(line) for line in text]
    answered = [plain.credit(one) for one in asked]
    models = CreditModels()
    ours = CreditModels(
        AttributionRules(
            custom_models=(
                CustomModel(
                    "ours",
                    Position(Decimal("0.3"), Decimal("0.3"), Decimal("0.4")),
                    {"Paid Social": Decimal("0.5")},
                ),
            )
        )
    )

    def alone(by: CreditModels) -> Callable[[tuple[list[Touchpoint], int, Decimal]], object]:
        return lambda one: by.credits(one[0], one[1], one[2], "EUR")

    return {
        "credit": {
            "conversions": conversions,
            "touchpoints": TOUCHPOINTS,
            "bytes_in": round(sum(map(len, text)) / len(text)),
            "bytes_out": round(sum(len(plain.answer(line)) for line in text) / len(text)),
            "lines_per_cpu_second": _rate(plain.answer, text, rounds),
            "lines_with_a_custom_model_per_cpu_second": _rate(custom.answer, text, rounds),
            "decoding_per_cpu_second": _rate(decode, text, rounds),
            "crediting_per_cpu_second": _rate(plain.credit, asked, rounds),
            "encoding_per_cpu_second": _rate(msgspec.json.Encoder().encode, answered, rounds),
            "models_alone_per_cpu_second": _rate(alone(models), given, rounds),
            "models_and_a_custom_one_per_cpu_second": _rate(alone(ours), given, rounds),
            **{
                f"models_alone_{length}_touchpoints_per_cpu_second": _rate(
                    alone(models), paths(conversions, length), rounds
                )
                for length in (0, 1, 2, 3, 30)
            },
        }
    }
