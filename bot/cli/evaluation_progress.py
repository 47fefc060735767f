"""The progress of `troop eval run`: a live line on a terminal, lines now and then elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bot.evaluation.samples import SampleFile
from bot.lifecycle import RunState
from bot.publish.messages.states import in_words
from bot.publish.messages.words import duration
from bot.records import Price

QUIET = 30.0  # seconds between two lines where stderr is no terminal


class Teller:
    """How far the evaluation is, with the time left and the cost so far: a live line, or a line now and then."""

    def __init__(self, console: Console, total: int, price: Price | None, file: SampleFile) -> None:
        self._console, self._price, self._file = console, price, file
        columns = (TimeElapsedColumn(), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._row = self._live.add_task("", total=total, completed=file.done) if self._live else None
        self._last = time.monotonic()
        self._words = ""

    def __enter__(self) -> "Teller":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, done: int, total: int, left: float) -> None:
        """Samples that are done, of how many; seconds left."""
        cost = f", cost {self._price.of(self._file.usage):,.4g}" if self._price else ""
        self._words = f"{duration(left)} left{cost}" if left == left else ""
        if self._live and self._row is not None:
            self._live.update(self._row, completed=done, total=total, description=self._words)
        elif self._due() or done >= total:
            self._console.print(f"{done:,}/{total:,} samples  {self._words}")

    def note(self, words: str) -> None:
        """What is going on; not worth a line of its own."""
        if self._live and self._row is not None:
            self._live.update(self._row, description=f"{self._words}  {words}".strip())
        elif self._due():
            self._console.print(words)

    def say(self, words: str) -> None:
        """A line of its own."""
        self._console.print(words)

    def close(self) -> None:
        """End the live line. Safe to call twice."""
        if self._live:
            self._live.stop()

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last < QUIET:
            return False
        self._last = now
        return True


class Stage:
    """A `contracts.Progress` of one task among several."""

    def __init__(self, task: str, teller: Teller) -> None:
        self._task = task
        self._teller = teller

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        """Returns at once."""
        self._teller.note(f"{self._task}: {in_words(state)}{f' {done}/{total}' if total else ''}")
