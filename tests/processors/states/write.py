"""Writes a file of client states as the program in the working tree saves them, for the programs after it to read.

Run it on the commit whose states are wanted, before anything changes them:

    git worktree add /tmp/before COMMIT
    cp tests/processors/states/write.py /tmp/before/write.py
    cd /tmp/before && PYTHONPATH=. python write.py > .../tests/processors/states/v1.json

The history is in the file, so that a reference can tell what must come of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.processors.harness import DAY, MINUTE, Run, click, conversion, processor

SHOP = "https://shop.example.com/"
ADVERT = {"url": SHOP + "?utm_source=google&utm_medium=cpc&utm_campaign=spring"}
NEWS = {"url": SHOP + "?utm_source=news&utm_medium=email"}
INTERNAL = {"referrer": SHOP}


def history() -> list[tuple[str, dict[str, Any], int]]:
    """A settled visit with orders, two users, a client in the middle of a visit, a busy one, a conversion by call."""
    now = 40 * DAY
    records = [
        click(0, "a1", "anna", **ADVERT),
        click(MINUTE, "a2", "anna", user_id="u-anna", **INTERNAL),
        conversion(2 * MINUTE, "a3", "anna", order_id="o1", value="40", user_id="u-anna"),
        conversion(3 * MINUTE, "b1", "ben", order_id="o2", value="7.50", source="fair", medium="offline"),
        click(10 * DAY, "a4", "anna", **NEWS),
        click(20 * DAY, "c1", "cleo", user_id="u-anna", **NEWS),
        *(click(now - 50 * MINUTE + n * 20_000, f"d{n}", "busy", **INTERNAL) for n in range(140)),
        click(now - 40 * MINUTE, "a5", "anna", **ADVERT),
        click(now - 30 * MINUTE, "a6", "anna", **INTERNAL),
        conversion(now - 20 * MINUTE, "a7", "anna", value="5", order_id="o3"),
        conversion(now - 10 * MINUTE, "a8", "anna", goal="signup"),
        click(now - 5 * MINUTE, "a6", "anna", **INTERNAL),
        click(now, "c2", "cleo", **INTERNAL),
    ]
    return sorted(records, key=lambda record: record[2])


def main() -> None:
    run = Run(processor())
    records = history()
    for start in range(0, len(records), 10):
        run.commit(records[start : start + 10])
    state = {
        "records": records,
        "now": run.now,
        "revision": run.revision,
        "heads": {key.decode(): payload.hex() for key, payload in run.saved.items()},
        "rows": [[key.decode(), number, value.hex()] for (key, number), value in run.rows.rows.items()],
    }
    json.dump(state, sys.stdout, indent=0, sort_keys=True)


if __name__ == "__main__":
    main()
