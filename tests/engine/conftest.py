"""Tasks to be handled by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.engine.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.tasks.shutdown()
    assert not any(made.stores.open_now.values()), "a store left open is a locked one"
