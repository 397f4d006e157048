"""Pages of ids: entries that wait for a time, by day, and those that were approved."""

from __future__ import annotations

from typing import Any

import msgspec

from stream_app.domain.times import DAY_MS
from stream_app.engine.processor import Rows
from stream_app.processors.people.state import IDS_A_ROW, PAGE_ROWS, Books, DuePage

_encode = msgspec.msgpack.Encoder().encode
_decode_due = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class Pages:
    """A person's pages, read and written at once."""

    def __init__(self, books: Books, key: bytes, rows: Rows) -> None:
        self._books = books
        self._key = key
        self._rows = rows

    # --- waiting -------------------------------------------------------------------------------------

    def wait(self, due: int, entry_id: str) -> None:
        """An entry waits for a time."""
        day = due // DAY_MS
        books = self._books
        page = next((page for page in reversed(books.due) if page.day == day and page.count < IDS_A_ROW), None)
        if page is None:
            page = DuePage(day, due, books.new_row(), 0)
            books.due = [*books.due, page]
        waiting = self._read(page.row, _decode_due) if page.count else []
        self._put(page.row, [*waiting, (due, entry_id)])
        page.first, page.count = min(page.first, due), page.count + 1

    def ready(self, now: int) -> list[DuePage]:
        """Pages on which somebody's time has come."""
        return [page for page in self._books.due if page.first <= now]

    def take(self, page: DuePage, now: int) -> list[tuple[int, str]]:
        """(time, entry) of those on a page whose time has come, in order; they wait no more."""
        waiting = self._read(page.row, _decode_due)
        later = [item for item in waiting if item[0] > now]
        if later:
            self._put(page.row, later)
            page.first, page.count = min(later)[0], len(later)
        else:
            self._put(page.row, None)
            self._books.due = [other for other in self._books.due if other is not page]
        return sorted(item for item in waiting if item[0] <= now)

    # --- approved ------------------------------------------------------------------------------------

    def approve(self, entry_id: str) -> None:
        """An entry may be paid, or clawed back."""
        books = self._books
        if not books.approved or books.approved_last >= IDS_A_ROW:
            books.approved = [*books.approved, books.new_row()]
            books.approved_last = 0
        row = books.approved[-1]
        ids = self._read(row, _decode_ids) if books.approved_last else []
        if entry_id not in ids:
            self._put(row, [*ids, entry_id])
            books.approved_last += 1

    def approved(self) -> list[str]:
        """Entries that may be paid, or clawed back, each once."""
        rows = self._books.approved
        return list(dict.fromkeys(entry_id for row in rows for entry_id in self._read(row, _decode_ids)))

    def leave(self, ids: list[str]) -> None:
        """These alone are approved from here on."""
        books = self._books
        for row in books.approved:
            self._put(row, None)
        books.approved = []
        books.approved_last = 0
        for start in range(0, len(ids), IDS_A_ROW):
            some = ids[start : start + IDS_A_ROW]
            row = books.new_row()
            books.approved = [*books.approved, row]
            books.approved_last = len(some)
            self._put(row, some)

    # --- rows ----------------------------------------------------------------------------------------

    def _read(self, row: int, decode: Any) -> Any:
        content = self._rows.get(self._key, PAGE_ROWS + row)
        if content is None:
            raise ValueError(f"people state of a person lacks page {row}")
        return decode(content)

    def _put(self, row: int, items: list[Any] | None) -> None:
        self._rows.put(self._key, PAGE_ROWS + row, _encode(items) if items is not None else None)
