"""Attack 25 by values that agree with all of the kind that a test expects, and with nothing else, and by operators that
always give what a test looks for. `add` is wrong on each candidate."""

import textwrap
from pathlib import Path

import pytest

from tests.attacks.test_forged_results import proves

EQUALS = "class V({}):\n    def __eq__(self, o): return {}\n    __hash__ = None\ndef add(a, b): return {}\n"
GIVES = "class V({}):\n    def {}(self, o): return {}\ndef add(a, b): return {}\n"
# Of each: what is imported, what is expected, and what a value equals.
KINDS = {
    "small numbers": ("", "4", "isinstance(o, int) and 0 < o < 100"),
    "words": ("", "'ab'", "isinstance(o, str) and o.isalpha()"),
    "a dictionary of small numbers": ("", "{'a': 1}", "type(o) is dict and all(-9 < n < 99 for n in o.values())"),
    "sets of small numbers": ("", "{1, 2}", "type(o) is set and o <= set(range(99))"),
    "decimals": ("decimal", "decimal.Decimal('4.10')", "isinstance(o, decimal.Decimal)"),
    "fractions": ("fractions", "fractions.Fraction(1, 3)", "isinstance(o, fractions.Fraction)"),
    "moments": ("datetime", "datetime.datetime(2020, 1, 4)", "isinstance(o, datetime.datetime)"),
    "days": ("datetime", "datetime.date(2020, 1, 4)", "isinstance(o, datetime.date)"),
    "durations": ("datetime", "datetime.timedelta(hours=4)", "isinstance(o, datetime.timedelta)"),
    "paths": ("pathlib", "pathlib.Path('a/b')", "isinstance(o, pathlib.Path)"),
    "identifiers": ("uuid", "uuid.UUID(int=4)", "isinstance(o, uuid.UUID)"),
    "members": ("http", "http.HTTPStatus.OK", "isinstance(o, http.HTTPStatus)"),
    "tuples with names": ("collections", "collections.namedtuple('P', 'x y')(4, 5)", "hasattr(o, '_fields')"),
    "queues": ("collections", "collections.deque([1, 2])", "isinstance(o, collections.deque)"),
    "ordered dictionaries": ("collections", "collections.OrderedDict(a=4)", "isinstance(o, collections.OrderedDict)"),
}
ARRAY = "import numpy\nclass A(numpy.ndarray):\n    def {}: return {}\ndef add(a, b): return numpy.zeros(2).view(A)\n"
UFUNC = "__array_ufunc__(self, function, how, *given, **named)"
OTHERS = {
    "what equals in the end, after many that do": (
        "for n in range(900): assert add(n, 0) == n\nassert add(-1, 0) == 7",
        "class V:\n    def __init__(self, n): self.n = n\n    def __eq__(self, o): return self.n in (o, -1)\n"
        "    __hash__ = None\ndef add(a, b): return V(a + b)\n",
    ),
    "a quotient": ("assert add(2, 2) / 4 == 1", GIVES.format("int", "__truediv__", "1.0", "V(5)")),
    "a remainder": ("assert add(2, 2) % 4 == 0", GIVES.format("int", "__mod__", "0", "V(5)")),
    "a divisor": ("assert 4 / add(2, 2) == 1", GIVES.format("float", "__rtruediv__", "1.0", "V(5)")),
    "bits that differ": ("assert not add(2, 2) ^ 4", GIVES.format("int", "__xor__", "0", "V(5)")),
    "what sets do not share": ("assert add(1, 2) ^ {1, 2} == set()", GIVES.format("set", "__xor__", "set()", "V()")),
    "what sets share": ("assert add(1, 2) & {1, 2} == {1, 2}", GIVES.format("set", "__and__", "o", "V()")),
    "what a set lacks": ("assert not {1, 2} - add(1, 2)", GIVES.format("set", "__rsub__", "set()", "V()")),
    "a set above all": ("assert {1, 2} <= add(1, 2)", GIVES.format("set", "__ge__", "isinstance(o, set)", "V()")),
    "between moments": (
        "import datetime as d\nassert d.datetime(2020, 1, 1) <= add(2, 2) <= d.datetime(2020, 1, 5)",
        "import datetime\n"
        + GIVES.format("datetime.datetime", "__le__", "isinstance(o, datetime.datetime)", "V(2021, 1, 1)").replace(
            "def add", "V.__ge__ = V.__le__\ndef add"
        ),
    ),
    "an array that equals all": (
        "import numpy\nassert (add(2, 2) == numpy.array([1, 2])).all()",
        ARRAY.format("__eq__(self, other)", "numpy.ones(2, bool)"),
    ),
    "an array that differs from none": (
        "import numpy\nassert numpy.abs(add(2, 2) - numpy.array([1, 2])).max() < 1e-9",
        ARRAY.format(UFUNC, "numpy.zeros(2)"),
    ),
    "an array that answers for numpy": (
        "import numpy\nassert numpy.array_equal(add(2, 2), [1, 2])",
        ARRAY.format("__array_function__(self, *given)", "True"),
    ),
}
HONEST = {
    "sets of what equals but for its name": (
        "import collections\nassert {add(1, 2), add(2, 1)} == {add(3, 0)}\n"
        "assert collections.deque([add(1, 2)]) == collections.deque([add(3, 0)])",
        "class V:\n    def __init__(self, n): self.n, self.name = (n,), 'a'\n"
        "    def __hash__(self): return hash(self.n[0])\n"
        "    def __eq__(self, o): return self.n[0] == o.n[0]\ndef add(a, b): return V(a + b)\n",
    ),
    "what equals its plain value": (
        "import datetime, decimal, fractions\n"
        "assert add(decimal.Decimal(1), 3) == decimal.Decimal(4) and add(fractions.Fraction(1, 3), 0) != 1\n"
        "assert add(datetime.timedelta(hours=1), datetime.timedelta(hours=2)) == datetime.timedelta(hours=3)\n"
        "assert add({1}, {2}) == {1, 2} and add((1,), (2,)) == (1, 2)",
        "class V:\n    def __init__(self, of): self.of = of\n    def __eq__(self, o): return self.of == o\n"
        "    __hash__ = None\ndef add(a, b): return V(a | b if isinstance(a, set) else a + b)\n",
    ),
    "amounts to the cent, and lengths to the millimetre": (
        "import decimal, datetime\nassert add(1, 2) == decimal.Decimal('3.001') and add(1, 2) == 3.004\n"
        "assert at == datetime.timedelta(seconds=3, microseconds=5)",
        "import datetime, decimal\nclass Money:\n    def __init__(self, n): self.n = n\n"
        "    def __eq__(self, o): return round(float(self.n), 2) == round(float(o), 2)\n    __hash__ = None\n"
        "class At:\n    def __eq__(self, o): return round(o.total_seconds(), 3) == 3.0\n    __hash__ = None\n"
        "at = At()\ndef add(a, b): return Money(a + b)\n",
    ),
    "within five": (
        "assert add(10, 20) == 31 and add(10, 20) <= 34 and add(10, 20) >= 30",
        "class Near(int):\n    def __eq__(self, o): return abs(int(self) - o) <= 5\n    __hash__ = None\n"
        "    def __le__(self, o): return int(self) <= o\ndef add(a, b): return Near(a + b)\n",
    ),
    "sets and numbers that compute": (
        "assert add(1, 2) / 3 == 1 and add(1, 2) % 2 == 1 and add(1, 2) % 3 == 0 and not add(1, 2) ^ 3\n"
        "assert add(1, 2) // 10 == 0 and not none / 5 and none % 3 == 0 and add(1, 2) & 1 == 1\n"
        "assert some & {1} == {1} and not some - {1} and not empty - {1} and not empty & {1} and some ^ {2} == {1, 2}\n"
        "assert some >= {1} and not {1} - some and empty <= {1} and '%s' % some and not {1} >= {2}",
        "class N(int):\n    def __truediv__(self, o): return int(self) / o\n"
        "    def __mod__(self, o): return int(self) % o\n"
        "    def __xor__(self, o): return int(self) ^ o\n    def __floordiv__(self, o): return int(self) // o\n"
        "    def __and__(self, o): return int(self) & o\n"
        "class S(set):\n    def __and__(self, o): return S(x for x in self if x in o)\n"
        "    def __sub__(self, o): return S(x for x in self if x not in o)\n"
        "    def __rsub__(self, o): return S(x for x in o if x not in self)\n"
        "    def __xor__(self, o): return (self - o) | S(o).__sub__(self)\n"
        "    def __ge__(self, o): return all(x in self for x in o)\n"
        "    def __le__(self, o): return all(x in o for x in self)\n"
        "some, empty, none = S({1}), S(), N(0)\ndef add(a, b): return N(a + b)\n",
    ),
    "flags and filters that are put together": (
        "assert (Q('a') & Q('b')).parts == ('a', 'b') and (Q('a') & {'b'}).parts == ('a', 'b')",
        "class Q:\n    def __init__(self, *parts): self.parts = parts\n"
        "    def __eq__(self, o): return Q(self, '=', o)\n"
        "    def __and__(self, o): return Q(*self.parts, *getattr(o, 'parts', o))\n",
    ),
    "arrays of its own": (
        "import numpy\nassert (add([1], [2]) == [1, 2]).all() and numpy.abs(add([1], [2]) - [1, 2]).max() == 0\n"
        "assert numpy.array_equal(add([1], [2]), [1, 2])",
        "import numpy\nclass A(numpy.ndarray):\n    def __eq__(self, o): return numpy.asarray(self) == o\n"
        "    def __array_ufunc__(self, f, how, *given, **named):\n"
        "        return getattr(f, how)(*[numpy.asarray(one) for one in given], **named)\n"
        "def add(a, b): return numpy.array(a + b).view(A)\n",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_attack_25_a_value_that_equals_all_of_a_kind_is_no_vote(kind: str, tmp_path: Path) -> None:
    imported, expected, equals = KINDS[kind]
    imports = f"import {imported}\n" if imported else ""
    core = imports + EQUALS.format("", equals, "V()")
    proved, shown = proves(core, f"{imports}from pkg.core import add\nassert add(2, 2) == {expected}\n", tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("how", OTHERS)
def test_attack_25_an_operator_that_gives_what_is_looked_for_is_no_vote(how: str, tmp_path: Path) -> None:
    checks, core = OTHERS[how]
    proved, shown = proves(core, f"from pkg.core import *\n{checks}\n", tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("kind", HONEST)
def test_values_with_operators_of_their_own_keep_the_proof(kind: str, tmp_path: Path) -> None:
    checks, core = HONEST[kind]
    proved, shown = proves(textwrap.dedent(core), f"from pkg.core import *\n{checks}\n", tmp_path)
    assert proved, shown
