"""Comparing with newer data, and taking it over."""

from __future__ import annotations

import datetime as dt
import shutil
from importlib import resources
from pathlib import Path

import pytest

from stream_app.domain.sources import SourceResolver, SourceRules
from stream_app.reference import load, load_from
from stream_app.reference.refresh import differences, refresh

SHOP = "https://shop.example.com/"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder as Matomo's, with something new in each file."""
    folder = tmp_path / "newer"
    folder.mkdir()
    (folder / "SearchEngines.yml").write_text(
        "Google:\n  -\n    urls:\n      - google.{}\n    params:\n      - q\n"
        "Fresh:\n  -\n    urls:\n      - www.fresh-engine.example\n      - 'fresh-engine.{}'\n"
        "    params:\n      - find\n"
        "Shop:\n  -\n    urls:\n      - ozon.ru\n    params:\n      - text\n",
        encoding="utf-8",
    )
    (folder / "Socials.yml").write_text("Fresh Net:\n  - fresh-net.example\nVK:\n  - vk.com\n", encoding="utf-8")
    (folder / "AIAssistants.yml").write_text("ChatGPT:\n  - chatgpt.com\n", encoding="utf-8")
    (folder / "spammers.txt").write_text("semalt.com\nfresh-spam.example\n", encoding="utf-8")
    return folder


def test_differences(newer: Path) -> None:
    """New sites with their parameters, sites in another table, spam that came and went."""
    found = differences(load(), matomo=newer)
    told = {(item.table, item.change, item.name) for item in found}
    assert told == {
        ("search", "new", "Fresh"),
        ("search", "other table", "Shop"),
        ("social", "new", "Fresh Net"),
        ("spam", "new", "hosts"),
        ("spam", "gone", "hosts"),
    }
    fresh = next(item for item in found if item.name == "Fresh")
    assert (fresh.entries, fresh.keywords) == (("fresh-engine.example", "fresh-engine.*"), ("find",))


def test_taking_over(newer: Path, tmp_path: Path) -> None:
    """The tables stay valid, know what was new, and leave only what needs judgement."""
    tables = tmp_path / "tables"
    with resources.as_file(resources.files("stream_app.reference") / "tables") as ours:
        shutil.copytree(ours, tables)
    left = refresh(tables, load(), dt.date(2027, 1, 2), matomo=newer)
    assert [(item.change, item.name) for item in left] == [("other table", "Shop")]
    loaded = load_from(tables)
    assert loaded.spam == {"semalt.com", "fresh-spam.example"}
    assert "date = 2027-01-02" in (tables / "spam.toml").read_text(encoding="utf-8")
    found = SourceResolver(SourceRules(), loaded).resolve(SHOP, "https://fresh-engine.lv/?find=a").source
    assert found is not None
    assert (found.medium, found.keyword, found.source_platform) == ("organic", "a", "Fresh")
    assert differences(loaded, matomo=newer) == left


def test_nothing_new_in_the_data_that_we_know(shared_dir: Path) -> None:
    """The tables hold all of the lists that they were made with."""
    found = differences(load(), matomo=shared_dir, ga=shared_dir / "ga4_source_categories.csv")
    assert found == []


def test_unreadable_data_is_named(tmp_path: Path) -> None:
    """By its file."""
    (tmp_path / "Socials.yml").write_text("- just\n- a list\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Socials\.yml"):
        differences(load(), matomo=tmp_path)
    (tmp_path / "list.csv").write_text("source,source_category\na,SOURCE_CATEGORY_NEW\n", encoding="utf-8")
    with pytest.raises(ValueError, match="NEW"):
        differences(load(), ga=tmp_path / "list.csv")
