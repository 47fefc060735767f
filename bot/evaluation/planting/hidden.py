"""Scripts that run beside a tree: one that observes its doctests, and the hidden check of one bug."""

import json
from pathlib import Path

from bot.records import Execution, Test
from bot.solver import doctests

MARK = "OBSERVED "
_OUTCOMES = Path(doctests.__file__).read_text()

_LOAD = """
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

DATA = json.loads({data!r})
sys.dont_write_bytecode = True
stdout, sys.stdout = sys.stdout, io.StringIO()
found = outcomes(importlib.import_module(DATA["module"]), DATA["docs"])
sys.stdout = stdout
"""

_OBSERVE = f"""
print()
print({MARK!r} + json.dumps(found))
"""

_CHECK = """
for name, wanted in DATA["passing"].items():
    passed = [i for i, (ok, _) in enumerate(found[name]) if ok]
    assert set(wanted) <= set(passed), name
if DATA["tests"]:
    with tempfile.TemporaryDirectory() as folder:
        for path, text in DATA["tests"].items():
            target = pathlib.Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        argv = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--rootdir", folder]
        argv += ["-c", "/dev/null", "-k", DATA["select"], *map(str, sorted(pathlib.Path(folder).glob("**/test_*.py")))]
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
        code = subprocess.run(argv, cwd=folder, env={**os.environ, "PYTHONPATH": path}).returncode
        assert code == 0, f"the package's tests: exit {code}"
"""


def observer(module: str, docs: dict[str, str]) -> Test:
    """A script that prints what the examples come to; read it with `observed`."""
    data = json.dumps({"module": module, "docs": docs})
    return Test(path="observe.py", text=_OUTCOMES + _LOAD.format(data=data) + _OBSERVE)


def observed(execution: Execution) -> dict[str, list[tuple[bool, str]]] | None:
    """What an observer printed; None where it did not come to its end."""
    _, mark, rest = execution.output.rpartition("\n" + MARK)
    if not mark or not execution.passed:
        return None
    try:
        seen = json.loads(rest.split("\n", 1)[0])
    except ValueError:
        return None
    return {name: [(ok, got) for ok, got in rows] for name, rows in seen.items()}


def check(module: str, docs: dict[str, str], passing: dict[str, list[int]], tests: dict[str, str], select: str) -> Test:
    """Passes where every example in `passing` does, and of `tests` (text by path) those that `select` names.

    `passing`: the examples of each docstring by number; `select`: pytest's `-k`.
    """
    data = json.dumps({"module": module, "docs": docs, "passing": passing, "tests": tests, "select": select})
    return Test(path="hidden_check.py", text=_OUTCOMES + _LOAD.format(data=data) + _CHECK)


_LIMITED = """import resource
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, resource.getrlimit(resource.RLIMIT_CPU)[1]))
"""


def limited(script: Test, seconds: int) -> Test:
    """The same script, which ends where one of its processes computes longer; by the clock it may take any time."""
    return script.model_copy(update={"text": _LIMITED.format(seconds=seconds) + script.text})


def selector(function: str) -> str:
    """What a package's tests of the function are called: `split_at`, `test_split_at`, `SplitAtTests`."""
    bare = function.replace("_", "")
    return function if bare == function else f"{function} or {bare}"
