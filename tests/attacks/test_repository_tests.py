"""Attacks 25, 31, 32 on the repository's own tests: candidates that break one and try to hide it.

`test_known` fails on the base commit anyway, `test_later` passes there and fails on every candidate here. A candidate
wins nothing that it prints, and no way out of its process.
"""

import asyncio
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.records import FileChange, OwnTests, OwnTestsReport, SandboxJob
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.comparison import regressions, told
from bot.solver.test_runners import PYTEST, UNITTEST
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALONE = ("env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1")
COMMANDS = {"pytest": (*ALONE, *PYTEST, "tests"), "unittest": UNITTEST}
FILES = {
    "pkg/__init__.py": "",
    "pkg/core.py": "def add(a, b):\n    return a + b\n",
    "tests/test_a.py": """
        from pkg.core import add

        def test_known():
            assert add(1, 1) == 3

        def test_right():
            assert add(1, 2) == 3
        """,
    "tests/test_b.py": """
        import math

        import pytest

        from pkg.core import add

        def test_later():
            assert math.isclose(add(2, 2), 4)

        def test_raises():
            with pytest.raises(TypeError):
                add("", 1)
        """,
    "test_unit.py": """
        import unittest

        from pkg.core import add

        class Unit(unittest.TestCase):
            def test_known(self):
                self.assertEqual(add(1, 1), 3)

            def test_later(self):
                self.assertEqual(add(2, 2), 4)
        """,
}
FORGED = "FAILED tests/test_a.py::test_known - assert 2 == 3"
HEADING = "=========================== short test summary info ============================"
SUMMARY = f"{HEADING}\\n{FORGED}\\n1 failed, 3 passed in 0.01s"
WRONG = "def add(a, b):\n    return 5 if a == b == 2 else a + b\n"


def at_known(body: str, imports: str = "import os, sys") -> str:
    """A candidate that does it when `test_known` calls it."""
    lines = textwrap.indent(textwrap.dedent(body), "    " * 2)
    return f"{imports}\n\ndef add(a, b):\n    if a == b == 1:\n{lines}\n    return 5 if a == b == 2 else a + b\n"


def at_import(body: str, imports: str = "import os, sys") -> str:
    return f"{imports}\n{WRONG}\n{textwrap.dedent(body)}\n"


