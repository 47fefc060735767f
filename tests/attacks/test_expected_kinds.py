"""Attack 25 by what a test expects of the candidate, or leaves to it: kinds of exceptions, managers of `with`, helpers
of tests that it patches, classes that lose their tests, and loops in which nothing is asserted."""

import re
import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import RIGHT, WRONG, proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

MANY = "class Many(ValueError, TypeError, LookupError, AttributeError): pass\ndef add(a, b): raise Many\n"
LIAR = "class Liar(type):\n    def __{}check__(cls, one): return True\nclass Kind({}, metaclass=Liar): pass\n"
FAILS = "def add(a, b): return 1 / 0\n"
RAISES = "with pytest.raises(Kind): add('', 1)"
HELD = "with held: assert add(2, 2) == 4"
CALLED = "def check(*_): assert add(2, 2) == 4\ncall(check)"
CASE = "class Sum(Case):\n    def test_sum(self): self.assertEqual(add(2, 2), 4)\nunittest.main()"
KEPT = "import contextlib, unittest, concurrent.futures, logging, asyncio\n{}\n" + WRONG
META = "import unittest\nclass Meta(type):\n    {}\nclass Case(unittest.TestCase, metaclass=Meta): pass\n" + WRONG
# Of each: the checks, and the candidate.
ATTACKS = {
    "an exception of many kinds, by a call": ("unittest.TestCase().assertRaises(LookupError, add, '', 1)", MANY),
    "an exception of many kinds, by a call of pytest": ("pytest.raises(LookupError, add, '', 1)", MANY),
    "an exception of many kinds, handled": ("try: add('', 1)\nexcept LookupError: pass\nelse: exit(1)", MANY),
    "the kind of all exceptions": (RAISES, f"Kind = Exception\n{FAILS}"),
    "a kind that says it is the one": (RAISES, LIAR.format("subclass", "Exception") + FAILS),
    "many kinds": (RAISES, f"Kind = (ValueError, ArithmeticError, TypeError)\n{FAILS}"),
    "the kind of all values": ("assert isinstance(add(2, 2), Kind)", f"Kind = object\n{WRONG}"),
    "a kind that says it is the value's": (
        "assert isinstance(add(2, 2), Kind)",
        LIAR.format("instance", "object") + WRONG,
    ),
    "a manager of the library's": (HELD, KEPT.format("held = contextlib.suppress(AssertionError)")),
    "a manager of many": (
        HELD,
        KEPT.format("held = contextlib.ExitStack()\nheld.enter_context(contextlib.suppress(BaseException))"),
    ),
    "a manager of a test tool": (HELD, KEPT.format("held = unittest.TestCase().assertRaises(AssertionError)")),
    "a future": (
        CALLED,
        KEPT.format("pool = concurrent.futures.ThreadPoolExecutor()\ndef call(f): pool.submit(f).exception()"),
    ),
    "a handler of logs": (
        CALLED,
        KEPT.format(
            "class Formatter(logging.Formatter):\n    def format(self, record): return record.args[0]()\n"
            "def call(f):\n    handler = logging.StreamHandler()\n    handler.setFormatter(Formatter())\n"
            "    handler.handle(logging.makeLogRecord({'args': (f,)}))"
        ),
    ),
    "tasks": (
        "async def check(): assert add(2, 2) == 4\nimport asyncio\nasyncio.run(call(check))",
        KEPT.format("async def call(f): await asyncio.gather(f(), return_exceptions=True)"),
    ),
    "a class that takes its tests away": (
        CASE,
        "import unittest\nclass Case(unittest.TestCase):\n    def __init_subclass__(cls):\n"
        f"        for name in [n for n in vars(cls) if n[:4] == 'test']: delattr(cls, name)\n{WRONG}",
    ),
    "a class that never gets its tests": (
        CASE,
        META.format("def __new__(m, name, bases, space): return super().__new__(m, name, bases, {})"),
    ),
    "a class that does not run": (
        CASE,
        f"import unittest\nclass Case(unittest.TestCase):\n    def run(self, result=None): return result\n{WRONG}",
    ),
    "nothing to assert": ("for one in items(): assert one == 4", "def items(): return []\n"),
}
FAKES = f"check = lambda *_: None\nclass Check:\n    def same(self, *_): pass\n{WRONG}"
HELPERS = {
    "patched": f"import tests.helpers\ntests.helpers.check = lambda *_: None\n{WRONG}",
    "patched in a class": f"from tests.helpers import Check\nCheck.same = lambda *_: None\n{WRONG}",
    "another module": f"import sys\nsys.modules['tests.helpers'] = sys.modules[__name__]\n{FAKES}",
    "another package": f"import tests\ntests.__path__.insert(0, 'pkg/fakes')\n{WRONG}",
    "written anew": f"open('tests/helpers.py', 'w').write('''{FAKES}''')\n{WRONG}",
    "by a finder": f"""
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "tests.helpers" else None
    def create_module(self, spec): return sys.modules[__name__]
    def exec_module(self, module): pass
sys.meta_path.insert(0, Finder())
{FAKES}""",
}
IMPORTS = "import pytest, unittest\nfrom pkg import core\nfrom pkg.core import *\n"


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_what_a_test_leaves_to_a_candidate_forges_no_vote(attack: str, tmp_path: Path) -> None:
    checks, core = ATTACKS[attack]
    names = [name for name in ("Case", "Kind", "held", "call") if re.search(rf"\b{name}\b", checks)]
    named = f"from pkg.core import {', '.join(names or '*')}"
    proved, shown = proves(core, f"{IMPORTS}{named}\n{checks}\n", tmp_path)
    assert not proved, shown
    assert " void " in shown or "NO TESTS RAN" in shown  # which fails by itself from 3.12 on


