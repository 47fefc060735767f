"""The selection: a machine that writes new tests until it chooses among the best, or the best standing, or nobody."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence

from bot.contracts import Model, Progress, Sandbox
from bot.errors import EndpointError, SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.llm.conversation import OVERHEAD, Conversation, Sampling, fitted_issue, opening, shortened
from bot.llm.prompts import render
from bot.llm.replies import Turn, parse_choice_turn
from bot.patch.apply import Problem
from bot.records import (
    Ballot,
    Context,
    Ending,
    Execution,
    FileChange,
    Issue,
    Message,
    Outcome,
    OwnTestsReport,
    Patch,
    Record,
    SandboxJob,
    Standing,
    Test,
    Verdict,
)
from bot.sandbox.script_command import in_short
from bot.settings import SolverSettings
from bot.solver.ballot import Count, abstention, clear_lead, credible, distinct_first, overruled
from bot.solver.profile import ResolvedSolver


class Choice(Record):
    """What the machine came to."""

    candidate: int | None  # index in the ballot; None: it never chose
    calls: int = 0
    tests: tuple[Test, ...] = ()
    passed: tuple[tuple[bool | None, ...], ...] = ()  # of each test: on the untouched repository, then on each finalist
    why_not: str = ""  # in words, where it did not choose


async def select(
    issue: Issue,
    context: Context,
    count: Count,
    model: Model,
    sandbox: Sandbox,
    solver: ResolvedSolver,
    progress: Progress,
) -> Verdict:
    """Choose a credible candidate, or abstain.

    The model is not asked where one candidate alone is credible. The bundled model, whose choice is worth little, is
    not asked either where one behaviour is clearly ahead (`bot.solver.ballot.clear_lead`); a capable one is, since
    patches that no test tells apart yet can still differ. Where it never chooses, the best standing wins. Raises
    `SandboxUnavailable`; an endpoint that fails costs the selection, not the run.

    A choice against the selection's own evidence (its test fails on the original and on the chosen candidate, and
    passes on another) is asked about once.
    """
    ballot, standings, own, settings = count.ballot, count.standings, count.own_tests, solver.settings
    nobody = abstention(standings, ballot)
    if nobody is not None:
        return Verdict(
            outcome=Outcome.ABSTAINED,
            winner=None,
            reason=nobody + await _common_cause(ballot, sandbox, settings),
            standings=tuple(standings),
            ballot=ballot,
            own_tests=own,
        )
    able = credible(standings, ballot)
    first = able[0]
    choice = Choice(candidate=first.candidate)
    if len(able) == 1:
        how = "It is the only credible candidate, so no selection tests were needed."
    elif not solver.asks_on_clear_lead and clear_lead(able, ballot):
        how = "Its behaviour is clearly ahead, so no selection tests were needed."
    else:
        finalists = distinct_first(able, ballot, settings.selection_top)
        patches = [(s, ballot.candidates[s.candidate].patch) for s in finalists]
        choice = await _Machine(issue, context, patches, model, sandbox, solver, progress).run()
        how = _choice_words(choice, first, finalists)
    winner = first if choice.candidate is None else next(s for s in able if s.candidate == choice.candidate)
    said = [_standing_words(winner, ballot), _overruled_words(winner, able), how, _own_words(winner, own)]
    return Verdict(
        outcome=Outcome.SOLVED,
        winner=winner.candidate,
        reason=" ".join(part.strip() for part in said if part),
        standings=tuple(standings),
        selection_tests=choice.tests,
        ballot=ballot,
        own_tests=own,
    )


_MISSING = re.compile(
    r"ModuleNotFoundError: No module named '[\w.]+'|Cannot find (?:module|package) '[^'\n]{1,100}'"
    r"|cannot load such file -- \S+"
)
_LOOKED_AT = 20  # tests


async def _common_cause(ballot: Ballot, sandbox: Sandbox, settings: SolverSettings) -> str:
    """Why no test could tell anything, where most of them end for want of the same module. A sentence, or "".

    Their runs are in the journal: they are not run again.
    """
    failing = [test for test, fails in zip(ballot.tests, ballot.fails_on_base, strict=True) if fails][:_LOOKED_AT]
    if any(cell for row in ballot.cells for cell in row) or not failing:
        return ""
    causes: Counter[str] = Counter()
    for test in failing:
        try:
            execution = await sandbox.run(SandboxJob(test=test, timeout=settings.test_timeout))
        except SandboxError:
            continue
        causes.update(set(_MISSING.findall(execution.output)))
    cause, count = causes.most_common(1)[0] if causes else ("", 0)
    if 2 * count <= len(failing):
        return ""
    return (
        f" {count} of {_counted(len(failing), 'test')} ended with `{cause}`: what the repository depends on, or a file "
        "that its build writes, is not in the sandbox. Name an image that holds it, or a `setup` command in "
        ".troop.toml (Docker), or install it where `python3` finds it (processes; a .venv in the checkout is used), "
        "and try again."
    )


class _Machine:
    """Shows the finalists, runs the tests that the model writes on all of them, and ends with its choice."""

    def __init__(
        self,
        issue: Issue,
        context: Context,
        finalists: Sequence[tuple[Standing, Patch]],
        model: Model,
        sandbox: Sandbox,
        solver: ResolvedSolver,
        progress: Progress,
    ) -> None:
        self._patches = [patch for _, patch in finalists]
        self._finalists = [standing for standing, _ in finalists]
        self._issue = issue
        self._files = list(context.files)
        self._environment = context.environment
        self._model = model
        self._sandbox = sandbox
        self._settings = solver.settings
        self._progress = progress
        self._solver = solver
        self._choices: list[dict[str, object]] = [
            {"number": number, "diff": patch.diff, "votes": standing.votes, "cluster": standing.cluster}
            for number, (standing, patch) in enumerate(finalists, 1)
        ]

    async def _opening(self) -> tuple[Message, ...]:
        """The candidates with as many of the files as the window has room for; then as much of the diffs."""
        issue = await fitted_issue(self._issue, self._model)
        window = self._model.context_window
        room = window - self._solver.reply_tokens(window) - self._solver.later_tokens(window)

        async def drawn_up() -> tuple[tuple[Message, ...], int]:
            shared = {"issue": issue, "files": self._files, "environment": self._environment}
            made = opening(self._solver.profile, "select", **shared, choices=self._choices)
            return made, sum([await self._model.count_tokens(m.content) + OVERHEAD for m in made])

        messages, size = await drawn_up()
        while size > room and self._files:
            size -= await self._model.count_tokens(self._files.pop().text)
            if size <= room or not self._files:
                messages, size = await drawn_up()
        for limit in (40_000, 10_000, 2_500, 600):  # characters
            if size <= room:
                break
            self._choices = [choice | {"diff": shortened(str(choice["diff"]), limit)} for choice in self._choices]
            messages, size = await drawn_up()
        return messages

    def _against_evidence(self, number: int, passed: Sequence[tuple[bool | None, ...]]) -> str:
        """What speaks against the choice of that number: a telling test that it fails and another passes."""
        for n, row in enumerate(passed, 1):
            better = [i for i, cell in enumerate(row[1:], 1) if cell is True]
            if row[0] is False and row[number] is False and better:
                others = " and ".join(f"candidate {i}" for i in better)
                return (
                    f"candidate {number} fails your test {n}, which fails on the original repository and which "
                    f"{others} passes\nIf the issue demands what that test checks, choose another candidate; if the "
                    "test is wrong, say why, and choose again."
                )
        return ""

    async def run(self) -> Choice:
        messages = await self._opening()
        sampling = Sampling(
            seed=self._settings.seed,
            max_tokens=self._solver.reply_tokens(self._model.context_window),
            temperature=self._settings.selection_temperature,
            grows=self._solver.replies_grow,
        )
        talk = Conversation(self._model, "selection", messages, sampling)
        tests: dict[str, Test] = {}
        passed: dict[str, tuple[bool | None, ...]] = {}
        asked_back = False

        def came_to(candidate: int | None, why_not: str = "") -> Choice:
            return Choice(
                candidate=candidate,
                calls=talk.calls,
                tests=tuple(tests.values()),
                passed=tuple(passed[key] for key in tests),
                why_not=why_not,
            )

        while talk.calls < self._settings.selection_calls:
            self._progress.update(RunState.SELECTION, talk.calls, self._settings.selection_calls)
            try:
                reply = await talk.ask()
            except EndpointError as error:
                return came_to(None, f"the model could not be asked ({error})")
            if reply.failed:
                return came_to(None, "the model could not be asked any more")
            turn = parse_choice_turn(reply)
            if isinstance(turn, Turn) and turn.choice is not None:
                if 1 <= turn.choice <= len(self._finalists):
                    against = self._against_evidence(turn.choice, list(passed.values())) if self._solver.argues else ""
                    chosen = self._finalists[turn.choice - 1].candidate
                    if not against or asked_back or talk.calls >= self._settings.selection_calls:
                        return came_to(chosen)
                    asked_back, turn = True, Problem(text=against)
                else:
                    turn = Problem(text=f"there is no candidate {turn.choice}; they are 1 to {len(self._finalists)}")
            if isinstance(turn, Problem):
                problem = turn.text if self._solver.explains_problems else turn.short
                talk.say(render(self._solver.profile, "unparsed", problem=problem))
            elif turn.test is not None:
                executions = await self._try(turn.test)
                tests[turn.test.id] = turn.test
                passed[turn.test.id] = tuple(None if e.ending is Ending.UNAVAILABLE else e.passed for e in executions)
                talk.say(render(self._solver.profile, "select_result", executions=self._labelled(executions)))
        return came_to(None, f"the model made no choice in {_counted(talk.calls, 'call')}")

    def _labelled(self, executions: Sequence[Execution]) -> list[dict[str, object]]:
        """As the template takes them."""
        labels = ["original", *(f"candidate {number}" for number in range(1, len(executions)))]
        shown: list[dict[str, object]] = [
            {"label": label, "execution": execution} for label, execution in zip(labels, executions, strict=True)
        ]
        return shown if self._solver.argues else shown[1:]

    async def _try(self, test: Test) -> list[Execution]:
        """On the untouched repository, then on each finalist."""
        trees: list[tuple[FileChange, ...]] = [(), *(patch.changes for patch in self._patches)]
        return list(await asyncio.gather(*(self._run(changes, test) for changes in trees)))

    async def _run(self, changes: tuple[FileChange, ...], test: Test) -> Execution:
        try:
            return await self._sandbox.run(SandboxJob(changes=changes, test=test, timeout=self._settings.test_timeout))
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            return Execution(ending=Ending.UNAVAILABLE, output=str(error))


# -- the reason, in words for people -------------------------------------------------------------------------------


def _standing_words(winner: Standing, ballot: Ballot) -> str:
    candidate = ballot.candidates[winner.candidate]
    useful = sum(ballot.fails_on_base)
    if winner.votes:
        votes = f"It passes {winner.votes} of the {_counted(useful, 'test')} that fail on the untouched repository"
        votes += f" (and {winner.own_votes} of its own)" if winner.own_votes else ""
    else:
        votes = (
            "The test of its own trajectory, which fails on the untouched repository, passes on it; there was no other"
        )
    total = sum(c.samples for c in ballot.candidates if not c.disqualified)
    samples = f"{_counted(winner.cluster, 'sample')} of {total} {'behave' if winner.cluster != 1 else 'behaves'} so"
    foreign = "" if candidate.trajectories else "; it is a patch from elsewhere"
    return f"{votes}; {samples}{foreign}."


def _overruled_words(winner: Standing, able: Sequence[Standing]) -> str:
    other = overruled(winner, able)
    if other is None:
        return ""
    number = other.candidate + 1
    return (
        f"Candidate {number} has more votes ({other.votes} to {winner.votes}) but fewer samples that behave like it, "
        f"and samples that agree weigh more than single tests."
        if winner.score >= other.score
        else f"Candidate {number} has more votes ({other.votes} to {winner.votes}); the selection decided against it."
    )


def _choice_words(choice: Choice, first: Standing, finalists: Sequence[Standing]) -> str:
    among = f"{len(finalists)} candidates ({', '.join(str(s.candidate + 1) for s in finalists)})"
    if choice.candidate is None:
        return (
            f"Among {among} the best standing wins: {choice.why_not}.{_test_words(choice, finalists, first.candidate)}"
        )
    other = "" if choice.candidate == first.candidate else f" over the best standing, candidate {first.candidate + 1}"
    calls = _counted(choice.calls, "call")
    return f"The model chose it among {among}{other} in {calls}.{_test_words(choice, finalists, choice.candidate)}"


def _test_words(choice: Choice, finalists: Sequence[Standing], winner: int) -> str:
    """How the selection's tests went; only those that fail on the untouched repository show anything."""
    telling = [row[1:] for row in choice.passed if row and row[0] is False]
    if not choice.tests:
        return ""
    if not telling:
        written = _counted(len(choice.tests), "selection test")
        return (
            f" {'No one' if len(choice.tests) > 1 else 'Not one'} of the {written} fails on the untouched repository."
        )
    counts = {s.candidate: sum(row[i] is True for row in telling) for i, s in enumerate(finalists)}
    others = ", ".join(f"candidate {c + 1} {n}" for c, n in counts.items() if c != winner)
    return f" Of {_counted(len(telling), 'telling selection test')} it passes {counts[winner]} ({others})."


def _own_words(winner: Standing, own: OwnTestsReport | None) -> str:
    if own is None:
        return ""
    name = f"The repository's own tests (`{in_short(own.command)}`)" if own.command else "The repository's own tests"
    if own.note:
        return f" {name} {own.note}."
    after = own.on(winner.candidate)
    if after is None:
        return f" {name} were not run on it."
    if after.execution.ending is Ending.UNAVAILABLE:
        return f" {name} could not be run on it."
    if after.execution.passed:
        return f" {name} pass on it."
    if after.failures is None:
        return f" {name} could not be compared: they end with {after.execution.status}."
    return f" {name} fail where they failed before, and nowhere else."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"
