"""The samples: each trajectory writes a test, then an edit that should pass it. They run concurrently.

The messages of a trajectory only grow, and all begin with the same system message, issue and files, so that an engine
that shares prefixes computes those once. Seeds come from the run's seed and the call's key: a resumed run asks the
same again, and another seed gives other samples.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path

from bot.contracts import Journal, Model, Progress, Sandbox
from bot.errors import EndpointError, SandboxError
from bot.journal import MemoryJournal, once
from bot.lifecycle import RunState
from bot.llm.ability import TAGS, EditFormat
from bot.llm.conversation import Conversation, Sampling, opening
from bot.llm.grammars import edit_grammar, test_grammar
from bot.patch.reader import Unreadable, checkout_reader
from bot.patch.redefine import likely
from bot.records import Checkout, Context, Issue, Record, Stopped, Trajectory, TrajectoryEnd
from bot.retrieval.module_names import module_names
from bot.solver.editing import editing
from bot.solver.profile import ResolvedSolver
from bot.solver.stages import looking
from bot.solver.stages.edit_machine import EditEnd, EditMachine
from bot.solver.stages.edit_machine import State as EditState
from bot.solver.stages.related import RelatedTests
from bot.solver.stages.test_machine import State as TestState
from bot.solver.stages.test_machine import TestMachine
from bot.solver.stopping import ALL, Seen, Stopping
from bot.tasks import together, under_way

AT_ONCE = 256  # trajectories under way: each holds a prompt of up to a megabyte, and no endpoint takes more calls
_LEFT_OUT = 20  # relevant files that are not shown, but named
Look = Callable[[Sequence[Trajectory]], Awaitable[Seen]]
_SHORT, _LIKELIEST = 250, 3  # lines of a file that is written anew as a whole, and how many of them are looked at


class Ended(Record):
    """The trajectories that ended before the others were broken off."""

    trajectories: tuple[Trajectory, ...]


async def _nothing(sampled: Sequence[Trajectory]) -> Seen:
    return Seen()


class Sampler:
    """Samples the trajectories of one issue. `issue` fits the model's window (`bot.llm.conversation.fitted_issue`)."""

    def __init__(
        self, issue: Issue, context: Context, checkout: Checkout, model: Model, sandbox: Sandbox, solver: ResolvedSolver
    ) -> None:
        self._issue = issue
        self._context = context
        self._root = Path(checkout.root)
        self._model = model
        self._sandbox = sandbox
        self._solver = solver
        self._grammars = self._made_grammars() if solver.held_to_grammar else {"test": None, "edit": None}
        self._edit = editing(checkout, context.files, repairs=solver.repairs_edits, tests=solver.test_commands)
        self._related = RelatedTests(checkout, sandbox, solver, [file.path for file in context.tests])
        self._example = likely(issue, context.files)
        self._names = module_names(checkout)
        self.failures: list[EndpointError | SandboxError] = []
        self._heard: Callable[[], None] = lambda: None  # called after each reply
        self.unanswered = 0  # trajectories that produced nothing because a call got no answer

    async def sampled(
        self, progress: Progress, rule: Stopping = ALL, look: Look = _nothing, journal: Journal | None = None
    ) -> tuple[tuple[Trajectory, ...], Stopped | None]:
        """`solver.settings.trajectories` of them in order of their index, or fewer, and then by which rule.

        `look`: what the count says of those that have ended, for rules that ask. Which ones ended first is kept in the
        journal: they can't be told again from their replies.
        A failure of the endpoint or the sandbox ends the trajectory that met it. Raises `EndpointError` or
        `SandboxError` only where every trajectory met one: a run without a working model fails, it does not abstain.
        """
        total = self._solver.settings.trajectories
        done: list[Trajectory] = []
        slots = asyncio.Semaphore(AT_ONCE)

        replies = 0

        def tell() -> None:
            edits = sum(t.patch is not None for t in done)
            under_way = f", replies so far: {replies}" if len(done) < total else ""
            progress.update(RunState.TRAJECTORIES, len(done), total, f"{edits} with an edit{under_way}")

        def heard() -> None:
            nonlocal replies
            replies += 1
            tell()

        async def one(index: int) -> Trajectory:
            async with slots:
                trajectory = await self.sample(index)
            done.append(trajectory)
            tell()
            return trajectory

        self._heard = heard
        progress.update(RunState.TRAJECTORIES, 0, total)
        trajectories: tuple[Trajectory, ...] = ()
        stopped: Stopped | None = None
        if rule.ended_first is not None:
            trajectories, stopped = await _first(one, rule, total, journal or MemoryJournal())
        while len(trajectories) < total and stopped is None:
            first = len(trajectories)
            wave = range(first, first + rule.wave(first, total))
            trajectories += tuple(await together(one(index) for index in wave))  # a lost lease or a stop ends them all
            if len(trajectories) < total and rule.enough(found := await look(trajectories), len(trajectories), total):
                stopped = rule.stopped(found, len(trajectories), total)
        if len(self.failures) == len(trajectories):
            raise self.failures[0]
        if self.unanswered == len(trajectories):
            raise EndpointError(
                f"the model {self._model.name} left every trajectory without an answer "
                f"({trajectories[-1].detail[:300]}): look at the endpoint's log; a slow one needs a higher "
                "TROOP_MAIN_TIMEOUT"
            )
        return trajectories, stopped

    async def sample(self, index: int) -> Trajectory:
        """One trajectory, however it ends."""
        try:
            return await self._sample(index)
        except (EndpointError, SandboxError) as error:
            self.failures.append(error)
            return Trajectory(index=index, test=None, patch=None, end=TrajectoryEnd.FAILED, detail=str(error))

    async def _sample(self, index: int) -> Trajectory:
        conversation = self._conversation(f"trajectory/{index}/test", "test")
        tested = await TestMachine(conversation, self._sandbox, self._solver, self._issue, self._names).run()
        without = tested.test is None and self._solver.edits_need_a_test
        self.unanswered += tested.state is TestState.FAILED
        if tested.state is TestState.FAILED or without:
            return Trajectory(
                index=index,
                test=tested.test,
                patch=None,
                end=TrajectoryEnd.FAILED,
                detail=f"no test: {tested.detail}",
                calls=tested.calls,
            )
        edited = await EditMachine(
            self._conversation(f"trajectory/{index}/edit", "edit", test=tested.test, seen=tested.seen),
            self._sandbox,
            self._solver,
            tested.test,
            self._edit,
            self._related,
        ).run()
        self.unanswered += edited.state is EditState.FAILED and edited.patch is None
        end, detail = _end(edited)
        return Trajectory(
            index=index,
            test=edited.test,
            patch=edited.patch,
            end=end,
            detail=detail,
            calls=tested.calls + edited.calls,
            own_test_passes=edited.passes,
        )

    def _made_grammars(self) -> dict[str, str | None]:
        """What replies must follow; of a file that can't be read, the excerpt in the prompt is used."""
        reader = checkout_reader(self._root)

        def read(path: str) -> str | None:
            try:
                return reader(path)
            except Unreadable:
                return None

        files = self._context.files
        return {"test": test_grammar(self._issue, files), "edit": edit_grammar(self._issue, files, read)}

    def _conversation(self, key: str, template: str, **values: object) -> Conversation:
        settings = self._solver.settings
        shared = {"issue": self._issue, "files": self._context.files, "environment": self._context.environment}
        shared |= {"left_out": self._context.left_out[:_LEFT_OUT] if self._solver.looks else ()}
        shared |= {"tests": self._context.tests, "customs": self._context.customs}
        hints = {"example": self._example} if self._solver.gives_hints else {}
        looks = {"looks": self._solver.looks, "most": looking.AT_ONCE, "seconds": f"{looking.SECONDS:.0f}"}
        formats = self._formats() if template == "edit" and self._solver.gives_hints else self._solver.formats[:1]
        (tag, messages), *others = (
            (
                TAGS[form],
                opening(self._solver.profile, template, edit_format=form, **shared, **hints, **looks, **values),
            )
            for form in formats
        )
        sampling = Sampling(
            seed=settings.seed,
            max_tokens=self._solver.reply_tokens(self._model.context_window),
            temperature=settings.temperature,
            grows=self._solver.replies_grow,
            grammar=self._grammars[template],
        )
        conversation = Conversation(self._model, key, messages, sampling, others, tag)
        conversation.heard = self._heard
        return conversation

    def _formats(self) -> tuple[EditFormat, ...]:
        """The formats of an edit, the best first; whole files only where those that are shown are short."""
        short = all(not file.excerpt and file.text.count("\n") < _SHORT for file in self._context.files[:_LIKELIEST])
        formats = tuple(form for form in self._solver.formats if form != "file" or short)
        return formats or ("search_replace",)


