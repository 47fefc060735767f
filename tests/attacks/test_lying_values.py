"""Attack 25 by values that lie otherwise than by equality: about what they have, how far they are from others, in C's
containers, or depending on how deep in the stack they are asked. `add` is wrong on each candidate."""

import textwrap
from pathlib import Path

import pytest

from tests.attacks.test_forged_results import EQUAL, proves

UNITTEST = "import unittest\nfrom pkg.core import add\nunittest.TestCase().{}\n"
YES = f"class Yes:\n    {EQUAL}\n"
FLOAT = "class Sum(float):\n    def {}(self, other): return {}\ndef add(a, b): return Sum(5)\n"
HAS = "class Has({}):\n    def __contains__(self, one): return {}\ndef add(a, b): return Has({})\n"
DEPTH = """
import sys
def depth():
    calls = 0
    def call():
        nonlocal calls
        calls += 1
        call()
    try: call()
    except RecursionError: return calls
"""
# Of each: what is asserted, and the candidate.
ATTACKS = {
    "a text that has any text": ("assert '4' in add(2, 2)", HAS.format("str", "isinstance(one, str)", "'5'")),
    "a list that has any number": ("assert 4 in add(2, 2)", HAS.format("list", "isinstance(one, int)", "")),
    "an object that has any text": ("assert '4' in add(2, 2)", HAS.format("", "isinstance(one, str)", "")),
    "a text that has nothing": ("assert '5' not in add(2, 2)", HAS.format("str", "False", "'5'")),
    "a text that has nothing, with assertNotIn": (
        UNITTEST.format("assertNotIn('5', add(2, 2))"),
        HAS.format("str", "False", "'5'"),
    ),
    "no text that begins with any": (
        "assert add(2, 2).startswith('4')",
        "class Text:\n    def startswith(self, begin): return True\ndef add(a, b): return Text()\n",
    ),
    "a key of a dictionary": (
        "assert {add(2, 2): 1} == {4: 1}",
        f"class Yes(int):\n    {EQUAL.replace('None', 'lambda self: 4')}\ndef add(a, b): return Yes(5)\n",
    ),
    "in a slice": ("assert add(2, 2) == slice(0, 4)", f"{YES}def add(a, b): return slice(Yes(), Yes(), Yes())\n"),
    "in a view": (
        "assert add(2, 2).items() == {'a': 4}.items()",
        f"{YES}kept = {{'a': Yes()}}\ndef add(a, b): return kept\n",
    ),
    "in a mapping's proxy": (
        "assert add(2, 2) == {'a': 4}",
        f"import types\n{YES}def add(a, b): return types.MappingProxyType({{'a': Yes()}})\n",
    ),
    "made as a mapping is read": (
        "assert add(2, 2) == {'a': 4}",
        f"from collections.abc import Mapping\n{YES}class M(Mapping):\n    def __getitem__(self, key): return Yes()\n"
        "    def __iter__(self): return iter('a')\n    def __len__(self): return 1\ndef add(a, b): return M()\n",
    ),
    "by a proxy": (
        "assert add(2, 2) == 4",
        f"import weakref\n{YES}yes = Yes()\ndef add(a, b): return weakref.proxy(yes)\n",
    ),
    "a mock that equals all": (
        "assert add(2, 2) == 4",
        "from unittest import mock\nyes = mock.MagicMock()\nyes.__eq__.return_value = True\n"
        "def add(a, b): return yes\n",
    ),
    "a difference without a size": (
        "assert abs(add(2, 2) - 4) < 1e-9",
        "class None_:\n    def __abs__(self): return 0.0\n" + FLOAT.format("__sub__", "None_()"),
    ),
    "no difference from the right": ("assert abs(4 - add(2, 2)) < 1e-9", FLOAT.format("__rsub__", "0.0")),
    "no difference, with assertAlmostEqual": (
        UNITTEST.format("assertAlmostEqual(add(2, 2), 4)"),
        FLOAT.format("__sub__", "0.0"),
    ),
    "no difference, with approx": (
        "import pytest\nassert add(2, 2) == pytest.approx(4)",
        FLOAT.format("__rsub__", "0.0"),
    ),
    "equal while there is room in the stack": (
        "assert add(2, 2) == 4",
        f"{YES}{DEPTH}def add(a, b):\n    sys.setrecursionlimit(sys.getrecursionlimit() - depth() + 12)\n"
        "    return Yes()\n",
    ),
    "equal at the depth of a comparison": (
        "assert add(2, 2) == 4",
        f"{DEPTH}class Yes:\n    __hash__ = None\n    def __eq__(self, other): return here[0] - depth() == 6\n"
        "here = [0]\ndef add(a, b):\n    here[0] = depth()\n    return Yes()\n",
    ),
}
HONEST = {
    "texts in any case": (
        "assert 'A' in add('ba', '') and 'c' not in add('ba', '') and '' in add('', '')",
        "class Text(str):\n    def __contains__(self, one): return one.lower() in self.lower()\n"
        "def add(a, b): return Text(a + b)\n",
    ),
    "a set of all numbers": (
        "assert 4 in add(1, 2) and '4' not in add(1, 2)",
        "class Integers:\n    def __contains__(self, one): return isinstance(one, int)\n"
        "def add(a, b): return Integers()\n",
    ),
    "all but some": (
        "assert 3 not in add(1, 2)",
        "class Others(set):\n    def __contains__(self, one): return not set.__contains__(self, one)\n"
        "def add(a, b): return Others({a + b})\n",
    ),
    "keys that expire": (
        "assert 'a' not in add('a', 1)",
        "class Kept(dict):\n    def __contains__(self, key): return False\ndef add(a, b): return Kept({a: b})\n",
    ),
    "numbers of a ring, and no numbers": (
        "import math\nassert add(3, 4) - 7 == 0 and abs(add(1, 1) - 2) == 0\n"
        "import unittest, pytest\ntest = unittest.TestCase()\ntest.assertAlmostEqual(float(add(1, 1)), 2)\n"
        "assert add(1, 1) == pytest.approx(2)",
        "class Mod(int):\n    def __sub__(self, other): return Mod((int(self) - int(other)) % 7)\n"
        "    def __rsub__(self, other): return Mod((int(other) - int(self)) % 7)\n"
        "def add(a, b): return Mod((a + b) % 7 or 7)\n",
    ),
    "an end of its own": (
        "import math\nassert add(1, 1) - 5 == math.inf and math.isclose(add(1, 1), math.inf)",
        "class Infinity(float):\n    def __sub__(self, other): return self\ndef add(a, b): return Infinity('inf')\n",
    ),
    "views, slices and proxies": (
        "found = add(1, 2)\nassert found[0] == slice(1, 2) and found[1] == {'a': Point(1)}.items()\n"
        "assert found[2] == {'a': Point(1)} and {Point(1): 2} == {Point(1): 2} and found[3] == Point(1) != found[4]",
        "import dataclasses, types, weakref\n@dataclasses.dataclass(frozen=True)\nclass Point:\n    x: int\n"
        "kept = {'a': Point(1)}\ndef add(a, b):\n    proxy = weakref.proxy(kept['a'])\n"
        "    return slice(a, b), kept.items(), types.MappingProxyType(kept), kept['a'], Point(3)\n",
    ),
}


def _script(checks: str) -> str:
    return checks if "from pkg.core" in checks else f"from pkg.core import *\n{checks}\n"


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_a_value_that_lies_is_no_vote(attack: str, tmp_path: Path) -> None:
    checks, core = ATTACKS[attack]
    proved, shown = proves(core, _script(checks), tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("kind", HONEST)
def test_values_of_their_own_keep_the_proof(kind: str, tmp_path: Path) -> None:
    checks, core = HONEST[kind]
    proved, shown = proves(textwrap.dedent(core), _script(checks), tmp_path)
    assert proved, shown
