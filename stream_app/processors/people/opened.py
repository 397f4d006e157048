"""A person's open entries in order of time: the newest with the person, older ones in rows. So a commit costs what it
changes, however many conversions within grace a referrer has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import msgspec

from stream_app.domain.referral.ledger import Entry, Open, OpenMoment
from stream_app.engine.processor import Rows
from stream_app.processors.people.state import OPEN_A_ROW, PAGE_ROWS, Books, OpenPage

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(list[Open]).decode


class OpenEntries:
    """One commit's view; `write` puts back what changed."""

    def __init__(self, books: Books, key: bytes, rows: Rows) -> None:
        self._books = books
        self._key = key
        self._rows = rows
        self._read: dict[int, list[Open]] = {}
        """By row: what was decoded."""
        self._bytes: dict[int, bytes] = {}

    def __len__(self) -> int:
        return sum(page.count for page in self._books.pages) + len(self._books.open)

    def __iter__(self) -> Iterator[Open]:
        return self.since((0, "", ""))

    def get(self, moment: OpenMoment) -> Open | None:
        """The entry of that moment."""
        if self._books.pages and moment < self._books.pages[0].first:
            return None
        items = self._items(self._page_of(moment))
        index = bisect_left(items, moment, key=_moment)
        return items[index] if index < len(items) and items[index].moment == moment else None

    def of(self, entry: Entry) -> Open | None:
        """What is known of an entry as long as it is open."""
        purchase = entry.walk.purchase
        return self.get((purchase.at, purchase.event_id, entry.id))

    def put(self, item: Open) -> None:
        """A new one."""
        number = self._page_of(item.moment)
        items = self._items(number)
        items.insert(bisect_left(items, item.moment, key=_moment), item)
        self._changed(number, items)

    def drop(self, moment: OpenMoment) -> None:
        """Without the entry of that moment."""
        number = self._page_of(moment)
        items = self._items(number)
        del items[bisect_left(items, moment, key=_moment)]
        self._changed(number, items)

    def since(self, moment: OpenMoment) -> Iterator[Open]:
        """From a moment on, inclusive; nothing may be put or dropped meanwhile."""
        first = self._page_of(moment)
        for number in range(first, len(self._books.pages) + 1):
            items = self._items(number)
            yield from items[bisect_left(items, moment, key=_moment) if number == first else 0 :]

    def before(self, moment: OpenMoment) -> Iterator[Open]:
        """From a moment backwards, without it."""
        last = self._page_of(moment)
        for number in range(last, -1, -1):
            items = self._items(number)
            yield from reversed(items[: bisect_left(items, moment, key=_moment)] if number == last else items)

    def write(self) -> None:
        """Rows that changed."""
        for row, items in self._read.items():
            payload = _encode(items) if items else None
            if payload != self._bytes.get(row):
                self._rows.put(self._key, PAGE_ROWS + row, payload)

    # --- pages ---------------------------------------------------------------------------------------

    def _page_of(self, moment: OpenMoment) -> int:
        """Number of the page that a moment falls on; the one after the last is with the person."""
        pages, newest = self._books.pages, self._books.open
        if not pages or (newest and moment >= newest[0].moment):
            return len(pages)
        return max(0, bisect_right(pages, moment, key=_first) - 1)

    def _items(self, number: int) -> list[Open]:
        pages = self._books.pages
        if number >= len(pages):
            return self._books.open
        row = pages[number].row
        items = self._read.get(row)
        if items is None:
            content = self._rows.get(self._key, PAGE_ROWS + row)
            if content is None:
                raise ValueError(f"people state of a person lacks page {row}")
            items = self._read[row] = _decode(content)
            self._bytes[row] = content
        return items

    def _changed(self, number: int, items: list[Open]) -> None:
        """Keeps pages from growing, and drops empty ones."""
        books = self._books
        half = items[:OPEN_A_ROW] if len(items) > 2 * OPEN_A_ROW else []
        if half:
            del items[:OPEN_A_ROW]
            row = books.new_row()
            self._read[row] = half
            page = OpenPage(half[0].moment, half[0].settles, row, len(half))
            books.pages = [*books.pages[:number], page, *books.pages[number:]]
            number += 1
        if number < len(books.pages):
            if items:
                page = books.pages[number]
                page.first, page.settles, page.count = items[0].moment, items[0].settles, len(items)
            else:
                books.pages = [page for other, page in enumerate(books.pages) if other != number]


def _moment(item: Open) -> OpenMoment:
    return item.moment


def _first(page: OpenPage) -> OpenMoment:
    return page.first


def oldest(books: Books) -> int:
    """The time of the oldest open entry. 0: there is none."""
    if books.pages:
        return books.pages[0].first[0]
    return books.open[0].moment[0] if books.open else 0


def next_settling(books: Books) -> int:
    """When the oldest open entry can change no more; entries are booked in order. 0: there is none."""
    if books.pages:
        return books.pages[0].settles
    return books.open[0].settles if books.open else 0
