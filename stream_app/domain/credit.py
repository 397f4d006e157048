"""Which touchpoints a conversion owes itself to, by each model (domain rules, section 4; semantics 32 and 33).

A model looks at a path: direct touchpoints dropped where the model says so, then transformed. It gives weights, one
per touchpoint, in whole numbers; credit (of 10¹² parts) and money (of minor units) are divided by those weights and
closed by largest remainder. No float and no rounded intermediate takes part, so a share's last digit is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from math import lcm

from stream_app.domain import money
from stream_app.domain.cache import BoundedCache
from stream_app.domain.decay import halving
from stream_app.domain.paths import TRANSFORMS, Path, without_direct
from stream_app.domain.records import Credit
from stream_app.domain.rules import AttributionRules, CustomModel, FactorRule
from stream_app.domain.sources.custom import CustomRules, RuleInput
from stream_app.domain.sources.model import NOT_SET, Source
from stream_app.domain.sources.rules import ChannelRule
from stream_app.domain.times import DAY_MS

Credits = dict[str, tuple[Credit, ...]]
"""By model, oldest touchpoint first; those without any weight are left out."""

BUILT_IN = ("last_non_direct", "last_click", "first_click", "linear", "position_based", "time_decay")
"""Names of the models that are always there."""
PARTS = 10**12
"""A credit has 12 decimals."""
DECAY_HALF_LIFE_MS = 7 * DAY_MS
"""Of the model time_decay."""
NOT_DETERMINED = Source(source="(not determined)", medium=NOT_SET, campaign=NOT_SET, channel="Not determined")
"""Gets the whole credit when there is no touchpoint (semantics 32)."""

_MAX_CACHED_FACTORS = 10_000


def linear(count: int) -> list[int]:
    """All alike."""
    return [1] * count


def position_based(count: int) -> list[int]:
    """40 % to the first and the last, 20 % shared by those between; half and half without any between."""
    if count <= 2:
        return [1] * count
    end = 2 * (count - 2)
    return [end, *[1] * (count - 2), end]


class CreditModels:
    """The credit models of one site."""

    def __init__(self, rules: AttributionRules | None = None) -> None:
        rules = rules if rules is not None else AttributionRules()
        self.names = (*BUILT_IN, *(model.name for model in rules.custom_models))
        self._transform = TRANSFORMS[rules.path_transform]
        self._transforms = rules.path_transform != "none"
        self._count_direct = rules.count_direct
        self._decay = halving(DECAY_HALF_LIFE_MS)
        self._customs = tuple(Custom(model) for model in rules.custom_models)

    def credits(self, touchpoints: Path, at: int, value: Decimal | None, currency: str) -> Credits:
        """Credits of a conversion at `at` that looks back on these touchpoints, oldest first and none after `at`.
        `value` is divided as it is shown, in whole minor units."""
        sum_of_money = _Sum(value, currency)
        if not touchpoints:
            return dict.fromkeys(self.names, sum_of_money.all_to(NOT_DETERMINED))
        full = touchpoints
        named = without_direct(touchpoints)
        if self._transforms:
            full, named = self._transform(full), self._transform(named)
        last_non_direct = sum_of_money.all_to(named[-1].source)
        last_click = last_non_direct if full[-1] is named[-1] else sum_of_money.all_to(full[-1].source)
        first_click = last_click if len(full) == 1 else sum_of_money.all_to(full[0].source)
        found = {"last_non_direct": last_non_direct, "last_click": last_click, "first_click": first_click}
        spread = full if self._count_direct else named
        count = len(spread)
        if count == 1:
            found["linear"] = found["position_based"] = found["time_decay"] = last_non_direct
        else:
            found["linear"] = sum_of_money.by_shape(spread, linear)
            found["position_based"] = sum_of_money.by_shape(spread, position_based) if count > 2 else found["linear"]
            newest, decay = spread[-1].at, self._decay
            found["time_decay"] = sum_of_money.divided(spread, [decay(newest - point.at) for point in spread])
        for custom in self._customs:
            found[custom.name] = self._custom(custom, touchpoints, at, sum_of_money, last_click)
        return found

    def _custom(
        self, custom: Custom, touchpoints: Path, at: int, sum_of_money: _Sum, last_click: tuple[Credit, ...]
    ) -> tuple[Credit, ...]:
        if custom.lookback_ms is not None:
            oldest = at - custom.lookback_ms
            touchpoints = [touchpoint for touchpoint in touchpoints if touchpoint.at >= oldest]
            if not touchpoints:
                return sum_of_money.all_to(NOT_DETERMINED)
        path = self._transform(touchpoints if custom.count_direct else without_direct(touchpoints))
        weights = custom.weights(path)
        return sum_of_money.divided(path, weights) if any(weights) else last_click


class _Sum:
    """One conversion's credit and money, to be divided."""

    __slots__ = ("_digits", "_units", "_whole")

    def __init__(self, value: Decimal | None, currency: str) -> None:
        self._units = None
        self._digits = money.MINOR_UNITS.get(currency, 2)
        self._whole = None
        if value is not None:
            self._units = money.units(value, currency)
            self._whole = money.shown_units(self._units, self._digits)

    def all_to(self, source: Source) -> tuple[Credit, ...]:
        """Everything to one touchpoint."""
        return (Credit(source.source, source.medium, source.campaign, source.channel, "1", self._whole),)

    def by_shape(self, path: Path, model: Callable[[int], list[int]]) -> tuple[Credit, ...]:
        """Divided by a model that looks at nothing but positions."""
        weights, shares = _shape(model, len(path))
        return self._credits(path, weights, shares)

    def divided(self, path: Path, weights: Sequence[int]) -> tuple[Credit, ...]:
        """Divided by weights that are not all zero. Touchpoints of no weight get no credit."""
        if not all(weights):
            path = [touchpoint for touchpoint, weight in zip(path, weights, strict=True) if weight]
            weights = [weight for weight in weights if weight]
        if len(path) == 1:
            return self.all_to(path[0].source)
        return self._credits(path, weights, [_share(part) for part in money.split(PARTS, weights)])

    def _credits(self, path: Path, weights: Sequence[int], shares: Sequence[str]) -> tuple[Credit, ...]:
        if self._units is None:
            values: Sequence[str | None] = [None] * len(path)
        else:
            digits = self._digits
            values = [money.shown_units(part, digits) for part in money.split(self._units, weights)]
        found = []
        for touchpoint, share, value in zip(path, shares, values, strict=True):
            source = touchpoint.source
            found.append(Credit(source.source, source.medium, source.campaign, source.channel, share, value))
        return tuple(found)


