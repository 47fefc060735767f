"""`troop eval run`: draw samples, judge them, report; a killed evaluation goes on with the same command."""

import asyncio
import contextlib
import functools
import hashlib
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import SecretStr
from rich.console import Console

from bot.atomic import SHARED, write_text
from bot.cli.evaluation_progress import Stage, Teller
from bot.cli.running import SAID
from bot.cli.solve import SolveOptions, settings_of
from bot.contracts import Model, Sandbox
from bot.errors import (
    BuildFailed,
    CheckoutError,
    EvaluationError,
    ForgeError,
    ImageMissing,
    SandboxError,
    SandboxUnavailable,
)
from bot.evaluation.figures import Figures, text
from bot.evaluation.files import written_to
from bot.evaluation.hidden import TESTS
from bot.evaluation.repositories import Bench, evaluate, forget
from bot.evaluation.results import (
    MATRICES,
    figures_of,
    keep_matrix,
    kept_matrices,
    rated,
    read_report,
    samples_of,
    with_matrices,
    write,
)
from bot.evaluation.rewards import RewardModel, with_rewards
from bot.evaluation.samples import SAMPLES, About, Form, SampleFile
from bot.evaluation.sampling import Clock, Drawing, Shared, draw_functions, fault, turn
from bot.evaluation.tasks import FunctionTask, RepositoryTask, Task, read_tasks, spread
from bot.evaluation.voting import JOURNAL, fill_matrices, take_tests, tests_of
from bot.journal import FileJournal
from bot.llm.bundled_engine import configured_engine
from bot.publish.messages.words import counted
from bot.records import Price, Speed, Usage
from bot.sandbox import open_sandbox
from bot.scratch import ScratchFolder
from bot.settings import SandboxSettings, Settings
from bot.solver.models import open_models
from bot.solver.stopping import ALL, stopping
from bot.tasks import together

_Rate = TypeVar("_Rate", Price, Speed)
# What a task or its repository is to blame for: the others go on.
_OF_ONE_TASK = (EvaluationError, CheckoutError, BuildFailed, ForgeError, SandboxError)


@dataclass(frozen=True)
class EvalOptions:
    """What the command line gives beside the settings."""

    source: str
    out: Path
    samples: int
    temperature: float = 0.6
    max_tokens: int = 1024  # of a reply; functions only
    form: Form = "chat"  # functions only
    stop: str | None = None  # the rule by which fewer are drawn; repositories only
    tests: int = 0  # replies with tests for each function; 0: no vote matrices
    tests_from: Path | None = None  # the folder of the evaluation whose tests vote instead
    limit: int | None = None
    at_once: int | None = None
    checkouts: tuple[Path, ...] = ()
    test_command: tuple[str, ...] = ()
    images: str = ""  # the name of each task's own, with fields of it in braces; repositories only
    price: Price | None = None
    speed: Speed | None = None
    reward: RewardModel | None = None


def options_and_settings(given: dict[str, Any]) -> tuple[EvalOptions, Settings]:
    """The options of `troop eval run`, and the environment's settings with those of them on top that are settings."""
    command = tuple(shlex.split(given["test_command"] or ""))
    if command and TESTS not in command:
        raise click.UsageError(f"--test-command must contain {TESTS}, as in 'python -m unittest {TESTS}'")
    if given["tests"] and given["tests_from"]:
        raise click.UsageError("--tests lets the model write tests, --tests-from takes another's: give one of the two")
    if given["images"] and (given["sandbox"] == "process" or given["image"]):
        raise click.UsageError("--images gives each task an image of its own: leave out --image and --sandbox process")
    reward = given["reward"]
    named = ("base_url", "model", "engine_model", "api_key", "seed", "sandbox", "image", "stop")
    settings = settings_of(SolveOptions(path=Path(), issue_text="", **{name: given[name] for name in named}))
    options = EvalOptions(
        source=given["tasks"],
        test_command=command,
        reward=RewardModel(url=reward[0], name=reward[1], key=SecretStr(given["reward_key"])) if reward else None,
        price=rate(Price, given["price"]),
        speed=rate(Speed, given["speed"]),
        **{
            name: given[name]
            for name in (
                "out",
                "samples",
                "stop",
                "tests",
                "tests_from",
                "temperature",
                "max_tokens",
                "form",
                "limit",
                "at_once",
                "checkouts",
                "images",
            )
        },
    )
    return options, settings


