"""The progress of `troop solve` and `troop demo`: one live line on a terminal, lines now and then elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from bot.cli.terminal import Terminal
from bot.lifecycle import RunState
from bot.publish.messages.states import in_words


class ConsoleProgress:
    """A `contracts.Progress` for people. Use it in a `with` block, or `close` it: on a terminal it hides the cursor.

    On a terminal, `say` and log records are printed above the live line. Elsewhere each change of the stage is a line,
    and within a stage one every `quiet_seconds`.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet_seconds: float = 5.0) -> None:
        stream = stream or sys.stderr
        self._console = Terminal(file=stream, soft_wrap=True, markup=False, emoji=False, highlight=False)
        self._live = _Live(self._console) if stream.isatty() else None
        self._quiet_seconds = quiet_seconds
        self._started = time.monotonic()
        self._last = 0.0  # monotonic seconds, when a line was printed
        self._state: RunState | None = None
        self._line = ""  # of the present stage

    def __enter__(self) -> "ConsoleProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        """Returns at once."""
        entered = state is not self._state
        if self._live is not None and entered and self._line:
            self._print(self._line)  # the last stage's result stays visible
        self._state = state
        words = in_words(state)
        self._line = f"{words} {done}/{total}" if total else words
        entered_or_done = entered or (total > 0 and done >= total)
        if self._live is not None:
            self._live.update(words, done, total, note, now=entered_or_done)
            return
        now = time.monotonic()
        if entered_or_done or now - self._last >= self._quiet_seconds:
            self._last = now
            self._print(f"{self._line}  {note}" if note else self._line)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._print(text)

    @contextlib.contextmanager
    def saying_warnings(self) -> Iterator[None]:
        """Inside, what is logged is said, without the time and place that are for a server's log."""
        root = logging.getLogger()
        replaced, root.handlers = root.handlers, [_Saying(self)]
        try:
            yield
        finally:
            root.handlers = replaced

    def close(self) -> None:
        """End the live line; the last stage's result stays visible. Safe to call twice; `say` still works."""
        if self._live is not None:
            self._live.stop()
            if self._line:
                self._print(self._line)
        self._live, self._line = None, ""

    def _print(self, text: str) -> None:
        self._console.print(f"[{time.monotonic() - self._started:6.1f} s] {text}")


class _Saying(logging.Handler):
    def __init__(self, progress: ConsoleProgress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.say(self.format(record))


class _Live:
    """The live line. While it is shown, log records for the terminal go through its console, and so above it."""

    def __init__(self, console: Terminal) -> None:
        note = TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True))
        columns = (TimeElapsedColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), note)
        self._progress = Progress(*columns, console=console, transient=True, expand=True)
        self._task: TaskID | None = None
        self._handler = RichHandler(console=console, show_path=False)
        self._handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._replaced: list[logging.Handler] = []

    def update(self, words: str, done: int, total: int, note: str, *, now: bool) -> None:
        """`now`: draw at once; else it is drawn within a tenth of a second."""
        if self._task is None:
            self._start()
            self._task = self._progress.add_task(words, total=None, note=note)
        self._progress.update(self._task, description=words, completed=done, note=note)
        # The total by itself, since `update` takes None for no change.
        self._progress.tasks[0].total = total or None
        if now:
            self._progress.refresh()

    def _start(self) -> None:
        self._progress.start()
        root = logging.getLogger()
        self._replaced = [handler for handler in root.handlers if _writes_to_terminal(handler)]
        for handler in self._replaced:
            root.removeHandler(handler)
        if self._replaced:
            root.addHandler(self._handler)

    def stop(self) -> None:
        self._progress.stop()
        root = logging.getLogger()
        root.removeHandler(self._handler)
        for handler in self._replaced:
            root.addHandler(handler)
        self._replaced = []


def _writes_to_terminal(handler: logging.Handler) -> bool:
    stream = handler.stream if isinstance(handler, logging.StreamHandler) else None  # None: a file not yet opened
    return stream is not None and stream.isatty()
