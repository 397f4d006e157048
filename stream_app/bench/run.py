"""Runs the parts one after the other on one broker and puts their figures into one object."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from stream_app.bench import crowd, latency, pauses, throughput
from stream_app.bench.lab import BenchFailed, Lab, Options, Say
from stream_app.devtools.broker import Broker, BrokerError
from stream_app.devtools.child import ChildFailed

Part = Literal["throughput", "latency", "memory", "recovery", "pauses"]
PARTS: tuple[Part, ...] = get_args(Part)
_DEFAULT_RATE = 20_000.0


def run(
    parts: Sequence[Part], options: Options, say: Say, directory: Path | None = None
) -> tuple[dict[str, Any], bool]:
    """(figures, whether every part could be measured). Raises NoBroker, BrokerError.

    `directory` keeps configurations and logs; without one they are removed.
    """
    with tempfile.TemporaryDirectory(prefix="stream-app-bench-") as temporary:
        home = directory or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        with Broker.start(directory=home / "broker", say=say) as broker:
            lab = Lab(broker.bootstrap, home, options, say)
            result: dict[str, Any] = {"machine": machine(), "broker": broker.origin, "settings": _settings()}
            good = asyncio.run(_all(lab, parts, result))
            return result, good


async def _all(lab: Lab, parts: Sequence[Part], result: dict[str, Any]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    good = True
    for part in (part for part in PARTS if part in parts):
        lab.say(f"{part}: begins")
        began = time.monotonic()
        try:
            result[part] = await _part(part, lab, result)
        except (BenchFailed, BrokerError, ChildFailed, TimeoutError) as error:
            result[part], good = {"error": str(error)}, False
            lab.say(f"{part}: {error}")
        except asyncio.CancelledError:
            task.uncancel()
            result[part] = {"error": "interrupted"}
            return False
        except Exception as error:  # noqa: BLE001  # the figures of the other parts have cost minutes
            traceback.print_exc()
            result[part], good = {"error": repr(error)}, False
        lab.say(f"{part}: took {time.monotonic() - began:.0f} s")
    return good


def _part(part: Part, lab: Lab, result: dict[str, Any]) -> Awaitable[dict[str, Any]]:
    rate = lab.options.rate or result.get("throughput", {}).get("events_per_second", 2 * _DEFAULT_RATE) / 2
    makers: dict[Part, Callable[[], Awaitable[dict[str, Any]]]] = {
        "throughput": lambda: throughput.measure(lab),
        "latency": lambda: latency.measure(lab, rate),
        "memory": lambda: crowd.memory(lab),
        "recovery": lambda: crowd.recovery(lab),
        "pauses": lambda: pauses.measure(lab),
    }
    return makers[part]()


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {name: metadata.version(name) for name in ("faust-streaming", "aiokafka", "rocksdict", "msgspec")}
    return {
        "cpus": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _settings() -> dict[str, Any]:
    """The engine's settings that matter; variables STREAM_APP_ENGINE__… reach the workers."""
    from stream_app.settings import parse

    engine = parse({}, os.environ).engine
    names = ("commit_interval_ms", "commit_records", "cache_entries", "block_cache_mb", "write_buffer_mb")
    return {name: getattr(engine, name) for name in names}
