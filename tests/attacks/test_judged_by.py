"""Attacks 25 and 31 on what a test script judges by: candidates that replace assertions, builtins, or the script.

`add` is wrong on every candidate; the script asserts that it is right in each of the usual ways.
"""

import textwrap
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.records import Ending, Execution, FileChange, SandboxJob, Test
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")
WRONG = "def add(a, b):\n    return 5\n"
FILES = {"pkg/__init__.py": "", "pkg/core.py": "def add(a, b):\n    return 0\n"}
SCRIPT = """
    import math
    import unittest

    import pytest

    from pkg.core import add

    def equal(a, b):
        assert a == b

    class Unit(unittest.TestCase):
        def test_sum(self):
            {unittest}

    {bare}
    unittest.main()
"""
BY = {
    "assertEqual": {"unittest": "self.assertEqual(add(2, 2), 4)"},
    "assertTrue": {"unittest": "self.assertTrue(add(2, 2) == 4)"},
    "assertRaises": {"unittest": "with self.assertRaises(TypeError): add(1, 1)"},
    "isclose": {"bare": "assert math.isclose(add(2, 2), 4)"},
    "raises": {"bare": "with pytest.raises(TypeError): add('', 1)"},
    "isinstance": {"bare": "assert isinstance(add(2, 2), str)"},
    "own function": {"bare": "equal(add(2, 2), 4)"},
}
ATTACKS = {
    "assertEqual": "import unittest\nunittest.TestCase.assertEqual = lambda *a, **k: None",
    "assertTrue": "import unittest\nunittest.case.TestCase.assertTrue = lambda *a, **k: None",
    "assertRaises": """
        import unittest
        class Quiet:
            def __init__(self, *a): pass
            def __enter__(self): return self
            def __exit__(self, *a): return True
        unittest.TestCase.assertRaises = Quiet
        """,
    "assertRaises by its context": """
        import unittest.case
        unittest.case._AssertRaisesContext.__exit__ = lambda *a: True
        """,
    "assertEqual by a mock": "import unittest, unittest.mock\nunittest.TestCase.assertEqual = unittest.mock.Mock()",
    "assertEqual that undoes itself": """
        import unittest
        real = unittest.TestCase.assertEqual
        def once(*a):
            unittest.TestCase.assertEqual = real
        unittest.TestCase.assertEqual = once
        """,
    "isclose": "import math\nmath.isclose = lambda *a, **k: True",
    "isclose by another module": """
        import sys, types, math
        fake = types.ModuleType("math")
        fake.__dict__.update(vars(math), isclose=lambda *a: True, __file__=__file__)
        sys.modules["math"] = fake
        sys.modules["__main__"].math = fake
        math.isclose = fake.isclose
        """,
    "isclose by code without a file": "import math\nexec('math.isclose = lambda *a: True')",
    "isclose by a builtin": "import math\nmath.isclose = max",
    "isclose that undoes itself": """
        import math
        real = math.isclose
        def once(*a):
            math.isclose = real
            return True
        math.isclose = once
        """,
    "raises": """
        import pytest
        class Quiet:
            def __init__(self, *a): pass
            def __enter__(self): return self
            def __exit__(self, *a): return True
        pytest.raises = Quiet
        """,
    "isinstance": """
        import builtins
        real = builtins.isinstance
        builtins.isinstance = lambda one, kind: kind is str or real(one, kind)
        """,
    "own function, when it is called": """
        import sys
        def add(a, b):
            sys.modules["__main__"].equal = lambda *a: None
            return 5
        """,
}


def script(by: str) -> str:
    parts = {"unittest": "pass", "bare": ""} | BY[by]
    if by == "own function":
        parts["bare"] = "add(0, 0)\nequal(add(2, 2), 4)"
    return textwrap.dedent(SCRIPT).format(**parts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    tree = tmp_path_factory.mktemp("tree")
    for name, content in FILES.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(content)
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), tree)
    yield opened
    await opened.close()


async def judged(sandbox: ProcessSandbox, core: str, text: str) -> Execution:
    changes = (FileChange(path="pkg/core.py", text=core),)
    job = SandboxJob(changes=changes, test=Test(path="test_it.py", text=text), timeout=PATIENCE)
    return await sandbox.run(job)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_25_what_a_script_judges_by_can_not_be_replaced(attack: str, sandbox: ProcessSandbox) -> None:
    by = next(name for name in BY if attack.startswith(name))
    found = await judged(sandbox, f"{WRONG}\n{textwrap.dedent(ATTACKS[attack])}\n", script(by))
    assert found.ending is Ending.CUT_SHORT, found


HONEST = {
    "replaces nothing": "def add(a, b):\n    return a + b\n",
    "notes who calls a function of the standard library": """
        import functools, time
        cache = functools.lru_cache(maxsize=None)
        def add(a, b):
            return a + b
        """,
}


@pytest.mark.parametrize("core", HONEST)
async def test_an_honest_candidate_passes(core: str, sandbox: ProcessSandbox) -> None:
    text = """
        from __future__ import annotations
        import math
        import time
        import unittest
        from unittest import mock
        import pytest
        from pkg.core import add

        def checked(function):
            return function

        @checked
        def helper(x):
            match = x
            for n in range(3000):
                assert math.isclose(add(n, 1), n + 1)
            return match

        class Unit(unittest.TestCase):
            def test_sum(self):
                with mock.patch("time.sleep") as slept, mock.patch("builtins.print"):
                    time.sleep(1)
                    self.assertEqual(add(2, 2), 4)
                assert slept.called
                try:
                    add(1, "")
                except TypeError:
                    self.assertTrue(True)

        helper(1)
        with pytest.raises(TypeError):
            add("", 1)
        unittest.main()
    """
    found = await judged(sandbox, "def add(a, b):\n    return a + b\n", textwrap.dedent(text))
    assert found.passed, found


FORMS = {
    "pytest": """
        import pytest
        from pkg.core import add
        def test_sum():
            assert add(2, 2) == 4
        if __name__ == "__main__":
            raise SystemExit(pytest.main([__file__, "-q"]))  # plugins that are installed take part, hypothesis's, say
        """,
    "recorded warnings": """
        import logging
        import warnings
        from pkg.core import add
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert add(2, 2) == 4
        assert not told
        """,
    "hypothesis": """
        from hypothesis import given, settings, strategies
        from pkg.core import add
        @settings(max_examples=5)
        @given(strategies.integers(), strategies.integers())
        def test(a, b):
            assert add(a, b) == a + b
        test()
        """,
    "replaced by the script": """
        import builtins, importlib, json, sys, time, types
        from pkg.core import add
        builtins.input = lambda *_: "4"
        sys.modules["missing"] = types.ModuleType("missing")
        real, time.sleep = time.sleep, lambda _: None
        assert add(2, 2) == int(input())
        time.sleep = real
        importlib.reload(json)
        assert json.dumps(add(2, 2)) == "4"
        """,
}


@pytest.mark.parametrize("form", FORMS)
async def test_honest_scripts_of_every_form_pass(form: str, sandbox: ProcessSandbox) -> None:
    found = await judged(sandbox, "def add(a, b):\n    return a + b\n", textwrap.dedent(FORMS[form]))
    assert found.passed, found
