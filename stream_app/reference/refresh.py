"""Compare the tables with newer data of others, and take over what is new.

Reads Matomo's lists (`SearchEngines.yml`, `Socials.yml`, `AIAssistants.yml`, `spammers.txt`) and Google's source
categories (a CSV `source,source_category`). Facts are taken over in our own form; the files themselves are not.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from stream_app.domain.channels import Category
from stream_app.domain.sources.hosts import name_suffixes, normalize_host, without_www
from stream_app.domain.sources.matching import SiteMatcher
from stream_app.domain.sources.tables import Kind, ReferenceTables, Site

FILES: dict[str, Kind] = {"SearchEngines.yml": "search", "Socials.yml": "social", "AIAssistants.yml": "ai"}
SPAM_FILE = "spammers.txt"

_ALSO_FINE: dict[Kind, frozenset[Kind]] = {
    "search": frozenset(("ai", "social", "ads")),
    "social": frozenset(("video", "messenger", "excluded")),
    "ai": frozenset(),
}
"""Tables that may hold an entry of such a list by our own judgement."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that a newer list has and our tables have not, or the other way round."""

    table: str
    change: Literal["new", "other table", "gone", "category"]
    name: str
    entries: tuple[str, ...]
    detail: str = ""
    keywords: tuple[str, ...] = ()

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.table}: {self.change}: {self.name}: {', '.join(self.entries)}{detail}"


def differences(tables: ReferenceTables, *, matomo: Path | None = None, ga: Path | None = None) -> list[Difference]:
    """What newer data says that our tables do not, file by file. Files that are not there are skipped.

    Raises:
        ValueError: a file cannot be read as what its name says.
    """
    found: list[Difference] = []
    if matomo is not None:
        matcher = SiteMatcher(tables.sites)
        for name, kind in FILES.items():
            if (matomo / name).exists():
                found += _site_differences(matcher, tables.spam, kind, _read_yaml(matomo / name))
        if (matomo / SPAM_FILE).exists():
            found += _spam_differences(tables.spam, _read_spam(matomo / SPAM_FILE))
    if ga is not None:
        found += _category_differences(tables.ga_categories, read_categories(ga))
    return found


def refresh(
    folder: Path, tables: ReferenceTables, date: dt.date, *, matomo: Path | None = None, ga: Path | None = None
) -> list[Difference]:
    """Take over what is new into the tables of a folder: spam and categories as they are now, new sites at the end of
    their table, to be read and moved by a person. Returns what is left to judge: sites that stand in another table."""
    found = differences(tables, matomo=matomo, ga=ga)
    for kind in FILES.values():
        new = [item for item in found if item.table == kind and item.change == "new"]
        if new:
            _append_sites(folder / f"{kind}.toml", new, date)
    if matomo is not None and (matomo / SPAM_FILE).exists():
        _rewrite_names(folder / "spam.toml", {"spam": _read_spam(matomo / SPAM_FILE)}, date)
    if ga is not None:
        headings: dict[str, set[str]] = {}
        for name, category in read_categories(ga).items():
            headings.setdefault(category, set()).add(name)
        _rewrite_names(folder / "ga_categories.toml", headings, date)
    return [item for item in found if item.change == "other table"]


def read_categories(path: Path) -> dict[str, Category]:
    """Lower-case source → category from Google's list as CSV.

    Raises:
        ValueError: a category that we do not know.
    """
    known: dict[str, Category] = {"SEARCH": "search", "SOCIAL": "social", "SHOPPING": "shopping", "VIDEO": "video"}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (row["source"].lower(), row["source_category"].removeprefix("SOURCE_CATEGORY_"))
            for row in csv.DictReader(file)
        ]
    strange = {category for _, category in rows} - set(known)
    if strange:
        raise ValueError(f"{path.name}: unknown categories {', '.join(sorted(strange))}")
    return {name: known[category] for name, category in rows}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ValueError(f"{path.name} is YAML: `pip install pyyaml` to read it") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: no names at the top")  # noqa: TRY004  # the content, not an argument, is wrong
    return content


def _read_spam(path: Path) -> set[str]:
    hosts = (normalize_host(line) for line in path.read_text(encoding="utf-8").split())
    return {host for host in hosts if host}


