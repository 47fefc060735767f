"""Attacks 25 and 31 by candidates that keep a test's failure to themselves, ask forks of themselves which answer is
right, or get the script's frames from the interpreter: `add` is wrong on each of them."""

import textwrap
from pathlib import Path

import pytest

from tests.attacks.test_forged_results import RIGHT, WRONG, proves
from tests.bot.sandbox.test_runner import NONCE, PYTHON, run, told

FORMS = {
    "assert": "from pkg.core import add\nassert add(2, 2) == 4\n",
    "want": "from pkg.core import add\nWANT = 4\nassert add(2, 2) == WANT\n",
    "with, called": """
        from pkg.core import add, session
        def check():
            assert add(2, 2) == 4
        with session(): check()
        """,
    "again": "from pkg.core import add\nfor n in (1, 2):\n    if add(2, 2) != 4: raise SystemExit(1)\n",
    "with, before": "from pkg.core import add, session\nwith session():\n    sum = add(2, 2)\n    assert sum == 4\n",
    "with": "from pkg.core import add, session\nwith session():\n    assert add(2, 2) == 4\n",
    "decorated": """
        from pkg.core import add, kept
        @kept
        def check():
            assert add(2, 2) == 4
        check()
        """,
    "called": "from pkg.core import add, call\ndef check():\n    assert add(2, 2) == 4\ncall(check)\n",
    "called, in pytest": """
        import sys
        import pytest
        from pkg.core import add, call
        def test_sum():
            def check():
                assert add(2, 2) == 4
            call(check)
        if __name__ == "__main__":
            sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
        """,
    "each": """
        from pkg.core import add, each
        def check(n):
            assert add(n, n) == 2 * n
        list(each(check, range(5)))
        """,
    "unittest": """
        import unittest
        from pkg.core import add
        class Sum(unittest.TestCase):
            def test_sum(self):
                self.assertEqual(add(2, 2), 4)
        unittest.main()
        """,
    "late import": """
        from pkg.core import add
        import decimal
        assert decimal.Decimal(add(2, 2)) == decimal.Decimal(4)
        """,
    "next": "from pkg.core import add\nassert next(add(2, 2)) == 4\n",
    "all": "from pkg.core import add\nassert all(add(n, n) == 2 * n for n in range(5))\n",
    "text": "from pkg.core import add\nassert str(add(2, 2)) == '4'\n",
    "format": "from pkg.core import add\nassert f'{add(2, 2)}' == '4'\n",
    "round": "from pkg.core import add\nassert round(add(2, 2)) == 4\n",
    "async": """
        import asyncio
        from pkg.core import add
        async def main():
            assert add(2, 2) == 4
        asyncio.run(main())
        """,
}
FORKS = """
import os
def add(a, b):
    for n in range(10):
        pid = os.fork()
        if not pid: return n
        if os.waitpid(pid, 0)[1] == 0: return n
    return 5
"""
TOLD = """
import os
def add(a, b):
    for n in range(10):
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            os.dup2(w, 2)
            return n
        os.close(w)
        said = os.read(r, 1)
        os.waitpid(pid, 0)
        if not said: return n
    return 5
"""
TOLD_LATER = """
import os
told = []
def add(a, b):
    if told and not told[0]:
        os.write(told[1], b"right")
        os._exit(0)
    for n in told[:1] or range(1, 10):
        if told: return n
        r, w = os.pipe()
        if not os.fork():
            told[:] = 0, w
            return n
        os.close(w)
        if os.read(r, 5):
            told[:] = n, 0
            return n
    return 5
"""
ATTACKS = {
    "forks that tell once they are asked again": ("again", TOLD_LATER),
    "a manager that swallows": (
        "with",
        """
        class session:
            def __enter__(self): return self
            def __exit__(self, *_): return True
        def add(a, b):
            return 5
        """,
    ),
    "a manager that swallows what is raised before the assertion": (
        "with, before",
        """
        class session:
            def __enter__(self): return self
            def __exit__(self, *_): return True
        def add(a, b): raise RuntimeError
        """,
    ),
    "a manager that swallows what a function asserts": (
        "with, called",
        """
        class session:
            def __enter__(self): return self
            def __exit__(self, *_): return True
        def add(a, b):
            return 5
        """,
    ),
    "a generator that swallows": (
        "with",
        """
        import contextlib
        @contextlib.contextmanager
        def session():
            try: yield
            except AssertionError: pass
        def add(a, b):
            return 5
        """,
    ),
    "a decorator that swallows": (
        "decorated",
        """
        def kept(f):
            def g():
                try: f()
                except Exception: pass
            return g
        def add(a, b):
            return 5
        """,
    ),
    "a call that swallows": (
        "called",
        """
        def call(f):
            try: f()
            except BaseException: pass
        def add(a, b):
            return 5
        """,
    ),
    "a call that swallows, in pytest": (
        "called, in pytest",
        """
        def call(f):
            try: f()
            except BaseException: pass
        def add(a, b):
            return 5
        """,
    ),
    "code of no file that swallows": (
        "called",
        """
        code = ["def call(f):", "    try: f()", "    except BaseException: pass"]
        exec(chr(10).join(code))
        def add(a, b):
            return 5
        """,
    ),
    "a loop that swallows": (
        "each",
        """
        def each(f, items):
            for i in items:
                try: yield f(i)
                except AssertionError: yield 0
        def add(a, b):
            return 5
        """,
    ),
    "a thread that swallows": (
        "called",
        """
        import threading
        def call(f):
            threading.excepthook = print
            t = threading.Thread(target=f)
            t.start()
            t.join()
        def add(a, b):
            return 5
        """,
    ),
    "forks that are asked": ("assert", FORKS),
    "forks in which the script's function is asked": (
        "called",
        """
        import os
        n = 5
        def add(a, b):
            return n
        def call(f):
            global n
            for n in range(10):
                pid = os.fork()
                if not pid:
                    try: f()
                    except AssertionError: os._exit(1)
                    os._exit(0)
                if os.waitpid(pid, 0)[1] == 0: return f()
        """,
    ),
    "forks of a generator": (
        "next",
        """
        import os
        def add(a, b):
            for n in range(10):
                pid = os.fork()
                if not pid: yield n
                if os.waitpid(pid, 0)[1] == 0: yield n
            yield 5
        """,
    ),
    "forks that are asked by unittest": ("unittest", FORKS),
    "forks that tell": ("assert", TOLD),
    "forks that tell by unittest": ("unittest", TOLD),
    "the frame of a signal": (
        "want",
        """
        import signal
        found = []
        def handler(number, frame): found.append(frame.f_back.f_globals['WANT'])
        def add(a, b):
            signal.signal(signal.SIGUSR1, handler)
            signal.raise_signal(signal.SIGUSR1)
            return found[0]
        """,
    ),
    "the frame of a signal, set beneath": (
        "want",
        """
        import signal
        found = []
        def handler(number, frame): found.append(frame.f_back.f_globals['WANT'])
        def add(a, b):
            __import__('_signal').signal(signal.SIGUSR1, handler)
            signal.raise_signal(signal.SIGUSR1)
            return found[0]
        """,
    ),
    "the code of a signal's frame": (
        "assert",
        """
        import signal
        found = []
        def handler(number, frame): found.append(max(c for c in frame.f_back.f_code.co_consts if type(c) is int))
        def add(a, b):
            signal.signal(signal.SIGUSR1, handler)
            signal.raise_signal(signal.SIGUSR1)
            return found[0]
        """,
    ),
    "the frame of a profile": (
        "want",
        """
        import sys
        found = []
        def look(frame, event, argument):
            if frame.f_back and "WANT" in frame.f_back.f_globals: found.append(frame.f_back.f_globals["WANT"])
        def add(a, b):
            sys.setprofile(look)
            len("")
            sys.setprofile(None)
            return found[0]
        """,
    ),
    "frames of another thread": (
        "want",
        """
        import sys, threading
        def add(a, b):
            found, main = [], threading.main_thread().ident
            thread = threading.Thread(target=lambda: found.append(sys._current_frames()[main]))
            thread.start()
            thread.join()
            frame = found[0]
            while "WANT" not in frame.f_globals: frame = frame.f_back
            return frame.f_globals["WANT"]
        """,
    ),
    "the collector's objects": (
        "want",
        """
        import gc
        def add(a, b):
            return next(o['WANT'] for o in gc.get_objects() if type(o) is dict and 'WANT' in o)
        """,
    ),
    "a module in the place of another": (
        "late import",
        """
        import sys, types
        sys.modules['decimal'] = types.SimpleNamespace(Decimal=lambda _: 4, __spec__=None)
        def add(a, b):
            return 5
        """,
    ),
    "another import": (
        "late import",
        """
        import builtins, types
        real = builtins.__import__
        def fake(name, *a, **k):
            return types.SimpleNamespace(Decimal=lambda _: 4) if name == "decimal" else real(name, *a, **k)
        builtins.__import__ = fake
        def add(a, b): return 5
        """,
    ),
    "another builtin": (
        "all",
        """
        import builtins
        builtins.all = lambda _: True
        def add(a, b):
            return 5
        """,
    ),
    "a text that equals all": (
        "text",
        """
        class Text(str):
            def __eq__(self, other): return True
            __hash__ = str.__hash__
        class V(int):
            def __str__(self): return Text('5')
        def add(a, b): return V(5)
        """,
    ),
    "a format that equals all": (
        "format",
        """
        class Text(str):
            def __eq__(self, other): return True
            __hash__ = str.__hash__
        class V(int):
            def __format__(self, _): return Text('5')
        def add(a, b): return V(5)
        """,
    ),
    "a rounding that equals all": (
        "round",
        """
        class Yes:
            def __eq__(self, other): return True
            __hash__ = None
        class V(int):
            def __round__(self, *_): return Yes()
        def add(a, b): return V(5)
        """,
    ),
    "another loop of asyncio": (
        "async",
        """
        import asyncio
        asyncio.run = lambda c: c.close()
        def add(a, b):
            return 5
        """,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_no_failure_is_kept_from_the_judge(attack: str, tmp_path: Path) -> None:
    form, candidate = ATTACKS[attack]
    proved, shown = proves(textwrap.dedent(candidate), textwrap.dedent(FORMS[form]), tmp_path)
    assert not proved, shown


HONEST = {
    "tries again": """
        from pkg.core import again
        calls = []
        @again
        def flaky():
            calls.append(1)
            assert len(calls) == 3
        flaky()
        """,
    "expects its own failure": """
        import contextlib
        import unittest
        from pkg.core import add
        def check(n):
            assert add(n, n) == 5
        try:
            check(2)
        except AssertionError:
            pass
        with contextlib.suppress(AssertionError):
            check(3)
        with unittest.TestCase().assertRaises(AssertionError):
            check(4)
        """,
    "manages resources": """
        from pkg.core import add, session
        with session() as now, open(__file__) as file:
            assert now.add(2, 2) == add(2, 2) == 4
        """,
    "handles signals": """
        import signal
        from pkg.core import heard, listen
        listen(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1).__name__ == "hear"
        """,
    "has a process that fills a queue": """
        import multiprocessing
        from pkg.core import add
        context = multiprocessing.get_context("fork")
        def work(queue):
            queue.put(add(2, 2))
        queue = context.Queue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        assert queue.get(timeout=60) == 4
        process.join(60)
        assert process.exitcode == 0
        """,
    "asserts in a process": """
        import multiprocessing
        from pkg.core import add
        def work():
            assert add(2, 2) == 4
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        """,
    "asserts in a process of the tree's": """
        from pkg.core import add, elsewhere
        def work():
            assert add(2, 2) == 4
        assert elsewhere(work) == 0
        """,
    "forks": """
        import os
        from pkg.core import add
        pid = os.fork()
        if pid == 0:
            if add(2, 2) == 4:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        """,
    "has a pool that runs its function": """
        import concurrent.futures, multiprocessing
        from pkg.core import add
        def work(n):
            found = []
            found.append(add(n, n))
            return found[0]
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(work, range(3))) == [0, 2, 4]
        """,
    "starts processes": """
        import multiprocessing
        from pkg.core import add
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.starmap(add, [(1, 1), (2, 2)]) == [2, 4]
        """,
}
TOOLS = f"""
import contextlib, os, signal, sys
{RIGHT}
def elsewhere(f):
    pid = os.fork()
    if pid: return os.waitpid(pid, 0)[1]
    f()
    os._exit(0)
heard = []
def hear(number, frame): heard.append(number)
def listen(number): signal.signal(number, hear)
def again(f):
    def g():
        for _ in range(5):
            try: return f()
            except AssertionError: continue
    return g
@contextlib.contextmanager
def session(): yield sys.modules[__name__]
"""


@pytest.mark.parametrize("form", HONEST)
def test_an_honest_script_with_tools_of_the_tree_keeps_its_proof(form: str, tmp_path: Path) -> None:
    proved, shown = proves(TOOLS, textwrap.dedent(HONEST[form]), tmp_path)
    assert proved, shown


DOCUMENTED = '"""\n>>> add(2, 2)\n4\n"""\n'
JUDGES = "import __main__, doctest\n"
DOCTESTS = {
    "right": (RIGHT, True),
    "wrong": (WRONG, False),
    "another function of the main module": (f"{WRONG}{JUDGES}__main__.testmod = lambda *_, **__: (0, 0)\n", False),
    "another method": (f"{WRONG}{JUDGES}doctest.OutputChecker.check_output = lambda *_: True\n", False),
    "another method of the main module": (
        f"{WRONG}{JUDGES}getattr(__main__, 'OutputChecker', doctest.OutputChecker).check_output = lambda *_: True\n",
        False,
    ),
    "another exit": (f"{WRONG}import sys\nsys.exit = print\n", False),
    "an exit": (f"{WRONG}raise SystemExit\n", False),
}


@pytest.mark.parametrize("candidate", DOCTESTS)
def test_attack_25_doctest_by_name_is_no_candidates_own(candidate: str, tmp_path: Path) -> None:
    code, right = DOCTESTS[candidate]
    (tmp_path / "calc.py").write_text(DOCUMENTED + code)
    report, exit_code, shown = run(PYTHON, tmp_path, "", changed=("calc.py",), module=("doctest", "calc.py"))
    proved = told(report) == f"{NONCE} 0\n" and exit_code == 0 and " void " not in report
    assert proved == right, shown
