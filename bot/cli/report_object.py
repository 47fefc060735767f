"""A run's result as the one object that `troop solve --json` prints."""

from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import reason
from bot.publish.messages.unproven import reasons
from bot.records import Report


def as_object(report: Report) -> dict[str, object]:
    """What `--json` prints. Candidates and the matrix's rows are in the ballot's order; `winner` is an index in it, and
    `number` is how the reason calls a candidate."""
    verdict, ballot = report.verdict, report.verdict.ballot
    standings = {standing.candidate: standing for standing in verdict.standings}
    struck = {one.test: one.reason for one in verdict.struck}
    usage = report.usage.model_dump() | {"seconds": round(report.wall_seconds, 3)}
    return {
        "outcome": verdict.outcome.value,
        "winner": verdict.winner,
        "reason": reason(report),
        "candidates": [
            {
                "number": verdict.number(i),
                "patch": candidate.patch.diff,
                "votes": standings[i].votes,
                "own_votes": standings[i].own_votes,
                "cluster": standings[i].cluster,
                "size": standings[i].size,
                "disqualified": candidate.disqualified,
                "fails_own_test": ballot.fails_own(i),
                "regressions": list(standings[i].regressions),
                "mended": list(standings[i].mended),
                "unproven": reasons(ballot, i),
                "trajectories": list(candidate.trajectories),
                "parents": list(candidate.parents),
            }
            for i, candidate in enumerate(ballot.candidates)
        ],
        "tests": [
            {"script": test.text, "fails_on_base": ballot.base[t] is False, "path": test.path, "struck": struck.get(t)}
            for t, test in enumerate(ballot.tests)
        ],
        "matrix": [list(row) for row in ballot.cells],
        "stopped": verdict.stopped.model_dump(mode="json") if verdict.stopped else None,
        "usage": usage
        | {
            "currency": report.currency,
            "model_seconds": round(report.usage.seconds, 3),
            "stages": {stage: used.model_dump() for stage, used in report.usage_by_stage.items()},
        },
        "model": report.model,
        "own_tests": _own_tests(report),
        "notes": list(report.notes),
    }


def _own_tests(report: Report) -> dict[str, object] | None:
    """Whether the repository's own tests judged the candidates, and if not, why; None where they were not asked for."""
    own = report.verdict.own_tests
    if own is None:
        return None
    return {
        "command": list(own.command or own.tried),
        "compared": own.compared and not unjudged(report.verdict),
        "why_not": own.not_compared.value if own.not_compared else None,
        "detail": unjudged(report.verdict),
    }
