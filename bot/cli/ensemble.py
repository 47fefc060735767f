"""`troop eval ensemble`: samples and tests of several evaluations of functions, counted together."""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from bot.atomic import SHARED, write_text
from bot.cli.evaluate import empty_sandbox
from bot.contracts import Sandbox
from bot.errors import EvaluationError
from bot.evaluation.ensembles import Member, Tests, common, measure, pooled, read_member, read_pooled, text
from bot.evaluation.files import written_to
from bot.evaluation.tasks import FunctionTask, read_tasks
from bot.evaluation.voting import Filled, fill, tests_of
from bot.journal import FileJournal, once
from bot.publish.messages.words import counted
from bot.settings import Settings
from bot.tasks import together

EVERY = 10  # tasks between two lines of progress
AT_ONCE = 2  # tasks; the sandbox bounds what runs


async def combine(source: str, folders: Sequence[Path], out: Path, tests_from: Path | None, settings: Settings) -> int:
    """Run all tests on all candidates, and write the matrices and the figures; the exit status.

    Interrupted, the same command goes on. Raises `EvaluationError` and `SandboxError`.
    """
    tasks = {task.id: task for task in read_tasks(source, settings.models_dir) if isinstance(task, FunctionTask)}
    if not tasks:
        raise EvaluationError(f"{source} holds no functions: an ensemble of runs of the solver is made by the solver")
    members = [await asyncio.to_thread(read_member, folder) for folder in folders]
    others: Tests = {}
    if tests_from:
        others, members = tests_of(tests_from), [replace(member, tests={}) for member in members]
    wanted = common(members, others, list(tasks))
    _say(f"{counted(len(wanted), 'task')} of {len(tasks)} in {source} are in all {len(folders)} folders and have tests")
    with written_to(out):
        async with empty_sandbox(settings.sandbox, _say) as sandbox:
            with contextlib.closing(FileJournal(out / "ensemble.journal")) as journal:
                filling = _Filling(members, others, sandbox, journal, len(wanted))
                await filling.all([tasks[task] for task in wanted])
        lines = [filling.lines[task] for task in wanted]
        found = await asyncio.to_thread(measure, [read_pooled(line) for line in lines])
        write_text(out / "matrices.jsonl", "".join(f"{line}\n" for line in lines), SHARED)
        write_text(out / "ensemble.json", found.model_dump_json(indent=2) + "\n", SHARED)
    click.echo(text(found))
    click.echo(f"{out / 'ensemble.json'} holds it, matrices.jsonl beside it the votes.")
    return 0


class _Filling:
    """The matrices, one after the other; `lines` has them by task."""

    def __init__(
        self, members: Sequence[Member], others: Tests, sandbox: Sandbox, journal: FileJournal, total: int
    ) -> None:
        self._members, self._others = members, others
        self._sandbox, self._journal, self._total = sandbox, journal, total
        self.lines: dict[str, str] = {}

    async def all(self, tasks: Sequence[FunctionTask]) -> None:
        waiting = iter(tasks)

        async def worker() -> None:
            for task in waiting:
                await self._one(task)

        await together([worker() for _ in range(AT_ONCE)])

    async def _one(self, task: FunctionTask) -> None:
        samples = [sample for member in self._members for sample in member.samples[task.id]]
        tests = [test for member in self._members for test in member.tests.get(task.id, ())]
        tests += self._others.get(task.id, ())
        digest = hashlib.sha256("\0".join([*tests, "", *(sample.text for sample in samples)]).encode()).hexdigest()
        filled = await once(
            self._journal, f"{task.id}/{digest}", Filled, lambda: fill(task, tests, samples, self._sandbox)
        )
        self.lines[task.id] = pooled(filled.line, self._members, self._others, task.id)
        if (done := len(self.lines)) % EVERY == 0 or done == self._total:
            _say(f"{done}/{self._total} vote matrices")


def _say(words: str) -> None:
    click.echo(words, err=True)
