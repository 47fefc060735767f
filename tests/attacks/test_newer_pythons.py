"""Attacks 25 and 31 by what newer Pythons brought: each candidate is wrong, or looks at what it is to return.

Those of each way that the job's Python has (`JOBS_PYTHON`, or ours).
"""

import subprocess
import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

_ASKED = [PYTHON, "-c", "import sys; print(sys.version_info.minor)"]
MINOR = int(subprocess.run(_ASKED, capture_output=True, check=True).stdout)

ONCE = """
from pkg.core import add
def check():
    want = 4000
    assert add(2000, 2000) == want
check()
"""
OFTEN = """
from pkg.core import add
def check(a, want):
    assert add(a, a) == want
check(0, 0)
check(2000, 4000)
check(3000, 6000)
"""
TASK = """
import asyncio
from pkg.core import add
async def check(a, want): assert await add(a, a) == want
asyncio.run(check(2000, 4000))
"""
CASE = """
import unittest
from pkg.core import add, Kind
class Case(unittest.TestCase):
    def test_it(self): self.{0}
unittest.main()
"""
PYTEST = """
import sys, pytest
from pkg.core import add
add(0, 0)
def test_it(): assert add(2000, 2000) == 4000
if __name__ == "__main__": sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
"""
OUTWARD = """
def outward(frame):
    while "want" not in frame.f_locals: frame = frame.f_back
    return frame.f_locals["want"]
"""
YES = "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
# A method that is C, and which the script's own line calls: no frame of the candidate's is there.
BY_C = """
import functools, os, sys
found = [0]
def trace(frame, event, arg):
    while frame is not None:
        found[0] = frame.f_locals.get("want", found[0])
        frame = frame.f_back
def start(code, offset): found[0] = code
def hook(event, given): found[0] = given
class Last(int): __del__ = staticmethod(functools.partial({0}))
def add(a, b): return Last(0) if a == 0 else {1}
"""
SENT = """
import os, sys
path = os.path.abspath("sent")
with open(path, "w") as file:
    file.write("import sys\\nsys.modules['pkg.core'].trace(sys._getframe(1), '', None)\\n")
"""
WAYS = {  # by the first minor version that has it
    "a C method that traces": (8, OFTEN, BY_C.format("sys.settrace, trace", "found[0]")),
    "a C method that profiles": (8, OFTEN, BY_C.format("sys.setprofile, trace", "found[0]")),
    "a C method that hears all": (8, PYTEST, BY_C.format("sys.addaudithook, hook", "a + b")),
    "a C method that traces all threads": (12, OFTEN, BY_C.format("sys._settraceallthreads, trace", "found[0]")),
    "a C method that monitors": (
        12,
        OFTEN,
        f"import sys\nsys.monitoring.use_tool_id(3, '')\n"
        f"{BY_C.format('sys.monitoring.register_callback, 3, sys.monitoring.events.PY_START, start', 'a + b')}",
    ),
    "a C method that sends code": (14, OFTEN, f"{SENT}{BY_C.format('sys.remote_exec, os.getpid(), path', 'a + b')}"),
    "tracing of all threads": (
        12,
        OFTEN,
        "import threading\nthreading.settrace_all_threads(print)\nadd = int.__add__\n",
    ),
    "monitoring by a profiler": (8, OFTEN, "import cProfile\ncProfile.Profile().enable()\nadd = int.__add__\n"),
    "code sent to itself": (
        14,
        ONCE,
        f"found = [0]\n{SENT}\ndef trace(frame, event, arg): found[0] = frame\n"
        "def add(a, b):\n    sys.remote_exec(os.getpid(), path)\n    while found[0] == 0: pass\n    return a + b\n",
    ),
    "an interpreter, and its end": (
        13,
        ONCE,
        "import _interpreters, sys\n_interpreters.destroy(_interpreters.create())\ndel sys.modules['_interpreters']\n"
        "def add(a, b): return a + b\n",
    ),
    "an interpreter of a pool": (
        14,
        ONCE,
        "from concurrent.futures import InterpreterPoolExecutor\nwith InterpreterPoolExecutor(1) as pool:\n"
        "    pool.submit(len, '').result()\ndef add(a, b): return a + b\n",
    ),
    "the graph of calls": (
        14,
        TASK,
        f"import asyncio\n{OUTWARD}\nasync def add(a, b):\n"
        "    return outward(asyncio.capture_call_graph().call_stack[0].frame)\n",
    ),
    "the frame that a debugger keeps": (
        8,
        ONCE,
        f"import bdb\n{OUTWARD}\nclass Debugger(bdb.Bdb):\n    def set_step(self): raise ValueError\n"
        "    set_stepinstr = set_step\ndef add(a, b):\n    debugger = Debugger()\n    try: debugger.set_trace()\n"
        "    except ValueError: return outward(debugger.botframe)\n",
    ),
    "a frame by a wrapper": (
        8,
        "from pkg.core import total\ndef numbers():\n    want = 4000\n    yield 1\n    yield want - 1\n"
        "assert total(numbers()) == 4000\n",
        "import types\ndef total(numbers):\n    next(numbers)\n"
        "    return types._GeneratorWrapper(numbers).gi_frame.f_locals['want']\n",
    ),
    "a text that begins with everything": (
        14,
        CASE.format("assertStartsWith(add(2, 2), '4')"),
        "class Kind(str):\n    def startswith(self, *given): return True\ndef add(a, b): return Kind('5')\n",
    ),
    "a text that ends with everything": (
        14,
        CASE.format("assertEndsWith(add(2, 2), '4')"),
        "class Kind(str):\n    def endswith(self, *given): return True\ndef add(a, b): return Kind('5')\n",
    ),
    "a kind of all kinds": (
        14,
        CASE.format("assertIsSubclass(type(add(2, 2)), Kind)"),
        "class Every(type):\n    def __subclasscheck__(self, other): return True\nclass Kind(metaclass=Every): pass\n"
        "def add(a, b): return 5\n",
    ),
    "a part of a test that is skipped": (
        8,
        "import unittest\nfrom pkg.core import add\nclass Case(unittest.TestCase):\n    def test_it(self):\n"
        "        for n in (1, 2):\n            with self.subTest(n=n): self.assertEqual(add(n, n), 2 * n)\n"
        "unittest.main()\n",
        "import unittest\ndef add(a, b): raise unittest.SkipTest\n",
    ),
    "a group of what is of many kinds": (
        11,
        "from pkg.core import add\nheld = []\ntry: add(2, 2)\nexcept* ValueError: held.append(1)\nassert held\n",
        "class Many(ValueError, KeyError, OSError): pass\ndef add(a, b): raise ExceptionGroup('', [Many()])\n",
    ),
    "elements of a dictionary that does not change": (
        15,
        "from pkg.core import add\nassert add(2, 2) == {'a': 4}\n",
        f"{YES}def add(a, b): return frozendict(a=Yes())\n",
    ),
    "imports that are put off": (
        15,
        "from pkg.core import add\nimport math\nfound = add(2, 2)\nassert math.isclose(found, 4)\n",
        "import sys, types\nsys.set_lazy_imports('all')\nfake = types.ModuleType('math')\n"
        "fake.isclose = lambda *given: True\ndef add(a, b):\n    sys.modules['math'] = fake\n    return 5\n",
    ),
}


