import itertools
import time
from collections.abc import Callable, Sequence

import pytest

from bot.contracts import Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.records import (
    Ballot,
    Ending,
    Execution,
    External,
    FileChange,
    Patch,
    SandboxJob,
    Test,
    Trajectory,
    TrajectoryEnd,
)
from bot.sandbox.journaled import JournaledSandbox
from bot.settings import SolverSettings
from bot.solver.ballot import count
from bot.solver.harness import Harness
from bot.solver.stages.matrix import BASE_TAIL, IN_FLIGHT, KEPT, fill, fill_matrix, gather
from tests.bot.solver.ballots import patch
from tests.fakes import FAILED, PASSED, FakeProgress, FakeSandbox, Partly, exited

SETTINGS = SolverSettings(test_timeout=7.0)


def trajectory(index: int, test: str | None, edit: str | None) -> Trajectory:
    return Trajectory(
        index=index,
        test=Test(path="t.py", text=test) if test is not None else None,
        patch=patch(edit) if edit is not None else None,
        end=TrajectoryEnd.DONE,
    )


def nobody(changes: Sequence[FileChange]) -> str:
    return ""


async def filled(
    trajectories: Sequence[Trajectory],
    sandbox: Sandbox,
    progress: FakeProgress | None = None,
    settings: SolverSettings = SETTINGS,
) -> Ballot:
    return await fill_matrix(trajectories, [], Harness(sandbox, settings, progress or FakeProgress()), nobody)


def exits(codes: dict[tuple[str, str], Execution]) -> Callable[[SandboxJob], Execution]:
    """By (candidate's text or "base", test's text)."""

    def answer(job: SandboxJob) -> Execution:
        assert job.test is not None
        assert job.timeout == 7.0
        return codes[(job.changes[0].text or "") if job.changes else "base", job.test.text]

    return answer


def test_equal_patches_are_one_candidate_and_equal_tests_one_test() -> None:
    trajectories = [trajectory(2, "b", "X"), trajectory(0, "a", "X"), trajectory(1, "a", "Y"), trajectory(3, "b", None)]
    elsewhere = [External(patch=patch(text), source=source) for text, source in (("X", "a"), ("Z", "b"), ("Z", "c"))]
    b = gather(trajectories, elsewhere, nobody)
    assert [c.sources for c in b.candidates] == [("a",), (), ("b", "c")]
    assert [c.samples for c in b.candidates] == [3, 1, 2]
    assert [(c.patch.changes[0].text, c.trajectories, c.tests) for c in b.candidates] == [
        ("X", (0, 2), (0, 1)),
        ("Y", (1,), (0,)),
        ("Z", (), ()),
    ]
    assert [(t.text, who) for t, who in zip(b.tests, b.authors, strict=True)] == [("a", (0, 1)), ("b", (2, 3))]


def test_an_empty_patch_is_no_candidate() -> None:
    empty = Patch(changes=(), diff="")
    t = trajectory(0, "a", "X").model_copy(update={"patch": empty})
    assert gather([t], [External(patch=empty, source="a")], nobody).candidates == ()


def test_who_touches_judges_is_disqualified_but_shown() -> None:
    b = gather([trajectory(0, "a", "X")], [], lambda changes: f"changes {changes[0].path}")
    assert b.candidates[0].disqualified == "changes a.py"


async def test_every_pair_runs_once_and_every_end_has_its_cell() -> None:
    codes = {
        ("base", "a"): FAILED,
        ("base", "b"): Execution(ending=Ending.UNAVAILABLE, exit_code=127),
        ("base", "c"): PASSED,
        ("base", "d"): Execution(ending=Ending.TIMED_OUT),
        ("X", "a"): PASSED,
        ("X", "b"): Execution(ending=Ending.UNAVAILABLE, exit_code=126),
        ("X", "c"): Execution(ending=Ending.TIMED_OUT),
        ("X", "d"): Execution(ending=Ending.CUT_SHORT, exit_code=0),
        ("Y", "a"): Execution(ending=Ending.OUT_OF_MEMORY),
        ("Y", "b"): PASSED,
        ("Y", "c"): Execution(ending=Ending.KILLED),
        ("Y", "d"): PASSED,
    }
    judge, progress = FakeSandbox(exits(codes)), FakeProgress()
    sandbox = JournaledSandbox(judge, MemoryJournal())
    trajectories = [trajectory(i, t, "XY"[i % 2]) for i, t in enumerate("abcd")]
    b = await filled(trajectories, sandbox, progress)
    assert b.base == (False, None, True, False)
    assert b.cells == ((True, None, False, False), (False, True, False, True))
    assert len(judge.jobs) == 12 + 2, "what fails on the base commit runs there once more"
    assert progress.updates[0] == (RunState.MATRIX, 0, 12, "")
    assert progress.updates[-1] == (RunState.MATRIX, 14, 14, "")


async def test_a_test_that_fails_by_chance_on_the_base_commit_has_no_vote() -> None:
    def answer(job: SandboxJob) -> Execution:
        assert job.test is not None
        lucky = job.test.text == "now and then" and (job.changes or job.again)
        return PASSED if lucky or (job.test.text == "steady" and job.changes) else FAILED

    sandbox = JournaledSandbox(FakeSandbox(answer), MemoryJournal())
    b = await filled([trajectory(0, "now and then", "X"), trajectory(1, "steady", "Y")], sandbox)
    assert (b.base, b.unsteady, b.voting) == ((True, False), (0,), (1,))
    assert [s.votes for s in count(b)] == [1, 1]
    again = await fill(b, Harness(FakeSandbox(lambda job: FAILED), SETTINGS, FakeProgress()), patch("old").changes)
    assert (again.unsteady, again.voting) == ((0,), (1,)), "it was seen to pass"


