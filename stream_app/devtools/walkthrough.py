"""Screens of `docs/walkthrough-marketing.md`: two months of a shop, replayed, and what the commands say of them.

`python -m stream_app.devtools.walkthrough write` runs every command in the page's ```console blocks and puts what it
says below it; `check` ends with status 1 if the page says something else.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "walkthrough-marketing.md"
CONFIG = """\
[site]
own_domains = ["glasses.example"]
timezone = "Europe/Riga"
[counters]
dimensions = ["segment.lead_type", "owner", "refusal_reason"]
[[goals]]
name = "appointment"
kind = "lead"
[[goals]]
name = "purchase"
kind = "purchase"
"""

_CLOCK = re.compile(r"^\d\d:\d\d:\d\d  ", re.MULTILINE)
_PAID = {"Sunglasses": (100, 150, 9), "Lenses": (300, 45, 16), "Diamonds": (50, 600, 11)}
"""Campaign → visits of a month, price of a click, leads: the table of the domain rules."""
_MONTHS = ((5, 0.7), (6, 1.0))
"""(month of 2026, how busy)."""
_FREE = (
    ("https://www.google.com/", "", 60),
    ("", "?utm_source=news&utm_medium=email&utm_campaign=weekly", 40),
    ("https://l.instagram.com/", "", 25),
    ("https://chatgpt.com/", "", 6),
    ("", "", 50),
)
"""(referrer, tags, visits of a month) of what costs nothing."""

Records = dict[str, list[dict[str, Any]]]


class Shop:
    """Makes the events of two months: the same whenever it is asked."""

    def __init__(self, seed: int = 20260601) -> None:
        self._rng = random.Random(seed)
        self._number = 0
        self.records: Records = {"clicks": [], "conversions": [], "lead-updates": [], "costs": []}

    def make(self) -> Records:
        """All records, each topic's in order of time."""
        for month, busy in _MONTHS:
            self._paid(month, busy)
            for referrer, tags, visits in _FREE:
                for _ in range(round(visits * busy)):
                    client = self._visit(month, referrer, tags)
                    if self._rng.random() < 0.08:
                        self._purchase(client)
        for records in self.records.values():
            records.sort(key=lambda record: (record.get("occurred_at", ""), record["event_id"]))
        return self.records

    def _paid(self, month: int, busy: float) -> None:
        for campaign, (clicks, price, leads) in _PAID.items():
            visits, wanted = round(clicks * busy), round(leads * busy)
            for n in range(visits):
                client = self._visit(month, "", f"?utm_source=google&utm_medium=cpc&utm_campaign={campaign}")
                if n < wanted:
                    self._lead(client)
                elif self._rng.random() < 0.04:
                    self._purchase(client)
            self.records["costs"].append(
                {"event_id": f"k{campaign}{month}", "cost_id": f"google-{campaign}-{month}",
                 "day": f"2026-{month:02}-15", "source": "google", "medium": "cpc", "campaign": campaign,
                 "cost": str(visits * price), "currency": "EUR", "clicks": visits, "impressions": visits * 40}
            )  # fmt: skip

    def _visit(self, month: int, referrer: str, tags: str) -> str:
        self._number += 1
        client = f"visitor-{self._number}"
        self._last = datetime(2026, month, 1 + self._rng.randrange(26), 6 + self._rng.randrange(14), tzinfo=UTC)
        self._last += timedelta(minutes=self._rng.randrange(60), milliseconds=self._number)
        self._click(client, f"https://glasses.example/{tags}", referrer)
        for page in range(self._rng.randrange(4)):
            self._last += timedelta(seconds=20 + self._rng.randrange(90))
            self._click(client, f"https://glasses.example/p/{page}", "https://glasses.example/")
        return client

    def _lead(self, client: str) -> None:
        lead = f"lead-{self._number}"
        kind = self._rng.choice(("net", "net", "net", "seed", "spear"))
        self._convert(client, goal="appointment", lead_id=lead, segment={"lead_type": kind})
        contacted = self._last + timedelta(hours=1 + self._rng.randrange(30))
        self._update(lead, contacted, "contacted", owner=self._rng.choice(("Anna", "Boris")))
        chance = self._rng.random()
        if chance < 0.35:
            self._update(lead, contacted + timedelta(days=1), "qualified", qualification="sql")
            revenue = 900 + 50 * self._rng.randrange(40)
            self._update(lead, contacted + timedelta(days=2), "won", owner="Clara", revenue=str(revenue),
                         profit=str(revenue // 3), currency="EUR", contact_id=f"contact-{self._number}")  # fmt: skip
        elif chance < 0.6:
            self._update(lead, contacted + timedelta(days=1), "refused", reason=self._rng.choice(("price", "no time")))

    def _purchase(self, client: str) -> None:
        """Half of them come back later, directly."""
        if self._rng.random() < 0.5:
            self._last += timedelta(days=1 + self._rng.randrange(3), hours=1)
            self._click(client, "https://glasses.example/", "")
        value = f"{29 + self._rng.randrange(300)}.90"
        self._convert(client, goal="purchase", value=value, order_id=f"order-{self._number}")

    def _click(self, client: str, url: str, referrer: str) -> None:
        self.records["clicks"].append(
            {"event_id": self._id(), "client_id": client, "occurred_at": _rfc(self._last), "url": url,
             "referrer": referrer}
        )  # fmt: skip

    def _convert(self, client: str, **fields: object) -> None:
        self._last += timedelta(minutes=2)
        self.records["conversions"].append(
            {"event_id": self._id(), "client_id": client, "occurred_at": _rfc(self._last), **fields}
        )

    def _update(self, lead: str, at: datetime, status: str, **fields: str) -> None:
        self.records["lead-updates"].append(
            {"event_id": self._id(), "lead_id": lead, "occurred_at": _rfc(at), "status": status, **fields}
        )

    def _id(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"


def _rfc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


# -- the page ---------------------------------------------------------------------------------------------


def render(page: str) -> str:
    """The page with what its commands say now."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _replay(directory)
        parts = re.split(r"(```console\n.*?```)", page, flags=re.DOTALL)
        return "".join(_block(part, directory) if part.startswith("```console") else part for part in parts)


def _replay(directory: Path) -> None:
    (directory / "shop.toml").write_text(CONFIG, encoding="utf-8")
    arguments: list[str] = []
    for topic, records in Shop().make().items():
        path = directory / f"{topic}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        arguments += [f"--{topic}", str(path)]
    _run(_stream_app("replay", "--config", "shop.toml", "--out", "outputs", *arguments), directory)


def _block(block: str, directory: Path) -> str:
    lines = ["```console"]
    for line in block.splitlines():
        if line.startswith("$ "):
            lines += [line, *_said(line[2:], directory)]
    return "\n".join([*lines, "```"])


def _said(command: str, directory: Path) -> Iterator[str]:
    """What a command says, line by line. Commands of ours read the outputs of the replay."""
    if command.startswith("stream-app "):
        import shlex

        words = shlex.split(command)[1:]
        output = _run(_stream_app(*words, "--config", "shop.toml", "--data", "outputs"), directory,
                      watched="--watch" in words)  # fmt: skip
    else:
        output = _run(["/bin/sh", "-c", command], directory)
    text = _CLOCK.sub("12:00:00  ", output)
    for line in text.splitlines():
        if line.strip():
            yield line.rstrip()


def _stream_app(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stream_app.cli.main", *arguments]


def _run(command: Sequence[str], directory: Path, *, watched: bool = False) -> str:
    """Standard output. One that is watched is ended after its first picture, as a person would."""
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")},
        "PYTHONPATH": str(PAGE.parents[1]),
        "COLUMNS": "110",
    }
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        first = ""
        if watched:
            for line in started.stdout:
                first += line
                if "Ctrl-C ends" in line:
                    break
            started.send_signal(signal.SIGINT)
        output, errors = started.communicate(timeout=120)
    if started.returncode != 0:
        raise RuntimeError(f"{command} ended with {started.returncode}: {errors}")
    return first or output


def main(arguments: Sequence[str]) -> int:
    """The command; status 2 for wrong use."""
    page = PAGE.read_text(encoding="utf-8")
    match arguments:
        case ["write"]:
            PAGE.write_text(render(page), encoding="utf-8")
            return 0
        case ["check"]:
            if render(page) == page:
                return 0
            sys.stderr.write(
                f"{PAGE.name} is not what its commands say: python -m stream_app.devtools.walkthrough write\n"
            )
            return 1
        case _:
            sys.stderr.write("usage: python -m stream_app.devtools.walkthrough write|check\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
