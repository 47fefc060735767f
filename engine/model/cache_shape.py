"""What a token leaves in the cache, and how memory is split between layers that keep all tokens and those that keep a
window's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.model.entries import PartShape
from kernels.tree_attention.reach import Reach

TYPICAL = 4096  # tokens of a sequence, where sizes are chosen for as many as fit; or, with long windows and contexts:
WINDOWS, CONTEXTS = 2, 8  # two windows, or an eighth of the longest text, whichever is less
LONGER = 32  # blocks of sequences for each place, where no layer keeps all tokens: then those take no memory
SPARE = 8  # for so many places of running sequences there is one for prompts to go on from


class CacheSize(NamedTuple):
    """Blocks of a cache."""

    blocks: int  # of all tokens
    windows: tuple[int, ...] = ()  # of each kind of layers that see a window alone


@dataclass(frozen=True)
class CacheShape:
    """Size of what one token leaves in the cache."""

    layers: int
    kv_heads: int
    head_dim: int
    item_bytes: int  # of one number
    heads: int  # query heads
    shared: int = 0  # numbers of a key, the first, that are its value, too; 0: values are apart
    state_bytes: int = 0  # of one text's recurrent state in all layers
    index_bytes: int = 0  # of one token's keys of all indexers
    windows: tuple[tuple[Reach, int], ...] = ()  # what layers see that keep a window alone, and how many these are
    # Of compressors, see `engine.model.entries`: what they keep of tokens is with the first of these, if there are any.
    parts: tuple[PartShape, ...] = ()

    @property
    def layer_bytes(self) -> int:
        """Keys and values of one token in one layer."""
        return self.planes * self.kv_heads * self.head_dim * self.item_bytes

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        entries = sum(-(-part.entry_bytes // part.rate.size) for part in self.parts)
        return self._most_bytes + entries

    @property
    def _most_bytes(self) -> int:
        kept = sum(part.token_bytes for part in self.parts)
        return max(1, self.layers) * self.layer_bytes + self.index_bytes + kept

    def block_bytes(self, block_size: int) -> int:
        """The same of a block of tokens in layers that keep all tokens, with the entries that stand for several."""
        entries = sum(part.entry_bytes * (block_size // part.rate.stride(block_size)) for part in self.parts)
        return (self._most_bytes - sum(self.window_bytes)) * block_size + entries

    @property
    def window_bytes(self) -> list[int]:
        """The same of a token in each kind of layers that keep a window alone."""
        found = [layers * self.layer_bytes for _, layers in self.windows]
        found[:1] = [each + sum(part.token_bytes for part in self.parts) for each in found[:1]]
        return found

    @property
    def planes(self) -> int:
        """Keys and values; or 1, where they share numbers."""
        return 1 if self.shared else 2

    def memory(self, size: CacheSize, block_size: int) -> int:
        """Bytes of a cache."""
        windows = sum(count * each for count, each in zip(size.windows, self.window_bytes, strict=True))
        return size.blocks * self.block_bytes(block_size) + windows * block_size

    def places(self, blocks: int, needs: "Needs", given: Sequence[int] = ()) -> tuple[int, ...]:
        """Blocks of each window in a cache of `blocks` for all tokens: those that are given, or else for as many
        sequences as may run; never too few for one.
        """
        found = given or [needs.places(reach, needs.rows) for reach, _ in self.windows]
        least = [needs.of_row(reach) + 1 for reach, _ in self.windows]
        return tuple(min(blocks, max(each, few)) for each, few in zip(found, least, strict=True))

    def fitting(self, memory: int, needs: "Needs", most: int) -> CacheSize:
        """The cache that fills `memory` bytes, of `most` blocks: with windows for as many sequences as have room when
        each is as long as is `TYPICAL`, and all else for the layers that keep all tokens.
        """
        size = needs.block_size
        full = self.block_bytes(size)
        plain = min(most, memory // (full + sum(self.window_bytes) * size))
        windows = [(reach, each * size) for (reach, _), each in zip(self.windows, self.window_bytes, strict=True)]
        span = max((reach.span for reach, _ in windows), default=0)
        typical = max(TYPICAL, min(WINDOWS * span, needs.longest // CONTEXTS))
        row = typical * full // size
        row += sum(min(needs.of_row(reach), typical // size) * each for reach, each in windows)
        rows = min(needs.rows, memory // row)
        found = self.places(most, needs, [needs.places(reach, rows) for reach, _ in windows])
        left = memory - sum(count * each for count, (_, each) in zip(found, windows, strict=True))
        blocks = min(most, left // full if full else LONGER * max(found, default=0))
        if not windows or blocks < max(found):  # short texts alone fit: windows save nothing
            return CacheSize(plain, (plain,) * len(windows))
        left -= blocks * full
        grown = []
        for count, (_, each) in zip(found, windows, strict=True):
            more = min(blocks - count, left // each)
            grown.append(count + more)
            left -= more * each
        return CacheSize(blocks, tuple(grown))


class Needs(NamedTuple):
    """What sequences need of a cache."""

    rows: int  # sequences at most
    chunk: int  # prompt tokens that a step computes
    block_size: int  # tokens
    longest: int  # tokens of a sequence

    def of_row(self, reach: Reach) -> int:
        """Blocks of layers with this reach that one sequence needs, its next token's included."""
        return -(-reach.span // self.block_size) + 2

    def places(self, reach: Reach, rows: int) -> int:
        """The same for so many sequences, with a chunk of a prompt, and what is left for prompts to go on from."""
        return rows * self.of_row(reach) * (SPARE + 1) // SPARE + -(-self.chunk // self.block_size) + 1
