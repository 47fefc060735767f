"""The reverse of attack 25: right candidates whose code is of a kind that forgeries use, too, keep their votes."""

import sys
import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import RIGHT, proves
from tests.bot.sandbox.test_runner import SECRET, run

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
    said, _, shown = run(
        sys.executable, tmp_path, "from pkg.core import add\nassert add(2, 2) == 4\n", ("pkg/core.py",)
    )
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
