"""The dashboard, looked at with a real browser: what it shows is what `/counters` answers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stream_app.app.referrals import TaskReferrals
from stream_app.metrics import WorkerStats
from stream_app.web import Readiness, WebServer, create_web
from tests.counters.serving import DAY, Running, Status, three_days, workers
from tests.counters.world import World
from tests.web.programme import programme

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
looks = pytest.mark.skipif(not BROWSER, reason="no browser (Debian package chromium) is installed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A shop whose third day ended with yesterday: the same amounts on the same days whenever it is looked at."""
    today = time.time_ns() // 1_000_000 // DAY * DAY
    return three_days(tmp_path_factory.mktemp("world"), today - 3 * DAY)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One with referral programmes."""
    return programme(tmp_path_factory.mktemp("shop"))


async def shown(url: str, profile: Path) -> str:
    """The page after its scripts have run."""
    arguments = [
        "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US", f"--user-data-dir={profile}",
        "--virtual-time-budget=8000", "--dump-dom", url,
    ]  # fmt: skip
    if os.geteuid() == 0:
        arguments.insert(0, "--no-sandbox")
    browser = await asyncio.create_subprocess_exec(
        BROWSER, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        out, _ = await asyncio.wait_for(browser.communicate(), 90)
    finally:
        if browser.returncode is None:
            browser.kill()
    return out.decode()


def part(dom: str, id_: str) -> str:
    """The element with that id."""
    found = re.search(rf'<(\w+)[^>]* id="{id_}"[^>]*>.*?</\1>|<(\w+) id="{id_}"[^>]*>.*?</\2>', dom, re.DOTALL)
    assert found is not None, dom[:2_000]
    return found[0]


def terms(dom: str, id_: str) -> dict[str, str]:
    """A list of terms."""
    return {
        unescape(name): unescape(value) for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", part(dom, id_))
    }


def lines(dom: str, table: str = "table") -> list[list[str]]:
    """The table's rows as texts, the head first."""
    rows = re.findall(r"<tr>(.*?)</tr>", part(dom, table), re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


async def asked(url: str, path: str = "counters", **parameters: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/{path}", params=parameters) as answer:
        rows: list[dict[str, Any]] = (await answer.json())["rows"]
        return rows


def number(text: str) -> Decimal:
    return Decimal(re.sub(r"[^0-9.-]", "", text))


@looks
async def test_it_shows_what_the_counters_say(world: World, tmp_path: Path) -> None:
    """Tiles, the highest bar of each chart, and the table in the order that the address asks for."""
    async with workers(world) as urls:
        dom = await shown(f"{urls[0]}/#period=month&dimension=source_medium&sort=-value", tmp_path)
        days = [row for row in await asked(urls[1], window="1d", dimension="all", by="window") if row["counts"]]
        (whole,) = await asked(urls[1], window="1d", dimension="all", currency=days[0]["currency"])
        sources = await asked(
            urls[1], window="1d", dimension="source_medium", sort="-value", currency=days[0]["currency"]
        )
    tiles = terms(dom, "tiles")
    for label, name in (("Sessions", "sessions"), ("Conversions", "conversions"), ("Leads", "leads")):
        assert number(tiles[label]) == sum(day["counts"][name] for day in days) > 0
    # Rounded once: the days, which are rounded each, may sum up to half a cent a day more or less.
    assert number(tiles["Value"]) == Decimal(whole["sums"]["value"]) > 0
    summed = sum(Decimal(day["sums"]["value"]) for day in days)
    assert abs(number(tiles["Value"]) - summed) <= len(days) * Decimal("0.005")
    highest = [number(text) for text in re.findall(r"most: ([^<]*)</b>", part(dom, "charts"))]
    assert highest == [
        max(day["counts"]["sessions"] for day in days),
        max(day["counts"]["conversions"] for day in days),
        max(Decimal(day["sums"]["value"]) for day in days),
    ]
    head, *body = lines(dom)
    assert head[:2] == ["Source / medium", "Sessions"]
    assert len(body) == len(sources)
    at = head.index("Value")
    for line, source in zip(body, sources, strict=True):
        assert line[0] == f"{source['keys']['source']} / {source['keys']['medium']}"
        assert number(line[1]) == source["counts"]["sessions"]
        assert number(line[at]) == Decimal(source["sums"]["value"])
    assert 'aria-sort="descending"' in part(dom, "table")
    assert terms(dom, "worker").keys() == {"Events/s", "Waiting", "Dead letters"}
    assert " hidden" not in re.findall(r'<main id="figures"[^>]*>', dom)[0]
    assert 'id="trouble" role="alert" hidden' in dom


@looks
@pytest.mark.parametrize(("by", "title"), [("code", "Code"), ("advocate_kind", "Kind of advocate"), ("level", "Level")])
async def test_it_shows_what_the_programmes_say(shop: World, tmp_path: Path, by: str, title: str) -> None:
    """People, rates, amounts by status, customers who were referred beside others, and a table of the parts."""
    async with workers(shop) as urls:
        dom = await shown(f"{urls[0]}/#view=referrals&program=friends&by={by}", tmp_path)
        (whole,) = await asked(urls[1], "referrals", program="friends")
        parts = await asked(urls[1], "referrals", program="friends", dimension=by)
    tiles = terms(dom, "tiles")
    for label, name in (("Taking part", "users"), ("Referred", "referred"), ("Refused", "refused_fraud")):
        assert number(tiles[label]) == whole["counts"][name] > 0
    assert number(tiles["K-factor"]) == round(Decimal(whole["rates"]["k_factor"]), 2) > 0
    assert tiles["Invites convert"] == "37.5%"
    for label, name in (
        ("Earned", "earned"),
        ("Pending", "pending"),
        ("Rejected", "rejected"),
        ("To be paid", "approved"),
    ):
        assert number(tiles[label]) == Decimal(whole["sums"]["EUR"][name])
    head, *body = lines(dom)
    assert head[0] == title
    assert head.index("Earned") < head.index("To be paid")
    assert len(body) == len(parts) > 1
    for line, row in zip(body, parts, strict=True):
        assert line[0] == {"level": "Level "}.get(by, "") + row["keys"][by]
        assert number(line[head.index("Conversions")]) == row["counts"]["conversions"]
        earned = row["sums"].get("EUR", {}).get("earned")
        assert line[head.index("Earned")] == (f"€{earned}" if earned else "–")
    cohorts = whole["cohorts"]["EUR"]
    _, referred, others = lines(dom, "customers")
    assert referred[:3] == ["Referred customers", str(cohorts["referred"]["customers"]), "25.0%"]
    assert others[:2] == ["All others", str(cohorts["other"]["customers"])]
    assert number(referred[-1]) == Decimal(cohorts["referred"]["revenue_per_customer"])
    assert re.findall(r'<button[^>]*value="([^"]*)"', part(dom, "programs")) == ["friends", "partners"]
    hidden = {tag for tag in re.findall(r"<[^>]* data-view=[^>]*>", dom) if " hidden" in tag}
    assert {"sources" in tag for tag in hidden} == {True}
    assert len(hidden) == 4
    assert 'id="trouble" role="alert" hidden' in dom


@looks
async def test_where_counters_are_off_there_are_programmes(shop: World, tmp_path: Path) -> None:
    """Whatever the address asks for."""
    tasks = {number: Running(shop.stores.open(number)) for number in range(shop.partitions)}
    programmes = TaskReferrals(shop.settings, shop.partitions, lambda: tasks)  # type: ignore[arg-type, return-value]
    web = create_web(Status(), WorkerStats(), referrals=programmes, counters_need_token=False)
    server = WebServer(web, "127.0.0.1", 0)
    try:
        dom = await shown(f"{await server.start()}/#view=sources", tmp_path)
    finally:
        await server.stop()
    assert terms(dom, "tiles")["Earned"] == "€173.00"
    assert lines(dom)[0][0] == "Code"
    assert "Counters are off" not in dom


@looks
async def test_without_programmes_nothing_is_shown_of_them(world: World, tmp_path: Path) -> None:
    """Also where an address asks for them, and whatever else it asks for that there is not."""
    async with workers(world) as urls:
        dom = await shown(f"{urls[0]}/#view=referrals&program=x&by=x&rank=x&period=total", tmp_path)
    assert " hidden" in re.findall(r'<fieldset id="views"[^>]*>', dom)[0]
    assert lines(dom)[0][0] == "Channel"
    assert number(terms(dom, "tiles")["Sessions"]) > 0


@looks
async def test_a_missing_worker_is_told_of(world: World, tmp_path: Path) -> None:
    """A part of the figures is no whole."""
    async with workers(world, silent=True) as urls:
        dom = await shown(f"{urls[0]}/#period=total", tmp_path)
    assert "Figures are missing: 1 task(s) do not answer now." in dom


@looks
async def test_where_counters_need_a_token_it_is_asked_for(world: World, tmp_path: Path) -> None:
    """And nothing is shown without."""
    async with workers(world, token="a-token") as urls:
        dom = await shown(f"{urls[0]}/", tmp_path)
    assert " hidden" not in re.findall(r'<form id="admission"[^>]*>', dom)[0]
    assert " hidden" in re.findall(r'<main id="figures"[^>]*>', dom)[0]
    assert terms(dom, "tiles") == {}


class Troubled(Status):
    def readiness(self) -> Readiness:
        return Readiness(ready=False, reason="hung_transaction", detail="<b>task 1</b>")


@looks
async def test_a_worker_that_is_not_ready_says_why(tmp_path: Path) -> None:
    """In text: whatever the reason has in it is no element of the page."""
    server = WebServer(create_web(Troubled(), WorkerStats()), "127.0.0.1", 0)
    try:
        dom = await shown(await server.start(), tmp_path)
    finally:
        await server.stop()
    assert "Not ready: hung transaction" in dom
    assert "&lt;b&gt;task 1&lt;/b&gt;" in dom
    assert "Counters are off (counters.enabled is false)" in dom


async def test_it_loads_nothing_from_elsewhere() -> None:
    """Its own files, with types, under a policy that allows no others; and no further files of the package."""
    server = WebServer(create_web(Status(), WorkerStats()), "127.0.0.1", 0)
    try:
        url = await server.start()
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> tuple[int, str, str, str]:
                async with session.get(url + path) as answer:
                    policy = answer.headers.get("Content-Security-Policy", "")
                    return answer.status, answer.content_type, policy, await answer.text()

            code, kind, policy, page = await get("/")
            assert (code, kind) == (200, "text/html")
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
            loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]*)"', page)
            assert sorted(loaded) == ["data:,", "static/dashboard.css", "static/dashboard.js"]
            for name in ("dashboard", "drawing", "referrals"):
                assert (await get(f"/static/{name}.js"))[:2] == (200, "text/javascript")
            assert (await get("/static/dashboard.css"))[:2] == (200, "text/css")
            for path in ("/static/index.html", "/static/..%2Fapp.py", "/static/"):
                assert (await get(path))[0] == 404
            for name in ("dashboard.js", "drawing.js", "referrals.js", "dashboard.css"):
                text = (await get(f"/static/{name}"))[3]
                assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
            for linked in re.findall(r'<a href="([^"]*)"', page):
                assert (await get("/" + unescape(linked)))[0] != 404, linked
    finally:
        await server.stop()


async def test_status_tells_the_worker_in_figures(world: World) -> None:
    """What the page is made from."""
    async with workers(world) as urls, aiohttp.ClientSession() as session, session.get(f"{urls[0]}/status") as answer:
        status = await answer.json()
    assert status == {
        "version": status["version"], "ready": True, "reason": "ok", "detail": "", "tasks": {}, "events": 0,
        "waiting": 0, "dead_letters": status["dead_letters"], "counters": True, "currency": "EUR",
        "timezone": "Europe/Riga", "programs": [],
    }  # fmt: skip
    assert set(status["dead_letters"].values()) == {0}
