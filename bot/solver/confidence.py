"""How likely the winner is right, told from the count alone. Pure.

A logistic regression over four numbers of the winner's behaviour, fitted and checked on other tasks by
`tests/bench/bench_calibration.py`, which prints the constants. They are of functions that a model of 2022 wrote. Runs
of the solver are another thing: the same numbers tell less of them (`SLOPE`), and their log-odds lie higher or lower as
a whole, which `shift` corrects: `troop eval` prints the one that its own matrices ask for, and a server fits one to
what became of each repository's pull requests.
"""

import math
from collections.abc import Sequence

from bot.records import Ballot, Judgement, Standing

# The intercept; then what the log-odds of the share of samples that behave alike, those of the share of tests passed,
# and the logarithms of both numbers weigh.
WEIGHTS = (-1.055, 0.813, 0.323, 0.364, 0.292)

# So much of these log-odds counts in a run of the solver. With more of them the recorded runs are less often right than
# said where the count is sure, and more often where it is not, as the same benchmark shows.
SLOPE = 0.2

_SHIFT_VARIANCE = 1.0  # of the shift's prior, in log-odds; what that costs and saves says the same benchmark
_FARTHEST = 20.0  # that a shift lies from its prior


def features(alike: float, samples: float, passed: float, voting: float) -> tuple[float, ...]:
    """What the regression sees: 1, and four numbers.

    Args:
        alike: samples that behave as the winner does.
        samples: all samples that produced a patch.
        passed: tests that reproduce the bug and pass on the winner.
        voting: all tests that reproduce the bug.
    """
    return (
        1.0,
        math.log((alike + 0.5) / (max(samples - alike, 0) + 0.5)),
        math.log((passed + 0.5) / (max(voting - passed, 0) + 0.5)),
        math.log1p(alike),
        math.log1p(passed),
    )


def log_odds(row: tuple[float, ...]) -> float:
    """The log-odds that go with the features."""
    return sum(weight * value for weight, value in zip(WEIGHTS, row, strict=True))


def probability(odds: float, shift: float = 0.0) -> float:
    """The probability that goes with the log-odds."""
    return 1.0 / (1.0 + math.exp(-(odds + shift)))


def odds_of(standing: Standing, ballot: Ballot) -> float:
    """The log-odds that the candidate is right, as of a function."""
    passed, voting = ballot.passed(standing.candidate), len(ballot.voting)
    return log_odds(features(standing.cluster, ballot.attempts, passed, voting))


def confidence(standing: Standing, ballot: Ballot, shift: float = 0.0) -> float:
    """The probability that the candidate of a run is right; `shift` is added to its log-odds."""
    return probability(SLOPE * odds_of(standing, ballot), shift)


def labels(judgements: Sequence[Judgement]) -> tuple[list[float], list[bool]]:
    """Log-odds of a run's winner and whether the winner was right, of those judgements of which both are known."""
    known = [(one.odds, one.right) for one in judgements if one.odds is not None and one.right is not None]
    return [SLOPE * odds for odds, _ in known], [right for _, right in known]


def shift_for(odds: Sequence[float], right: Sequence[bool], prior: float = 0.0) -> float:
    """What is to be added to these log-odds, at its most likely; near `prior` where there are few.

    Platt's scaling (1999) with a slope of 1 and a normal prior of the shift. By bisection: far from the root Newton's
    method jumps to and fro.
    """
    low, high = prior - _FARTHEST, prior + _FARTHEST
    while high - low > 1e-6:
        shift = (low + high) / 2
        slope = sum(probability(one, shift) for one in odds) - sum(right) + (shift - prior) / _SHIFT_VARIANCE
        low, high = (low, shift) if slope > 0 else (shift, high)
    return (low + high) / 2
