"""Google Analytics' channel group and source categories, as dbt-ga4 writes them down."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_app.domain.sources import SourceResolver

from .scores import Score

Rows = Callable[[str], list[dict[str, Any]]]


def test_ga4_channels_are_exact(rows: Rows, ga4: SourceResolver) -> None:
    """Every row of the default channel group: no exception is accepted."""
    score = Score("channels_ga4.jsonl (ga4)")
    for row in rows("channels_ga4.jsonl"):
        score.row(
            row["name"], ga4.assign_channel(row["source"], row["medium"], row["campaign"]), row["expected_channel"]
        )
    score.settle(least=1)


def test_extended_channels_change_nothing_of_them(rows: Rows, extended: SourceResolver) -> None:
    """Explicit tags get Google's channels in the extended group, too."""
    score = Score("channels_ga4.jsonl (extended)")
    for row in rows("channels_ga4.jsonl"):
        channel = extended.assign_channel(row["source"], row["medium"], row["campaign"])
        score.row(row["name"], channel, row["expected_channel"])
    score.settle(least=1)


def test_every_source_has_its_category(shared_dir: Path, ga4: SourceResolver) -> None:
    """A source's category shows in its paid and its free channel."""
    score = Score("ga4_source_categories.csv (ga4)")
    with (shared_dir / "ga4_source_categories.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            category = row["source_category"].removeprefix("SOURCE_CATEGORY_").capitalize()
            got = (ga4.assign_channel(row["source"], "cpc"), ga4.assign_channel(row["source"], "referral"))
            score.row(row["source"], got, (f"Paid {category}", f"Organic {category}"))
    score.settle(least=1)
