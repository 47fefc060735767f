"""From its first moment the command ends in order, and owes one object with `--json`."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bot.cli import one_object
from bot.cli.demo import run_demo
from bot.cli.main import cli, main
from bot.errors import CheckoutError
from bot.git.command import git
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
LOADING = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "bot.cli.main":
            signal.raise_signal(signal.{0})
sys.meta_path.insert(0, Finder())
"""
PARSING = "import bot.cli.main\nbot.cli.main.cli.main = lambda **options: signal.raise_signal(signal.{0})\n"
SOLVE = ("solve", ".", "--issue", "-", "--json")


def started(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    defaults = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    defaults += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    argv = [sys.executable, "-c", f"{defaults}{code}\nfrom bot.cli.start import main\nmain()", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("when", [LOADING, PARSING], ids=["loading", "parsing"])
def test_a_signal_before_the_command_has_begun(when: str, name: str, code: int) -> None:
    done = started(when.format(name), *SOLVE)
    assert done.returncode == code
    found = json.loads(done.stdout)
    assert (found["outcome"], found["winner"], found["error"]) == ("failed", None, "interrupted")
    assert done.stderr.startswith("troop: interrupted")
    assert "Traceback" not in done.stderr


def test_a_server_ends_by_the_signals_own_effect() -> None:
    done = started(PARSING.format("SIGTERM"), "serve", "--json")
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + LOADING.format("SIGHUP")
    assert started(ignored, "--version").stdout.startswith("troop, version")


def failed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit code and stdout."""
    monkeypatch.setattr(sys, "argv", ["troop", *arguments])
    monkeypatch.setattr(one_object, "_printed", False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["solve", "nowhere", "--issue", "x.md"], "'nowhere' does not exist"),
        (["solve", "."], "Missing option '--issue'"),
        (["solve", ".", "--issue", "nothing.md"], "nothing.md: No such file"),
        (["solve", ".", "--issue", "x.md", "-n", "0"], "0 is not in the range"),
        (["solve", ".", "--nope"], "No such option '--nope'"),
        (["verify", "b", "--repo", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_a_wrong_command_line_is_one_object_too(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = failed([*arguments, "--json"], monkeypatch, capsys)
    found = json.loads(output)
    assert code == 2
    assert said in found["error"]
    assert found.get("outcome", "failed") == "failed"
    assert failed(arguments, monkeypatch, capsys) == (2, "")


def test_what_nobody_foresaw_is_one_object_and_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**options: Any) -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(ZeroDivisionError):
        failed([*SOLVE], monkeypatch, capsys)
    assert json.loads(capsys.readouterr().out)["error"] == "ZeroDivisionError: by 0"


def test_an_object_is_printed_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(one_object, "_printed", False)
    assert one_object.owed_by([*SOLVE]) == "solve"
    assert one_object.owed_by(["-v", "verify", "b", "--json"]) == "verify"
    assert one_object.owed_by(["solve", ".", "--", "--json"]) == one_object.owed_by(["doctor", "--json"]) == ""
    one_object.print_object({"outcome": "solved"})
    assert json.loads(capsys.readouterr().out) == {"outcome": "solved"}
    assert one_object.owed_by([*SOLVE]) == ""


async def test_where_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckoutError, match="git is not there: install it"):
        await git("--version", cwd=tmp_path)
    with pytest.raises(CheckoutError, match="git is not there: install it"):
        await run_demo(issue=1, seed=1, trajectories=None, keep=False)
