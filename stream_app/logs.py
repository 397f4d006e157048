"""Logs for people (console) and for machines (JSON Lines), always on standard error.

Nothing personal is ever logged: no client ids, no addresses, no record values. Libraries' loggers (Faust, mode,
aiokafka, aiohttp) go through the same formatter; their chatter starts at warnings.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import time
import warnings
from typing import IO, Any, ClassVar, Literal

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]

FORMATS: tuple[Format, ...] = ("console", "json")
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "data", "color_message"}
_CHATTY = ("aiokafka", "faust", "mode", "aiohttp.access", "kafka", "asyncio", "rocksdict")


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD and not key.startswith("_")}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then whatever `extra` gave, then the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """`12:00:00.000 info  engine.task  message key=value`, coloured on a terminal."""

    _COLOURS: ClassVar = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, and the exception below it."""
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        name = record.name.removeprefix("stream_app.")
        text = f"{_time(record)[11:23]} {record.levelname.lower():<7} {name}  {record.getMessage()}{extras}"
        if self._colour and (start := self._COLOURS.get(record.levelname)):
            text = f"{start}{text}\x1b[0m"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        return text


def set_up(form: Format = "console", level: Level = "info", stream: IO[str] | None = None) -> None:
    """Sends all logging to standard error in one format. May be called again."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter(colour=out.isatty()))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("stream_app").setLevel(level.upper())
    for name in _CHATTY:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)
    if level != "debug":
        # Deprecations inside libraries are for their developers, not for operators.
        warnings.simplefilter("ignore", DeprecationWarning)


__all__ = ["FORMATS", "LEVELS", "ConsoleFormatter", "Format", "JsonFormatter", "Level", "set_up"]
