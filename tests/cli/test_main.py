"""The command as a whole: help, exits, options before and after a command's name."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.cli.main import COMMANDS, main
from tests.cli.helpers import run


def test_help_lists_every_command() -> None:
    """With a line for each."""
    result = run("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in result.stdout
        assert text.split()[0] in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """Each module imports, and tells what its command does."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert len(result.stdout) > 200


@pytest.mark.parametrize("name", ["topics", "dlq", "state", "config", "programs", "reference"])
def test_the_commands_of_a_group_are_told_whole(name: str) -> None:
    """No sentence is cut off."""
    assert "..." not in run(name, "--help").stdout.partition("Commands:")[2]


def test_help_imports_nothing_heavy() -> None:
    """`--help` must be quick: no Kafka client, no web server, no store."""
    code = (
        "import sys; from stream_app.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'aiokafka', 'faust', 'aiohttp', 'rocksdict', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_a_misspelt_command_is_wrong_use() -> None:
    """Status 2, and what may have been meant."""
    result = run("topcs")
    assert result.exit_code == 2
    assert "Did you mean topics?" in result.stderr


def test_settings_that_cannot_be_used_are_wrong_use(tmp_path: Path) -> None:
    """Status 2 with all problems on standard error, before anything is done."""
    path = tmp_path / "app.toml"
    path.write_text("[kafka]\npartitions = 0\nboostrap = 'x'\n")
    for arguments in (["--config", str(path), "topics", "check"], ["topics", "check", "--config", str(path)]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "kafka.partitions" in result.stderr
        assert "did you mean bootstrap?" in result.stderr
        assert not result.stdout


def test_the_option_wins_over_the_variable(tmp_path: Path) -> None:
    """--config before the command's name is not undone by STREAM_APP_CONFIG."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[kafka]\napp_id = 'good'\n")
    bad.write_text("[kafka]\napp_id = 'bad'\n")
    assert "'good'" in run("--config", str(good), "config", "show", STREAM_APP_CONFIG=str(bad)).stdout.replace('"', "'")
    assert "'bad'" in run("config", "show", STREAM_APP_CONFIG=str(bad)).stdout.replace('"', "'")


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "not compressed"])
@pytest.mark.parametrize("command", [("classify",), ("credit",), ("replay", "--clicks")], ids=lambda c: c[0])
def test_a_damaged_file_is_a_failure_in_words(command: tuple[str, ...], damage: str, tmp_path: Path) -> None:
    """Status 1, whatever is wrong with it."""
    whole = gzip.compress(b'{"referrer": "https://ok.ru/"}\n' * 9)
    broken = {"cut off": whole[:-12], "overwritten": whole[:10] + b"\xff" * 30, "not compressed": b"{}\n"}
    file = tmp_path / "lines.jsonl.gz"
    file.write_bytes(broken[damage])
    more = ("--out", str(tmp_path / "out")) if command[0] == "replay" else ()
    result = run(*command, str(file), *more)
    assert result.exit_code == 1
    assert "file is damaged" in result.stderr


def test_no_broker_is_a_failure_in_words() -> None:
    """Status 1, the address, no traceback."""
    result = run("topics", "check", STREAM_APP_KAFKA__BOOTSTRAP="127.0.0.1:1")
    assert result.exit_code == 1
    assert "no broker answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_without_a_broker_says_so(tmp_path: Path) -> None:
    """The address and the setting, no traceback; with the status of a worker that cannot go on."""
    environ = {**os.environ, "STREAM_APP_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    command = [sys.executable, "-m", "stream_app.cli.main", "worker", "--port", "0", "--state-directory", str(tmp_path)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 70
    assert "cannot go on: no broker answers at 127.0.0.1:1 (kafka.bootstrap)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    """The second worker on a machine, most often: what is taken, and how to have another, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {**os.environ, "STREAM_APP_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
        command = [sys.executable, "-m", "stream_app.cli.main", "worker", "--port", port]
        command += ["--state-directory", str(tmp_path)]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 70
    assert f"cannot go on: cannot listen on 127.0.0.1:{port} (web.host, web.port)" in ended.stderr
    assert "--port 0 takes any free port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_version() -> None:
    """The release is told."""
    assert run("--version").stdout.startswith("stream-app, version")


def test_the_group_is_what_the_package_starts() -> None:
    """The entry point in pyproject is stream_app.cli.main:main."""
    assert main.name == "main"
