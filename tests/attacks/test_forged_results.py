"""Attacks 25 and 31 on what is left when nothing can be replaced: values that agree with everything, patches that are
undone at once, counts of the tools, the script's surroundings, and the proof in the process's own memory.

`add` is wrong on every candidate. Each runs under the runner that both sandboxes start.
"""

import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

WRONG = "def add(a, b):\n    return 5\n"
RIGHT = "def add(a, b):\n    return a + b\n"
SCRIPTS = {
    "assert": """
        from pkg.core import add
        assert add(2, 2) == 4
        """,
    "function": """
        from pkg.core import add
        def check(found):
            assert found == {"sum": [4]}, found
        check({"sum": [add(2, 2)]})
        """,
    "exit": """
        import sys
        from pkg.core import add
        if add(2, 2) != 4:
            sys.exit(1)
        """,
    "bounds": """
        from pkg.core import add
        assert 3 < add(2, 2) < 5
        """,
    "membership": """
        from pkg.core import add
        assert add(2, 2) in (4, 4.0)
        """,
    "unittest": """
        import unittest
        from pkg.core import add
        class Sum(unittest.TestCase):
            def test_sum(self):
                self.assertEqual(add(2, 2), 4)
        unittest.main()
        """,
    "pytest": """
        import sys
        import pytest
        from pkg.core import add
        def test_sum():
            assert add(2, 2) == 4
        if __name__ == "__main__":
            sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
        """,
}
EQUAL = "def __eq__(self, other): return True\n    __hash__ = None"
IN_FRAMES = """
import sys
def frames():
    frame = sys._getframe(2)
    while frame:
        yield frame
        frame = frame.f_back
"""
# Words that look like a nonce are tried, as whoever finds the nonce would.
SPRAY = """
def spray(data):
    for word in set(re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", data)):
        for number in range(3, 64):
            try: os.write(number, word + b" 0\\n")
            except OSError: pass
def places():
    maps = open("/proc/self/maps").read()
    for low, high in re.findall("^([0-9a-f]+)-([0-9a-f]+) rw.* (?:[[]heap[]])?$", maps, re.M):
        yield int(low, 16), int(high, 16)
"""
CHILD = """
import os, re, sys
memory = os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)
for low, high in re.findall("^([0-9a-f]+)-([0-9a-f]+) rw", open(f"/proc/{os.getppid()}/maps").read(), re.M):
    try: data = os.pread(memory, int(high, 16) - int(low, 16), int(low, 16))
    except (OSError, OverflowError): continue
    sys.stdout.buffer.write(b" ".join(re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", data)) + b" ")
"""
EVIL_TEST = "def test_sum(): pass\\n"

