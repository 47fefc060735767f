"""A sandbox with a journal: equal jobs run once."""

import asyncio
from collections import Counter

from bot.contracts import Follow, Journal, Sandbox
from bot.journal import once
from bot.records import Execution, SandboxJob


class JournaledSandbox:
    """A `Sandbox` that runs equal jobs once: finished ones are replayed, running ones are shared.

    A job is cancelled when no caller waits for it any more.
    """

    def __init__(self, sandbox: Sandbox, journal: Journal) -> None:
        self._sandbox = sandbox
        self._journal = journal
        self._running: dict[str, asyncio.Task[Execution]] = {}
        self._waiting: Counter[str] = Counter()

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        key = f"sandbox/{job.key}"
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(once(self._journal, key, Execution, lambda: self._sandbox.run(job, follow)))
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        self._waiting[key] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if not task.done():
                    self._forget(key, task)  # later callers start the job again
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _forget(self, key: str, task: asyncio.Task[Execution]) -> None:
        if self._running.get(key) is task:
            del self._running[key]

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._sandbox.close()
