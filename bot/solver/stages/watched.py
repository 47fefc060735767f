"""How far runs of tests are, told while they are under way from what they have printed so far."""

from collections.abc import Callable

from bot.contracts import Follow, Sandbox
from bot.records import Ending, Execution, SandboxJob
from bot.solver.test_runners import counted


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
