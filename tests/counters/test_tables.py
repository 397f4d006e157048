"""Tables of counters: what a marketer asks, against sums worked out by hand from the published records."""

from __future__ import annotations

import asyncio
import csv
import io
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from stream_app.app.counters import TaskCounters
from stream_app.domain.counters.figures import COUNTS, Figures
from stream_app.domain.counters.questions import CannotAsk, Question, ask
from stream_app.domain.counters.records import LeadCounter, Renderer
from stream_app.domain.counters.tables import Row, Table, cell, figures_of, in_order, to_csv, value_of
from stream_app.domain.counters.windows import Windows
from stream_app.metrics import WorkerStats
from stream_app.settings.model import Web
from stream_app.web import WebServer, create_web
from tests.cli.helpers import json_lines, run
from tests.counters.serving import Running, Status, three_days, workers
from tests.counters.world import World, at

RIGA = Windows("Europe/Riga")
START = "2026-06-01T05:00:00Z"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return three_days(tmp_path_factory.mktemp("world"), at(START))


async def get(url: str, *parameters: tuple[str, str], **headers: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/counters", params=list(parameters), headers=headers) as answer,
    ):
        return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


def published(world: World, dimension: str, window: str = "1d", since: str = "", until: str = "~") -> list[Any]:
    return [
        record
        for record in world.counters()
        if record["dimension"] == dimension
        and record["window"] == window
        and since <= (record["window_start"] or "") < until
    ]


@pytest.mark.parametrize("dimension", ["all", "channel", "source_medium", "campaign", "platform"])
async def test_several_days_are_summed_over_all_workers(world: World, dimension: str) -> None:
    """Counts and sums are those of the days' records; clients are null, and rates follow from the sums."""
    records = published(world, dimension)
    assert len({record["window_start"] for record in records}) >= 3
    async with workers(world) as urls:
        answers = [await get(url, ("dimension", dimension)) for url in urls]
    assert answers[0] == answers[1]
    status, answer = answers[0]
    assert status == 200
    assert answer["complete"] is True
    wanted: dict[Any, Any] = {}
    for record in records:
        key = (*record["keys"].values(), record["currency"])
        wanted.setdefault(key, []).append(record)
    assert {(*row["keys"].values(), row["currency"]) for row in answer["rows"]} == set(wanted)
    for row in answer["rows"]:
        days = wanted[*row["keys"].values(), row["currency"]]
        assert row["windows"] == len(days)
        for name in ("sessions", "page_views", "conversions", "leads", "refunds", "undetermined"):
            assert row["counts"].get(name, 0) == sum(day["counts"].get(name, 0) for day in days), name
        for name in ("value", "refunded", "revenue", "profit", "cost"):
            shown = sum(Decimal(day["sums"][name]) for day in days)  # each rounded; the row is rounded once
            assert abs(Decimal(row["sums"][name]) - shown) <= Decimal("0.005") * len(days), name
        clients = [day["counts"].get("clients", 0) for day in days]
        if row["counts"]:
            assert row["client_days"] == sum(clients)
            assert row["counts"]["clients"] == (clients[0] if len(days) == 1 else None)
            assert (row["rates"]["arpu"] is None) or len(days) == 1
            sessions = row["counts"]["sessions"]
            if sessions:
                rate = Decimal(row["counts"]["conversions"]) / sessions
                assert Decimal(row["rates"]["cr"]) == rate.quantize(Decimal("0.000001"), ROUND_HALF_UP)
        if len(days) == 1:
            assert {name: row[name] for name in ("rates", "funnel", "nps")} == {
                name: days[0][name] for name in ("rates", "funnel", "nps")
            }


@pytest.mark.parametrize(
    ("window", "dimension", "known"),
    [("1d", "all", True), ("total", "platform", True), ("1h", "all", False), ("1m", "channel", False),
     ("1d", "goal", False), ("total", "goal", False)],
)  # fmt: skip
async def test_clients_are_null_where_they_are_not_counted(
    world: World, window: str, dimension: str, known: bool
) -> None:
    """They count by day and in total, and not by goal: nobody is told that there were none."""
    async with workers(world) as urls:
        _, answer = await get(
            urls[0], ("window", window), ("dimension", dimension), ("by", "window"), ("currency", "EUR")
        )
    rows = [row for row in answer["rows"] if row["counts"]["sessions"]]
    assert rows
    for row in rows:
        assert (row["counts"]["clients"] is not None) == known
        assert (row["client_days"] is not None) == known
        assert not known or row["counts"]["clients"] > 0


