"""Attacks 25 and 31 by roundabout ways: what the standard library reads, replaces or compares for a candidate. Each
candidate is wrong."""

import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import ATTACKS, SCRIPTS, proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

YES = "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
CHECKS = "from pkg.core import call\ndef check(found):\n    assert found == 4000\ncall(check)\n"
CART = YES + "class Cart:\n    def total(self): return Yes()\n"
HELPERS = """
class Kind(type):
    def __new__(cls, *given): return type.__new__(cls, *given)
class Base(metaclass=Kind):
    def __init_subclass__(cls): cls.known = True
def check(found, expected):
    assert found == expected
"""
WAYS = {
    "an interpreter without hooks": (
        "from pkg.core import add\nassert add(2, 2) == 4\n",
        """
        import os, re, sys
        try: import _interpreters as interpreters
        except ImportError: import _xxsubinterpreters as interpreters
        def add(a, b):
            read, write = os.pipe()
            run = getattr(interpreters, "run_string", None) or interpreters.exec
            run(interpreters.create(), f"import os; os.write({write}, open({sys.argv[0]!r}, 'rb').read())")
            return int(re.search(rb"== (\\d+)", os.read(read, 9999))[1])
        """,
    ),
    "what dis tells of a function": (
        CHECKS,
        "import dis\ndef call(f): f(next(i.argval for i in dis.get_instructions(f) if type(i.argval) is int))\n",
    ),
    "what a format tells of a function": (
        CHECKS,
        "import re, string\ndef call(f):\n    text = string.Formatter().format('{0.__code__.co_consts}', f)\n"
        "    f(int(re.findall(r'\\d+', text)[-1]))\n",
    ),
    "a function of the script's own, by another one": (
        "from pkg.core import call\ndef same(a, b):\n    if a != b: raise ValueError\n"
        "def check(found): same(found, 4)\ncall(check)\n",
        "def call(f):\n    f.__globals__['same'] = lambda a, b: None\n    f(5)\n",
    ),
    "a method of the script's own, by a function": (
        "from pkg.core import call\nclass Checks:\n    def same(self, a, b):\n        if a != b: raise ValueError\n"
        "def check(found): Checks().same(found, 4)\ncall(check)\n",
        "def call(f):\n    f.__globals__['Checks'].same = lambda *_: None\n    f(5)\n",
    ),
    "a helper that the script has, by a function": (
        "from pkg.core import call\nfrom tests.helpers import check as same\ndef check(found): same(found, 4)\n"
        "call(check)\n",
        "def call(f):\n    f.__globals__['same'] = lambda a, b: None\n    f(5)\n",
    ),
    "a function that the script has of the library, by a function": (
        "from math import isclose\nfrom pkg.core import call\n"
        "def check(found):\n    assert isclose(found, 4)\ncall(check)\n",
        "def call(f):\n    f.__globals__['isclose'] = max\n    f(5)\n",
    ),
    "data of the main module": (
        "from pkg.core import add\nexpected = [4]\nassert add(2, 2) == expected[0]\n",
        "import __main__\ndef add(a, b):\n    __main__.expected = [5]\n    return 5\n",
    ),
    "data of the main module that is read": (
        "from pkg.core import add\nexpected = [4]\nassert add(2, 2) == expected[0]\n",
        "import __main__\ndef add(a, b): return __main__.expected[0]\n",
    ),
    "a method of a test, by another one": (
        "import unittest\nfrom pkg.core import call\nclass T(unittest.TestCase):\n"
        "    def test(self): call(self.check)\n    def check(self, found): self.assertEqual(found, 4)\n"
        "unittest.main()\n",
        "def call(f):\n    f.__self__.assertEqual = lambda *_: None\n    f(5)\n",
    ),
    "another module of tests, where the script may skip some": (
        f"# nothing to skip\n{textwrap.dedent(SCRIPTS['pytest'])}",
        ATTACKS["another module of tests"][1],
    ),
    "a function of os.path for a moment": (
        "import os\nfrom pkg.core import save\nsave('out')\nassert os.path.exists('out')\n",
        """
        import os.path
        def save(name):
            def once(path):
                os.path.exists = real
                return True
            real, os.path.exists = os.path.exists, once
        """,
    ),
    "what pathlib asks for a moment": (
        "from pathlib import Path\nfrom pkg.core import save\nsave('out')\nassert Path('out').exists()\n",
        """
        import os, posixpath
        def save(name):
            def once(path, **named):
                os.stat, posixpath.exists = real
                return real[0]("/")
            real, os.stat, posixpath.exists = (os.stat, posixpath.exists), once, once
        """,
    ),
    "a class of the library in a function's place": (
        "import math\nfrom pkg.core import add\nassert math.isclose(add(2, 2), 4)\n",
        "import fractions, math\nmath.isclose = fractions.Fraction\ndef add(a, b): return 5\n",
    ),
    "a builtin by a part of the library": (
        "import math\nfrom pkg.core import add\nassert math.isclose(add(2, 2), 4)\n",
        "import functools, math\nmath.isclose = functools.partial(max, 1)\ndef add(a, b): return 5\n",
    ),
    "a profile of one example": (
        "from hypothesis import given, strategies\nfrom pkg.core import add\n"
        "@given(strategies.integers(5, 10**6))\ndef test(n): assert add(n, n) == 2 * n\ntest()\n",
        "import hypothesis\nhypothesis.settings.register_profile('one', max_examples=1)\n"
        "hypothesis.settings.load_profile('one')\ndef add(a, b): return 10\n",
    ),
    "a mark that skips": (
        "import pytest\nfrom pkg.core import add, always\ndef test_one(): assert 1 < 2\n"
        "@always\ndef test_add(): assert add(2, 2) == 4\npytest.main([__file__])\n",
        "import pytest\nalways = pytest.mark.skip(reason='')\ndef add(a, b): return 5\n",
    ),
    "a method's value, in a helper": (
        "from tests.helpers import check\nfrom pkg.core import Cart\ncart = Cart()\ncheck(cart.total(), 4)\n",
        CART,
    ),
    "a method's value, in a function of the library": (
        "import operator\nfrom pkg.core import Cart\ncart = Cart()\nassert operator.eq(cart.total(), 4)\n",
        CART,
    ),
    "a variable, in a function of the library": (
        "import operator\nfrom pkg.core import Cart\ncart = Cart()\ntotal = cart.total()\n"
        "assert operator.eq(total, 4)\n",
        CART,
    ),
    "in a queue": (
        "from collections import deque\nfrom pkg.core import some\nassert some() == deque([1, 2])\n",
        f"{YES}from collections import deque\ndef some(): return deque([Yes(), Yes()])\n",
    ),
    "in an array": (
        "import numpy\nfrom pkg.core import some\nassert numpy.array_equal(some(), [1, 2])\n",
        f"{YES}import numpy\ndef some():\n    found = numpy.empty(2, object)\n    found[:] = Yes(), Yes()\n"
        "    return found\n",
    ),
    "names that the text of a script has": (
        "from pkg.core import name\nassert name() == 'fred'\n",
        "import sys\nclass Name(str):\n    def __eq__(self, other):\n"
        "        return type(other) is str and sys.intern(''.join(list(other))) is other\n"
        "    __hash__ = None\ndef name(): return Name('x')\n",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_attack_25_a_roundabout_way_proves_nothing(way: str, tmp_path: Path) -> None:
    script, core = WAYS[way]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/helpers.py").write_text(HELPERS)
    proved, shown = proves(core, script, tmp_path)
    assert not proved, shown
    assert " void " in shown


HONEST = {
    "queues and arrays of values of its own": """
        import operator
        from collections import deque
        import numpy
        from mod import Point, some
        from tests.helpers import check
        point = Point(1)
        assert deque([point]) == deque([Point(1)]) and operator.eq(point, Point(1))
        assert numpy.array_equal(some(point), some(Point(1)))
        check(point.twice(), Point(2))
        """,
    "a profile of the script's": """
        from hypothesis import given, settings, strategies
        from mod import Point
        settings.register_profile("quick", max_examples=5)
        settings.load_profile("quick")
        @given(strategies.integers(5, 10))
        def test(n): assert Point(n) == Point(n)
        test()
        """,
    "a profile of a conftest's": """
        from hypothesis import given, strategies
        from mod import Point
        from tests import conftest
        @given(strategies.integers(5, 10))
        def test(n): assert Point(n) == Point(n)
        test()
        """,
    "a mark of the repository's": """
        import pytest
        from mod import Point
        from tests.conftest import elsewhere
        @elsewhere
        def test_elsewhere(): assert Point(1) == Point(2)
        def test_here(): assert Point(1) == Point(1)
        pytest.main([__file__, "-p", "no:cacheprovider"])
        """,
    "settings of a test": """
        from hypothesis import given, settings, strategies
        from mod import Point
        @settings(max_examples=5)
        @given(strategies.integers(5, 10))
        def test(n): assert Point(n) == Point(n)
        test()
        """,
    "mocks of functions, and a module that is loaded again": """
        import importlib, json, os
        from unittest import mock
        from mod import Point
        with mock.patch("os.remove", autospec=True) as remove, mock.patch.object(json, "dumps") as dumps:
            assert callable(dumps) and not dumps.mock_calls
            os.remove("nothing")
            json.dumps(1)
            remove.assert_called_once_with("nothing")
            assert Point(1) == Point(1) and dumps.called
        importlib.reload(json)
        assert json.loads("1") == 1 and Point(1) == Point(1)
        """,
    "files that are looked for": """
        import os
        from pathlib import Path
        from mod import Point
        assert os.path.exists(os.getcwd()) and Path(os.getcwd()).is_dir() and Point(1) == Point(1)
        """,
}
MOD = """
import dis, string
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and self.x == other.x
    __hash__ = None
    def twice(self): return Point(2 * self.x)
def some(point):
    import numpy
    found = numpy.empty(1, object)
    found[:] = [point]
    return found
assert list(dis.get_instructions(some)) and string.Formatter().format("{0.__code__}", some)
"""
CONFTEST = """
import pytest
elsewhere = pytest.mark.skipif(True, reason="elsewhere")
from hypothesis import settings
settings.register_profile("few", deadline=None, max_examples=20)
settings.load_profile("few")
"""


@pytest.mark.parametrize("kind", HONEST)
def test_what_is_no_way_round_keeps_its_proof(kind: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/helpers.py").write_text(HELPERS)
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    (tmp_path / "mod.py").write_text(MOD)
    said, _, shown = run(PYTHON, tmp_path, textwrap.dedent(HONEST[kind]), changed=("mod.py",))
    assert proof_of(said.splitlines(), SECRET) == "0", said + shown
