"""Allocator of the cache's blocks: reference counts, and neighbours where possible.

Placement matters: the CPU path reads neighbouring blocks in place. Prompts are therefore allocated as one run, at the
end of the largest hole. The tails of sequences that share a prompt each begin a *zone* of their own, a fixed number of
blocks apart, and grow into it: the tails of a whole batch are then one strided array.
"""

from collections.abc import Callable, Sequence

import numpy as np

from engine.errors import EngineError


class OutOfBlocksError(EngineError):
    """Fewer blocks are free than were asked for. Nothing was allocated."""


class BlockAllocator:
    """`count` blocks, each free or held by one or more owners. Not thread-safe: only the engine's thread calls it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.zone = min(64, count // 128) if count >= 512 else 0  # blocks; small caches have no room for zones
        self.refs = np.zeros(count, dtype=np.int32)
        self._free = np.ones(count, dtype=bool)
        self._free_count = count
        self.on_free: list[Callable[[list[int]], None]] = []  # told of blocks that become free
        self._stack = list(range(count))  # every free block is in it; others may be too, and are skipped

    @property
    def free(self) -> int:
        """Blocks without an owner."""
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
        return self._take([self._pop()] if count == 1 else self._run(count))

    def follow(self, block: int, count: int) -> list[int] | None:
        """Take the `count` blocks right behind `block`, each with one reference, if all are free."""
        if block + count >= self.count or not self._free[block + 1 : block + 1 + count].all():
            return None
        return self._take(list(range(block + 1, block + 1 + count)))

    def open_zone(self, count: int) -> list[int] | None:
        """Take the first `count` blocks, each with one reference, of the first zone that is entirely free. If there is
        none, of the first free half or quarter of a zone: those are a zone apart, too. None if there is no such place
        either.
        """
        if not self.zone:
            return None
        zones = self._free[: self.count // self.zone * self.zone].reshape(-1, self.zone)
        for size in (self.zone, self.zone // 2, self.zone // 4):
            if count > size:
                break
            for offset in range(0, self.zone - size + 1, size):
                empty = np.flatnonzero(zones[:, offset : offset + size].all(axis=1))
                if empty.size:
                    start = int(empty[0]) * self.zone + offset
                    return self._take(list(range(start, start + count)))
        return None

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
            for tell in self.on_free:
                tell(freed)
        return freed

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        assert self._free_count == int(self._free.sum())
        assert ((self.refs == 0) == self._free).all()
        assert (self.refs >= 0).all()
        assert set(np.flatnonzero(self._free).tolist()) <= set(self._stack)

    def _take(self, blocks: list[int]) -> list[int]:
        self.refs[blocks] = 1
        self._free[blocks] = False
        self._free_count -= len(blocks)
        return blocks

    def _pop(self) -> int:
        while True:
            block = self._stack.pop()
            if self._free[block]:
                return block

    def _run(self, count: int) -> list[int]:
        """The end of the largest hole, or else the largest holes, all in rising order."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self._free.view(np.int8), [0]))))
        starts, ends = edges[::2], edges[1::2]
        chosen: list[int] = []
        for hole in np.argsort(starts - ends, kind="stable"):
            end = int(ends[hole])
            take = min(count - len(chosen), end - int(starts[hole]))
            chosen.extend(range(end - take, end))
            if len(chosen) == count:
                break
        return sorted(chosen)