async def test_telling_tests_run_first_and_on_the_commonest_candidate() -> None:
    def answer(job: SandboxJob) -> Execution:
        assert job.test is not None
        return PASSED if job.test.text == "passes on base" else FAILED

    judge = FakeSandbox(answer)
    trajectories = [
        trajectory(0, "passes on base", "X"),
        trajectory(1, "rare", "Y"),
        trajectory(2, "common", "Y"),
        trajectory(3, "common", None),
    ]
    await filled(trajectories, judge)
    order = [(job.test.text, job.changes[0].text) for job in judge.jobs if job.changes and job.test]
    assert order == [(t, c) for t in ("common", "rare", "passes on base") for c in "YX"]


async def test_a_time_limit_leaves_cells_open(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("bot.solver.stages.matrix.time", Partly(time, monotonic=lambda: clock[0]))

    def answer(job: SandboxJob) -> Execution:
        if job.changes:
            clock[0] = 100.0  # the first candidate job uses up the time
        return FAILED

    judge, progress = FakeSandbox(answer), FakeProgress()
    monkeypatch.setattr("bot.solver.stages.matrix.IN_FLIGHT", 1)
    settings = SETTINGS.model_copy(update={"matrix_seconds": 50.0})
    b = await filled([trajectory(0, "a", "X"), trajectory(1, "b", "Y")], judge, progress, settings)
    assert b.base == (False, False)
    assert sorted(cell is None for row in b.cells for cell in row) == [False, True, True, True]
    assert "3 left out" in progress.updates[-1][3]


async def test_a_hundred_thousand_pairs_need_few_tasks() -> None:
    judge = FakeSandbox(lambda job: FAILED)
    trajectories = [trajectory(i, f"t{i}", f"p{i}") for i in range(100)]
    b = await filled(trajectories, judge)
    assert len(judge.jobs) == 100 * 102
    assert 1 < judge.most <= IN_FLIGHT
    assert b.fails_on_base == (True,) * 100


async def test_one_failure_of_the_sandbox_is_one_open_cell() -> None:
    def answer(job: SandboxJob) -> Execution:
        if job.changes and job.changes[0].text == "X":
            raise SandboxError("the container went away")
        return FAILED

    b = await filled([trajectory(0, "a", "X"), trajectory(1, "b", "Y")], FakeSandbox(answer))
    assert b.cells == ((None, None), (False, False))


@pytest.mark.parametrize("error", [SandboxUnavailable("no daemon"), SandboxError("the disk is full")])
async def test_a_sandbox_that_runs_nothing_is_an_error_not_an_empty_vote(error: SandboxError) -> None:
    def answer(job: SandboxJob) -> Execution:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await filled([trajectory(0, "a", "X")], FakeSandbox(answer))


async def test_nothing_to_run() -> None:
    b = await filled([], FakeSandbox(lambda job: FAILED))
    assert (b.candidates, b.tests, b.base, b.cells) == ((), (), (), ())
    b = await filled([trajectory(0, None, "X")], FakeSandbox(lambda job: FAILED))
    assert (len(b.candidates), b.cells) == (1, ((),))


async def test_what_each_cell_did_is_kept_and_equal_ends_are_shared() -> None:
    def answer(job: SandboxJob) -> Execution:
        if not job.changes:
            return exited(1, f"{'x' * 5000}\nAssertionError: on base\n")
        if job.changes[0].text == "X":
            return exited(0, "all is well\n")
        return Execution(ending=Ending.TIMED_OUT, output="waiting\n", seconds=7.0)

    trajectories = [trajectory(0, "a", "X"), trajectory(1, "b", "Y")]
    b = await filled(trajectories, FakeSandbox(answer))
    base = b.on_base(0)
    assert base is not None
    assert base.output.endswith("x\nAssertionError: on base")
    assert BASE_TAIL - 70 < len(base.output) <= BASE_TAIL
    assert " characters left out ...]" in base.output
    assert b.on(0, 0) == PASSED  # its output says nothing
    assert b.on(1, 1) == Execution(ending=Ending.TIMED_OUT, output="waiting")
    assert len(b.executions) == 3
    assert b.on(0, 0) is b.on(0, 1)


async def test_a_cell_without_a_run_has_no_execution() -> None:
    def answer(job: SandboxJob) -> Execution:
        if job.changes:
            raise SandboxError("the container went away")
        return Execution(ending=Ending.UNAVAILABLE, exit_code=127, output="ruby: not found")

    b = await filled([trajectory(0, "a", "X")], FakeSandbox(answer))
    assert (b.base, b.cells) == ((None,), ((None,),))
    base = b.on_base(0)
    assert base is not None
    assert base.output == "ruby: not found"
    assert b.on(0, 0) is None


async def test_a_large_matrix_adds_a_bounded_size_to_the_report() -> None:
    """64 candidates by 64 tests, each run with other output: 250,000 bytes of JSON beside the bare matrix of 39,000."""
    count = itertools.count()

    def answer(job: SandboxJob) -> Execution:
        return exited(1, f"{next(count):09d}" * 20_000)

    trajectories = [trajectory(i, f"t{i}", f"p{i}") for i in range(64)]
    b = await filled(trajectories, FakeSandbox(answer))
    without = {"executions": (), "base_executions": (), "cell_executions": ()}
    assert sum(len(execution.output) for execution in b.executions) <= KEPT
    assert len(b.model_dump_json()) - len(b.model_copy(update=without).model_dump_json()) < 255_000
    assert all(b.on(c, t) is not None for c in range(64) for t in range(64))
    assert len({b.base_executions[t] for t in range(64)}) == 64, "output on the base commit is kept first"
