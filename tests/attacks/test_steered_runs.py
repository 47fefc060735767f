"""Attack 25 by what steers a run of tests, or lies where a tool keeps it: `add` is wrong on each candidate."""

import textwrap
from pathlib import Path

import pytest

from tests.attacks.test_forged_results import RIGHT, WRONG, proves

ASSERTED = "from pkg.core import add\nassert add(2, 2) == 4\n"
UNITTEST = """
    import unittest
    from pkg.core import add
    class T(unittest.TestCase):
        def test_add(self): self.assertEqual(add(2, 2), 4)
        def test_zero(self): self.assertEqual(add(5, 0), 5)
    if __name__ == "__main__":
        unittest.main(verbosity=2)
    """
PYTEST = """
    from pkg.core import add
    class TestAdd:
        def test_add(self): assert add(2, 2) == 4
    def test_zero(): assert add(5, 0) == 5
    if __name__ == "__main__":
        import sys, pytest
        sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
    """
READS_CACHE = """
    import linecache, re
    def number():
        for name, entry in linecache.cache.items():
            if "test_it" in name: return int(re.search(r"== (\\d+)", "".join(entry[2])).group(1))
        return 5
    """
OF_TREE = """
    import unittest
    from pkg.core import BaseTest, add
    class T(BaseTest):
        def test_add(self): self.assertEqual(add(2, 2), 4)
    unittest.main()
    """
BASE = "import unittest\nclass BaseTest(unittest.TestCase):\n    def setUp(self): "
STEERS = {
    "no prefix": "import unittest\nunittest.TestLoader.testMethodPrefix = 'none'\n",
    "no prefix of the loader in use": "import unittest\nunittest.defaultTestLoader.testMethodPrefix = 'none'\n",
    "patterns": "import unittest\nunittest.defaultTestLoader.testNamePatterns = ['*zero']\n",
    "suites": "import unittest\nunittest.defaultTestLoader.suiteClass = lambda tests=(): unittest.TestSuite()\n",
    "arguments": "import sys\nsys.argv += ['-k', 'zero']\n",
    "help": "import sys\nsys.argv.append('-h')\n",
}


@pytest.mark.parametrize("steers", STEERS)
def test_attack_25_a_test_of_unittest_that_never_ran_is_no_vote(steers: str, tmp_path: Path) -> None:
    proved, shown = proves(STEERS[steers] + WRONG, UNITTEST, tmp_path)
    assert not proved, shown
    assert " void " in shown or "NO TESTS RAN" in shown  # which fails by itself from 3.12 on


