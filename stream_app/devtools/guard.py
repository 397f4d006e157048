"""Runs one command and ends it when whoever asked for it is gone. Started by path, in an interpreter of its own.

    python guard.py PARENT_PID LOG COMMAND …

Prints the command's process id, appends its output to LOG, exits with its code. A broker must not outlive the test
run or the `make run` that started it, however that ended: so the parent's death is noticed by polling (a signal on
the parent's death would fire on the death of the *thread* that started us), and our own death by such a signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

_POLL_S = 0.5
_GRACE_S = 20.0


def main(arguments: list[str]) -> int:
    """The exit code of the command; negative signals as a shell would give them."""
    parent, log, command = int(arguments[0]), Path(arguments[1]), arguments[2:]
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # this process has a single thread
        )

    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    print(child.pid, flush=True)
    while os.getppid() == parent:
        try:
            code = child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        return code if code >= 0 else 128 - code
    child.terminate()
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return 1


def _die_with_parent() -> None:
    """Asks Linux for SIGKILL when the guard dies. Elsewhere there is no such thing: the polling has to do."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
