"""What the pages show of a report: the count, the trajectories and their conversations. Pure.

The same templates make the service's pages and the one file that `troop solve --report` writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from bot.llm.transcript import Exchange
from bot.publish.messages.count import by_stage
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import reason, share
from bot.publish.messages.words import counted
from bot.records import Record, Report

_KINDS = {"+": "add", "-": "del", "@": "hunk"}
_HEADS = ("diff --git", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode", "new mode", "rename ")


class Column(Record):
    """A candidate in the matrix. `first`: the candidate to its left behaves otherwise."""

    candidate: int
    first: bool


def diff_lines(diff: str) -> Iterator[tuple[str, str]]:
    """Each line of a unified diff with its kind: `add`, `del`, `hunk`, `file`, or "" for context."""
    in_hunk = False
    for line in diff.splitlines():
        in_hunk = line.startswith("@") or (in_hunk and not line.startswith("diff --git"))
        kind = "file" if not in_hunk and line.startswith(_HEADS) else _KINDS.get(line[:1], "") if in_hunk else ""
        yield kind, line


def grouped(report: Report) -> list[Column]:
    """The candidates in their order, those that pass the same tests side by side behind the best of them."""
    ballot = report.verdict.ballot
    groups: dict[tuple[bool | None, ...], list[int]] = {}
    for standing in report.verdict.standings:
        groups.setdefault(ballot.cells[standing.candidate], []).append(standing.candidate)
    return [Column(candidate=c, first=n == 0) for members in groups.values() for n, c in enumerate(members)]


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


def values(report: Report) -> dict[str, Any]:
    """What `count.html` needs."""
    return {
        "report": report,
        "reason": reason(report),
        "unjudged": unjudged(report.verdict),
        "by_stage": by_stage(report),
        "obstacles": [words_of(obstacle) for obstacle in report.obstacles],
        "grouped": grouped(report),
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
        "diff_lines": diff_lines,
        "tests_of": tests_of,
        "candidate_of": candidate_of,
        "counted": counted,
        "share": share,
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
