"""Where the time goes: py-spy looks at a worker from outside."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

_SECONDS = 12
_RATE = 200


async def top(pid: int, seconds: int = _SECONDS, count: int = 25) -> dict[str, Any]:
    """Shares of samples by function: on top of the stack (`self`), and anywhere in it (`total`).

    Without py-spy (a development dependency), or where it may not look, an explanation under `error`.
    """
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        return {"error": "py-spy is not installed"}
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw"
        process = await asyncio.create_subprocess_exec(
            *(spy, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(_RATE)),
            *("--format", "raw", "--nonblocking", "--output", str(raw)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if not raw.exists():
            return {"error": errors.decode(errors="replace").strip().splitlines()[-1:]}
        return summary(raw.read_text(encoding="utf-8"), count)


def summary(raw: str, count: int = 25) -> dict[str, Any]:
    """Of py-spy's raw format: a stack a line, frames separated by `;`, the number of samples at the end."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in raw.splitlines():
        stack, _, n = line.rpartition(" ")
        frames = [_name(frame) for frame in stack.split(";")]
        if not n.isdigit() or not frames:
            continue
        samples += int(n)
        own[frames[-1]] += int(n)
        for frame in set(frames):
            total[frame] += int(n)
    # What nearly every stack begins with says nothing.
    inner = [(name, n) for name, n in total.most_common() if n < 0.95 * samples]
    return {
        "samples": samples,
        "self": {name: round(n / samples, 4) for name, n in own.most_common(count)},
        "total": {name: round(n / samples, 4) for name, n in inner[:count]},
    }


def _name(frame: str) -> str:
    """Without the line number, and with the last two parts of the path: `fold (processors/journeys.py)`."""
    function, _, place = frame.partition(" (")
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    return f"{function} ({'/'.join(path.split('/')[-2:])})" if path else function
