"""Slots of recurrent states: those of running sequences, and snapshots at the ends of cached prefixes.

A recurrent layer's state says nothing about shorter prefixes, so a prompt that matches a cached prefix can go on only
from where a snapshot was taken. A snapshot belongs to a block of the prefix tree and a number of its tokens: the block
stands for everything before it. It is forgotten with its block, or when its slot is needed, least recently used first.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

Place = tuple[int, int]  # a block, and how many of its tokens

CopyStates = Callable[[list[int], list[int]], None]  # source and target slots


class Snapshots:
    """`count` slots, each free, of a running sequence, or a snapshot. Not thread-safe: only the engine's thread calls
    it.
    """

    def __init__(self, count: int, copy: CopyStates, spacing: int = 1) -> None:
        """
        Args:
            count: slots, at least two; an eighth of them, but one at least, is left to snapshots.
            copy: copies the states of slots; all are read before one is written.
            spacing: least tokens between two snapshots of one prompt, its end left out.
        """
        self.count = count
        self.spacing = spacing
        self.taken = 0  # snapshots, since the start
        self._running = 0
        self._most = count - max(1, count // 8)  # that run at once
        self._copy = copy
        self._copies: dict[int, int] = {}  # yet to be made: target to source
        self._free = list(range(count - 1, -1, -1))
        self._slots: OrderedDict[Place, int] = OrderedDict()  # of snapshots, least recently used first
        self._places: dict[int, list[int]] = {}  # of each block, the numbers of tokens with a snapshot

    def __len__(self) -> int:
        """Snapshots that there are now."""
        return len(self._slots)

    @property
    def available(self) -> bool:
        """Whether another sequence may start."""
        return self._running < self._most

    def deepest(
        self, blocks: Sequence[int], size: int, limit: int, fits: Callable[[int], bool] = lambda length: True
    ) -> int:
        """How many of the first `limit` tokens in `blocks`, of `size` tokens each, lie before their last snapshot of
        those that fit.
        """
        for index in range(min(len(blocks), -(-limit // size)) - 1, -1, -1):
            counts = [count for count in self._places.get(blocks[index], ()) if index * size + count <= limit]
            for count in sorted(counts, reverse=True):
                if fits(index * size + count):
                    return index * size + count
        return 0

    def begin(self, place: Place | None) -> int:
        """A slot for a sequence that starts, with the state of a snapshot; `None`: of an empty prefix, which is not
        stored.
        """
        assert self.available
        self._running += 1
        if place is None:
            return self._take()
        self._slots.move_to_end(place)
        source, target = self._slots[place], self._take()  # there are two free ones or snapshots at least
        self._copy_later(source, target)
        return target

    def take(self, slot: int, place: Place) -> None:
        """Keep a copy of a running sequence's state."""
        if place in self._slots:
            self._slots.move_to_end(place)
        else:
            target = self._take()
            self._copy_later(slot, target)
            self._keep(target, place)

    def end(self, slot: int, place: Place | None = None) -> None:
        """Give back a sequence's slot, or let it be the snapshot at `place`."""
        self._running -= 1
        self._put(slot, place)

    def forget(self, blocks: Sequence[int]) -> None:
        """Forget the snapshots of blocks that the tree no longer has."""
        for block in blocks:
            for count in list(self._places.get(block, ())):
                self._free.append(self._forget((block, count)))

    def move(self, source: int, target: int) -> None:
        """The tree has block `target` in place of `source` now, which holds the same tokens and more."""
        if source == target:
            return
        for count in list(self._places.get(source, ())):
            slot = self._forget((source, count))
            self._put(slot, (target, count))

    def check_integrity(self, running: Sequence[int]) -> None:
        """Assert what holds between any two calls, given the slots of running sequences."""
        assert sorted([*self._free, *self._slots.values(), *running]) == list(range(self.count))
        places = {(block, count) for block, counts in self._places.items() for count in counts}
        assert places == set(self._slots)
        assert self._running == len(running) <= self._most
        assert all(self._places.values())

    def blocks(self) -> set[int]:
        """Blocks with a snapshot."""
        return set(self._places)

    def flush(self) -> None:
        """Make the copies that were asked for: before states are read or written by others."""
        if self._copies:
            self._copy(list(self._copies.values()), list(self._copies))
            self._copies = {}

    def _copy_later(self, source: int, target: int) -> None:
        if source in self._copies or target in self._copies:
            self.flush()
        self._copies[target] = source

    def _put(self, slot: int, place: Place | None) -> None:
        if place is None or place in self._slots:
            self._free.append(slot)
        else:
            self._keep(slot, place)

    def _take(self) -> int:
        return self._free.pop() if self._free else self._forget(next(iter(self._slots)))

    def _keep(self, slot: int, place: Place) -> None:
        self._slots[place] = slot
        self._places.setdefault(place[0], []).append(place[1])
        self.taken += 1

    def _forget(self, place: Place) -> int:
        block, count = place
        self._places[block].remove(count)
        if not self._places[block]:
            del self._places[block]
        return self._slots.pop(place)
