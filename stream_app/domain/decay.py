"""How much a touchpoint has faded with its age: halved with every half-life, in whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from functools import lru_cache

BITS = 192
"""Weights are fractions of 2¹⁹²."""

_SIGNIFICANT = 128
"""Enough for every share of a credit (12 decimals) and of 10¹⁵ of any currency. The 64 bits below take halvings, so
that a weight and its half stand in exactly that proportion, and ties are seen to be ties."""
_GUARD = 64
_PRECISE = Context(prec=80)
_DIGIT_BITS = 15
_MASK = (1 << _DIGIT_BITS) - 1


class _HalfLife:
    """2^(−age / half-life) as a whole number of 2⁻¹⁹².

    The last digit of a credit may hang on it, so no binary float is involved, whose powers differ between platforms:
    the age is taken apart into whole half-lives and digits of the rest, whose powers stand in tables. Each is right to
    128 bits but the last three. The tables of seven days hold 51,000 numbers and take about ten milliseconds to make.
    """

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        digits = -(-half_life_ms.bit_length() // _DIGIT_BITS)
        self._tables = tuple(_powers(half_life_ms, digit * _DIGIT_BITS) for digit in range(digits))

    def weight(self, age_ms: int) -> int:
        """2¹⁹² at age 0; exactly half of it after a half-life, as long as that is 2⁶⁴ or more; in the end 0."""
        halvings, rest = divmod(age_ms, self._half_life_ms)
        weight = 1 << _SIGNIFICANT
        for table in self._tables:
            weight = weight * table[rest & _MASK] >> _SIGNIFICANT
            rest >>= _DIGIT_BITS
        return weight << (BITS - _SIGNIFICANT) >> halvings


@lru_cache(maxsize=64)
def halving(half_life_ms: int) -> Callable[[int], int]:
    """(age in ms) → its weight, a whole number of 2⁻¹⁹²: 2^(−age / half-life)."""
    return _HalfLife(half_life_ms).weight


def _powers(half_life_ms: int, shift: int) -> list[int]:
    """2^(−k·2^shift / half-life) for each digit k that the rest of an age can have there."""
    exponent = _PRECISE.divide(_PRECISE.multiply(_PRECISE.ln(Decimal(2)), Decimal(-(1 << shift))), half_life_ms)
    scale = 1 << (_SIGNIFICANT + _GUARD)
    base = int(_PRECISE.multiply(_PRECISE.exp(exponent), Decimal(scale)))
    power = scale
    powers = []
    for _ in range(min(_MASK, (half_life_ms - 1) >> shift) + 1):
        powers.append(power >> _GUARD)
        power = power * base >> (_SIGNIFICANT + _GUARD)
    return powers