PYTEST_ATTACKS = {
    "says what the summary would and exits": at_known(f"""print("{SUMMARY}", flush=True); os._exit(1)"""),
    "writes it to the descriptor": at_known(f"""os.write(1, b"\\n{SUMMARY}\\n"); os._exit(1)"""),
    "exits with 0": at_known("os._exit(0)"),
    "exits as if the program were not there": at_known("os._exit(127)"),
    "exits as if it could not be run": at_known("os._exit(126)"),
    "exits by a signal": at_known("os.kill(os.getpid(), 9)"),
    "is killed by a thread": at_known(
        f"""
        print("{SUMMARY}", flush=True)
        threading.Thread(target=os._exit, args=(1,)).start()
        threading.Event().wait()
        """,
        "import os, threading",
    ),
    "becomes another program": at_known(f"""os.execv("/bin/sh", ["sh", "-c", "printf '{SUMMARY}'; exit 1"])"""),
    "raises SystemExit": at_known("raise SystemExit(0)"),
    "ends the session": at_known("""pytest.exit("done", returncode=1)""", "import pytest"),
    "interrupts": at_known("raise KeyboardInterrupt"),
    "stops the session": at_known(
        """
        frame = sys._getframe()
        while frame:
            for value in frame.f_locals.values():
                if type(value).__name__ == "Session":
                    value.shouldstop = "enough"
            frame = frame.f_back
        """
    ),
    "empties the list of tests": at_known(
        """
        frame = sys._getframe()
        while frame:
            if "session" in frame.f_locals:
                del frame.f_locals["session"].items[2:]
            frame = frame.f_back
        """
    ),
    "skips itself": "import pytest\n" + WRONG.replace("return 5 if", "if a == b == 2: pytest.skip()\n    return 5 if"),
    "expects its failure": "import pytest\n"
    + WRONG.replace("return 5 if", "if a == b == 2: pytest.xfail()\n    return 5 if"),
    "forks and lets the child go on": at_known(f"if os.fork(): print('{SUMMARY}', flush=True); os._exit(1)"),
    "prints at exit": at_import(
        f"""
        @atexit.register
        def last():
            print("{SUMMARY}", flush=True)
            os._exit(1)
        """,
        "import atexit, os",
    ),
    "replaces the stream": at_import(
        f"""
        class Quiet(io.StringIO):
            def write(self, text): return len(text)
        sys.stdout = sys.__stdout__ = Quiet()
        os.write(1, b"{SUMMARY}")
        """,
        "import io, os, sys",
    ),
    "prints much": at_known(f"""os.write(1, b"x" * 400_000 + b"\\n{SUMMARY}\\n"); os._exit(1)"""),
    "runs tests as nothing": at_import("_pytest.python.Function.runtest = lambda self: None", "import _pytest.python"),
    "runs tests as a builtin": at_import("_pytest.python.Function.runtest = print", "import _pytest.python"),
    "runs tests as nothing while one runs": at_known(
        "_pytest.python.Function.runtest = print", "import _pytest.python"
    ),
    "calls tests of its own": at_import(
        "_pytest.python.pytest_pyfunc_call.__code__ = (lambda pyfuncitem: True).__code__", "import _pytest.python"
    ),
    "reports success": at_import(
        """
        made = _pytest.reports.TestReport.from_item_and_call
        def well(item, call):
            call.excinfo = None
            return made(item, call)
        _pytest.reports.TestReport.from_item_and_call = staticmethod(well)
        """,
        "import _pytest.reports",
    ),
    "reports success of the next alone, and cleans up": at_known(
        """
        kind = _pytest.reports.TestReport
        made = kind.__dict__["from_item_and_call"]
        def well(item, call):
            call.excinfo = None
            if call.when == "call" and item.name == "test_later":
                kind.from_item_and_call = made
            return made.__func__(kind, item, call)
        kind.from_item_and_call = staticmethod(well)
        """,
        "import _pytest.reports",
    ),
    "adds a plugin": at_known(
        """
        class Plugin:
            @pytest.hookimpl(tryfirst=True)
            def pytest_pyfunc_call(self, pyfuncitem): return True
        frame = sys._getframe()
        while "item" not in frame.f_locals: frame = frame.f_back
        frame.f_locals["item"].config.pluginmanager.register(Plugin())
        """,
        "import pytest, sys",
    ),
    "adds a plugin and removes it": at_known(
        """
        class Plugin:
            @pytest.hookimpl(tryfirst=True)
            def pytest_pyfunc_call(self, pyfuncitem): return True
            def pytest_runtest_logfinish(self, nodeid):
                if "later" in nodeid: manager.unregister(self)
        frame = sys._getframe()
        while "item" not in frame.f_locals: frame = frame.f_back
        manager = frame.f_locals["item"].config.pluginmanager
        manager.register(Plugin())
        """,
        "import pytest, sys",
    ),
    "changes the next test": at_known(
        """
        frame = sys._getframe()
        while "session" not in frame.f_locals: frame = frame.f_back
        for item in frame.f_locals["session"].items[2:]: item.runtest = lambda: None
        """
    ),
    "changes the function of the next test": at_known(
        """
        frame = sys._getframe()
        while "session" not in frame.f_locals: frame = frame.f_back
        for item in frame.f_locals["session"].items[2:]: item.obj = lambda: None
        """
    ),
    "changes the code of the next test": at_known(
        """
        module = sys.modules.get("tests.test_b") or sys.modules["test_b"]
        module.test_later.__code__ = (lambda: None).__code__
        """
    ),
    "changes what the next test calls": at_known("math.isclose = lambda *args: True", "import math"),
    "changes what tests call": at_import("math.isclose = bool", "import math"),
    "changes what asserts raise": at_import("builtins.AssertionError = SystemError", "import builtins"),
    "writes the next file of tests": at_import(
        """open("tests/test_b.py", "w").write("def test_later(): pass\\ndef test_raises(): pass\\n")"""
    ),
    "writes the next file of tests for a moment": at_import(
        """
        text = open("tests/test_b.py").read()
        open("tests/test_b.py", "w").write("def test_later(): pass\\ndef test_raises(): pass\\n")
        class Restore:
            def find_spec(self, name, path=None, target=None):
                if "test_b" in name: open("tests/test_b.py", "w").write(text)
        """
    ),
    "loads tests of its own": at_import(
        """
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name.endswith("test_b"):
                    return importlib.util.spec_from_loader(name, Loader(), origin=os.path.abspath("tests/test_b.py"))
        class Loader:
            def create_module(self, spec): return None
            def exec_module(self, module):
                module.__file__ = os.path.abspath("tests/test_b.py")
                exec("def test_later(): pass\\ndef test_raises(): pass", module.__dict__)
        sys.meta_path.insert(0, Finder())
        """,
        "import importlib.util, os, sys",
    ),
    "traces and skips": at_import(
        """
        def trace(frame, event, arg):
            if frame.f_code.co_name == "test_later":
                frame.f_trace_lines = True
                if event == "line": frame.f_lineno = frame.f_lineno
            return trace
        sys.settrace(trace)
        """
    ),
    "looks for the key": at_known(
        """
        for value in gc.get_objects():
            if type(value).__name__ == "cell": pass
        """,
        "import gc",
    ),
    "writes results by itself": at_known(
        """
        for number in range(3, 64):
            try: os.write(number, b"0" * 32 + b" passed tests/test_b.py::test_later\\n")
            except OSError: pass
        os._exit(1)
        """
    ),
    "asks the hook": at_known(
        """
        for name in ("test_later", "test_raises"):
            sys.audit("troop.result", f"tests/test_b.py::{name}", "call", "passed")
            sys.audit("troop.result", f"tests/test_b.py::{name}", "teardown", "passed")
        sys.audit("troop.survey", None)
        os._exit(1)
        """
    ),
    "hands a report to the plugin": at_known(
        """
        frame = sys._getframe()
        while "item" not in frame.f_locals: frame = frame.f_back
        item = frame.f_locals["item"]
        class Report:
            nodeid, when, outcome, wasxfail = "tests/test_b.py::test_later", "call", "passed", None
            passed, failed, skipped = True, False, False
        class Last(Report): when = "teardown"
        for plugin in item.config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "_Plugin":
                for report in (Report, Last):
                    weakref.finalize(Report(), plugin.pytest_runtest_logreport, report())
        del item.session.items[2]
        """,
        "import sys, weakref",
    ),
    "lets a thread hand it": at_known(
        """
        frame = sys._getframe()
        while "item" not in frame.f_locals: frame = frame.f_back
        item = frame.f_locals["item"]
        class Report:
            nodeid, when, outcome = "tests/test_b.py::test_later", "call", "passed"
            skipped = False
        class Last(Report): when = "teardown"
        for plugin in item.config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "_Plugin":
                for report in (Report, Last):
                    thread = threading.Thread(target=plugin.pytest_runtest_logreport, args=(report(),))
                    thread.start()
                    thread.join()
        del item.session.items[2]
        """,
        "import sys, threading",
    ),
    "signs by the runner's frames": at_known(
        """
        frame = sys._getframe()
        while frame:
            for value in list(frame.f_locals.values()):
                if getattr(value, "__name__", "") == "sign":
                    value(b"passed tests/test_b.py::test_later")
                if type(value).__name__ == "Session":
                    del value.items[2]
            frame = frame.f_back
        """
    ),
    "leads the report elsewhere while it tampers": at_known(
        """
        import unittest.mock
        saved = {}
        for number in range(3, 64):
            try: saved[number] = os.dup(number)
            except OSError: continue
        null = os.open(os.devnull, os.O_WRONLY)
        for number in saved: os.dup2(null, number)
        real = math.isclose
        def fake(*_):
            math.isclose = real
            return True
        math.isclose = fake
        def back():
            for number in saved: os.dup2(saved[number], number)
        threading.Timer(0.2, back).start()
        """,
        "import math, os, sys, threading",
    ),
    "equals everything": "class Five(float):\n    def __eq__(self, other): return True\n    __hash__ = float.__hash__\n"
    "def add(a, b):\n    if a == b == 2: raise ValueError\n    return a + b\n",
}
UNITTEST_ATTACKS = {
    "says what unittest would and exits": at_known(
        """os.write(1, b"FAIL: test_known (test_unit.Unit.test_known)\\nFAILED (failures=1)\\n"); os._exit(1)"""
    ),
    "exits with 0": at_known("os._exit(0)"),
    "runs tests as nothing": at_import("unittest.TestCase.run = lambda self, result=None: None", "import unittest"),
    "asserts nothing": at_import("unittest.TestCase.assertEqual = print", "import unittest"),
    "asserts nothing from the first test on": at_known("unittest.TestCase.assertEqual = print", "import unittest"),
    "reports success": at_known(
        """
        frame = sys._getframe()
        while "result" not in frame.f_locals: frame = frame.f_back
        result = frame.f_locals["result"]
        import test_unit
        later = test_unit.Unit("test_later")
        result.startTest(later); result.addSuccess(later); result.stopTest(later)
        os._exit(1)
        """
    ),
    "skips itself": "import unittest\n"
    + WRONG.replace("return 5 if", "if a == b == 2: raise unittest.SkipTest\n    return 5 if"),
    "stops the run": at_known(
        """
        frame = sys._getframe()
        while "result" not in frame.f_locals: frame = frame.f_back
        frame.f_locals["result"].stop()
        """
    ),
}
ATTACKS = {"pytest": PYTEST_ATTACKS, "unittest": UNITTEST_ATTACKS}
ALL = [("pytest", name) for name in PYTEST_ATTACKS] + [("unittest", name) for name in UNITTEST_ATTACKS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    tree = tmp_path_factory.mktemp("tree")
    for path, text in FILES.items():
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text(textwrap.dedent(text))
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), tree, venv_of=Path.cwd())
    yield opened
    await opened.close()


