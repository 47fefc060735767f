"""What attention costs on the device at hand, and whether a shared node is worth an item of its own there.

Four terms of time, for one layer: re-reading a node's tokens for every sequence below it, against one item (with one
more partial result per sequence to merge), reading the tokens once, and one multiplication per tile of queries. Their
constants come from a calibration run: `kernels.tree_attention.calibrate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class CutRule(Protocol):
    """Decides which shared nodes attention reads on their own."""

    def keeps(self, sequences: int, tokens: int, siblings: int = 1) -> bool:
        """Whether a node of `tokens` tokens above `sequences` decoding sequences is worth an item of its own, where
        `siblings` nodes of its level, including it, are above as many sequences.
        """
        ...


@dataclass(frozen=True)
class MeasuredCost:
    """Microseconds on one device for one shape of heads; never negative."""

    read: float  # one token of one sequence that reads it alone
    item: float  # one more item
    row: float  # one more partial result of one sequence
    load: float  # one token of an item, however many sequences share it
    tile: float  # one token of an item, for each of its tiles of queries
    group: int  # query heads per key-value head
    queries: int  # of one tile, heads of a group counted
    together: bool = False  # whether sibling nodes share the cost of an item, as on a CPU

    def plain(self, sequences: int, tokens: int) -> float:
        """Time to read a node again for each sequence."""
        return sequences * tokens * self.read

    def shared(self, sequences: int, tokens: int) -> float:
        """Time of an item."""
        tiles = -(-sequences * self.group // self.queries)
        return self.item + sequences * self.row + tokens * (self.load + tiles * self.tile)

    def keeps(self, sequences: int, tokens: int, siblings: int = 1) -> bool:
        """See `CutRule`."""
        saved = self.item * (1 - 1 / siblings) if self.together else 0.0
        return self.shared(sequences, tokens) - saved < self.plain(sequences, tokens)


class Sample(NamedTuple):
    """One measurement: a step of `sequences` that share `tokens` tokens, and have a few of their own each."""

    sequences: int
    tokens: int
    shared: bool  # the node was an item
    seconds: float


def fit(samples: Sequence[Sample], group: int, queries: int) -> MeasuredCost:
    """Constants that explain measured times best, by least squares of the relative error under the constraint that
    none is negative.

    Args:
        samples: several numbers of sequences and of tokens, each both shared and not.
        group: query heads per key-value head.
        queries: of one tile.
    """
    rows = []
    for sequences, tokens, shared, _ in samples:
        tiles = -(-sequences * group // queries)
        alone = (sequences * tokens, 0.0, 0.0, 0.0, 0.0)
        terms = (0.0, 1.0, sequences, tokens, tokens * tiles) if shared else alone
        rows.append((1.0, sequences, *terms))  # costs in both cases: the launch, and each sequence's own tokens
    seconds = np.array([sample.seconds for sample in samples])
    features = np.array(rows) / seconds[:, None]
    scale = np.linalg.norm(features, axis=0)
    found = _non_negative(features / np.where(scale > 0, scale, 1.0), np.ones(len(samples)))
    read, item, row, load, tile = (found / np.where(scale > 0, scale, 1.0))[2:] * 1e6
    return MeasuredCost(float(read), float(item), float(row), float(load), float(tile), group, queries)


def _non_negative(matrix: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", target: "Vector") -> "Vector":
    """Least squares with no negative solution: Lawson and Hanson, Solving Least Squares Problems, chapter 23."""
    count = matrix.shape[1]
    solution = np.zeros(count)
    free = np.zeros(count, dtype=bool)
    for _ in range(3 * count):
        gradient = matrix.T @ (target - matrix @ solution)
        gradient[free] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= 1e-10:
            break
        free[best] = True
        while True:
            trial = np.zeros(count)
            trial[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            below = free & (trial <= 0)
            if not below.any():
                solution = trial
                break
            step = (solution[below] / (solution[below] - trial[below])).min()
            solution = solution + step * (trial - solution)
            free &= solution > 1e-12
            solution[~free] = 0.0
    return solution


Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
