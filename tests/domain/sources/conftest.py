"""Resolvers with the real tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stream_app.domain.sources import ReferenceTables, Source, SourceResolver, SourceRules
from stream_app.reference import load

SHOP = "https://shop.example.com/"


@pytest.fixture(scope="session")
def tables() -> ReferenceTables:
    return load()


@pytest.fixture(scope="session")
def make(tables: ReferenceTables) -> Callable[..., SourceResolver]:
    """A resolver for shop.example.com with these rules."""

    def resolver(**rules: Any) -> SourceResolver:
        return SourceResolver(SourceRules(**{"own_domains": ("shop.example.com",), **rules}), tables)

    return resolver


@pytest.fixture(scope="session")
def extended(make: Callable[..., SourceResolver]) -> SourceResolver:
    return make()


@pytest.fixture(scope="session")
def ga4(make: Callable[..., SourceResolver]) -> SourceResolver:
    return make(profile="ga4")


@pytest.fixture(scope="session")
def source(extended: SourceResolver) -> Callable[..., Source]:
    """The source of a landing (query or whole URL) with a referrer; the arrival must have one."""

    def resolve(landing: str = "", referrer: str = "", resolver: SourceResolver = extended) -> Source:
        url = landing if "://" in landing else SHOP + landing
        arrival = resolver.resolve(url, referrer)
        assert arrival == resolver.explain(url, referrer).arrival, "what is explained is what is done"
        assert arrival.source is not None, arrival
        return arrival.source

    return resolve
