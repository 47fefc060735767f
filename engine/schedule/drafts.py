"""Room for drafts in a step: spare rows, and spare blocks that are lent until the next step."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Many

from engine.cache.blocks import BlockAllocator
from engine.schedule.sequence import Sequence, State

# From decoding sequences and a number of tokens in all: the tokens to try behind the last one of each.
Drafter = Callable[[list[Sequence], int], Mapping[Sequence, Many[int]]]


class Drafts:
    """Asks for drafts and makes room for them. A scheduler has one."""

    def __init__(
        self,
        allocator: BlockAllocator,
        block_size: int,
        longest: int,
        drafter: Drafter,
        make_room: Callable[[int], bool],
        shorten: Callable[[Sequence, int], None],
    ) -> None:
        """
        Args:
            allocator: of the blocks.
            block_size: tokens.
            longest: tokens per sequence and step; 0: no drafts.
            drafter: proposes tokens.
            make_room: frees blocks by evicting unpinned ones if needed; returns whether that many are free.
            shorten: takes from a sequence all but so many blocks.
        """
        self._allocator = allocator
        self._size = block_size
        self._longest = longest
        self._drafter = drafter
        self._make_room = make_room
        self._shorten = shorten
        self._borrowers: list[Sequence] = []

    def plan(
        self, running: Iterable[Sequence], budget: int, shares: Mapping[Sequence, int]
    ) -> dict[Sequence, Many[int]]:
        """Drafts of at most `budget` tokens in all, with room in the tables of their sequences.

        Args:
            running: sequences, of which those that decode get drafts.
            budget: tokens.
            shares: how many tokens sequences compute of which more than the last one is missing. Those with a recurrent
                state decode, too, when these are all: they compute again what was drafted.
        """
        if not self._longest or budget < 1:
            return {}

        def decodes(sequence: Sequence) -> bool:
            missing = len(sequence.tokens) - sequence.computed
            return missing == 1 or (sequence.slot >= 0 and missing == shares.get(sequence))

        decoding = [s for s in running if s.generated and s.draftable and decodes(s)]
        drafts: dict[Sequence, Many[int]] = {}
        for sequence, tokens in self._drafter(decoding, budget).items() if decoding else ():
            count = min(len(tokens), budget, self._longest, sequence.remaining - 1)
            count = min(count, self._lend(sequence, count))
            if count > 0:
                drafts[sequence] = tokens[:count]
                budget -= count
        return drafts

    def take_back(self) -> None:
        """Free the blocks that drafts did not fill. A sequence keeps the block of its next token, like sequences
        without drafts.
        """
        for sequence in self._borrowers:
            needed = len(sequence.tokens) // self._size + 1
            if sequence.state is State.RUNNING and len(sequence.table) > needed:
                self._shorten(sequence, needed)
        self._borrowers.clear()

    def _lend(self, sequence: Sequence, count: int) -> int:
        """Tokens for which there is room behind the sequence's last one: `count` at least, where blocks can be had."""
        room = len(sequence.table) * self._size - len(sequence.tokens)
        blocks = -(-(count - room) // self._size)
        if blocks > 0 and self._make_room(blocks):
            behind = self._allocator.follow(sequence.table[-1], blocks)
            sequence.table.extend(behind or self._allocator.allocate(blocks))
            self._borrowers.append(sequence)
            room += blocks * self._size
        return room
