"""Allocator of the cache's blocks: reference counts, and runs of neighbours where possible.

Neighbouring blocks matter: a prefix whose blocks are neighbours is read in place by the CPU path. Prompts are therefore
allocated as one run from wherever the smallest hole fits, single blocks of decoding sequences from the other end.
"""

from collections.abc import Sequence

import numpy as np

from engine.errors import EngineError


class OutOfBlocksError(EngineError):
    """Fewer blocks are free than were asked for. Nothing was allocated."""


class BlockAllocator:
    """`count` blocks, each free or held by one or more owners. Not thread-safe: only the engine's thread calls it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.refs = np.zeros(count, dtype=np.int32)
        self._free = np.ones(count, dtype=bool)
        self._free_count = count
        self._stack = list(range(count))  # every free block is in it; others may be too, and are skipped

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return self._free_count

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks, each with one reference; neighbours in rising order where a hole is large enough.

        Raises:
            OutOfBlocksError: fewer are free.
        """
        if count > self._free_count:
            raise OutOfBlocksError(f"{count} blocks wanted, {self._free_count} of {self.count} free")
        if count == 0:
            return []
        blocks = [self._pop()] if count == 1 else self._run(count)
        self.refs[blocks] = 1
        self._free[blocks] = False
        self._free_count -= count
        return blocks

    def hold(self, blocks: Sequence[int]) -> None:
        """Add a reference to each of `blocks`, which are distinct and already held by somebody."""
        index = np.asarray(blocks, dtype=np.intp)
        assert (self.refs[index] > 0).all(), "a free block cannot be shared"
        self.refs[index] += 1

    def release(self, blocks: Sequence[int]) -> list[int]:
        """Drop a reference of each of `blocks`, which are distinct; return those that became free."""
        index = np.asarray(blocks, dtype=np.intp)
        assert (self.refs[index] > 0).all(), "a block was released more often than it was taken"
        self.refs[index] -= 1
        freed: list[int] = index[self.refs[index] == 0].tolist()
        if freed:
            self._free[freed] = True
            self._free_count += len(freed)
            self._stack.extend(reversed(freed))
            if len(self._stack) > 4 * self.count:
                self._stack = np.flatnonzero(self._free).tolist()
        return freed

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        assert self._free_count == int(self._free.sum())
        assert ((self.refs == 0) == self._free).all()
        assert (self.refs >= 0).all()
        assert set(np.flatnonzero(self._free).tolist()) <= set(self._stack)

    def _pop(self) -> int:
        while True:
            block = self._stack.pop()
            if self._free[block]:
                return block

    def _run(self, count: int) -> list[int]:
        """The smallest hole that is large enough, or else the largest holes, all in rising order."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self._free.view(np.int8), [0]))))
        starts, ends = edges[::2], edges[1::2]
        lengths = ends - starts
        fitting = np.flatnonzero(lengths >= count)
        if fitting.size:
            best = fitting[lengths[fitting].argmin()]
            start = int(starts[best])
            return list(range(start, start + count))
        chosen: list[int] = []
        for hole in np.argsort(-lengths, kind="stable"):
            take = min(count - len(chosen), int(lengths[hole]))
            chosen.extend(range(int(starts[hole]), int(starts[hole]) + take))
            if len(chosen) == count:
                break
        return sorted(chosen)