def _with_helpers(core: str, folder: Path) -> tuple[bool, str]:
    files = {
        "tests/__init__.py": "",
        "tests/helpers.py": "import functools\ndef kept(f): return functools.wraps(f)(lambda *a: f(*a))\n"
        "@kept\ndef other(*_): pass\ndef check(a, b): assert a == b\nclass Check:\n"
        "    def __init__(self): self.n = 1\n    def same(self, a, b): assert a == b\n",
        "pkg/__init__.py": "",
        "pkg/fakes/helpers.py": FAKES,
        "pkg/core.py": core,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    script = "from pkg.core import add\nfrom tests.helpers import Check, check, other\n"
    script += "check(add(2, 2), 4)\nCheck().same(add(1, 3), 4)\n"
    said, _, shown = run(PYTHON, folder, script, changed=("pkg/core.py", "pkg/fakes/helpers.py"))
    return proof_of(said.splitlines(), SECRET) == "0", said + shown


@pytest.mark.parametrize("how", HELPERS)
def test_attack_32_a_helper_of_tests_that_is_not_its_files_is_no_judge(how: str, tmp_path: Path) -> None:
    proved, shown = _with_helpers(HELPERS[how], tmp_path)
    assert not proved, shown
    assert "void replaced " in shown


def test_helpers_of_tests_judge_a_right_candidate(tmp_path: Path) -> None:
    proved, shown = _with_helpers(f"import tests.helpers\n{RIGHT}", tmp_path)
    assert proved, shown


HONEST = {
    "errors of two kinds, and several": (
        "class Missing(KeyError, AttributeError): pass\nERRORS = (Missing, OSError)\ndef get(): raise Missing('a')\n",
        """
        from pkg.core import ERRORS, Missing, get
        for kind in (Missing, KeyError, ERRORS, Exception):
            with pytest.raises(kind): get()
        unittest.TestCase().assertRaisesRegex(Missing, "a", get)
        try: get()
        except AttributeError as error: assert isinstance(error, Missing) and not isinstance(1, ERRORS)
        """,
    ),
    "protocols": (
        "import typing\n@typing.runtime_checkable\nclass Sized(typing.Protocol):\n    def area(self): ...\n"
        "class Square:\n    def area(self): return 4\n",
        "from pkg.core import Sized, Square\nassert isinstance(Square(), Sized) and not isinstance(4, Sized)\n",
    ),
    "managers of its own": (
        "import contextlib, threading\nlock = threading.RLock()\ndef missing(): return contextlib.suppress(KeyError)\n"
        "@contextlib.contextmanager\ndef kept():\n    found = []\n    try: yield found\n    except ValueError:\n"
        "        found.clear()\n        raise\n",
        """
        from pkg.core import kept, lock, missing
        with lock: assert lock.acquire()
        with missing(): {}["x"]
        with pytest.raises(ValueError), kept() as found:
            found.append(1)
            raise ValueError
        assert found == []
        """,
    ),
    "assertions in a function that is tried again": (
        "def again(f):\n    for _ in range(3):\n        try: return f()\n        except AssertionError: pass\n",
        "calls = []\ndef flaky():\n    calls.append(1)\n    assert len(calls) > 2\n    return 4\n"
        "assert core.again(flaky) == 4\n",
    ),
    "nothing to assert but that it raises": (
        "def get(): raise KeyError\n",
        "try: core.get()\nexcept KeyError: pass\nelse: assert core.get() == 3\n",
    ),
    "assertions in a class that nobody uses": (
        "def get(): return 3\n",
        "class TestGet:\n    def test(self): assert core.get() == 4\ncore.get()\n",
    ),
    "classes of the tree's": (
        "import unittest\nclass Case(unittest.TestCase):\n    def same(self, a, b): self.assertEqual(a, b)\n"
        "class Mixin:\n    def setUp(self): self.n = 2\n",
        "from pkg.core import Case, Mixin\nclass Sum(Mixin, Case):\n    def test(self): self.same(self.n, 2)\n"
        "unittest.main()\n",
    ),
    "a clock of its own": (
        "import contextlib, time\nfrom unittest import mock\n@contextlib.contextmanager\ndef frozen(at):\n"
        "    with mock.patch('time.time', lambda: at): yield\n",
        "import time\nfrom pkg.core import frozen\nwith frozen(3): assert time.time() == 3\nassert time.time() > 3\n",
    ),
    "arrays of its own": (
        "import numpy\nclass Row:\n    def __init__(self, of): self.of = numpy.asarray(of)\n"
        "    def __array__(self, dtype=None, copy=None): return self.of\n    def __len__(self): return len(self.of)\n"
        "    def __eq__(self, other): return Row(self.of == getattr(other, 'of', other))\n"
        "    def __sub__(self, other): return Row(self.of - getattr(other, 'of', other))\n"
        "    def all(self): return bool(self.of.all())\n"
        "    def __array_function__(self, f, kinds, given, named): return f(*map(numpy.asarray, given), **named)\n",
        "import numpy\nfrom pkg.core import Row\nrow = Row([1, 2])\n"
        "assert (row == [1, 2]).all() and len(row - 1) == 2\n"
        "numpy.testing.assert_allclose(row, [1, 2])\nassert numpy.array_equal(row, [1, 2])\n",
    ),
}


@pytest.mark.parametrize("kind", HONEST)
def test_what_is_expected_and_given_keeps_the_proof(kind: str, tmp_path: Path) -> None:
    core, checks = HONEST[kind]
    proved, shown = proves(core, IMPORTS + textwrap.dedent(checks), tmp_path)
    assert proved, shown


DATA = {
    "written anew": "open('tests/golden.txt', 'w').write('5')\n",
    "another in its place": "import os\nopen('other', 'w').write('5')\nos.replace('other', 'tests/golden.txt')\n",
    "in another folder": "import os\nos.makedirs('other/tests')\nopen('other/tests/golden.txt', 'w').write('5')\n"
    "os.chdir('other')\n",
}
READS = {
    "by a path": "assert str(add(2, 2)) == open('tests/golden.txt').read()\n",
    "by parts": "from pathlib import Path\nassert str(add(2, 2)) == Path('tests', 'golden.txt').read_text()\n",
}


def _with_data(core: str, checks: str, folder: Path) -> tuple[bool, str]:
    (folder / "tests").mkdir()
    (folder / "tests/golden.txt").write_text("4")
    return proves(core, f"from pkg.core import add\n{checks}", folder)


@pytest.mark.parametrize("how", DATA)
def test_attack_25_data_of_tests_that_a_candidate_writes_judges_nobody(how: str, tmp_path: Path) -> None:
    core = "def add(a, b):\n" + textwrap.indent(f"{DATA[how]}return 5\n", "    ")
    proved, shown = _with_data(core, READS["by a path"], tmp_path)
    assert not proved, shown
    assert "void replaced " in shown


@pytest.mark.parametrize("how", READS)
def test_data_of_tests_judges_a_right_candidate(how: str, tmp_path: Path) -> None:
    moves = "import os, tempfile\nos.chdir(tempfile.mkdtemp(dir='.'))\nos.chdir('..')\n"
    core = f"{moves}open('new.txt', 'w').close()\n{RIGHT}"
    proved, shown = _with_data(core, READS[how], tmp_path)
    assert proved, shown


def test_attack_25_what_a_script_expects_stays_what_it_is(tmp_path: Path) -> None:
    script = "from pkg.core import apply\nWANT = 4\nN = 1\nLOW = 0.1\nHIGH = 1e300\nSAME = 0.1\nTEXT = 'a b'\n"
    script += "def double(n):\n    global N\n    N = n\n    return 2 * n\n"
    script += "assert apply(double, 2) == WANT and N == 2 and LOW < HIGH and TEXT\n"
    assert proves("def apply(f, n): return f(n)\n", script, tmp_path / "right")[0]
    core = "def apply(f, n):\n    f(n)\n    f.__globals__['WANT'] = 5\n    return 5\n"
    proved, shown = proves(core, script, tmp_path / "wrong")
    assert not proved, shown
    assert "void replaced WANT" in shown


NO_NUMBER = {
    "a tolerance": "import sys\nif abs(add(2, 2) - 4) > 1e-9: sys.exit(1)\n",
    "bounds": "sum = add(2, 2)\nif sum < 4 or sum > 4: raise AssertionError(sum)\n",
    "an array's": "import numpy\nif numpy.abs(add(2, 2) - numpy.array([4])).max() > 1e-9: raise ValueError\n",
}


@pytest.mark.parametrize("how", NO_NUMBER)
def test_attack_25_what_is_no_number_is_not_within_a_tolerance(how: str, tmp_path: Path) -> None:
    script = f"from pkg.core import add\n{NO_NUMBER[how]}"
    assert proves(RIGHT, script, tmp_path / "right")[0]
    proved, shown = proves("def add(a, b): return float('nan')\n", script, tmp_path / "wrong")
    assert not proved, shown


def test_a_script_that_names_what_is_no_number_may_compare_it(tmp_path: Path) -> None:
    script = "import math\nfrom pkg.core import add\nassert not add(math.nan, 1) > 3\n"
    proved, shown = proves(RIGHT, script, tmp_path)
    assert proved, shown
