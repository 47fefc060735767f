"""Entries that stand for several tokens: what a step's rows close, and which they see.

Layers of DeepSeek V4 attend to a window, and behind it to one entry for every 4 or 128 tokens, which a compressor makes
of numbers that these tokens left (`engine.model.compressors`). Such numbers are kept as long as the window is, in slots
of the same places. An entry is stored for good where its last token is: a cache of all tokens has one slot for every
`stride` of them, in which at most one entry ends. So what a sequence may go on from, copies of a block's first tokens,
preemption and guesses are those of the blocks, and nothing has a state.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.model.memory import zeros
from kernels.sparse_attention.reference import Score, Texts, attend_chosen, choose

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Key = tuple[int, str]  # of a compressor's part: its number among those of a model, and `compressor` or `indexer`


class Rate(NamedTuple):
    """How tokens make entries."""

    size: int  # tokens from one entry to the next
    read: int  # tokens that one is made of, a multiple of `size`: the last ones up to its own last

    def stride(self, block_size: int) -> int:
        """Tokens of a cache for which there is a slot."""
        return math.gcd(self.size, block_size)


class PartShape(NamedTuple):
    """What a part of a compressor keeps."""

    key: Key
    rate: Rate
    numbers: int  # of a token, as long as its window is kept: two of each
    dim: int  # numbers of an entry
    dtypes: tuple[torch.dtype, torch.dtype]  # of both

    @property
    def token_bytes(self) -> int:
        """Of a token in the window."""
        return 2 * self.numbers * self.dtypes[0].itemsize

    @property
    def entry_bytes(self) -> int:
        """Of an entry."""
        return self.dim * self.dtypes[1].itemsize


class Rows(NamedTuple):
    """A text's rows in a batch, and where its tokens are."""

    first: int
    new: int
    length: int  # tokens, those of the rows included
    table: Numbers  # blocks of the cache of all tokens
    kept: Numbers  # the same blocks' places in the cache that what tokens leave is kept in


class Closed(NamedTuple):
    """What a step's rows close and see of the entries of one rate."""

    read: Tensor  # [closed, tokens] int64, where the numbers are that an entry is made of; -1: before its text
    firsts: Tensor  # [closed] int64, positions of the entries' own first tokens
    entries: Tensor  # [closed] int64, where they go
    texts: tuple[Texts, ...]  # that have entries, as if these were their tokens; rows before the first are at -1

    @classmethod
    def of(cls, rate: Rate, rows: Sequence[Rows], block_size: int, device: torch.device) -> "Closed":
        """Of all texts of a step, in blocks of so many tokens."""
        stride = rate.stride(block_size)
        read, firsts, entries = [], [], []
        groups: dict[int, list[tuple[Rows, Numbers]]] = {}  # by rows of each
        for text in rows:
            ends = np.arange(rate.size - 1, text.length, rate.size)
            if not len(ends):
                continue
            places = _slots(text.table, ends, block_size) // stride
            groups.setdefault(text.new, []).append((text, places))
            begin = (text.length - text.new) // rate.size
            own = ends[begin:, None] + np.arange(1 - rate.read, 1)
            read.append(np.where(own < 0, -1, _slots(text.kept, np.maximum(own, 0), block_size)))
            firsts.append(ends[begin:] + 1 - rate.size)
            entries.append(places[begin:])
        texts = tuple(_texts(rate, new, members, device) for new, members in groups.items())
        numbers = _joined(read, (0, rate.read), device)
        return cls(numbers, _joined(firsts, (0,), device), _joined(entries, (0,), device), texts)


def _joined(parts: Sequence[Numbers], empty: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(empty, np.int64)).to(device)


