"""The marketer's page shows what its commands say."""

from __future__ import annotations

import pytest

from stream_app.devtools import walkthrough


@pytest.mark.slow
def test_the_screens_are_real() -> None:
    """Two months of a shop replayed, every command run again."""
    page = walkthrough.PAGE.read_text(encoding="utf-8")
    assert walkthrough.render(page) == page


def test_the_golden_table_is_on_it() -> None:
    """Domain rules, section 5: cost, leads, CPL and CR of the three campaigns."""
    page = walkthrough.PAGE.read_text(encoding="utf-8")
    for campaign, figures in {
        "Sunglasses": ("15,000.00", "1,666.67", "9.0 %"),
        "Lenses": ("13,500.00", "843.75", "5.3 %"),
        "Diamonds": ("30,000.00", "2,727.27", "22.0 %"),
    }.items():
        lines = [line for line in page.splitlines() if f" {campaign} " in line]
        assert any(all(figure in line for figure in figures) for line in lines), campaign


def test_wrong_use() -> None:
    """Status 2."""
    assert walkthrough.main([]) == 2
