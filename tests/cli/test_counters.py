"""`stream-app counters` and `stream-app report` over what a replay has written, and over a worker's web."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from stream_app.cli.pictures import USUAL, table
from stream_app.domain.counters.figures import Figures
from stream_app.domain.counters.questions import Question
from stream_app.domain.counters.records import Renderer
from stream_app.domain.counters.tables import Table
from stream_app.domain.counters.windows import Windows
from tests.cli.helpers import json_lines, run

GOALS = '[[goals]]\nname = "purchase"\nkind = "purchase"\n[[goals]]\nname = "form"\nkind = "lead"\n'
SHOP = "https://shop.example.com/"
CAMPAIGNS = {"Sunglasses": (100, "150"), "Lenses": (300, "45"), "Diamonds": (50, "600")}
LEADS = {"Sunglasses": 9, "Lenses": 16, "Diamonds": 11}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text(
        "".join(json.dumps(record) + "\n" for record in sorted(records, key=lambda r: r.get("occurred_at", "")))
    )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """May and June of a shop: the golden table of domain rules, section 5, in June, half of its leads in May."""
    directory = tmp_path_factory.mktemp("report")
    (directory / "stream-app.toml").write_text(
        f'[site]\nown_domains = ["shop.example.com"]\ntimezone = "Europe/Riga"\n{GOALS}'
    )
    clicks, conversions, updates, costs = [], [], [], []
    for month, share in (("05", 2), ("06", 1)):
        for campaign, (number, price) in CAMPAIGNS.items():
            for n in range(LEADS[campaign] // share):
                client = f"{campaign}-{month}-{n}"
                day = f"2026-{month}-{10 + n % 5}"
                tags = f"?utm_source=google&utm_medium=cpc&utm_campaign={campaign}"
                clicks.append({"event_id": f"c{client}", "client_id": client, "occurred_at": f"{day}T09:00:00Z",
                               "url": SHOP + tags})  # fmt: skip
                conversions.append({"event_id": f"f{client}", "client_id": client, "goal": "form",
                                    "occurred_at": f"{day}T09:05:00Z", "lead_id": f"l{client}",
                                    "segment": {"lead_type": "net"}})  # fmt: skip
            costs.append({"event_id": f"k{campaign}{month}", "cost_id": f"{campaign}-{month}",
                          "day": f"2026-{month}-10", "source": "google", "medium": "cpc", "campaign": campaign.lower(),
                          "cost": str(number * int(price)), "currency": "EUR", "clicks": number,
                          "impressions": 1000})  # fmt: skip
    won = "Diamonds-06-0"
    clicks.append({"event_id": "w", "client_id": won, "occurred_at": "2026-06-12T09:00:00Z", "url": SHOP})
    conversions.append({"event_id": "p", "client_id": won, "goal": "purchase", "occurred_at": "2026-06-12T09:01:00Z",
                        "value": "49.90", "order_id": "=o1"})  # fmt: skip
    updates += [
        {"event_id": "u1", "lead_id": f"l{won}", "occurred_at": "2026-06-11T10:00:00Z", "status": "contacted",
         "owner": "ann"},
        {"event_id": "u2", "lead_id": f"l{won}", "occurred_at": "2026-06-20T10:00:00Z", "status": "won",
         "owner": "bob", "revenue": "900", "profit": "300", "currency": "EUR", "contact_id": "k1"},
    ]  # fmt: skip
    out = directory / "out"
    result = run(
        "replay", "--config", str(directory / "stream-app.toml"), "--out", str(out),
        "--clicks", str(write(directory / "clicks.jsonl", clicks)),
        "--conversions", str(write(directory / "conversions.jsonl", conversions)),
        "--lead-updates", str(write(directory / "lead-updates.jsonl", updates)),
        "--costs", str(write(directory / "costs.jsonl", costs)),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return directory


def counters(data: Path, *arguments: str) -> Any:
    return run("counters", "--config", str(data / "stream-app.toml"), "--data", str(data / "out"), *arguments)


def test_the_golden_table_of_a_month(data: Path) -> None:
    """Domain rules, section 5: clicks, cost, leads, CPL and CR by campaign. The costs are in small letters: a campaign
    is shown as it was seen first."""
    result = counters(data, "-d", "campaign", "--from", "2026-06-01", "--to", "2026-07-01", "--format", "json",
                      "--sort", "campaign", "campaign!=(not set)")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = {row["keys"]["campaign"].title(): row for row in json_lines(result.stdout)}
    assert {
        name: (row["sums"]["ad_clicks"], row["rates"]["cpc"], row["sums"]["cost"], row["counts"]["leads"],
               row["rates"]["cpl"], f"{float(row['rates']['click_cr']):.2%}")
        for name, row in rows.items()
    } == {
        "Sunglasses": (100, "150.00", "15000.00", 9, "1666.67", "9.00%"),
        "Lenses": (300, "45.00", "13500.00", 16, "843.75", "5.33%"),
        "Diamonds": (50, "600.00", "30000.00", 11, "2727.27", "22.00%"),
    }  # fmt: skip


def test_a_table_for_people(data: Path) -> None:
    """Rates in percent, thousands apart, nothing where there is nothing."""
    result = counters(
        data, "-d", "campaign", "--from", "2026-06-01", "--columns", "leads,cost,cpl,click_cr,roas,clients"
    )
    (line,) = [line for line in result.stdout.splitlines() if "sunglasses" in line.lower()]
    assert "15,000.00" in line
    assert "1,666.67" in line
    assert "9.0 %" in line
    assert "–" in line  # clients of several days
    days = counters(data, "-d", "all", "--by-window", "--from", "2026-06-10", "--to", "2026-06-12").stdout
    assert "2026-06-10" in days
    assert "2026-06-11" in days
    assert "2026-06-09" not in days  # the day of Riga begins on the 9th in UTC
    hours = counters(data, "-d", "all", "-w", "1h", "--by-window", "--from", "2026-06-10", "--to", "2026-06-11").stdout
    assert "2026-06-10 12:00+0300" in hours
    assert {"clients", "cost", "cpl", "romi"} <= set(days.split())
    assert {"clients", "cost", "cpl", "cpa", "romi"}.isdisjoint(hours.split())  # not counted by the hour
    goals = counters(data, "-d", "goal", "-w", "total").stdout.split()
    assert "clients" not in goals
    assert "cost" in goals
    assert counters(data, "--columns", "beauty").exit_code == 2
    empty = counters(data, "--from", "2020-01-01", "--to", "2020-01-02")
    assert "nothing is counted there" in empty.stdout


def test_csv_and_wrong_use(data: Path) -> None:
    """The same columns as /counters; status 2 for a question that makes no sense."""
    lines = list(csv.DictReader(counters(data, "--format", "csv", "--window", "total").stdout.splitlines()))
    assert {line["channel"] for line in lines} >= {"Paid Search"}
    assert counters(data, "--from", "now").exit_code == 2
    assert counters(data, "colour=red").exit_code == 2
    assert "channel" in counters(data, "colour=red").stderr
    assert run("counters", "--data", str(data)).exit_code == 1
    assert run("counters", "--url", "http://127.0.0.1:9").exit_code == 1


@pytest.mark.parametrize(("width", "most"), [(60, 4), (80, 6), (120, 10), (200, 12)])
def test_names_come_first_where_there_is_little_room(width: int, most: int) -> None:
    """On a narrow terminal figures are left out, and it says which; no name and no figure is cut."""
    names = ["Paid Search", "[red]a campaign with brackets[/red]", "x" * 50]
    rows = Table(Question("total", "channel"), Renderer("EUR", "v"))
    for name in names:
        rows.add((name,), "EUR", 0, Figures([1_234_567, 1, 1, 1, 1, 0, 0, 99_999], {0: Decimal("12345678.90")}))
    picture = table(Question("total", "channel"), rows.rows(), Windows("UTC"), width=width)
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(picture)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "Paid Search" in text
    assert "[red]a campaign" in text.replace("\n", "")
    assert "1,234,567" in text
    assert "…" not in text
    assert 1 <= len(picture.columns) - 2 <= most
    assert (len(picture.columns) - 2 == len(USUAL)) == ("no room for" not in text)


def test_watching_shows_the_table_until_it_is_ended(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it, with status 0."""
    rounds: list[float] = []

    def pause(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("stream_app.cli.counters.time.sleep", pause)
    result = counters(data, "-d", "campaign", "--window", "total", "--watch", "--every", "0.5")
    assert result.exit_code == 0
    assert rounds == [0.5, 0.5, 0.5]
    assert "sunglasses" in result.stdout.lower()
    assert "Ctrl-C ends" in result.stdout


def test_watching_outlives_a_worker_that_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that nobody answers, and asks again."""
    rounds: list[float] = []

    def pause(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("stream_app.cli.counters.time.sleep", pause)
    result = run("counters", "--url", "http://127.0.0.1:9", "--watch")
    assert result.exit_code == 0
    assert result.stdout.count("no worker answers at http://127.0.0.1:9") == 2


def report(data: Path, *arguments: str) -> Any:
    return run("report", "--config", str(data / "stream-app.toml"), "--data", str(data / "out"), *arguments)


def test_a_month_beside_the_month_before(data: Path, tmp_path: Path) -> None:
    """Leads of May are half of June's; costs are the same."""
    result = report(data, "--month", "2026-06", "--out", str(tmp_path), "--format", "csv")
    assert result.exit_code == 0, result.stderr
    assert "compared with 2026-05-01 to 2026-06-01" in result.stderr
    assert {Path(line).name for line in result.stdout.splitlines()} == {
        "all.csv", "channel.csv", "source_medium.csv", "campaign.csv", "goal.csv", "deals.csv",
    }  # fmt: skip
    with (tmp_path / "campaign.csv").open(encoding="utf-8-sig") as file:
        rows = {row["campaign"].title(): row for row in csv.DictReader(file)}
    lenses = rows["Lenses"]
    assert (lenses["leads"], lenses["leads_before"], lenses["leads_change"]) == ("16", "8", "1")
    assert (lenses["cost"], lenses["cost_before"], lenses["cost_change"]) == ("13500.00", "13500.00", "0")
    assert (lenses["cpl"], lenses["cpl_before"], lenses["cpl_change"]) == ("843.75", "1687.50", "-0.5")
    assert (rows["Diamonds"]["won"], rows["Diamonds"]["won_before"], rows["Diamonds"]["won_change"]) == ("1", "0", "")


def test_deals_with_their_chains(data: Path, tmp_path: Path) -> None:
    """The purchase and the won lead of June, with the visits that led there; owners kept apart."""
    report(data, "--from", "2026-06-11", "--to", "2026-06-30", "--out", str(tmp_path), "--format", "csv")
    with (tmp_path / "deals.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    (purchase,) = [row for row in rows if row["goal"] == "purchase"]
    assert purchase["value"] == "49.90"
    assert purchase["order_id"] == "'=o1"  # no formula in anybody's spreadsheet
    assert purchase["path"] == "Paid Search > Direct"
    assert purchase["chain"] == ("2026-06-10 google / cpc / Diamonds > 2026-06-12 (direct) / (none) / (not set)")
    assert (purchase["channel"], purchase["first_source"], purchase["days_to_convert"]) == (
        "Paid Search",
        "google",
        "2",
    )
    (won,) = [row for row in rows if row["kind"] == "won_lead"]
    assert (won["lead_owner"], won["client_owner"], won["lead_type"]) == ("ann", "bob", "net")
    assert (won["value"], won["profit"], won["contact_id"], won["campaign"]) == ("900.00", "300.00", "k1", "Diamonds")
    assert won["path"] == "Paid Search"
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


def test_a_workbook(data: Path, tmp_path: Path) -> None:
    """A sheet for each table; numbers are numbers, and no text is a formula."""
    result = report(data, "--month", "2026-06", "-d", "campaign", "--out", str(tmp_path), "--format", "xlsx")
    assert [Path(line).name for line in result.stdout.splitlines()] == ["report.xlsx"]
    space = {"s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(tmp_path / "report.xlsx") as book:
        sheets = ET.fromstring(book.read("xl/workbook.xml")).findall("s:sheets/s:sheet", space)
        assert [sheet.get("name") for sheet in sheets] == ["campaign", "deals", "about"]
        texts = ["".join(item.itertext()) for item in ET.fromstring(book.read("xl/sharedStrings.xml"))]
        assert "=o1" in texts
        pages = [book.read(f"xl/worksheets/sheet{n}.xml") for n in (1, 2)]
        assert not any(b"<f>" in page for page in pages)
        numbers = [v.text for v in ET.fromstring(pages[0]).iter(f"{{{space['s']}}}v")]
        assert "843.75" in numbers


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--month", "June"),
        ("--month", "2026-06", "--from", "2026-06-01"),
        ("--from", "2026-06-02", "--to", "2026-06-02"),
        ("--month", "2026-06", "-d", "colour"),
    ],
)
def test_periods_that_make_no_sense(data: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Status 2; nothing is written."""
    assert report(data, *arguments, "--out", str(tmp_path / "none")).exit_code == 2
    assert not (tmp_path / "none").exists()


def test_a_report_by_no_such_dimension_names_those_there_are(tmp_path: Path) -> None:
    """Wrong use, before anything is read."""
    result = run("report", "--month", "2026-06", "--out", str(tmp_path), "-d", "sourcemedium")
    assert result.exit_code == 2
    assert "there are: all, channel, source_medium," in " ".join(result.stderr.split())
