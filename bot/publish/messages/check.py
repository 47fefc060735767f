"""The check run on a pull request's head: the count at a glance, beside the repository's own checks."""

from bot.publish.messages.count import candidates_table, headline, matrix
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import reason, tally
from bot.publish.messages.words import cut, quoted
from bot.records import CheckRun, Report

_REASON_LIMIT = 6_000


def check(report: Report, candidate: int, page: str = "") -> CheckRun:
    """Of the candidate that the commit holds. `page`: the address of the run's page."""
    verdict = report.verdict
    number, of = verdict.number(candidate), len(verdict.ballot.candidates)
    parts = [
        quoted(cut(reason(report), _REASON_LIMIT)),
        headline(report),
        candidates_table(report, chosen=candidate),
        f"<sub>{_RULE}</sub>",
    ]
    return CheckRun(
        title=f"Candidate {number} of {of} {tally(verdict, verdict.standing(candidate))}",
        passes=_passes(report, candidate),
        summary="\n\n".join(parts),
        text=matrix(report, chosen=candidate),
        page=page,
    )


_RULE = (
    "Green: the vote's winner, which passes every test that reproduces the bug, and the repository's own tests judged "
    "it. Neutral: anything else. Never red: a merge is for people to decide."
)


def _passes(report: Report, candidate: int) -> bool:
    """The rule, as `_RULE` words it. A winner that breaks one of the repository's own tests there is none."""
    verdict = report.verdict
    voting = len(verdict.ballot.voting)
    won = candidate == verdict.winner and not verdict.standing(candidate).disqualified
    own = verdict.own_tests
    judged = own is not None and own.compared and not unjudged(verdict)
    return won and judged and 0 < voting == verdict.ballot.passed(candidate)
