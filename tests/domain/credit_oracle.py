"""Every credit model once more, straight from the rules: exact fractions, textbook formulas, no speed.

Shares nothing with the product but the type of a source. Powers of two are taken from decimals of 70 digits.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

from stream_app.domain.rules import AttributionRules, CustomModel
from stream_app.domain.sources.model import Source

DAY = 86_400_000
WIDE = Context(prec=70)
DIGITS = {"JPY": 0, "KWD": 3, "CLF": 4}

Touch = tuple[int, Source]
Shares = list[tuple[Source, Fraction]]


def credits_by_hand(
    path: list[Touch], at: int, value: Decimal | None, currency: str, rules: AttributionRules
) -> dict[str, list[dict[str, Any]]]:
    """What `credits` of a conversion must be, as JSON, given the touchpoints within its lookback."""
    digits = DIGITS.get(currency, 2)
    unit = Fraction(1, 10**digits)
    total = None if value is None else Fraction(value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))

    def shown(shares: Shares) -> list[dict[str, Any]]:
        weights = [weight for _, weight in shares]
        parts = largest_remainder(Fraction(1), weights, Fraction(1, 10**12))
        amounts = [None] * len(shares) if total is None else largest_remainder(total, weights, unit)
        return [
            {
                "source": source.source,
                "medium": source.medium,
                "campaign": source.campaign,
                "channel": source.channel,
                "credit": decimals(part, 12).rstrip("0").rstrip(".") or "0",
                "value": None if amount is None else decimals(amount, digits),
            }
            for (source, weight), part, amount in zip(shares, parts, amounts, strict=True)
            if weight > 0
        ]

    models = weights_by_hand(path, at, rules)
    return {name: shown(shares) for name, shares in models.items()}


def weights_by_hand(path: list[Touch], at: int, rules: AttributionRules) -> dict[str, Shares]:
    """Weights that sum to 1, of the touchpoints that a model sees."""
    names = ["last_non_direct", "last_click", "first_click", "linear", "position_based", "time_decay"]
    names += [model.name for model in rules.custom_models]
    unknown = Source("(not determined)", "(not set)", channel="Not determined")
    if not path:
        return {name: [(unknown, Fraction(1))] for name in names}

    def change(touches: list[Touch]) -> list[Touch]:
        return transformed(touches, rules.path_transform)

    everything, named = change(path), change(no_direct(path))
    spread = everything if rules.count_direct else named
    n = len(spread)
    if n == 1:
        position = [Fraction(1)]
    elif n == 2:
        position = [Fraction(1, 2), Fraction(1, 2)]
    else:
        position = [Fraction(2, 5)] + [Fraction(1, 5) / (n - 2)] * (n - 2) + [Fraction(2, 5)]
    halves = [halved(at - when, 7 * DAY) for when, _ in spread]
    found = {
        "last_non_direct": [(named[-1][1], Fraction(1))],
        "last_click": [(everything[-1][1], Fraction(1))],
        "first_click": [(everything[0][1], Fraction(1))],
        "linear": [(source, Fraction(1, n)) for _, source in spread],
        "position_based": [(source, weight) for (_, source), weight in zip(spread, position, strict=True)],
        "time_decay": [(source, half / sum(halves)) for (_, source), half in zip(spread, halves, strict=True)],
    }
    for model in rules.custom_models:
        near = [(when, s) for when, s in path if model.lookback_days is None or at - when <= model.lookback_days * DAY]
        if not near:
            found[model.name] = [(unknown, Fraction(1))]
            continue
        seen = change(near if model.count_direct else no_direct(near))
        weights = custom(model, seen, at)
        whole = sum(weights)
        found[model.name] = (
            [(source, weight / whole) for (_, source), weight in zip(seen, weights, strict=True)]
            if whole
            else found["last_click"]
        )
    return found


def custom(model: CustomModel, path: list[Touch], at: int) -> list[Fraction]:
    """Position × factor × decay."""
    n = len(path)
    weights = [Fraction(1)] * n
    if model.position is not None and n >= 2:
        weights = [Fraction(model.position.middle) / (n - 2) if n > 2 else Fraction(0)] * n
        weights[0], weights[-1] = Fraction(model.position.first), Fraction(model.position.last)
    for i, (when, source) in enumerate(path):
        factor = Fraction(model.multipliers.get(source.channel, Decimal(1)))
        for rule in model.rules:
            # Tests write rules of one kind only: a campaign that contains something.
            if all((c.contains or "").lower() in source.campaign.lower() for c in rule.all):
                factor = Fraction(rule.factor)
                break
        weights[i] *= factor
        if model.half_life_days is not None:
            weights[i] *= halved(at - when, int(model.half_life_days * DAY))
    return weights


def halved(age: int, half_life: int) -> Fraction:
    """2^(−age / half-life), right to seventy digits or so."""
    whole, rest = divmod(age, half_life)
    power = WIDE.power(Decimal(2), WIDE.divide(Decimal(-rest), Decimal(half_life))) if rest else Decimal(1)
    return Fraction(power) / 2**whole


def no_direct(path: list[Touch]) -> list[Touch]:
    return [touch for touch in path if touch[1].source != "(direct)"] or path


def transformed(path: list[Touch], how: str) -> list[Touch]:
    """The path transforms of the settings."""
    names = [(s.source, s.medium, s.campaign, s.channel) for _, s in path]
    keep = {
        "none": lambda i: True,
        "exposure": lambda i: i == 0 or names[i] != names[i - 1],
        "unique": lambda i: names[i] not in names[i + 1 :],
        "first": lambda i: names[i] not in names[:i],
    }[how]
    return [touch for i, touch in enumerate(path) if keep(i)]


def largest_remainder(total: Fraction, weights: list[Fraction], unit: Fraction) -> list[Fraction]:
    """Whole units down first; the rest one by one to the largest remainder, the earlier first."""
    exact = [total * weight / sum(weights) / unit for weight in weights]
    shares = [share.numerator // share.denominator for share in exact]
    rest = [share - whole for share, whole in zip(exact, shares, strict=True)]
    for _ in range(int(total / unit) - sum(shares)):
        chosen = rest.index(max(rest))
        shares[chosen] += 1
        rest[chosen] = Fraction(-1)
    return [share * unit for share in shares]


def decimals(number: Fraction, digits: int) -> str:
    scaled = number * 10**digits
    assert scaled.denominator == 1
    text = str(scaled.numerator).zfill(digits + 1)
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text
