"""What doctest examples come to on the code of a module. Standard library only: its text goes into scripts.

The docstrings come from outside, since the tree's own may have been changed.
"""

import doctest
import io


class _Runner(doctest.DocTestRunner):
    def __init__(self):  # type: ignore[no-untyped-def]
        super().__init__(verbose=False)
        self.seen = []

    def report_start(self, out, test, example):  # type: ignore[no-untyped-def]
        pass

    def report_success(self, out, test, example, got):  # type: ignore[no-untyped-def]
        self.seen.append([True, got])

    def report_failure(self, out, test, example, got):  # type: ignore[no-untyped-def]
        self.seen.append([False, got])

    def report_unexpected_exception(self, out, test, example, exc_info):  # type: ignore[no-untyped-def]
        kind, value = exc_info[:2]
        self.seen.append([False, f"{kind.__name__}: {value}".rstrip(": ")])


def outcomes(module, docs):  # type: ignore[no-untyped-def]
    """Of each docstring, by name: a pair an example, whether it passed, and what it printed or raised."""
    found = {}
    for name, text in docs.items():
        test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), name, None, 0)
        runner = _Runner()  # type: ignore[no-untyped-call]
        runner.run(test, out=io.StringIO().write)
        found[name] = runner.seen
    return found
