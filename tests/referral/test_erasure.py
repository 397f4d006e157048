"""Erasure through the whole topology: nothing is left of a name, and crashes change nothing."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from stream_app.cli.main import main
from tests.referral.erasing import (
    PARTITIONS,
    SETTINGS,
    UNPAID,
    WITHOUT_PROGRAMS,
    compacted,
    names_for,
    on_a_tablet,
    outcome,
    person,
    world,
)
from tests.referral.worlds import CONFIG, DAY, T0, write

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2, 5, 8, *range(100, 100 + int(os.environ.get("STREAM_APP_LIVES", "0")) // 20))


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_left_and_crashes_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task and one batch, or four that die at random steps and take what comes in random portions."""
    monkeypatch.setattr("stream_app.app.topology.random_names", names_for)
    records, erased = world(seed)
    whole, kept = await outcome(records, 1, lambda: len(records))
    assert traces(kept, erased) == []
    random = Random(seed)

    def dies(step: str) -> None:
        if random.random() < 0.003:
            raise RuntimeError(f"dies at {step}")

    parts, kept = await outcome(records, PARTITIONS, lambda: random.choice((1, 3, 10, 40)), dies)
    assert traces(kept, erased) == []
    for topic in whole:
        assert whole[topic].keys() == parts[topic].keys(), topic
        for name, record in whole[topic].items():
            if topic == "referral-counters":
                # Erasure or not, a code's task that is ahead may count a visit before its session is final.
                del record["counts"]["visits"], parts[topic][name]["counts"]["visits"]
            assert record == parts[topic][name], topic


@pytest.mark.parametrize("settings", [UNPAID, WITHOUT_PROGRAMS], ids=["unpaid", "without"])
@pytest.mark.parametrize("seed", [3, 5])
async def test_nothing_is_left_where_nobody_pays_for_leads(seed: int, settings: dict[str, Any]) -> None:
    """Nor where there is no programme at all: two days after the last record. Codes were asked for at the checkout."""
    records, erased = world(seed)
    for number, (_, record, _) in enumerate(records):
        if record.get("goal") == "purchase":
            record["promo_code"] = f"K{number % 8}"
    _, kept = await outcome(records, 1, lambda: 40, days=2, settings=settings)
    assert traces(kept, erased) == []


@pytest.mark.parametrize("settings", [SETTINGS, UNPAID, WITHOUT_PROGRAMS], ids=["paid", "unpaid", "without"])
@pytest.mark.parametrize("seed", [0, 2, 5])
async def test_nothing_is_left_of_a_client_that_others_used_as_well(seed: int, settings: dict[str, Any]) -> None:
    """A family's tablet goes with the first of the family: neither what the others bought on it nor their referrers,
    orders and leads name it."""
    records, erased = world(seed)
    _, kept = await outcome(on_a_tablet(seed, records, erased), PARTITIONS, lambda: 40, settings=settings)
    assert traces(kept, erased) == []


@pytest.mark.parametrize("held", range(PARTITIONS))
@pytest.mark.parametrize("seed", [3, 5, 8])
async def test_nothing_is_left_of_what_a_task_reads_days_later(
    seed: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task reads nothing from the third day on; five days after the last record it reads on. What the erased did
    before is in that backlog, in some of these worlds."""
    monkeypatch.setattr("stream_app.app.topology.random_names", names_for)
    records, erased = world(seed)
    shown, kept = await outcome(records, PARTITIONS, lambda: 20, held=held, since=T0 + 2 * DAY)
    assert traces(kept, erased) == []
    users = {reward["user_id"] for reward in shown["referral-rewards"].values()}
    assert {names_for(PARTITIONS)(name.encode()) for name in erased} & users, "they were erased, and kept what they had"


async def test_what_was_open_is_judged_before_they_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one batch, time leaps past the erasure of somebody who used their own code at the checkout: the reward is
    rejected for that, as where time goes step by step. It had been held as theirs who was erased."""
    monkeypatch.setattr("stream_app.app.topology.random_names", names_for)
    records, _ = world(5)
    random = Random("codes 5")
    for _, record, _ in records:
        if record.get("goal") == "purchase" and random.random() < 0.2:
            record["promo_code"] = f"K{random.randrange(9)}"
    whole, _ = await outcome(records, 1, lambda: len(records), later=0)
    steps, _ = await outcome(records, 1, lambda: 10, later=0)
    assert whole["referral-rewards"] == steps["referral-rewards"]
    assert any(
        reward["reasons"] == ["own_code"] and reward["user_id"].startswith("erased-")
        for reward in steps["referral-rewards"].values()
    )


async def test_tasks_that_nothing_ever_comes_to_hold_no_erasure_up() -> None:
    """They have no time."""
    shown, _ = await outcome(world(5)[0], 64, lambda: 40, days=4, later=0)
    assert any(reward["user_id"].startswith("erased-") for reward in shown["referral-rewards"].values())


def traces(kept: list[tuple[str, bytes]], erased: list[str]) -> list[str]:
    return [f"{where}: {content[:200]!r}" for where, content in kept for name in erased if name.encode() in content]


def test_files_hold_no_name_once_all_is_over(tmp_path: Path) -> None:
    """Stores on disk after compaction, and everything that a replay writes, its log included; with names by chance."""
    records, erased = world(2)
    records = on_a_tablet(2, records, erased)
    made: dict[str, list[dict[str, Any]]] = {"clicks": [], "conversions": [], "referral-events": [], "lead-updates": []}
    for topic, record, ts in records:
        made[topic].append(record | {"received_at": ts})
    places = {}
    for name, kept in (("with", made), ("without", made | {"referral-events": enrolments(made)})):
        options = write(
            tmp_path / name, kept, CONFIG.replace("holding_days", 'qualifies_on = ["won"]\nholding_days', 1)
        )
        options += ["--out", str(tmp_path / name / "out"), "--state-directory", str(tmp_path / name / "state")]
        done = CliRunner().invoke(main, ["replay", *options, "--until", "2026-06-01T00:00:00Z"])
        assert done.exit_code == 0, done.output
        contents = compacted(tmp_path / name / "state")
        contents += [path.read_bytes() for path in (tmp_path / name / "out").iterdir()]
        assert sum(map(len, contents)) > 20_000
        places[name] = sum(
            canary.encode() in content for content in [*contents, done.output.encode()] for canary in erased
        )
    assert places["with"] == 0
    assert places["without"] >= 5


def enrolments(made: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [event for event in made["referral-events"] if event["type"] == "enrolled"]


async def test_worlds_with_erasures_are_worth_looking_at() -> None:
    """Erased people are paid, held, and the reason why others are; and before all that their names are everywhere."""
    seen: Counter[str] = Counter()
    for seed in range(4):
        records, erased = world(seed)
        shown, _ = await outcome(records, 1, lambda: 50, days=20)
        for reward in shown["referral-rewards"].values():
            seen[f"{reward['user_id'].startswith('erased-')} {reward['referred_user'].startswith('erased-')}"] += 1
            seen[reward["status"]] += reward["user_id"].startswith("erased-")
        _, kept = await outcome([r for r in records if r[1].get("type") != "erased"], 1, lambda: 50, days=20, later=0)
        places = {trace.split()[0].strip(":") for trace in traces(kept, erased)}
        assert places == {"output", "store", "timer", "changelog"}
    assert all(seen[f"{one} {other}"] for one in (True, False) for other in (True, False)), seen
    assert seen["on_hold"], seen
    assert person(0) == "canary0bird"
