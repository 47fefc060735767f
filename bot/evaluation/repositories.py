"""One issue of a benchmark through the whole solver, and its hidden tests on every distinct candidate."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from bot.contracts import Progress
from bot.errors import EvaluationError
from bot.evaluation.checkouts import TaskHost
from bot.evaluation.files import name_of
from bot.evaluation.hidden import Judge
from bot.evaluation.images import with_image
from bot.evaluation.matrices import line_of
from bot.evaluation.samples import Sample
from bot.evaluation.tasks import RepositoryTask
from bot.git.checkout import check_out
from bot.git.import_diff import read_patch
from bot.journal import FileJournal
from bot.lifecycle import RunState
from bot.records import Checkout, Report, Usage
from bot.sanitize import clean_issue
from bot.settings import Settings, SolverSettings
from bot.solver.pipeline import solve
from bot.solver.workbench import Audience, Notice, Workbench, open_workbench, unheard


@dataclass(frozen=True)
class Bench:
    """What all tasks are evaluated with."""

    settings: Settings
    base_url: str  # of the model, where the settings name none
    folder: Path  # for checkouts and journals
    checkouts: tuple[Path, ...] = ()
    test_command: tuple[str, ...] = ()  # argv with `{tests}`; (): what the tests' names suggest
    images: str = ""  # each task's own, as `with_image` has it; "": the settings' for all
    notice: Notice = unheard


@dataclass(frozen=True)
class Evaluated:
    """What one run came to."""

    samples: tuple[Sample, ...]
    matrix: str  # its vote matrix, a line of `matrices.jsonl`; "" without one


async def evaluate(task: RepositoryTask, bench: Bench, progress: Progress) -> Evaluated:
    """The task's samples, judged. What is killed goes on from its journal, until `forget`.

    Raises `EvaluationError` where the task can't be judged here: its repository is not there, its tests pass without a
    fix or fail with the reference; `EndpointError` and `SandboxError` as `solve` does.
    """
    if not task.fail_to_pass:
        raise EvaluationError(f"{task.id}: it names no test that a fix must make pass, so nothing can be judged")
    place = bench.folder / name_of(task.id)
    host = TaskHost(bench.checkouts, task)
    checkout = await check_out(host, task.repository, place)
    opened = open_workbench(
        with_image(bench.settings, task, bench.images),
        checkout,
        base_url=bench.base_url,
        venv_of=host.folder() or place / "tree",
        audience=Audience(bench.notice),
    )
    async with opened as of_config:
        workbench = _as_asked(of_config, bench.settings.solver)
        hidden = await read_patch(checkout, task.test_patch, f"{task.id}'s test_patch") if task.test_patch else None
        judge = Judge(task, bench.test_command, workbench.sandbox, hidden.changes if hidden else (), checkout.files)
        await _check(task, checkout, judge)
        journal = FileJournal(_journal(task, bench))
        try:
            report = await solve(clean_issue(task.title, task.body), workbench, journal, progress, _anywhere)
        finally:
            journal.close()
        found = await judged(task, report, judge)
    shutil.rmtree(place, ignore_errors=True)
    return found


def _as_asked(workbench: Workbench, asked: SolverSettings) -> Workbench:
    """How many samples there are is up to the evaluation, not to the config of a repository."""
    names = ("trajectories", "stop", "stop_at")
    return replace(
        workbench, settings=workbench.settings.model_copy(update={name: getattr(asked, name) for name in names})
    )


def forget(task: RepositoryTask, bench: Bench) -> None:
    """Remove the task's journal, once its samples are kept. Safe to call twice."""
    _journal(task, bench).unlink(missing_ok=True)


def _journal(task: RepositoryTask, bench: Bench) -> Path:
    return bench.folder / f"{name_of(task.id)}.journal"


async def _check(task: RepositoryTask, checkout: Checkout, judge: Judge) -> None:
    """Whether the tests can tell anything here. Raises `EvaluationError`."""
    if (await judge.run(None)).passed:
        raise EvaluationError(f"{task.id}: its hidden tests pass without a fix, so they judge nothing")
    if not task.reference:
        return
    execution = await judge.run(await read_patch(checkout, task.reference, f"{task.id}'s reference patch"))
    if not execution.passed:
        raise EvaluationError(
            f"{task.id}: its hidden tests fail with the reference patch ({execution.status}), so this environment "
            f"can't judge it: {execution.tail(6, 600)}"
        )


async def judged(task: RepositoryTask, report: Report, judge: Judge) -> Evaluated:
    """A sample for each trajectory, and one that says so for each that a rule made needless."""
    verdict = report.verdict
    of: dict[int, tuple[bool, str, str, bool]] = {}  # by trajectory
    solving: list[bool] = []
    for number, candidate in enumerate(verdict.ballot.candidates):
        execution = await judge.run(candidate.patch)
        solving.append(execution.passed)
        chosen = number == verdict.winner
        for trajectory in candidate.trajectories:
            of[trajectory] = (execution.passed, execution.status, candidate.patch.diff, chosen)
    samples: list[Sample] = []
    for one in report.trajectories:
        solves, status, diff, chosen = of.get(one.index, (False, one.detail or one.end.value, "", False))
        first = not samples
        samples.append(
            Sample(
                task=task.id,
                sample=len(samples),
                solves=solves,
                text=diff,
                status=status,
                selected=chosen,
                usage=report.usage if first else Usage(),
                stages=report.usage_by_stage if first else {},
            )
        )
    if (stopped := verdict.stopped) is not None:
        why = f"not made: {stopped.rule} ended the sampling"
        lacking = range(len(samples), stopped.of)
        samples += [Sample(task=task.id, sample=i, solves=False, text="", status=why, drawn=False) for i in lacking]
    broken = {standing.candidate for standing in verdict.standings if standing.regressions}
    return Evaluated(tuple(samples), line_of(task.id, verdict.ballot, solving, broken))


def prediction(task: RepositoryTask, model: str, patch: str) -> str:
    """One line of SWE-bench's form of predictions; of Multi-SWE-bench's task also what that one's tools read."""
    row: dict[str, object] = {"instance_id": task.id, "model_name_or_path": model, "model_patch": patch}
    if task.pull_request is not None:
        org, _, repo = task.repository.partition("/")
        row |= {"org": org, "repo": repo, "number": task.pull_request, "fix_patch": patch}
    return json.dumps(row) + "\n"


async def _anywhere(state: RunState) -> None:
    """No database records the stage."""
