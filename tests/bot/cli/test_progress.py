"""Progress for people: one live line on a terminal, which nothing breaks into; lines now and then elsewhere."""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from bot.cli.progress import ConsoleProgress
from bot.lifecycle import RunState

WIDTH = 80  # columns, as rich takes them where nothing tells


class Terminal(io.StringIO):
    """What a terminal shows in the end of what was written to it."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if piece == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif piece == "\r":
                column = 0
            elif piece == "\x1b[2K":
                lines[row] = ""
            elif up := re.fullmatch(r"\x1b\[(\d+)A", piece):
                row -= int(up[1])
            elif not piece.startswith("\x1b"):
                lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
                column += len(piece)
        return [line.rstrip() for line in lines if line.strip()]

    @property
    def words(self) -> list[str]:
        return [re.sub(r"^\[ *[\d.]+ s\] ", "", line) for line in self.screen]

    @property
    def cursor_hidden(self) -> bool:
        return self.getvalue().rfind("\x1b[?25l") > self.getvalue().rfind("\x1b[?25h")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal, with a log handler as `bot.cli.main` makes it for stderr."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    made = Terminal()
    handler = logging.StreamHandler(made)
    logging.getLogger().addHandler(handler)
    yield made
    logging.getLogger().removeHandler(handler)


def test_elsewhere_it_is_a_line_now_and_then() -> None:
    out = io.StringIO()
    progress = ConsoleProgress(out, quiet_seconds=1000)
    progress.update(RunState.CONTEXT, 1, 300, "a.py")
    for i in range(2, 300):
        progress.update(RunState.CONTEXT, i, 300, "b.py")
    progress.update(RunState.CONTEXT, 300, 300, "c.py")
    progress.update(RunState.MATRIX, 0, 4)
    progress.say("hello [bold]all[/bold] :smile:")
    progress.close()
    lines = [line.split("] ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "reading files 1/300  a.py",
        "reading files 300/300  c.py",
        "running tests on candidates 0/4",
        "hello [bold]all[/bold] :smile:",
    ]


def test_on_a_terminal_it_stays_in_its_line(terminal: Terminal) -> None:
    with ConsoleProgress(terminal) as progress:
        for i in range(1, 50):
            progress.update(RunState.CONTEXT, i, 50)
        progress.update(RunState.CONTEXT, 50, 50, "x" * 500)
        progress.say("hello")
        assert terminal.words[0] == "hello"
        assert "reading files" in terminal.screen[1]
        assert "50/50 xxx" in terminal.screen[1]
        assert len(terminal.screen) == 2
        assert max(len(line) for line in terminal.screen) <= WIDTH
        assert terminal.cursor_hidden
    assert terminal.words == ["hello", "reading files 50/50"]
    assert not terminal.cursor_hidden


def test_what_each_stage_came_to_stays(terminal: Terminal) -> None:
    with ConsoleProgress(terminal) as progress:
        progress.update(RunState.CHECKOUT, 0, 0, "path")
        progress.update(RunState.CONTEXT, 7, 9)
        progress.update(RunState.MATRIX, 3, 4)
    assert terminal.words == ["preparing the repository", "reading files 7/9", "running tests on candidates 3/4"]


def test_warnings_and_prints_stand_above_the_live_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    log = logging.getLogger("bot.sandbox")
    with ConsoleProgress(terminal) as progress:
        progress.update(RunState.CONTEXT, 1, 2)
        log.warning("no [docker] here")
        print("somebody else's line", file=sys.stderr)
        *above, live = terminal.screen
        assert "reading files" in live
        assert [line for line in above if "WARNING  bot.sandbox: no [docker] here" in line]
        assert "somebody else's line" in above
    log.warning("as before")
    assert terminal.screen[-1] == "as before"


def test_the_cursor_comes_back_whatever_happens(terminal: Terminal) -> None:
    with contextlib.suppress(RuntimeError), ConsoleProgress(terminal) as progress:
        progress.update(RunState.CONTEXT, 1, 2)
        assert terminal.cursor_hidden
        raise RuntimeError
    assert not terminal.cursor_hidden


def test_after_its_end_lines_are_said_still(terminal: Terminal) -> None:
    progress = ConsoleProgress(terminal)
    progress.update(RunState.CONTEXT, 1, 2)
    progress.close()
    progress.close()
    progress.say("more")
    assert terminal.words == ["reading files 1/2", "more"]