async def run(options: EvalOptions, settings: Settings) -> int:
    """Draw what is missing, judge and keep it, and write the report, also where it is interrupted; the exit status.

    0: all samples are there; 3: some are not, since tasks could not be judged here or calls failed. Raises
    `EvaluationError`, `EndpointError`, `SandboxError`.
    """
    tasks = spread(read_tasks(options.source, settings.models_dir), options.limit)
    if options.stop and isinstance(tasks[0], FunctionTask):
        raise EvaluationError(f"--stop is for runs of the solver, and {options.source} holds functions: leave it out")
    if options.images and isinstance(tasks[0], FunctionTask):
        raise EvaluationError(f"--images is for repositories, and {options.source} holds functions: leave it out")
    settings = _wide_enough(settings, options, tasks)
    console = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(written_to(options.out))
        url = settings.main.base_url
        if not url:
            options.out.mkdir(parents=True, exist_ok=True)
            url = await stack.enter_async_context(
                configured_engine(settings, options.out / "engine.log", console.print)
            )
        model = (await stack.enter_async_context(open_models(settings, url))).main
        about = _about(options, settings, tasks, model.name)
        file = stack.enter_context(
            SampleFile(options.out, about, [task.id for task in tasks], secrets=settings.secrets())
        )
        total = len(tasks) * options.samples
        if file.done:
            console.print(f"going on: {file.done:,} of {total:,} samples are there")
        teller = stack.enter_context(Teller(console, total, options.price, file))
        evaluation = _Evaluation(options, settings, url, model, file, teller)
        votes: tuple[list[str], Usage] | None = None
        try:
            await evaluation.draw(tasks)
            await turn(file)
            votes = await evaluation.votes(await evaluation.judgeable(tasks))
        except asyncio.CancelledError as interruption:  # by a signal
            teller.say("interrupted; run the same command again to continue")
            interruption.add_note(SAID)
            raise
        finally:
            teller.close()
            found = figures_of(tasks, about, options.samples, file, evaluation.left_out)
            if votes is not None:
                found = with_matrices(found, *votes)
            found = rated(found, options.price, options.speed)
            write(options.out, found, tasks)
        missing = total - file.done - options.samples * len(evaluation.left_out)
    _print(found, options.out)
    if missing > 0:
        lack = f"{counted(missing, 'sample')} {'is' if missing == 1 else 'are'} missing"
        why = f" ({evaluation.failure})" if evaluation.failure else ""
        click.echo(f"{lack}, since calls failed{why}: run the same command again", err=True)
    return 3 if evaluation.left_out or missing > 0 else 0


def _wide_enough(settings: Settings, options: EvalOptions, tasks: Sequence[Task]) -> Settings:
    """The settings with as many calls at once as samples of functions are to be: each is a call."""
    if not options.at_once or not isinstance(tasks[0], FunctionTask):
        return settings
    return settings.model_copy(update={"main": settings.main.model_copy(update={"concurrency": options.at_once})})


def _about(options: EvalOptions, settings: Settings, tasks: Sequence[Task], model: str) -> About:
    digest = hashlib.sha256("\0".join(task.model_dump_json() for task in tasks).encode()).hexdigest()[:16]
    of_functions = isinstance(tasks[0], FunctionTask)
    rule = stopping(settings.solver)
    return About(
        tasks=Path(options.source).name,
        kind="functions" if of_functions else "repositories",
        number=len(tasks),
        digest=digest,
        model=model,
        temperature=options.temperature if of_functions else None,
        seed=settings.solver.seed,
        max_tokens=options.max_tokens if of_functions else None,
        samples=None if of_functions else options.samples,
        stop=None if of_functions or rule == ALL else rule.words,
        form=options.form,
    )


