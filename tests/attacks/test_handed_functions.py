"""Attack 25 by candidates that never call the test that they are handed: `add` is wrong on each of them."""

import textwrap
from pathlib import Path

import pytest

from tests.attacks.test_forged_results import RIGHT, WRONG, proves

NEVER = """
def kept(f):
    return lambda *_, **__: None
def kept_for(*_):
    return kept
class Runner:
    def run(self, f): return True
def call(f, *_): pass
"""
PYTEST = "if __name__ == '__main__':\n    import sys, pytest\n    sys.exit(pytest.main([__file__, '-q']))\n"
ATTACKS = {
    "a decorator": "from pkg.core import add, kept\n@kept\ndef check():\n    assert add(2, 2) == 4\ncheck()\n",
    "beside another assertion": """
        from pkg.core import add, kept_for
        @kept_for(3)
        def check(n=2):
            got = add(n, n)
            assert got == 4
        check()
        assert add is not None
        """,
    "of a test of pytest": "from pkg.core import add, kept\n@kept\ndef test_sum():\n    assert add(2, 2) == 4\n"
    + PYTEST,
    "of a test of unittest": """
        import unittest
        from pkg.core import add, kept
        class Sum(unittest.TestCase):
            @kept
            def test_sum(self):
                self.assertEqual(add(2, 2), 4)
        unittest.main()
        """,
    "a call": "from pkg.core import add, call\ndef check():\n    assert add(2, 2) == 4\ncall(check)\n",
    "a method": "from pkg.core import add, Runner\ndef check():\n    assert add(2, 2) == 4\nRunner().run(check)\n",
    "by its name in a table": """
        import pytest
        from pkg.core import add, kept
        @kept
        def test_sum():
            assert add(2, 2) == 4
        for name, test in list(globals().items()):
            if name.startswith("test"): test()
        """,
    "by its module": "import pkg.core\ndef check():\n    assert pkg.core.add(2, 2) == 4\npkg.core.call(check)\n",
}
TOOLS = f"""
import os
{RIGHT}
def kept(f):
    return lambda *given, **named: f(*given, **named)
def elsewhere(f):
    def g():
        pid = os.fork()
        if pid: return os.waitpid(pid, 0)[1]
        f()
        os._exit(0)
    return g
class Signal:
    def __init__(self): self.receivers = []
    def connect(self, f): self.receivers.append(f)
    def send(self): [f() for f in self.receivers]
def connect(f): return f
def requires(what): return kept
"""
HONEST = {
    "a decorator": ATTACKS["a decorator"],
    "a test of pytest": ATTACKS["of a test of pytest"],
    "a test of unittest": ATTACKS["of a test of unittest"],
    "a process of its own": """
        from pkg.core import add, elsewhere
        @elsewhere
        def check():
            assert add(2, 2) == 4
        assert check() == 0
        """,
    "a receiver that nobody calls": """
        from pkg.core import add, connect
        def receiver():
            assert add(2, 2) == 4
        connect(receiver)
        assert add(1, 1) == 2
        """,
    "a handler that nobody calls": """
        from pkg.core import add, connect
        @connect
        def never():
            assert add(2, 2) == 5
        assert add(1, 1) == 2
        """,
    "a test that the script does not choose": """
        import pytest
        from pkg.core import add, kept
        @kept
        def test_other():
            assert add(2, 2) == 5
        def on_main():
            return domain_main(4)
        def domain_main(n):
            return n
        def test_sum():
            assert add(2, 2) == on_main()
        for test in (test_sum,): test()
        """,
    "what asserts for some alone": """
        from pkg.core import add, connect, kept
        @kept
        def check(items):
            for item in items:
                assert item == 4
        check([])
        def handler(error=None):
            if error: assert error == 3
        connect(handler)
        """,
}


def _proves(candidate: str, script: str, folder: Path) -> tuple[bool, str]:
    return proves(candidate, textwrap.dedent(script), folder)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_25_a_test_that_is_never_called_is_no_vote(name: str, tmp_path: Path) -> None:
    proved, shown = _proves(NEVER + WRONG, ATTACKS[name], tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("name", HONEST)
def test_functions_that_run_or_need_not_run_keep_the_proof(name: str, tmp_path: Path) -> None:
    proved, shown = _proves(TOOLS, HONEST[name], tmp_path)
    assert proved, shown
