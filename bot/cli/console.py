"""What `troop solve` prints of a report: the count as a table."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bot.publish.messages.count import by_stage
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import reason, share
from bot.publish.messages.unproven import remark, unproven
from bot.publish.messages.words import counted, cut, tests_or_examples
from bot.records import Outcome, Report

SHOWN = 3  # candidates whose diffs are printed if none was chosen; the JSON has all
MATRIX_LIMIT = 24  # tests shown as columns; the JSON has all of them


def print_report(report: Report, console: Console) -> None:
    """The table of candidates, the vote matrix, the reason, and the diff of the winner, or of the best without one."""
    verdict, ballot = report.verdict, report.verdict.ballot
    console.print(_candidates(report))
    _print_matrix(report, console)
    usage = report.usage
    console.print(
        f"{counted(len(report.trajectories), 'attempt')}, {counted(usage.calls, 'call')}, "
        f"{usage.prompt_tokens:,} prompt tokens ({usage.cached_tokens:,} from cache), "
        f"{usage.completion_tokens:,} generated, {report.wall_seconds:.1f} s",
        highlight=False,
    )
    if stages := by_stage(report):
        console.print(f"tokens by stage: {stages}", highlight=False)
    console.print(f"[bold]{verdict.outcome.value}[/bold]: ", end="")
    console.print(reason(report), markup=False, highlight=False)
    for note in filter(None, (unjudged(verdict), unproven(verdict), *report.notes)):
        console.print(f"[bold]note[/bold]: {escape(note)}", highlight=False)
    if verdict.outcome is Outcome.SOLVED and verdict.winner is not None:
        console.print()
        console.print(ballot.candidates[verdict.winner].patch.diff, markup=False, highlight=False, soft_wrap=True)
    if verdict.outcome is Outcome.ABSTAINED:
        for standing in verdict.standings[:SHOWN]:
            broken = f" breaks {cut(', '.join(standing.regressions), 200)}" if standing.regressions else ""
            heading = f"\ncandidate {verdict.number(standing.candidate)}:{broken}"
            console.print(heading, markup=False, highlight=False, soft_wrap=True)
            console.print(
                ballot.candidates[standing.candidate].patch.diff, markup=False, highlight=False, soft_wrap=True
            )


def _candidates(report: Report) -> Table:
    """One row for each candidate, best first."""
    verdict, ballot = report.verdict, report.verdict.ballot
    table = Table(title=f"{counted(len(ballot.candidates), 'candidate')}, {counted(len(ballot.tests), 'test')}")
    for heading in ("", "candidate", "tests passed", "same results", "same patch", "size", "notes"):
        table.add_column(heading, justify="left" if heading in ("", "notes") else "right")
    for standing in verdict.standings:
        candidate = ballot.candidates[standing.candidate]
        broken = len(standing.regressions)
        notes = [candidate.disqualified, f"breaks {tests_or_examples(broken)}" if broken else ""]
        notes += [f"mends {counted(len(standing.mended), 'test')}"] if standing.mended else []
        notes += ["fails its own test"] if ballot.fails_own(standing.candidate) else []
        notes.append(remark(ballot, standing.candidate))
        table.add_row(
            "→" if standing.candidate == verdict.winner else "",
            str(verdict.number(standing.candidate)),
            share(verdict, standing),
            str(standing.cluster),
            str(len(candidate.trajectories)),
            str(standing.size),
            "; ".join(note for note in notes if note),
        )
    return table


def _print_matrix(report: Report, console: Console) -> None:
    ballot = report.verdict.ballot
    voting = ballot.voting
    if not voting or not ballot.candidates:
        why = "no test has a vote" if ballot.candidates else "there is no candidate"
        console.print(f"{why}: there are no votes", highlight=False)
        return
    which = "the test that votes" if len(voting) == 1 else f"the {len(voting)} tests that vote"
    console.print(f"{which}, on each candidate:", highlight=False)
    for standing in report.verdict.standings:
        row = ballot.cells[standing.candidate]
        marks = "".join({True: "+", False: ".", None: "?"}[row[i]] for i in voting[:MATRIX_LIMIT])
        more = f" and {len(voting) - MATRIX_LIMIT} more" if len(voting) > MATRIX_LIMIT else ""
        number = report.verdict.number(standing.candidate)
        console.print(f"  {number:>4} {marks}{more}", highlight=False, markup=False)
