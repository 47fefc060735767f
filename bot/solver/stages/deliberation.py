"""The choice among the finalists by a capable model, on the evidence.

It is shown the tests that tell something, what they print where they fail, and the repository's own tests. In reply it
may write tests, ask for the diffs of twins (patches that behave as a finalist does), object to a test, whose vote is
then struck and the count made again, write a better patch, choose one, or none.

Of a behaviour the patch of typical length is the finalist, and no test tells it from its twins: that is for the model
to read. Short twins are shown whole at once; if it chooses where it has not read all of one, it is shown them
and asked once more. Where no more answers come, its first choice stands.

A patch of its own may be chosen if it passes all tests that its parents pass and breaks nothing that the repository's
own tests found whole. It counts as no sample and wins by no count.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot.errors import SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.llm.choices import Deliberated, Objection, parse_deliberated
from bot.llm.conversation import fitted_issue, opening, shortened, sizes_of
from bot.llm.prompts import render
from bot.patch.apply import FileEdit, Problem
from bot.records import (
    Candidate,
    Documented,
    Ending,
    Execution,
    Issue,
    Message,
    OwnTests,
    Patch,
    Reply,
    Rule,
    SandboxJob,
    Struck,
    Test,
)
from bot.sanitize.delimiters import as_data
from bot.solver.ballot import Count, count, credible
from bot.solver.comparison import broken_tests, time_for, told
from bot.solver.stages.choice_machine import ChoiceMachine, run_test
from bot.solver.stages.documented import DocumentedExamples
from bot.solver.stages.evidence import (
    LAST,
    LEVELS,
    Detail,
    apart_in_words,
    count_in_words,
    name_of,
    own_tests_in_short,
    telling,
    tests_shown,
    twins_shown,
)
from bot.solver.stages.watched import Watched
from bot.solver.test_runners import under_way

_TWINS = 6  # that are named
_DIFF = 20_000  # characters of a diff that is asked for
_KEPT_LINES, _KEPT = 30, 400  # of the output of a test on a patch of the selection's own
_PATCHES = 3  # that the model may write


class Deliberation(ChoiceMachine):
    """One conversation. Candidates are known in it by numbers from 1: finalists, their twins, patches of its own."""

    def __post_init__(self, count: Count) -> None:
        super().__post_init__(count)
        self._twins = self._twins_of(count)
        self._known += self._twins
        self._printed: dict[tuple[int, int], Execution] = {}  # by candidate and test
        self._read = set(self._finalists)  # candidates whose whole change the model has seen
        self._told_apart = False  # whether it was asked to tell a choice from its twins
        self._written = 0

    def _twins_of(self, count: Count) -> dict[int, int]:
        """Credible candidates that behave as a finalist does, and which."""
        of: dict[tuple[bool | None, ...], int] = {}
        for c in self._finalists:
            of.setdefault(count.ballot.cells[c], c)
        able = [standing.candidate for standing in credible(count.standings, count.ballot)]
        twins = {c: of[count.ballot.cells[c]] for c in able if c not in self._finalists and count.ballot.cells[c] in of}
        return dict(list(twins.items())[:_TWINS])

    # -- the conversation

    async def _answer(self, reply: Reply, *, last: bool) -> str | Problem:
        asked = parse_deliberated(reply)
        return asked if isinstance(asked, Problem) else await self._done(asked, last=last)

    async def _done(self, asked: Deliberated, *, last: bool) -> str | Problem:
        """Do what the reply asks for; what to say to the model, "" where it decided."""
        said = [self._strike(objection) for objection in asked.objections]
        said += [self._show(number) for number in asked.show]
        turn = asked.turn
        if asked.declines:
            if not asked.reason and not last:
                return Problem(text="no reason is given\nSay in plain text why none resolves the issue, then decline.")
            self._end.declined = asked.reason
            return ""
        if turn.choice is not None:
            problem = self._choose(turn.choice, last=last)
            if problem is None:
                return ""
            return render(
                self._solver.profile, "deliberation_result", said=[*said, problem.text], executions=[], others=[]
            )
        if turn.edits:
            said.append(await self._patch(turn.edits, asked.parents))
        executions: list[dict[str, object]] = []
        others: list[dict[str, object]] = []
        if turn.test is not None:
            executions, others = await self._try(turn.test)
        return render(self._solver.profile, "deliberation_result", said=said, executions=executions, others=others)

    def _choose(self, number: int, *, last: bool) -> Problem | None:
        """Take the choice, or say what is wrong with it. `last`: no call is left to answer in."""
        if problem := self._unknown(number):
            return problem
        candidate = self._known[number - 1]
        if candidate not in self._eligible():
            return Problem(
                text=f"candidate {number} can't be chosen: no test that still has a vote speaks for it\n"
                "Choose another, or none."
            )
        if not last and (problem := self._contradicted(number)):
            return problem
        if not last and (unread := self._unread(candidate)):
            self._told_apart, self._meant = True, candidate
            return Problem(text=self._alike(number, unread))
        self._end.rule, self._end.winner = Rule.MODEL, candidate
        return None

    def _unread(self, candidate: int) -> list[int]:
        """Known candidates that behave as this one does and that the model has seen a part of; asked about once."""
        cells, able = self._end.count.ballot.cells, self._eligible()
        alike = [c for c in self._known if c in able and cells[c] == cells[candidate]]
        return [] if self._told_apart else [c for c in alike if c not in self._read]

    def _alike(self, number: int, unread: Sequence[int]) -> str:
        numbers = [self._known.index(c) + 1 for c in unread]
        diffs = "\n\n".join(map(self._show, numbers))
        return (
            f"Candidate {number} passes exactly the same tests as {' and '.join(map(str, numbers))}, so that only "
            f"reading them tells which is right. This is what you have not seen whole:\n\n{diffs}\n\n"
            "Choose the one of these that resolves the issue best."
        )

    # -- what the model may ask for

    def _strike(self, objection: Objection) -> str:
        """Strike the vote of a test and count again; what to tell of it."""
        end, test = self._end, objection.test - 1
        ballot = end.count.ballot
        if test not in ballot.voting:
            why = "it is struck already" if test in ballot.struck else "no test of that name has a vote"
            return f"Nothing was struck for your objection to T{objection.test}: {why}."
        ballot = ballot.model_copy(update={"struck": (*ballot.struck, test)})
        end.count = Count(ballot, count(ballot, end.count.own_tests), end.count.own_tests)
        end.struck = (*end.struck, Struck(test=test, reason=objection.why))
        return f"The vote of {name_of(test)} is struck. {self._standing()}"

    def _standing(self) -> str:
        """The count as it is now."""
        numbers = {c: number for number, c in enumerate(self._known, 1)}
        able = self._eligible()
        lost = [str(number) for c, number in numbers.items() if c not in able]
        ballot, standings = self._end.count.ballot, self._end.count.standings
        said = f"Of the tests that have a vote, {count_in_words(ballot, standings, numbers)}."
        return said + (f" No test speaks for candidate {', '.join(lost)} any more." if lost else "")

    def _show(self, number: int) -> str:
        if not 1 <= number <= len(self._known):
            return f"There is no candidate {number}; they are 1 to {len(self._known)}."
        self._read.add(self._known[number - 1])
        diff = self._end.count.ballot.candidates[self._known[number - 1]].patch.diff
        return f'<candidate number="{number}">\n{as_data(shortened(diff, _DIFF).rstrip(), "candidate")}\n</candidate>'

    async def _patch(self, edits: tuple[FileEdit, ...], parents: Sequence[int]) -> str:
        """Add a patch of the model's own if it passes what its parents pass; what to tell of it."""
        if self._question.edit is None or self._written == _PATCHES:
            return "Your patch was not tried: no more patches may be written. Choose a candidate, or none."
        self._written += 1
        applied = self._question.edit(edits, None)
        if isinstance(applied, Problem):
            return f"Your patch could not be used: {applied.text}"
        ballot = self._end.count.ballot
        same = next((c for c, one in enumerate(ballot.candidates) if one.patch.id == applied.patch.id), None)
        if same is not None and same in self._known:
            return f"Your patch is candidate {self._known.index(same) + 1}."
        of = tuple(self._known[n - 1] for n in dict.fromkeys(parents) if 1 <= n <= len(self._known))
        tried = _Tried(applied.patch, of or tuple(self._finalists))
        problem = await self._judge(tried)
        return problem or await self._admit(tried)

    async def _judge(self, tried: "_Tried") -> str:
        """Run all tests, the selection's own and the repository's on a patch; why it may not win, or ""."""
        ballot, end = self._end.count.ballot, self._end
        changes, timeout = tried.patch.changes, self._solver.settings.test_timeout
        tests = [*ballot.tests, *end.tests.values()]
        tried.executions = list(
            await asyncio.gather(*(run_test(self._sandbox, changes, test, timeout) for test in tests))
        )
        names = [*map(name_of, range(len(ballot.tests))), *(f"your test {n}" for n in range(1, len(end.tests) + 1))]
        rows = [[ballot.cells[c][t] for c in tried.parents] for t in range(len(ballot.tests))]
        rows += [[row[1 + self._known.index(c)] for c in tried.parents] for row in end.passed.values()]
        due = [t not in ballot.struck and True in row for t, row in enumerate(rows)]
        for name, execution, needed in zip(names, tried.executions, due, strict=True):
            if needed and not execution.passed:
                printed = execution.excerpt(_KEPT_LINES, 2_000) or "(nothing was printed)"
                return (
                    f"Your patch fails {name}, which a candidate that it is made of passes, so it was not taken:\n\n"
                    f"<output>\n{as_data(printed, 'output')}\n</output>"
                )
        return await self._broken(tried)

    async def _broken(self, tried: "_Tried") -> str:
        """Run the repository's documented examples and its own tests on a patch; what it breaks, or ""."""
        ballot, own = self._end.count.ballot, self._end.count.own_tests
        if own is None:
            return ""
        index = len(ballot.candidates)
        tried.documented = await DocumentedExamples(self._sandbox, self._solver.settings).on(index, tried.patch)
        if tried.documented is not None and tried.documented.broken:
            return (
                "Your patch contradicts examples of the documentation that hold without it, and that it leaves there, "
                f"so it was not taken: {'; '.join(tried.documented.broken[:10])}"
            )
        if not own.compared or own.base is None:
            return ""
        timeout = time_for(own.base, self._solver.settings.own_tests_timeout)
        job = SandboxJob(changes=tried.patch.changes, command=own.command, timeout=timeout)
        try:
            execution = await self._told_of(job)
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            return f"Your patch was not taken: the repository's own tests could not be run on it ({error})."
        tried.own = told(execution)
        broken = broken_tests(own.model_copy(update={"candidates": ((index, tried.own),)}), index, tried.patch.paths)
        at = under_way(execution) if tried.own.stopped else ""
        return (
            f"Your patch breaks tests of the repository, so it was not taken: {', '.join(broken[:10])}"
            + (f", at {at}" if at else "")
            if broken
            else ""
        )

    async def _told_of(self, job: SandboxJob) -> Execution:
        """The run of the repository's own tests, which may take minutes."""
        watched = Watched.of(self._sandbox)

        def tell(more: str = "") -> None:
            self._progress.update(RunState.SELECTION, 0, 0, f"the repository's own tests, on the model's patch{more}")

        tell()
        return await watched.until(watched.run(job), job.timeout, tell)

    async def _admit(self, tried: "_Tried") -> str:
        """Add the patch to the candidates."""
        end = self._end
        ballot, own = end.count.ballot, end.count.own_tests
        index, total = len(ballot.candidates), len(ballot.tests)
        cells = [None if e.ending is Ending.UNAVAILABLE else e.passed for e in tried.executions]
        kept = [
            Execution(ending=e.ending, exit_code=e.exit_code, output="" if e.passed else e.excerpt(_KEPT_LINES, _KEPT))
            for e in tried.executions[:total]
        ]
        first = len(ballot.executions)
        known = ballot.base_executions  # empty where no executions are kept
        ballot = ballot.model_copy(
            update={
                "candidates": (
                    *ballot.candidates,
                    Candidate(patch=tried.patch, trajectories=(), parents=tried.parents),
                ),
                "cells": (*ballot.cells, tuple(cells[:total])),
                "executions": (*ballot.executions, *kept) if known else (),
                "cell_executions": (*ballot.cell_executions, tuple(range(first, first + total))) if known else (),
            }
        )
        if own is not None and tried.own is not None:
            own = own.model_copy(update={"candidates": (*own.candidates, (index, tried.own))})
        if own is not None and tried.documented is not None:
            own = own.model_copy(update={"documented": (*own.documented, tried.documented)})
        end.count = Count(ballot, count(ballot, own), own)
        end.passed = {key: (*row, cell) for (key, row), cell in zip(end.passed.items(), cells[total:], strict=True)}
        self._known.append(index)
        self._read.add(index)
        of = " and ".join(str(self._known.index(c) + 1) for c in tried.parents)
        return f"Your patch is candidate {len(self._known)}: it passes all that {of} pass. {self._standing()}"

    async def _try(self, test: Test) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Run the test on the base commit and on each candidate, and keep what it did; as the template takes it."""
        ran = await self._executed(test)
        shown: list[dict[str, object]] = [{"label": "original", "execution": ran[0]}]
        others: list[dict[str, object]] = []
        for number, (c, execution) in enumerate(zip(self._known, ran[1:], strict=True), 1):
            if c in self._twins:
                others.append({"label": f"candidate {number}", "status": execution.status})
            else:
                shown.append({"label": f"candidate {number}", "execution": execution})
        return shown, others

    # -- what it is shown first

    async def _read_outputs(self) -> None:
        """What the telling tests print on the finalists that fail them: the ballot keeps only their ends."""
        ballot = self._end.count.ballot
        pairs = [
            (c, t) for t in telling(ballot, self._finalists) for c in self._finalists if ballot.cells[c][t] is False
        ]
        timeout = self._solver.settings.test_timeout
        jobs = [run_test(self._sandbox, ballot.candidates[c].patch.changes, ballot.tests[t], timeout) for c, t in pairs]
        self._printed = dict(zip(pairs, await asyncio.gather(*jobs), strict=True))

    async def _opening(self) -> tuple[Message, ...]:
        """As much of the evidence, the files and the diffs as the window has room for, in that order."""
        await self._read_outputs()
        issue = await fitted_issue(self._question.issue, self._model)
        room = self._solver.opening_tokens(self._model.context_window)

        async def composed(detail: Detail, diffs: int) -> tuple[tuple[Message, ...], int]:
            made = opening(self._solver.profile, "deliberation", **self._values(issue, detail, diffs))
            return made, sum(await sizes_of(made, self._model))

        whole = 1_000_000  # characters of a diff
        for detail in LEVELS:
            messages, size = await composed(detail, whole)
            if size <= room:
                return messages
        while size > room and self._files:
            size -= await self._model.count_tokens(self._files.pop().text)
            if size <= room or not self._files:
                messages, size = await composed(LEVELS[-1], whole)
        for detail, diffs in ((LAST[0], whole), *((LAST[1], limit) for limit in (whole, 40_000, 10_000, 2_500, 600))):
            if size <= room:
                break
            messages, size = await composed(detail, diffs)
        return messages

    def _values(self, issue: Issue, detail: Detail, diffs: int) -> dict[str, object]:
        """The values of the opening's template."""
        counted = self._end.count
        ballot = counted.ballot
        places = {standing.candidate: standing for standing in counted.standings}
        choices = [
            {
                "number": number,
                "diff": shortened(ballot.candidates[c].patch.diff, diffs),
                "passes": f"{ballot.passed(c)} of {len(ballot.voting)}",
                "cluster": places[c].cluster,
                "own_tests": own_tests_in_short(counted.own_tests, c),
            }
            for number, c in enumerate(self._finalists, 1)
        ]
        shown = twins_shown([ballot.candidates[c].patch for c in self._twins], detail.twins)
        twins = [
            {
                "number": number,
                "like": self._finalists.index(self._twins[c]) + 1,
                "samples": ballot.candidates[c].samples,
                "diff": diff,
            }
            for number, (c, (diff, _)) in enumerate(zip(self._twins, shown, strict=True), len(self._finalists) + 1)
        ]
        read = {c for c, (_, whole) in zip(self._twins, shown, strict=True) if whole}
        self._read = {*self._finalists, *read}
        context = self._question.context
        return {
            "issue": issue,
            "files": self._files,
            "environment": context.environment,
            "choices": choices,
            "twins": twins,
            "cut": len(read) < len(twins),
            "apart": apart_in_words(ballot, {c: number for number, c in enumerate(self._known, 1)}),
            **tests_shown(ballot, self._finalists, self._printed, detail),
        }


@dataclass
class _Tried:
    """A patch of the model's own, with what ran on it."""

    patch: Patch
    parents: tuple[int, ...]
    executions: list[Execution] = field(default_factory=list)  # of the ballot's tests, then of the selection's
    own: OwnTests | None = None
    documented: Documented | None = None
