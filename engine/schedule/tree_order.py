"""The running sequences in tree order, and how many leading blocks neighbours share.

Kept sorted by block table, sequences below a node of the prefix tree are neighbours, and the tree is known from the
common prefixes of neighbours alone (`kernels.tree_attention.cut`). A sequence's last block is never shared, so its
place stays right while its table grows; only joining and leaving change the order, and cost a few comparisons.
"""

import bisect
from collections.abc import Iterator

from engine.schedule.sequence import Sequence


class TreeOrder:
    """A sorted list of sequences by block table. `shared[i]` leading blocks are common to sequences `i - 1` and `i`."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []
        self.shared: list[int] = []

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.sequences)

    def add(self, sequence: Sequence) -> None:
        """Insert a sequence whose table is set and whose last block nobody shares."""
        place = bisect.bisect_left(self.sequences, sequence.table, key=lambda other: other.table)
        before = common_prefix(self.sequences[place - 1].table, sequence.table) if place else 0
        if place < len(self.sequences):
            self.shared[place] = common_prefix(sequence.table, self.sequences[place].table)
        self.sequences.insert(place, sequence)
        self.shared.insert(place, before)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, before its table is released.

        Raises:
            ValueError: it is not in the list.
        """
        place = self.sequences.index(sequence)
        del self.sequences[place]
        gone = self.shared.pop(place)
        if place < len(self.shared):  # three in a row share the lesser of what each pair shares
            self.shared[place] = min(gone, self.shared[place])

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        assert len(self.sequences) == len(self.shared) == len(set(map(id, self.sequences)))
        for index, sequence in enumerate(self.sequences):
            common = common_prefix(self.sequences[index - 1].table, sequence.table) if index else 0
            assert self.shared[index] == common
            assert common < len(sequence.table)


def common_prefix(one: list[int], other: list[int]) -> int:
    """Length of the common prefix of two lists, by bisection."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low + 1 < high:  # one[:low] == other[:low], one[:high] != other[:high]
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