# Of each: the form of the script, and the candidate.
ATTACKS: dict[str, tuple[str, str]] = {
    "equal to everything": ("assert", f"class Yes:\n    {EQUAL}\ndef add(a, b): return Yes()"),
    "a number equal to everything": ("assert", f"class Yes(int):\n    {EQUAL}\ndef add(a, b): return Yes(5)"),
    "equal to all numbers": (
        "assert",
        "class Yes(int):\n    def __eq__(self, other): return isinstance(other, int)\n    __hash__ = None\n"
        "def add(a, b): return Yes(5)",
    ),
    "truly equal, by an answer that is true": (
        "assert",
        "class Yes:\n    def __eq__(self, other): return 'yes'\n    __hash__ = None\ndef add(a, b): return Yes()",
    ),
    "equal by a class made at run time": (
        "assert",
        "def add(a, b): return type('Yes', (int,), {'__eq__': lambda *_: True, '__hash__': None})(5)",
    ),
    "equal by a builtin": ("assert", "class Yes:\n    __eq__ = bool\n    __hash__ = None\ndef add(a, b): return Yes()"),
    "a wildcard of mock": ("assert", "from unittest.mock import ANY\ndef add(a, b): return ANY"),
    "approximately everything": (
        "assert",
        "def add(a, b):\n    import pytest\n    return pytest.approx(0, abs=float('inf'))",
    ),
    "equal within a list": ("function", f"class Yes:\n    {EQUAL}\ndef add(a, b): return Yes()"),
    "equal to everything, with assertEqual": ("unittest", f"class Yes:\n    {EQUAL}\ndef add(a, b): return Yes()"),
    "equal to everything, in pytest": ("pytest", f"class Yes:\n    {EQUAL}\ndef add(a, b): return Yes()"),
    "unequal to nothing": (
        "exit",
        "class No(int):\n    def __ne__(self, other): return False\ndef add(a, b): return No(5)",
    ),
    "within all bounds": (
        "bounds",
        "class Yes(int):\n    def __gt__(self, other): return True\n    def __lt__(self, other): return True\n"
        "def add(a, b): return Yes(9)",
    ),
    "in everything": ("membership", f"class Yes:\n    {EQUAL}\ndef add(a, b): return Yes()"),
    "a method that undoes itself within the assertion": (
        "unittest",
        """
        import unittest
        def add(a, b):
            kind = unittest.TestCase
            real = kind._getAssertEqualityFunc
            def once(self, *_):
                kind._getAssertEqualityFunc = real
                return lambda *a, **k: None
            kind._getAssertEqualityFunc = once
            return 5
        """,
    ),
    "methods of the test itself": (
        "unittest",
        IN_FRAMES
        + """
def add(a, b):
    test = next(frame.f_locals["self"] for frame in frames() if "self" in frame.f_locals)
    test._getAssertEqualityFunc = lambda *_: lambda *a, **k: None
    return 5
""",
    ),
    "the failure is called a skip": (
        "unittest",
        IN_FRAMES
        + """
import unittest
def add(a, b):
    test = next(frame.f_locals["self"] for frame in frames() if "self" in frame.f_locals)
    test.failureException = unittest.SkipTest
    return 5
""",
    ),
    "the result counts no failures": (
        "unittest",
        IN_FRAMES
        + """
def add(a, b):
    for frame in frames():
        for value in list(frame.f_locals.values()):
            if hasattr(value, "wasSuccessful"): value.wasSuccessful = lambda: True
    return 5
""",
    ),
    "the program does not exit": (
        "unittest",
        IN_FRAMES
        + """
def add(a, b):
    for frame in frames():
        for value in list(frame.f_locals.values()):
            if type(value).__name__ == "TestProgram": value.exit = False
    return 5
""",
    ),
    "skips its test": ("unittest", "import unittest\ndef add(a, b): raise unittest.SkipTest('no')"),
    "skips its test in pytest": ("pytest", "import pytest\ndef add(a, b): pytest.skip('no')"),
    "is expected to fail": ("pytest", "import pytest\ndef add(a, b): pytest.xfail('no')"),
    "ends pytest": ("pytest", "import pytest\ndef add(a, b): pytest.exit('no', returncode=0)"),
    "the session counts no failures": (
        "pytest",
        IN_FRAMES
        + """
class Zero(int):
    def __add__(self, other): return self
def add(a, b):
    for frame in frames():
        for value in list(frame.f_locals.values()):
            if type(value).__name__ == "Session": value.testsfailed = Zero(0)
    return 5
""",
    ),
    "a plugin makes the reports": (
        "pytest",
        IN_FRAMES
        + """
import pytest
class Plugin:
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        outcome.get_result().outcome = "passed"
def add(a, b):
    item = next(frame.f_locals["item"] for frame in frames() if "item" in frame.f_locals)
    item.config.pluginmanager.register(Plugin())
    return 5
""",
    ),
    "options of pytest": ("pytest", f"import os\nos.environ['PYTEST_ADDOPTS'] = '--collect-only'\n{WRONG}"),
    "another module of tests": (
        "pytest",
        f"""
import sys, types
{WRONG}
module = types.ModuleType("test_it")
module.test_sum, module.__file__ = lambda: None, sys.argv[0]
sys.modules["test_it"] = module
""",
    ),
    "an import hook for the module of tests": (
        "pytest",
        f"""
import importlib.util, sys
{WRONG}
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "test_it" else None
    def create_module(self, spec): return None
    def exec_module(self, module): module.test_sum, module.__file__ = lambda: None, sys.argv[0]
sys.meta_path.insert(0, Finder())
""",
    ),
    "the file of the script": (
        "pytest",
        f"import os, sys\n{WRONG}\nos.unlink(sys.argv[0])\nopen(sys.argv[0], 'w').write('{EVIL_TEST}')",
    ),
    "compiled tests beside the script": (
        "pytest",
        f"""
import importlib.util, marshal, os, struct, sys
from _pytest.assertion import rewrite
{WRONG}
place = sys.argv[0]
folder = os.path.dirname(place) + "/__pycache__/"
os.makedirs(folder)
state = os.stat(place)
header = struct.pack("<LL", int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF)
with open(folder + "test_it" + rewrite.PYC_TAIL, "wb") as file:
    code = marshal.dumps(compile("{EVIL_TEST}", place, "exec"))
    file.write(importlib.util.MAGIC_NUMBER + bytes(4) + header + code)
""",
    ),
    "another main module": (
        "unittest",
        f"import sys, types\n{WRONG}\nsys.modules['__main__'] = types.ModuleType('__main__')",
    ),
    "another `sys` in the script": (
        "exit",
        f"""
import sys, types
{WRONG}
fake = types.ModuleType("sys")
fake.__dict__.update(vars(sys), exit=lambda *_: None)
sys.modules["__main__"].__dict__["sys"] = fake
""",
    ),
    "an exit that hides where it is from": (
        "assert",
        """
        class Quiet(SystemExit):
            code = 0
            __traceback__ = property(lambda self: None, lambda self, value: None)
        def add(a, b): raise Quiet(0)
        """,
    ),
    "memory by a link": (
        "assert",
        f"""
import os, re
{SPRAY}
def add(a, b):
    os.symlink("/proc/self/mem", "link")
    memory = os.open("link", os.O_RDONLY)
    for low, high in places():
        try: spray(os.pread(memory, high - low, low))
        except OSError: pass
    os._exit(0)
""",
    ),
    "memory by a relative path": (
        "assert",
        f"""
import os, re
{SPRAY}
def add(a, b):
    os.chdir("/proc/self")
    memory = os.open("mem", os.O_RDONLY)
    for low, high in places():
        try: spray(os.pread(memory, high - low, low))
        except OSError: pass
    os._exit(0)
""",
    ),
    "memory by a child": (
        "assert",
        f"""
import os, re, subprocess, sys
{SPRAY}
def add(a, b):
    spray(subprocess.run([sys.executable, "-c", {CHILD!r}], capture_output=True).stdout)
    os._exit(0)
""",
    ),
    "memory by a pointer": (
        "assert",
        f"""
import ctypes, os, re
{SPRAY}
def add(a, b):
    for low, high in places():
        spray(ctypes.cast(low, ctypes.POINTER(ctypes.c_char))[: high - low])
    os._exit(0)
""",
    ),
    "memory that is moved": (
        "assert",
        f"""
import ctypes, os, re
{SPRAY}
def add(a, b):
    for low, high in places():
        buffer = ctypes.create_string_buffer(high - low)
        ctypes.memmove(buffer, low, high - low)
        spray(buffer.raw)
    os._exit(0)
""",
    ),
    "memory that is written to a file": (
        "assert",
        f"""
import ctypes, os, re
{SPRAY}
def add(a, b):
    write = ctypes.CDLL(None).write
    write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    for low, high in places():
        file = os.memfd_create("memory")
        write(file, low, high - low)
        spray(os.pread(file, high - low, 0))
        os.close(file)
    os._exit(0)
""",
    ),
    "guesses": (
        "assert",
        """
        import os
        def add(a, b):
            for number in range(3, 64):
                try: os.write(number, b"0" * 32 + b" 0\\n")
                except OSError: pass
            return 4
        """,
    ),
}


