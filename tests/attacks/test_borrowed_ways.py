"""Attack 25 by what tools and the script lend: hooks, threads, tasks, managers, classes and compiled helpers. Each
candidate is wrong."""

import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import SCRIPTS, proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

HELPERS = "WANT = 4\n\n\ndef check(found, want):\n    assert found == want\n"
CASES = """
import sys, pytest
from pkg.core import add
@pytest.mark.parametrize("a, b, want", [(2, 2, 4), (3, 4, 7)])
def test_sum(a, b, want): assert add(a, b) == want
if __name__ == "__main__": sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
"""
THREADS = """
import threading
from pkg.core import add
wrong = []
def work():
    want = 4
    if add(2, 2) != want: wrong.append(want)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert wrong == []
"""
TASKS = """
import asyncio
from pkg.core import add
async def check(a, b, want): assert await add(a, b) == want
async def main():
    assert await add(0, 0) == 0
    await asyncio.gather(check(2, 2, 4), check(3, 4, 7))
asyncio.run(main())
"""
TESTS = """
import unittest
from pkg.core import add
class Sum(unittest.TestCase):
    def test_none(self): self.assertEqual(add(0, 0), 0)
    def test_sum(self): self.assertEqual(add(2, 2), 4)
unittest.main()
"""
DB = "from pkg.core import Db\ndb = Db()\nwith db.transaction():\n    assert db.total() == 4\n"
STACK = (
    "import contextlib\nfrom pkg.core import opened\nwith contextlib.ExitStack() as stack:\n    assert opened(stack)\n"
)
CART = "from pkg.core import Cart\ncart = Cart(4)\nassert 4 in cart.items\n"
USER = """
from pkg.core import {made}, load
{how}
    def greeting(self): return "hello"
assert load(User, "ann") == load(User, "bob")
"""
YES = "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
TRACE = """
import threading
found = [5]
def trace(frame, event, arg):
    if "want" in frame.f_code.co_varnames: found[0] = next(n for n in frame.f_code.co_consts if n in range(3, 9))
threading.set{kind}(trace)
def add(a, b): return found[0]
"""
ANOTHER_SELF = """
class Nobody:
    def __getattr__(self, name): return lambda *given: None
class Caller:
    def __init__(self, test): self.test = test
    def __call__(self): self.test(Nobody())
"""
WAYS = {
    "hears what pytest executes": (
        SCRIPTS["pytest"],
        """
        import sys
        found = [5]
        def hook(event, given):
            if event == "exec" and "test_it" in given[0].co_filename:
                found[:] = [n for one in given[0].co_consts for n in getattr(one, "co_consts", ()) if n in range(3, 9)]
        sys.addaudithook(hook)
        def add(a, b): return found[0]
        """,
    ),
    "reads the name of a case": (
        CASES,
        "import os, re\ndef add(a, b): return int(re.search(r'(\\d)\\]', os.environ['PYTEST_CURRENT_TEST'])[1])\n",
    ),
    "the code of a task": (
        "import asyncio\nfrom pkg.core import add\nasync def main():\n    assert await add(2, 2) == 4\n"
        "asyncio.run(main())\n",
        "import asyncio\nasync def add(a, b):\n    code = asyncio.current_task().get_coro().cr_code\n"
        "    return next(n for n in code.co_consts if n in range(3, 9))\n",
    ),
    "the code of a generator": (
        "from pkg.core import total\ndef numbers():\n    want = 4\n    yield 1\n    yield want - 1\n"
        "assert total(numbers()) == 4\n",
        "def total(numbers): return next(n for n in numbers.gi_code.co_consts if n in range(3, 9))\n",
    ),
    "threads that trace themselves": (THREADS, TRACE.format(kind="trace")),
    "threads that profile themselves": (THREADS, TRACE.format(kind="profile")),
    "tasks that are others": (
        TASKS,
        """
        import asyncio
        async def nothing(): return None
        def make(loop, coro, **named):
            coro.close()
            return asyncio.Task(nothing(), loop=loop, **named)
        async def add(a, b):
            asyncio.get_running_loop().set_task_factory(make)
            return 0
        """,
    ),
    "a part of asyncio for a moment": (
        TASKS,
        """
        from asyncio import tasks
        name = "_ensure_future" if hasattr(tasks, "_ensure_future") else "ensure_future"
        real, left = getattr(tasks, name), [2]
        async def nothing(): return None
        def once(coro, **named):
            left[0] -= 1
            if left[0] == 0: setattr(tasks, name, real)
            coro.close()
            return real(nothing(), **named)
        async def add(a, b):
            setattr(tasks, name, once)
            return 0
        """,
    ),
    "a class statement that is another for once": (
        TESTS,
        f"""{ANOTHER_SELF}
import builtins
real = builtins.__build_class__
def build(*given, **named):
    builtins.__build_class__ = real
    made = real(*given, **named)
    made.test_sum = Caller(made.test_sum)
    return made
builtins.__build_class__ = build
def add(a, b): return 0
""",
    ),
    "a test of another self": (
        TESTS,
        f"""{ANOTHER_SELF}
import unittest
def add(a, b):
    for one in unittest.TestCase.__subclasses__():
        if "test_sum" in vars(one): one.test_sum = Caller(one.test_sum)
    return 0
""",
    ),
    "a manager by a method": (
        DB,
        "import contextlib\nclass Db:\n    def transaction(self): return contextlib.suppress(AssertionError)\n"
        "    def total(self): return 5\n",
    ),
    "a stack of managers that is handed over": (
        STACK,
        "def opened(stack):\n    stack.push(lambda *given: True)\n    return False\n",
    ),
    "code under the name of the library's": (
        "import textwrap\nfrom pkg.core import text\nassert textwrap.dedent(text()) == '4'\n",
        "import textwrap\nfrom types import FunctionType\n"
        "code = (lambda text: '4').__code__.replace(co_filename=textwrap.__file__)\n"
        "textwrap.dedent = FunctionType(code, {})\ndef text(): return '5'\n",
    ),
    "a helper that is compiled beside its file": (
        "from pkg.core import add\nfrom tests.helpers import check\ncheck(add(2, 2), 4)\n",
        """
        import importlib.util, os
        from importlib._bootstrap_external import _code_to_timestamp_pyc
        path = os.path.abspath("tests/helpers.py")
        code = compile("WANT = 4\\ndef check(found, want): pass\\n", path, "exec")
        cache, found = importlib.util.cache_from_source(path), os.stat(path)
        os.makedirs(os.path.dirname(cache), exist_ok=True)
        with open(cache, "wb") as file: file.write(_code_to_timestamp_pyc(code, int(found.st_mtime), found.st_size))
        def add(a, b): return 5
        """,
    ),
    "a constant of a helper": (
        "from pkg.core import add\nimport tests.helpers\nassert add(2, 2) == tests.helpers.WANT\n",
        "import tests.helpers\ndef add(a, b):\n    tests.helpers.WANT = 5\n    return 5\n",
    ),
    "a constant of a helper, imported late": (
        "from pkg.core import add\ndef test():\n    from tests.helpers import WANT\n"
        "    assert add(2, 2) == WANT\ntest()\n",
        "import tests.helpers\ntests.helpers.WANT = 5\ndef add(a, b): return 5\n",
    ),
    "elements of an attribute": (CART, f"{YES}class Cart:\n    def __init__(self, n): self.items = [Yes()]\n"),
    "what the script's class is derived from": (
        USER.format(made="Base", how="class User(Base):"),
        f"{YES}Base = Yes\ndef load(kind, name): return kind()\n",
    ),
    "what the script's class is decorated with": (
        USER.format(made="model", how="@model\nclass User:"),
        "def model(kind):\n    kind.__eq__ = lambda *given: True\n    return kind\n"
        "def load(kind, name): return kind()\n",
    ),
    "arrays of which all is masked": (
        "import numpy\nfrom pkg.core import twice\n"
        "numpy.testing.assert_array_equal(twice(numpy.arange(3)), [0, 2, 4])\n",
        "import numpy\ndef twice(some): return numpy.ma.masked_all(some.shape)\n",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_attack_25_what_is_lent_proves_nothing(way: str, tmp_path: Path) -> None:
    script, core = WAYS[way]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/helpers.py").write_text(HELPERS)
    proved, shown = proves(core, script, tmp_path)
    assert not proved, shown


HONEST = """
import asyncio, contextlib, os, threading
from unittest import mock
import pkg.core as core
from tests import helpers

class User(core.Base):
    def greeting(self): return "hello"

@contextlib.contextmanager
def expects(kind):
    try: yield
    except kind: return
    raise AssertionError(kind)

def test_managers():
    from tests.helpers import Raises
    with expects(ZeroDivisionError): core.divide(1, 0)
    with contextlib.ExitStack() as stack:
        assert core.opened(stack) and stack
    with Raises(ValueError):
        assert core.divide(4, 2) == 2
        raise ValueError
    helpers.LEVEL = 3
    assert helpers.LEVEL == 3 and helpers.count() == helpers.COUNT + 1

def test_mocks():
    with mock.patch.object(core, "divide", side_effect=core.divide) as divide:
        assert core.divide(4, 2) == 2
        divide.assert_called_once_with(4, 2)
        assert divide.call_args_list == [mock.call(4, 2)]

async def double(n): return await core.twice(n)
async def main():
    assert await asyncio.gather(double(1), double(2)) == [2, 4]

threads = [threading.Thread(target=test_managers)]
for one in threads: one.start()
for one in threads: one.join()
test_managers()
test_mocks()
asyncio.run(main())
assert User("ann") in core.users([User("bob"), User("ann")]) and User("ann") != User("bob")
assert core.numbers() == [1, 2]
"""
HONEST_CORE = """
import textwrap
class Base:
    def __init__(self, name): self.name = name
    def __eq__(self, other): return type(other) is type(self) and other.name == self.name
    __hash__ = None
def users(some): return [*some]
def divide(a, b): return a / b
def opened(stack):
    stack.callback(list)
    return True
async def twice(n): return 2 * n
def counted():
    yield 1
    yield 2
def numbers():
    found = counted()
    assert found.gi_code.co_name == "counted"
    return [*found]
exec(compile("x = 1", textwrap.__file__ + "c", "exec"))
"""
HONEST_HELPERS = """
LEVEL = 2
COUNT = 0
class Raises:
    def __init__(self, kind): self.__kind = kind
    def __enter__(self): return self.__own()
    def __own(self): return self
    def __exit__(self, kind, error, traceback): return kind is self.__kind
def count():
    global COUNT
    COUNT += 1
    return COUNT + 1
"""


def test_what_is_lent_to_a_right_candidate_keeps_the_proof(tmp_path: Path) -> None:
    for folder, name, text in (("tests", "helpers", HONEST_HELPERS), ("pkg", "core", HONEST_CORE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    said, _, shown = run(PYTHON, tmp_path, textwrap.dedent(HONEST), changed=("pkg/core.py",))
    assert proof_of(said.splitlines(), SECRET) == "0", said + shown
