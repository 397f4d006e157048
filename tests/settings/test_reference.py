"""The page about the configuration is what the types say."""

from __future__ import annotations

import msgspec
import pytest

from stream_app.settings import Settings, reference
from stream_app.settings.describe import plain, struct_item, text


def test_the_page_is_not_out_of_date(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/configuration.md equals what is made from the types."""
    assert reference.main(["check"]) == 0, capsys.readouterr().err


def test_every_key_is_explained() -> None:
    """No key without a meaning, and each stands in the page."""
    page = reference.render()
    pending: list[type[msgspec.Struct]] = [Settings]
    while pending:
        for info in msgspec.structs.fields(pending.pop()):
            inner, _ = plain(info.type)
            _, item = struct_item(inner)
            if item is not None:
                pending.append(item)
            elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                pending.append(inner)
            else:
                assert text(info.type), info.name
                assert f"| `{info.encode_name}` |" in page


def test_wrong_use_is_told() -> None:
    """Status 2."""
    assert reference.main([]) == 2
