"""Where two behaviours remain: which they are, where they part, and what a person's answer decides. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.records import (
    Answered,
    Ballot,
    Choice,
    Option,
    Outcome,
    Parting,
    Report,
    Rule,
    Standing,
    Struck,
    Test,
    Verdict,
)
from bot.solver.ballot import Count, count

NEAR = 0.8  # of the first behaviour's score, or of its samples: then the second is as good


@dataclass(frozen=True)
class _Behaviour:
    """Candidates that pass the same voting tests; the first stands best in the count."""

    members: tuple[Standing, ...]

    @property
    def best(self) -> Standing:
        return self.members[0]


def two_behaviours(counted: Count) -> Parting | None:
    """The two behaviours that remain; None where one is ahead, more than two are alike, or no test tells them apart.

    A behaviour remains where its candidates break nothing and pass a test that reproduces the bug, be it their own.
    Each of the two must pass a test that the other fails: else the count has told them apart.
    """
    ballot = counted.ballot
    found = _behaviours(counted.standings, ballot)
    if len(found) < 2:
        return None
    first, second, *rest = found
    if not _near(second, first) or any(_near(other, second) for other in rest):
        return None
    one, other = first.best.candidate, second.best.candidate
    tests = (_telling(ballot, one, other), _telling(ballot, other, one))
    if tests[0] is None or tests[1] is None:
        return None
    return Parting(candidates=(one, other), tests=(tests[0], tests[1]))


def _behaviours(standings: Iterable[Standing], ballot: Ballot) -> list[_Behaviour]:
    """Best first: those with votes by their score, then by how many samples behave so."""
    groups: dict[tuple[bool | None, ...], list[Standing]] = {}
    for standing in standings:
        row = tuple(ballot.cells[standing.candidate][t] for t in ballot.voting)
        sampled = not ballot.candidates[standing.candidate].parents
        if sampled and not standing.disqualified and not standing.regressions and True in row:
            groups.setdefault(row, []).append(standing)
    found = [_Behaviour(tuple(members)) for members in groups.values()]
    return sorted(found, key=lambda one: (-one.best.score, -one.best.cluster))


def _near(other: _Behaviour, first: _Behaviour) -> bool:
    if first.best.score > 0 or other.best.score > 0:
        return other.best.score >= NEAR * first.best.score
    return other.best.cluster >= NEAR * first.best.cluster


def _telling(ballot: Ballot, passes: int, fails: int) -> int | None:
    """The shortest test that votes, passes on the one and fails on the other."""
    return min(ballot.telling(passes, fails), key=lambda t: (len(ballot.tests[t].text), t), default=None)


def decided(report: Report, option: Option, by: str) -> Report:
    """The report with the answer counted: the chosen behaviour's test decides, and what contradicts it loses its vote.

    The best candidate that passes the deciding test wins. Raises ValueError where the report asks nothing.
    """
    verdict, parting = report.verdict, report.verdict.parting
    if parting is None:
        raise ValueError("the report asks nothing")
    answered = Answered(parting=parting, option=option, by=by)
    ballot = verdict.ballot
    chosen, other = parting.candidates if option is Option.A else parting.candidates[::-1]
    against = ballot.telling(other, chosen)
    ballot = ballot.model_copy(update={"struck": (*ballot.struck, *against)})
    standings = count(ballot, verdict.own_tests)
    able = [
        s for s in standings if not s.disqualified and not s.regressions and ballot.cells[s.candidate][answered.test]
    ]
    winner = next((s for s in able if s.candidate == chosen or s.votes), able[0])
    rest = (standing for standing in standings if standing is not winner)
    settled = Verdict(
        outcome=Outcome.SOLVED,
        winner=winner.candidate,
        standings=(winner, *rest),
        choice=Choice(rule=Rule.ANSWERED, front_runner=winner.candidate),
        selection_tests=verdict.selection_tests,
        struck=(*verdict.struck, *(Struck(test=t, reason=f"{by} answered otherwise") for t in against)),
        ballot=ballot,
        own_tests=verdict.own_tests,
        answered=answered,
        stopped=verdict.stopped,
        numbered_by_rank=True,
    )
    return report.model_copy(update={"verdict": settled})


def tests_of(parting: Parting, tests: Sequence[Test]) -> tuple[Test, ...]:
    """The two tests by which they part."""
    return tuple(tests[t] for t in parting.tests)
