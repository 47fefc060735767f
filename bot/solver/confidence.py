"""How likely the winner is right, told from the count alone. Pure.

A logistic regression over four numbers of the winner's behaviour, fitted and checked on other tasks by
`tests/bench/bench_calibration.py`, which prints the constants. They are of functions that a model of 2022 wrote; where
another model works on other code, the log-odds lie higher or lower as a whole, which `shift` corrects: `troop eval`
prints the one that its own matrices ask for.
"""

import math

from bot.records import Ballot, Standing

# The intercept; then what the log-odds of the share of samples that behave alike, those of the share of tests passed,
# and the logarithms of both numbers weigh.
WEIGHTS = (-1.055, 0.813, 0.323, 0.364, 0.292)


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


def probability(row: tuple[float, ...], shift: float = 0.0) -> float:
    """The probability that goes with the features."""
    odds = sum(weight * value for weight, value in zip(WEIGHTS, row, strict=True)) + shift
    return 1.0 / (1.0 + math.exp(-odds))


def confidence(standing: Standing, ballot: Ballot, shift: float = 0.0) -> float:
    """The probability that the candidate is right; `shift` is added to its log-odds."""
    passed, voting = ballot.passed(standing.candidate), len(ballot.voting)
    return probability(features(standing.cluster, ballot.attempts, passed, voting), shift)
