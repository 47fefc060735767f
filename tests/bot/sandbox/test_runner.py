"""The runner under every Python that is here, from 3.8 on."""

import atexit
import base64
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bot.sandbox import inside
from bot.sandbox.outcome import Words
from tests.lean_python import JOBS_PYTHON
from tests.patience import PATIENCE

KEY, NONCE = "0ff1ce" * 5 + "00", "5ec4e7" * 5 + "01"
SECRET = Words(KEY, NONCE)
PYTHON = JOBS_PYTHON or sys.executable
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the plugins of Troop's own tests take seconds to import


def _pythons() -> list[str]:
    """The interpreters that start without a version manager's environment."""
    found = {PYTHON: PYTHON}
    for minor in range(8, 20):
        if minor != sys.version_info.minor and (other := shutil.which(f"python3.{minor}")):
            asked = [os.path.realpath(other), "-c", "import sys; print(sys.executable)"]
            done = subprocess.run(asked, capture_output=True, text=True, env={"PATH": os.defpath}, cwd="/")
            if done.returncode == 0:
                found.setdefault(done.stdout.strip(), other)
    return list(found)


@functools.cache
def _runner() -> Path:
    """Beside what it executes, compiled as sandboxes have it. One for each process of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="troop-test-inside-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, text in inside.FILES.items():
        (folder / name).write_text(text)
    for name, encoded in inside.compiled(f"{folder}/").items():
        (folder / name).write_bytes(base64.b64decode(encoded))
    return folder / "runner.py"


def run(
    python: str,
    folder: Path,
    script: str,
    changed: tuple[str, ...] = (),
    module: tuple[str, ...] = (),
    started: Path | None = None,
) -> tuple[str, int, str]:
    """The proof, the exit code and the output; of `-m module` where there is one."""
    (folder / "script").mkdir(exist_ok=True)
    path = folder / "script" / "test_it.py"
    path.write_text(script)
    (folder / "changed").write_text("".join(f"{folder}/{name}\n" for name in changed))
    read, write = os.pipe()
    try:
        done = subprocess.run(
            [python, str(started or _runner()), str(write), str(folder / "changed"), str(folder)]
            + (["-m", *module] if module else [str(path)]),
            input=(KEY + NONCE).encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(write,),
            cwd=folder, env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"} | ALONE, timeout=PATIENCE,
        )  # fmt: skip
    finally:
        os.close(write)
    with open(read) as file:
        return file.read(), done.returncode, done.stdout.decode()


def told(said: str) -> str:
    """What is said, without the lines that tell of results and without the numbers of lines."""
    lines = [line for line in said.splitlines() if line and not line.startswith(f"{KEY} ")]
    return "".join(f"{line.rpartition(' ')[0] if line.startswith(NONCE) else line}\n" for line in lines)


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize(
    ("script", "proof", "code"),
    [
        ("print('hello')", f"{NONCE} 0\n", 0),
        ("import mod; mod.quit()", f"{NONCE} cut\n", 0),
        ("import mod\nwith open('x', 'w'): pass\nmod.hard()", "", 0),
        ("import sys; sys.exit(7)", f"{NONCE} 7\n", 7),
        ("import sys; sys.exit(-1)", f"{NONCE} 255\n", 255),
        ("raise KeyboardInterrupt", f"{NONCE} 130\n", 130),
        ("import atexit, os; atexit.register(os._exit, 0); assert False", f"{NONCE} 1\n", 0),
        ("import runpy, sys; sys.argv[1:] = ['-h']; runpy.run_module('timeit', run_name='__main__')", None, 0),
        ("import os; os._exit(0) if os.fork() else None", "", 0),
        ("import os\nif not os.fork(): raise SystemExit\nos.wait()", f"{NONCE} 0\n", 0),
        ("\N{LATIN SMALL LETTER E WITH ACUTE} = 1", f"{NONCE} 0\n", 0),
    ],
)
def test_the_proof(python: str, script: str, proof: str | None, code: int, tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("import os, sys\ndef quit(): sys.exit(0)\ndef hard(): os._exit(0)\n")
    report, exit_code, shown = run(python, tmp_path, script, changed=("mod.py",))
    said = told(report)
    assert exit_code == code, shown
    assert said == (proof if proof is not None else f"{NONCE} 0\n"), shown


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize(
    "script",
    [
        "def f():\n    raise ValueError('no')\nf()\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError(1) from error\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError(1)\n",
        "def f(:\n",
        "x = 1\n  y = 2\n",
        "raise SystemExit('said why')",
        "assert 1 == 2, 'numbers'",
        "import nowhere",
    ],
)
def test_what_is_printed_is_what_a_bare_run_prints(python: str, script: str, tmp_path: Path) -> None:
    _, code, shown = run(python, tmp_path, script)
    bare = subprocess.run(
        [python, str(tmp_path / "script" / "test_it.py")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path, env={"PATH": os.defpath}, timeout=PATIENCE,
    )  # fmt: skip
    assert shown == bare.stdout.decode()
    assert code == bare.returncode


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize(
    ("test", "proof", "code"),
    [
        ("assert 1 == 1", f"{NONCE} 0\n", 0),
        ("self.fail()", f"{NONCE} 1\n", 1),
        ("import mod; mod.quit()", f"{NONCE} 0\n", 0),
        ("import mod; mod.hard()", "", 0),
    ],
)
def test_a_module_is_proven_too(python: str, test: str, proof: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("import os, sys\ndef quit(): sys.exit(0)\ndef hard(): os._exit(0)\n")
    (tmp_path / "test_a.py").write_text(
        f"import sys, unittest\nclass A(unittest.TestCase):\n    def test(self):\n        {test}\n"
    )
    report, exit_code, shown = run(python, tmp_path, "", ("mod.py",), ("unittest", "-v", "test_a"))
    said = told(report)
    if "quit" in test:  # unittest lets `SystemExit` pass, from a changed file: that is no success
        proof = f"{NONCE} cut\n" if said.endswith("cut\n") else f"{NONCE} 1\n"
        code = exit_code
    assert (said, exit_code) == (proof, code), shown
    assert "runner.py" not in shown


def test_a_module_that_is_not_there_says_so(tmp_path: Path) -> None:
    report, code, shown = run(PYTHON, tmp_path, "", (), ("no_such_module",))
    said = told(report)
    assert (said, code) == (f"{NONCE} 1\n", 1)
    assert "No module named no_such_module" in shown


def test_the_nonce_is_in_no_argument_variable_or_frame(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "seen = open('/proc/self/cmdline').read() + open('/proc/self/environ').read() + repr(os.environ)\n"
        "seen += repr(sys.argv) + repr(vars(sys.modules['__main__'])) + os.read(0, 100).decode()\n"
        "frame = sys._getframe()\n"
        "while frame is not None:\n"
        "    seen += repr(frame.f_locals) + repr(frame.f_globals)\n"
        "    for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
        "        seen += repr([cell.cell_contents for cell in getattr(value, '__closure__', None) or ()])\n"
        "    frame = frame.f_back\n"
        f"assert {NONCE[:3]!r} + {NONCE[3:]!r} not in seen, seen\n"
    )
    report, code, shown = run(PYTHON, tmp_path, script)
    said = told(report)
    assert (said, code) == (f"{NONCE} 0\n", 0), shown


DOCTEST = """
import doctest, sys, types
def twice(x):
    \"\"\"
    >>> twice(2)
    4
    \"\"\"
    return 2 * x
