"""Vote matrices of functions: the model writes tests, and each runs on each distinct candidate."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bot.contracts import Journal, Model, Sandbox
from bot.errors import EndpointError, EvaluationError
from bot.evaluation import asserts
from bot.evaluation.functions import as_completion, candidates_of, code_of
from bot.evaluation.matrices import Row, line
from bot.evaluation.samples import Sample
from bot.evaluation.sampling import Drawing
from bot.evaluation.tasks import FunctionTask
from bot.journal import once, read_entries
from bot.records import Record, Usage
from bot.tasks import together

JOURNAL = "votes.journal"  # in the folder of an evaluation

SamplesOf = Callable[[str], Sequence[Sample]]  # of a task


class Written(Record):
    """The tests that the model wrote for one task, copies included, and what they cost."""

    tests: tuple[str, ...]
    usage: Usage


class Filled(Record):
    """The matrix of one task, a line of `matrices.jsonl`."""

    line: str


_KEY = "tests/"  # and the task: where the journal has its tests


def kept_tests(folder: Path) -> dict[str, tuple[str, ...]]:
    """The tests that the model of an evaluation wrote, copies included, by task."""
    journal = folder / JOURNAL
    entries, _ = read_entries(journal.read_bytes() if journal.exists() else b"")
    return {
        key.removeprefix(_KEY): Written.model_validate_json(entry).tests
        for key, entry in entries.items()
        if key.startswith(_KEY)
    }


def tests_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """Those tests, for others' candidates. Raises `EvaluationError` where there are none."""
    tests = kept_tests(folder)
    if not any(tests.values()):
        raise EvaluationError(f"{folder} has no tests of functions: `troop eval run ... --tests 5` makes them")
    return tests


async def take_tests(journal: Journal, tests: Mapping[str, tuple[str, ...]], tasks: Sequence[FunctionTask]) -> None:
    """Let the tests of another evaluation vote on these tasks. Raises `EvaluationError` where others have voted."""
    for task in tasks:
        given = Written(tests=tests.get(task.id, ()), usage=Usage())
        entry = await journal.get(_KEY + task.id)
        if entry is not None and Written.model_validate_json(entry).tests != given.tests:
            raise EvaluationError(f"other tests have voted on {task.id} before: give another --out")
        await journal.put(_KEY + task.id, given.model_dump_json())


async def fill_matrices(
    tasks: Sequence[FunctionTask],
    model: Model,
    sandbox: Sandbox,
    drawing: Drawing,
    samples_of: SamplesOf,
    journal: Journal,
    tell: Callable[[int], None],
) -> tuple[list[str], Usage]:
    """The matrices, one line a task, and what the tests cost. `drawing.samples`: replies with tests, several in each.

    Raises `EndpointError` and `SandboxError`. What the journal holds is neither asked nor run again.
    """
    lines: dict[str, str] = {}
    spent = Usage()
    waiting = iter(tasks)

    async def vote(task: FunctionTask) -> None:
        nonlocal spent
        written = await once(journal, _KEY + task.id, Written, lambda: _write(task, model, drawing))
        samples = samples_of(task.id)
        key = f"matrix with answers/{task.id}/{len(samples)}"
        filled = await once(journal, key, Filled, lambda: fill(task, written.tests, samples, sandbox))
        spent += written.usage
        lines[task.id] = filled.line
        tell(len(lines))

    async def worker() -> None:
        for task in waiting:
            await vote(task)

    await together([worker() for _ in range(max(1, drawing.at_once // max(1, drawing.samples)))])
    return [lines[task.id] for task in tasks], spent


async def _write(task: FunctionTask, model: Model, drawing: Drawing) -> Written:
    calls = [
        asserts.call(task, i, temperature=drawing.temperature, seed=drawing.seed, max_tokens=drawing.max_tokens)
        for i in range(drawing.samples)
    ]
    begun = ""
    if drawing.form == "completion":
        begun = "assert"
        calls = [as_completion(call, asserts.begun(task)) for call in calls]
    replies = await asyncio.gather(*map(model.reply, calls))
    if all(reply.failed and not reply.overflowed for reply in replies):
        raise EndpointError(f"the endpoint writes no tests for {task.id}: {replies[0].text}")
    tests = [test for reply in replies if not reply.failed for test in asserts.asserts_of(begun + reply.text, task)]
    usage = sum((reply.usage for reply in replies), Usage())
    return Written(tests=tuple(tests), usage=usage)


async def fill(task: FunctionTask, written: Sequence[str], samples: Sequence[Sample], sandbox: Sandbox) -> Filled:
    """Run every distinct test of `written`, which holds copies, on every distinct code of the samples."""
    copies = Counter(written)
    tests = list(copies)
    codes = candidates_of(samples)
    place = {code: i for i, code in enumerate(codes)}
    asked = asserts.calls(task, tests)

    async def run(code: str) -> tuple[str, tuple[str, ...]]:
        if not tests:
            return "", ()
        execution = await sandbox.run(asserts.job(task, code, tests, asked))
        return asserts.outcomes(execution, len(tests)), asserts.answers(execution)

    (stubbed, _), *ran = await asyncio.gather(*map(run, [asserts.stub(task), *codes]))
    found = line(
        task.id,
        [place[code_of(sample.text)] for sample in samples],
        [
            Row(len(code), passes, solves, answers=answers)
            for (code, solves), (passes, answers) in zip(codes.items(), ran, strict=True)
        ],
        list(copies.values()),
        stubbed,
        [sample.logprob for sample in samples],
    )
    return Filled(line=found)