class _Evaluation:
    """What is drawn, judged and kept. `left_out` has the tasks that can't be judged here, with the reason."""

    def __init__(
        self,
        options: EvalOptions,
        settings: Settings,
        url: str,
        model: Model,
        file: SampleFile,
        teller: Teller,
    ) -> None:
        self._options, self._settings, self._url, self._model = options, settings, url, model
        self._file, self._teller = file, teller
        self.left_out: dict[str, str] = {}
        self.failure = ""  # why a call failed, the last one

    async def draw(self, tasks: Sequence[Task]) -> None:
        """Draw what is missing of all tasks, which are of one kind."""
        wanted = _functions(tasks)
        if not wanted:
            return await self._draw_repositories([task for task in tasks if isinstance(task, RepositoryTask)])
        async with empty_sandbox(self._settings.sandbox, self._teller.say) as sandbox:
            drawing = self._drawing(self._options.samples)
            self.failure = await draw_functions(wanted, self._model, sandbox, drawing, self._file, self._teller.update)

    async def judgeable(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The tasks without functions whose check fails with their own solution, too: those are left out.

        Where any sample solves a task, its check works.
        """
        solving = dict(zip((task.id for task in tasks), self._file.counts(), strict=True))
        doubtful = [task for task in _functions(tasks) if task.reference and solving[task.id][1] == 0]
        if not doubtful:
            return tasks
        async with empty_sandbox(self._settings.sandbox, self._teller.say) as sandbox:
            bad = {task.id: words for task in doubtful if (words := await fault(task, sandbox))}
        self.left_out |= bad
        return [task for task in tasks if task.id not in bad]

    async def votes(self, tasks: Sequence[Task]) -> tuple[list[str], Usage] | None:
        """The vote matrices, also written to `matrices.jsonl`, and what they cost beside the samples; None without."""
        of_functions = self._file.about.kind == "functions"
        if of_functions and not self._options.tests and not self._options.tests_from:
            return None
        lines, spent = await self._vote(tasks) if of_functions else (kept_matrices(self._options.out, tasks), Usage())
        write_text(self._options.out / MATRICES, "".join(f"{line}\n" for line in lines), SHARED)
        return (lines, spent) if lines else None

    async def _vote(self, tasks: Sequence[Task]) -> tuple[list[str], Usage]:
        """The vote matrices of functions, one line each; what their tests cost."""
        wanted, options = _functions(tasks), self._options
        samples = samples_of(options.out / SAMPLES, options.samples)

        def tell(done: int) -> None:
            self._teller.note(f"{done}/{len(wanted)} vote matrices")

        async with empty_sandbox(self._settings.sandbox, self._teller.say) as sandbox:
            with contextlib.closing(FileJournal(options.out / JOURNAL)) as journal:
                if options.tests_from:
                    await take_tests(journal, tests_of(options.tests_from), wanted)
                lines, spent = await fill_matrices(
                    wanted, self._model, sandbox, self._drawing(options.tests), samples.__getitem__, journal, tell
                )
                if (reward := options.reward) is not None:
                    lines = [
                        await with_rewards(task, line, samples[task.id], reward, journal)
                        for task, line in zip(wanted, lines, strict=True)
                    ]
        return lines, spent

    def _drawing(self, samples: int) -> Drawing:
        options = self._options
        at_once = options.at_once or self._settings.main.concurrency
        return Drawing(
            samples, options.temperature, self._settings.solver.seed, options.max_tokens, at_once, options.form
        )

    async def _draw_repositories(self, tasks: Sequence[RepositoryTask]) -> None:
        options, file, teller = self._options, self._file, self._teller
        solver = self._settings.solver.model_copy(update={"trajectories": options.samples})
        bench = Bench(
            settings=self._settings.model_copy(update={"solver": solver}),
            base_url=self._url,
            folder=options.out / "work",
            checkouts=options.checkouts,
            test_command=options.test_command,
            images=options.images,
            notice=functools.cache(teller.say),  # each task has a sandbox, and the same to say of it
        )
        last = options.samples - 1
        shared = Shared(
            file, lambda: (task for task in tasks if not file.has(task.id, last)), lambda task: (task.id, last)
        )
        total = len(tasks) * options.samples
        clock = Clock(file.done, total, (options.at_once or 1) * options.samples)

        async def worker() -> None:
            while (task := await shared.take()) is not None:
                try:
                    found = await evaluate(task, bench, Stage(task.id, teller))
                except _OF_ONE_TASK as error:
                    its_image = bool(options.images) and isinstance(error, ImageMissing)
                    if isinstance(error, SandboxUnavailable) and not its_image:
                        raise
                    self.left_out[task.id] = " ".join(str(error).removeprefix(f"{task.id}: ").split())
                    teller.say(f"left out: {task.id}: {self.left_out[task.id]}")
                    shared.done(task, failed=True)
                    continue
                keep_matrix(options.out, task.id, found.matrix)
                for sample in found.samples:
                    if not file.has(sample.task, sample.sample):  # a kill came between two of them
                        file.add(sample)
                forget(task, bench)
                shared.done(task)
                teller.update(file.done, total, clock.left(file.done))

        await together([worker() for _ in range(options.at_once or 1)])


def _functions(tasks: Sequence[Task]) -> list[FunctionTask]:
    return [task for task in tasks if isinstance(task, FunctionTask)]


@contextlib.asynccontextmanager
async def empty_sandbox(settings: SandboxSettings, say: Callable[[str], None]) -> AsyncIterator[Sandbox]:
    """Over an empty tree."""
    with contextlib.closing(ScratchFolder()) as scratch:
        sandbox = await open_sandbox(settings, scratch.path, notice=say)
        try:
            yield sandbox
        finally:
            await sandbox.close()


def rate(kind: type[_Rate], given: tuple[float, float] | None) -> _Rate | None:
    """What `--price` or `--speed` gave, of prompts and of replies; None for nothing."""
    return kind(prompt=given[0], completion=given[1]) if given else None


def report(folder: Path, price: Price | None, speed: Speed | None) -> int:
    """Print the report of a folder again; the exit status. Raises `EvaluationError` where it holds none."""
    _print(rated(read_report(folder), price, speed), folder)
    return 0


def _print(found: Figures, folder: Path) -> None:
    click.echo(text(found))
    click.echo(f"{folder / 'report.html'} and the files beside it hold it.")