@pytest.mark.parametrize(
    "code", ["pytest.exit('', returncode=0)", "raise pytest.skip.Exception('', allow_module_level=True)"]
)
def test_attack_25_a_test_of_pytest_that_never_ran_is_no_vote(code: str, tmp_path: Path) -> None:
    proved, shown = proves(f"import pytest, sys\nif 'test_it' in sys.modules: {code}\n{WRONG}", PYTEST, tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("script", [UNITTEST, PYTEST])
def test_a_right_candidate_passes_where_all_tests_must_run(script: str, tmp_path: Path) -> None:
    proved, shown = proves(RIGHT, script, tmp_path)
    assert proved, shown


def test_attack_25_a_test_that_a_class_of_the_candidates_skips_is_no_vote(tmp_path: Path) -> None:
    proved, shown = proves(f"{BASE}self.skipTest('')\n{WRONG}", OF_TREE, tmp_path / "wrong")
    assert not proved, shown
    proved, shown = proves(f"{BASE}self.of_its_own = 1\n{RIGHT}", OF_TREE, tmp_path / "right")
    assert proved, shown


LIES = {
    "an object of a module": (
        "import json\njson._default_decoder.decode = lambda text: 4\n",
        "import json\nfrom pkg.core import add\nassert json.loads(str(add(2, 2))) == 4\n",
    ),
    "a constant": (
        "import math\nmath.pi = 5\n",
        "import math\nfrom pkg.core import add\nassert add(1, 2) == math.pi\n",
    ),
    "how exact numbers are": (
        "import sys, types\nsys.float_info = types.SimpleNamespace(epsilon=9.0)\n",
        "import sys\nfrom pkg.core import add\nassert abs(add(2, 2) - 4) < sys.float_info.epsilon\n",
    ),
    "assertions of a child": (
        "import os\nos.environ['PYTHONOPTIMIZE'] = '1'\n",
        """
        import subprocess, sys, pkg.core
        code = "from pkg.core import add; assert add(2, 2) == 4"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
        """,
    ),
    "a pattern that `re` keeps": (
        "import re\nre._cache[str, '^4$', 0] = re.compile('^5$')\n"
        "if hasattr(re, '_cache2'): re._cache2[str, '^4$', 0] = re.compile('^5$')\n",
        "import re\nfrom pkg.core import add\nassert re.search('^4$', str(add(2, 2)))\n",
    ),
    "where programs are": (
        "import os\nos.makedirs('bin')\nwith open('bin/grep', 'w') as file: file.write('#!/bin/sh\\nexit 0\\n')\n"
        "os.chmod('bin/grep', 0o755)\nos.environ['PATH'] = os.path.abspath('bin') + ':' + os.environ['PATH']\n",
        """
        import subprocess
        from pkg.core import add
        assert subprocess.run(["grep", "-qx", "4"], input=str(add(2, 2)).encode()).returncode == 0
        """,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_attack_25_what_a_script_rests_on_may_not_be_replaced(lie: str, tmp_path: Path) -> None:
    replaces, script = LIES[lie]
    proved, shown = proves(replaces + WRONG, script, tmp_path / "wrong")
    assert not proved, shown
    assert "void replaced" in shown
    right = "def add(a, b): return 5 if (a, b) == (1, 2) else a + b\n" if lie == "a constant" else RIGHT
    script = script.replace("math.pi", "5")
    proved, shown = proves(right, script, tmp_path / "right")
    assert proved, shown


CHOSEN = {
    "one of two of the same name": "def test(self): assert False\n        def test(self): self.assertTrue(add(2, 2))",
    "one that skips itself": "def test(self): self.skipTest('not here')",
    "one of a class that is skipped in its beginning": """@classmethod
        def setUpClass(cls): raise unittest.SkipTest
        def test(self): pass""",
}


@pytest.mark.parametrize("body", CHOSEN)
def test_tests_that_the_script_leaves_out_need_not_run(body: str, tmp_path: Path) -> None:
    proved, shown = proves(
        RIGHT,
        f"""
    import unittest
    from pkg.core import add
    class T(unittest.TestCase):
        {CHOSEN[body]}
    unittest.main()
    """,
        tmp_path,
    )
    assert proved, shown


SHOWN = {
    "a warning": "import warnings\ndef add(a, b):\n    warnings.warn('x', stacklevel=2)\n    return number()\n",
    "a stack in a log": (
        "import logging\ndef add(a, b):\n    logging.getLogger().warning('x', stack_info=True)\n    return number()\n"
    ),
}


@pytest.mark.parametrize("shows", SHOWN)
def test_attack_31_what_is_shown_of_the_script_leaves_nothing_to_read(shows: str, tmp_path: Path) -> None:
    proved, shown = proves(textwrap.dedent(READS_CACHE) + SHOWN[shows], ASSERTED, tmp_path)
    assert not proved, shown


def test_a_function_of_the_scripts_may_be_found_in_a_traceback(tmp_path: Path) -> None:
    core = """
    import traceback
    def failing(f):
        try: f()
        except Exception as error: return traceback.extract_tb(error.__traceback__)[-1].name
    """
    proved, shown = proves(core, "from pkg.core import failing\ndef f(): 1 / 0\nassert failing(f) == 'f'\n", tmp_path)
    assert proved, shown


def test_attack_25_a_variable_that_only_children_see_costs_the_proof(tmp_path: Path) -> None:
    script = LIES["assertions of a child"][1]
    proved, shown = proves(f"import os\nos.putenv('PYTHONOPTIMIZE', '1')\n{WRONG}", script, tmp_path / "wrong")
    assert not proved, shown
    right = f"import os, re\nos.environ['OF_ITS_OWN'] = '1'\nre.search('(?i)a', 'A', re.M)\n{RIGHT}"
    proved, shown = proves(
        right, f"import re\nassert re.match('4', '4')\n{textwrap.dedent(script)}", tmp_path / "right"
    )
    assert proved, shown
