"""The launches of a step: a work list as torch runs it.

Torch has no kernel for a list of items, and each call costs as much as hundreds of tokens. So items with the same
number of rows are computed together: in place if their tokens begin at a fixed distance from each other (a strip),
otherwise gathered and padded. A node that is long or the only one of its kind is a separate launch. Results go straight
to where they are merged: a row's first result to level 0, its second to level 1, and so on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.tree_attention.items import Item
from kernels.tree_attention.reach import Floors

# Gathered launches are split where padding to the longest would cost more than another launch.
TAIL_PADDING = 1024  # tokens of padding per launch, for items of one row
TAIL_LIMIT = 512  # tokens; a longer lone tail whose blocks are neighbours is read in place rather than gathered
NODE_LIMIT = 256  # tokens; the same for items of several rows
GATHERED = 1 << 16  # tokens per launch, to limit memory
FEW_ROWS = 16  # up to this many new rows of a sequence are computed together with its earlier tokens
STRIP_GAP = 3  # zones in a row without an item that a strip reads rather than ending
STRIP_WASTE = 3  # a strip may read this many times its useful tokens: a gather moves each token three times


@dataclass(frozen=True, eq=False)
class NodeLaunch:
    """One item on its own: all its rows against keys that are a slice of the cache, or a gathered copy of it."""

    rows: slice
    keys: slice | Tensor  # slots: a slice where blocks are neighbours, otherwise `[keys]` int64
    causal: bool
    place: slice  # of the results, see `Launches`
    bias: Tensor | None = None  # [1, 1, rows, keys] float32: 0 or -inf, where rows see different keys; `causal` counted


@dataclass(frozen=True, eq=False)
class TailLaunch:
    """Many items of `count` rows each at once, gathered by block and padded to the longest of this launch."""

    rows: slice | Tensor  # [items * count] int64
    count: int
    blocks: Tensor  # [items * width] int64, padded with block 0
    bias: Tensor  # [1, items, 1 or count, width * block_size] float32: 0 where a key counts, -inf elsewhere
    width: int  # blocks per item
    place: slice | Tensor  # of the results, [items * count] int64, see `Launches`


@dataclass(frozen=True, eq=False)
class StripLaunch:
    """Many items of `count` rows each at once, read in place: their tokens begin at slots that are a fixed stride
    apart. Places without an item repeat another's rows, and their result is dropped.
    """

    rows: slice | Tensor  # [places * count] int64
    count: int
    items: int
    bias: Tensor  # [1, places, 1 or count, length] float32: 0 where a key counts, -inf elsewhere
    first: int  # slot
    stride: int  # slots
    length: int
    place: slice | Tensor  # of the results, [places * count] int64, see `Launches`


Launch = NodeLaunch | TailLaunch | StripLaunch


@dataclass(frozen=True, eq=False)
class Launches:
    """Results are merged from `[1 + levels * rows, ...]`: the first place is for what is dropped, the others are, level
    by level, each row's. A place without a launch stays empty.
    """

    launches: tuple[Launch, ...]
    levels: int  # most results of a row, at least 1
    hollow: bool  # whether a row has no key at all


@dataclass(frozen=True)
class Place:
    """Where the tokens are; fields as the arguments of `WorkList.of`."""

    block_size: int
    device: torch.device
    zone: int
    cache_blocks: int


def plan_launches(items: Sequence[Item], rows: int, place: Place, floors: Floors | None = None) -> Launches:
    """The launches of checked items with keys; arguments as of `WorkList.of`."""
    block_size, zone, cache_blocks = place.block_size, place.zone, place.cache_blocks
    joined = _join(items)
    strips = _find_strips(joined, zone, block_size, cache_blocks) if zone else []
    taken = {id(item) for strip in strips for item in strip}
    nodes: list[Item] = []
    classes: dict[tuple[int, bool], list[Item]] = {}
    for item in joined:
        if id(item) in taken:
            continue
        if _to_be_gathered(item, block_size):
            classes.setdefault((item.rows, item.causal), []).append(item)
        else:
            nodes.append(item)
    groups: list[list[Item]] = []
    for found in classes.values():
        for group in _equals(found):
            item = group[0]
            alone = len(group) == 1 and not item.causal
            if alone and (item.rows > 1 or _neighbours(item, block_size)):
                nodes.append(item)
            else:
                groups.append(sorted(group))  # by row
    # Those with most rows first: parents before children, and full levels before those with holes.
    ordered: list[tuple[int, str, list[Item]]] = [(item.rows, "node", [item]) for item in nodes]
    ordered += [(strip[0].rows, "strip", strip) for strip in strips]
    ordered += [(group[0].rows, "tail", group) for group in groups]
    ordered.sort(key=lambda each: -each[0])
    builder = _Builder(rows, place, floors)
    make: dict[str, Callable[[Sequence[Item]], Launch]]
    make = {"node": builder.node, "strip": builder.strip, "tail": builder.tail}
    launches = tuple(make[kind](group) for _, kind, group in ordered)
    return Launches(launches, max(1, *builder.filled, 1), not all(builder.filled))


def _join(items: Sequence[Item]) -> list[Item]:
    """Join a sequence's few new rows and the tokens before them into one item, unless those are many."""
    joined: list[Item] = []
    for item in items:
        last = joined[-1] if joined else None
        if item.causal and item.rows <= FEW_ROWS and last is not None and not last.causal:
            same = last.row_begin == item.row_begin and last.row_end == item.row_end and last.blocks is item.blocks
            if same and last.begin == 0 and last.end == item.begin and item.end <= TAIL_LIMIT:
                joined[-1] = item._replace(begin=0)
                continue
        joined.append(item)
    return joined


