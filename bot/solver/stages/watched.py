"""How far runs of tests are, told while they are under way from what they have printed so far."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bot.contracts import Follow, Sandbox
from bot.records import Ending, Execution, SandboxJob
from bot.solver.test_runners import counted
from bot.tasks import under_way

T = TypeVar("T")

TICK = 10.0  # seconds between two words on tests that run


class Watched:
    """A `Sandbox` that can be asked what its jobs have printed until now. Safe to use from one event loop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._printed: dict[object, Callable[[], str]] = {}  # of the jobs under way

    @classmethod
    def of(cls, sandbox: Sandbox) -> "Watched":
        """The sandbox itself where it is watched already."""
        return sandbox if isinstance(sandbox, cls) else cls(sandbox)

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        """Raises `SandboxError`."""
        key = object()

        def begins(printed: Callable[[], str]) -> None:
            self._printed[key] = printed
            if follow is not None:
                follow(printed)

        try:
            return await self._sandbox.run(job, begins)
        finally:
            self._printed.pop(key, None)

    async def close(self) -> None:
        """Close the sandbox."""
        await self._sandbox.close()

    @property
    def so_far(self) -> str:
        """`240 passed, 3 failed`, of each run that tells; "" where none does."""
        texts = [printed() for printed in list(self._printed.values())]
        counts = [counted(Execution(ending=Ending.TIMED_OUT, output=text)) for text in texts]
        return " | ".join(filter(None, counts))

    async def until(self, work: Awaitable[T], bound: float, tell: Callable[[str], None], tick: float = TICK) -> T:
        """The work's result. A suite may take minutes in one run: meanwhile its count and time are told.

        `bound`: seconds that each run has. Cancelled, it ends the work.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        async with under_way(work) as [task]:
            while not (await asyncio.wait([task], timeout=tick))[0]:
                now = await asyncio.to_thread(lambda: self.so_far)
                said = f"; now {now}" if now else ""
                tell(f"{said} (for {clock() - started:.0f} s; each run has {math.ceil(bound):,} s)")
            return await task
