"""docs/referrals.md: every command of the guide runs as written, and says what the text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_of_the_guide_run_as_written(tmp_path: Path) -> None:
    """In one shell, one after the other."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "referrals.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in (
        "friends (customers): good",
        "referrer at level 3: 20.00 EUR (percent, 2%)",
        "20.00 EUR (percent, 10%), 10.00 after the refund",
        "nobody is paid: goal 'newsletter' does not qualify",
        '"referred": 90, "elsewhere": 410',
        '"mix": [{"source": "Referral Programme", "clients": 2,',
        '"program":"friends"',
        ",-40.00,EUR,approved,",
        ",100.00,EUR,paid,",
        "own_code",
        '"reasons":["erased"]',
    ):
        assert line in done.stdout, f"{line}\n---\n{done.stdout}"
    assert done.stdout.count('"path":"Referral Programme"') == 2  # by link and by code
    assert "Statement for misha" in (tmp_path / "misha.html").read_text()