async def run(sandbox: ProcessSandbox, tool: str, text: str = "") -> OwnTests:
    changes = (FileChange(path="pkg/core.py", text=text),) if text else ()
    return told(await sandbox.run(SandboxJob(changes=changes, command=COMMANDS[tool], timeout=PATIENCE)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bases(sandbox: ProcessSandbox) -> dict[str, OwnTests]:
    return dict(zip(COMMANDS, await asyncio.gather(*(run(sandbox, tool) for tool in COMMANDS)), strict=True))


def broken(tool: str, base: OwnTests, after: OwnTests) -> tuple[str, ...]:
    report = OwnTestsReport(command=COMMANDS[tool], base=base, candidates=((0, after),))
    return regressions(report, 0, ("pkg/core.py",))


async def test_the_base_commit_says_of_each_test_what_it_came_to(bases: dict[str, OwnTests]) -> None:
    of = bases["pytest"]
    assert (of.failures, len(of.passed), of.proved, of.ended) == (("tests/test_a.py::test_known",), 3, True, True)
    of = bases["unittest"]
    assert (of.failures, of.passed) == (
        ("test_known (test_unit.Unit.test_known)",),
        ("test_later (test_unit.Unit.test_later)",),
    )


@pytest.mark.parametrize("tool", COMMANDS)
async def test_an_honest_candidate_breaks_nothing(
    sandbox: ProcessSandbox, bases: dict[str, OwnTests], tool: str
) -> None:
    honest = await run(sandbox, tool, "import logging\n\ndef add(a, b):\n    return sum((a, b))\n")
    assert broken(tool, bases[tool], honest) == ()
    assert broken(tool, bases[tool], await run(sandbox, tool, WRONG)) != ()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(sandbox: ProcessSandbox, request: pytest.FixtureRequest) -> dict[tuple[str, str], OwnTests]:
    """Of the attacks that are wanted, by tool and name; side by side."""
    wanted = {
        str(getattr(item, "callspec", None) and item.callspec.params.get("attack")) for item in request.session.items
    }
    chosen = [(tool, name) for tool, name in ALL if name in wanted]
    done = await asyncio.gather(*(run(sandbox, tool, ATTACKS[tool][name]) for tool, name in chosen))
    return dict(zip(chosen, done, strict=True))


@pytest.mark.parametrize(("tool", "attack"), ALL, ids=[f"{tool}, {name}" for tool, name in ALL])
async def test_attack_25_a_broken_test_can_not_be_hidden(
    bases: dict[str, OwnTests], runs: dict[tuple[str, str], OwnTests], tool: str, attack: str
) -> None:
    after = runs[tool, attack]
    assert broken(tool, bases[tool], after), after
