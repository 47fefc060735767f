"""How the repository's own tests on a candidate compare with the base commit. Pure.

pytest and unittest say of each test how it ended (`bot.sandbox.inside.results`), which candidate code can't print. Of
other runners there is what they print and their exit code. Whichever it is, a test that passed on the base commit must
pass again: one that has no result any more is broken, and so is a run that ended before it should.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from bot.records import Ending, Execution, OwnTests, OwnTestsReport
from bot.solver.runner_lines import uncoloured
from bot.solver.test_runners import failing, ran, so_far

# Of pytest's plugins for linters: `a.py::ruff::format`, `a.py::FLAKE8`.
_LINT = re.compile(r"::(ruff|flake8|black|isort|mypy|pylint|pycodestyle|codestyle|pydocstyle|pep8)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
MOST = 200  # broken tests that are named
FEW = 5  # broken tests that may be so by chance
_LOST = " (no result)"
_MOST_LINES, _MOST_OUTPUT = 20_000, 200_000  # lines and characters of a run that a report keeps
_LEAST_TIME, _TIMES = 120.0, 10.0  # seconds that a candidate's run has at least, and as a multiple of the base commit's


def told(execution: Execution) -> OwnTests:
    """What the execution says of each test."""
    execution = execution.model_copy(update={"output": uncoloured(execution.output)})
    kept = execution.model_copy(update={"results": None, "output": execution.excerpt(_MOST_LINES, _MOST_OUTPUT)})
    results = execution.results
    if results is not None:
        return OwnTests(
            execution=kept,
            failures=results.failed,
            passed=results.passed,
            proved=True,
            ended=results.ended,
            marks=results.marks,
        )
    ran_to_end = OwnTests(execution=kept, failures=failing(execution), count=ran(execution))
    if execution.truncated and not ran_to_end.stopped:
        return ran_to_end  # an incomplete list proves nothing
    passed, failed = so_far(execution)
    if not ran_to_end.stopped:
        # Where every test passes, something behind them fails: a check of types, of coverage, of style.
        none_failed = ran_to_end.failures is None and passed and not failed
        return ran_to_end.model_copy(update={"passed": passed} | ({"failures": ()} if none_failed else {}))
    return ran_to_end.model_copy(
        update={"passed": passed, "failures": failed if passed or failed else None, "count": None}
    )


def time_for(base: OwnTests | None, bound: float) -> float:
    """Seconds that a run on a candidate has, where the base commit's may take `bound`."""
    return bound if base is None or base.stopped else time_on_candidates(base.execution.seconds, bound)


def time_on_candidates(seconds: float, bound: float) -> float:
    """Seconds that a run on a candidate has, of `bound` at most, where the base commit's took so many.

    One that takes ten times as long as that did does not end: a suite of seconds need not be waited for a quarter of an
    hour.
    """
    return min(bound, max(_LEAST_TIME, _TIMES * seconds))


def regressions(own: OwnTestsReport | None, candidate: int, paths: Collection[str] = ()) -> tuple[str, ...]:
    """What passed on the base commit and does not on the candidate: documented examples, in words, and tests.

    `paths`: the files that the candidate changes.
    """
    documented = own.documented_on(candidate) if own is not None else None
    return (*(documented.broken if documented else ()), *broken_tests(own, candidate, paths))[:MOST]


def broken_tests(own: OwnTestsReport | None, candidate: int, paths: Collection[str] = ()) -> tuple[str, ...]:
    """The repository's tests that passed on the base commit and do not on the candidate.

    By name where the runner names tests on both; else by exit code. Of a run that was stopped at its time limit, only
    tests count that had ended by then; that a candidate's run was stopped counts where the base commit's took less
    than half the time. Tests in files that the candidate changes (`paths`) count only where they passed before,
    as examples in the code do (`--doctest-modules`): others may be its own. How its files are written breaks nothing.
    """
    after = own.on(candidate) if own is not None else None
    base = own.base_of(candidate) if own is not None else None
    if own is None or base is None or after is None or base.execution.ending is Ending.UNAVAILABLE:
        return ()
    whole = f"{' '.join(own.command)}: {after.execution.status}"
    if _cut_short(base, after):
        why = f" (its proof was withdrawn: {after.execution.unproven})" if after.execution.unproven else ""
        return (f"{whole}, before its end{why}",)
    if base.failures is not None and after.failures is not None:
        before, passed = set(base.failures), set(base.passed)
        new = [n for n in after.failures if n not in before and (_counts(n, passed) or not _of(n, paths))]
        found = [n for n in new if n in passed or not base.stopped]
        if not after.stopped:
            found += _lost(base, after, paths)
        found += _strange(base, after)
        if not found and not after.stopped:
            found += _left_out(base, after)
        if not (found or after.failures or after.stopped or base.proved) and _worse(base, after):
            found.append(whole)
        if found or not after.stopped:
            return tuple(found[:MOST])
    comparable = base.failures is not None and (base.execution.passed or not base.stopped or bool(base.passed))
    slower = not after.stopped or 2 * base.execution.seconds <= after.execution.seconds
    return (whole,) if comparable and slower and not after.execution.passed else ()


