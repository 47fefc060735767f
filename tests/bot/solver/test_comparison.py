"""What other runners print, and what a candidate may have printed in their place."""

import pytest

from bot.records import Ending, Execution, OwnTests, OwnTestsReport, Results
from bot.solver.comparison import mended, regressions, told
from bot.solver.stages.evidence import own_tests_in_short
from tests.fakes import exited

GO = "--- PASS: TestA (0.00s)\n--- FAIL: TestKnown (0.00s)\n--- PASS: TestB (0.00s)\nFAIL\n"
CARGO = "running 3 tests\ntest a ... ok\ntest known ... FAILED\ntest b ... ok\n"
TAP = "ok 1 - a\nnot ok 2 - known\nok 3 - b\n# tests 3\n"
JEST = "  \u2713 a (2 ms)\n  \u2715 known (1 ms)\n  \u2713 b\n\nTests: 1 failed, 2 passed, 3 total\n"
MOCHA = "  \u2714 a\n  1) known\n  \u2714 b (12ms)\n\n  2 passing (9ms)\n  1 failing\n"


def broken(base: Execution, after: Execution, *paths: str) -> tuple[str, ...]:
    report = OwnTestsReport(command=("make", "test"), base=told(base), candidates=((0, told(after)),))
    return regressions(report, 0, paths)


@pytest.mark.parametrize("output", [GO, CARGO, TAP, JEST, MOCHA], ids=["go", "cargo", "tap", "jest", "mocha"])
def test_a_test_that_has_no_result_any_more_is_broken(output: str) -> None:
    base = exited(1, output)
    assert told(base).failures is not None
    assert broken(base, base) == ()
    lines = output.splitlines(keepends=True)
    last = next(i for i, line in reversed(list(enumerate(lines))) if "b" in line.lower() and "total" not in line)
    assert broken(base, exited(1, "".join(lines[:last])))  # known failures, then an end
    assert broken(base, exited(0, "".join(lines[:1])))
    assert broken(base, Execution(ending=Ending.KILLED, exit_code=137, output=output))
    assert broken(base, Execution(ending=Ending.UNAVAILABLE, exit_code=127, output=output))
    assert broken(base, Execution(ending=Ending.EXITED, exit_code=1, output=output, truncated=True))


def test_a_pass_does_not_undo_a_failure_of_the_same_name() -> None:
    base = exited(1, GO)
    assert broken(base, exited(1, GO.replace("PASS: TestB", "FAIL: TestB") + "--- PASS: TestB (0.00s)\n")) == ("TestB",)
    twice = exited(1, GO + "--- PASS: TestB (0.00s)\n")  # of another package
    assert broken(twice, base) == ("TestB (no result)",)


def test_of_pytest_only_the_summary_names_failures() -> None:
    printed = "FAILED a.py::known - x\n"
    heading = "=== short test summary info ===\n"
    base = exited(1, f"a.py::known FAILED\na.py::b PASSED\n{heading}{printed}1 failed, 1 passed in 0.1s\n")
    assert broken(base, base) == ()
    assert broken(base, exited(1, f"{printed}a.py::known FAILED\n{heading}FAILED a.py::b - y\n2 failed in 0.1s\n"))


def proved(ended: bool = True, *, marks: tuple[str, ...] = (), **words: tuple[str, ...]) -> Execution:
    return Execution(ending=Ending.EXITED, exit_code=1, results=Results(ended=ended, marks=marks, **words))


def test_results_that_were_told_come_before_what_was_printed() -> None:
    base = proved(passed=("a", "b", "p[1]", "p[2]"), failed=("known",), marks=("finder six",))
    assert broken(base, base) == ()
    assert broken(base, proved(passed=("a", "b", "p[1]", "p[3]", "known"), marks=("finder six",))) == ()
    assert broken(base, proved(passed=("a", "p[1]", "p[2]"), failed=("known",))) == ("b (no result)",)
    assert broken(base, proved(passed=("a", "p[1]", "p[2]"), skipped=("b",))) == ("b (no result)",)
    assert broken(base, proved(passed=("a", "b", "p[1]"))) == ("p[2] (no result)",)
    assert broken(base, proved(False, passed=("a", "b", "p[1]", "p[2]"))) == ("make test: exit 1, before its end",)
    assert broken(base, exited(0, "5 passed")) == ("make test: exit 0, before its end",)
    strange = broken(base, proved(passed=("a", "b", "p[1]", "p[2]"), marks=("finder evil",)))
    assert strange == ("tests that it tampers with: finder evil",)


def test_what_failed_before_and_passes_is_mended() -> None:
    base = told(proved(passed=("a",), failed=("known", "other", "by chance")))

    def by(after: OwnTests) -> tuple[str, ...]:
        return mended(OwnTestsReport(command=("make", "test"), base=base, candidates=((0, after),)), 0)

    better = told(proved(passed=("a", "known", "new"), failed=("other",)))
    assert by(better) == ("known",)
    report = OwnTestsReport(command=("make", "test"), base=base, candidates=((0, better),))
    assert own_tests_in_short(report, 0) == "fail only as before; mends 1"
    assert by(told(proved(passed=("a",), skipped=("known",)))) == ()
    flaky = told(proved(passed=("a", "by chance"))).model_copy(update={"flaky": ("by chance",)})
    assert by(flaky) == ()
    assert mended(None, 0) == mended(OwnTestsReport(command=("make", "test"), base=base), 0) == ()


