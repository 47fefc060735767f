"""How the runners-up behave otherwise than the candidate that is shown: for each a test on which they part."""

from collections.abc import Sequence

from bot.publish.messages.words import counted, cut
from bot.records import Ballot, Report, Standing
from bot.sanitize import inline

_MOST = 3  # behaviours that are told
_PRINTED = 200  # characters of what a test prints


def differences(report: Report, shown: int) -> str:
    """A list, one entry for the best candidate of each other behaviour; "" where no test tells one apart."""
    ballot = report.verdict.ballot
    told, said = {ballot.cells[shown]}, []
    for standing in report.verdict.standings:
        cells = ballot.cells[standing.candidate]
        if cells in told or standing.disqualified:
            continue
        told.add(cells)
        if words := _difference(report, standing, shown):
            said.append(f"- {words}")
        if len(said) == _MOST:
            break
    return "\n".join(said)


def _difference(report: Report, standing: Standing, shown: int) -> str:
    """Where the candidate parts from the one that is shown, by the tests that reproduce the bug."""
    ballot, other = report.verdict.ballot, standing.candidate
    fails, passes = ballot.telling(shown, other), ballot.telling(other, shown)
    if not (fails or passes):
        return ""
    alike = f" ({counted(standing.cluster, 'attempt')})" if standing.cluster else ""  # 0: the selection's own
    said = f"**Candidate {report.verdict.number(other)}**{alike} "
    parts = []
    if fails:
        parts.append(f"fails {_first_of(fails)} that this one passes{_printed(ballot, other, fails)}")
    if passes:
        parts.append(f"passes {_first_of(passes)} that this one fails{_printed(ballot, shown, passes)}")
    return f"{said}{'; it '.join(parts)}."


def _first_of(tests: Sequence[int]) -> str:
    more = len(tests) - 1
    return f"T{tests[0] + 1}" + (f" and {counted(more, 'other test')}" if more else "")


def _printed(ballot: Ballot, candidate: int, tests: Sequence[int]) -> str:
    """What the first of the tests that print something prints last on the candidate, which fails it."""
    for t in tests:
        execution = ballot.on(candidate, t)
        lines = execution.output.split("\n") if execution is not None else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if last:
            return f" (T{t + 1} prints {inline(cut(last, _PRINTED))})"
    return ""
