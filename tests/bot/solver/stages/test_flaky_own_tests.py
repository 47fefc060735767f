"""Tests of a repository that fail by chance."""

from bot.records import Execution, OwnTestsReport
from bot.solver.comparison import FEW, regressions
from tests.bot.solver.stages.test_own_tests import BALLOT, run, stopped
from tests.bot.solver.test_comparison import proved
from tests.fakes import FAILED, PASSED, FakeSandbox, exited


async def with_second_run(first: Execution, second: Execution) -> tuple[OwnTestsReport, int]:
    """What runs of candidate 0 that end so come to, and how many there were."""
    base = proved(passed=("t::a", "t::b", "t::c"))
    own = BALLOT.candidates[0].patch.changes
    judge = FakeSandbox(lambda job: base if job.changes != own else second if job.again else first)
    report = await run(BALLOT, judge)
    assert len({job.key for job in judge.jobs}) == len(judge.jobs), "or a journal would answer for the second run"
    return report, sum(job.changes == own for job in judge.jobs)


async def test_a_test_that_fails_by_chance_is_not_held_against_a_candidate() -> None:
    fine = proved(passed=("t::a", "t::b", "t::c"))
    for first, flaky in (
        (proved(passed=("t::a", "t::c"), failed=("t::b",)), ("t::b",)),
        (proved(passed=("t::a", "t::b")), ("t::c",)),
        (exited(1, "FAILED t::b - boo\n"), ()),  # says less than the base commit's run
    ):
        report, runs = await with_second_run(first, fine)
        assert (report.candidates[0][1].flaky, runs) == (flaky, 2 if flaky else 1)
        assert bool(regressions(report, 0)) is not bool(flaky)


async def test_what_fails_in_both_runs_is_broken_and_what_fails_in_one_is_not() -> None:
    first = proved(passed=("t::c",), failed=("t::a", "t::b"))
    report, runs = await with_second_run(first, proved(passed=("t::b",), failed=("t::a", "t::c")))
    assert (regressions(report, 0), report.candidates[0][1].flaky, runs) == (("t::a",), ("t::b",), 2)
    report, _ = await with_second_run(
        proved(passed=("t::b", "t::c"), failed=("t::a",)), proved(passed=("t::a", "t::c"), failed=("t::b",))
    )
    assert (regressions(report, 0), report.candidates[0][1].flaky) == ((), ("t::a",))


async def test_what_is_no_bad_luck_has_no_second_run() -> None:
    fine = proved(passed=("t::a", "t::b", "t::c"))
    many = proved(passed=("t::a", "t::b", "t::c"), failed=tuple(f"t::new{i}" for i in range(FEW + 1)))
    tampering = proved(passed=("t::a", "t::c"), failed=("t::b",), marks=("finder evil",))
    for first in (many, tampering, proved(False, passed=("t::a", "t::b", "t::c")), stopped("t::a FAILED\n")):
        report, runs = await with_second_run(first, fine)
        assert runs == 1
        assert regressions(report, 0)


async def test_without_names_the_second_run_counts_as_a_whole() -> None:
    own = BALLOT.candidates[0].patch.changes
    judge = FakeSandbox(lambda job: FAILED if job.changes == own and not job.again else PASSED)
    report = await run(BALLOT, judge, (("make", "test"),))
    assert (regressions(report, 0), report.candidates[0][1].flaky) == ((), ("make test: exit 1",))
