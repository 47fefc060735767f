"""`troop solve` from the command line's options to the branch: a real checkout, git, sandbox and HTTP endpoint."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import venv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli.issue_text import read_issue
from bot.cli.main import cli
from bot.cli.report_object import as_object
from bot.cli.solve import SolveOptions, settings_of, solve_locally
from bot.errors import CheckoutError, EndpointError, ModelMissing, TroopError
from bot.records import Outcome
from bot.scratch import ScratchFolder
from bot.settings import ModelSettings, SandboxSettings
from tests.bot.sample import report
from tests.lean_python import lean_path
from tests.patience import PATIENCE, until
from tests.scripted import Mode, Script, rules
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint

__all__ = ["lean_path"]

ROOT = Path(__file__).parents[3]
ISSUE = "# add is wrong\n\n`add(1, 2)` gives -1, expected 3.\n"
MOD = "def add(a, b):\n    return a - b\n"
TEST = '<test path="t.py">\nfrom mod import add\nassert add(1, 2) == 3{}\n</test>'
EDIT = '<edit path="mod.py">\n<<<<<<< SEARCH\n    return a - b\n=======\n    return {}\n>>>>>>> REPLACE\n</edit>'
GOOD: Script = rules(
    [
        ("relevance/", "<relevant>\nAdds.\n</relevant>"),
        ("/0/test/", [TEST.format(""), "<approve/>"]),
        ("/test/", [TEST.format(", 'sum'"), "<approve/>"]),
        ("/edit/", [EDIT.format("a + b"), "<done/>"]),
    ]
)


def git(folder: Path, *arguments: str, stdin: str = "") -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, input=stdin, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "mod.py").write_text(MOD)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "init")
    return folder


def options(checkout: Path, endpoint: ScriptedEndpoint, **more: Any) -> SolveOptions:
    values: dict[str, Any] = {"trajectories": 2, "sandbox": "process", "as_json": True, "profile": "full"}
    values |= {"issue_text": ISSUE}
    return SolveOptions(path=checkout, base_url=endpoint.base_url, **(values | more))


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Stdout, which holds the one object and nothing else."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


async def test_solved(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "note.txt").write_text("mine\n")
    before = git(checkout, "status", "--porcelain", "--branch")
    with scripted_endpoint(GOOD) as endpoint:
        assert await solve_locally(options(checkout, endpoint)) == "solved"
    found = printed(capsys)
    assert {"outcome", "winner", "candidates", "tests", "matrix", "usage"} <= set(found)
    assert {"patch", "votes", "own_votes", "cluster", "size"} <= set(found["candidates"][0])
    assert {"script", "fails_on_base"} <= set(found["tests"][0])
    assert {"calls", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds"} <= set(found["usage"])
    assert (found["outcome"], found["winner"], found["matrix"]) == ("solved", 0, [[True, True]])
    assert found["candidates"][0]["votes"] == 2
    assert git(checkout, "status", "--porcelain", "--branch") == before
    git(checkout, "apply", "--check", "-", stdin=found["candidates"][0]["patch"])
    branch = found["branch"]
    assert git(checkout, "show", f"{branch}:mod.py") == MOD.replace("-", "+").strip()
    assert git(checkout, "diff", "--name-only", f"{branch}^", branch) == "mod.py"
    assert list((checkout.parent / "state" / "troop").iterdir()) == []  # a finished run leaves no journal


async def test_a_utf_16_file_is_one_on_the_branch_too(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\ufefffunction Greet {\r\n    'Holá'\r\n}\r\n"
    (checkout / "greet.ps1").write_bytes(text.encode("utf-16-le"))
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "in Windows' encoding")
    script = "text = open('greet.ps1', encoding='utf-16').read()\nprint(text)\nassert 'Hola →' in text\n"
    edit = EDIT.replace("mod.py", "greet.ps1").replace("return a - b", "'Holá'").replace("return {}", "'Hola →'")
    replies = [("/test/", [f'<test path="t.py">\n{script}</test>', "<approve/>"]), ("/edit/", [edit, "<done/>"])]
    with scripted_endpoint(rules([("relevance/", "<relevant>\nGreets.\n</relevant>"), *replies])) as endpoint:
        assert await solve_locally(options(checkout, endpoint, issue_text="# Greet is misspelt\n\nHolá\n")) == "solved"
        shown = endpoint.requests[-1]["messages"][1]["content"]
    assert "<file path=\"greet.ps1\">\nfunction Greet {\n    'Holá'\n}\n</file>" in shown
    branch = printed(capsys)["branch"]
    changed = text.replace("Holá", "Hola →").encode("utf-16-le")
    (checkout / "greet.ps1").write_bytes(changed)
    assert git(checkout, "hash-object", "greet.ps1") == git(checkout, "rev-parse", f"{branch}:greet.ps1")
    assert git(checkout, "diff", "--name-only", f"{branch}^", branch) == "greet.ps1"


async def test_a_run_is_written_as_one_page(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = checkout.parent / "run.html"
    with scripted_endpoint(GOOD) as endpoint:
        assert await solve_locally(options(checkout, endpoint, page=page)) == "solved"
        text = page.read_text()
        assert "Trajectory 2</summary>" in text
        assert "return a + b" in text
        assert "&lt;approve/&gt;" in text
        assert "<script" not in text
        assert (
            await solve_locally(options(checkout, endpoint, page=checkout.parent / "absent" / "run.html")) == "solved"
        )
    assert "can't be written (No such file or directory)" in capsys.readouterr().err


async def test_the_checkouts_own_venv_runs_the_tests(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv.create(checkout / ".venv", with_pip=False, symlinks=True)
    (packages,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    (packages / "needed.py").write_text("")
    (checkout / ".gitignore").write_text(".venv/\n")
    test = TEST.format("").replace("assert", "import needed\nassert", 1)
    script = rules([("/test/", [test, "<approve/>"]), ("/edit/", [EDIT.format("a + b"), "<done/>"])])
    with scripted_endpoint(script) as endpoint:
        assert await solve_locally(options(checkout, endpoint, trajectories=1)) == "solved"
    assert printed(capsys)["matrix"] == [[True]]


async def test_the_bound_of_the_command_line_comes_before_the_configs(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "[test]\ncommand = \"python3 -c 'import time; time.sleep(60)'\"\ntimeout = 300\n"
    (checkout / ".troop.toml").write_text(config)
    with scripted_endpoint(GOOD) as endpoint:
        assert await solve_locally(options(checkout, endpoint, own_tests_timeout=0.5)) == "solved"
    found = printed(capsys)["own_tests"]
    assert (found["compared"], found["why_not"]) == (False, "unnamed failures")
    assert "did not end within" in found["detail"]


async def test_the_rule_of_the_command_line_comes_before_the_configs(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".troop.toml").write_text("[run]\ntrajectories = 'auto'\nstop = 'short-m'\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "config")
    with scripted_endpoint(GOOD) as endpoint:
        assert await solve_locally(options(checkout, endpoint, trajectories=6, stop="first-finish")) == "solved"
    stopped = printed(capsys)["stopped"]
    assert (stopped["rule"], stopped["attempts"], stopped["of"]) == ("first-finish", 4, 6)


@pytest.mark.parametrize("where", ["no repository", "a folder of one"])
async def test_where_no_branch_can_be_written_none_is_named(
    checkout: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    folder = checkout.parent / "plain" if where == "no repository" else checkout / "sub"
    folder.mkdir()
    (folder / "mod.py").write_text(MOD)
    with scripted_endpoint(GOOD) as endpoint:
        assert await solve_locally(options(folder, endpoint)) == "solved"
    captured = capsys.readouterr()
    assert json.loads(captured.out)["branch"] == ""
    assert "holds it" not in captured.err
    assert git(checkout, "branch", "--list", "troop/*") == ""


async def test_files_that_git_ignores_but_a_build_wrote_are_there_for_tests(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".gitignore").write_text("_version.py\n.env\n")
    (checkout / "_version.py").write_text("version = '1'\n")
    (checkout / ".env").write_text("")
    test = TEST.format("").replace("assert", "import os, _version\nassert not os.path.exists('.env')\nassert", 1)
    script = rules([("/test/", [test, "<approve/>"]), *[("/edit/", [EDIT.format("a + b"), "<done/>"])]])
    with scripted_endpoint(script) as endpoint:
        assert await solve_locally(options(checkout, endpoint, trajectories=1)) == "solved"
        assert not any("version = '1'" in str(request) for request in endpoint.requests)
    captured = capsys.readouterr()
    assert "a build wrote: _version.py" in captured.err
    assert "_version" not in git(checkout, "ls-tree", "-r", json.loads(captured.out)["branch"])


async def test_abstained(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = rules([("/test/", ['<test path="t.py">\nprint(1)\n</test>', "<approve/>"]), ("/edit/", "<done/>")])
    with scripted_endpoint(script) as endpoint:
        assert await solve_locally(options(checkout, endpoint)) == "abstained"
    found = printed(capsys)
    assert (found["outcome"], found["winner"], found["branch"], found["candidates"]) == ("abstained", None, "", [])
    assert git(checkout, "branch", "--list", "troop/*") == ""


async def test_failed_prints_one_object_too(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROOP_MAIN_RETRIES", "0")
    with scripted_endpoint(GOOD, mode=Mode.ERROR) as endpoint:
        assert await solve_locally(options(checkout, endpoint)) == "failed"
        found = printed(capsys)
        assert (found["outcome"], found["winner"], found["matrix"]) == ("failed", None, [])
        assert "answered none of 1 calls" in found["error"]
        with pytest.raises(EndpointError, match="answered none"):  # for people the command prints it
            await solve_locally(options(checkout, endpoint, as_json=False))
    assert await solve_locally(options(checkout / "nowhere", endpoint)) == "failed"
    assert "is not a folder" in printed(capsys)["error"]


async def test_the_result_is_told_before_copies_are_removed(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, go, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    class Slow(ScratchFolder):
        def close(self) -> None:
            loop.call_soon_threadsafe(removing.set)
            go.wait(60)
            super().close()

    monkeypatch.setattr("bot.cli.solve.ScratchFolder", Slow)
    monkeypatch.setattr("bot.cli.solve._QUIET", 0.0)
    with scripted_endpoint(GOOD) as endpoint:
        solving = asyncio.ensure_future(solve_locally(options(checkout, endpoint)))
        await removing.wait()
        await asyncio.sleep(0.01)
        told = capsys.readouterr()
        go.set()
        assert await solving == "solved"
    assert json.loads(told.out)["outcome"] == "solved"
    assert "removing the copies of the repository" in told.err
    assert capsys.readouterr().out == ""


async def test_interrupted_while_copies_are_removed_nothing_is_printed_twice(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(ScratchFolder):
        def close(self) -> None:
            super().close()
            raise asyncio.CancelledError

    monkeypatch.setattr("bot.cli.solve.ScratchFolder", Interrupted)
    with scripted_endpoint(GOOD) as endpoint, pytest.raises(asyncio.CancelledError):
        await solve_locally(options(checkout, endpoint))
    told = capsys.readouterr()
    assert json.loads(told.out)["outcome"] == "solved"
    assert "run the same command again" not in told.err


async def test_an_external_patch_takes_part(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff = checkout.parent / "fix.diff"
    diff.write_text(
        "--- a/mod.py\n+++ b/mod.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return b + a\n"
    )
    script = rules([("/test/", [TEST.format(""), "<approve/>"]), ("/edit/", "I can't.")])
    with scripted_endpoint(script) as endpoint:
        assert await solve_locally(options(checkout, endpoint, patches=(diff,), branch=False)) == "solved"
    found = printed(capsys)
    assert found["candidates"][0]["trajectories"] == []
    assert f"It comes from {diff}." in found["reason"]
    assert found["branch"] == ""


async def test_another_tools_branch_takes_part_and_its_agreement_counts(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(checkout, "switch", "-q", "-c", "other/fix")
    (checkout / "mod.py").write_text("def add(a, b):\n    return a + b\n")
    git(checkout, "commit", "-qam", "Fix it")
    git(checkout, "switch", "-q", "-")
    script = rules([("/test/", [TEST.format(""), "<approve/>"]), ("/edit/", [EDIT.format("a + b"), "<done/>"])])
    with scripted_endpoint(script) as endpoint:
        chosen = options(checkout, endpoint, trajectories=1, branches=("other/fix",), branch=False)
        assert await solve_locally(chosen) == "solved"
    found = printed(capsys)
    (candidate,) = found["candidates"]
    assert candidate["trajectories"] == [0]
    assert candidate["cluster"] == 2, "the tool and the attempt are two that agree"
    assert "It comes also from branch other/fix." in found["reason"]


async def test_a_branch_that_is_not_there_is_named(checkout: Path) -> None:
    with scripted_endpoint(GOOD) as endpoint:
        for name in ("nowhere", "--output=x"):
            with pytest.raises(CheckoutError, match="is no branch"):
                await solve_locally(options(checkout, endpoint, branches=(name,), as_json=False))


async def test_an_empty_issue_is_refused(checkout: Path) -> None:
    with pytest.raises(TroopError, match="the issue is empty"):
        await solve_locally(SolveOptions(path=checkout, issue_text=" \n"))


def test_the_issue_is_cleaned_and_its_first_line_the_title() -> None:
    issue = read_issue("\n## A title \n\nText <!-- hidden --> and \u200bmore\n")
    assert issue.title == "A title"
    assert "hidden" not in issue.body
    assert issue.flags


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TROOP_RELEVANCE_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("TROOP_MAIN_NAME", "other")
    monkeypatch.setenv("TROOP_SOLVER_SEED", "7")
    settings = settings_of(SolveOptions(path=tmp_path, issue_text="", trajectories=3, image="x:1"))
    assert (settings.main.name, settings.solver.seed, settings.solver.trajectories) == ("other", 7, 3)
    assert settings.sandbox == SandboxSettings(image="x:1")
    assert settings.relevance.base_url
    settings = settings_of(SolveOptions(path=tmp_path, issue_text="", base_url="http://127.0.0.1:2/v1", api_key="k"))
    assert settings.relevance.base_url == ""  # one endpoint for both roles
    assert settings.main.api_key.get_secret_value() == "k"
    monkeypatch.setenv("TROOP_MAIN_BASE_URL", "http://127.0.0.1:3/v1")
    monkeypatch.setenv("TROOP_MAIN_CONTEXT_WINDOW", "1000")
    settings = settings_of(SolveOptions(path=tmp_path, issue_text="", engine_model="smollm2-135m"))
    assert settings.engine_model == "smollm2-135m"
    assert settings.main == settings.relevance == ModelSettings()  # what is set is another model's


def test_one_model_is_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "issue.md").write_text("title")
    twice = ["--base-url", "http://127.0.0.1:1/v1", "--engine-model", "smollm2-135m"]
    refused = CliRunner().invoke(cli, ["solve", str(tmp_path), "--issue", str(tmp_path / "issue.md"), *twice])
    assert refused.exit_code == 2
    assert "name two different models" in refused.output


async def test_a_model_that_has_not_been_fetched_is_one_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TROOP_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(ModelMissing, match="`make models` or `troop models smollm2-135m` fetches it"):
        await solve_locally(SolveOptions(path=checkout, issue_text="title", engine_model="smollm2-135m"))


def test_rows_and_winner_are_in_the_ballots_order() -> None:
    found = as_object(report())
    assert found["winner"] == 0
    assert [c["votes"] for c in found["candidates"]] == [2, 1, 1]  # type: ignore[attr-defined]
    assert found["matrix"] == [[True, True, True, None], [True, True, False, True], [True, False, False, None]]
    assert found["outcome"] == Outcome.SOLVED.value


def start(checkout: Path, endpoint: ScriptedEndpoint, *more: str) -> "subprocess.Popen[str]":
    """`troop solve` as a process of its own, whose temporary files are in `tmp` beside the checkout."""
    temporary = checkout.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    (checkout.parent / "issue.md").write_text(ISSUE)
    # As in a terminal: whoever started these tests in the background may have left signals ignored.
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, "
        "signal.SIG_DFL); from bot.cli.start import main; main()"
    )
    argv = ["-c", command, "solve", str(checkout), "--issue", "issue.md"]
    argv += ["--base-url", endpoint.base_url, "--sandbox", "process", "--profile", "full", "-n", "2", *more]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *argv], cwd=checkout.parent, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143), ((signal.SIGHUP,), 129)]
)
def test_interrupted_it_says_how_to_go_on_and_leaves_nothing(
    checkout: Path, numbers: tuple[int, ...], code: int
) -> None:
    with scripted_endpoint(GOOD, mode=Mode.HANG) as endpoint:
        process = start(checkout, endpoint, "--json")
        until(lambda: endpoint.requests or process.poll() is not None)
        for number in numbers:
            process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, errors
    found = json.loads(output)
    assert (found["outcome"], found["error"], found["candidates"]) == ("failed", "interrupted", [])
    assert "run the same command again to continue" in errors
    assert errors.count("troop: interrupted") == 1
    assert "Traceback" not in errors
    assert list((checkout.parent / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_second_one_for_the_same_question_is_told_of_the_first(checkout: Path) -> None:
    with scripted_endpoint(GOOD, mode=Mode.HANG) as endpoint:
        first = start(checkout, endpoint)
        until(lambda: endpoint.requests or first.poll() is not None)
        second = start(checkout, endpoint)
        errors = second.communicate(timeout=PATIENCE)[1]
        assert second.returncode == 1
        assert "another `troop solve` works on this very question" in errors
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(checkout.parent / "another"))
            other = start(checkout, endpoint)
            assert "very question, with another state folder" in other.communicate(timeout=PATIENCE)[1]
        assert (checkout / ".git" / "troop-runs").exists()
        first.kill()
        first.communicate(timeout=PATIENCE)
        left = list((checkout.parent / "tmp").iterdir())
        assert left, "SIGKILL leaves its folders ..."
        seen = len(endpoint.requests)
        third = start(checkout, endpoint)
        until(lambda: len(endpoint.requests) > seen or third.poll() is not None)
        assert not any(folder.exists() for folder in left), "... which the next one sweeps"
        third.send_signal(signal.SIGINT)
        assert "continuing an interrupted attempt" in third.communicate(timeout=PATIENCE)[1]
        assert not (checkout / ".git" / "troop-runs").exists()
    assert list((checkout.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only"])
async def test_a_state_folder_that_can_not_be_written_is_said(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = checkout.parent / "file"
    file.touch()
    place = {"file": file, "below a file": file / "x", "read-only": Path("/proc/x")}[kind]
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    with scripted_endpoint(GOOD) as endpoint, pytest.raises(TroopError, match=r"XDG_STATE_HOME=.* can't be written"):
        await solve_locally(options(checkout, endpoint, as_json=False))


@pytest.mark.parametrize(
    ("base_url", "api_key", "sent"),
    [
        (None, None, "sk-configured"),
        ("https://llm.example/other", None, "sk-configured"),
        ("https://elsewhere.example/v1", None, "none"),
        ("https://llm.example:8443/v1", None, "none"),
        ("https://elsewhere.example/v1", "sk-given", "sk-given"),
    ],
)
def test_the_configured_key_goes_to_the_configured_host_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str | None, api_key: str | None, sent: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TROOP_MAIN_BASE_URL", "https://llm.example/v1")
    monkeypatch.setenv("TROOP_MAIN_API_KEY", "sk-configured")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-other-programs")
    made = settings_of(SolveOptions(path=tmp_path, issue_text="", base_url=base_url, api_key=api_key))
    assert made.main.api_key.get_secret_value() == sent
