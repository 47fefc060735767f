"""What `troop solve` prints of a report: the count as a table."""

from rich.console import Console
from rich.table import Table

from bot.records import Outcome, Report

MATRIX_LIMIT = 24  # tests shown as columns; the JSON has all of them


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