@pytest.mark.parametrize("way", [way for way, (since, _, _) in WAYS.items() if since <= MINOR])
def test_attack_25_what_newer_pythons_brought_proves_nothing(way: str, tmp_path: Path) -> None:
    _, script, core = WAYS[way]
    proved, shown = proves(core, script, tmp_path)
    assert not proved, shown
    assert " void " in shown


HONEST = {
    "profilers": (
        8,
        "import cProfile, sys, trace\nprofile = cProfile.Profile()\nprofile.enable()\nassert core.add(2, 2) == 4\n"
        "profile.disable()\nsys.settrace(lambda *given: None)\nassert core.add(2, 2) == 4\nsys.settrace(None)\n"
        "trace.Trace(count=1, trace=0).runfunc(core.add, 1, 2)\n",
        "import asyncio, types\n@types.coroutine\ndef waits(): yield\n",
    ),
    "a class that the script gives to the tree, and binds again": (
        8,
        "class Point: pass\nPoint = core.made(Point)\nassert Point().far() == 4\n",
        "def made(kind):\n    kind.far = lambda self: 4\n    return kind\n",
    ),
    "groups": (
        11,
        "try: core.fails()\nexcept* ValueError as error: assert len(error.exceptions) == 1\n"
        "except* TypeError: pass\nimport pytest\n"
        "if hasattr(pytest, 'RaisesGroup'):\n    with pytest.RaisesGroup(ValueError, TypeError): core.fails()\n",
        "def fails(): raise ExceptionGroup('x', [ValueError('a'), TypeError('b')])\n",
    ),
    "the module that makes interpreters": (13, "assert core.add(2, 2) == 4\n", "import _interpreters\n"),
    "assertions": (
        14,
        "import unittest\nclass Case(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertStartsWith(core.Text('42'), ('4', '5'), 'said')\n"
        "        self.assertNotEndsWith(core.Text('42'), '4')\n        self.assertHasAttr(core, 'add')\n"
        "        self.assertIsSubclass(core.Text, (str, int))\nunittest.main()\n",
        "class Text(str): pass\n",
    ),
    "imports that are put off": (
        15,
        "lazy import math\nlazy from tests.helpers import check\ncheck(core.add(2, 2), 4)\n"
        "assert math.isclose(core.add(2, 2), 4)\nassert core.kept() == {'a': 4} == frozendict(a=4)\n",
        "lazy import json\ndef kept(): return frozendict(json.loads('{\"a\": 4}'))\n",
    ),
}


@pytest.mark.parametrize("kind", [kind for kind, (since, _, _) in HONEST.items() if since <= MINOR])
def test_what_newer_pythons_brought_keeps_the_proof(kind: str, tmp_path: Path) -> None:
    _, script, core = HONEST[kind]
    for folder, name, text in (
        ("tests", "helpers", "def check(found, want):\n    assert found == want\n"),
        ("pkg", "core", f"{core}def add(a, b): return a + b\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    said, _, shown = run(PYTHON, tmp_path, textwrap.dedent(f"import pkg.core as core\n{script}"), ("pkg/core.py",))
    assert proof_of(said.splitlines(), SECRET) == "0", said + shown
    assert "RuntimeWarning" not in shown
