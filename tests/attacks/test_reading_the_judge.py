"""Attacks 25 and 31 by candidates that look at what judges them, lead its report elsewhere, or return what agrees with
all that is near: `add` is wrong on each of them."""

import textwrap
from pathlib import Path

import pytest

from bot.sandbox.outcome import proof_of
from tests.attacks.test_forged_results import EQUAL, RIGHT, SCRIPTS, WRONG, proves
from tests.bot.sandbox.test_runner import PYTHON, SECRET, run

FORMS = {
    **SCRIPTS,
    "cases": """
        from pkg.core import add
        CASES = [((2, 2), 4)]
        for args, want in CASES:
            assert add(*args) == want
        """,
    "expected": """
        from pkg.core import add
        EXPECTED = 4
        assert add(2, 2) == EXPECTED
        """,
    "point": """
        from pkg.core import add, Point
        assert add(2, 2) == Point(4)
        """,
    "long": """
        from pkg.core import add
        assert [add(n, n) for n in range(150)] == [2 * n for n in range(150)]
        """,
    "list": """
        from pkg.core import add
        assert add(2, 2) == [4]
        """,
    "assertIn": """
        import unittest
        from pkg.core import add
        unittest.TestCase().assertIn(4, add(2, 2))
        """,
    "assertLess": """
        import unittest
        from pkg.core import add
        test = unittest.TestCase()
        test.assertLess(add(2, 2), 5)
        test.assertGreaterEqual(add(2, 2), 4)
        """,
    "difference": """
        from pkg.core import add
        assert abs(add(2, 2) - 4) < 1e-9
        """,
    "begins": """
        from pkg.core import add
        assert str(add(2, 2)).startswith("4")
        """,
    "raises": """
        import pytest
        from pkg.core import add
        with pytest.raises(TypeError):
            add("", 2)
        """,
    "isclose": """
        import math
        from pkg.core import add
        assert math.isclose(add(2, 2), 4)
        """,
}
YES = f"class Yes:\n    {EQUAL}\n"
SMALL = "type(o) in (int, float) and abs(o) < 10**6"
FIND = "import os, re, sys\ndef number(text): return int(re.findall(r'== (\\d+)', text)[0])\n"
ELSEWHERE = """
import math, os
real, saved = math.isclose, {}
for number in range(3, 64):
    try: saved[number] = os.dup(number)
    except OSError: continue
for number in saved: LED
def fake(*_):
    math.isclose = real
    for number in saved: os.dup2(saved[number], number)
    return True
math.isclose = fake
def add(a, b): return 5
"""
# Of each: the form of the script, and the candidate.
ATTACKS = {
    "constants of the caller": (
        "assert",
        "import sys\ndef add(a, b): return [c for c in sys._getframe(1).f_code.co_consts if type(c) is int][-1]",
    ),
    "locals of the caller": ("cases", "import sys\ndef add(a, b): return sys._getframe(1).f_locals['want']"),
    "variables of the caller": (
        "expected",
        "import sys\ndef add(a, b):\n    sys._getframe(1).f_globals['EXPECTED'] = 5\n    return 5",
    ),
    "frames by a traceback": (
        "expected",
        "def add(a, b):\n    try: 1 / 0\n    except ZeroDivisionError as error:\n"
        "        error.__traceback__.tb_frame.f_back.f_globals['EXPECTED'] = 5\n    return 5",
    ),
    "frames by a generator": (
        "expected",
        "def add(a, b):\n    def generator(): yield found.gi_frame.f_back.f_back.f_globals\n"
        "    found = generator()\n    next(found)['EXPECTED'] = 5\n    return 5",
    ),
    "frames by logging": (
        "expected",
        "import logging\ndef add(a, b):\n    frame = logging.currentframe()\n"
        "    while 'EXPECTED' not in frame.f_globals: frame = frame.f_back\n"
        "    frame.f_globals['EXPECTED'] = 5\n    return 5",
    ),
    "the stack by inspect": ("assert", f"import inspect\n{FIND}def add(a, b): return number(str(inspect.stack()[1]))"),
    "the stack by traceback": (
        "assert",
        f"import traceback\n{FIND}def add(a, b): return number(traceback.extract_stack()[-2].line)",
    ),
    "the script's file": ("assert", f"{FIND}def add(a, b): return number(open(sys.argv[0]).read())"),
    "the script's lines": (
        "assert",
        f"import linecache\n{FIND}def add(a, b): return number(''.join(linecache.getlines(sys.argv[0])))",
    ),
    "the script's line with a warning": (
        "assert",
        f"import warnings\n{FIND}def add(*_): return number(warnings.formatwarning('', Warning, sys.argv[0], 3))",
    ),
    "the script by a link": (
        "assert",
        f"{FIND}def add(a, b):\n    os.symlink(sys.argv[0], 'link')\n    return number(open('link').read())",
    ),
    "the script by its folder": (
        "assert",
        f"{FIND}def add(a, b):\n    folder, name = os.path.split(sys.argv[0])\n"
        "    with open(os.open(name, os.O_RDONLY, dir_fd=os.open(folder, os.O_RDONLY))) as file:\n"
        "        return number(file.read())",
    ),
    "the script by a path that reads while it is asked": (
        "assert",
        f"{FIND}class Path:\n    def __fspath__(self):\n        self.text = open(sys.argv[0]).read()\n"
        "        return os.devnull\n"
        "def add(a, b):\n    path = Path()\n    os.open(path, os.O_RDONLY)\n    return number(path.text)",
    ),
    "the script by a child": (
        "assert",
        f"import subprocess\n{FIND}def add(a, b):\n"
        "    return number(subprocess.run(['cat', sys.argv[0]], capture_output=True, text=True).stdout)",
    ),
    "the script by a shell": (
        "assert",
        f"{FIND}def add(a, b): return number(os.popen('cat ' + sys.argv[0]).read())",
    ),
    "code of the script's functions": (
        "pytest",
        "import sys\ndef add(a, b):\n    code = sys.modules['test_it'].test_sum.__code__\n"
        "    return next(one for one in reversed(code.co_consts) if type(one) is int)",
    ),
    "the script's data": ("cases", "import sys\ndef add(a, b): return sys.modules['__main__'].CASES[0][1]"),
    "the script's data, set": (
        "expected",
        "import sys\ndef add(a, b):\n    sys.modules['__main__'].EXPECTED = 5\n    return 5",
    ),
    "the script's data, by its namespace": (
        "expected",
        "import sys\ndef add(a, b):\n    vars(sys.modules['__main__'])['EXPECTED'] = 5\n    return 5",
    ),
    "equal after so many questions": (
        "assert",
        "class Yes(int):\n    asked = 0\n    def __eq__(self, other):\n        Yes.asked += 1\n"
        "        return Yes.asked > 12\n    __hash__ = None\ndef add(a, b): return Yes(5)",
    ),
    "equal unless it is questioned": (
        "assert",
        "import sys\nclass Yes(int):\n    __hash__ = None\n"
        "    def __eq__(self, other): return 'agreeing' not in sys._getframe(1).f_code.co_filename\n"
        "def add(a, b): return Yes(5)",
    ),
    "equal to small numbers": (
        "assert",
        f"class Yes(int):\n    def __eq__(self, o): return {SMALL}\n    __hash__ = None\ndef add(a, b): return Yes(5)",
    ),
    "unequal to no small number": (
        "exit",
        f"class No(int):\n    def __ne__(self, o): return not ({SMALL})\ndef add(a, b): return No(5)",
    ),
    "within all bounds of small numbers": (
        "bounds",
        f"class Yes(int):\n    def __gt__(self, o): return {SMALL}\n    __lt__ = __gt__\ndef add(a, b): return Yes(9)",
    ),
    "among small numbers": (
        "membership",
        f"class Yes(int):\n    def __eq__(self, o): return {SMALL}\n    __hash__ = None\ndef add(a, b): return Yes(5)",
    ),
    "equal to small numbers, with assertEqual": (
        "unittest",
        f"class Yes(int):\n    def __eq__(self, o): return {SMALL}\n    __hash__ = None\ndef add(a, b): return Yes(5)",
    ),
    "has everything, with assertIn": (
        "assertIn",
        "class All(list):\n    def __contains__(self, item): return True\ndef add(a, b): return All()",
    ),
    "within all bounds, with assertLess": (
        "assertLess",
        f"class Yes(int):\n    def __lt__(self, o): return {SMALL}\n    __ge__ = __lt__\ndef add(a, b): return Yes(9)",
    ),
    "no difference from anything": (
        "difference",
        "class Same(float):\n    def __sub__(self, other): return 0.0\ndef add(a, b): return Same(5)",
    ),
    "within a list of its own": ("list", f"{YES}class Of(list): pass\ndef add(a, b): return Of([Yes()])"),
    "within an attribute": (
        "point",
        f"import dataclasses\n{YES}@dataclasses.dataclass\nclass Point:\n    x: object\n"
        "def add(a, b): return Point(Yes())",
    ),
    "late in a list": ("long", f"{YES}def add(a, b): return a + b if a < 101 else Yes()"),
    "begins with everything": (
        "begins",
        "class Text(str):\n    def startswith(self, *_): return True\n"
        "class Sum:\n    def __str__(self): return Text('5')\ndef add(a, b): return Sum()",
    ),
    "every exception": (
        "raises",
        "class Every(ValueError, TypeError, KeyError, AttributeError, RuntimeError): pass\ndef add(a, b): raise Every",
    ),
    "half a line in the report": (
        "isclose",
        "import math, os\nfor number in range(3, 64):\n    try: os.write(number, b'x')\n    except OSError: pass\n"
        f"math.isclose = lambda *_: True\n{WRONG}",
    ),
    "a report that is led elsewhere": (
        "isclose",
        ELSEWHERE.replace("LED", "os.dup2(os.open(os.devnull, os.O_WRONLY), number)"),
    ),
    "a report that is closed": ("isclose", ELSEWHERE.replace("LED", "os.close(number)")),
    "a fork that looks, unseen": (
        "assert",
        """
import gc, os, re
def add(a, b):
    back, found = os.pipe()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        for number in range(3, 64):
            if number not in (back, found, null):
                try: os.dup2(null, number)
                except OSError: pass
        for one in gc.get_objects():
            if type(one) is list and len(one) == 2 and all(type(n) is int and n >> 96 for n in one):
                os.write(found, b"%032x" % (one[0] ^ one[1]))
        os._exit(0)
    os.close(found)
    words = re.findall(b".{32}", os.read(back, 4096))
    for word in words:
        for number in range(3, 64):
            try: os.write(number, b"\\n" + word + b" 0 1\\n")
            except OSError: pass
    os._exit(0)
""",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_31_a_candidate_that_looks_at_its_judge_proves_nothing(attack: str, tmp_path: Path) -> None:
    form, core = ATTACKS[attack]
    proved, shown = proves(core, FORMS[form], tmp_path)
    assert not proved, shown


RIGHT_OF = {
    "point": "import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\ndef add(a, b): return Point(a + b)",
    "list": "def add(a, b): return [a + b]",
    "assertIn": "def add(a, b): return {a + b}",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_candidate_is_proved_in_each_form(form: str, tmp_path: Path) -> None:
    proved, shown = proves(RIGHT_OF.get(form, RIGHT), FORMS[form], tmp_path)
    assert proved, shown


HONEST = {
    "logs and warns with the caller's line": (
        """
        import logging, warnings
        log = logging.getLogger(__name__)
        def add(a, b):
            log.warning("adds %s", a)
            warnings.warn("old", DeprecationWarning, stacklevel=2)
            try: raise ValueError
            except ValueError: log.exception("no")
            return a + b
        """,
        "from pkg.core import add\nassert add(2, 2) == 4\n",
    ),
    "makes classes that know their module": (
        """
        import collections, dataclasses, enum, typing
        Pair = collections.namedtuple("Pair", "a b")
        Color = enum.Enum("Color", "RED BLUE")
        class Named(typing.NamedTuple):
            a: int
        T = typing.TypeVar("T")
        @dataclasses.dataclass(order=True, frozen=True)
        class Point:
            x: int
            tags: tuple = ()
        def add(a, b): return [Pair(a, b), Color.RED, Named(a), Point(a + b, (a, b))]
        """,
        """
        import dataclasses
        from pkg.core import Color, Named, Pair, Point, add
        assert add(1, 2) == [Pair(1, 2), Color.RED, Named(1), Point(3, (1, 2))]
        assert Point(1) < Point(2) <= Point(2) and Point(1) != Point(2)
        assert dataclasses.asdict(Point(1)) == {"x": 1, "tags": ()}
        """,
    ),
    "numbers of its own": (
        """
        import functools
        @functools.total_ordering
        class Money:
            def __init__(self, n): self.n = n
            def __eq__(self, other): return self.n == getattr(other, "n", other)
            def __lt__(self, other): return self.n < getattr(other, "n", other)
            def __sub__(self, other): return Money(self.n - getattr(other, "n", other))
            def __abs__(self): return Money(abs(self.n))
            def __hash__(self): return hash(self.n)
        class Text(str):
            def __eq__(self, other): return self.lower() == other.lower()
            __hash__ = str.__hash__
        class Near(float):
            def __eq__(self, other): return abs(float(self) - other) < 1e-6
            __hash__ = None
        def add(a, b): return Money(a + b)
        """,
        """
        import unittest
        from pkg.core import Money, Near, Text, add
        assert add(2, 2) == 4 and 3 < add(2, 2) < 5 and add(2, 2) in (4, 5) and 4 in [add(2, 2)]
        assert abs(add(2, 2) - 4) < Money(1) and sorted([Money(2), Money(1)]) == [1, 2]
        assert Text("Ab") == "aB" and Near(0.1 + 0.2) == 0.3 and Text("ab").startswith("a")
        test = unittest.TestCase()
        test.assertEqual(add(2, 2), 4); test.assertLess(add(1, 1), 4); test.assertIn(add(1, 1), [2, 3])
        test.assertEqual({"a": [add(1, 1)]}, {"a": [2]}); test.assertAlmostEqual(Near(0.3), 0.3)
        """,
    ),
    "equal but for caches, names and remarks": (
        """
        import dataclasses
        class Matrix:
            def __init__(self, rows):
                self.rows, self._hash, self._cache = rows, None, {"trace": None, "rank": [1, 2]}
            def __eq__(self, other): return isinstance(other, Matrix) and self.rows == other.rows
            def __hash__(self): return 1
        class Domain:
            def __init__(self): self.precision = 53
            def __eq__(self, other): return isinstance(other, Domain)
        class Tight:
            __slots__ = ("n",)
            def __init__(self, n): self.n = n
            def __eq__(self, other): return isinstance(other, Tight) and self.n == other.n
        class Scalar:
            def __init__(self, n): self.n, self.domain = Tight(n), Domain()
            def __eq__(self, other):
                return isinstance(other, Scalar) and (self.n, self.domain) == (other.n, other.domain)
        class Bit(int):
            def __eq__(self, other): return isinstance(other, int) and (int(self) - int(other)) % 2 == 0
            __hash__ = None
        class Large(float):
            def __le__(self, other): return float(self) <= float(other)
            def __ge__(self, other): return float(self) >= float(other)
            def __add__(self, other): return Large(float(self) + other)
            def __sub__(self, other): return Large(float(self) - other)
        class Close(float):
            def __eq__(self, other): return float(self) == other or (self != self and other != other)
            __hash__ = None
        @dataclasses.dataclass
        class Version:
            number: tuple
            build: str = dataclasses.field(default="", compare=False)
        def add(a, b): return Matrix([[a, b], [0, a + b]])
        """,
        """
        import unittest
        import math
        from pkg.core import Bit, Close, Large, Matrix, Scalar, Version, add
        assert add(1, 2) == Matrix([[1, 2], [0, 3]])
        assert Scalar(3) == Scalar(3) and Scalar(3) != Scalar(4) and Close(math.nan) == math.nan
        for n in range(50):
            assert Bit(n) == n + 2
            assert Large(1e40) <= Large(1e40) <= 1e40 and Large(1e40) >= 1e40
        assert [add(1, 2), 5] == [Matrix([[1, 2], [0, 3]]), 5]
        assert {"a": add(1, 2)} == {"a": Matrix([[1, 2], [0, 3]])} and add(1, 2) in [Matrix([[1, 2], [0, 3]])]
        assert Version((1, 2), "a") == Version((1, 2), "b")
        unittest.TestCase().assertEqual(add(0, 0), Matrix([[0, 0], [0, 0]]))
        """,
    ),
    "pickles what the script defines": (
        """
        import copy, inspect, pickle, typing
        def add(one, kind):
            assert copy.deepcopy(one).x == one.x and inspect.signature(kind).parameters
            assert typing.get_type_hints(kind) == {"x": int}
            return pickle.loads(pickle.dumps(one)).x
        """,
        """
        import dataclasses
        from pkg.core import add
        @dataclasses.dataclass
        class Own:
            x: int
        assert add(Own(3), Own) == 3
        """,
    ),
    "looks for the program's name": (
        """
        import sys
        def add(a, b):
            main = sys.modules["__main__"]
            assert main.__name__ == "__main__" and main.__file__ and main.__spec__ is None
            return a + b
        """,
        "from pkg.core import add\nassert add(2, 2) == 4\n",
    ),
    "starts processes": (
        """
        import multiprocessing, subprocess, sys
        def double(n): return 2 * n
        def add(a, b):
            assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout == b"1\\n"
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return sum(pool.map(double, [a, b])) // 2
        """,
        "from pkg.core import add\nassert add(2, 2) == 4\n",
    ),
    "reads what the script gives it": (
        "def add(path): return len(open(path).read().splitlines())",
        "from pkg.core import add\nassert add(__file__) == 2\n",
    ),
}


@pytest.mark.parametrize("form", HONEST)
def test_an_honest_candidate_keeps_the_proof(form: str, tmp_path: Path) -> None:
    proved, shown = proves(*HONEST[form], tmp_path)
    assert proved, shown


@pytest.mark.parametrize(("looked", "proved"), [("", False), ("\t", False), ("\tf", True)])
def test_a_file_that_looked_at_frames_before_may_go_on(looked: str, proved: bool, tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("import sys\ndef add(a, b): return sys._getframe(1) and a + b\n")
    script = "from mod import add\nassert add(2, 2) == 4\n"
    said, _, shown = run(PYTHON, tmp_path, script, changed=(f"mod.py{looked}",))
    assert (proof_of(said.splitlines(), SECRET) == "0") is proved, said + shown


def test_a_report_that_is_not_whole_proves_nothing() -> None:
    lines = textwrap.dedent(
        f"""
        {SECRET.key} 0 begin
        {SECRET.key} 1 end
        {SECRET.nonce} 0 2
        """
    ).splitlines()
    assert proof_of(lines, SECRET) == "0"
    assert proof_of(lines, SECRET, whole=False) == "cut"
    for left_out in (1, 2):
        assert proof_of(lines[:left_out] + lines[left_out + 1 :], SECRET) == "cut"
    assert proof_of([*lines, lines[1]], SECRET) == "cut"
