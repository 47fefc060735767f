"""Batch-invariant computation: a sequence's logits are the same bits whatever else is in the batch.

The order of sums varies with the batch: matrix products choose their kernels by shape, and attention is cut where
sequences share. Here all shapes are fixed, and the sums of a row depend on its position alone. A step is computed in
tiles of `ROWS` rows, the last one padded, each a whole forward pass. A row's prefix is cut at absolute positions into
long pieces for as long as they are full and short ones behind, the last of them masked. Rows of a tile that read a
piece from the same blocks read it together, `QUERIES` at a time and padded to as many; each then merges its own pieces,
first to last. A token's keys and values are therefore the same bits, too, so chunked prefill, a cached prefix and
preemption change nothing.

Libraries do not promise that a row's result is independent of its place within a fixed shape;
`tests/engine/run/test_invariant.py` checks it on the machine at hand. Torch's CPU kernels cut
large tensors by the number of threads, and some functions round differently at the end of a cut: a power of two of
threads cuts between rows. `tests.bench.bench_invariant` measures what this mode costs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.model.attention import LayerCall, attending
from engine.model.model import Model
from engine.model.states import keeping
from engine.run.batch import Batch, Numbers
from engine.run.invariant_states import TileStates
from engine.run.sampling import Draw, sample
from kernels.attention.reference import attend
from kernels.kv_store.reference import UNSCALED, Scales, select, store
from kernels.tree_attention.reach import FULL, Reach

ROWS = 64  # of a tile
QUERIES = 16  # of a product with a piece, for each key head: those of its group, of as many rows as fit
SHORT = 64  # tokens of a short piece, rounded down to whole blocks
LONG = 8  # short pieces that are one long one
BATCH = 4096  # tokens of pieces read by one launch: few enough for a processor's cache


@torch.inference_mode()
def forward(model: Model, batch: Batch, own: Sequence[Numbers] = ()) -> Tensor:
    """What `Model.forward` returns for a batch: `[wanted, vocabulary]` float32. `own`: the `places` of `to_device`.

    Rows of one sequence are in rising order, so a tile finds the keys of earlier rows in the cache.
    """
    views = [_seen_by(reach, model, batch, own) for reach in model.reaches]
    rows, asked = batch.count, batch.wanted.tolist()
    logits = torch.empty(len(batch.wanted), model.vocabulary, device=model.device)
    with _even_threads():
        for first in range(0, rows, ROWS):
            index = [min(row, rows - 1) for row in range(first, first + ROWS)]
            # Padding repeats the last row: it writes the same numbers to the same place.
            tokens, positions, _ = torch.from_numpy(batch.rows[:, index]).to(model.device)
            places = [place for place, row in enumerate(asked) if first <= row < first + ROWS]
            wanted = [asked[place] - first for place in places]
            padded = torch.tensor((wanted + [0] * ROWS)[:ROWS] if wanted else [0], device=model.device)
            last = min(first + ROWS, rows)
            at, contexts = batch.rows[1, first:last].tolist(), []
            for reach, (slots, tables) in zip(model.reaches, views, strict=True):
                tile = (torch.from_numpy(slots[index]).to(model.device), tables[first:last], batch.block_size)
                contexts.append(TileContext.of(model, at, *tile, reach))
            states = None
            if model.states.slots:
                states = TileStates.of(model.states, batch.texts, first, last, ROWS, model.device)
            with attending(LayerContexts(contexts, model.layer_reaches), model.room), keeping(states):
                found = model.run(tokens, positions, padded)
            logits[places] = found[: len(places)]
    return logits


def _seen_by(reach: Reach, model: Model, batch: Batch, own: Sequence[Numbers]) -> tuple[Numbers, list[Sequence[int]]]:
    """The slots of a batch's rows, and each row's blocks, in the cache of the layers with some reach."""
    if reach not in model.windows:
        return batch.rows[2], [span.table for span in batch.spans for _ in range(span.new)]
    where = own[model.windows.index(reach)]
    tables = [(np.maximum(where[list(span.table)], 0).tolist(), span.new) for span in batch.spans]
    return batch.slots(where), [table for table, new in tables for _ in range(new)]


@contextmanager
def _even_threads() -> Iterator[None]:
    """Inside, torch uses a power of two of threads."""
    threads = torch.get_num_threads()
    even = 1 << (threads.bit_length() - 1)
    if even == threads:
        yield
        return
    torch.set_num_threads(even)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def row_by_row(device: torch.device) -> bool:
    """Whether torch's reductions, and `attend`, compute each row or product independently there, whatever their
    number.
    """
    return device.type == "cpu"


@torch.inference_mode()
def sample_alike(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """As `engine.run.sampling.sample`, but each row's result is the same bits whatever the others are."""
    if not row_by_row(logits.device):
        return torch.cat([sample(logits[row : row + 1], [draw]) for row, draw in enumerate(draws)])
    if len(draws) > 1:
        return sample(logits, draws)
    return sample(logits.expand(2, -1), [*draws, *draws])[:1]  # threads may share the sum of a lone row


