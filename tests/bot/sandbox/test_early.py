"""Pythons before 3.8: what `early.py` proves there, and what the sandboxes make of it. It runs under any Python."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.records import Ending, FileChange, SandboxJob, Test
from bot.sandbox import inside
from bot.sandbox.outcome import Words, judge_exit, proof_of, words
from bot.sandbox.process import ProcessSandbox
from bot.sandbox.pythons import Python, find_python
from bot.sandbox.script_command import provable
from bot.settings import SandboxSettings
from tests.patience import PATIENCE

EARLY = Path(inside.__file__).with_name("early.py")
PLAIN = "import mod\nassert mod.add(1, 2) == 3\n"


def started(folder: Path, text: str, module: str) -> tuple[Ending, int | None, str]:
    """How a script ended, whose candidate changed `mod.py`, and what it printed."""
    script, changed = folder / "t.py", folder / "changed"
    script.write_text(text)
    (folder / "mod.py").write_text(module)
    changed.write_text(f"{folder / 'mod.py'}\tf\n")
    secret: Words = words()
    read, write = os.pipe()
    argv = [sys.executable, str(EARLY), str(write), str(changed), str(folder), str(script)]
    ran = subprocess.run(argv, input=secret.given.encode(), capture_output=True, pass_fds=(write,), timeout=PATIENCE)
    os.close(write)
    with os.fdopen(read) as report:
        proof = proof_of(report.read().split("\n"), secret)
    return *judge_exit(ran.returncode, proof, proves=True, began=True), (ran.stdout + ran.stderr).decode()


GOOD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("text", "module", "ending", "code"),
    [
        (PLAIN, GOOD, Ending.EXITED, 0),
        (PLAIN, "def add(a, b):\n    return a - b\n", Ending.EXITED, 1),
        (PLAIN, "import os\nos._exit(0)\n", Ending.CUT_SHORT, 0),
        (PLAIN, "import sys\nsys.exit(0)\n", Ending.CUT_SHORT, 0),
        (PLAIN, "import sys\nsys.exit()\n", Ending.CUT_SHORT, 0),
        (PLAIN, "import atexit, os\natexit.register(os._exit, 0)\nadd = min\n", Ending.EXITED, 1),
        (PLAIN, "import os\nif os.fork() == 0:\n    add = lambda a, b: 3\nelse:\n    os.wait()\n    os._exit(0)\n",
         Ending.CUT_SHORT, 0),
        ("import sys\nsys.exit(0)\n", GOOD, Ending.EXITED, 0),
        ("import sys\nsys.exit(3)\n", GOOD, Ending.EXITED, 3),
        ("import sys\nsys.exit('no')\n", GOOD, Ending.EXITED, 1),
        ("if:\n", GOOD, Ending.EXITED, 1),
        ("import unittest\nclass A(unittest.TestCase):\n    def test(self): import mod\nunittest.main()\n", GOOD,
         Ending.EXITED, 0),
    ],
)  # fmt: skip
def test_a_scripts_end_is_proved(tmp_path: Path, text: str, module: str, ending: Ending, code: int) -> None:
    found = started(tmp_path, text, module)
    assert found[:2] == (ending, code), found


def test_a_failure_looks_as_it_would_without_a_runner(tmp_path: Path) -> None:
    *_, said = started(tmp_path, PLAIN, "def add(a, b):\n    return a - b\n")
    assert "early.py" not in said
    assert said.startswith("Traceback (most recent call last):")


@pytest.mark.parametrize(
    ("command", "script", "runner"),
    [
        ("python3 t.py", "t.py", "early.py"),
        ("python3 -W error t.py", "t.py", "early.py"),
        ("python3 -m pytest -q", "", None),
        ("python3 manage.py test", "", None),
        ("node t.js", "t.js", "runner.cjs"),
    ],
)
def test_of_modules_nothing_is_proved(command: str, script: str, runner: str | None) -> None:
    found = provable(command.split(), script, early=True)
    assert (found and found.runner) == runner


async def test_the_sandbox_goes_by_its_pythons_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, path = find_python(tmp_path)
    old = Python(executable=there.executable, prefixes=there.prefixes, version=(3, 7))
    monkeypatch.setattr("bot.sandbox.process.find_python", lambda source: (old, path))
    (tmp_path / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), tmp_path)
    try:
        assert sandbox.early
        test = Test(path="t.py", text=PLAIN)
        fixed = FileChange(path="mod.py", text=GOOD)
        faked = FileChange(path="mod.py", text="import os\nos._exit(0)\n")
        found = [
            await sandbox.run(SandboxJob(changes=changes, test=test, timeout=PATIENCE))
            for changes in ((), (fixed,), (faked,))
        ]
    finally:
        await sandbox.close()
    assert [one.passed for one in found] == [False, True, False], found
    assert found[2].ending is Ending.CUT_SHORT


def test_its_syntax_is_that_of_python_3_5() -> None:
    tree = ast.parse(EARLY.read_text(), feature_version=(3, 5))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]