def _to_be_gathered(item: Item, block_size: int) -> bool:
    """Whether copying its tokens into a gathered launch is better than a separate launch that reads them in place."""
    if item.begin:
        return False
    if item.causal:
        return item.rows <= FEW_ROWS
    if item.rows > 1:
        return item.length <= NODE_LIMIT
    return item.length <= TAIL_LIMIT or not _neighbours(item, block_size)


def _equals(items: list[Item]) -> list[list[Item]]:
    """Items with equal numbers of rows, in groups of about the same length."""
    items.sort(key=lambda item: -item.end)
    most = TAIL_PADDING // (1 + items[0].rows // 4)
    groups: list[list[Item]] = []
    padding = 0
    for item in items:
        longest = groups[-1][0].end if groups else 0
        if not groups or padding > most or longest * len(groups[-1]) > GATHERED:
            groups.append([])
            padding, longest = 0, item.end
        groups[-1].append(item)
        padding += longest - item.end
    return groups


def _neighbours(item: Item, block_size: int) -> bool:
    """Whether the blocks of an item's tokens follow one another in the cache."""
    used = item.blocks[item.begin // block_size : -(-item.end // block_size)]
    return list(used) == list(range(used[0], used[0] + len(used)))


def _find_strips(items: Sequence[Item], zone: int, block_size: int, cache_blocks: int) -> list[list[Item]]:
    """Groups of items with equal numbers of rows, whose blocks are neighbours and begin at places `zone` blocks apart,
    in order of place.
    """
    classes: dict[tuple[int, bool, int], list[Item]] = {}
    for item in items:
        used = -(-item.end // block_size)
        start = item.blocks[0]
        inside = used <= zone <= cache_blocks - start and not (item.causal and item.rows > FEW_ROWS)
        if item.begin == 0 and inside and _neighbours(item, block_size):
            classes.setdefault((item.rows, item.causal, start % zone), []).append(item)
    strips: list[list[Item]] = []
    for found in classes.values():
        found.sort(key=lambda item: item.blocks[0])
        group: list[Item] = []
        for item in found:
            step = (item.blocks[0] - group[-1].blocks[0]) // zone if group else 0
            if group and not 1 <= step <= STRIP_GAP + 1:
                strips.append(group)
                group = []
            group.append(item)
        strips.append(group)
    return [strip for strip in strips if _worth_a_strip(strip, zone)]


def _worth_a_strip(strip: Sequence[Item], zone: int) -> bool:
    places = (strip[-1].blocks[0] - strip[0].blocks[0]) // zone + 1
    counted = sum(item.end for item in strip)
    return len(strip) > 1 and places * max(item.end for item in strip) <= STRIP_WASTE * counted


class _Builder:
    """Makes launches, in the order in which their results get their places."""

    def __init__(self, rows: int, place: Place, floors: Floors | None) -> None:
        self.filled = [0] * rows  # results of each row so far
        self._size = place.block_size
        self._device = place.device
        self._zone = place.zone
        self._floors = floors

    def node(self, items: Sequence[Item]) -> NodeLaunch:
        item = items[0]
        size = self._size
        keys: slice | Tensor
        if _neighbours(item, size):
            start = item.blocks[item.begin // size] * size + item.begin % size
            keys = slice(start, start + item.length)
        else:
            used = np.asarray(item.blocks[item.begin // size : -(-item.end // size)], dtype=np.int64)
            slots = (used[:, None] * size + np.arange(size)).reshape(-1)[item.begin % size :][: item.length]
            keys = torch.from_numpy(slots).to(self._device)
        begin = self._places(item)[0]
        rows, place = slice(item.row_begin, item.row_end), slice(begin, begin + item.rows)
        bias = None
        if self._floors is not None and int(self._floors[rows].max()) > item.offset + item.begin:
            count = item.rows if item.causal else 1
            bias = self._bias([item.length], item.length, count, [item._replace(offset=item.offset + item.begin)])
        return NodeLaunch(rows, keys, item.causal, place, bias)

    def tail(self, items: Sequence[Item]) -> TailLaunch:
        size, count = self._size, items[0].rows
        width = -(-max(item.end for item in items) // size)
        blocks = np.zeros((len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            used = -(-item.end // size)
            blocks[row, :used] = item.blocks[:used]
        rows = [row for item in items for row in range(item.row_begin, item.row_end)]
        place = [at for item in items for at in self._places(item)]
        bias = self._bias([item.end for item in items], width * size, count if items[0].causal else 1, items)
        flat = torch.from_numpy(blocks.reshape(-1)).to(self._device)
        return TailLaunch(self._range(rows), count, flat, bias, width, self._range(place))

    def strip(self, items: Sequence[Item]) -> StripLaunch:
        first, count = items[0].blocks[0], items[0].rows
        at = [(item.blocks[0] - first) // self._zone for item in items]
        places = at[-1] + 1
        rows = np.tile(np.arange(items[0].row_begin, items[0].row_end), (places, 1))
        place = np.zeros((places, count), dtype=np.int64)
        lengths, owners = [0] * places, [items[0]] * places
        for index, item in zip(at, items, strict=True):
            owners[index] = item
            rows[index] = np.arange(item.row_begin, item.row_end)
            place[index] = self._places(item)
            lengths[index] = item.end
        longest = max(lengths)
        return StripLaunch(
            self._range(rows.reshape(-1).tolist()),
            count,
            len(items),
            self._bias(lengths, longest, count if items[0].causal else 1, owners),
            first * self._size,
            self._zone * self._size,
            longest,
            self._range(place.reshape(-1).tolist()),
        )

    def _places(self, item: Item) -> range:
        """Where an item's results go: on the first level that is free for all of its rows."""
        level = max(self.filled[item.row_begin : item.row_end])
        self.filled[item.row_begin : item.row_end] = [level + 1] * item.rows
        first = 1 + level * len(self.filled) + item.row_begin
        return range(first, first + item.rows)

    def _range(self, numbers: list[int]) -> slice | Tensor:
        """Indices as a slice, where they follow one another."""
        first = numbers[0]
        if numbers == list(range(first, first + len(numbers))):
            return slice(first, first + len(numbers))
        return torch.tensor(numbers, device=self._device)

    def _bias(self, lengths: Sequence[int], longest: int, rows: int, items: Sequence[Item]) -> Tensor:
        """`[1, items, rows, longest]`: 0 for the first tokens of each item, -inf behind them; with several rows, each
        but the last sees one less than the next. With floors, there are always as many rows as the items have, and
        -inf is also before what each sees.
        """
        seen: np.ndarray[Any, Any] = np.asarray(lengths)[:, None] - np.arange(rows - 1, -1, -1)
        hidden = np.arange(longest) >= seen[:, :, None]
        if self._floors is not None:
            own = np.stack([self._floors[item.row_begin : item.row_end] - item.offset for item in items])
            hidden = hidden | (np.arange(longest) < own[:, :, None])
        bias = np.where(hidden, np.float32(-np.inf), np.float32(0))
        return torch.from_numpy(bias).to(self._device)[None]