async def _first(
    one: Callable[[int], Coroutine[object, object, Trajectory]], rule: Stopping, total: int, journal: Journal
) -> tuple[tuple[Trajectory, ...], Stopped | None]:
    """Those that have ended when the first `rule.ended_first` with a patch have; all others are broken off."""

    async def make() -> Ended:
        ended: list[Trajectory] = []
        async with under_way(*map(one, range(total))) as tasks:
            for task in asyncio.as_completed(tasks):
                ended.append(await task)
                if sum(t.patch is not None for t in ended) == rule.ended_first:
                    break
        return Ended(trajectories=tuple(sorted(ended, key=lambda t: t.index)))

    trajectories = (await once(journal, "trajectories/ended first", Ended, make)).trajectories
    if len(trajectories) == total:
        return trajectories, None
    patches = sum(t.patch is not None for t in trajectories)
    return trajectories, Stopped(rule=rule.rule, attempts=len(trajectories), of=total, value=patches)


def _end(edited: EditEnd) -> tuple[TrajectoryEnd, str]:
    """The trajectory's end and its explanation."""
    if edited.state is EditState.DONE:
        return TrajectoryEnd.DONE, ""
    if edited.state is EditState.FAILED:
        return TrajectoryEnd.FAILED, edited.detail
    if edited.patch is not None:
        return TrajectoryEnd.OUT_OF_CALLS, edited.detail
    if not edited.understood:
        return TrajectoryEnd.FAILED, f"no reply could be used: {edited.detail}"
    return TrajectoryEnd.NO_EDIT, edited.detail
