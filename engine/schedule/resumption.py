"""Where sequences go on, for models with recurrent states: only from a snapshot, see `engine.cache.snapshots`; and with
layers that see a window alone: only where the window's blocks are there, see `engine.cache.windows`.

Snapshots are taken where prompts end (their siblings begin there), where prompts branch, and now and then in between,
at ends of blocks. A sequence that is preempted or finishes leaves its own state as a snapshot. The state of a running
sequence is always that behind its computed tokens. Windows are kept at the same places, except for those in between.
"""

from collections.abc import Container
from collections.abc import Sequence as Many
from typing import NamedTuple

from engine.cache.prefix_tree import Match
from engine.cache.snapshots import Place, Snapshots
from engine.cache.windows import WindowPool
from engine.schedule.sequence import Sequence
from engine.schedule.tree_order import common_prefix
from engine.schedule.windows import Windows


class Bounds(NamedTuple):
    """What a sequence needs beside cached blocks to go on behind them."""

    snapshots: Snapshots | None = None  # where the model has recurrent states
    windows: Many[WindowPool] = ()  # where it has layers that see a window alone


ANYWHERE = Bounds()


class Resumption:
    """The snapshots and windows of one scheduler. Every operation does nothing for a model with neither."""

    def __init__(self, bounds: Bounds, block_size: int) -> None:
        """`block_size`: tokens."""
        self.snapshots = bounds.snapshots
        self.windows = Windows(bounds.windows, block_size)
        self._size = block_size

    @property
    def keeps(self) -> bool:
        """Whether there are states."""
        return self.snapshots is not None

    @property
    def anywhere(self) -> bool:
        """Whether sequences go on behind any cached token."""
        return self.snapshots is None and not self.windows

    @property
    def full(self) -> bool:
        """Whether no further sequence can run."""
        return self.snapshots is not None and not self.snapshots.available

    def within(self, sequence: Sequence, match: Match, limit: int) -> Match:
        """The part of a match from whose end a sequence can go on. Where a cached prefix goes further, but not to
        `limit`, prompts branch: the sequence will leave a snapshot there.
        """
        if self.anywhere:
            return match
        size = self._size
        blocks = match.blocks if match.source < 0 else [*match.blocks, match.source]
        known = len(match.blocks) * size + match.copied
        if self.snapshots is None:
            at = self.windows.deepest(blocks, known)
        else:
            at = self.snapshots.deepest(blocks, size, known, lambda length: self.windows.covers(blocks, length))
        branch = known // size * size
        sequence.marks = [branch] if at < branch and known < limit else []
        sequence.marked = at
        whole, rest = divmod(at, size)
        if not rest:
            return Match(blocks[:whole])
        return Match(
            blocks[:whole], blocks[whole], rest, match.all and at == known and self.windows.alone(blocks[whole])
        )

    def begin(self, sequence: Sequence, match: Match, adopts: bool) -> None:
        """Give a sequence that starts behind `match` its state and its places. `adopts`: see `Windows.begin`."""
        self.windows.begin(sequence, match, adopts)
        if self.snapshots is None:
            return
        place: Place | None = None
        if match.source >= 0:
            place = match.source, match.copied
        elif match.blocks:
            place = match.blocks[-1], self._size
        sequence.slot = self.snapshots.begin(place)

    def mark(self, other: Sequence, sequence: Sequence) -> None:
        """Have `other` leave a snapshot where the prompt of `sequence` branches off."""
        if self.anywhere:
            return
        mine, theirs = (each.request.chain(self._size)[:-1] for each in (sequence, other))
        branch = common_prefix(mine, theirs) * self._size
        if branch > other.computed and branch not in other.marks:
            other.marks.append(branch)

    def cut(self, sequence: Sequence, new: int) -> int:
        """How many of the next `new` tokens to compute at once: up to a mark, or to the end of a block."""
        if self.snapshots is None:
            return new
        begin = sequence.computed
        end = begin + new
        if end < len(sequence.tokens) and end // self._size * self._size > begin:
            end = end // self._size * self._size
        return min((mark for mark in sequence.marks if begin < mark < end), default=end) - begin

    def keep(self, sequence: Sequence, before: int) -> None:
        """Keep the windows of a prompt that was computed from `before` on: where it ends, and where others branch."""
        for mark in sequence.marks:
            if before < mark <= sequence.computed:
                self.windows.keep(sequence, mark)
        if not sequence.prefilling:
            self.windows.keep(sequence, sequence.computed)

    def advance(self, sequence: Sequence, block: int) -> None:
        """Leave a snapshot if this is a place for one: the computed tokens are cached, the last of them in `block`."""
        if self.snapshots is None:
            return
        at = sequence.computed
        due = at - sequence.marked >= self.snapshots.spacing and at % self._size == 0
        if due or at in sequence.marks or not sequence.prefilling:
            self.snapshots.take(sequence.slot, self._place(block, at))
            self.windows.keep(sequence, at)
            sequence.marked = at

    def end(self, sequence: Sequence, block: int = -1) -> None:
        """Take a sequence's state; it becomes a snapshot if its computed tokens are cached, the last in `block`. Its
        window is kept then.
        """
        kept = block >= 0 and sequence.computed > 0
        if kept:
            self.windows.keep(sequence, sequence.computed)
            if sequence.request.n > 1:  # its siblings are likelier to come than somebody who goes on here
                self.windows.keep(sequence, sequence.prompt_length)
        self.windows.end(sequence)
        sequence.marks = []
        if self.snapshots is None:
            return
        self.snapshots.end(sequence.slot, self._place(block, sequence.computed) if kept else None)
        sequence.slot = -1

    def flush(self) -> None:
        """Make the copies of states that were asked for, before a step is computed."""
        if self.snapshots is not None:
            self.snapshots.flush()

    def check_integrity(self, running: Many[Sequence], cached: Container[int]) -> None:
        """Assert what holds between any two calls, given the blocks that the tree has."""
        self.windows.check_integrity(running)
        if self.snapshots is not None:
            self.snapshots.check_integrity([sequence.slot for sequence in running])
            assert all(block in cached for block in self.snapshots.blocks())

    def _place(self, block: int, at: int) -> Place:
        return block, at - (at - 1) // self._size * self._size
