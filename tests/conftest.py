"""What every test may ask for: a real broker, a seed, the conformance data."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from stream_app.devtools.broker import Broker, NoBroker
from tests.lanes import CHAOS, lane_of, lanes

ROOT = Path(__file__).resolve().parents[1]
_BROKER_FIXTURES = {"broker", "own_broker", "cluster", "eager_broker"}

# No deadline: two cores are shared with brokers and workers. Failures print how to repeat them.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class StartBroker(Protocol):
    """Starts a broker that ends with the test. Each call makes another one."""

    def __call__(self, properties: Mapping[str, str] | None = None) -> Broker: ...


def pytest_configure(config: pytest.Config) -> None:
    wanted = os.environ.get("SEED") or "1"
    config.stash[_SEED] = random.SystemRandom().randrange(1 << 32) if wanted == "random" else int(wanted)
    os.environ["SEED"] = str(config.stash[_SEED])  # the same one in all processes that run tests
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what it runs in the background; and so it would stay for all that tests start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.stash[_SEED]} (SEED={config.stash[_SEED]} repeats this run, SEED=random makes another)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what needs a broker and what is not traced; leaves out the soak tests unless they are asked for by `-m`."""
    soak_wanted = "soak" in (config.option.markexpr or "")
    kept, left_out = [], []
    for item in items:
        if _BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.no_cover)  # to trace lines makes long work three to seven times as long
        (left_out if item.get_closest_marker("soak") and not soak_wanted else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):  # one of two processes
        kept.sort(key=lambda item: lane_of(item.nodeid) != CHAOS)
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    return lanes(config, log)


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The one source of randomness: printed at the start, the same in every run unless SEED=… says otherwise."""
    return pytestconfig.stash[_SEED]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole run (KAFKA_BOOTSTRAP, Docker Compose or Java). Use topics of your own on it."""
    with _start_or_say_why(lambda: Broker.start(directory=tmp_path_factory.mktemp("broker"), say=_print)) as started:
        yield started


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """Starts a single broker for this test alone, to be stopped, killed and started again by the test."""
    yield from _factory(1, tmp_path_factory)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """Starts three brokers for this test alone; internal topics have three copies, two of them in sync."""
    yield from _factory(3, tmp_path_factory)


@pytest.fixture
def topic_prefix() -> str:
    """Keeps the topics, groups and transactional ids of one test apart from those of all others."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Conformance data of other projects, in ../shared/conformance beside the source tree (or SHARED_DIR)."""
    path = Path(os.environ.get("SHARED_DIR") or ROOT.parent / "shared") / "conformance"
    if path.is_dir():
        return path
    reason = f"no conformance data at {path}; SHARED_DIR names the directory that holds conformance/"
    if os.environ.get("REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _factory(nodes: int, directories: pytest.TempPathFactory) -> Iterator[StartBroker]:
    with ExitStack() as running:

        def start(properties: Mapping[str, str] | None = None) -> Broker:
            return running.enter_context(
                _start_or_say_why(
                    lambda: Broker.start(nodes, directories.mktemp("broker"), properties, own=True, say=_print)
                )
            )

        yield start


def _start_or_say_why(start: Callable[[], Broker]) -> Broker:
    """Without a broker the guarantees are not tested, so that is a failure, unless one says that one knows."""
    try:
        return start()
    except NoBroker as error:
        if os.environ.get("ALLOW_NO_BROKER") == "1":
            pytest.skip(str(error))
        pytest.fail(f"{error}\n(ALLOW_NO_BROKER=1 skips the tests that need one.)", pytrace=False)


def _print(text: str) -> None:
    print(text)


_SEED = pytest.StashKey[int]()
