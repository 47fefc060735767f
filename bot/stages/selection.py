"""The selection: a machine that writes new tests until it chooses among the best, or the best standing, or nobody."""

import asyncio
from collections.abc import Sequence

from bot.ballot import abstention, clear_lead, credible, distinct_first, overruled
from bot.contracts import Model, Progress, Sandbox
from bot.conversation import Conversation, fitted_issue, opening
from bot.edits import Problem
from bot.errors import EndpointError, SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.prompts import Profile, render
from bot.records import (
    Ballot,
    Context,
    Ending,
    Execution,
    FileChange,
    Issue,
    Job,
    Outcome,
    OwnTestsReport,
    Record,
    Standing,
    Test,
    Verdict,
)
from bot.replies import Turn, parse_choice_turn
from bot.settings import SolverSettings


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
    ballot: Ballot,
    standings: Sequence[Standing],
    model: Model,
    sandbox: Sandbox,
    settings: SolverSettings,
    profile: Profile,
    progress: Progress,
    own_tests: OwnTestsReport | None = None,
) -> Verdict:
    """Choose a credible candidate, or abstain.

    The model is not asked where one candidate alone is credible. The bundled model, whose choice is worth little, is
    not asked either where one behaviour is clearly ahead (`bot.ballot.clear_lead`); a capable one is, since patches
    that no test tells apart yet can still differ. Where it never chooses, the best standing wins. Raises
    `SandboxUnavailable`; an endpoint that fails costs the selection, not the run.
    """
    own = own_tests
    nobody = abstention(standings, ballot)
    if nobody is not None:
        return Verdict(
            outcome=Outcome.ABSTAINED,
            winner=None,
            reason=nobody,
            standings=tuple(standings),
            ballot=ballot,
            own_tests=own,
        )
    able = credible(standings, ballot)
    first = able[0]
    choice = Choice(candidate=first.candidate)
    if len(able) == 1:
        how = "It is the only credible candidate, so no selection tests were needed."
    elif profile == "compact" and clear_lead(able, ballot):
        how = "Its behaviour is clearly ahead, so no selection tests were needed."
    else:
        finalists = distinct_first(able, ballot, settings.selection_top)
        choice = await _Machine(issue, context, ballot, finalists, model, sandbox, settings, profile, progress).run()
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


class _Machine:
    """Shows the finalists, runs the tests that the model writes on all of them, and ends with its choice."""

    def __init__(
        self,
        issue: Issue,
        context: Context,
        ballot: Ballot,
        finalists: Sequence[Standing],
        model: Model,
        sandbox: Sandbox,
        settings: SolverSettings,
        profile: Profile,
        progress: Progress,
    ) -> None:
        self._patches = [ballot.candidates[standing.candidate].patch for standing in finalists]
        self._finalists = finalists
        self._issue = issue
        self._files = context.files
        self._model = model
        self._sandbox = sandbox
        self._settings = settings
        self._profile = profile
        self._progress = progress
        self._choices = [
            {"number": number, "diff": patch.diff, "votes": standing.votes, "cluster": standing.cluster}
            for number, (patch, standing) in enumerate(zip(self._patches, finalists, strict=True), 1)
        ]

    async def run(self) -> Choice:
        shown = await fitted_issue(self._issue, self._model)
        messages = opening(self._profile, "select", issue=shown, files=self._files, choices=self._choices)
        talk = Conversation(
            self._model,
            "selection",
            messages,
            seed=self._settings.seed,
            max_tokens=self._settings.output_tokens,
            temperature=self._settings.selection_temperature,
        )
        tests: dict[str, Test] = {}
        passed: dict[str, tuple[bool | None, ...]] = {}

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
                    return came_to(self._finalists[turn.choice - 1].candidate)
                turn = Problem(text=f"there is no candidate {turn.choice}; they are 1 to {len(self._finalists)}")
            if isinstance(turn, Problem):
                compact = self._profile == "compact"
                talk.say(render(self._profile, "unparsed", problem=turn.short if compact else turn.text))
            elif turn.test is not None:
                executions = await self._try(turn.test)
                tests[turn.test.id] = turn.test
                passed[turn.test.id] = tuple(None if e.ending is Ending.UNAVAILABLE else e.passed for e in executions)
                talk.say(render(self._profile, "select_result", executions=self._labelled(executions)))
        return came_to(None, f"the model made no choice in {_counted(talk.calls, 'call')}")

    def _labelled(self, executions: Sequence[Execution]) -> list[dict[str, object]]:
        """As the template wants them. The bundled model was trained on the candidates' alone."""
        labels = ["original", *(f"candidate {number}" for number in range(1, len(executions)))]
        shown: list[dict[str, object]] = [
            {"label": label, "execution": execution} for label, execution in zip(labels, executions, strict=True)
        ]
        return shown[1:] if self._profile == "compact" else shown

    async def _try(self, test: Test) -> list[Execution]:
        """On the untouched repository, then on each finalist."""
        trees: list[tuple[FileChange, ...]] = [(), *(patch.changes for patch in self._patches)]
        return list(await asyncio.gather(*(self._run(changes, test) for changes in trees)))

    async def _run(self, changes: tuple[FileChange, ...], test: Test) -> Execution:
        try:
            return await self._sandbox.run(Job(changes=changes, test=test, timeout=self._settings.test_timeout))
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
    name = f"The repository's own tests (`{' '.join(own.command)}`)" if own.command else "The repository's own tests"
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