class PieceProduct(NamedTuple):
    """Queries of as many rows of a tile as fit, with a piece of their prefixes that is in the same blocks."""

    begin: int  # first block of the sequences
    width: int  # blocks
    blocks: tuple[int, ...]  # of the cache; fewer where the sequence has no more
    rows: list[int]


def _products(
    positions: list[int], tables: Sequence[Sequence[int]], size: int, each: int, floors: Sequence[int]
) -> list[list[PieceProduct]]:
    """Everything a tile reads; products with the same piece together. A row sees some token of each of its pieces."""
    short = max(1, SHORT // size)
    long = short * LONG
    pieces: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for row, (position, table, floor) in enumerate(zip(positions, tables, floors, strict=True)):
        full = (position + 1) // (long * size) * long
        low = floor // (long * size) * long
        least = max(full, floor // (short * size) * short)
        for width, begins in ((long, range(low, full, long)), (short, range(least, position // size + 1, short))):
            for begin in begins:
                pieces.setdefault((begin, width, tuple(table[begin : begin + width])), []).append(row)
    return [
        [PieceProduct(*piece, rows[first : first + each]) for first in range(0, len(rows), each)]
        for piece, rows in pieces.items()
    ]


def _rows_of_a_product(model: Model) -> int:
    return max(1, QUERIES * model.shape.kv_heads // model.shape.heads)


@dataclass(frozen=True)
class PieceBatch:
    """Products of one width at once."""

    rows: Tensor  # [products * each] int64, of the tile
    blocks: Tensor  # [products, or 1 for all, kv_heads, width] int64, counted through the caches of all heads
    bias: Tensor | None  # [products, 1, each * group, tokens] float32, 0 or -inf; `None` where all is seen

    @classmethod
    def of(
        cls,
        model: Model,
        products: list[PieceProduct],
        positions: Tensor,
        size: int,
        cache_blocks: int,
        floors: Tensor | None,
    ) -> "PieceBatch":
        """For rows of a tile at these positions that see nothing before `floors`, over a cache of so many blocks."""
        device, shape, width = model.device, model.shape, products[0].width
        pieces = products[:1] if len({product.blocks for product in products}) == 1 else products
        blocks = [(*piece.blocks, *piece.blocks[-1:] * width)[:width] for piece in pieces]
        heads = torch.arange(shape.kv_heads, device=device)[:, None] * cache_blocks
        each = _rows_of_a_product(model)
        rows = torch.tensor([(product.rows + product.rows[-1:] * each)[:each] for product in products], device=device)
        bias = None
        if width <= max(1, SHORT // size) or floors is not None:
            begins = torch.tensor([product.begin for product in products], device=device)[:, None, None]
            tokens = begins * size + torch.arange(width * size, device=device)
            hidden = tokens > positions[rows][:, :, None]
            if floors is not None:
                hidden |= tokens < floors[rows][:, :, None]
            bias = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
            bias = bias.repeat_interleave(shape.heads // shape.kv_heads, dim=1)[:, None]
        return cls(rows.view(-1), torch.tensor(blocks, device=device)[:, None] + heads, bias)


@dataclass(frozen=True)
class LayerContexts:
    """Each layer's attention of one tile."""

    tiles: Sequence["TileContext"]
    reaches: Sequence[int]  # of each layer, its place in `tiles`

    def attend(self, call: LayerCall) -> Tensor:
        """See `engine.model.attention.Context`."""
        return self.tiles[self.reaches[call.layer]].attend(call)


@dataclass(frozen=True)
class TileContext:
    """Attention of one tile: each row over its own prefix, piece by piece."""

    layers: Sequence[Tensor]  # [2, kv_heads, slots, head_dim] each, see `engine.model.attention.PagedContext`
    slots: Tensor  # [ROWS] int64
    launches: list[PieceBatch]
    parts: Tensor  # [most pieces * ROWS] int64, each row's pieces in order, as places in the rows of all launches
    absent: Tensor  # [most pieces, ROWS, 1] bool, where a row has fewer
    each: int  # rows of a product
    block_size: int
    scales: Sequence[Scales] = ()  # of each layer, see `engine.model.cache_scales`

    @classmethod
    def of(
        cls,
        model: Model,
        positions: list[int],
        slots: Tensor,
        tables: Sequence[Sequence[int]],
        size: int,
        reach: Reach = FULL,
    ) -> "TileContext":
        """The tile of rows at these positions of sequences with these block tables, of blocks of `size` tokens, for
        layers of this reach.
        """
        each, floors = _rows_of_a_product(model), reach.floors(positions)
        lowest = [0] * len(positions) if floors is None else floors.tolist()
        alone = row_by_row(model.device)
        batches: list[list[PieceProduct]] = []
        others: dict[int, list[PieceProduct]] = {}  # by width
        for products in _products(positions, tables, size, each, lowest):
            if len(products) > 1 and alone:
                batches.append(products)
            else:
                others.setdefault(products[0].width, []).extend(products)
        for width, products in others.items():
            step = max(2, BATCH // (width * size))
            for first in range(0, len(products), step):
                some = products[first : first + step]
                few = 2 if alone else step  # threads would share a lone product
                batches.append(some + some[-1:] * (few - len(some)))
        at = torch.tensor(positions, device=model.device)
        bounds = None if reach == FULL else torch.tensor(lowest, device=model.device)
        cache_blocks = model.cache_of(reach).shape[3] // size
        launches = [PieceBatch.of(model, products, at, size, cache_blocks, bounds) for products in batches]
        places: list[dict[int, int]] = [{} for _ in positions]  # of each row: a piece's first block -> place
        for number, product in enumerate(product for products in batches for product in products):
            for place, row in enumerate(product.rows, start=number * each):
                places[row][product.begin] = place
        most = max(len(found) for found in places)
        parts = torch.tensor([([place for _, place in sorted(found.items())] + [-1] * most)[:most] for found in places])
        parts = torch.cat([parts, parts[-1:].expand(ROWS - len(positions), -1)]).to(model.device).T  # as the last row
        return cls(
            model.layers,
            slots,
            launches,
            parts.clamp(min=0).reshape(-1),
            (parts < 0)[:, :, None],
            each,
            size,
            model.scales,
        )

    def attend(self, call: LayerCall) -> Tensor:
        """See `engine.model.attention.Context`. In float32; a piece that a row does not have adds 0."""
        layer, query, key, value, score, tables, *_ = call
        if tables is not None:
            raise RuntimeError("rotations were put off in a step whose results are invariant")
        cached = self.layers[layer][0], self.layers[layer][-1]
        scales = self.scales[layer] if self.scales else UNSCALED
        store(key, value, cached[0], cached[1], self.slots, scales)
        score = score.of_scaled(scales)
        heads, rows, dim = query.shape
        kv_heads = key.shape[0]
        queries = query.transpose(0, 1).float().contiguous()
        outputs, levels = [], []
        for launch in self.launches:
            shape = (-1, self.each, kv_heads, heads // kv_heads, dim)
            asked = queries.index_select(0, launch.rows).view(shape).transpose(1, 2).flatten(2, 3)
            keys, values = (self._read(each, launch.blocks).expand(len(asked), -1, -1, -1) for each in cached)
            output, lse = attend(asked, keys, values, score.scale, bias=launch.bias, cap=score.cap)
            split = (len(asked), kv_heads, self.each, heads // kv_heads)
            outputs.append(output.view(*split, dim).transpose(1, 2).reshape(-1, heads, dim))
            levels.append(lse.view(split).transpose(1, 2).reshape(-1, heads))
        most = len(self.absent)
        output = torch.cat(outputs).index_select(0, self.parts).view(most, rows, heads, dim)
        level = torch.cat(levels).index_select(0, self.parts).view(most, rows, heads)
        level.masked_fill_(self.absent, -torch.inf)
        top = level.amax(dim=0)
        if score.sinks is not None:
            top = torch.maximum(top, score.sinks.float())
        weights = level.sub_(top).exp_()
        total, merged = weights[0], output[0] * weights[0, :, :, None]
        for part in range(1, most):
            total = total + weights[part]
            merged += output[part] * weights[part, :, :, None]
        if score.sinks is not None:
            total = total + (score.sinks.float() - top).exp_()
        return merged.div_(total[:, :, None]).mul_(scales.value).to(query.dtype)

    def _read(self, cached: Tensor, blocks: Tensor) -> Tensor:
        """`[products or 1, kv_heads, tokens, head_dim]` float32."""
        dim = cached.shape[2]
        found = select(cached.view(-1, self.block_size * dim), 0, blocks.view(-1))
        return found.view(*blocks.shape[:2], -1, dim).float()
