"""`stream-app credit`: which touchpoints conversions owe themselves to, by every model, one conversion a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from stream_app.cli.common import FAILED, common_options, line_writer, open_lines, say, settings, unmarked

if TYPE_CHECKING:
    from stream_app.settings import Settings


class Wrong(msgspec.Struct):
    """A line that cannot be credited; it stands where the answer would."""

    error: str
    detail: str
    line: int


@click.command(short_help="Credit of conversions by every model, one a line.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True), required=False)
@click.option(
    "--transform",
    type=click.Choice(("none", "exposure", "unique", "first")),
    help="Path transform; wins over attribution.path_transform.",
)
@click.option(
    "--count-direct/--no-count-direct", default=None, help="Direct beside others; wins over attribution.count_direct."
)
@click.option(
    "--lookback-days",
    type=click.IntRange(1, 400),
    help="Touchpoints up to this age count; wins over attribution.lookback_days.",
)
@common_options
def credit(file: Path | None, transform: str | None, count_direct: bool | None, lookback_days: int | None) -> None:
    """Credits conversions by the rules of the settings, as the worker does.

    Reads FILE or standard input, JSON Lines {touchpoints: [{channel, occurred_at, source?, medium?, campaign?}],
    occurred_at, value?, currency?, goal?} (.gz too), and writes one line {credits, path, days_to_convert,
    assisting_channels, source_determined} for each as it comes; `credits` holds a list of {source, medium, campaign,
    channel, credit, value} for every model. A touchpoint without a channel gets that of its source, medium and
    campaign. Touchpoints may come in any order. A line that cannot be read becomes {error, detail, line}, and the
    status is 1 at the end.
    """
    given = settings(
        attribution__path_transform=transform,
        attribution__count_direct=None if count_direct is None else str(count_direct).lower(),
        attribution__lookback_days=lookback_days,
    )
    with open_lines(file) as lines:
        wrong = _run(given, lines)
    if wrong:
        say(f"stream-app: {wrong} line{'' if wrong == 1 else 's'} could not be credited")
        sys.exit(FAILED)


def _run(given: Settings, lines: BinaryIO) -> int:
    from stream_app.app.crediting import Crediting
    from stream_app.domain.errors import Refused

    answer = Crediting(given).answer
    write = line_writer(lines)
    wrong = 0
    for number, line in enumerate(unmarked(lines), 1):
        try:
            out = answer(line)
        except Refused as refused:
            if not line.strip():
                continue
            out = msgspec.json.encode(Wrong(refused.reason, refused.detail, number))
            wrong += 1
        write(out + b"\n")
    sys.stdout.flush()
    return wrong
