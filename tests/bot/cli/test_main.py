"""The command line: every help answers, and what goes wrong is said in one line with what to do."""

import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli.main import cli
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("command", ["", "solve", "serve", "work", "demo", "doctor", "models"])
def test_help(command: str) -> None:
    done = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_version_is_the_installed_distribution_s() -> None:
    done = CliRunner().invoke(cli, ["--version"], prog_name="troop")
    assert done.output == f"troop, version {metadata.version('troop-bot')}\n"


def test_the_issue_file_must_be_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["solve", str(tmp_path), "--issue", str(tmp_path / "nothing.md")])
    assert done.exit_code == 2
    assert "nothing.md" in done.output


def test_serve_without_a_secret_says_what_to_set() -> None:
    done = CliRunner(env={"TROOP_WEBHOOK_SECRET": ""}).invoke(cli, ["serve"])
    assert done.exit_code == 1
    assert "TROOP_WEBHOOK_SECRET" in done.output


def test_a_worker_that_waits_for_setup_ends_in_order_at_sigterm(tmp_path: Path) -> None:
    """A container's first process has no default for the signal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TROOP_")}
    environment |= {"TROOP_PUBLIC_URL": "https://troop.example", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", "from bot.cli.start import main; main()", "work"]
    with subprocess.Popen(argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "waiting for /setup" not in said and (line := process.stderr.readline()):
            said += line
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 143, said
    assert "Traceback" not in said


def test_help_is_quick_and_brings_no_torch() -> None:
    code = "import sys, bot.cli.main; sys.exit('torch' in sys.modules or 'fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["serve", "work", "solve . --issue -"])
def test_a_setting_that_can_not_be_used_is_one_line(command: str) -> None:
    done = CliRunner(env={"TROOP_PORT": "eighty"}).invoke(cli, command.split(), input="title")
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.output.splitlines()[-1].startswith("troop: TROOP_PORT: ")


def interrupted(code: str) -> subprocess.CompletedProcess[str]:
    """`troop models` whose work is this code."""
    patched = "from bot.llm import fetch; import asyncio, click; from bot.cli.main import main\n"
    patched += f"def broken(*_):\n    {code}\nfetch.fetch_all = broken\nmain()"
    return subprocess.run([sys.executable, "-c", patched, "models"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "raise click.Abort"])
def test_ctrl_c_is_said_once(code: str) -> None:
    done = interrupted(code)
    assert (done.returncode, done.stderr.count("interrupted")) == (130, 1)
    assert "Traceback" not in done.stderr


def test_config_prints_what_is_read_and_where_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROOP_SOLVER_EXAMINE")  # which all tests set
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("TROOP_PORT=81\nTROOP_TOKEN=a-secret-of-somebody\n")
    done = CliRunner().invoke(cli, ["config"])
    assert (done.exit_code, done.output) == (0, "TROOP_TOKEN=(set)  [.env]\nTROOP_PORT=81  [.env]\n")
    done = CliRunner(env={"TROOP_POTR": "1"}).invoke(cli, ["config", "--all"])
    assert done.exit_code == 1
    assert "did you mean TROOP_PORT?" in done.output
    assert "TROOP_SANDBOX_IMAGE=python:3.11-slim  [default]" in done.output
    (tmp_path / ".env").write_text("TROOP_PORT=eighty\n")
    assert "TROOP_PORT" in CliRunner().invoke(cli, ["config"]).output
