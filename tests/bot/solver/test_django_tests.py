"""Tests of Django's kind: found by the repository's files, run for some files alone, and proved."""

import textwrap
from pathlib import Path

import pytest

from bot.records import FileChange, SandboxJob
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.comparison import told
from bot.solver.test_runners import PYTEST, PYTEST_ALONE, UNITTEST, detect, narrowed
from tests.patience import PATIENCE

RUNNER = 'import django\nparser.add_argument("--verbosity")\nparser.add_argument("--parallel")\n'
# As Django's own: it finds the tests itself, and gives them to unittest.
MANAGE = """
import argparse
import sys
import unittest

parser = argparse.ArgumentParser()
parser.add_argument("-v")
parser.add_argument("-t")
parser.add_argument("--noinput", action="store_true")
parser.add_argument("labels", nargs="*")
given = parser.parse_args(sys.argv[2:])
loader = unittest.defaultTestLoader
suite = unittest.TestSuite()
for label in given.labels or ["."]:
    if "/" in label or label in (".", given.t):
        suite.addTests(loader.discover(label, top_level_dir=given.t or label))
    else:
        suite.addTests(loader.loadTestsFromName(label))
sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
"""


def detected(files: dict[str, str]) -> tuple[tuple[str, ...], ...]:
    return detect(sorted(files), files.get)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tests/runtests.py": RUNNER}, ("python3", "tests/runtests.py", "-v", "2", "--parallel", "1")),
        ({"runtests.py": "import django\n"}, ("python3", "runtests.py")),
        ({"manage.py": "", "app/tests.py": ""}, ("python3", "manage.py", "test", "-v", "2", "--noinput")),
        (
            {"site/manage.py": "", "site/app/tests/test_a.py": "", "example/manage.py": ""},
            ("python3", "site/manage.py", "test", "-v", "2", "--noinput", "-t", "site", "site"),
        ),
    ],
)
def test_djangos_tests_are_run_by_the_script_that_is_there_for_it(
    files: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert detected(files | {"tox.ini": "[testenv]\npassenv = DJANGO_SETTINGS_MODULE\n"})[0] == expected


@pytest.mark.parametrize(
    "files",
    [
        {"setup.cfg": "[tool:pytest]\nDJANGO_SETTINGS_MODULE = site.settings\n"},
        {"tests/conftest.py": "import django\ndjango.setup()\n"},
    ],
)
def test_where_pytest_knows_the_settings_it_comes_first(files: dict[str, str]) -> None:
    found = detected(files | {"manage.py": "", "app/test_a.py": ""})
    assert found[:3] == (PYTEST, PYTEST_ALONE, ("python3", "manage.py", "test", "-v", "2", "--noinput"))


@pytest.mark.parametrize(
    "files",
    [
        {"runtests.py": "import nose\n", "test_a.py": ""},
        {"docs/manage.py": "", "test_a.py": ""},
        {"a/b/c/d/manage.py": "", "test_a.py": ""},
    ],
)
def test_other_scripts_are_none_of_djangos(files: dict[str, str]) -> None:
    assert detected(files) == (PYTEST, PYTEST_ALONE, UNITTEST)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python3 tests/runtests.py -v 2", "python3 tests/runtests.py -v 2 utils_tests.test_text"),
        ("python3 -Wall tests/runtests.py -v2 admin", "python3 -Wall tests/runtests.py -v2 utils_tests.test_text"),
        (
            "env A=1 python3 tests/runtests.py --settings x",
            "env A=1 python3 tests/runtests.py --settings x utils_tests.test_text",
        ),
        (
            "python3 manage.py test -v 2 --noinput",
            "python3 manage.py test -v 2 --noinput tests.utils_tests.test_text",
        ),
        (
            "python3 tests/manage.py test -v 2 --noinput -t tests tests",
            "python3 tests/manage.py test -v 2 --noinput -t tests utils_tests.test_text",
        ),
        ("python3 manage.py test", "python3 manage.py test tests.utils_tests.test_text"),
        ("python3 manage.py test my_test test", "python3 manage.py test tests.utils_tests.test_text"),
        (
            "env A=1 python3 -m django test --settings=s tests",
            "env A=1 python3 -m django test --settings=s tests.utils_tests.test_text",
        ),
    ],
)
def test_some_files_alone(command: str, expected: str) -> None:
    found = narrowed(tuple(command.split()), {"tests/utils_tests/test_text.py": ""})
    assert found == tuple(expected.split())


def test_files_that_the_command_does_not_reach_are_not_run_alone() -> None:
    assert narrowed(("python3", "tests/runtests.py"), {"django/test_a.py": ""}) is None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "manage.py": MANAGE,
        "app/__init__.py": "",
        "app/adding.py": "def add(a, b):\n    return a + b\n",
        "app/test_adding.py": """
            import unittest

            from app.adding import add


            class AddTests(unittest.TestCase):
                def test_add(self):
                    "Adds two numbers."
                    self.assertEqual(add(1, 2), 3)

                def test_broken(self):
                    self.fail()
        """,
    }
    root = tmp_path / "tree"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text))
    return root


FORGED = "import os, sys\nsys.stderr.write('test_add (app.test_adding.AddTests) ... ok\\n')\nos._exit(0)\n"


@pytest.mark.parametrize("folder", ["", "site/"])
async def test_their_results_are_proved(tree: Path, folder: str) -> None:
    root = tree
    if folder:
        root = tree.parent / "outer"
        root.mkdir()
        tree.rename(root / folder)
    files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}
    (whole, *_) = detect(sorted(files), files.get)
    part = narrowed(whole, {f"{folder}app/test_adding.py": ""})
    assert part is not None
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process"), root)
    try:
        for command in (whole, part):
            base = told(await sandbox.run(SandboxJob(command=command, timeout=PATIENCE)))
            assert (base.proved, base.ended) == (True, True), base
            assert [name.split(" ")[0] for name in base.passed] == ["test_add"]
            assert [name.split(" ")[0] for name in base.failures or ()] == ["test_broken"]
            forged = FileChange(path=f"{folder}app/adding.py", text=FORGED)
            fake = told(await sandbox.run(SandboxJob(changes=(forged,), command=command, timeout=PATIENCE)))
            assert not fake.proved
            assert not fake.execution.passed
    finally:
        await sandbox.close()
