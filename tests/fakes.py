"""The one progress, the one sandbox and the one advance of tests, beside the scripted model of `tests.scripted`."""

import asyncio
from collections.abc import Callable
from typing import Any

from bot.contracts import Follow
from bot.lifecycle import RunState
from bot.records import Ending, Execution, SandboxJob

PASSED = Execution(ending=Ending.EXITED, exit_code=0)
FAILED = Execution(ending=Ending.EXITED, exit_code=1)

Answer = Callable[[SandboxJob], Execution]


class Partly:
    """A module with some of its names replaced, for one module that uses it: a server that another test left running in
    a thread keeps the real ones.
    """

    def __init__(self, module: Any, **replaced: object) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def exited(code: int, output: str = "") -> Execution:
    return Execution(ending=Ending.EXITED, exit_code=code, output=output)


def passes_on_edits(job: SandboxJob) -> Execution:
    """Tests fail on the base commit and pass on every candidate."""
    return PASSED if job.changes else FAILED


class FakeSandbox:
    """A `Sandbox` whose answer is a function of the job. `jobs` holds what it ran, `most` how many ran at once."""

    def __init__(self, answer: Answer = passes_on_edits) -> None:
        self.answer = answer
        self.jobs: list[SandboxJob] = []
        self.running = self.most = 0

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        self.jobs.append(job)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            return self.answer(job)
        finally:
            self.running -= 1

    async def close(self) -> None:
        return None


class FakeProgress:
    """A `Progress` that remembers its updates."""

    def __init__(self) -> None:
        self.updates: list[tuple[RunState, int, int, str]] = []

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        self.updates.append((state, done, total, note))


async def advance(state: RunState) -> None:
    """There is no database to tell."""
