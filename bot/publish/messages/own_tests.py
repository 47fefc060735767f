"""How the repository's own tests went, in sentences, and whether they could judge the candidate at all."""

from typing import assert_never

from bot.publish.messages.words import counted, cut, duration, listed, verb
from bot.records import Ending, NotCompared, OwnTests, OwnTestsReport, Verdict
from bot.sandbox.script_command import in_short

_SETUP = "add it with a `setup` command in .troop.toml or an image (Docker), or a .venv in the checkout (processes)"
_NAMED = 5  # files that are named
_NAME_LENGTH = 120  # characters of a test's name
_NOT_MEANT = (NotCompared.NO_COMMAND, NotCompared.NO_CANDIDATE)  # there was nothing to run, or nothing to run it on


def of_winner(verdict: Verdict) -> str:
    """On the winner's tests, or why they say nothing of it, and on its documented examples; "" where not asked for."""
    return " ".join(filter(None, (_tests(verdict), _examples(verdict))))


def briefly(verdict: Verdict, candidate: int) -> str:
    """For the row of a candidate that breaks nothing, in a table; "" where its run says nothing."""
    own = verdict.own_tests
    after = own.on(candidate) if own is not None and own.compared else None
    if own is None or after is None or after.execution.ending is Ending.UNAVAILABLE:
        return ""
    which = "the repository's own tests" + (" of what it changes" if after.files else "")
    if after.execution.passed:
        return f"{which} pass"
    base = own.base_of(candidate)
    if base is None or base.failures is None or after.failures is None:
        return ""
    if after.stopped:
        return f"{which} did not end in time; those that did and passed before, pass"
    return f"of {which} it breaks none that passed before"


def _examples(verdict: Verdict) -> str:
    """How the winner goes with its documentation; "" where that has no examples that held before."""
    own, winner = verdict.own_tests, verdict.winner
    found = own.documented_on(winner) if own is not None and winner is not None else None
    if found is None or not found.held:
        return ""
    which = "The documented example" if found.held == 1 else f"All {found.held:,} documented examples"
    return f"{which} of what it changes that held before {verb(found.held, 'holds', 'hold')} still."


def _tests(verdict: Verdict) -> str:
    """A sentence on the winner's tests."""
    own, winner = verdict.own_tests, verdict.winner
    if own is None or winner is None:
        return ""
    if not own.compared:
        return f"{_name(own)} {_not_compared(own)}."
    after, base = own.on(winner), own.base_of(winner)
    if after is None:
        return f"{_name(own)} were not run on it."
    if after.execution.ending is Ending.UNAVAILABLE:
        return f"{_name(own)} could not be run on it."
    name = _name(own)
    if after.files:
        said = f"{name} did not end within {_seconds(own)} on the base commit{_in(own)}"
        return f"{said}; those in {listed(after.files)}, about what it changes, {_outcome(after)}.{_flaky(after)}"
    if base is not None and base.stopped and after.failures is not None:
        ended = len(base.passed) + len(base.failures or ())
        said = f"{name} did not end within {_seconds(own)} on the base commit{_in(own)}"
        return f"{said}; of {counted(ended, 'test')} that ended before, it breaks none.{_flaky(after)}{_gone(own)}"
    if after.failures is None and not after.execution.passed:
        return f"{name} could not be compared: they end with {after.execution.status}.{_gone(own)}"
    return f"{name} {_outcome(after)}.{_flaky(after)}{_gone(own)}"


def _outcome(after: OwnTests) -> str:
    if after.execution.passed:
        return "pass on it" if after.count is None else f"pass on it ({counted(after.count, 'test')} ran)"
    if after.stopped:
        return f"did not end on it in time; of {counted(len(after.passed), 'test')} that passed before, none is broken"
    return "fail only where they failed before"


def _flaky(after: OwnTests) -> str:
    """Which tests failed on it by chance, as far as two runs tell."""
    if not after.flaky:
        return ""
    names = listed([f"`{cut(name, _NAME_LENGTH)}`" for name in after.flaky])
    return f" {names} failed on it once, and passed when the same ran again."


def _seconds(own: OwnTestsReport) -> str:
    return duration(own.base.execution.seconds) if own.base else "their time"


def _in(own: OwnTestsReport) -> str:
    return f" (it was at `{own.under_way}`)" if own.under_way else ""


def _gone(own: OwnTestsReport) -> str:
    """Which of their files were not run, since they can't be imported."""
    if not own.unimported:
        return ""
    found = len(own.unimported)
    more = [f"{found - _NAMED:,} more"] if found > _NAMED else []
    said = f" {counted(found, 'file')} of them can't be imported in the sandbox, and did not run"
    return f"{said}: {listed([*own.unimported[:_NAMED], *more])}."


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
    return "" if judged else _tests(verdict)


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
        case NotCompared.NO_TESTS:
            return f"ran no test: {own.detail}"
        case NotCompared.SANDBOX_FAILED:
            return "could not be run: the sandbox failed"
        case NotCompared.UNNAMED_FAILURES:
            if own.base is not None and own.base.stopped:
                hint = "a `timeout` in .troop.toml or --own-tests-timeout gives them longer"
                return f"did not end within {_seconds(own)} on the base commit{_in(own)}; {hint}"
            return f"can't be compared: on the base commit they end with {own.detail}"
        case NotCompared.NO_CANDIDATE:
            return "were not run: no candidate is credible without them"
        case _:
            assert_never(own.not_compared)
