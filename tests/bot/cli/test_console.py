import io

from rich.console import Console

from bot.cli.console import MATRIX_LIMIT, ConsoleProgress, print_report
from bot.lifecycle import RunState
from bot.records import Report
from tests.bot.sample import report


def shown(of: Report) -> str:
    out = io.StringIO()
    print_report(of, Console(file=out, width=120))
    return out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_count_of_a_solved_run() -> None:
    text = shown(report())
    assert "3 candidates, 4 tests" in text
    assert "votes of the 3 tests that fail on the untouched repository" in text
    assert "     1 +++" in text
    assert "     3 +.." in text
    assert "33 calls, 120,000 prompt tokens (90,000 from cache), 4,567 generated, 130.4 s" in text
    assert "solved: It passes 3 of the 3" in text
    assert "+    return max(low, min(x, high))" in text
    assert text.count("→") == 1


def test_an_abstention_shows_no_diff() -> None:
    text = shown(report(winner=None, reason="No candidate is [bold]credible[/bold]."))
    assert "abstained: No candidate is [bold]credible[/bold]." in text  # a model's words are no mark-up
    assert "diff --git" not in text
    assert "→" not in text


def test_no_votes_and_what_was_disqualified() -> None:
    text = shown(report(base=(True, True, True, None), winner=None, disqualified={1: "changes conftest.py"}))
    assert "there are no votes" in text
    assert "changes conftest.py" in text


def test_one_of_each_and_more_tests_than_columns() -> None:
    tests = MATRIX_LIMIT + 2
    one = shown(report(report().verdict.ballot.candidates[0].patch and (report().verdict.ballot.candidates[0].patch,),
                       cells=((True,),), base=(False,)))  # fmt: skip
    assert "1 candidate, 1 test" in one
    assert "votes of the test that fails" in one
    many = shown(report(cells=((True,) * tests,) * 3, base=(False,) * tests))
    assert "+" * MATRIX_LIMIT + " and 2 more" in many
    assert f"{tests} trajectories" in many


def test_progress_elsewhere_is_a_line_now_and_then() -> None:
    out = io.StringIO()
    progress = ConsoleProgress(out, quiet_seconds=1000)
    progress.update(RunState.CONTEXT, 1, 300, "a.py")
    for i in range(2, 300):
        progress.update(RunState.CONTEXT, i, 300, "b.py")
    progress.update(RunState.CONTEXT, 300, 300, "c.py")
    progress.update(RunState.MATRIX, 0, 4)
    progress.say("hello")
    progress.close()
    lines = [line.split("] ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "reading files 1/300  a.py",
        "reading files 300/300  c.py",
        "running tests on candidates 0/4",
        "hello",
    ]


def test_progress_on_a_terminal_stays_in_its_line() -> None:
    out = Terminal()
    progress = ConsoleProgress(out)
    progress.update(RunState.CONTEXT, 1, 2)
    progress.update(RunState.CONTEXT, 2, 2, "x" * 500)
    progress.say("hello")
    text = out.getvalue()
    assert text.count("\n") == 2
    assert text.count("\r\x1b[2K") == 2
    assert max(len(line) for line in text.split("\r")) < 200
