"""Copies of blocks that two sequences continue differently, made at once for all that a step admits."""

from collections.abc import Callable

COPIED = 4096  # slots at once, which take so many tokens' room beside the cache
CopySlots = Callable[[list[int], list[int]], None]  # source and target slots in the cache


class Tails:
    """What must be copied before the next step. Blocks may be given away until then, but none is written to."""

    def __init__(self, copy: CopySlots) -> None:
        """`copy`: reads all sources before it writes any target."""
        self._copy = copy
        self._sources: list[int] = []
        self._targets: list[int] = []

    def note(self, source: int, target: int, count: int) -> None:
        """Have `count` slots copied, from these first ones."""
        self._sources.extend(range(source, source + count))
        self._targets.extend(range(target, target + count))

    def copy(self) -> None:
        """Copy what was noted."""
        for first in range(0, len(self._sources), COPIED):
            part = slice(first, first + COPIED)
            self._copy(self._sources[part], self._targets[part])
        self._sources, self._targets = [], []
