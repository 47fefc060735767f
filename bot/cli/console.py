"""What `troop solve` and `troop demo` print for people: progress on stderr, the count as a table."""

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.table import Table

from bot.lifecycle import RunState
from bot.records import Outcome, Report

STAGE_WORDS = {
    RunState.CHECKOUT: "checking out",
    RunState.CONTEXT: "reading files",
    RunState.TRAJECTORIES: "sampling trajectories",
    RunState.MATRIX: "running tests on candidates",
    RunState.SELECTION: "selecting",
    RunState.PUBLISHING: "publishing",
}
MATRIX_LIMIT = 24  # tests shown as columns; the JSON has all of them


class ConsoleProgress:
    """A `Progress` that writes one line a change: in place on a terminal, at most one a few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, quiet_seconds: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._quiet_seconds = 0.1 if self._terminal else quiet_seconds
        self._started = time.monotonic()
        self._last = 0.0
        self._state: RunState | None = None
        self._open_line = False

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        finished = total > 0 and done >= total
        if state is self._state and not finished and now - self._last < self._quiet_seconds:
            return
        if state is not self._state:
            self._end_line()
        self._state, self._last = state, now
        count = f" {done}/{total}" if total else ""
        line = (
            f"[{now - self._started:6.1f} s] {STAGE_WORDS.get(state, state.value)}{count}{'  ' + note if note else ''}"
        )
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line[:160]}")
            self._open_line = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._end_line()
        self._stream.write(f"[{time.monotonic() - self._started:6.1f} s] {text}\n")
        self._stream.flush()

    def close(self) -> None:
        self._end_line()

    def _end_line(self) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False


def print_report(report: Report, console: Console) -> None:
    """The table of candidates, the vote matrix, the reason, and the winner's diff."""
    verdict, ballot = report.verdict, report.verdict.ballot
    table = Table(title=f"{_counted(len(ballot.candidates), 'candidate')}, {_counted(len(ballot.tests), 'test')}")
    for heading in ("", "candidate", "votes", "own", "cluster", "size", "trajectories", "notes"):
        table.add_column(heading, justify="left" if heading in ("", "notes") else "right")
    for standing in verdict.standings:
        candidate = ballot.candidates[standing.candidate]
        broken = len(standing.regressions)
        notes = [candidate.disqualified, f"breaks {_counted(broken, 'test')}" if broken else ""]
        table.add_row(
            "→" if standing.candidate == verdict.winner else "",
            str(standing.candidate + 1),
            str(standing.votes),
            str(standing.own_votes),
            str(standing.cluster),
            str(standing.size),
            str(len(candidate.trajectories)),
            "; ".join(note for note in notes if note),
        )
    console.print(table)
    _print_matrix(report, console)
    usage = report.usage
    console.print(
        f"{_counted(len(report.trajectories), 'trajectory')}, {_counted(usage.calls, 'call')}, "
        f"{usage.prompt_tokens:,} prompt tokens ({usage.cached_tokens:,} from cache), "
        f"{usage.completion_tokens:,} generated, {report.wall_seconds:.1f} s",
        highlight=False,
    )
    console.print(f"[bold]{verdict.outcome.value}[/bold]: ", end="")
    console.print(verdict.reason, markup=False, highlight=False)
    if verdict.outcome is Outcome.SOLVED and verdict.winner is not None:
        console.print()
        console.print(ballot.candidates[verdict.winner].patch.diff, markup=False, highlight=False, soft_wrap=True)


def _print_matrix(report: Report, console: Console) -> None:
    ballot = report.verdict.ballot
    voting = [i for i, fails in enumerate(ballot.fails_on_base) if fails]
    if not voting or not ballot.candidates:
        console.print("no test fails on the untouched repository: there are no votes", highlight=False)
        return
    fail = "test that fails" if len(voting) == 1 else f"{len(voting)} tests that fail"
    console.print(f"votes of the {fail} on the untouched repository:", highlight=False)
    for standing in report.verdict.standings:
        row = ballot.cells[standing.candidate]
        marks = "".join({True: "+", False: ".", None: "?"}[row[i]] for i in voting[:MATRIX_LIMIT])
        more = f" and {len(voting) - MATRIX_LIMIT} more" if len(voting) > MATRIX_LIMIT else ""
        console.print(f"  {standing.candidate + 1:>4} {marks}{more}", highlight=False, markup=False)


def _counted(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
