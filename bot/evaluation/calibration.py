"""How the probability of a verdict fares on recorded choices. Pure."""

from collections.abc import Sequence

import numpy as np

from bot.evaluation.selectors import Matrix, behaviours, our_choice
from bot.records import Record
from bot.solver.ballot import Array
from bot.solver.confidence import features


class Bin(Record):
    """Choices of about the same probability."""

    choices: int
    expected: float  # mean probability
    right: float  # share that was right


def told(matrix: Matrix) -> tuple[tuple[float, ...], bool] | None:
    """The features of our choice, and whether it is right; None where no test speaks for it, so that nothing wins."""
    first = our_choice(matrix)
    votes = float(matrix.votes[first])
    if not votes:
        return None
    alike = float(behaviours(matrix)[1][first])
    row = features(alike, float(matrix.samples.sum()), votes, float(matrix.voting.sum()))
    return row, bool(matrix.solves[first])


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
