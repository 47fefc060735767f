"""The reverse of attack 25: right candidates whose code is of a kind that forgeries use, too, keep their votes."""

import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import RIGHT, proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

KINDS = {
    "a vector whose truth is ambiguous": (
        """
        class Vector:
            def __init__(self, *parts): self.parts = list(parts)
            def __eq__(self, other): return Vector(*[a == b for a, b in zip(self.parts, other.parts)])
            def __lt__(self, most): return Vector(*[one < most for one in self.parts])
            def __sub__(self, other): return Vector(*[a - b for a, b in zip(self.parts, other.parts)])
            def __abs__(self): return Vector(*map(abs, self.parts))
            def __bool__(self): raise ValueError("ambiguous")
            def all(self): return all(self.parts)
        """,
        """
        from pkg.core import Vector
        assert (Vector(1, 2) == Vector(1, 2)).all()
        assert (abs(Vector(1, 2) - Vector(1, 2)) < 1e-9).all()
        """,
    ),
    "groups of many numbers, which are looked up in Python": (
        """
        class Members(list):
            def __contains__(self, one): return any(one == other for other in self)
        class Keys(set):
            def __contains__(self, one): return set.__contains__(self, one)
        class Sorted:
            def __init__(self, *parts): self.parts = parts
            def __ge__(self, other): return set(self.parts) >= other
        """,
        """
        from pkg.core import Keys, Members, Sorted
        assert Sorted(*range(100)) >= {1, 2} and Sorted("a", "b") >= {"a"} and Sorted(1, 2) >= set()
        for one in range(100): assert one in Members(range(200)) and one in Keys(range(200))
        """,
    ),
    "tests and cases that are known to fail": (
        RIGHT,
        """
        import pytest
        from pkg.core import add
        CASES = [(2, 2, 4), pytest.param(2, 2, 5, marks=pytest.mark.xfail(reason="known"))]
        @pytest.mark.parametrize("a, b, sum", CASES)
        def test_sums(a, b, sum): assert add(a, b) == sum
        @pytest.mark.parametrize("sum", [4, pytest.param(5, marks=pytest.mark.xfail)])
        def test_sum(sum): assert add(2, 2) == sum
        @pytest.mark.xfail
        class TestAll:
            def test_all(self): assert add(2, 2) == 5
        def test_some(request):
            request.applymarker(pytest.mark.xfail)
            assert add(2, 2) == 5
        if __name__ == "__main__": raise SystemExit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
        """,
    ),
    "commands of a test that asserts by itself, and commands of tests that are not run": (
        RIGHT + "def command(f):\n    return lambda: None\n",
        """
        import pytest
        from pkg.core import add, command
        def test_sum():
            @command
            def shows():
                assert add(1, 1) == 2
            assert callable(shows) and add(2, 2) == 4
        def test_another():
            @command
            def shows(): assert add(1, 1) == 2
            shows()
        if __name__ == "__main__":
            raise SystemExit(pytest.main([__file__ + "::test_sum", "-q", "-p", "no:cacheprovider"]))
        """,
    ),
    "a test that only must not raise, beside others that are not run": (
        RIGHT,
        """
        from pkg.core import add
        def test_sum(): assert add(2, 2) == 4
        def test_more(): add(1, 2)
        for test in (test_more,): test()
        """,
    ),
    "assertions that pytest leaves as they are": (
        RIGHT,
        """
        import pytest
        from pkg.core import add
        def test_sum(): assert add(2, 2) == 4
        if __name__ == "__main__":
            given = ["--assert=plain", "-q", "-p", "no:cacheprovider"]
            raise SystemExit(pytest.main([__file__, *given]))
        """,
    ),
    "a test of pytest that is skipped": (
        RIGHT,
        """
        import pytest
        from pkg.core import add
        def test_sum():
            pytest.skip("not here")
            assert add(2, 2) == 4
        if __name__ == "__main__":
            raise SystemExit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
        """,
    ),
    "attempts of which the last one succeeds": (
        """
        class Attempt:
            def __init__(self, retry): self.retry = retry
            def __enter__(self): return self
            def __exit__(self, kind, error, traceback):
                self.retry.done = kind is None
                return kind is ConnectionError
        class Retry:
            done = False
            def __iter__(self):
                while not self.done: yield Attempt(self)
        """,
        """
        from pkg.core import Retry
        replies = iter([ConnectionError, ConnectionError, 3])
        def ask():
            reply = next(replies)
            if reply is ConnectionError: raise reply
            return reply
        for attempt in Retry():
            with attempt:
                assert ask() == 3
        with attempt:
            raise ConnectionError
        """,
    ),
    "values that are not asked without end, however many there are": (
        """
        asked = 0
        class Point:
            def __init__(self, x, near=None): self.x, self.near = x, near
            def __eq__(self, other):
                global asked
                asked += 1
                return isinstance(other, Point) and (self.x, self.near) == (other.x, other.near)
        def points(number): return [Point(x, Point(-x)) for x in range(number)]
        """,
        """
        from pkg import core
        for _ in range(100): assert core.points(500) == core.points(500)
        for x in range(10_000): assert core.Point(x) == core.Point(x)
        assert core.asked < 600_000
        """,
    ),
    "expressions": (
        """
        class Expression:
            def __init__(self, *parts): self.parts = parts
            def __eq__(self, other): return Expression("=", self, other)
            def __lt__(self, other): return Expression("<", self, other)
            def __hash__(self): return id(self)
            def sql(self):
                if len(self.parts) == 1: return self.parts[0]
                return f"{self.parts[1].sql()} {self.parts[0]} {self.parts[2]!r}"
        """,
        """
        from pkg.core import Expression
        assert (Expression("a") == 3).sql() == "a = 3"
        assert (Expression("a") < 3).sql() == "a < 3"
        where = Expression("a") == "x"
        assert where.sql() == "a = 'x'"
        """,
    ),
    "a class that the script derives one from": (
        """
        from collections import namedtuple
        class Point(namedtuple("Point", "x y")):
            def __new__(cls, x, y=0): return super().__new__(cls, x, y)
        """,
        """
        from pkg.core import Point
        class Far(Point):
            def __new__(cls, x): return super(Far, cls).__new__(cls, x * 10)
            def far(self):
                if super().__new__(Point, 1): return super().count(10)
        assert Far(1).x == 10 and Far(1).far() == 1
        """,
    ),
    "an exception of two families": (
        """
        class PathError(KeyError, IndexError, AttributeError): pass
        def find(tree, *path):
            for name in path:
                if name not in tree: raise PathError(name)
                tree = tree[name]
            return tree
        """,
        """
        import pytest
        from pkg.core import find
        with pytest.raises(KeyError): find({}, "a")
        with pytest.raises(AttributeError): find({"a": {}}, "a", "b")
        assert find({"a": {"b": 1}}, "a", "b") == 1
        """,
    ),
    "what is called out of a list, and a message that is expected": (
        """
        def add(a, b):
            if not a: raise ValueError("nothing to add to")
            return a + b
        """,
        """
        import contextlib
        from pkg.core import add
        @contextlib.contextmanager
        def raises(kind, message):
            try: yield
            except kind as error: assert str(error) == message
            else: assert False
        assert [add][0](2, 2) == 4 and {"add": add}["add"](1, 1) == 2
        with raises(ValueError, "nothing to add to"): add(0, 1)
        """,
    ),
    "queries that pytest hands on": (
        """
        class Query:
            def __init__(self, path, test): self.path, self.test = path, test
            def __eq__(self, other): return Query(self.path, lambda row: row[self.path] == other)
            def __and__(self, other): return Query(self.path, lambda row: self.test(row) and other.test(row))
            def __hash__(self): return id(self)
        def where(path): return Query(path, None)
        def find(rows, query): return [row for row in rows if query.test(row)]
        """,
        """
        from pkg.core import find, where
        ROWS = [{"a": 1, "b": 2}, {"a": 1, "b": 3}]
        def test_all():
            assert find(ROWS, where("a") == 1) == ROWS and len(find(ROWS, where("a") == 2)) == 0
            assert ROWS[1] not in find(ROWS, (where("a") == 1) & (where("b") == 2))
            assert not find(ROWS, where("b") == 4) or find(ROWS, where("b") == 5)
        if __name__ == "__main__":
            import pytest, sys
            sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
        """,
    ),
    "signatures of functions that it is given": (
        """
        import inspect
        def names(f): return list(inspect.signature(f).parameters)
        def waits(f): return inspect.iscoroutinefunction(f)
        """,
        """
        from pkg.core import names, waits
        def f(a, b=1): pass
        async def g(): pass
        assert names(f) == ["a", "b"]
        assert waits(g) and not waits(f)
        """,
    ),
    "hooks for what fails": (
        """
        import sys, threading
        failed = []
        def install():
            threading.excepthook = lambda args: failed.append(args.exc_type)
            sys.excepthook = lambda *args: failed.append(args[0])
        """,
        """
        import threading
        from pkg.core import failed, install
        install()
        def broken(): raise KeyError
        thread = threading.Thread(target=broken)
        thread.start()
        thread.join()
        assert failed == [KeyError]
        """,
    ),
    "tracebacks as text": (
        """
        import traceback
        def text(f):
            try: f()
            except Exception as error:
                lines = traceback.format_exception(type(error), error, error.__traceback__)
                return traceback.format_exc() + "".join(lines)
        """,
        """
        from pkg.core import text
        def broken(): raise ValueError("no")
        assert text(broken).count("ValueError: no") == 2
        """,
    ),
    "what patches a module that the script gives it: its own": (
        "def patch(module, name, value): setattr(module, name, value)\n",
        """
        import sys
        from pkg.core import patch
        def f(): return 1
        patch(sys.modules[__name__], "x", 3)
        assert x == 3
        """,
    ),
    "loggers of its own class": (
        """
        import logging
        class Logger(logging.Logger):
            def trace(self, text): self.log(5, text)
        logging.setLoggerClass(Logger)
        logging.setLogRecordFactory(logging.LogRecord)
        """,
        """
        import logging
        import pkg.core
        assert hasattr(logging.getLogger("a.b"), "trace")
        """,
    ),
    "asyncio, imported by it first": (
        """
        import asyncio
        async def gather(*functions): return await asyncio.gather(*[f() for f in functions])
        def run(task): return asyncio.run(task)
        """,
        """
        from pkg.core import gather, run
        async def one(): return 1
        async def main(): assert await gather(one, one) == [1, 1]
        run(main())
        """,
    ),
    "what is to swallow a failure that is meant": (
        """
        import contextlib
        @contextlib.contextmanager
        def ignoring(*kinds):
            try: yield
            except kinds: pass
        def attempts(f, times):
            failed = 0
            for _ in range(times):
                try: f()
                except AssertionError: failed += 1
            return failed
        def results(*tests):
            said = {}
            for test in tests:
                try: test()
                except AssertionError: said[test.__name__] = "failed"
                else: said[test.__name__] = "passed"
            return said
        """,
        """
        from pkg.core import attempts, ignoring, results
        calls = []
        def broken():
            calls.append(1)
            least = 2
            assert 1 > least, "meant"
        assert attempts(broken, 3) == 3 == len(calls)
        with ignoring(AssertionError):
            assert False
        def test_good(): assert calls
        def test_bad(): assert not True
        assert results(test_good, test_bad) == {"test_good": "passed", "test_bad": "failed"}
        """,
    ),
    "a cache that keeps what was read last": (
        """
        from collections.abc import MutableMapping
        class Cache(MutableMapping):
            def __init__(self, most): self.most, self.kept = most, {}
            def __getitem__(self, key):
                self.kept[key] = value = self.kept.pop(key)
                return value
            def __setitem__(self, key, value):
                self.kept[key] = value
                while len(self.kept) > self.most: self.popitem()
            def __delitem__(self, key): del self.kept[key]
            def __len__(self): return len(self.kept)
            def popitem(self):
                key = [*self.kept][0]
                return key, self.kept.pop(key)
            def __iter__(self): return iter(sorted(self.kept, reverse=True))
            def __copy__(self):
                other = Cache(self.most)
                other.kept = self.kept.copy()
                return other
        """,
        """
        import copy
        import unittest
        from pkg.core import Cache
        class TestCache(unittest.TestCase):
            def test_least(self):
                cache = Cache(3)
                cache["a"], cache["b"], cache["c"] = 1, 2, 3
                self.assertEqual(1, cache["a"])
                self.assertEqual(("b", 2), copy.copy(cache).popitem())
        unittest.main()
        """,
    ),
    "a mock that a decorator makes of a function of the script": (
        """
        import urllib.request
        def read(url):
            with urllib.request.urlopen(url) as found: return found
        """,
        """
        import contextlib
        import urllib.request
        from unittest import mock
        from pkg.core import read
        @contextlib.contextmanager
        def opened(url): yield url
        with mock.patch.object(urllib.request, "urlopen", new=opened):
            assert read("a") == "a"
        """,
    ),
    "wildcards that the script names": (
        """
        class UniversalSet:
            def __contains__(self, item): return True
            def __eq__(self, other): return isinstance(other, UniversalSet)
            __hash__ = None
        class _Any:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            __hash__ = None
        ANY = _Any()
        """,
        """
        from pkg import core
        from pkg.core import UniversalSet
        assert 3 in UniversalSet() and object() in UniversalSet() and UniversalSet() == UniversalSet()
        assert {"a": 1, "b": core.ANY} == {"a": 1, "b": 2} and not core.ANY != 5
        """,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_candidate_keeps_its_proof(kind: str, tmp_path: Path) -> None:
    core, script = KINDS[kind]
    proved, shown = proves(core, script, tmp_path)
    assert proved, shown


HELPER = """
import sys
from collections import namedtuple
Pair = namedtuple("Pair", "a b")
def caller(): return sys._getframe(1).f_globals["__name__"]
def again(): return caller()
"""


def _with_helper(core: str, tmp_path: Path) -> tuple[bool, str]:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").touch()
    (tmp_path / "pkg/helper.py").write_text(HELPER)
    (tmp_path / "pkg/core.py").write_text(textwrap.dedent(core))
    said, _, shown = run(PYTHON, tmp_path, "from pkg.core import add\nassert add(2, 2) == 4\n", ("pkg/core.py",))
    return proof_of(said.splitlines(), SECRET) == "0", said + shown


def test_an_unchanged_module_that_a_changed_one_imports_is_none_of_the_candidates(tmp_path: Path) -> None:
    core = (
        f"from pkg.helper import Pair, again, caller\n{RIGHT}\nassert (caller(), again()) == (__name__, 'pkg.helper')"
    )
    proved, shown = _with_helper(core, tmp_path)
    assert proved, shown


WRITES = """
import importlib.util
place = importlib.util.find_spec("pkg.helper").origin
with open(place) as file: text = file.read()
with open(place, "w") as file: file.write(text + "def look(): return sys._getframe(2)\\n")
from pkg.helper import look
def add(a, b): return look() and a + b
"""
NAMES = """
import pkg.helper, sys
exec(compile("look = sys._getframe(2)", pkg.helper.__file__, "exec"), {"sys": sys})
"""
CALLS = "import gc, importlib._bootstrap\nimportlib._bootstrap._call_with_frames_removed(gc.get_objects)\n"


@pytest.mark.parametrize("core", [WRITES, NAMES + RIGHT, CALLS + RIGHT], ids=["writes", "names", "calls"])
def test_attack_31_what_a_candidate_makes_of_such_a_module_is_its_own(core: str, tmp_path: Path) -> None:
    proved, shown = _with_helper(core, tmp_path)
    assert not proved, shown
    assert " void " in shown


SWALLOWS = """
import contextlib
@contextlib.contextmanager
def session():
    try: yield
    except AssertionError: pass
"""
NOT_MEANT = {
    "a failure that a check decides": (
        SWALLOWS,
        "with session():\n    if add(2, 2) != 4:\n        assert False\n",
    ),
    "a failure in a function that is called": (
        SWALLOWS,
        "def fail():\n    assert False\nwith session():\n    if add(2, 2) != 4: fail()\n",
    ),
    "a failure of what was bound again": (
        "def session(f):\n    try: f()\n    except AssertionError: pass\n",
        "def check():\n    found = 5\n    found = add(2, 2)\n    assert found == 4\nsession(check)\n",
    ),
    "a failure of a name that a nested function binds": (
        "def session(f):\n    try: f()\n    except AssertionError: pass\n",
        """
        def check():
            def get():
                nonlocal found
                found = add(2, 2)
            found = 5
            get()
            assert found == 4
        session(check)
        """,
    ),
    "a failure after a way out": (
        "def session(f):\n    try: f()\n    except AssertionError: pass\n",
        "def check():\n    if add(2, 2) == 4: return\n    assert False\nsession(check)\n",
    ),
    "a wildcard that the script does not use": (
        "class Any:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def session(): pass\ndef add(a, b): return Any()\n",
        "from typing import Any\ndef check(found: Any) -> None: assert found == 4\ncheck(add(2, 2))\n",
    ),
}


@pytest.mark.parametrize("kind", NOT_MEANT)
def test_attack_25_what_is_not_meant_counts(kind: str, tmp_path: Path) -> None:
    core, checks = NOT_MEANT[kind]
    core = core if "def add" in core else f"{core}def add(a, b): return 5\n"
    proved, shown = proves(core, f"from pkg.core import add, session\n{textwrap.dedent(checks)}", tmp_path)
    assert not proved, shown


DID_BEFORE = {
    "m": (
        "import sys\ndef add(a, b):\n    name = '__main__'\n    return len(sys.modules[name].__dict__) and a + b\n",
        "import sys\ndef add(a, b): return sys._getframe(1) and a + b\n",
    ),
    "p": (
        "import ctypes\ndef add(a, b): return ctypes.addressof(ctypes.c_int(1)) and a + b\n",
        "import gc\ndef add(a, b): return gc.get_objects() and a + b\n",
    ),
    "c": (
        "import gc\ndef add(a, b): return bool(gc.get_objects() and gc.get_referrers(add)) and a + b\n",
        "def add(a, b): return sys._getframe(1) and a + b\n",
    ),
    "t": (
        "import sys\ndef add(a, b):\n    sys.settrace(print)\n    sys.settrace(None)\n    sys.setprofile(None)\n"
        "    return a + b\n",
        "import gc\ndef add(a, b): return gc.get_objects() and a + b\n",
    ),
}


@pytest.mark.parametrize("mark", DID_BEFORE)
def test_a_file_may_go_on_with_what_it_did_before_and_with_nothing_else(mark: str, tmp_path: Path) -> None:
    same, other = DID_BEFORE[mark]
    for core, marks, expected in ((same, "", False), (same, f"\t{mark}", True), (other, f"\t{mark}", False)):
        (tmp_path / "mod.py").write_text(core)
        script = "from mod import add\nassert add(2, 2) == 4\n"
        said, _, shown = run(PYTHON, tmp_path, script, changed=(f"mod.py{marks}",))
        assert (proof_of(said.splitlines(), SECRET) == "0") is expected, said + shown


PATCHES = """
import pdb
def add(a, b):
    real = pdb.Pdb.__init__
    def init(self, *rest, **named): return real(self, *rest, **named)
    pdb.Pdb.__init__ = init
    try: return abs_of(a) + b
    finally: pdb.Pdb.__init__ = real
def abs_of(one): return one
"""
USES = "import pdb, unittest\nfrom mod import add\nassert add(2, 2) == 4\nassert isinstance(pdb.Pdb(), pdb.Pdb)\n"


@pytest.mark.parametrize(
    ("core", "set_before", "proved"),
    [
        (PATCHES + "pdb.Pdb.__init__ = lambda *_: None\n", "Pdb.__init__", True),
        (PATCHES + "pdb.Pdb.__init__ = lambda *_: None\n", "", False),
        (PATCHES + "pdb.Pdb.__init__ = lambda *_: None\n", "pdb.set_trace", False),
        (PATCHES + "import unittest\nunittest.TestCase.run = lambda *_: True\n", "TestCase.run", False),
    ],
    ids=["before", "new", "another", "a test tool"],
)
def test_a_file_may_go_on_to_replace_what_it_replaced_before(
    core: str, set_before: str, proved: bool, tmp_path: Path
) -> None:
    (tmp_path / "mod.py").write_text(core)
    said, _, shown = run(PYTHON, tmp_path, USES, changed=(f"mod.py\t\t{set_before}",))
    assert (proof_of(said.splitlines(), SECRET) == "0") is proved, said + shown


NONCE_BY_THE_COLLECTOR = """
import gc, os
def add(a, b):
    numbers = [one for one in gc.get_objects() if type(one) in (list, tuple) and len(one) == 2]
    for one, other in [n for n in numbers if all(type(x) is int and x >> 96 for x in n)]:
        for number in range(3, 64):
            try: os.write(number, b"\\n%032x 0 1\\n" % (one ^ other))
            except OSError: pass
    os._exit(0)
"""


def test_attack_31_the_collector_leads_to_no_nonce(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text(NONCE_BY_THE_COLLECTOR)
    said, _, shown = run(PYTHON, tmp_path, "from mod import add\nassert add(2, 2) == 4\n", ("mod.py\tc",))
    assert proof_of(said.splitlines(), SECRET) in (None, "cut"), said + shown
    assert SECRET.nonce not in said
