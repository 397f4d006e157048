"""How many rows of a file of another project pass, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping


class Score:
    """Counts rows by name. Those that do not pass must be listed beforehand, each with its reason; a listed one that
    passes is a mistake in the list."""

    def __init__(self, file: str, accepted: Mapping[str, str] | None = None) -> None:
        self.file = file
        self.accepted = dict(accepted or {})
        self.passed = 0
        self.failed: dict[str, str] = {}

    def row(self, name: str, got: object, expected: object) -> None:
        """One row's outcome."""
        if got == expected:
            self.passed += 1
        else:
            self.failed[name] = f"got {got!r}, expected {expected!r}"

    def settle(self, least: float = 0.98) -> None:
        """Prints the pass rate and the rows that do not pass; fails on one that is not listed."""
        rows = self.passed + len(self.failed)
        rate = self.passed / rows
        print(f"\n{self.file}: {self.passed} of {rows} rows pass ({rate:.2%})")
        for name, what in self.failed.items():
            print(f"  {name}: {what}; accepted because: {self.accepted.get(name, 'NOT ACCEPTED')}")
        unlisted = {name: what for name, what in self.failed.items() if name not in self.accepted}
        assert not unlisted, unlisted
        assert set(self.accepted) == set(self.failed), "rows listed as failing that pass or are not there"
        assert rate >= least
