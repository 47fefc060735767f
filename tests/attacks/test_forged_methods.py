"""Attack 25 by methods that find whatever is looked for, by functions that a candidate puts before methods of a mock or
a stream of the script's, and by what test tools keep beside their functions. `add` is wrong on each candidate."""

from pathlib import Path

import pytest

from tests.attacks.test_forged_results import RIGHT, WRONG, proves

IMPORTS = "import io, operator, unittest\nfrom pkg.core import *\n"
YES = "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
GIVES = "class V({}):\n    def {}(self, *_): return {}\ndef add(a, b): return V({})\n"
TOTAL = f"{YES}class Sum: pass\ndef add(a, b):\n    sum = Sum()\n    sum.total = Yes()\n    return sum\n"
MOCK = "m = mock.Mock()\nrun(m)\nm.assert_called_once_with(4)"
CASE = "class Sum(unittest.TestCase):\n    {}def test_sum(self{}): {}\nunittest.main()"
PYTEST = (
    "if __name__ == '__main__':\n    import sys\n    sys.exit(pytest.main([__file__, '-q', '-p', 'no:cacheprovider']))"
)
FIXTURE = f"@pytest.fixture\ndef it(): return add(2, 2)\ndef test_sum(it): assert it == 4\n{PYTEST}"
NAMED = "import decimal\nassert add(2, 2) == decimal.Decimal(4)"
# Of each: the checks, and the candidate.
ATTACKS = {
    "counts anything": ("assert add(2, 2).count(4) == 1", GIVES.format("list", "count", "1", "")),
    "has a place for anything": ("assert add(2, 2).index(4) == 0", GIVES.format("list", "index", "0", "")),
    "finds anything": ("assert add(2, 2).find('4') != -1", GIVES.format("str", "find", "0", "'5'")),
    "holds any set": ("assert add(1, 2).issuperset({1, 2})", GIVES.format("set", "issuperset", "True", "")),
    "differs from no set": (
        "assert not add(1, 2).symmetric_difference({1, 2})",
        GIVES.format("set", "symmetric_difference", "set()", ""),
    ),
    "an attribute that a builtin compares": ("assert operator.eq(add(2, 2).total, 4)", TOTAL),
    "an attribute that a list counts": ("found = add(2, 2)\nassert [4].count(found.total) == 1", TOTAL),
    "elements that a builtin compares": (
        "assert all(map(operator.eq, add(1, 2), [1, 2]))",
        f"{YES}def add(a, b): return [Yes(), Yes()]\n",
    ),
    "a class that says it is a library's": (
        NAMED,
        "def add(a, b): return type('Decimal', (), {'__eq__': bool, '__hash__': None, '__module__': 'decimal'})()\n",
    ),
    "a subclass that says it is a library's": (
        NAMED,
        "import decimal\nspace = {'__eq__': bool, '__hash__': None, '__module__': 'decimal'}\n"
        "def add(a, b): return type('Decimal', (decimal.Decimal,), space)(5)\n",
    ),
    "a call of a mock with what equals all": (MOCK, f"{YES}def run(m): m(Yes())\n"),
    "calls of a part of a mock": (
        "m = mock.Mock()\nrun(m)\nm.send.assert_has_calls([mock.call(1), mock.call(2)])",
        f"{YES}def run(m):\n    m.send(Yes())\n    m.send(Yes())\n",
    ),
    "a mock's own method": (MOCK, "def run(m): m.assert_called_once_with = print\n"),
    "a method of a mock's class": (MOCK, "def run(m): type(m).assert_called_once_with = lambda *_: None\n"),
    "a mock that counts what nobody called": (
        "m = mock.Mock()\nrun(m)\nm.assert_called_once()",
        "def run(m): m.call_count = 1\n",
    ),
    "a count that nobody called": (
        "m = mock.Mock()\nrun(m)\nassert m.called and m.call_count == 1",
        "def run(m): m.called, m.call_count = True, 1\n",
    ),
    "a stream's own method": (
        "out = io.StringIO()\nrun(out)\nassert '4' in out.getvalue()",
        "class Text(str):\n    def __contains__(self, o): return o.isdigit()\n"
        "def run(out): out.getvalue = lambda: Text('5')\n",
    ),
    "defaults of unittest": (
        CASE.format("", "", "self.assertAlmostEqual(add(2, 2), 4)"),
        f"{WRONG}import unittest\nunittest.TestCase.assertAlmostEqual.__defaults__ = (-5, None, None)\n",
    ),
    "defaults of numpy": (
        "import numpy\nassert numpy.allclose(add(2, 2), 4)",
        f"{WRONG}import numpy\nnumpy.allclose.__wrapped__.__defaults__ = (1e9, 1e9, False)\n"
        "numpy.isclose.__wrapped__.__defaults__ = (1e9, 1e9, False)\n",
    ),
    "what a function of unittest keeps": (
        CASE.format("", "", "\n        with self.subTest(n=1): self.assertEqual(add(2, 2), 4)"),
        f"{WRONG}import unittest\ndef sub(self, *_, **__):\n    try: yield\n    except AssertionError: pass\n"
        "unittest.TestCase.subTest.__closure__[0].cell_contents = sub\n",
    ),
    "what unittest takes for tests": (
        CASE.format("@mock.patch('os.getcwd')\n    ", ", _", "self.assertEqual(add(2, 2), 4)"),
        f"{WRONG}import unittest\nunittest.TestLoader.testMethodPrefix = 'x'\n",
    ),
    "skips in a fixture": (FIXTURE, "import pytest\ndef add(a, b): pytest.skip('no')\n"),
    "ends pytest in a fixture": (FIXTURE, "import pytest\ndef add(a, b): pytest.exit('no', returncode=0)\n"),
    "parameters that are none": (
        f"@pytest.mark.parametrize('n', list(add(2, 2)))\ndef test_sum(n): assert n == 4\n{PYTEST}",
        "def add(a, b): return []\n",
    ),
    "a plugin among pytest's own": (
        f"def test_sum(tmp_path): assert add(2, 2) == 4\n{PYTEST}",
        f"{WRONG}import _pytest.config, sys\n_pytest.config.default_plugins += ('pkg.core',)\n"
        "def pytest_pyfunc_call(pyfuncitem): return True\n",
    ),
}
HONEST = {
    "methods of its own": (
        "assert add('ab', 'c').find('c') == 2 and add('a', 'b').count('b') == 1 and index.index('a') == 1\n"
        "assert add('a', 'B').endswith('b') and sets.issuperset({1}) and not sets.symmetric_difference({1, 2})",
        "class T(str):\n    def find(self, s): return self.lower().find(s.lower())\n"
        "    def count(self, s): return self.lower().count(s.lower())\n"
        "    def endswith(self, s): return self.lower().endswith(s.lower())\n"
        "class Index:\n    def __init__(self): self.n = 0\n    def index(self, word):\n        self.n += 1\n"
        "        return self.n\nclass S(set):\n    def issuperset(self, o): return all(x in self for x in o)\n"
        "    def symmetric_difference(self, o): return set(self) ^ set(o)\nindex, sets = Index(), S({1, 2})\n"
        "def add(a, b): return T(a + b)\n",
    ),
    "mocks that it calls, and what it adds to functions and streams": (
        "m = mock.MagicMock()\nrun(m)\nm.assert_called_once_with(4, key=mock.ANY)\nm.reset_mock()\n"
        "m.assert_not_called()\nm.send.assert_not_called()\nassert m.call_count == 0 and not m.send.called\n"
        "@counted\ndef double(n): return 2 * n\nassert double(2) == 4 and double.calls() == 1\n"
        "out = io.StringIO()\nloud(out).write('a')\nassert out.getvalue() == 'A'\n"
        "class Script:\n    def run(self): return 1\nscript = Script()\npatch(script)\nassert script.run() == 2",
        "import functools\ndef run(m): m(4, key=object())\n"
        "def counted(f):\n    n = []\n    @functools.wraps(f)\n"
        "    def g(*given):\n        n.append(1)\n        return f(*given)\n"
        "    g.calls = lambda: len(n)\n    return g\n"
        "def loud(out):\n    real = out.write\n    out.write = lambda text: real(text.upper())\n    return out\n"
        "def patch(one): one.run = lambda: 2\n",
    ),
    "tests with fixtures, patches and parameters": (
        "@pytest.fixture(params=[1, 2])\ndef it(request): return add(request.param, 2)\n"
        "def test_it(it): assert it in (3, 4)\n"
        "@pytest.mark.parametrize('n', [1, 2])\n@mock.patch('os.getcwd')\ndef test_sum(_, n, tmp_path, monkeypatch):\n"
        f"    assert add(n, 1) == n + 1\n@pytest.fixture\ndef test_data(): return 4\n{PYTEST}",
        RIGHT,
    ),
    "what a tree sets in unittest": (
        "class Sum(Case):\n    def test_sum(self): self.assertEqual(add(2, 2), 4)\nunittest.main()",
        "import unittest\nunittest.TestCase.maxDiff = None\n"
        f"class Case(unittest.TestCase):\n    longMessage = False\n{RIGHT}",
    ),
    "objects of the library": (
        "import collections, datetime, decimal, fractions, pathlib, re, tempfile, threading, queue, logging, json\n"
        "path = pathlib.Path(tempfile.mkdtemp(), 'a')\npath.write_text('4')\nassert open(path).read() == '4'\n"
        "with path.open('rb') as file: assert file.readline() == b'4' and not file.readlines() and file.seek(0) == 0\n"
        "assert collections.Counter('aa').get('a') == 2 and collections.OrderedDict(a=4).pop('a') == 4\n"
        "assert collections.defaultdict(int).get('a') is None and collections.ChainMap({'a': 1}).get('a') == 1\n"
        "assert datetime.datetime(2020, 1, 4).isoformat() == '2020-01-04T00:00:00' and True.bit_length() == 1\n"
        "assert decimal.Decimal(4).compare(4) == 0 and fractions.Fraction(1).limit_denominator() == 1\n"
        "assert path.exists() and path.with_suffix('.b').name == 'a.b' and re.compile('4').match('4').group() == '4'\n"
        "assert io.BytesIO(b'4').read() == b'4' and queue.PriorityQueue().empty() and dict.fromkeys('a').keys()\n"
        "assert logging.getLogger('a').isEnabledFor(40) and json.JSONDecoder().decode('4') == 4\n"
        "assert not threading.Event().is_set() and (4).__add__(0).conjugate() == 4 and add(2, 2).__eq__(4)",
        RIGHT,
    ),
    "defaults of its own functions": (
        "def double(n, by=2, *, more=1): return n * by + more\nassert add(2) == 5 and named(1) == 4\n"
        "assert copied(double)(2) == 5",
        "def add(a, b=1): return a + b\nadd.__defaults__ = (3,)\ndef named(a, *, b=1): return a + b\n"
        "named.__kwdefaults__ = {'b': 3}\ndef copied(f):\n    f.__defaults__, f.__kwdefaults__ = (2,), {'more': 1}\n"
        "    return f\n",
    ),
    "what is matched": (
        "match add(2, 2):\n    case Sum(total=4): pass\n    case _: raise AssertionError\n"
        "match add(2, 2).total:\n    case 4: pass\n    case _: raise AssertionError",
        "import dataclasses\n@dataclasses.dataclass\nclass Sum:\n    total: int\ndef add(a, b): return Sum(a + b)\n",
    ),
}
MATCHES = {
    "an attribute": "found = add(2, 2)\nmatch found.total:\n    case 4: pass\n    case _: raise AssertionError",
    "a class": "match add(2, 2):\n    case Sum(total=4): pass\n    case _: raise AssertionError",
}


def _script(checks: str) -> str:
    """With what it needs alone: pytest takes a while."""
    needed = {"pytest.": "import pytest\n", "mock.": "from unittest import mock\n"}
    return "".join(line for word, line in needed.items() if word in checks) + f"{IMPORTS}{checks}\n"


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_a_method_or_a_tool_that_a_candidate_made_is_no_judge(attack: str, tmp_path: Path) -> None:
    checks, core = ATTACKS[attack]
    proved, shown = proves(core, _script(checks), tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("what", MATCHES)
def test_attack_25_what_a_pattern_matches_is_asked(what: str, tmp_path: Path) -> None:
    proved, shown = proves(TOTAL, f"from pkg.core import *\n{MATCHES[what]}\n", tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("kind", HONEST)
def test_methods_and_tests_of_a_right_candidate_keep_the_proof(kind: str, tmp_path: Path) -> None:
    checks, core = HONEST[kind]
    proved, shown = proves(core, _script(checks), tmp_path)
    assert proved, shown
