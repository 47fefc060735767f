"""The command line: every help answers, and what goes wrong is said in one line with what to do."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli.main import cli


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


def test_help_is_quick_and_brings_no_torch() -> None:
    code = "import sys, bot.cli.main; sys.exit('torch' in sys.modules or 'fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["serve", "work", "solve . --issue -"])
def test_a_setting_that_can_not_be_used_is_one_line(command: str) -> None:
    done = CliRunner(env={"TROOP_PORT": "eighty"}).invoke(cli, command.split(), input="title")
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.output.splitlines()[-1].startswith("troop: TROOP_PORT: ")
