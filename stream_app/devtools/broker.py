"""A Kafka broker for whoever needs one: `make run`, the tests, a developer.

    with Broker.start() as broker:
        connect(broker.bootstrap)

Where it comes from, in this order: the address in KAFKA_BOOTSTRAP; Docker Compose, where an engine answers; Apache
Kafka from Maven on a local Java 17+. Where none can be had, NoBroker says what is missing and how to get it.

As a command: `python -m stream_app.devtools.broker run|start|stop|status [--nodes N] [--dir DIR] [--set NAME=VALUE]`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from stream_app.devtools import compose, java, probe
from stream_app.devtools.node import BrokerError, NoBroker, Node

__all__ = ["Broker", "BrokerError", "NoBroker", "Node"]

Origin = Literal["given", "compose", "java"]
Say = Callable[[str], None]

_ENVIRONMENT: Final = "KAFKA_BOOTSTRAP"
_HOW_TO: Final = (
    "Any one of these helps:\n"
    f"  - name a broker that runs: export {_ENVIRONMENT}=host:9092\n"
    "  - start Docker (with Compose)\n"
    "  - install Java 17+ and Maven: apt-get install openjdk-17-jre-headless maven"
)


class Broker:
    """A running cluster, and the end of it. `nodes` is empty when it is somebody else's (KAFKA_BOOTSTRAP)."""

    def __init__(self, bootstrap: str, origin: Origin, nodes: Sequence[Node], close: Callable[[], None]) -> None:
        self.bootstrap = bootstrap
        self.origin: Origin = origin
        self.nodes = tuple(nodes)
        self._close: Callable[[], None] | None = close

    @classmethod
    def start(
        cls,
        nodes: int = 1,
        directory: Path | None = None,
        properties: Mapping[str, str] | None = None,
        *,
        own: bool | None = None,
        say: Say | None = None,
    ) -> Self:
        """A broker that answers, with internal topics in place.

        `directory` keeps its data for the next start with the same directory (Java; containers start empty);
        without one a temporary directory is used and removed at the end. `properties` overrides broker settings.
        `own` asks for a cluster that nobody else uses and whose nodes can be stopped, whatever KAFKA_BOOTSTRAP says;
        so it is by default with several nodes or properties of one's own. `say` gets progress, one line a call.

        Raises NoBroker, BrokerError.
        """
        if nodes not in (1, 3):
            raise ValueError(f"nodes: 1 or 3, not {nodes}")
        tell = say or logging.getLogger(__name__).info
        wants_own = bool(properties) or nodes > 1 if own is None else own
        given = os.environ.get(_ENVIRONMENT)
        if given and not wants_own:
            return cls._given(given, tell)
        home = directory or Path(tempfile.mkdtemp(prefix="stream-app-broker-"))
        home.mkdir(parents=True, exist_ok=True)
        try:
            broker = cls._started(nodes, home.resolve(), properties or {}, tell)
        except BaseException:
            if directory is None:
                shutil.rmtree(home, ignore_errors=True)
            raise
        if directory is None:
            broker._at_end(lambda: shutil.rmtree(home, ignore_errors=True))  # noqa: SLF001  # one of ours
        return broker

    @classmethod
    def _given(cls, bootstrap: str, say: Say) -> Self:
        addresses = [address.strip() for address in bootstrap.split(",") if address.strip()]
        if not any(probe.answers(address) for address in addresses):
            raise NoBroker(
                f"{_ENVIRONMENT} is {bootstrap!r}, but nothing answers there. Unset it, or start that broker."
            )
        say(f"using the broker at {bootstrap} ({_ENVIRONMENT})")
        return cls(bootstrap, "given", (), lambda: None)

    @classmethod
    def _started(cls, nodes: int, home: Path, properties: Mapping[str, str], say: Say) -> Self:
        obstacles = []
        try:
            containers, command = compose.start_cluster(nodes, home, properties, say)
            return cls(_bootstrap(containers), "compose", containers, lambda: compose.stop_cluster(command))
        except NoBroker as error:
            obstacles.append(f"Docker Compose: {error}")
        except BrokerError as error:  # an engine that cannot fetch the image, say
            obstacles.append(f"Docker Compose: {error}")
            say(f"Docker Compose did not work, trying Java: {error}")
        try:
            processes = java.start_cluster(nodes, home, properties, say)
            return cls(_bootstrap(processes), "java", processes, lambda: java.stop_cluster(processes))
        except NoBroker as error:
            obstacles.append(f"Java: {error}")
        raise NoBroker("\n".join(["No Kafka broker can be had here.", *obstacles, _HOW_TO]))

    def stop(self) -> None:
        """Ends what was started; a broker of somebody else's is left alone. May be called again."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def _at_end(self, also: Callable[[], None]) -> None:
        close = self._close
        assert close is not None

        def both() -> None:
            try:
                close()
            finally:
                also()

        self._close = both

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _bootstrap(nodes: Sequence[Node]) -> str:
    return ",".join(node.address for node in nodes)


# --- the command -------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """0 good (for `status`: it answers), 1 not."""
    options = _parser().parse_args(arguments)
    try:
        match options.action:
            case "run":
                return _run(options.nodes, options.dir, dict(options.set))
            case "start":
                return _start(options.nodes, options.dir.resolve(), dict(options.set))
            case "stop":
                return _stop(options.dir.resolve())
            case _:
                return _status(options.dir.resolve())
    except BrokerError as error:
        _say(str(error))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stream_app.devtools.broker", description="A Kafka broker at hand.")
    parser.add_argument("action", choices=["run", "start", "stop", "status"])
    parser.add_argument("--nodes", type=int, choices=[1, 3], default=1)
    parser.add_argument(
        "--dir", type=Path, default=Path(".run/broker"), help="data, configuration, logs (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", type=_setting, default=[], metavar="NAME=VALUE", help="a broker setting"
    )
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _run(nodes: int, directory: Path, properties: Mapping[str, str]) -> int:
    """In the foreground until SIGINT or SIGTERM."""
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with Broker.start(nodes, directory, properties, say=_say) as broker:
        print(broker.bootstrap, flush=True)
        _say("running; Ctrl-C ends it")
        done.wait()
        _say("stopping")
    return 0


def _start(nodes: int, directory: Path, properties: Mapping[str, str]) -> int:
    """In the background, on Java: it runs until `stop`."""
    known = _Remembered.read(directory)
    if known is not None and known.running():
        print(known.bootstrap)
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    cluster = java.start_cluster(nodes, directory, properties, _say, detached=True)
    _Remembered(_bootstrap(cluster), [(node.pid, _born(node.pid)) for node in cluster if node.pid]).write(directory)
    print(_bootstrap(cluster))
    return 0


def _stop(directory: Path) -> int:
    known = _Remembered.read(directory)
    if known is None:
        _say(f"nothing was started in {directory}")
        return 0
    known.end()
    (directory / _Remembered.FILE).unlink()
    return 0


def _status(directory: Path) -> int:
    known = _Remembered.read(directory)
    address = known.bootstrap if known else os.environ.get(_ENVIRONMENT, "")
    up = bool(address) and all(probe.answers(one) for one in address.split(","))
    print(f"{address or 'none'} {'answers' if up else 'does not answer'}")
    return 0 if up else 1


class _Remembered:
    """What `start` leaves for `stop`: process ids, each with its birth, for ids are used again."""

    FILE: Final = "running.json"

    def __init__(self, bootstrap: str, processes: Sequence[tuple[int, str]]) -> None:
        self.bootstrap = bootstrap
        self.processes = processes

    @classmethod
    def read(cls, directory: Path) -> _Remembered | None:
        try:
            data = json.loads((directory / cls.FILE).read_text())
        except FileNotFoundError:
            return None
        return cls(data["bootstrap"], [(pid, born) for pid, born in data["processes"]])

    def write(self, directory: Path) -> None:
        (directory / self.FILE).write_text(json.dumps({"bootstrap": self.bootstrap, "processes": self.processes}))

    def running(self) -> bool:
        return all(_born(pid) == born for pid, born in self.processes)

    def end(self, timeout_s: float = 30.0) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while any(_born(pid) == born for pid, born in self.processes):
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
                return
            time.sleep(0.1)

    def _signal(self, number: int) -> None:
        for pid, born in self.processes:
            if _born(pid) == born:
                os.kill(pid, number)


def _born(pid: int) -> str:
    """When the process with this id started, in the system's own terms; empty when there is none (or a zombie)."""
    try:
        # After the command's closing bracket: state is the third field of all, start time the 22nd.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _born_by_ps(pid)
    return "" if fields[0] == "Z" else fields[19]


def _born_by_ps(pid: int) -> str:
    """For systems without /proc."""
    ps = shutil.which("ps")
    if ps is None or Path("/proc/self/stat").exists():
        return ""
    import subprocess

    return subprocess.run(
        [ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