async def test_goals_take_sessions_and_cost_of_all_days(world: World) -> None:
    """Also of days on which the goal was not reached (semantics 39)."""
    async with workers(world) as urls:
        _, answer = await get(urls[0], ("dimension", "goal"), ("currency", "EUR"))
    sessions = sum(record["counts"]["sessions"] for record in published(world, "all") if record["currency"] == "EUR")
    assert answer["rows"]
    assert {row["counts"]["sessions"] for row in answer["rows"]} == {sessions}


async def test_a_row_for_each_window(world: World) -> None:
    """by=window is what the topic says, in order of time; `from` is inclusive, `to` is not."""
    days = sorted({record["window_start"] for record in published(world, "channel")})
    async with workers(world) as urls:
        _, answer = await get(urls[0], ("by", "window"), ("from", days[1]), ("to", days[2]))
        _, local = await get(urls[0], ("by", "window"), ("from", "2026-06-02"), ("to", "2026-06-03"))
        _, total = await get(urls[0], ("window", "total"), ("by", "window"))
    assert days[1] == "2026-06-01T21:00:00.000Z"  # a day of Riga
    assert local == answer
    wanted = published(world, "channel", since=days[1], until=days[2])
    assert len(answer["rows"]) == len(wanted)
    for row in answer["rows"]:
        (record,) = [r for r in wanted if (r["keys"], r["currency"]) == (row["keys"], row["currency"])]
        assert all(row[name] == record[name] for name in ("window_start", "counts", "sums", "rates", "funnel", "nps"))
    assert {row["window_start"] for row in total["rows"]} == {None}


async def test_filters_and_order(world: World) -> None:
    """By keys with patterns, by figures with bounds; sorted by anything, cut off at a limit."""
    async with workers(world) as urls:
        _, everything = await get(urls[0], ("dimension", "source_medium"), ("currency", "EUR"))
        _, some = await get(
            urls[0],
            ("dimension", "source_medium"),
            ("currency", "EUR"),
            ("source", "G*"),
            ("filter", "source=news*"),
            ("filter", "medium!=organic"),
            ("filter", "sessions>=1"),
            ("sort", "source"),
        )
        _, most = await get(
            urls[0], ("dimension", "source_medium"), ("currency", "EUR"), ("sort", "-page_views"), ("limit", "2")
        )
    rows = everything["rows"]
    assert [row["keys"]["source"] for row in some["rows"]] == sorted(
        row["keys"]["source"]
        for row in rows
        if row["keys"]["source"].startswith(("g", "news"))
        and row["keys"]["medium"] != "organic"
        and row["counts"]["sessions"] >= 1
    )
    assert some["rows"]
    views = sorted((row["counts"]["page_views"] for row in rows), reverse=True)
    assert [row["counts"]["page_views"] for row in most["rows"]] == views[:2]


async def test_csv_says_the_same(world: World) -> None:
    """A header, a line for a row, nothing where there is no value."""
    async with workers(world) as urls:
        _, answer = await get(urls[0], ("currency", "EUR"))
        _, text = await get(urls[0], ("currency", "EUR"), ("format", "csv"))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["channel"] for line in lines] == [row["keys"]["channel"] for row in answer["rows"]]
    for line, row in zip(lines, answer["rows"], strict=True):
        assert line["value"] == row["sums"]["value"]
        assert line["clients"] == ("" if row["counts"]["clients"] is None else str(row["counts"]["clients"]))


async def test_a_worker_that_does_not_answer_leaves_a_gap_that_is_told(world: World) -> None:
    """What is known, with the tasks that are missing."""
    async with workers(world, silent=True) as urls:
        _, first = await get(urls[0])
        _, second = await get(urls[1])
        status, _ = await get(urls[0], ("format", "csv"))
    assert (first["complete"], first["missing_partitions"]) == (False, [1])
    assert (second["complete"], second["missing_partitions"]) == (False, [0])
    assert status == 200
    everything = {(row["keys"]["channel"], row["currency"]) for part in (first, second) for row in part["rows"]}
    assert everything == {(r["keys"]["channel"], r["currency"]) for r in published(world, "channel")}


