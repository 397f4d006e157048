"""The tables that come with the program, and what the loader refuses."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest

from stream_app.reference import TableError, load, load_from
from stream_app.reference.loader import KINDS

HEAD = 'about = "x"\n[origins]\no = { title = "x", date = 2026-01-01 }\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tables, to be spoilt."""
    with resources.as_file(resources.files("stream_app.reference") / "tables") as tables:
        shutil.copytree(tables, tmp_path / "tables")
    return tmp_path / "tables"


def _spoil(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_tables_load_and_are_of_some_size() -> None:
    """All kinds of sites, click ids, spam, categories and crawlers."""
    tables = load()
    sizes = {kind: len(tables.sites[kind]) for kind in KINDS}
    assert min(sizes.values()) >= 30, sizes
    assert sizes["search"] >= 300
    assert sizes["social"] >= 250
    assert len(tables.click_ids) >= 37
    assert len(tables.spam) > 2_300
    assert len(tables.ga_categories) == 819
    assert len(tables.ai_crawlers) > 60


@pytest.mark.parametrize(
    "name",
    ["Yandex", "VK", "Odnoklassniki", "Mail.ru", "Mail.ru Mail", "Rambler", "Dzen", "Avito", "Ozon", "Wildberries",
     "Telegram", "inbox.lv", "Draugiem.lv", "SS.LV", "Delfi", "Yandex Market", "Rutube", "VK Video", "GigaChat",
     "Alice", "Salidzini.lv", "220.lv", "Pikabu", "Habr", "MAX"],
)  # fmt: skip
def test_the_russian_and_latvian_speaking_web_is_there(name: str) -> None:
    """Each by its name."""
    assert any(site.name == name for group in load().sites.values() for site in group)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["a.example"]\norigin = "nowhere"\n', "A: origin 'nowhere'"),
        ("social.toml", '\n[[site]]\nname = "A"\norigin = "own"\n', "A: names no host"),
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["a b"]\norigin = "own"\n', "A: no host in 'a b'"),
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["A.example"]\norigin = "own"\n', "lower case"),
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["https://a.example"]\norigin = "own"\n', "A:"),
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["a.example"]\nhots = ["b"]\norigin = "own"\n', "hots"),
        ("social.toml", '\n[[site]]\nname = "A"\nhosts = ["vk.com"]\norigin = "own"\n', "vk.com stands in"),
        ("video.toml", '\n[[site]]\nname = "A"\nhosts = ["www.vk.com"]\norigin = "own"\n', "say with `over`"),
        ("video.toml", '\n[[site]]\nname = "A"\nhosts = ["semalt.com"]\norigin = "own"\n', "referrer spam"),
        ("video.toml", '\n[[site]]\nname = "A"\npackages = ["org.telegram.messenger"]\norigin = "own"\n', "also of"),
        (
            "click_ids.toml",
            '\n[[click_id]]\nname = "GCLID"\nplatform = "a"\nsource = "b"\norigin = "own"\n',
            "click_ids",
        ),
        ("spam.toml", 'more = ["not a host"]\n', "no host"),
        ("ga_categories.toml", 'shopping2 = ["a"]\n', "is none of"),
        ("ai.toml", "\n[[site]\n", "ai.toml"),
    ],
)
def test_a_wrong_table_is_named(folder: Path, name: str, text: str, problem: str) -> None:
    """File, entry, and what is wrong."""
    _spoil(folder, name, text)
    with pytest.raises(TableError, match="(?s).*" + problem.replace("(", r"\(")):
        load_from(folder)


def test_a_missing_table_is_named(folder: Path) -> None:
    """By its file."""
    (folder / "mail.toml").unlink()
    with pytest.raises(TableError, match=r"mail\.toml: cannot be read"):
        load_from(folder)


def test_a_host_may_stand_in_two_tables_if_it_is_settled_who_wins(folder: Path) -> None:
    """`over` states the order, and resolution keeps it."""
    from stream_app.domain.sources import SourceResolver, SourceRules

    _spoil(folder, "video.toml", '\n[[site]]\nname = "A"\nhosts = ["vk.com"]\nover = ["social"]\norigin = "own"\n')
    resolver = SourceResolver(SourceRules(), load_from(folder))
    found = resolver.resolve("https://shop.example.com/", "https://vk.com/").source
    assert found is not None
    assert (found.medium, found.source_platform) == ("video", "A")
