"""Whether probabilities mean what they say: fitting them to recorded choices, and how far off they are. Pure."""

from collections.abc import Sequence

import numpy as np

from bot.evaluation.selectors import Matrix, behaviours
from bot.records import Record
from bot.solver.ballot import Array, order, scores
from bot.solver.confidence import features, probability

_PENALTY = 20.0  # of the squared weights of standardised features: keeps a fit on few tasks from running away
_STEPS = 50
_SHIFT_VARIANCE = 4.0  # of the shift's prior, in log-odds: a handful of tasks moves it little


class Bin(Record):
    """Choices of about the same probability."""

    choices: int
    expected: float  # mean probability
    right: float  # share that was right


def told(matrix: Matrix) -> tuple[tuple[float, ...], bool] | None:
    """The features of our choice, and whether it is right; None where no test speaks for it, so that nothing wins."""
    behaviour, cluster = behaviours(matrix)
    score = scores(matrix.passes * matrix.voting, matrix.samples, matrix.votes)
    first = order(score, cluster, matrix.sizes, matrix.samples, behaviour)[0]
    votes = float(matrix.votes[first])
    if not votes:
        return None
    row = features(float(cluster[first]), float(matrix.samples.sum()), votes, float(matrix.voting.sum()))
    return row, bool(matrix.solves[first])


def fit(rows: Array, right: Array) -> Array:
    """The weights of a logistic regression with a ridge penalty, by Newton's method; `rows[:, 0]` is 1."""
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    mean[0], scale[0] = 0.0, 1.0
    z = (rows - mean) / scale
    penalty = np.full(z.shape[1], _PENALTY)
    penalty[0] = 0.0
    weights = np.zeros(z.shape[1])
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-(z @ weights)))
        gradient = z.T @ (p - right) + penalty * weights
        hessian = (z * (p * (1 - p) + 1e-9)[:, None]).T @ z + np.diag(penalty)
        weights = weights - np.linalg.solve(hessian, gradient)
    weights = weights / scale
    weights[0] -= (weights * mean).sum()
    return np.asarray(weights)


def reliability(expected: Array, right: Array, bins: int = 10) -> tuple[Bin, ...]:
    """Choices in `bins` parts of equal size, the least likely first."""
    parts = [part for part in np.array_split(np.argsort(expected, kind="stable"), bins) if len(part)]
    return tuple(
        Bin(choices=len(part), expected=float(expected[part].mean()), right=float(right[part].mean())) for part in parts
    )


def calibration_error(parts: Sequence[Bin]) -> float:
    """The expected calibration error: how far probability and share are apart, on average over the choices."""
    total = sum(part.choices for part in parts)
    return sum(part.choices * abs(part.expected - part.right) for part in parts) / total if total else 0.0


def shift_for(rows: Sequence[tuple[float, ...]], right: Sequence[bool]) -> float:
    """What is to be added to the log-odds for these choices, at its most likely; near 0 where there are few."""
    shift = 0.0
    for _ in range(_STEPS):
        p = np.array([probability(row, shift) for row in rows])
        gradient = float((p - np.array(right, dtype=float)).sum()) + shift / _SHIFT_VARIANCE
        shift -= gradient / (float((p * (1 - p)).sum()) + 1.0 / _SHIFT_VARIANCE)
    return shift
