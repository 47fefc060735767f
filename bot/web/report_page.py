"""What the pages show of a report: the count, the trajectories and their conversations. Pure.

The same templates make the service's pages and the one file that `troop solve --report` writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bot.llm.transcript import Exchange
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import before, reason, share
from bot.publish.messages.unproven import unproven
from bot.publish.messages.words import counted, duration
from bot.records import Ballot, Record, Report, money

_KINDS = {"+": "add", "-": "del", "@": "hunk"}
_HEADS = ("diff --git", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode", "new mode", "rename ")
# Cells of the matrix by what they show and whether a line is to their left: 64 by 64 of them are most of a page.
_CELLS = {
    (passed, first): f'<td class="{name}{" first" if first else ""}">{sign}</td>'
    for passed, name, sign in ((True, "yes", "✓"), (False, "no", "✗"), (None, "none", "·"))
    for first in (False, True)
}


class Column(Record):
    """A candidate in the matrix. `first`: the candidate to its left has other results."""

    candidate: int
    first: bool


def diff_lines(diff: str) -> Iterator[tuple[str, str]]:
    """Each line of a unified diff with its kind: `add`, `del`, `hunk`, `file`, or "" for context."""
    in_hunk = False
    for line in diff.splitlines():
        in_hunk = line.startswith("@") or (in_hunk and not line.startswith("diff --git"))
        kind = "file" if not in_hunk and line.startswith(_HEADS) else _KINDS.get(line[:1], "") if in_hunk else ""
        yield kind, line


def diff_html(diff: str) -> Markup:
    """The lines of a unified diff, each in a `span` of its kind."""
    lines = (f'<span class="{kind}">{escape(line)}</span>' if kind else escape(line) for kind, line in diff_lines(diff))
    return Markup("".join(f"{line}\n" for line in lines))  # noqa: S704 - escaped


def grouped(report: Report) -> list[Column]:
    """The candidates in their order, those that pass the same tests side by side behind the best of them."""
    ballot = report.verdict.ballot
    groups: dict[tuple[bool | None, ...], list[int]] = {}
    for standing in report.verdict.standings:
        groups.setdefault(ballot.cells[standing.candidate], []).append(standing.candidate)
    return [Column(candidate=c, first=n == 0) for members in groups.values() for n, c in enumerate(members)]


def matrix(ballot: Ballot, columns: Sequence[Column]) -> list[tuple[int, bool, Markup]]:
    """Each test with whether it votes and its cells, that of the base commit first; those that vote first."""
    voting = set(ballot.voting)
    shown = [(ballot.cells[column.candidate], column.first) for column in columns]
    found = []
    for t in sorted(range(len(ballot.tests)), key=lambda t: (t not in voting, t)):
        cells = [_CELLS[ballot.base[t], False], *(_CELLS[passed[t], first] for passed, first in shown)]
        found.append((t, t in voting, Markup("".join(cells))))  # noqa: S704 - of constants
    return found


def tests_of(report: Report, trajectory: int) -> str:
    """`T3`: the test that the trajectory ended with; "" where it has none in the matrix."""
    names = [f"T{t + 1}" for t, authors in enumerate(report.verdict.ballot.authors) if trajectory in authors]
    return ", ".join(names)


def candidate_of(report: Report, trajectory: int) -> str:
    """The number of the candidate that the trajectory ended in; "" without one."""
    verdict = report.verdict
    for number, candidate in enumerate(verdict.ballot.candidates):
        if trajectory in candidate.trajectories:
            return str(verdict.number(number))
    return ""


def margin(report: Report) -> str:
    """By how much the winner won: over the best candidate with other results; "" without a winner."""
    verdict, cells = report.verdict, report.verdict.ballot.cells
    if verdict.winner is None:
        return ""
    winner = verdict.standing(verdict.winner)
    others = (s for s in verdict.standings if cells[s.candidate] != cells[winner.candidate] and not s.disqualified)
    rival = next(others, None)
    if rival is None:
        return "The margin: no other candidate that kept its votes has other results in the matrix."
    return (
        f"The margin: {counted(winner.votes, 'vote')} and {counted(winner.cluster, 'attempt')} with its results, to "
        f"{counted(rival.votes, 'vote')} and {counted(rival.cluster, 'attempt')} of candidate "
        f"{verdict.number(rival.candidate)}, the best with other results."
    )


def curve(report: Report) -> list[tuple[int, float]]:
    """The chance that one of k attempts has the winner's results, for each k; [] where there is nothing to draw.

    Unbiased, as pass@k: 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374), of n attempts and the c that have them.
    """
    verdict = report.verdict
    n = max(len(report.trajectories), verdict.ballot.attempts)
    if verdict.winner is None or n < 2:
        return []
    misses = n - min(n, verdict.standing(verdict.winner).cluster)
    none, found = 1.0, []
    for k in range(1, n + 1):
        none *= max(0, misses - k + 1) / (n - k + 1)
        found.append((k, 1.0 - none))
    return found


def parting(report: Report, one: int, other: int) -> list[int]:
    """The tests that pass on one of the candidates (by index) and fail on the other."""
    pairs = zip(report.verdict.ballot.cells[one], report.verdict.ballot.cells[other], strict=True)
    return [t for t, (a, b) in enumerate(pairs) if {a, b} == {True, False}]


def values(report: Report) -> dict[str, Any]:
    """What `count.html` needs."""
    columns = grouped(report)
    return {
        "report": report,
        "reason": reason(report),
        "unjudged": unjudged(report.verdict),
        "unproven": unproven(report.verdict),
        "margin": margin(report),
        "curve": curve(report),
        "stages": [*report.usage_by_stage.items(), ("all", report.usage)] if report.usage_by_stage else [],
        "obstacles": [] if report.verdict.abstention else [words_of(obstacle) for obstacle in report.obstacles],
        "grouped": columns,
        "rows": matrix(report.verdict.ballot, columns),
    }


templates = jinja2.Environment(
    loader=jinja2.PackageLoader("bot.web", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.globals.update(
    {
        "diff_html": diff_html,
        "tests_of": tests_of,
        "candidate_of": candidate_of,
        "before": before,
        "counted": counted,
        "share": share,
        "duration": duration,
        "money": money,
        "parting": parting,
    }
)


def source(name: str) -> str:
    """The text of a template, as it is."""
    text, _, _ = jinja2.PackageLoader("bot.web", "templates").get_source(templates, name)
    return text


def standalone(report: Report, conversations: Mapping[str, Sequence[Exchange]]) -> str:
    """One HTML file: no script, nothing fetched. `conversations`: by `trajectory-N`, N from 0, and `selection`."""
    openings: dict[str, str] = {}
    for message in (m for exchanges in conversations.values() for one in exchanges for m in one.messages):
        if message.shared:  # the shortest is what all have
            openings[message.base] = min(openings.get(message.base, message.shared), message.shared, key=len)
    return templates.get_template("report.html").render(
        **values(report),
        style=source("style.css"),
        openings=list(openings.values()),
        conversations=[
            (name, _title(name), [_cut(one, openings) for one in found]) for name, found in conversations.items()
        ],
    )


def _cut(exchange: Exchange, openings: Mapping[str, str]) -> Exchange:
    """The exchange with messages that share no more than the opening of their base."""
    messages = []
    for message in exchange.messages:
        opening = openings.get(message.base, "")
        text = message.shared[len(opening) :] + message.text
        messages.append(message.model_copy(update={"shared": opening, "text": text}))
    return exchange.model_copy(update={"messages": tuple(messages)})


def _title(name: str) -> str:
    """`trajectory-0` is the first trajectory."""
    kind, _, number = name.partition("-")
    return f"{kind.capitalize()} {int(number) + 1}" if number else kind.capitalize()