def proves(core: str, script: str, folder: Path) -> tuple[bool, str]:
    """Whether the run proves that the script reached its end, and what it told."""
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg/__init__.py").touch()
    (folder / "pkg/core.py").write_text(textwrap.dedent(core))
    said, _, shown = run(PYTHON, folder, textwrap.dedent(script), changed=("pkg/core.py",))
    return proof_of(said.splitlines(), SECRET) == "0", said + shown


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_a_result_can_not_be_forged(attack: str, tmp_path: Path) -> None:
    form, core = ATTACKS[attack]
    proved, shown = proves(core, SCRIPTS[form], tmp_path)
    assert not proved, shown


HONEST = {
    **SCRIPTS,
    "wildcards and mocks": """
        from unittest import mock
        import pytest
        from pkg.core import add
        called = mock.MagicMock()
        called(add(2, 2), 1)
        called.assert_called_once_with(mock.ANY, 1)
        assert called.mock_calls == [mock.call(4, mock.ANY)]
        assert add(0.1, 0.2) == pytest.approx(0.3)
        assert add(100, 2) == pytest.approx(100, rel=0.1)
        """,
    "values of its own": """
        import dataclasses, decimal, enum, fractions, pathlib
        from pkg.core import add
        @dataclasses.dataclass(order=True)
        class Point:
            x: int
        class Any:
            def __eq__(self, other): return True
        class Asked(list):
            def __eq__(self, other):
                asked.append(other)
                return list.__eq__(self, other)
        asked = []
        assert Point(add(1, 1)) == Point(2) != Point(3) and Point(1) < Point(add(1, 1)) <= Point(2)
        assert add(1, 1) == Any() and Asked([2]) == [add(1, 1)] and len(asked) == 1
        assert add(fractions.Fraction(1, 2), 1) == 1.5 and add(decimal.Decimal(1), 1) > 1
        assert pathlib.Path("a") in {pathlib.Path("a"), add(1, 2)}
        """,
    "queries are no answers": """
        from pkg.core import add
        class Query:
            def __init__(self, *said): self.said = said
            def __eq__(self, other): return Query(self, other)
            __hash__ = object.__hash__
        field = Query("name")
        query = field == "x"
        assert query.said[1] == "x" and add(1, 1) == 2
        """,
    "failures that are expected": """
        import unittest
        import pytest
        from pkg.core import add
        class Sum(unittest.TestCase):
            @unittest.expectedFailure
            def test_wrong(self):
                self.assertEqual(add(2, 2), 5)
            @unittest.skip("not here")
            def test_skipped(self):
                self.fail()
            def test_skips_itself(self):
                self.skipTest("not here")
            def test_raises(self):
                with self.assertRaises(TypeError): add(1, "")
                with pytest.raises(AssertionError): assert add(2, 2) == 5
                with self.subTest(n=1): self.assertIn(add(1, 0), [1])
        unittest.main()
        """,
    "every part of pytest": """
        import asyncio, subprocess, sys, threading, warnings
        import pytest
        from pkg.core import add
        pytestmark = pytest.mark.filterwarnings("default")
        @pytest.fixture(params=[1, 2])
        def number(request):
            yield request.param
        @pytest.mark.parametrize(("a", "sum"), [(1, 2), pytest.param(2, 3, id="two")])
        def test_each(a, sum): assert add(a, 1) == sum
        def test_fixture(number, monkeypatch, capsys, tmp_path):
            monkeypatch.setattr("builtins.print", lambda *_: None)
            print(add(number, 1))
            assert capsys.readouterr().out == ""
            (tmp_path / "a").write_text(str(add(1, 1)))
            assert (tmp_path / "a").read_text() == "2"
        @pytest.mark.xfail
        def test_wrong(): assert add(1, 1) == 3
        @pytest.mark.skipif(True, reason="no")
        def test_skipped(): assert False
        def test_warns():
            with pytest.warns(UserWarning, match="w"): warnings.warn("w", stacklevel=1)
        def test_async():
            async def sum(): return add(1, 1)
            assert asyncio.run(sum()) == 2
        def test_elsewhere():
            found = []
            thread = threading.Thread(target=lambda: found.append(add(1, 1)))
            thread.start(); thread.join()
            assert found == [2]
            line = "from pkg.core import add; print(add(1, 1))"
            assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stdout == "2\\n"
        if __name__ == "__main__":
            sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
        """,
    "doctest": '''
        import doctest, sys
        from pkg.core import add
        def twice(x):
            """
            >>> twice(2)
            4
            """
            return add(x, x)
        sys.exit(doctest.testmod().failed)
        ''',
}


@pytest.mark.parametrize("form", HONEST)
def test_an_honest_script_keeps_its_proof(form: str, tmp_path: Path) -> None:
    proved, shown = proves(RIGHT, HONEST[form], tmp_path)
    assert proved, shown


def test_values_that_are_hard_to_ask_keep_the_proof(tmp_path: Path) -> None:
    """An infinity is above all numbers, and a range can't be asked whether it has any object."""
    code = """
class Infinity:
    def __gt__(self, other): return True
    def __lt__(self, other): return False
    __ge__, __le__ = __gt__, __lt__
class Range:
    def __init__(self, low, high): self.low, self.high = low, high
    def __contains__(self, x): return self.low <= x < self.high
    def __eq__(self, other): return (self.low, self.high) == (other.low, other.high)
    def __lt__(self, other): return self.high <= other.low
def add(a, b): return a + b
"""
    script = """
        from pkg.core import Infinity, Range
        assert Infinity() > 10**400 and not Infinity() < 0 and 5 <= Infinity()
        assert 5 in Range(1, 9) and Range(1, 9) == Range(1, 9) and Range(1, 2) < Range(2, 3)
        """
    proved, shown = proves(code, script, tmp_path)
    assert proved, shown