def _entries(blocks: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Hosts of an entry with their parameters, whichever of the two forms the list has."""
    for block in blocks:
        if isinstance(block, str):
            yield block.lower(), ()
        else:
            parameters = tuple(p for p in map(str, block.get("params") or ()) if re.fullmatch(r"[\w.-]+", p))
            for url in block.get("urls", ()):
                yield str(url).lower(), parameters


def _site_differences(
    matcher: SiteMatcher, spam: frozenset[str], kind: Kind, lists: dict[str, Any]
) -> Iterator[Difference]:
    for name, blocks in lists.items():
        missing: list[str] = []
        keywords: tuple[str, ...] = ()
        elsewhere: dict[Kind, list[str]] = {}
        for entry, parameters in _entries(blocks):
            held = _kind_of(matcher, spam, entry)
            if held is None:
                missing.append(_pattern(entry))
                keywords = keywords or parameters
            elif held not in {kind, "spam"} and held not in _ALSO_FINE[kind]:
                elsewhere.setdefault(held, []).append(entry)
        if missing:
            yield Difference(kind, "new", name, tuple(dict.fromkeys(missing)), keywords=keywords)
        for other, entries in elsewhere.items():
            yield Difference(kind, "other table", name, tuple(entries), f"in {other}.toml")


def _kind_of(matcher: SiteMatcher, spam: frozenset[str], entry: str) -> Kind | Literal["spam"] | None:
    if entry.startswith(("com.", "org.", "android-app//")) or entry.endswith(".android"):
        match = matcher.of_package(entry.removeprefix("android-app//").partition("/")[0])
        return match.kind if match else None
    host, slash, path = entry.replace("{}", "com").partition("/")
    if any(name in spam for name in name_suffixes(host)):
        return "spam"
    matches = matcher.of_host(host)
    return next((match.kind for match in matches if (slash + path).startswith(match.path)), None)


def _pattern(entry: str) -> str:
    """An entry of Matomo's in our form: `{}` is a public suffix at the end and any subdomain at the beginning."""
    return without_www(entry.replace(".{}", ".*").removeprefix("{}."))


def _spam_differences(ours: frozenset[str], theirs: set[str]) -> Iterator[Difference]:
    if theirs - ours:
        yield Difference("spam", "new", "hosts", tuple(sorted(theirs - ours)))
    if ours - theirs:
        yield Difference("spam", "gone", "hosts", tuple(sorted(ours - theirs)))


def _category_differences(ours: dict[str, Category], theirs: dict[str, Category]) -> Iterator[Difference]:
    for name in sorted(theirs.keys() - ours.keys()):
        yield Difference("ga_categories", "new", theirs[name], (name,))
    for name in sorted(ours.keys() - theirs.keys()):
        yield Difference("ga_categories", "gone", ours[name], (name,))
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            yield Difference("ga_categories", "category", theirs[name], (name,), f"was {ours[name]}")


def _append_sites(path: Path, new: Iterable[Difference], date: dt.date) -> None:
    lines = [f"\n# --- new on {date.isoformat()}, to be read and moved to their place " + "-" * 40]
    for item in new:
        site = Site(item.name, hosts=item.entries, keywords=item.keywords, origin="matomo")
        lines.append("\n[[site]]")
        for key, value in msgspec.to_builtins(site).items():
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.rstrip("\n") + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _rewrite_names(path: Path, headings: dict[str, set[str]], date: dt.date) -> None:
    """The same head with a new date, and these names."""
    head = path.read_text(encoding="utf-8").partition("[names]")[0]
    head = re.sub(r"date = \d{4}-\d{2}-\d{2}", f"date = {date.isoformat()}", head)
    blocks = [head + "[names]"]
    for heading, names in headings.items():
        blocks.append(f"{heading} = [\n{_wrapped(sorted(names))}\n]\n")
    path.write_text("\n".join(blocks).rstrip("\n") + "\n", encoding="utf-8")


def _wrapped(names: list[str]) -> str:
    lines, line = list[str](), "  "
    for name in names:
        word = json.dumps(name, ensure_ascii=False) + ", "
        if len(line) + len(word) > 118:
            lines.append(line.rstrip())
            line = "  "
        line += word
    return "\n".join([*lines, line.rstrip()])
