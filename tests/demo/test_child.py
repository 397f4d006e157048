from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stream_app.devtools.child import Child, ChildFailed, usage


def python(script: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script)]


POLITE = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    print("ready", flush=True)
    signal.pause()
"""
DEAF = POLITE.replace("lambda *_: sys.exit(3)", "signal.SIG_IGN")


def started(script: str, log: Path) -> Child:
    """A child that has come so far as to say that it is ready."""
    child = Child("child", python(script), log)
    while "ready" not in child.log_tail():
        child.check()
        os.sched_yield()
    return child


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_child_ends_when_asked_and_tells_how(tmp_path: Path) -> None:
    child = started(POLITE, tmp_path / "log")
    assert child.alive
    assert child.usage().rss_bytes > 1 << 20
    assert child.stop() == 3
    assert not child.alive
    assert gone(child.pid)
    assert child.stop() == 3, "stopping twice does no harm"


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = started(DEAF, tmp_path / "log")
    assert child.stop(patience_s=0.2) == 128 + signal.SIGKILL
    assert gone(child.pid)


def test_the_end_of_a_child_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = Child("the part", python("import sys; sys.exit('no such topic')"), tmp_path / "log")
    child.wait(30)
    with pytest.raises(ChildFailed, match=r"(?s)the part ended with status 1.*no such topic"):
        child.check()


def test_nothing_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    """The child's output goes to a pipe that ends only when the last process that holds it has ended."""
    script = f"""
        import signal, sys
        from pathlib import Path
        from stream_app.devtools.child import Child
        child = Child("c", [sys.executable, "-c", "import signal; signal.pause()"], Path({str(tmp_path / "log")!r}))
        print(child.pid, flush=True)
        signal.pause()
    """
    parent = subprocess.Popen(python(script), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        watch = os.pidfd_open(pid)
        parent.kill()
        parent.wait()
    import select

    assert select.select([watch], [], [], 30)[0], "still there after 30 s"
    os.close(watch)


def test_usage_counts_the_time_of_all_threads() -> None:
    before = usage(os.getpid())
    total = 0
    while usage(os.getpid()).cpu_s < before.cpu_s + 0.05:
        total += sum(range(1000))
    assert usage(os.getpid()).peak_rss_bytes >= usage(os.getpid()).rss_bytes > 0
