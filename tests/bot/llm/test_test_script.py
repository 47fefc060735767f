"""Test scripts: what the issue defines is added, and tests that are never called are run."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bot.llm.test_script import bound, completed, imported, needed_by, statements
from tests.bot.llm.test_grammars import HELPERS
from tests.patience import PATIENCE


def test_statements() -> None:
    assert statements(HELPERS) == [
        "def even(n):\n    k = n % 2\n    return k == 0",
        "rows = [\n    1,\n    22,\n]",
        "class Box:\n    size = 3",
        "total(filter(even, rows))",
    ]
    assert statements("nothing here\nfoo\n5\n\n") == []


QUOTED = ["from operator import add, mul", "n = 2", "d = {n: 3}", "def even(x):\n    return x % n == 0", "f(d)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from m import f\nassert f(d) == 1", "from m import f\nn = 2\nd = {n: 3}\nassert f(d) == 1"),
        (
            "import m\n\nassert m.f(even, add)",
            "import m\n" + "\n".join((QUOTED[0], QUOTED[1], QUOTED[3])) + "\n\nassert m.f(even, add)",
        ),
        ("from m import f\nd = 5\nassert f(d)", None),
        ("from m import f\nassert [d for d in f()]", None),
        ("from m import f\nassert f(lambda n: n) == len('d')", None),
        ("assert f(d", None),
        ("assert f(nothing)", None),
    ],
)
def test_what_the_issue_binds_is_added(text: str, expected: str | None) -> None:
    assert bound(text, QUOTED) == (text if expected is None else expected)
    assert bound(text, []) == text


MODULES = {"pkg.box": {"Box", "SMALL", "_MARK", "math"}, "pkg": {"Box", "Lid"}}


@pytest.mark.parametrize(
    ("text", "added"),
    [
        (
            "from pkg.box import Box\nassert Box(SMALL) == _MARK",
            ["from pkg.box import SMALL", "from pkg.box import _MARK"],
        ),
        ("import pkg\n\nassert Box() == Lid()", ["from pkg import Box", "from pkg import Lid"]),
        ("from pkg.box import Box\nassert math.isnan(Box())", ["from pkg.box import math"]),
        ("import pkg.box\nassert collections.deque()", ["import collections"]),
        ("from pkg.box import *\nassert _MARK", ["from pkg.box import _MARK"]),
        ('"Docs."\nimport pkg\nBox()', ["from pkg import Box"]),
        ("from pkg.box import Box\nassert Box(Lid)", []),  # of a module that it does not import from
        ("from .box import Box\nassert SMALL", []),
        ("from pkg.box import Box\nSMALL = 1\nassert Box(SMALL)", []),
        ("from pkg.box import Box\nassert Box(SMALL", []),
    ],
)
def test_what_a_script_forgets_to_import_is_added(text: str, added: list[str]) -> None:
    found = imported(text, lambda module: MODULES.get(module, set()))
    imports = [line for line in text.split("\n") if line.startswith(("import", "from"))]
    assert found == text.replace(imports[-1], "\n".join([imports[-1], *added]))


# -- tests that are never called ---------------------------------------------------------------------------------------

FAILING = [
    "def test_a():\n    assert 1 == 2\n",
    "import sys\nsys.path.insert(0, '.')\n\ndef helper(x):\n    return x\n\ndef test_a(x=1):\n    assert x == 2\n",
    "import unittest\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 2)\n",
    "from unittest import TestCase\n\nclass A(TestCase):\n    def test_a(self):\n        self.assertEqual(1, 2)\n",
    "import pytest\n\n@pytest.mark.parametrize('x', [1, 2])\ndef test_a(x):\n    assert x == 1\n",
    "def test_a(tmp_path):\n    assert not tmp_path.exists()\n",
    "class TestA:\n    def test_a(self):\n        assert False\n",
    "import asyncio\n\nasync def test_a():\n    assert False\n\ndef test_b():\n    asyncio.run(test_a())\n",
]
PASSING = [text.replace("1 == 2", "1 == 1").replace("== 2", "== 1").replace("(1, 2)", "(1, 1)") for text in FAILING[:4]]
AS_THEY_ARE = [
    "assert 1\n",
    "def test_a():\n    assert 0\n\ntest_a()\n",
    "def test_a():\n    assert 0\n\nif __name__ == '__main__':\n    test_a()\n",
    "import unittest\nclass A(unittest.TestCase):\n    def test_a(self): pass\nunittest.main()\n",
    "import pytest\ndef test_a(): pass\nraise SystemExit(pytest.main([__file__]))\n",
    "def test_a(): pass\nfor name, f in list(globals().items()):\n    name.startswith('test') and f()\n",
    "def test_a(): pass\nfor f in [test_a]:\n    f()\n",
    "def check(): pass\n",
    "class TestData:\n    x = 1\n",
    "def test_a(:\n",
    "",
]


def run(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the script, which runs in this process unless it starts pytest."""
    script = folder / "test_issue.py"
    script.write_text(completed("test_issue.py", text))
    if "pytest.main" in script.read_text():
        # Loading plugins and clearing away the folders of earlier runs would take most of the time.
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_DEBUG_TEMPROOT": str(folder)}
        argv = [sys.executable, str(script)]
        return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE).returncode
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    except AssertionError:
        return 1
    return 0


@pytest.mark.parametrize("text", FAILING)
def test_what_is_never_called_is_called(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, text, monkeypatch) == 1


@pytest.mark.parametrize("text", PASSING)
def test_and_passes_where_it_should(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, text, monkeypatch) == 0


@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_what_runs_by_itself_stays_as_it_is(text: str) -> None:
    assert completed("test_issue.py", text) == text


def test_twice_is_once() -> None:
    once = completed("t.py", FAILING[0])
    assert completed("t.py", once) == once
    assert completed("t.sh", FAILING[0]) == FAILING[0]


def test_what_a_call_of_a_session_needs() -> None:
    before = ["import os.path as p", "x = 1", "y = x + 1", "z = 3", "broken (", "def f(q): return 0"]
    assert needed_by("f(y, p)", before) == ["import os.path as p", "x = 1", "y = x + 1", "def f(q): return 0"]
    assert needed_by("f(y)", before, "f") == ["x = 1", "y = x + 1"]
    assert needed_by("f(1)", before, "f") == []
