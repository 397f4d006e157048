"""Codes that conversions name: arrivals of a referral programme if a code belongs to one (decision 0022)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from stream_app.domain.hits import Sale
from stream_app.domain.referral.codes import normal_code
from stream_app.domain.sources.model import Source

MAX_PROMOS = 200
"""Conversions with a code per client that have not settled; of further ones nobody asks whose code it is."""


class Promo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A conversion with a code, until it has settled. Whose the code is may be told at any time, and again."""

    at: int
    code: str
    source: Source
    """What it is if the code belongs to a programme."""
    is_arrival: bool = False
    """The code was active, as far as is known."""
    overdue: int = 0
    """The commit in which it was found that time is over for whatever may be told; 0: it is not."""


Arrivals = Mapping[tuple[int, str], Source]
"""(time, code) of conversions that are arrivals."""

NONE: Arrivals = {}
"""One for all who never named a code."""


def codes_of(sale: Sale) -> tuple[str, ...]:
    """Codes given with a conversion as they are compared: promo code, then invite code."""
    return tuple(code for text in (sale.promo_code, sale.invite_code) if text and (code := normal_code(text)))


def arrivals(promos: Iterable[Promo]) -> Arrivals:
    """Which conversions are arrivals."""
    return {(promo.at, promo.code): promo.source for promo in promos if promo.is_arrival} or NONE


def source_of(known: Arrivals, sale: Sale, at: int) -> Source | None:
    """What a conversion arrived by; None if by no programme's code."""
    return next((source for code in codes_of(sale) if (source := known.get((at, code))) is not None), None)
