"""Amounts of money: exact decimals in, exact decimals inside, decimal strings out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

from stream_app.domain.errors import Refused

_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF"
    " CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK"
    " HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR"
    " MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP"
    " SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER"
    " ZAR ZMW ZWG ZWL"
)
MINOR_UNITS: dict[str, int] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
    **dict.fromkeys(["CLF", "UYW"], 4),
}
"""ISO 4217 currency → digits of its minor unit. Currencies lately replaced stay: histories hold them."""

LARGEST = Decimal(10) ** 15
FINEST = 9
"""Most digits after the point that an input may have."""

_ZEROS = {currency: f"{0:.{digits}f}" for currency, digits in MINOR_UNITS.items()}
_EXACT = Context(prec=60)
"""Wide enough for the sum of a million of the largest amounts with the finest fractions."""
_AMOUNT = re.compile(rb"(-?)(\d{1,40})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,3}))?")


def parse_amount(raw: bytes, field: str) -> Decimal:
    """An amount from the bytes of a JSON number or JSON string. No binary float is ever involved.

    Raises Refused(bad_money) for anything else, for more than nine decimals and for 10¹⁵ or more.
    """
    text = raw[1:-1] if raw[:1] == b'"' else raw
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise Refused("bad_money", f"{field}: expected a JSON number or a decimal string")
    amount = Decimal(text.decode("ascii"))
    if amount:
        amount = _EXACT.normalize(amount)
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)  # digits only: never NaN or infinite
        if abs(amount) >= LARGEST or exponent < -FINEST:
            raise Refused("bad_money", f"{field}: at most 15 digits before and {FINEST} after the point")
        return amount if exponent <= 0 else amount.quantize(Decimal(1))
    return Decimal(0)


def check_currency(code: str, field: str = "currency") -> str:
    """An ISO 4217 code in capitals; raises Refused(bad_money) for one that is not known."""
    if code not in MINOR_UNITS:
        if code.upper() in MINOR_UNITS and code.isascii():
            return code.upper()
        raise Refused("bad_money", f"{field}: not an ISO 4217 currency")
    return code


def minor_unit(currency: str) -> Decimal:
    """The smallest amount that can be paid: 0.01 for EUR, 1 for JPY, 0.001 for KWD."""
    return Decimal(1).scaleb(-MINOR_UNITS.get(currency, 2))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Half-up at the currency's minor unit: what is paid or shown."""
    return amount.quantize(minor_unit(currency), ROUND_HALF_UP, _EXACT)


def shown(amount: Decimal, currency: str) -> str:
    """A decimal string for outputs, with all digits of the minor unit."""
    if not amount:
        return _ZEROS.get(currency) or f"{rounded(Decimal(0), currency):f}"
    text = f"{rounded(amount, currency):f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def add(left: Decimal, right: Decimal) -> Decimal:
    """An exact sum."""
    return _EXACT.add(left, right)


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """An exact product."""
    return _EXACT.multiply(left, right)


def units(amount: Decimal, currency: str) -> int:
    """The amount in whole minor units, rounded half-up: 4,990 for 49.90 EUR."""
    return int(rounded(amount, currency).scaleb(MINOR_UNITS.get(currency, 2), _EXACT))


def shown_units(amount: int, digits: int) -> str:
    """A decimal string of 0 or more minor units of `digits` digits, as `shown` would write it."""
    if digits == 0:
        return str(amount)
    text = str(amount)
    if len(text) <= digits:
        text = text.zfill(digits + 1)
    return f"{text[:-digits]}.{text[-digits:]}"


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares of `total` by weight that sum to exactly `total`, by largest remainder; ties go to the earlier
    share (semantics 33). Nothing is negative, and the weights are not all zero."""
    whole = sum(weights)
    pairs = [divmod(total * weight, whole) for weight in weights]
    shares = [share for share, _ in pairs]
    left = total - sum(shares)
    if left:
        remainders = [remainder for _, remainder in pairs]
        for i in sorted(range(len(shares)), key=remainders.__getitem__, reverse=True)[:left]:
            shares[i] += 1
    return shares


def with_value(
    value: tuple[tuple[str, Decimal], ...], amount: Decimal | None, currency: str
) -> tuple[tuple[str, Decimal], ...]:
    """Amounts by currency with one more."""
    if amount is None:
        return value
    amounts = dict(value)
    amounts[currency] = add(amounts.get(currency, Decimal(0)), amount)
    return tuple(sorted(amounts.items()))
