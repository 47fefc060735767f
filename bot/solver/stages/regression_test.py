"""The test that shows the issue, written again as a test of the repository's own kind, for the pull request.

It is taken only if the repository's own test command fails with it on the base commit and passes with it on the winner.
"""

import asyncio
import shlex
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from bot.contracts import Model, Sandbox
from bot.errors import SandboxError
from bot.llm.conversation import Conversation, shortened
from bot.llm.elements import elements
from bot.patch.apply import Problem
from bot.patch.diff import file_diff
from bot.patch.paths import path_problem
from bot.patch.policy import refusal
from bot.patch.protected_files import is_judge, is_test
from bot.records import Execution, FileChange, RegressionTest, Reply, SandboxJob, SourceFile, Verdict
from bot.retrieval.related_tests import related
from bot.solver.harness import attempt
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question, sampling_of
from bot.solver.stages.description import answered, fitted, telling_test
from bot.solver.test_runners import absence, narrowed, ran

_CALLS = 3
_DIFF, _SCRIPT, _LIKE = 20_000, 8_000, 8_000  # characters
_LONGEST = 20_000  # of the file
_LINES, _PRINTED = 60, 4_000  # of what a run prints


class RegressionTests:
    """Asks for the file, and runs it. `files`: the checkout's paths; `tests`: its own tests, text by path."""

    def __init__(
        self,
        question: Question,
        verdict: Verdict,
        files: Collection[str],
        tests: Mapping[str, str],
        sandbox: Sandbox,
        solver: ResolvedSolver,
    ) -> None:
        assert verdict.winner is not None, "the test is the winner's"
        self._question = question
        self._verdict = verdict
        self._patch = verdict.ballot.candidates[verdict.winner].patch
        self._files = files
        self._tests = tests
        self._sandbox = sandbox
        self._solver = solver
        own = verdict.own_tests
        self._command = own.command if own is not None and own.compared else ()

    async def written(self, model: Model) -> RegressionTest | None:
        """None where there is no command that runs it, the patch brings a test of its own, or no reply can be used.

        Raises `SandboxUnavailable`.
        """
        verdict = self._verdict
        script = telling_test(verdict.ballot, verdict.winner or 0)
        if script is None or not self._command or any(is_test(path) for path in self._patch.paths):
            return None
        like = await asyncio.to_thread(self._like)
        messages = await fitted(
            self._question,
            self._patch.paths,
            model,
            self._solver,
            "regression_test",
            diff=shortened(self._patch.diff, _DIFF),
            script=script.model_copy(update={"text": shortened(script.text, _SCRIPT)}),
            like=like,
            command=shlex.join(self._command),
            example=str(PurePosixPath(like.path).with_name("...")) if like else "...",
        )
        conversation = Conversation(model, "regression_test", messages, sampling_of(self._solver, model))

        async def tried(reply: Reply) -> RegressionTest | Problem:
            change = self._read(reply)
            return change if isinstance(change, Problem) else await self._tried(change)

        return await answered(conversation, tried, self._solver, _CALLS)

    def _like(self) -> SourceFile | None:
        """A file of tests to be like: the one that is about the changed files, else the shortest."""
        about = related(self._patch.paths, self._tests)
        path = next(iter(about), None) or min(self._tests, key=lambda p: len(self._tests[p]), default=None)
        if path is None:
            return None
        text = self._tests[path]
        return SourceFile(path=path, text=shortened(text, _LIKE), excerpt=len(text) > _LIKE)

    def _read(self, reply: Reply) -> FileChange | Problem:
        """The new file, or what is wrong with it."""
        lines = reply.text.replace("\r\n", "\n").split("\n")
        found = [one for one in elements(lines, ("test",), inline=False) if one.closed and one.path]
        if not found:
            return Problem(text='there is no file\nWrite <test path="..."> and </test>, each on a line of its own.')
        path = found[-1].path
        text = "\n".join(found[-1].lines).strip("\n") + "\n"
        if problem := path_problem(path) or refusal(path):
            return Problem(text=f"{path} {problem}\nName another path.")
        if path in self._files:
            return Problem(text=f"{path} exists\nChoose a name that no file has.")
        if not is_test(path) or is_judge(path, self._files.__contains__):
            return Problem(text=f"{path} is not the name of a file of tests\nName it as the repository's others are.")
        if not text.strip() or len(text) > _LONGEST:
            return Problem(text=f"the file has {len(text):,} characters\nIt may have up to {_LONGEST:,}, and some.")
        return FileChange(path=path, text=text)

    async def _tried(self, change: FileChange) -> RegressionTest | Problem:
        """The test if it tells the winner from the base commit; else what it did."""
        argv = narrowed(self._command, {change.path: change.text or ""})
        if argv is None:
            return Problem(text=f"the command does not run {change.path}\nName the file as the others are named.")
        if any(one.path == change.path for one in self._patch.changes):
            return Problem(text=f"the patch has a file {change.path}\nChoose another name.")
        changes = tuple(sorted((*self._patch.changes, change), key=lambda one: one.path))
        before, after = await asyncio.gather(self._run(argv, (change,)), self._run(argv, changes))
        for where, execution in (("on the original repository", before), ("with the patch", after)):
            if execution is None or absence(argv, execution) is not None or ran(execution) == 0:
                said = execution.excerpt(_LINES, _PRINTED) if execution is not None else "the sandbox failed"
                return Problem(text=f"the file could not be run {where}\n{said}")
        assert before is not None
        assert after is not None
        if not after.passed:
            printed = after.excerpt(_LINES, _PRINTED)
            return Problem(text=f"the test fails with the patch, too; `{shlex.join(argv)}` printed\n{printed}")
        if before.passed:
            return Problem(text="the test passes on the original repository\nIt must fail there, as the script does.")
        diff = file_diff(change.path, None, change.text)
        return RegressionTest(change=change, diff=diff, command=argv)

    async def _run(self, argv: tuple[str, ...], changes: tuple[FileChange, ...]) -> Execution | None:
        """None where the sandbox failed at it."""
        timeout = self._solver.settings.test_timeout
        found = await attempt(self._sandbox, SandboxJob(changes=changes, command=argv, timeout=timeout))
        return None if isinstance(found, SandboxError) else found
