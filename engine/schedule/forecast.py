"""How many blocks the running sequences will need at worst, simulated to their expected ends."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.schedule.sequence import Sequence

Numbers = np.ndarray[Any, Any]


class Forecast:
    """The blocks that a set of sequences will need; others may be added one by one.

    Each sequence is expected to grow to the typical output length, or to one and a half times its present output,
    within its limit. Blocks come back when a sequence ends, so the need peaks at one of the ends.
    """

    def __init__(self, sequences: Iterable[Sequence], block_size: int, typical_output: float) -> None:
        """`typical_output`: tokens."""
        self._size = block_size
        self._typical = typical_output
        self._until: Numbers = np.zeros(0, dtype=np.int64)  # tokens to come, rising
        self._blocks: Numbers = np.zeros(0, dtype=np.int64)  # private blocks now, in the same order
        ends = sorted(map(self._end, sequences))
        if ends:
            self._until, self._blocks = np.array(ends, dtype=np.int64).T

    def add(self, sequence: Sequence) -> None:
        """Count a sequence from now on."""
        self._until, self._blocks = self._with(sequence)

    def growth(self, newcomer: Sequence) -> int:
        """Blocks beyond those held now that will be missing at the peak if `newcomer` joins."""
        until, blocks = self._with(newcomer)
        running = np.arange(len(until), 0, -1)
        returned = np.cumsum(blocks) - blocks
        return max(0, int((running * (until // self._size) - returned).max()))

    def within(self, newcomer: Sequence, span: int) -> int:
        """Blocks that will be missing if `newcomer` joins, where none keeps more than the last `span` of them."""
        until, blocks = self._with(newcomer)
        return int(np.minimum(until // self._size, np.maximum(span - blocks, 0)).sum())

    def _with(self, sequence: Sequence) -> tuple[Numbers, Numbers]:
        until, blocks = self._end(sequence)
        place = int(np.searchsorted(self._until, until))
        return np.insert(self._until, place, until), np.insert(self._blocks, place, blocks)

    def _end(self, sequence: Sequence) -> tuple[int, int]:
        generated = sequence.generated
        expected = max(self._typical, 1.5 * generated) - generated
        return max(1, min(sequence.remaining, int(expected))), generated // self._size
