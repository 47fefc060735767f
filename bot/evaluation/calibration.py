"""How the probability of a verdict fares on recorded choices, and what would bring it right. Pure."""

from collections.abc import Sequence

import numpy as np

from bot.evaluation.selectors import Matrix, behaviours, our_choice
from bot.solver.confidence import features, probability

_STEPS = 50
_SHIFT_VARIANCE = 4.0  # of the shift's prior, in log-odds: a handful of tasks moves it little


def told(matrix: Matrix) -> tuple[tuple[float, ...], bool] | None:
    """The features of our choice, and whether it is right; None where no test speaks for it, so that nothing wins."""
    first = our_choice(matrix)
    votes = float(matrix.votes[first])
    if not votes:
        return None
    alike = float(behaviours(matrix)[1][first])
    row = features(alike, float(matrix.samples.sum()), votes, float(matrix.voting.sum()))
    return row, bool(matrix.solves[first])


def shift_for(rows: Sequence[tuple[float, ...]], right: Sequence[bool]) -> float:
    """What is to be added to the log-odds for these choices, at its most likely; near 0 where there are few."""
    shift = 0.0
    for _ in range(_STEPS):
        p = np.array([probability(row, shift) for row in rows])
        gradient = float((p - np.array(right, dtype=float)).sum()) + shift / _SHIFT_VARIANCE
        shift -= gradient / (float((p * (1 - p)).sum()) + 1.0 / _SHIFT_VARIANCE)
    return shift
