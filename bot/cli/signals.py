"""Signals that end a command in order: what it started is ended, and nothing is left behind."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from types import FrameType
from typing import Any, TypeVar

from bot.cli.start import SIGNALS

T = TypeVar("T")

_ONCE_MORE = "troop: ending what was started; once more ends at once, and the next command clears up\n"


class Ending:
    """In its block, the first of the signals cancels what `run` awaits. The second is answered, the third ends at once.

    A signal that the caller ignores (`nohup`) stays ignored. Outside the main thread it changes nothing.
    """

    def __init__(self, numbers: Sequence[signal.Signals] = SIGNALS) -> None:
        self._numbers = numbers
        self.number = 0  # of the first signal; 0: none came
        self._told = False
        self._cancel: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Ending":
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                try:
                    self._before[number] = signal.signal(number, self._received)
                except ValueError:  # not in the main thread
                    return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The exit code of a command that a signal ended."""
        return 128 + (self.number or signal.SIGTERM)

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """What the work returns. Raises `CancelledError` after a signal."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.number:  # it came before there was a task
            task.cancel()
        try:
            return await work
        finally:
            self._cancel = None

    def _received(self, number: int, _: FrameType | None) -> None:
        if not self.number:
            self.number = number
            if self._cancel is not None:
                self._cancel()
        elif not self._told:
            self._told = True
            # A handler may run within a print of the main program's, so that printing here would fail.
            os.write(2, _ONCE_MORE.encode())
        else:
            os._exit(128 + number)
