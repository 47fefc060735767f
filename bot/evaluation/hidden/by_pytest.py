"""Which tests do not pass under pytest. Standard library and pytest only, Python 3.5+.

Executed inside a sandbox, never imported. A name is pytest's own (`tests/test_a.py::test_b[c d]`), that up to its first
space, as tools keep it that read a log word by word, or the function's alone.
"""

import pytest


class Outcomes:
    """A plugin: what became of each test, by all names that it may be known by."""

    def __init__(self) -> None:
        self.good = set()  # type: set[str]
        self.bad = set()  # type: set[str]

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        function = report.nodeid.split("::")[-1]
        names = {report.nodeid, report.nodeid.split(" ")[0], function, function.split("[")[0]}
        if report.failed:
            self.bad |= names
        elif report.when == "call" and (report.passed or hasattr(report, "wasxfail")):
            self.good |= names


def lacking(wanted: "list[str]", files: "list[str]") -> "list[str]":
    outcomes = Outcomes()
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    pytest.main([*options, *files], plugins=[outcomes])
    return [name for name in wanted if name not in outcomes.good or name in outcomes.bad]
