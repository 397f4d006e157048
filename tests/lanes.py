"""`make test` runs two tests at once: in one lane those that kill and rebuild, in the other all the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

CHAOS = "chaos"
_CHAOTIC = (Path("tests/chaos"), Path("tests/kafka"))


def lane_of(test: str) -> str:
    """Tests of one lane run one after the other. Those under fire wait more than they work, so there is room for others
    beside them, but not for a second of them; all others are taken file by file."""
    file = Path(test.partition("::")[0])
    return CHAOS if file.parent in _CHAOTIC else str(file)


def lanes(config: pytest.Config, log: object) -> object:
    """Whoever is free takes the next lane. The order is that of the collection, in which the longest comes first.

    The plugin's own groups would do as well, but are forgotten by pytest 9.2: nothing says so.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane_of(nodeid)

    config.option.loadscopereorder = False
    return Lanes(config, log)
