"""Which jobs begin with what the base commit's preparation leaves, and which need one of their own."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from bot.errors import BuildFailed, SandboxError
from bot.recipe import Recipe
from bot.records import Execution, FileChange
from bot.sandbox import preparation
from bot.sandbox import services as servers
from bot.sandbox.build import cleaned
from bot.sandbox.containers import Prepared
from bot.sandbox.preparation import Preparation, Ready

MOST_KEPT = 24  # images of candidates at once; one that is gone is made again where it is needed
LEAST = 60.0  # seconds that it may take on a candidate, or ten times what it took on the base commit

T = TypeVar("T")


class Steadily(Protocol):
    """Makes a blocking call in a thread, again where a container or the daemon failed. Raises `SandboxError`."""

    def __call__(self, call: Callable[[], T]) -> Awaitable[T]: ...


class PreparedTrees:
    """Of one sandbox. `job`: with this argv, on these changes, in that many seconds. `works`: whether containers of the
    base commit can be had."""

    def __init__(
        self,
        made: Preparation,
        recipe: Recipe,
        beside: servers.Beside,
        job: Callable[[tuple[str, ...], Sequence[FileChange], float], Prepared],
        steadily: Steadily,
        works: Callable[[], Awaitable[bool]],
    ) -> None:
        self._made = made
        self._recipe = recipe
        self._beside = beside
        self._job = job
        self._steadily = steadily
        self._containers_work = works
        self._ready: OrderedDict[str, Ready | Execution] = OrderedDict()  # by `key_of` the changes
        self._locks: dict[str, asyncio.Lock] = {}
        self._works = False

    async def on_base(self, seconds: float) -> tuple[str, str]:
        """Prepare the base commit: the image that its jobs begin with, or "" and why there is none, for people.

        Raises `SandboxError`, and `BuildFailed` where the config has the command and it fails.
        """
        job = self._job(preparation.argv(self._recipe.prepare), (), seconds)
        execution = await self._steadily(lambda: self._made.on_base(job, self._beside))
        if execution.passed:
            self._works = True
            return self._made.images[-1], ""
        what = f"the repository's `prepare` command ({self._recipe.prepare_from}) failed"
        if not self._recipe.prepare_optional:
            raise BuildFailed(what, why=f"it ended with {execution.status}", log=cleaned(execution.output))
        return "", f"{what}, so that tests run without it: {execution.status} {execution.tail(3, 300)}"

    async def ready(self, changes: Sequence[FileChange]) -> Ready | Execution:
        """What jobs with these changes begin with, or how the command fails on them. Raises `SandboxError`."""
        if not changes or not self._works or not self._made.concerns(changes):
            return Ready()
        key = preparation.key_of(changes)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._ready:
                seconds = max(LEAST, 10 * self._made.seconds)
                job = self._job(preparation.argv(self._recipe.prepare), changes, seconds)
                try:
                    self._ready[key] = await self._steadily(lambda: self._made.on_candidate(job, self._beside))
                except BuildFailed as error:
                    self._ready[key] = preparation.unusable(SandboxError(str(error)))
                except SandboxError as error:
                    if not await self._containers_work():
                        raise
                    self._ready[key] = preparation.unusable(error)
            self._ready.move_to_end(key)
            found = self._ready[key]
        if len(self._ready) > MOST_KEPT:
            _, oldest = self._ready.popitem(last=False)
            if isinstance(oldest, Ready) and oldest.image:
                await asyncio.to_thread(self._made.forget, oldest.image)
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._made.close)
