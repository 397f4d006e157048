"""Which touchpoints a conversion owes itself to, by each model (domain rules, section 4; semantics 32 and 33).

A model looks at a path: direct touchpoints dropped where the model says so, then transformed. It gives weights, one
per touchpoint, in whole numbers; credit (of 10¹² parts) and money (of minor units) are divided by those weights and
closed by largest remainder. No float and no rounded intermediate takes part, so a share's last digit is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import repeat
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
_MAX_CACHED_SHAPES = 256


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
        gross = _Gross(value, currency)
        if not touchpoints:
            return dict.fromkeys(self.names, gross.all_to(NOT_DETERMINED))
        full = touchpoints
        named = without_direct(touchpoints)
        if self._transforms:
            full, named = self._transform(full), self._transform(named)
        last_non_direct = gross.all_to(named[-1].source)
        last_click = last_non_direct if full[-1] is named[-1] else gross.all_to(full[-1].source)
        first_click = last_click if len(full) == 1 else gross.all_to(full[0].source)
        spread = full if self._count_direct else named
        count = len(spread)
        if count == 1:
            linear = position_based = time_decay = last_non_direct
        else:
            columns = _columns(spread)
            linear = gross.evenly(columns, count)
            position_based = gross.ends_first(columns, count) if count > 2 else linear
            newest = spread[-1].at
            time_decay = gross.divided(columns, self._decay.weights([newest - point.at for point in spread]))
        found = {
            "last_non_direct": last_non_direct,
            "last_click": last_click,
            "first_click": first_click,
            "linear": linear,
            "position_based": position_based,
            "time_decay": time_decay,
        }
        for custom in self._customs:
            found[custom.name] = self._custom(custom, touchpoints, at, gross, last_click)
        return found

    def _custom(
        self, custom: Custom, touchpoints: Path, at: int, gross: _Gross, last_click: tuple[Credit, ...]
    ) -> tuple[Credit, ...]:
        if custom.lookback_ms is not None:
            oldest = at - custom.lookback_ms
            touchpoints = [touchpoint for touchpoint in touchpoints if touchpoint.at >= oldest]
            if not touchpoints:
                return gross.all_to(NOT_DETERMINED)
        path = self._transform(touchpoints if custom.count_direct else without_direct(touchpoints))
        weights = custom.weights(path)
        if not all(weights):
            if not any(weights):
                return last_click
            path = [touchpoint for touchpoint, weight in zip(path, weights, strict=True) if weight]
            weights = [weight for weight in weights if weight]
        return gross.divided(_columns(path), weights) if len(path) > 1 else gross.all_to(path[0].source)


_Columns = tuple[list[str], list[str], list[str], list[str]]
"""Sources, media, campaigns and channels of a path: a credit's fields besides its share and value."""


def _columns(path: Path) -> _Columns:
    sources = [touchpoint.source for touchpoint in path]
    return (
        [source.source for source in sources],
        [source.medium for source in sources],
        [source.campaign for source in sources],
        [source.channel for source in sources],
    )


class _Gross:
    """One conversion's credit and money, to be divided."""

    __slots__ = ("_digits", "_shown", "_units")

    def __init__(self, value: Decimal | None, currency: str) -> None:
        self._digits = money.MINOR_UNITS.get(currency, 2)
        self._units = None if value is None else money.units(value, currency)
        self._shown = None if self._units is None else money.shown_units(self._units, self._digits)

    def all_to(self, source: Source) -> tuple[Credit, ...]:
        """Everything to one touchpoint."""
        return (Credit(source.source, source.medium, source.campaign, source.channel, "1", self._shown),)

    def evenly(self, columns: _Columns, count: int) -> tuple[Credit, ...]:
        """The model linear: 1/n each."""
        shares = _even_shares(count)
        if self._units is None:
            return tuple(map(Credit, *columns, shares, repeat(None)))
        each, left = divmod(self._units, count)
        return tuple(map(Credit, *columns, shares, self._one_more(each, left, count)))

    def ends_first(self, columns: _Columns, count: int) -> tuple[Credit, ...]:
        """The model position_based, of three touchpoints or more: 40 % to the first and the last, 20 % shared by those
        between."""
        shares = _ends_first_shares(count)
        units = self._units
        if units is None:
            return tuple(map(Credit, *columns, shares, repeat(None)))
        between = count - 2
        end, end_remainder = divmod(2 * units, 5)
        middle, middle_remainder = divmod(units, 5 * between)
        left = units - 2 * end - between * middle
        end_remainder *= between
        if end_remainder > middle_remainder:
            for_first, for_last = left > 0, left > 1
        elif end_remainder == middle_remainder:
            for_first, for_last = left > 0, False  # less is left over than there are touchpoints
        else:
            for_first, for_last = left > between, left > between + 1
        values = [
            money.shown_units(end + for_first, self._digits),
            *self._one_more(middle, left - for_first - for_last, between),
            money.shown_units(end + for_last, self._digits),
        ]
        return tuple(map(Credit, *columns, shares, values))

    def _one_more(self, each: int, left: int, count: int) -> list[str]:
        """`each`, and one unit more for the first `left`."""
        digits = self._digits
        values = [money.shown_units(each, digits)] * (count - left)
        return [money.shown_units(each + 1, digits)] * left + values if left else values

    def divided(self, columns: _Columns, weights: Sequence[int]) -> tuple[Credit, ...]:
        """Divided by two weights or more, none of them zero."""
        shares = _shares(weights)
        units = self._units
        if units is None:
            return tuple(map(Credit, *columns, shares, repeat(None)))
        digits = self._digits
        values = [money.shown_units(amount, digits) for amount in money.split(units, weights)]
        return tuple(map(Credit, *columns, shares, values))


@lru_cache(_MAX_CACHED_SHAPES)
def _even_shares(count: int) -> list[str]:
    return _shares([1] * count)


@lru_cache(_MAX_CACHED_SHAPES)
def _ends_first_shares(count: int) -> list[str]:
    end = 2 * (count - 2)
    return _shares([end, *[1] * (count - 2), end])


def _shares(weights: Sequence[int]) -> list[str]:
    """Credit by weight."""
    return [
        f"0.{part:012}" if part % 10 else f"0.{part:012}".rstrip("0") if 0 < part < PARTS else "1" if part else "0"
        for part in money.split(PARTS, weights)
    ]


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
            ages = [max(0, newest - point.at) for point in path]
            weights = [weight * faded for weight, faded in zip(weights, self._decay.weights(ages), strict=True)]
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