DOTS = "  {} passing (9ms)\n  {} failing\n\n  1) isLatLong\n       should validate:\n     Error: boo\n"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (exited(0, "  3 passing (9ms)\n"), ("isLatLong should validate",)),
        (exited(0, "  2 passing (9ms)\n  1 pending\n"), ()),
        (exited(1, DOTS.format(2, 1)), ()),
        (exited(1, "boo"), ()),
        (Execution(ending=Ending.TIMED_OUT, output="  3 passing (9ms)\n"), ()),
        (Execution(ending=Ending.UNAVAILABLE, exit_code=127, output="  3 passing (9ms)\n"), ()),
    ],
    ids=["passes", "is skipped", "still fails", "nothing ran", "stopped", "not run"],
)
def test_where_passing_tests_have_no_names_those_are_mended_that_are_named_no_more(
    after: Execution, expected: tuple[str, ...]
) -> None:
    base = told(exited(1, DOTS.format(2, 1)))
    report = OwnTestsReport(command=("npm", "test"), base=base, candidates=((0, told(after)),))
    assert base.failures
    assert not base.passed
    assert mended(report, 0) == expected


def test_a_threshold_of_coverage_behind_jests_tests_is_no_failing_test() -> None:
    end = 'Jest: "global" coverage threshold for lines (100%) not met: 75.5%\n\nTests: {}, 36 total\n'
    base = exited(1, "FAIL a.test.js (5.987s)\n  \u25cf clamp\nPASS b.test.js\n" + end.format("1 failed, 35 passed"))
    good = exited(1, "PASS a.test.js\nPASS b.test.js (6.1s)\n" + end.format("36 passed"))
    assert broken(base, good) == broken(base, base) == broken(good, good) == ()
    slower = exited(1, base.output.replace("5.987s", "8.6s"))
    assert broken(base, slower) == ()
    other = exited(1, "PASS a.test.js\nFAIL b.test.js\n  \u25cf other\n" + end.format("1 failed, 35 passed"))
    assert broken(base, other) == ("b.test.js", "other")
    report = OwnTestsReport(command=("npm", "test"), base=told(base), candidates=((0, told(good)),))
    assert mended(report, 0) == ("a.test.js", "clamp")


def test_of_the_changed_file_what_passed_before_counts_and_how_it_is_written_does_not() -> None:
    names = (
        "a.py::a.half",
        "a.py::line:3,column:1",
        "a.py::test_half",
        "a.py::mypy",
        "a.py::ruff::format",
        "a.py::BLACK",
    )
    base = proved(passed=(*names, "b.py::mypy"))
    broken_all = proved(failed=(*names, "b.py::mypy", "a.py::test_of_its_own"))
    assert broken(base, broken_all, "a.py") == (*names[:3], "b.py::mypy")


def test_examples_that_are_named_by_their_line_may_move_in_a_changed_file() -> None:
    base = proved(passed=("a.md::line:3", "a.md::line:9"), failed=("a.md::line:12",))
    moved = proved(passed=("a.md::line:5", "a.md::line:11"), failed=("a.md::line:14",))
    assert broken(base, moved, "a.md") == ()
    assert broken(base, moved, "b.md") == ("a.md::line:14", "a.md::line:3 (no result)", "a.md::line:9 (no result)")
    worse = proved(passed=("a.md::line:5",), failed=("a.md::line:11", "a.md::line:14"))
    assert broken(base, worse, "a.md") == ("a.md::line:3 (no result)", "a.md::line:9 (no result)")


VITEST = """
 \x1b[32m\u2713\x1b[39m a.test.mjs (3 tests) 33ms
   \u2713 sums > slowly 345ms
 \u276f b.test.mjs (2 tests | 1 failed) 7ms
   \u00d7 differs > known 4ms
\x1b[2m      Tests \x1b[22m 1 failed | 4 passed (5)
"""


def test_of_vitest_neither_colours_nor_times_are_names() -> None:
    base = exited(1, VITEST)
    assert told(base).failures == ("differs > known",)
    assert told(base).passed == ("a.test.mjs",), "of how many tests a file has the sum tells"
    assert told(base).count == 5
    other = VITEST.replace("33ms", "1.20s").replace("4ms", "9ms").replace("   \u2713 sums > slowly 345ms\n", "")
    assert broken(base, exited(1, other)) == ()
    assert broken(base, exited(1, other.replace("(3 tests)", "(2 tests)"))) == ()
    assert broken(base, exited(1, other + "   \u00d7 differs > more 1ms\n")) == ("differs > more",)
    assert broken(exited(0, "\n      Tests  5 passed (5)\n"), exited(0, "\n      Tests  4 passed (4)\n"))
