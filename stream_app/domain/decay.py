"""How much a touchpoint has faded with its age: halved with every half-life, in whole numbers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from functools import lru_cache

_SIGNIFICANT = 128
"""Enough for every share of a credit (12 decimals) and of 10¹⁵ of any currency."""
_SPARE = 64
"""Bits that halvings use up, so that a weight and its half stand in exactly that proportion: ties are seen as ties."""
BITS = _SIGNIFICANT + _SPARE
"""Weights are whole numbers of 2⁻¹⁹²."""

_DIGIT_BITS = 15
_MASK = (1 << _DIGIT_BITS) - 1
_TWO_DIGITS = (1 << 2 * _DIGIT_BITS) - 1
_GUARD = 64
_PRECISE = Context(prec=80)


class HalfLife:
    """2^(−age / half-life) as a whole number of 2⁻¹⁹².

    The last digit of a credit may hang on it, so no binary float is involved, whose powers differ between platforms:
    the age is taken apart into whole half-lives and digits of 15 bits of the rest, whose powers stand in tables. Each
    weight is right to 128 bits but the last three. The tables of seven days hold 51,000 numbers and take some ten
    milliseconds to make.
    """

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._low, self._middle, self._high = (
            _powers(half_life_ms, shift, min(_MASK, half_life_ms >> shift) + 1)
            for shift in (0, _DIGIT_BITS, 2 * _DIGIT_BITS)
        )

    def weights(self, ages_ms: Iterable[int]) -> list[int]:
        """2¹⁹² at age 0; exactly half of it after a half-life, as long as that is 2⁶⁴ or more; in the end 0."""
        half_life, low, middle, high = self._half_life_ms, self._low, self._middle, self._high
        found = []
        for age in ages_ms:
            halvings, rest = divmod(age, half_life)
            weight = low[rest & _MASK] * middle[rest >> _DIGIT_BITS & _MASK] >> _SIGNIFICANT
            if rest > _TWO_DIGITS:
                weight = weight * high[rest >> 2 * _DIGIT_BITS] >> _SIGNIFICANT
            found.append(weight << _SPARE >> halvings)
        return found


@lru_cache(maxsize=64)
def halving(half_life_ms: int) -> HalfLife:
    """The tables of a half-life, made once."""
    return HalfLife(half_life_ms)


def _powers(half_life_ms: int, shift: int, count: int) -> list[int]:
    """2^(−k·2^shift / half-life) for k from 0."""
    exponent = _PRECISE.divide(_PRECISE.multiply(_PRECISE.ln(Decimal(2)), Decimal(-(1 << shift))), half_life_ms)
    power = scale = 1 << (_SIGNIFICANT + _GUARD)
    base = int(_PRECISE.multiply(_PRECISE.exp(exponent), Decimal(scale)))
    powers = []
    for _ in range(count):
        powers.append(power >> _GUARD)
        power = power * base >> (_SIGNIFICANT + _GUARD)
    return powers
