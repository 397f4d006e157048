"""What the commands share: options that stand before or after the command's name, settings, logs, exits."""

from __future__ import annotations

import gzip
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar, cast

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from stream_app.settings import Settings

FAILED = 1
WRONG_USE = 2

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "stream_app."


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    key = _KEY + str(param.name)
    from_environment = ctx.get_parameter_source(str(param.name)) is ParameterSource.ENVIRONMENT
    # The variable was seen before the command's name already; it must not undo an option given there.
    if value is not None and not (from_environment and key in ctx.meta):
        ctx.meta[key] = value
    return value


def common_options(function: F) -> F:
    """Adds --config, --log-format and --log-level; what stands after the command's name wins."""
    for option in (
        click.option(
            "--log-level",
            type=click.Choice(("debug", "info", "warning", "error")),
            envvar="STREAM_APP_LOG_LEVEL",
            expose_value=False,
            callback=_remember,
            help="Least level that is logged (info).",
        ),
        click.option(
            "--log-format",
            type=click.Choice(("console", "json")),
            envvar="STREAM_APP_LOG_FORMAT",
            expose_value=False,
            callback=_remember,
            help="Logs for people or for machines (console).",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="STREAM_APP_CONFIG",
            expose_value=False,
            callback=_remember,
            metavar="FILE",
            help="Settings file (TOML). Variables STREAM_APP_SECTION__KEY win over it.",
        ),
    ):
        function = option(function)
    return function


def remembered(name: str) -> Any:
    """The value of a common option, or None."""
    return click.get_current_context().meta.get(_KEY + name)


def settings(path: Path | None = None, **overrides: object) -> Settings:
    """The settings of this call, `section__key` overrides on top; those that are None say nothing.

    Raises `SettingsError`, which ends the command with status 2.
    """
    from stream_app.settings import load

    given = {f"STREAM_APP_{name}".upper(): str(value) for name, value in overrides.items() if value is not None}
    return load(path or remembered("config"), {**os.environ, **given})


def open_lines(file: Path | None) -> BinaryIO:
    """FILE, compressed or not, or standard input for none and `-`."""
    if file is None or str(file) == "-":
        return sys.stdin.buffer
    if file.name.endswith(".gz"):
        return cast("BinaryIO", gzip.open(file, "rb"))
    return file.open("rb")


def line_writer(source: BinaryIO) -> Callable[[bytes], object]:
    """Writes to standard output; at once where somebody feeds lines to standard input and waits for answers."""
    buffer = sys.stdout.buffer
    if source is not sys.stdin.buffer or not (sys.stdin.isatty() or sys.stdout.isatty()):
        return buffer.write

    def write(data: bytes) -> None:
        buffer.write(data)
        buffer.flush()

    return write


def unmarked(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without the mark of UTF-8 that Windows puts before the first one."""
    rest = iter(lines)
    for first in rest:
        yield first.removeprefix(BOM_UTF8)
        break
    yield from rest


def start_logging() -> None:
    """Sends logs to standard error as asked for."""
    from stream_app.logs import set_up

    set_up(remembered("log_format") or "console", remembered("log_level") or "info")


def say(text: str) -> None:
    """Something for people: to standard error."""
    click.echo(text, err=True)


def fail(message: str, status: int = FAILED) -> NoReturn:
    """Ends the command."""
    say(f"stream-app: {message}")
    sys.exit(status)


def parse_moment(text: str) -> int:
    """Epoch ms of an RFC 3339 time, of epoch milliseconds, or of so long ago (`90m`, `2h`, `3d`)."""
    import time
    from datetime import UTC, datetime

    from stream_app.domain.times import to_ms

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text and text[-1] in units and text[:-1].isdigit():
        return int(time.time() * 1000) - int(text[:-1]) * units[text[-1]] * 1000
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; allowed: RFC 3339 as 2026-01-31T12:00:00Z, epoch milliseconds, or 90m, 2h, 3d ago"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return to_ms(moment)


class Moment(click.ParamType):
    """A point in time on the command line, as epoch ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Epoch ms."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(str(value))
        except click.BadParameter as exc:
            self.fail(exc.message, param, ctx)
