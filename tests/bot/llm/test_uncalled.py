"""Tests written for a runner, run as a script."""

import subprocess
import sys
from pathlib import Path

import pytest

from bot.llm.test_script import completed
from tests.patience import PATIENCE

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


def run(folder: Path, text: str) -> int:
    script = folder / "test_issue.py"
    script.write_text(completed("test_issue.py", text))
    return subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, timeout=PATIENCE).returncode


@pytest.mark.parametrize("text", FAILING)
def test_what_is_never_called_is_called(tmp_path: Path, text: str) -> None:
    assert run(tmp_path, text) == 1


@pytest.mark.parametrize("text", PASSING)
def test_and_passes_where_it_should(tmp_path: Path, text: str) -> None:
    assert run(tmp_path, text) == 0


@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_what_runs_by_itself_stays_as_it_is(text: str) -> None:
    assert completed("test_issue.py", text) == text


def test_twice_is_once() -> None:
    once = completed("t.py", FAILING[0])
    assert completed("t.py", once) == once
    assert completed("t.sh", FAILING[0]) == FAILING[0]
