"""How hidden tests are run, by the names that benchmarks give: what each name stands for, under real runners."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bot.errors import EvaluationError
from bot.evaluation.hidden import script

PYTEST = """
import pytest

@pytest.mark.parametrize("a", ["x y", "x z"])
def test_two(a):
    pass

@pytest.mark.parametrize("a", ["x y", "v z"])
def test_one(a):
    assert a == "v z"

@pytest.mark.xfail
def test_expected():
    assert False

class TestIt:
    def test_in_class(self):
        pass
"""
UNITTEST = """
import unittest


class ATests(unittest.TestCase):
    def test_good(self):
        print("ERROR test_good ... FAIL")

    def test_bad(self):
        self.fail()

    def test_told(self):
        "Does what it says."

    def test_parts(self):
        for part in range(3):
            with self.subTest(part=part):
                self.assertLess(part, 2)

    def test_all_parts(self):
        for part in range(3):
            with self.subTest(part=part):
                self.assertLess(part, 3)

    @unittest.skip("not here")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()


class Unready(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no database")

    def test_never(self):
        pass
"""
RUNTESTS = """
import argparse
import sys
import unittest

parser = argparse.ArgumentParser()
parser.add_argument("modules", nargs="*")
parser.add_argument("-v", type=int)
parser.add_argument("--parallel", type=int)
given = parser.parse_args()
suite = unittest.defaultTestLoader.loadTestsFromNames(given.modules)
sys.exit(not unittest.TextTestRunner(verbosity=given.v).run(suite).wasSuccessful())
"""
BIN_TEST = """
import sys

assert sys.argv[1:] == ["-C", "--verbose", "pkg/tests/test_a.py"]
print("pkg/tests/test_a.py[3] ")
print("test_good ok")
print("test_bad F")
print("test_odd E")
print("test_slow Slow w")
print("test_last ok                                    [OK]")
"""


def outcome(root: Path, names: list[str], changed: list[str]) -> tuple[int, str]:
    """The exit code of the script, and what it printed."""
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    text = script("a-1", names, changed, files)
    ran = subprocess.run([sys.executable, "-c", text], cwd=root, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def each(root: Path, names: list[str], changed: list[str]) -> dict[str, bool]:
    """Which of the names pass."""
    _, said = outcome(root, names, changed)
    return {name: f"does not pass: {name}\n" not in said for name in names}


def test_pytests_names_whole_cut_at_a_space_and_bare(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(PYTEST)
    whole = ["test_a.py::test_two[x y]", "test_a.py::test_one[v z]", "test_a.py::test_expected"]
    cut = ["test_a.py::test_two[x", "test_a.py::test_one[v", "test_a.py::TestIt::test_in_class"]
    bad = ["test_a.py::test_one[x y]", "test_a.py::test_one[x", "test_a.py::test_gone"]
    found = each(tmp_path, [*whole, *cut, *bad], ["test_a.py"])
    assert found == {name: name not in bad for name in found}
    bare = each(tmp_path, ["test_two", "test_expected", "test_one"], ["test_a.py"])
    assert bare == {"test_two": True, "test_expected": True, "test_one": False}


@pytest.mark.parametrize("runner", ["tests/runtests.py", "manage.py", ""])
def test_unittests_names_of_both_kinds_and_docstrings(tmp_path: Path, runner: str) -> None:
    folder = tmp_path / (runner.rpartition("/")[0] or ".")
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "__init__.py").touch()
    (folder / "pkg" / "test_a.py").write_text(UNITTEST)
    if runner:
        (tmp_path / runner).write_text(
            RUNTESTS.replace("parse_args()", "parse_args(sys.argv[2:])") if runner == "manage.py" else RUNTESTS
        )
    good = ["test_good", "test_all_parts", "test_expected", "test_told"]
    bad = ["test_bad", "test_parts", "test_skipped", "test_gone"]
    forms = ["{} (pkg.test_a.ATests)", "{0} (pkg.test_a.ATests.{0})"]
    names = [form.format(name) for form in forms for name in (*good, *bad)]
    path = f"{'tests/' if '/' in runner else ''}pkg/test_a.py"
    lines = ["Does what it says.", "Says what it does."]
    found = each(tmp_path, [*names, "test_never (pkg.test_a.Unready)", *lines], [path])
    assert found == {name: name == lines[0] or name.split(" ")[0] in good for name in found}


def test_modules_are_found_by_the_names_where_no_file_tells(tmp_path: Path) -> None:
    write(tmp_path, pkg____init___py="", pkg__other_py=UNITTEST)
    assert outcome(tmp_path, ["test_good (pkg.other.ATests)"], [])[0] == 0


def test_names_of_functions_alone_where_a_runner_prints_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "test").write_text(BIN_TEST)
    found = each(
        tmp_path, ["test_good", "test_bad", "test_odd", "test_slow", "test_last", "test_gone"], ["pkg/tests/test_a.py"]
    )
    assert found == {name: name in ("test_good", "test_last") for name in found}


def test_what_does_not_pass_is_named_with_what_the_runner_printed(tmp_path: Path) -> None:
    write(tmp_path, pkg____init___py="", pkg__test_a_py=UNITTEST)
    code, said = outcome(tmp_path, ["test_good (pkg.test_a.ATests)", "test_bad (pkg.test_a.ATests)"], [])
    assert code == 1
    assert said.endswith("\ndoes not pass: test_bad (pkg.test_a.ATests)\n")
    assert "FAIL: test_bad" in said


@pytest.mark.parametrize("names", [["adds numbers > of any size"], ["TestAdd"], ["com.a.BTest.low"]])
def test_names_that_tell_no_runner_are_refused_with_what_to_do(names: list[str]) -> None:
    with pytest.raises(EvaluationError, match=r"a-1: .*--test-command"):
        script("a-1", names, ["a.test.js"], ["a.test.js"])


def test_text_of_a_task_can_not_leave_its_quotes() -> None:
    text = script("a-1", ["t.py::test_a['); import os #\u2028\n]"], [], [])
    compile(text, "hidden_tests.py", "exec")
    assert text.isascii()
