"""A process of ours that does not outlive us: a worker or a simulator beside the demo or the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stream_app.devtools import guard


class ChildFailed(Exception):
    """A process could not be started, or has ended when it should run. Says what its log says last."""


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu_s: float
    """User and system time of all its threads."""
    rss_bytes: int
    peak_rss_bytes: int


def module(name: str, *arguments: str) -> list[str]:
    """The command line of `python -m NAME ARGUMENTS…` with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def stream_app(*arguments: str) -> list[str]:
    """The command line of `stream-app ARGUMENTS…` with this interpreter."""
    return module("stream_app.cli.main", *arguments)


class Child:
    """One process. It writes to a log file, gets no signal of the terminal, and ends when this process is gone."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] = {}) -> None:
        """Starts it; `environment` comes on top of ours. Raises ChildFailed."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(log), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as output:
            line = output.readline()
        if not line.strip().isdigit():
            raise ChildFailed(f"{name} could not be started; see {log}")
        self.pid = int(line)

    @property
    def alive(self) -> bool:
        return self._guard.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status, as a shell gives it; None while it runs."""
        return self._guard.poll()

    def check(self) -> None:
        """Raises ChildFailed if it has ended."""
        if not self.alive:
            raise ChildFailed(f"{self.name} ended with status {self.status}:\n{self.log_tail()}")

    def signal(self, number: int) -> None:
        """Sends a signal; nothing happens if it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # ended a moment ago; its guard is about to

    def wait(self, seconds: float) -> int:
        """Its exit status. Raises TimeoutError when it still runs."""
        try:
            return self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {seconds:g} s") from None

    def stop(self, patience_s: float = 35.0) -> int:
        """SIGTERM, and SIGKILL when that takes too long. Gives the exit status; may be called again."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(patience_s)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a crash."""
        self.signal(signal.SIGKILL)
        return self.wait(30)

    def usage(self) -> Usage:
        """Processor time and memory. Raises ChildFailed when it has ended."""
        try:
            return usage(self.pid)
        except OSError:
            self.check()
            raise ChildFailed(f"{self.name}: no /proc/{self.pid}") from None

    def log_tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def usage(pid: int) -> Usage:
    """Processor time and memory of any process, from /proc (Linux). Raises OSError."""
    proc = Path(f"/proc/{pid}")
    # After the command's closing bracket: state is the third field of all, user and system time the 14th and 15th.
    fields = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text(encoding="utf-8").splitlines())

    def kilobytes(key: str) -> int:
        return int(status.get(key, "0 kB").split()[0]) * 1024

    return Usage((int(fields[11]) + int(fields[12])) / ticks, kilobytes("VmRSS"), kilobytes("VmHWM"))


def stop_all(children: Sequence[Child], patience_s: float = 35.0) -> None:
    """Ends them one after the other, in the order given, whatever goes wrong with one of them."""
    deadline = time.monotonic() + patience_s
    for child in children:
        try:
            child.stop(max(1.0, deadline - time.monotonic()))
        except TimeoutError:
            continue  # not even SIGKILL: the kernel holds it, and its guard waits