_shapes: dict[tuple[Callable[[int], list[int]], int], tuple[list[int], list[str]]] = {}
"""Weights and shares by model and number of touchpoints, of which there are at most a few hundred."""


def _shape(model: Callable[[int], list[int]], count: int) -> tuple[list[int], list[str]]:
    shape = _shapes.get((model, count))
    if shape is None:
        weights = model(count)
        shape = _shapes[model, count] = (weights, [_share(part) for part in money.split(PARTS, weights)])
    return shape


def _share(parts: int) -> str:
    if parts == PARTS:
        return "1"
    return f"0.{parts:012}".rstrip("0") if parts else "0"


class Custom:
    """A credit model of the settings: position × factor × decay."""

    def __init__(self, model: CustomModel) -> None:
        self.name = model.name
        self.count_direct = model.count_direct
        self.lookback_ms = None if model.lookback_days is None else model.lookback_days * DAY_MS
        position = model.position
        self._position = None if position is None else _whole([position.first, position.middle, position.last])
        self._factor = _Factors(model.multipliers, model.rules) if model.multipliers or model.rules else None
        half_life = model.half_life_days
        self._decay = None if half_life is None else halving(max(1, round(half_life * DAY_MS)))

    def weights(self, path: Path) -> list[int]:
        """Weights of a path, maybe all zero."""
        weights = self._positions(len(path))
        if self._factor is not None:
            factor = self._factor
            weights = [weight * factor(point.source) for weight, point in zip(weights, path, strict=True)]
        if self._decay is not None:
            # Ages count from the newest touchpoint that has any weight: its own never fades away.
            newest = max([point.at for weight, point in zip(weights, path, strict=True) if weight], default=0)
            decay = self._decay
            weights = [
                weight and weight * decay(newest - point.at) for weight, point in zip(weights, path, strict=True)
            ]
        return weights

    def _positions(self, count: int) -> list[int]:
        if self._position is None or count == 1:
            return [1] * count
        first, middle, last = self._position
        if count == 2:
            return [first, last]
        between = count - 2
        return [first * between, *[middle] * between, last * between]


class _Factors:
    """A touchpoint's factor: by the first rule that matches it, else by its channel, else 1."""

    def __init__(self, multipliers: dict[str, Decimal], rules: tuple[FactorRule, ...]) -> None:
        one, *factors = _whole([Decimal(1), *multipliers.values(), *(rule.factor for rule in rules)])
        self._one = one
        self._by_channel = dict(zip(multipliers, factors, strict=False))
        self._by_rule = factors[len(multipliers) :]
        self._rules = CustomRules(tuple(ChannelRule(channel=f"factor {r.factor}", all=r.all, any=r.any) for r in rules))
        self._known: BoundedCache[Source, int] = BoundedCache(_MAX_CACHED_FACTORS)

    def __call__(self, source: Source) -> int:
        factor = self._known.entries.get(source)
        if factor is None:
            factor = self._find(source)
            self._known.put(source, factor)
        return factor

    def _find(self, source: Source) -> int:
        if self._rules:
            matched = self._rules.first(
                RuleInput(
                    source.source,
                    source.medium,
                    source.campaign,
                    source.term,
                    source.content,
                    source.source_platform,
                    click_id_type=source.click_id_type,
                )
            )
            if matched is not None:
                return self._by_rule[matched[0] - 1]
        return self._by_channel.get(source.channel, self._one)


def _whole(numbers: Sequence[Decimal]) -> list[int]:
    """The same proportions in whole numbers."""
    exact = [Fraction(number) for number in numbers]
    scale = lcm(*(number.denominator for number in exact))
    return [int(number * scale) for number in exact]
