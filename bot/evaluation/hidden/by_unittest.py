"""Which tests do not pass under unittest, or under a runner that is built on it, as Django's are.

Executed inside a sandbox, never imported. Standard library only, Python 3.5+. A name is what unittest prints last
before `... ok`: `test_b (module.Class)`, since Python 3.11 `test_b (module.Class.test_b)`, or the first line of the
test's docstring.
"""

import json
import os
import subprocess
import sys
import tempfile

# Runs the program argv[2] as `__main__`, and leaves [id, first line of the docstring, whether it passed] of each test.
NOTED = """
import json, os, runpy, sys, unittest

report, program = sys.argv[1], sys.argv[2]
outcomes = []


def note(name, passed):
    told = getattr(unittest.TestResult, name)

    def noted(self, test, *rest):
        if name != "addSubTest" or rest[-1] is not None:
            outcomes.append([test.id(), test.shortDescription(), passed])
        return told(self, test, *rest)

    setattr(unittest.TestResult, name, noted)


for name in ("addSuccess", "addExpectedFailure"):
    note(name, True)
for name in ("addError", "addFailure", "addUnexpectedSuccess", "addSubTest"):
    note(name, False)
sys.argv = sys.argv[2:]
try:
    if program == "unittest":
        sys.path[0] = os.getcwd()
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        runpy.run_path(program, run_name="__main__")
finally:
    with open(report, "w") as file:
        json.dump(outcomes, file)
"""


def names_of(test: str, line: "str | None") -> "list[str]":
    """All names that the test may be known by."""
    found = [line] if line else []
    if "." in test:
        above, name = test.rsplit(".", 1)
        found += [name + " (" + above + ")", name + " (" + test + ")"]
    return found


def lacking(wanted: "list[str]", argv: "list[str]", folder: str) -> "list[str]":
    descriptor, report = tempfile.mkstemp()
    os.close(descriptor)
    subprocess.call([sys.executable, "-c", NOTED, report, *argv], cwd=folder or None)
    with open(report) as file:
        written = file.read()
    passed = {}
    for test, line, well in json.loads(written or "[]"):
        for name in names_of(test, line):
            passed[name] = well  # of several tests with one docstring the last counts, as in a log
    return [name for name in wanted if not passed.get(name)]