def mended(own: OwnTestsReport | None, candidate: int) -> tuple[str, ...]:
    """The repository's tests that failed on the base commit and pass on the candidate.

    Of a runner that proves nothing, and may name tests that pass otherwise or not at all, those that it does not name
    again, if as many tests ran.
    """
    after = own.on(candidate) if own is not None else None
    base = own.base_of(candidate) if own is not None else None
    if base is None or after is None or not base.failures:
        return ()
    gone = set(after.passed)
    whole = after.failures is not None and after.count is not None and not after.stopped
    if whole and not (base.proved or _cut_short(base, after) or _left_out(base, after)):
        gone |= set(base.failures) - set(after.failures or ())
    return tuple(name for name in base.failures if name in gone and name not in after.flaky)[:MOST]


def _worse(base: OwnTests, after: OwnTests) -> bool:
    """Whether the run as a whole fails, and did not."""
    return base.execution.passed and not after.execution.passed


def by_chance(base: OwnTests, after: OwnTests, broken: Sequence[str]) -> tuple[str, ...]:
    """Which tests are broken (`broken`: by `regressions`), perhaps by bad luck, so that the same should run again.

    Of a runner that names none, the whole command. () where many are, or where it is more than tests: a run that ended
    before it should, or what was done to the tools.
    """
    if len(broken) > FEW or after.stopped or _cut_short(base, after):
        return ()
    if after.failures is None or base.failures is None:
        return tuple(broken)
    names = [one.removesuffix(_LOST) for one in broken]
    known = {*after.failures, *base.passed}
    return tuple(names) if known.issuperset(names) else ()


def _cut_short(base: OwnTests, after: OwnTests) -> bool:
    """Whether the candidate's run says less of itself than the base commit's did."""
    if after.stopped:
        return False
    fake = after.execution.ending in (Ending.CUT_SHORT, Ending.UNAVAILABLE)
    if fake and after.execution.ending is not base.execution.ending:
        return True
    return (base.proved and not after.proved) or (base.ended and not after.ended)


def _counts(name: str, passed: Collection[str]) -> bool:
    """Whether a test counts that fails in a file of the candidate's."""
    return name in passed and not _LINT.search(name)


def _of(name: str, paths: Collection[str]) -> bool:
    """Whether a test is in one of the files, as `a/test_b.py::test_c` and `test_c (a.test_b.C.test_c)` are."""
    modules = (path.removesuffix(".py").replace("/", ".") for path in paths if path.endswith(".py"))
    return name.split("::")[0] in paths or any(f"({module}." in name for module in modules)


def _lost(base: OwnTests, after: OwnTests, paths: Collection[str]) -> list[str]:
    """Tests that passed on the base commit and neither pass nor fail any more.

    Names of parameters may differ from run to run, and so may numbers of lines in a file that the candidate changes
    (`README.md::line:12,column:1`): of those as many must pass as before.
    """
    gone = Counter(base.passed)
    gone.subtract(Counter(after.passed))
    failed = after.failures or ()
    # Vitest names a file, and where a test of it fails that one instead: `a.test.js > b`. Mocha and jest call a failing
    # test by its titles from the outermost on, and one that passes by the last.
    instead = {*failed, *(one.partition(" > ")[0] for one in failed if " > " in one)}
    endings = tuple(f" {one}" for one in failed[:MOST])
    missing = [n for n in (+gone).elements() if n.partition(" (")[0] not in instead and not _ends(endings, n)]
    if not missing:
        return []

    def lasting(name: str) -> str:
        whole = name.partition("[")[0]
        return _NUMBER.sub("#", whole) if _of(name, paths) else whole

    had, has = (Counter(map(lasting, one.passed)) for one in (base, after))
    return [f"{n}{_LOST}" for n in missing if lasting(n) == n or has[lasting(n)] < had[lasting(n)]]


def _ends(names: Sequence[str], title: str) -> bool:
    return any(name.endswith(f" {title}") for name in names)


def _left_out(base: OwnTests, after: OwnTests) -> list[str]:
    """What a runner that proves nothing leaves out, where it names no test that is broken."""
    if base.proved:
        return []
    if after.execution.truncated and not base.execution.truncated:
        return ["tests whose results are lost in too much output"]
    if base.count is not None and base.count > (after.count or 0):
        return [f"{base.count - (after.count or 0):,} of {base.count:,} tests, which did not run"]
    return []


def _strange(base: OwnTests, after: OwnTests) -> list[str]:
    """What the candidate does to the tools that run the tests, and the base commit does not."""
    if not (base.proved and after.proved):
        return []
    known = set(base.marks)
    return [f"tests that it tampers with: {mark}" for mark in after.marks if mark not in known]