async def test_the_command_asks_a_worker(world: World, tmp_path: Path) -> None:
    """The same rows, with the token of the settings; what is missing is a failure, after what is known."""
    config = tmp_path / "stream-app.toml"
    config.write_text('[site]\ntimezone = "Europe/Riga"\n[web]\ntoken = "secret-token"\n')
    arguments = ("counters", "--config", str(config), "--format", "json", "--currency", "EUR")
    async with workers(world, token="secret-token") as urls:
        _, answer = await get(urls[0], ("currency", "EUR"), Authorization="Bearer secret-token")
        result = await asyncio.to_thread(run, *arguments, "--url", urls[1])
    assert (result.exit_code, json_lines(result.stdout)) == (0, answer["rows"])
    async with workers(world, silent=True) as urls:
        result = await asyncio.to_thread(run, *arguments, "--url", urls[0])
        odd = await asyncio.to_thread(run, *arguments, "--url", urls[0], "colour=red")
    assert result.exit_code == 1
    assert "tasks 1 have not answered" in result.stderr
    assert result.stdout
    assert odd.exit_code == 2


async def test_a_token_is_needed_where_one_is_asked_for(world: World) -> None:
    """And handed on to the other workers."""
    async with workers(world, token="secret-token") as urls:
        assert (await get(urls[0]))[0] == 401
        status, answer = await get(urls[0], Authorization="Bearer secret-token")
    assert (status, answer["complete"]) == (200, True)


async def test_beyond_loopback_there_is_nothing_without_a_token(world: World) -> None:
    """Fails closed, and says what to set."""
    tasks = {0: Running(world.stores.open(0))}
    answers = TaskCounters(world.settings, world.partitions, lambda: tasks)
    server = WebServer(create_web(Status(), WorkerStats(), counters=answers), "127.0.0.1", 0)
    try:
        status, answer = await get(await server.start())
    finally:
        await server.stop()
    assert (status, answer["error"]) == (
        403,
        "counters beyond loopback are off: the worker was started without web.token (STREAM_APP_WEB__TOKEN)",
    )
    assert [Web(host=host).is_local for host in ("127.0.0.1", "::1", "localhost", "127.8.0.1")] == [True] * 4
    assert [Web(host=host).is_local for host in ("0.0.0.0", "::", "10.0.0.1", "shop.example.com")] == [False] * 4


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([("window", "2d")], "window"),
        ([("dimension", "colour")], "segment.NAME"),
        ([("dimension", "campaign_id")], "allowed are all, channel, "),
        ([("from", "yesterday")], "from"),
        ([("from", "2026-01-02"), ("to", "2026-01-02")], "to: must be after from"),
        ([("from", "2026-02-30")], "from"),
        ([("from", "2026-01-01T00:00:00")], "from"),
        ([("currency", "EURO")], "currency"),
        ([("sort", "beauty")], "sort"),
        ([("limit", "-1")], "limit"),
        ([("format", "xml")], "format"),
        ([("by", "day")], "by"),
        ([("filter", "leads>many")], "leads"),
        ([("filter", "source=google")], "source is no key of the dimension channel"),
        ([("filter", "colour>1")], "colour"),
        ([("campaign", "x")], "campaign"),
        ([("filter", "x" * 2_000)], "filter"),
        ([("filter", "channel=a")] * 51, "filter"),
    ],
)
async def test_questions_that_make_no_sense(world: World, parameters: list[tuple[str, str]], words: str) -> None:
    """Status 400, and what is allowed."""
    with pytest.raises(CannotAsk, match=words):
        ask(parameters, RIGA, 0)
    async with workers(world) as urls:
        status, answer = await get(urls[0], *parameters)
    assert status == 400
    assert words in answer["error"]


def test_times_may_be_given_in_several_ways() -> None:
    """A day of the property's zone, a moment, so long ago."""
    now = 29_700_000
    assert ask([("from", "2026-03-29")], RIGA, now).since == at("2026-03-28T22:00:00Z") // 60_000
    assert ask([("from", "2026-03-30")], RIGA, now).since == at("2026-03-29T21:00:00Z") // 60_000
    assert ask([("from", "2026-03-29T12:00:00+03:00")], RIGA, now).since == at("2026-03-29T09:00:00Z") // 60_000
    assert [ask([("from", text)], RIGA, now).since for text in ("90m", "24h", "7d")] == [
        now - 90, now - 1_440, now - 10_080,
    ]  # fmt: skip


