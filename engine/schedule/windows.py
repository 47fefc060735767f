"""What running sequences need of layers that see a window alone, see `engine.cache.windows`.

A sequence needs the places of the blocks from the first that its next token sees to the last that it computes:
`table[low:placed]`, with a `low` for each pool. What is computed moves both on, and never back: a guess that is taken
back was computed behind the last token that is known.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from contextlib import ExitStack, contextmanager

import numpy as np

from engine.cache.prefix_tree import Match
from engine.cache.windows import KEPT, WindowPool
from engine.schedule.forecast import Forecast
from engine.schedule.sequence import Sequence


class Windows:
    """The pools of one scheduler. Every operation does nothing where there are none."""

    def __init__(self, pools: Many[WindowPool], block_size: int) -> None:
        """`block_size`: tokens."""
        self.pools = tuple(pools)
        self._size = block_size

    def __bool__(self) -> bool:
        return bool(self.pools)

    # -- where sequences begin ------------------------------------------------------------------------------------

    def covers(self, blocks: Many[int], length: int) -> bool:
        """Whether a sequence can go on behind the first `length` tokens in `blocks`."""
        return all(pool.covers(blocks, length) for pool in self.pools)

    def deepest(self, blocks: Many[int], length: int) -> int:
        """Behind how many of the first `length` tokens in `blocks` a sequence can go on: all, or whole blocks."""
        if self.covers(blocks, length):
            return length
        whole = blocks[: length // self._size]
        fits = np.logical_and.reduce([pool.whole(whole) for pool in self.pools])
        return int(np.flatnonzero(fits)[-1]) * self._size

    def alone(self, block: int) -> bool:
        """Whether a sequence may write on in a block."""
        return all(pool.alone(block) for pool in self.pools)

    def admits(
        self, sequence: Sequence, match: Match, chunk: int, computing: Many[Sequence], forecast: Forecast
    ) -> bool:
        """Whether there are places for a sequence that goes on behind `match` and computes `chunk` tokens at once, and
        for what those that run will need: to compute their prompts, and beyond by the `forecast`.
        """
        held = [*match.blocks, match.source] if match.source >= 0 else match.blocks
        computed = len(match.blocks) * self._size + match.copied
        for pool in self.pools:
            span = -(-pool.reach.span // self._size) + 1
            coming = pool.unpinned(held[pool.first(computed) :]) + (len(sequence.tokens) - computed) // self._size + 2
            needed = min(coming, span + chunk // self._size + 1)
            for other in computing:
                kept = other.placed - min(other.lows, default=0)
                needed += max(0, min(len(other.table) - other.placed, span - kept))
            if needed + forecast.within(sequence, span) > pool.available - pool.count // KEPT:
                return False
        return True

    def begin(self, sequence: Sequence, match: Match, adopts: bool) -> None:
        """Give a sequence that starts behind `match` its places. `adopts`: it writes on in the match's last block,
        else that is copied.
        """
        index, table = len(match.blocks), sequence.table
        sequence.placed = index + (match.source >= 0)
        sequence.lows = [min(pool.first(sequence.computed), index) for pool in self.pools]
        for pool, low in zip(self.pools, sequence.lows, strict=True):
            pool.pin(table[low : index + adopts])
            if adopts:
                pool.adopt(table[index])
            elif match.source >= 0:
                pool.copy(match.source, table[index], match.copied)
        if self.lacks(sequence):
            self.extend(sequence, sequence.computed + 1)

    def flush(self) -> None:
        """Copy what sequences that started share in part."""
        for pool in self.pools:
            pool.flush()

    # -- while they run -------------------------------------------------------------------------------------------

    def move_on(self, sequence: Sequence, position: int) -> None:
        """Nothing before what the token at `position` sees is needed by this sequence any more."""
        for at, pool in enumerate(self.pools):
            low, first = sequence.lows[at], min(pool.first(position), sequence.placed)
            if first > low:
                pool.unpin(sequence.table[low:first])
                sequence.lows[at] = first

    def lacks(self, sequence: Sequence) -> bool:
        """Whether its next token has no place."""
        return bool(self.pools) and sequence.computed >= sequence.placed * self._size

    @property
    def available(self) -> int:
        """Blocks that can be placed in each pool."""
        return min((pool.available for pool in self.pools), default=0)

    def room(self, sequence: Sequence) -> int:
        """Tokens behind those that are computed which can have a place, as many as have one at least."""
        spare = max(0, min((pool.spare for pool in self.pools), default=0))
        return (sequence.placed + spare) * self._size - sequence.computed

    def extend(self, sequence: Sequence, end: int) -> None:
        """Give places to a sequence's blocks of its first `end` tokens."""
        first, last = sequence.placed, -(-end // self._size)
        if last > first and self.pools:
            for pool in self.pools:
                pool.place(sequence.table[first:last], sequence.table[first - 1] if first else -1)
            sequence.placed = last

    def extend_all(self, sequences: Many[Sequence]) -> None:
        """Give a place to the next block of each sequence."""
        for pool in self.pools:
            pool.place([sequence.table[sequence.placed] for sequence in sequences])
        for sequence in sequences if self.pools else ():
            sequence.placed += 1

    def fitted(self, sequence: Sequence, new: int, draft: Many[int]) -> tuple[int, Many[int]]:
        """As many of a sequence's next tokens, and of those drafted behind them, as can have a place; they get it."""
        if not self.pools:
            return new, draft
        room = self.room(sequence)
        new, draft = (new, draft[: room - new]) if new <= room else (room, ())
        self.extend(sequence, sequence.computed + new + len(draft))
        return new, draft

    def shorten(self, sequence: Sequence, blocks: int) -> None:
        """The sequence gives up what is behind its first `blocks` blocks."""
        for pool in self.pools:
            pool.unpin(sequence.table[blocks : sequence.placed])
        sequence.placed = min(sequence.placed, blocks)

    # -- what they leave ------------------------------------------------------------------------------------------

    def since(self, sequence: Sequence) -> int | None:
        """The first block that a sequence needs; `None` where there are no pools."""
        return min(sequence.lows, default=None)

    def lend(self, sequence: Sequence, blocks: Many[int], count: int) -> None:
        """Let the tree's blocks have the places of a sequence's, whose first `count` tokens are theirs, too.

        Args:
            sequence: that runs.
            blocks: of the tree, the last of these tokens.
            count: tokens.
        """
        last = -(-count // self._size)
        first = last - len(blocks)
        own = sequence.table[first:last] if self.pools else ()
        for index, (source, target) in enumerate(zip(own, blocks, strict=False), start=first):
            if source != target:
                for pool in self.pools:
                    pool.lend(source, target, min(self._size, count - index * self._size))

    def keep(self, sequence: Sequence, position: int) -> None:
        """Prompts may go on behind a sequence's first `position` tokens, or its last whole block of them."""
        whole = position // self._size
        for pool in self.pools:
            pool.keep(sequence.table[min(pool.first(whole * self._size), whole) : -(-position // self._size)])

    def end(self, sequence: Sequence) -> None:
        """Give up a sequence's places."""
        for pool, low in zip(self.pools, sequence.lows, strict=True):
            pool.unpin(sequence.table[low : sequence.placed])
        sequence.lows, sequence.placed = [], 0

    # -- all of them ----------------------------------------------------------------------------------------------

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """See `WindowPool.everywhere`."""
        with ExitStack() as stack:
            for pool in self.pools:
                stack.enter_context(pool.everywhere())
            yield

    def check_integrity(self, running: Many[Sequence]) -> None:
        """Assert what holds between any two calls."""
        for at, pool in enumerate(self.pools):
            pins: dict[int, int] = {}
            for sequence in running:
                low = sequence.lows[at]
                assert low <= sequence.placed <= len(sequence.table)
                assert low <= pool.first(sequence.computed) or low == sequence.placed
                for block in sequence.table[low : sequence.placed]:
                    pins[block] = pins.get(block, 0) + 1
            pool.check_integrity(pins)
