"""`/referrals`: tables over all workers say what the records of `referral-counters` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.counters.serving import workers
from tests.counters.world import World, at, settings
from tests.web.programme import START, programme


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two programmes, one of them in use."""
    return programme(tmp_path_factory.mktemp("world"))


async def asked(url: str, token: str = "", **parameters: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/referrals", params=parameters, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


def totals(world: World, dimension: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """What the topic says: figures by key, amounts by currency."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in world.last("referral-counters").values():
        if record["window"] == "total" and record["dimension"] == dimension:
            row = found.setdefault(tuple(record["keys"].values()), {"sums": {}})
            if any(float(amount) for amount in record["sums"].values()):
                row["sums"][record["currency"]] = record["sums"]
            if record["counts"] is not None:
                row |= {"counts": record["counts"], "rates": record["rates"]}
    return found


@pytest.mark.parametrize("dimension", ["program", "code", "advocate_kind", "level"])
async def test_a_table_is_what_the_topic_says(world: World, dimension: str) -> None:
    """Whichever worker is asked: each key of all tasks once, the largest amounts first."""
    wanted = totals(world, dimension)
    async with workers(world) as urls:
        for url in urls:
            code, answer = await asked(url, dimension=dimension)
            rows = answer["rows"]
            assert (code, answer["complete"], answer["missing_partitions"]) == (200, True, [])
            assert len(rows) == len(wanted) > 0
            for row in rows:
                want = wanted[tuple(row["keys"].values())]
                assert (row["counts"], row["rates"]) == (want["counts"], want["rates"])
                money = {c: sums for c, sums in row["sums"].items() if any(float(amount) for amount in sums.values())}
                assert money == want["sums"]
            earned = [float(row["sums"].get("EUR", {}).get("earned", 0)) for row in rows]
            assert earned == sorted(earned, reverse=True)
            assert earned[0] > 0


async def test_the_story_in_figures(world: World) -> None:
    """Not only the same as the topic: what was told."""
    async with workers(world) as urls:
        (row,) = (await asked(urls[0], program="friends"))[1]["rows"]
        codes = (await asked(urls[1], dimension="code", program="friends", limit="2"))[1]["rows"]
        most_referred = (await asked(urls[0], dimension="code", sort="-referred", limit="1"))[1]["rows"]
        in_pounds = (await asked(urls[0], dimension="code", sort="earned", currency="gbp"))[1]["rows"]
    assert row["counts"] == {
        "visits": 5, "invites": 8, "referred": 5, "qualified": 3, "conversions": 4, "refused_fraud": 1, "users": 3,
    }  # fmt: skip
    assert row["rates"] == {"k_factor": "1.666667", "invite_conversion": "0.375", "share_of_customers": "0"}
    assert (row["sums"]["EUR"]["earned"], row["sums"]["EUR"]["rejected"]) == ("173.00", "7.00")
    assert (row["cohorts"]["EUR"]["referred"]["customers"], row["cohorts"]["EUR"]["other"]["customers"]) == (4, 1)
    assert [(code["keys"]["code"], code["sums"]["EUR"]["earned"]) for code in codes] == [
        ("misha", "100.00"),
        ("anna", "23.00"),
    ]
    assert [code["keys"]["code"] for code in most_referred] == ["anna"]
    assert in_pounds[0]["keys"]["code"] == "zoe"


@pytest.mark.parametrize("sort", ["users", "referred", "visits", "earned", "pending", "rejected"])
@pytest.mark.parametrize("dimension", ["code", "advocate_kind", "level"])
async def test_a_table_cut_short_is_the_beginning_of_the_whole(world: World, dimension: str, sort: str) -> None:
    """Each task gives its first rows only."""
    async with workers(world) as urls:
        whole = (await asked(urls[0], dimension=dimension, sort=sort))[1]["rows"]
        for limit in range(1, len(whole) + 1):
            cut = (await asked(urls[1], dimension=dimension, sort=sort, limit=str(limit)))[1]["rows"]
            assert cut == whole[:limit]
    assert len(whole) > 1


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("dimension", "colour", "program, code, advocate_kind, level"),
        ("sort", "price", "earned"),
        ("currency", "BTC", "ISO 4217"),
        ("limit", "0", "from 1 to"),
        ("limit", "²", "from 1 to"),
        ("limit", "-5", "from 1 to"),
        ("window", "1d", "allowed: dimension, program"),
    ],
)
async def test_a_question_without_sense_is_told_what_is_allowed(
    world: World, parameter: str, value: str, words: str
) -> None:
    """400, in words."""
    async with workers(world) as urls:
        code, answer = await asked(urls[0], **{parameter: value})
    assert code == 400
    assert words in answer["error"]


async def test_a_missing_worker_is_told_of(world: World) -> None:
    """A part of the table is no whole."""
    async with workers(world, silent=True) as urls:
        code, answer = await asked(urls[0], dimension="code")
    assert (code, answer["complete"], answer["missing_partitions"]) == (200, False, [1])


async def test_beyond_loopback_the_token_is_needed(world: World) -> None:
    """As for counters; and it goes on to the other workers."""
    async with workers(world, token="a-token") as urls:
        assert (await asked(urls[0]))[0] == 401
        assert (await asked(urls[0], "another"))[0] == 401
        code, answer = await asked(urls[0], "a-token", dimension="code")
    assert (code, answer["complete"]) == (200, True)


async def test_without_programmes_there_is_nothing(tmp_path: Path) -> None:
    """And the page shows nothing of them."""
    async with workers(World(settings(tmp_path), start_ms=at(START))) as urls, aiohttp.ClientSession() as session:
        code, answer = await asked(urls[0])
        async with session.get(f"{urls[0]}/status") as status:
            assert (await status.json())["programs"] == []
    assert (code, answer["error"]) == (404, "there are no referral programmes in the settings")
