"""Apache Kafka on a local Java, from jars that Maven fetches once.

Every node is controller and broker in one JVM (KRaft). Data, configuration and log of node n lie in DIR/node-n.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from stream_app.devtools import guard, kafka_properties, probe
from stream_app.devtools.kafka_release import CACHE, POM, kafka_version
from stream_app.devtools.node import BrokerError, NoBroker, Node
from stream_app.devtools.ports import free_ports, is_free

_OLDEST_JAVA: Final = 17
_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 30.0
_PAUSE_TIMEOUT_S: Final = 10.0
_TRIES: Final = 3


def find_java() -> str:
    """The java command of a runtime that is new enough. Raises NoBroker."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home, "bin", "java"))] if home else []
    candidates.append("java")
    found = []
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        version = _java_version(path)
        if version >= _OLDEST_JAVA:
            return path
        found.append(f"{path} is version {version}")
    raise NoBroker(f"Java {_OLDEST_JAVA} or newer is needed ({'; '.join(found) or 'no java on PATH'})")


def kafka_libs(say: Callable[[str], None]) -> Path:
    """The directory with Kafka's jars; fetched by Maven when it is not there yet. Raises NoBroker."""
    version = kafka_version()
    target = CACHE / f"kafka-libs-{version}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "kafka-libs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may come here together
        if not target.is_dir():
            _fetch(target, version, say)
    return target


class JavaNode(Node):
    """One JVM. Its guard ends it when this process is gone; a detached one runs on."""

    def __init__(self, number: int, address: str, directory: Path, command: list[str], *, detached: bool) -> None:
        self.id = number
        self.address = address
        self.pid: int | None = None
        self._directory = directory
        self._command = command
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self._directory / "broker.log"

    def launch(self) -> None:
        """Starts the process and doesn't wait until it answers."""
        if self.alive:
            raise BrokerError(f"node {self.id} runs already")
        if self._detached:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            self.pid = self._process.pid
            return
        self._process = subprocess.Popen(
            # Isolated and without site: it needs nothing but the standard library, and starts in 20 ms.
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(self.log), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end the broker last
        )
        assert self._process.stdout is not None
        with self._process.stdout as output:
            line = output.readline()
        if not line.strip().isdigit():
            raise BrokerError(f"node {self.id} could not be started; see {self.log}")
        self.pid = int(line)

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def wait_ready(self, nodes: int = 1) -> None:
        """Raises BrokerError when it ends instead."""
        try:
            probe.wait_ready([self.address], _START_TIMEOUT_S, check_alive=self.check_alive, nodes=nodes)
        except TimeoutError as error:
            raise BrokerError(f"node {self.id}: {error}\n{self.log_tail()}") from error

    def check_alive(self) -> None:
        if not self.alive:
            raise BrokerError(f"Kafka node {self.id} ended while starting:\n{self.log_tail()}")

    def stop(self) -> None:
        self.ask_to_stop()
        self.wait_ended()

    def ask_to_stop(self) -> None:
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # in case it is paused

    def wait_ended(self) -> None:
        """Waits for an end that was asked for, and forces it when it takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Returns when none of its threads runs any more: the signal alone leaves some of them time for an answer."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _PAUSE_TIMEOUT_S
        while self.alive and self.pid is not None and not _stands_still(self.pid):
            if time.monotonic() > deadline:
                raise BrokerError(f"node {self.id} still runs {_PAUSE_TIMEOUT_S:.0f} s after SIGSTOP")
            time.sleep(0.001)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def log_tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def _signal(self, number: int) -> None:
        if self.alive and self.pid is not None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # ended a moment ago; its guard is about to


def _stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped or gone; where there is no /proc, nobody can tell, and it counts."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return True
    for thread in threads:
        try:
            state = (thread / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            continue  # a thread that has just ended
        if state not in "TtXZ":
            return False
    return True


def start_cluster(
    nodes: int,
    directory: Path,
    properties: Mapping[str, str],
    say: Callable[[str], None],
    *,
    detached: bool = False,
) -> list[JavaNode]:
    """Running, ready nodes. Data that lies in `directory` from an earlier run is used again.

    Raises NoBroker where Java or Maven is missing, BrokerError when Kafka doesn't start.
    """
    java = find_java()
    libs = kafka_libs(say)
    say(f"starting Apache Kafka ({nodes} node{'s' if nodes > 1 else ''}) in {directory}")
    ports: list[int] = []
    for attempt in range(1, _TRIES + 1):
        ports = _ports(directory, 2 * nodes, fresh=attempt > 1)
        cluster = [
            _prepare(number, nodes, ports, directory, properties, java, libs, detached=detached)
            for number in range(1, nodes + 1)
        ]
        try:
            _format(cluster, directory, java, libs)
            _start_all(cluster)
        except BrokerError as error:
            stop_cluster(cluster)
            # Somebody may have taken a port between our look and Kafka's bind.
            if "already in use" in str(error).lower() and attempt < _TRIES:
                continue
            raise
        except BaseException:
            stop_cluster(cluster)
            raise
        return cluster
    raise AssertionError("unreachable")


def stop_cluster(cluster: list[JavaNode]) -> None:
    """Ends all nodes at once. A node alone cannot hand over its leadership, and doesn't have to."""
    for node in cluster:
        node.ask_to_stop()
    for node in cluster:
        node.wait_ended()