def trace(frame, event, argument):
    return None
def check():
    assert doctest.testmod(sys.modules[__name__]).failed == 0
"""
FAKE = """
fake = types.ModuleType("sys")
fake.__dict__.update(sys.__dict__)
fake.gettrace = lambda: trace
"""


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize(
    ("attack", "proved"),
    [
        ("", True),  # doctest sets the trace function that it found, which is none
        ("sys.settrace(trace)", False),
        (f"{FAKE}doctest.sys = fake", False),
        ("sys.gettrace = lambda: trace", False),
        ("doctest.DocTestRunner.run.__globals__['sys'] = "
         "types.SimpleNamespace(**{**vars(sys), 'gettrace': lambda: trace})", False),
        ("code = compile('def run(): save_trace = None; sys.settrace(trace)', doctest.__file__, 'exec')\n"
         "exec(code, {'sys': sys, 'trace': trace}, globals())\nrun()", False),
    ],
)  # fmt: skip
def test_a_changed_file_may_use_doctest_and_trace_nothing(
    python: str, attack: str, proved: bool, tmp_path: Path
) -> None:
    (tmp_path / "mod.py").write_text(DOCTEST + attack + "\n")
    report, exit_code, shown = run(python, tmp_path, "import mod; mod.check()", changed=("mod.py",))
    said = told(report)
    assert (" void " not in report) == proved, report
    if proved:
        assert (said, exit_code) == (f"{NONCE} 0\n", 0), shown


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize(
    ("target", "proved"),
    [
        ("other.twice", True),  # a decorator of the repository that compiles what it wraps at its first call
        ("other.Box.twice", True),
        ("test_other.check", False),
        ("tests.helper.check", False),
        ("__import__('textwrap').dedent", False),
        ("__import__('collections').namedtuple('P', 'x').__new__", False),  # made of a string
    ],
)
def test_a_changed_file_may_replace_code_of_the_repository_alone(
    python: str, target: str, proved: bool, tmp_path: Path
) -> None:
    plain = "def check(*args): return 1\ndef twice(*args): return 2\nclass Box:\n    def twice(*args): return 2\n"
    (tmp_path / "tests").mkdir()
    for name in ("other", "test_other", "tests/helper"):
        (tmp_path / f"{name}.py").write_text(plain)
    (tmp_path / "mod.py").write_text(
        f"import other, test_other, tests.helper\ndef new(*args): return 3\n{target}.__code__ = new.__code__\n"
    )
    report, exit_code, shown = run(python, tmp_path, "import mod", changed=("mod.py",))
    said = told(report)
    assert (" void " not in report) == proved, report
    if proved:
        assert (said, exit_code) == (f"{NONCE} 0\n", 0), shown


def test_what_the_sandbox_compiled_is_executed_by_the_python_that_it_is_for(tmp_path: Path) -> None:
    for name, text in inside.FILES.items():
        (tmp_path / name).write_text(text)
    guard, compiled = tmp_path / "guard.py", tmp_path / "guard.pyc"
    (tmp_path / "mod.py").touch()

    def proof() -> str:
        return told(run(PYTHON, tmp_path, "import mod", changed=("mod.py",), started=tmp_path / "runner.py")[0])

    compiles = "import py_compile, sys; py_compile.compile(*sys.argv[1:])"
    subprocess.run([PYTHON, "-c", compiles, guard, compiled], check=True)
    guard.write_text("raise SystemExit('compiled anew')")
    assert proof() == f"{NONCE} 0\n"
    compiled.write_bytes(b"none" + compiled.read_bytes()[4:])  # as of another version
    assert proof() == ""