def _slots(table: Numbers, positions: Numbers, block_size: int) -> Numbers:
    found: Numbers = table[positions // block_size] * block_size + positions % block_size
    return found


def _texts(rate: Rate, new: int, members: Sequence[tuple[Rows, Numbers]], device: torch.device) -> Texts:
    """Texts with `new` rows each, and where their entries are."""
    width = max(len(places) for _, places in members)
    slots = np.stack([np.pad(places, (0, width - len(places))) for _, places in members])
    steps = np.arange(new)
    firsts = np.array([[text.first, text.length - new] for text, _ in members])
    rows, positions = firsts[:, :1] + steps, firsts[:, 1:] + steps
    made = [torch.from_numpy(each).to(device) for each in (rows, (positions + 1) // rate.size - 1, slots)]
    return Texts(made[0], made[1], made[2], 1)


class Behind(NamedTuple):
    """The entries that a layer's rows see behind their windows."""

    entries: Tensor  # [slots, dim]
    texts: tuple[Texts, ...]
    chosen: tuple[Tensor, ...]  # of each of `texts`, `[texts, new, most]` int64

    def join(self, query: Tensor, output: Tensor, lse: Tensor, score: Score) -> None:
        """Let rows attend to their entries, too, in the same softmax.

        Args:
            query: `[rows, heads, dim]`.
            output: `[rows, heads, dim]` over all else, changed in place.
            lse: `[rows, heads]`, its log-sum-exp, sinks counted.
            score: of the layer; sinks are not counted again.
        """
        keys, plain = self.entries[None], (score[0], score[1], None)
        for texts, chosen in zip(self.texts, self.chosen, strict=True):
            found, level = attend_chosen(query, keys, keys, texts, chosen, plain)
            before, own = output[texts.rows], lse[texts.rows].float()
            share = torch.sigmoid(level - own).masked_fill_(texts.positions[..., None] < 0, 0.0)[..., None]
            joined = before.float() * (1 - share) + found.float().masked_fill_(share == 0, 0.0) * share
            output[texts.rows] = joined.to(output.dtype)


@dataclass(frozen=True)
class StepEntries:
    """The compressors of one step."""

    slots: Tensor  # [rows] int64, where what is kept of each row goes
    closed: Callable[[Rate], Closed]
    numbers: dict[Key, Tensor] = field(default_factory=dict)  # [slots, 2, numbers], of tokens; made for what is missing
    entries: dict[Key, Tensor] = field(default_factory=dict)  # [slots, dim]
    rates: dict[Key, Rate] = field(default_factory=dict)  # of those that were asked for

    def close(self, key: Key, rate: Rate, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the numbers of all rows, `[1, rows, numbers]` twice; return those that entries are made of now, `[1,
        entries * rate.read, numbers]` twice, and what is to be added to the positions of windows that follow one
        another from 0 on. The second are `-inf` before a text.
        """
        self.rates[key] = rate
        new, closed = torch.stack([each[0] for each in pair], dim=1), self.closed(rate)
        if key not in self.numbers:
            self.numbers[key] = torch.zeros_like(new)
        kept = self.numbers[key]
        kept.index_copy_(0, self.slots, new.to(kept.dtype))
        read = kept[closed.read.clamp(min=0)].flatten(0, 1)
        before = (closed.read < 0).view(-1, 1)
        values, weights = read[:, 0].masked_fill(before, 0.0), read[:, 1].masked_fill(before, -torch.inf)
        windows = rate.read // rate.size
        back = torch.arange(1 - windows, 1, device=new.device) * rate.size
        firsts = (closed.firsts[:, None] + back).view(-1)
        return values[None], weights[None], firsts - torch.arange(len(firsts), device=new.device) * rate.size

    def keep(self, key: Key, made: Tensor) -> None:
        """Store entries, `[1, windows, dim]`, those of the last of every entry's windows."""
        rate = self.rates[key]
        windows = rate.read // rate.size
        new, places = made[0, windows - 1 :: windows], self.closed(rate).entries
        if key not in self.entries:
            self.entries[key] = new.new_zeros(len(self.slots), new.shape[1])
        kept = self.entries[key]
        kept.index_copy_(0, places, new.to(kept.dtype))

    def choose(self, key: Key, query: Tensor, weights: Tensor, scale: float, most: int) -> tuple[Tensor, ...]:
        """Which `most` entries of this part each row sees, see `Behind`; `[rows, heads, dim]`, `[rows, heads]`."""
        keys, texts = self.entries[key], self.closed(self.rates[key]).texts
        return tuple(
            choose(query, weights, keys, each, most, scale) if each.length > most else everything(each)
            for each in texts
        )

    def behind(self, key: Key, chosen: tuple[Tensor, ...] | None) -> Behind:
        """The entries of a part that rows see, all where none are chosen."""
        texts = self.closed(self.rates[key]).texts
        return Behind(self.entries[key], texts, chosen or tuple(everything(each) for each in texts))

    def shapes(self) -> tuple[PartShape, ...]:
        """Of all parts that were asked for."""
        found = []
        for key, rate in self.rates.items():
            numbers, entries = self.numbers[key], self.entries[key]
            dtypes = numbers.dtype, entries.dtype
            found.append(PartShape(key, rate, numbers.shape[-1], entries.shape[-1], dtypes))
        return tuple(found)


@dataclass
class EntryPool:
    """What compressors keep, see `StepEntries`."""

    numbers: dict[Key, Tensor] = field(default_factory=dict)
    entries: dict[Key, Tensor] = field(default_factory=dict)
    strides: dict[Key, int] = field(default_factory=dict)  # tokens of the cache for each slot of `entries`

    @classmethod
    def of(cls, parts: Sequence[PartShape], slots: Sequence[int], block_size: int, device: torch.device) -> "EntryPool":
        """A pool of zeros, beside caches of so many slots: that of all tokens, then those of windows."""
        found = cls()
        for part in parts:
            key, (kept, made) = part.key, part.dtypes
            found.strides[key] = part.rate.stride(block_size)
            found.numbers[key] = zeros((slots[min(1, len(slots) - 1)], 2, part.numbers), kept, device)
            found.entries[key] = zeros((slots[0] // found.strides[key], part.dim), made, device)
        return found

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        return sum(each.nbytes for each in (*self.numbers.values(), *self.entries.values()))

    def copy(self, index: Tensor) -> None:
        """Copy the entries at slots of the cache of all tokens, `[2, tokens]`: from the first to the second."""
        for key, entries in self.entries.items():
            before, after = index // self.strides[key]
            entries.index_copy_(0, after, entries.index_select(0, before))

    def copy_numbers(self, index: Tensor) -> None:
        """Copy what entries are made of, at slots of the cache that has it."""
        for numbers in self.numbers.values():
            numbers.index_copy_(0, index[1], numbers.index_select(0, index[0]))

    def scrub(self, slots: Sequence[int], kept: Sequence[int]) -> None:
        """Zero what is at slots of both caches."""
        for key, entries in self.entries.items():
            entries[[slot // self.strides[key] for slot in slots]] = 0
            self.numbers[key][list(kept)] = 0


class HollowEntries:
    """None, in runs that only look at masks."""

    def close(self, key: Key, rate: Rate, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `StepEntries`."""
        return pair[0][:, :0], pair[1][:, :0], pair[0].new_zeros(0)

    def keep(self, key: Key, made: Tensor) -> None:
        """See `StepEntries`."""

    def choose(self, key: Key, query: Tensor, weights: Tensor, scale: float, most: int) -> tuple[Tensor, ...]:
        """See `StepEntries`."""
        return ()

    def behind(self, key: Key, chosen: tuple[Tensor, ...] | None) -> None:
        """See `StepEntries`."""


Entries = StepEntries | HollowEntries


def everything(texts: Texts) -> Tensor:
    """The choice of all entries."""
    return torch.arange(texts.length, device=texts.rows.device).expand(*texts.rows.shape, -1)
