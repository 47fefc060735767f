"""How the probability of a verdict fares on recorded choices. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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


def errors_by_chance(
    expected: Array, of: npt.NDArray[np.generic], rng: np.random.Generator, bins: int = 10, draws: int = 400
) -> Array:
    """The calibration errors that are found where the probabilities are true, `[draws]`.

    Few choices fall into bins that are right more or less often than expected by chance alone, so that their error is
    no evidence against the probabilities unless it is larger than these. Choices on one task (`of`, `[choices]`) are
    right or wrong together, as far as their probabilities allow: one number decides them. Where they hang together
    less, the errors are smaller.
    """
    _, task = np.unique(of, return_inverse=True)
    parts = np.array_split(np.argsort(expected, kind="stable"), bins)
    errors = np.zeros(draws)
    for draw in range(draws):
        right = rng.random(int(task.max()) + 1)[task] < expected
        errors[draw] = sum(abs(float((expected[part] - right[part]).sum())) for part in parts) / len(expected)
    return errors


def right_by_chance(expected: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """Between which shares of right choices so many are, at least `share` of the time, where the probabilities of
    these choices, one or more, are true and each is of a task of its own."""
    chances = np.ones(1)  # of so many right ones
    for p in expected:
        chances = np.convolve(chances, (1.0 - p, p))
    below, tail = np.cumsum(chances), (1.0 - share) / 2
    low, high = (int(np.searchsorted(below, bound, side="right")) for bound in (tail, 1.0 - tail))
    return low / len(expected), min(high, len(expected)) / len(expected)
