"""Referral programmes in numbers: referrers in chains and stars, and what their books cost."""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from stream_app.app import ReplayRequest, run_replay
from stream_app.settings import parse

_START = 1_767_225_600_000
"""1 January 2026."""
_SPAN_MS = 2 * 3_600_000
_VALUE = Decimal(100)
_CHAIN = 4
_HUBS = 10
_SETTINGS: dict[str, Any] = {
    "goals": [{"name": "purchase", "kind": "purchase"}],
    "privacy": {"hash_key": "a key for measuring only"},
    "counters": {"enabled": False},
    "programs": [
        {
            "name": "friends",
            "levels": ["10%", "5%", "2%"],
            "goals": ["purchase"],
            "holding_days": 0,
            "fraud": {"same_ip": 0},
        }
    ],
}


def run(referrers: int, purchases: int, seed: int = 1) -> dict[str, Any]:
    """Half of the referrers stand in chains of four, half around ten hubs. Each buyer clicks a link and buys twice, all
    within two hours. Everything runs through journeys, codes, people and their figures, on stores on disk.

    The sums are known beforehand: `right` tells whether the books come to them.
    """
    with tempfile.TemporaryDirectory(prefix="bench-referrals-") as place:
        directory = Path(place)
        expected = _write(directory, referrers, purchases, random.Random(seed))
        began, cpu = time.perf_counter(), time.process_time()
        report = run_replay(
            parse(_SETTINGS),
            ReplayRequest(
                out=directory / "out",
                clicks=directory / "clicks.jsonl",
                conversions=directory / "conversions.jsonl",
                referral_events=directory / "referral-events.jsonl",
                state_directory=directory / "state",
            ),
        )
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        paid = _sums(directory / "out" / "referral-rewards.jsonl")
        state = sum(path.stat().st_size for path in (directory / "state").rglob("*") if path.is_file())
    return {
        "referrers": referrers,
        "purchases": purchases,
        "events": report.records,
        "rewards": report.outputs["referral-rewards"],
        "seconds": round(seconds, 2),
        "cpu_s": round(spent, 2),
        "purchases_per_second": round(purchases / seconds),
        "state_mib": round(state / 2**20, 1),
        "rss_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "paid_by_level": {level: str(amount) for level, amount in sorted(paid.items())},
        "right": paid == expected,
    }


def _write(directory: Path, referrers: int, purchases: int, rng: random.Random) -> dict[int, Decimal]:
    """The files; what each level is owed in all."""
    above: dict[int, int] = {}
    chained = referrers // 2
    for number in range(referrers):
        if number < chained and number % _CHAIN:
            above[number] = number - 1
        elif number >= chained + _HUBS:
            above[number] = chained + number % _HUBS
    with (
        (directory / "clicks.jsonl").open("w") as clicks,
        (directory / "conversions.jsonl").open("w") as conversions,
        (directory / "referral-events.jsonl").open("w") as events,
    ):
        for number in range(referrers):
            at = _START + number * 100
            if number in above:
                _click(clicks, at, f"c-r{number}", above[number])
            event = {"event_id": f"e{number}", "user_id": f"r{number}", "occurred_at": at + 50, "program": "friends"}
            _line(events, {**event, "type": "enrolled", "code": f"R{number}", "client_id": f"c-r{number}"})
        began = _START + referrers * 100 + 3_600_000
        step = max(1, _SPAN_MS // purchases)
        owed = {1: Decimal(0), 2: Decimal(0), 3: Decimal(0)}
        buyers = max(1, purchases // 2)
        bought: list[int] = []
        for number in range(purchases):
            at = began + number * step
            if number < buyers:
                referrer = rng.randrange(referrers)
                bought.append(referrer)
                _click(clicks, at - 30_000, f"c-b{number}", referrer)
            buyer = number % buyers
            sale = {"event_id": f"p{number}", "client_id": f"c-b{buyer}", "occurred_at": at, "goal": "purchase"}
            _line(conversions, {**sale, "value": str(_VALUE), "currency": "EUR", "order_id": f"o{number}"})
            person: int | None = bought[buyer]
            for level, percent in ((1, 10), (2, 5), (3, 2)):
                if person is None:
                    break
                owed[level] += _VALUE * percent / 100
                person = above.get(person)
    return {level: amount for level, amount in owed.items() if amount}


def _click(file: TextIO, at: int, client: str, referrer: int) -> None:
    url = f"https://shop.example.com/?ref=r{referrer}"
    _line(file, {"event_id": f"k-{client}", "client_id": client, "occurred_at": at, "url": url})


def _line(file: TextIO, record: dict[str, Any]) -> None:
    file.write(json.dumps(record) + "\n")


def _sums(path: Path) -> dict[int, Decimal]:
    found: dict[int, Decimal] = {}
    with path.open() as lines:
        for line in lines:
            record = json.loads(line)
            if not record["retracted"]:
                found[record["level"]] = found.get(record["level"], Decimal(0)) + Decimal(record["amount"])
    return found
