"""Tracking numbers and addresses: which advertisement a call or letter answers."""

from __future__ import annotations

from collections.abc import Mapping

from stream_app.domain.sources.rules import OfflineSource

_SHORTEST_LOCAL_NUMBER = 7


class OfflineSources:
    """Finds what a called number or address stands for.

    Numbers compare by their digits, whatever the spelling: `00` for `+`, spaces, brackets. A number without its country
    code matches by its end, if that names one entry only.
    """

    def __init__(self, entries: Mapping[str, OfflineSource]) -> None:
        self._addresses = {_address(key): entry for key, entry in entries.items() if "@" in key}
        self._numbers = {_digits(key): entry for key, entry in entries.items() if "@" not in key}

    def find(self, called_number: str = "", called_email: str = "") -> OfflineSource | None:
        """The entry for a number or else an address; None if there is none."""
        if called_number:
            entry = self._find_number(_digits(called_number))
            if entry is not None:
                return entry
        return self._addresses.get(_address(called_email)) if called_email else None

    def _find_number(self, digits: str) -> OfflineSource | None:
        entry = self._numbers.get(digits)
        if entry is not None or len(digits) < _SHORTEST_LOCAL_NUMBER:
            return entry
        local = digits.lstrip("0")
        found = [entry for number, entry in self._numbers.items() if len(local) >= 7 and number.endswith(local)]
        return found[0] if len(found) == 1 else None


def _digits(number: str) -> str:
    text = number.strip()
    digits = "".join(char for char in text if char.isascii() and char.isdigit())
    return digits.removeprefix("00")


def _address(address: str) -> str:
    return address.strip().lower().removeprefix("mailto:")