def _java_version(java: str) -> int:
    """Major version; 0 when the command doesn't work."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', shown)
    return int(match[1]) if match else 0


def _fetch(target: Path, version: str, say: Callable[[str], None]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoBroker("Maven is needed once to fetch Kafka's jars (no mvn on PATH)")
    say(f"fetching Apache Kafka {version} with Maven (43 MB, once)")
    # Into a directory beside, then renamed: an interrupted download leaves nothing half done.
    partial = Path(tempfile.mkdtemp(prefix="kafka-libs-", dir=CACHE))
    try:
        result = subprocess.run(
            [
                *(maven, "-B", "-q", "-C", "-f", str(POM), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={partial}"),
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if result.returncode != 0 or not any(partial.glob("kafka_*.jar")):
            lines = (result.stdout + result.stderr).strip().splitlines()
            raise NoBroker("Maven could not fetch Kafka's jars:\n" + "\n".join(lines[:8]))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _ports(directory: Path, count: int, *, fresh: bool) -> list[int]:
    """The ports of the last run where they are free, so that addresses given to others stay true."""
    memory = directory / "ports"
    if memory.exists() and not fresh:
        ports = [int(line) for line in memory.read_text().split()]
        if len(ports) == count and all(is_free(port) for port in ports):
            return ports
    ports = free_ports(count)
    memory.write_text("\n".join(map(str, ports)))
    return ports


def _prepare(
    number: int,
    nodes: int,
    ports: list[int],
    directory: Path,
    properties: Mapping[str, str],
    java: str,
    libs: Path,
    *,
    detached: bool,
) -> JavaNode:
    """Writes one node's configuration."""
    home = directory / f"node-{number}"
    home.mkdir(parents=True, exist_ok=True)
    clients, controllers = ports[:nodes], ports[nodes:]
    settings = {
        **kafka_properties.cluster_properties(nodes),
        **kafka_properties.node_properties(number, clients, controllers, str(home / "data")),
        **properties,
    }
    configuration = home / "server.properties"
    configuration.write_text(kafka_properties.render(settings))
    command = [
        java,
        *(("-Xms256m", "-Xmx1g") if nodes == 1 else ("-Xms128m", "-Xmx512m")),
        "-XX:+UseSerialGC",  # one or two cores are all there is, and they are for the tests
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        *_logging("info" if os.environ.get("STREAM_APP_BROKER_LOG") == "info" else "warn"),
        *("-cp", f"{libs}/*", "kafka.Kafka", str(configuration)),
    ]
    return JavaNode(number, f"127.0.0.1:{clients[number - 1]}", home, command, detached=detached)


def _format(cluster: list[JavaNode], directory: Path, java: str, libs: Path) -> None:
    """Makes KRaft storage where there is none."""
    cluster_id = directory / "cluster-id"
    if not cluster_id.exists():
        cluster_id.write_text(_new_cluster_id())

    def format_one(node: JavaNode) -> None:
        home = directory / f"node-{node.id}"
        if (home / "data" / "meta.properties").exists():
            return
        result = subprocess.run(
            [
                *(java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *_logging("error")),
                *("-cp", f"{libs}/*", "kafka.tools.StorageTool", "format"),
                *("--cluster-id", cluster_id.read_text(), "--config", str(home / "server.properties")),
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if result.returncode != 0:
            raise BrokerError(f"Kafka's storage could not be formatted:\n{(result.stdout + result.stderr)[-2000:]}")

    with ThreadPoolExecutor(len(cluster)) as pool:
        list(pool.map(format_one, cluster))


def _new_cluster_id() -> str:
    """Sixteen random bytes as Kafka writes them; never with a dash in front, which its tools take for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _start_all(cluster: list[JavaNode]) -> None:
    for node in cluster:
        node.launch()

    def check_alive() -> None:
        for node in cluster:
            node.check_alive()

    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        probe.wait_ready([node.address for node in cluster], deadline - time.monotonic(), check_alive=check_alive)
    except TimeoutError as error:
        raise BrokerError(f"Kafka: {error}\n{cluster[0].log_tail()}") from error


def _logging(level: str) -> tuple[str, ...]:
    return (
        f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    )
