"""What the pages ask of the store. All methods block, so they are called in threads."""

from collections.abc import Collection, Sequence
from typing import Protocol

from bot.store import RunInfo


class RunReader(Protocol):
    def runs(
        self, *, limit: int = ..., before: int | None = ..., repositories: Collection[str] | None = ...
    ) -> Sequence[RunInfo]: ...

    def run(self, run_id: int) -> RunInfo | None: ...

    def report(self, run_id: int) -> str | None: ...

    def step_keys(self, run_id: int) -> Sequence[str]: ...

    def get_step(self, run_id: int, key: str) -> str | None: ...
