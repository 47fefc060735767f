"""How the repository's own tests went, in sentences, and whether they could judge the candidate at all."""

from typing import assert_never

from bot.records import Ending, NotCompared, OwnTestsReport, Verdict
from bot.sandbox.script_command import in_short

_SETUP = "add it with a `setup` command in .troop.toml or an image (Docker), or a .venv in the checkout (processes)"
_NOT_MEANT = (NotCompared.NO_COMMAND, NotCompared.NO_CANDIDATE)  # there was nothing to run, or nothing to run it on


def of_winner(verdict: Verdict) -> str:
    """A sentence on the winner, or on why they say nothing of it; "" where they were not asked for."""
    own, winner = verdict.own_tests, verdict.winner
    if own is None or winner is None:
        return ""
    if not own.compared:
        return f"{_name(own)} {_not_compared(own)}."
    after = own.on(winner)
    if after is None:
        return f"{_name(own)} were not run on it."
    if after.execution.ending is Ending.UNAVAILABLE:
        return f"{_name(own)} could not be run on it."
    if after.execution.passed:
        return f"{_name(own)} pass on it."
    if after.failures is None:
        return f"{_name(own)} could not be compared: they end with {after.execution.status}."
    return f"{_name(own)} fail only where they failed before."


def unjudged(verdict: Verdict) -> str:
    """Why the repository's own tests, which were meant to run, judged nothing; "" where they did or were not meant to.

    Of the winner; where there is none, of all candidates.
    """
    own, winner = verdict.own_tests, verdict.winner
    if own is None or own.not_compared in _NOT_MEANT or (own.compared and winner is None):
        return ""
    if winner is None:
        return f"{_name(own)} {_not_compared(own)}."
    after = own.on(winner)
    judged = own.compared and after is not None and (after.execution.passed or after.failures is not None)
    return "" if judged else of_winner(verdict)


def _name(own: OwnTestsReport) -> str:
    command = own.command or own.tried
    return f"The repository's own tests (`{in_short(command)}`)" if command else "The repository's own tests"


def _not_compared(own: OwnTestsReport) -> str:
    """Why the repository's own tests say nothing: what follows their name."""
    match own.not_compared:
        case None:
            return own.note
        case NotCompared.NO_COMMAND:
            return "are not known; a [test] command in .troop.toml would name them"
        case NotCompared.NO_PYTEST:
            return f"could not be run: pytest is not in the sandbox; {_SETUP}"
        case NotCompared.NOT_RUN:
            return f"could not be run: {own.detail}"
        case NotCompared.SANDBOX_FAILED:
            return "could not be run: the sandbox failed"
        case NotCompared.UNNAMED_FAILURES:
            return f"can't be compared: on the base commit they end with {own.detail}"
        case NotCompared.NO_CANDIDATE:
            return "were not run: no candidate is credible without them"
        case _:
            assert_never(own.not_compared)
