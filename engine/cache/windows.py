"""Blocks of layers that see a window alone: those hold what some running sequence's window may still see, and beyond
that, as far as there is room, what prompts may go on from.

The rest of the engine knows one number for each block of a sequence. Here such a block has a place in a pool of its
own, which is smaller, or none any more. Places without a running sequence that needs them are given away, first those
that were just passed by, then those that are kept for prompts to go on from, each least recently used first.

Two blocks may have one place: a sequence that computed anew what the prefix tree has lends the tree its place.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.cache.blocks import BlockAllocator
from engine.cache.tails import CopySlots, Tails
from kernels.tree_attention.reach import Reach

Numbers = np.ndarray[Any, Any]

KEPT = 8  # of so many places, one is left to what prompts may go on from: their siblings would find nothing else


class WindowPool:
    """The places of one kind of layers. Not thread-safe: only the engine's thread calls it."""

    def __init__(self, reach: Reach, blocks: int, count: int, block_size: int, copy: CopySlots) -> None:
        """
        Args:
            reach: what the layers see.
            blocks: of the cache of all tokens.
            count: places.
            block_size: tokens.
            copy: copies slots in the layers' cache; reads all before it writes any.
        """
        self.reach = reach
        self.where: Numbers = np.full(blocks, -1, dtype=np.int32)  # each block's place; changed in place
        self.allocator = BlockAllocator(count)
        self._size = block_size
        self._tails = Tails(copy)
        self._filled: Numbers = np.zeros(blocks, dtype=np.int32)  # tokens of each block that its place has
        self._owners: list[list[int]] = [[] for _ in range(count)]  # of each place, the blocks that it is of
        self._pins = [0] * count  # of each place, running sequences that need it
        self._keep = [False] * count
        self._passed: OrderedDict[int, None] = OrderedDict()  # places that nobody needs, least recently used first
        self._kept: OrderedDict[int, None] = OrderedDict()  # the same that are worth keeping
        self._pinned = 0

    @property
    def count(self) -> int:
        """Places."""
        return self.allocator.count

    @property
    def available(self) -> int:
        """Places that can be had."""
        return self.count - self._pinned

    @property
    def spare(self) -> int:
        """Places that can be had without those that are kept for prompts to go on from, an eighth of all at most."""
        return self.available - min(len(self._kept), self.count // KEPT)

    def first(self, position: int) -> int:
        """Index of the first block that the token at `position` sees."""
        return self.reach.floor(position) // self._size

    # -- places ---------------------------------------------------------------------------------------------------

    def place(self, blocks: Sequence[int], behind: int = -1) -> None:
        """Give blocks that have none a place each, which a sequence needs from now on.

        Args:
            blocks: of one or more sequences, no more than are `available`.
            behind: a block behind whose place they go, if those are free.
        """
        missing = len(blocks) - self.allocator.free
        if missing > 0:
            self._give_away(missing)
        before = int(self.where[behind]) if behind >= 0 else -1
        places = self.allocator.follow(before, len(blocks)) if before >= 0 else None
        for block, place in zip(blocks, places or self.allocator.allocate(len(blocks)), strict=True):
            assert self.where[block] < 0, "it has a place"
            self.where[block], self._filled[block] = place, self._size
            self._owners[place], self._pins[place], self._keep[place] = [block], 1, False
        self._pinned += len(blocks)

    def pin(self, blocks: Sequence[int]) -> None:
        """Another sequence needs the places of these blocks, which have some."""
        for place in self.where[blocks].tolist() if blocks else ():
            assert place >= 0, "it has no place"
            if not self._pins[place]:
                self._pinned += 1
                (self._kept if self._keep[place] else self._passed).pop(place)
            self._pins[place] += 1

    def unpin(self, blocks: Sequence[int]) -> None:
        """A sequence needs the places of these blocks no longer."""
        for place in self.where[blocks].tolist() if blocks else ():
            self._pins[place] -= 1
            assert self._pins[place] >= 0
            if not self._pins[place]:
                self._pinned -= 1
                (self._kept if self._keep[place] else self._passed)[place] = None

    def keep(self, blocks: Sequence[int]) -> None:
        """Prompts may go on behind these blocks: their places, where they have some, are given away last."""
        for place in self.where[blocks].tolist() if blocks else ():
            if place >= 0:
                self._keep[place] = True
                if not self._pins[place]:
                    self._passed.pop(place, None)
                    self._kept[place] = None
                    self._kept.move_to_end(place)

    def lend(self, source: int, target: int, filled: int) -> None:
        """Let `target`, if it has no place, have that of `source`, whose first `filled` tokens are the same."""
        place = int(self.where[source])
        if place < 0 or self.where[target] >= 0 or source == target:
            return
        self.where[target], self._filled[target] = place, min(filled, int(self._filled[source]))
        self._owners[place].append(target)

    def inherit(self, source: int, target: int, filled: int) -> None:
        """`target` stands for the first `filled` tokens of `source` from now on."""
        place = int(self.where[source])
        if place >= 0 and self.where[target] >= 0 and self._keep[place]:
            self.keep([target])
        self.lend(source, target, filled)

    def forget(self, blocks: Sequence[int]) -> None:
        """These blocks are free: nobody needs their places."""
        freed = []
        for block in blocks:
            place = int(self.where[block])
            if place < 0:
                continue
            self.where[block] = -1
            self._owners[place].remove(block)
            if not self._owners[place]:
                assert not self._pins[place], "a sequence needs it"
                (self._kept if self._keep[place] else self._passed).pop(place)
                freed.append(place)
        if freed:
            self.allocator.release(freed)

    def _give_away(self, count: int) -> None:
        """Free places that nobody needs."""
        freed: list[int] = []
        for queue in (self._passed, self._kept):
            while queue and len(freed) < count:
                place = queue.popitem(last=False)[0]
                self.where[self._owners[place]] = -1
                self._owners[place] = []
                freed.append(place)
        if freed:
            self.allocator.release(freed)

    # -- what can be gone on from ---------------------------------------------------------------------------------

    def covers(self, blocks: Sequence[int], length: int) -> bool:
        """Whether what the token behind the first `length` tokens in `blocks` sees is all there."""
        if not length:
            return True
        first, last = self.first(length), (length - 1) // self._size
        seen = blocks[first : last + 1]
        if not seen:
            return True
        filled = np.where(self.where[seen] >= 0, self._filled[seen], 0)
        return bool((filled[:-1] == self._size).all()) and int(filled[-1]) >= length - last * self._size

    def whole(self, blocks: Sequence[int]) -> Numbers:
        """`[blocks + 1]` bool: of how many of the first of them `covers` is true."""
        there = (self.where[blocks] >= 0) & (self._filled[blocks] == self._size) if blocks else np.zeros(0, dtype=bool)
        gone = np.concatenate(([0], np.cumsum(~there)))
        ends = np.arange(len(blocks) + 1)
        floors = self.reach.floors(ends * self._size)
        first = np.zeros_like(ends) if floors is None else np.minimum(floors // self._size, ends)
        found: Numbers = gone[ends] == gone[first]
        return found

    def alone(self, block: int) -> bool:
        """Whether the block's place, if it has one, is of no other, so that a sequence may write there."""
        place = int(self.where[block])
        return place < 0 or len(self._owners[place]) == 1

    def unpinned(self, blocks: Sequence[int]) -> int:
        """How many of these blocks' places nobody needs now."""
        places = set(self.where[blocks].tolist()) if blocks else set()
        return sum(1 for place in places if place >= 0 and not self._pins[place])

    # -- what is stored -------------------------------------------------------------------------------------------

    def adopt(self, block: int) -> None:
        """A sequence writes on in a block whose tokens are all there."""
        assert self.alone(block)
        self._filled[block] = self._size

    def copy(self, source: int, target: int, count: int) -> None:
        """Give `target` a place, as of `place`, with the first `count` tokens of `source` before the next step."""
        before = int(self.where[source])
        if before in self._kept:
            self._kept.move_to_end(before)
        self.place([target])
        if before >= 0:
            self._tails.note(before * self._size, int(self.where[target]) * self._size, count)

    def flush(self) -> None:
        """Copy what was asked for."""
        self._tails.copy()

    def slots(self, blocks: Sequence[int]) -> list[int]:
        """All slots of these places."""
        return [place * self._size + offset for place in blocks for offset in range(self._size)]

    def free_places(self) -> list[int]:
        """Places of no block."""
        found: list[int] = np.flatnonzero(self.allocator.refs == 0).tolist()
        return found

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Inside, every block has a place, some of them the same: for steps of which only time and memory count."""
        before = self.where.copy()
        self.where[:] = np.arange(len(self.where)) % self.count
        yield
        self.where[:] = before

    def check_integrity(self, pins: dict[int, int]) -> None:
        """Assert what holds between any two calls, given how many running sequences need each block's place."""
        self.allocator.check_integrity()
        found = [0] * self.count
        for block, times in pins.items():
            assert self.where[block] >= 0, "a sequence needs a block that is gone"
            found[int(self.where[block])] += times
        assert found == self._pins
        assert self._pinned == sum(1 for times in found if times)
        for block, place in enumerate(self.where.tolist()):
            assert place < 0 or block in self._owners[place]
        for place, owners in enumerate(self._owners):
            assert bool(owners) == bool(self.allocator.refs[place])
            assert all(self.where[owner] == place for owner in owners)
            waits = (place in self._passed) + (place in self._kept)
            assert waits == (bool(owners) and not self._pins[place])
            assert place not in self._passed or not self._keep[place]
