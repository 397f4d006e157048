"""Why a record cannot be used."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "bad_json", "bad_field", "missing_field", "too_large", "too_late", "clock_skew", "key_mismatch", "bad_money"
]


class Refused(Exception):
    """A record that the rules of the contract do not admit.

    `reason` comes from the contract's closed set, `detail` begins with the path of the field. It is read by people
    and never quotes a value: values may be personal data.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail
