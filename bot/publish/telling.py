"""What is said on GitHub once the work is there: where a part is refused, the work and the other parts stay."""

import logging
from collections.abc import Awaitable, Callable

from bot.errors import Refused

log = logging.getLogger(__name__)


class Telling:
    """One for a run. An issue may be locked, deleted or made a discussion, and a permission taken back, meanwhile."""

    def __init__(self, fence: Callable[[], Awaitable[None]]) -> None:
        self._fence = fence
        self.refused: list[str] = []  # GitHub's words for what could not be said

    async def __call__(self, say: Callable[[], Awaitable[object]]) -> None:
        """Say it, behind the fence. Raises what both do, but for a refusal for good."""
        await self._fence()
        try:
            await say()
        except Refused as error:
            log.warning("not told on GitHub: %s", error)
            self.refused.append(str(error))

    @property
    def words(self) -> str:
        """What could not be said, for the run's note; "" where all was."""
        return f"Not all of it could be told on GitHub: {self.refused[0]}." if self.refused else ""