def test_tables_of_the_topics_records_are_the_same(world: World) -> None:
    """What is summed from records by another process: the same rows, but for cents that the records have rounded."""
    question = Question("1d", "channel")
    renderer = Renderer("EUR", "v")
    table = Table(question, renderer)
    for record in published(world, "channel"):
        counter = msgspec.convert(record, LeadCounter)
        table.add(tuple(counter.keys.values()), counter.currency, 0, figures_of(counter), counter.nps)
    wanted = Table(question, renderer)
    from stream_app.processors.counters.queries import find

    for partition in range(world.partitions):
        for counter in find(world.stores.open(partition), "channel", "1d"):
            wanted.add(counter.keys, counter.currency, counter.start, counter.figures)
    found = {(*row.keys.values(), row.currency): row for row in table.rows()}
    assert len(found) > 5
    for row in wanted.rows():
        same = found.pop((*row.keys.values(), row.currency))
        assert (same.counts, same.client_days, same.windows, same.funnel, same.nps) == (
            row.counts, row.client_days, row.windows, row.funnel, row.nps,
        )  # fmt: skip
        for name in ("value", "refunded", "revenue", "profit", "cost"):
            difference = Decimal(getattr(same.sums, name)) - Decimal(getattr(row.sums, name))
            assert abs(difference) <= Decimal("0.005") * row.windows
    assert not found


def test_names_are_no_formulas() -> None:
    """Whoever writes a link does not write into somebody's spreadsheet."""
    assert cell("=cmd()") == "'=cmd()"
    assert cell("@x") == "'@x"
    assert cell("-5.20") == "-5.20"
    assert cell("spring") == "spring"
    table = Table(Question("total", "campaign"), Renderer("EUR", "v"))
    table.add(("s", "m", "=1+1"), "EUR", 0, Figures([1], {}))
    assert "'=1+1" in to_csv(table.rows(), table.question)


def test_what_has_no_value_comes_last_both_ways() -> None:
    """Rates without a denominator are not the smallest."""
    table = Table(Question("1d", "channel"), Renderer("EUR", "v"))
    for name, counts in (("none", [0, 5]), ("low", [10, 1, 0, 0, 0, 0, 0, 1]), ("high", [10, 1, 0, 0, 0, 0, 0, 9])):
        table.add((name,), "EUR", 0, Figures(counts, {}))

    def order(*, descending: bool) -> list[str]:
        question = Question("1d", "channel", sort="cr", descending=descending)
        return [row.keys["channel"] for row in in_order(table.rows(), question)]

    assert order(descending=False) == ["low", "high", "none"]
    assert order(descending=True) == ["high", "low", "none"]
    row: Row = next(row for row in table.rows() if row.keys["channel"] == "low")
    assert (value_of(row, "cr"), value_of(row, "cpl"), value_of(row, "channel")) == ("0.1", None, "low")


def counted(**counts: int) -> Figures:
    found = [0] * len(COUNTS)
    for name, n in counts.items():
        found[COUNTS.index(name)] = n
    return Figures(found, {})


def test_what_cannot_be_added_up_is_null() -> None:
    """Distinct clients, the funnel and the NPS of two days; of one day they are what they are."""
    table = Table(Question("1d", "channel"), Renderer("EUR", "v"))
    day = counted(sessions=3, clients=2, acquisition=1, answers=4, promoters=3, detractors=1)
    table.add(("both",), "EUR", 0, day)
    table.add(("both",), "EUR", 1_440, day)
    table.add(("one",), "EUR", 0, day)
    rows = {row.keys["channel"]: row for row in table.rows()}
    both, one = rows["both"], rows["one"]
    assert (both.counts["clients"], both.client_days, both.funnel, both.nps) == (None, 4, None, None)
    assert (one.counts["clients"], one.client_days, one.nps) == (2, 2, "50")
    assert one.funnel is not None
    assert one.funnel.acquisition == 1
    assert day.count(COUNTS.index("clients")) == 2  # what was added is left as it is


@pytest.mark.parametrize(
    ("condition", "left"),
    [("leads>=5", "bc"), ("leads>5", "c"), ("leads<=5", "ab"), ("leads<5", "a"), ("cr>0", ""), ("sessions<1", "abc")],
)
def test_bounds_on_figures(condition: str, left: str) -> None:
    """To the unit; what has no value passes none."""
    question = ask([("filter", condition)], RIGA, 0)
    table = Table(question, Renderer("EUR", "v"))
    for name, leads in (("a", 4), ("b", 5), ("c", 6)):
        table.add((name,), "EUR", 0, counted(leads=leads))
    assert "".join(sorted(row.keys["channel"] for row in table.rows())) == left
